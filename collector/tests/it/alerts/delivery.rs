//! One condition, one page: whoever is restarted or away meanwhile.

use super::alertmanager::Alertmanager;
use super::receiver::Receiver;
use super::{Node, PATIENCE, config};
use crate::collector::get;
use gridstep_collector::server::Server;
use gridstep_wire::pb::agent_message::Kind;
use gridstep_wire::{Micros, pb};
use serde_json::Value;
use std::collections::VecDeque;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tokio::time::interval;

const TICKET: [(&str, &str); 2] = [("condition", "step_up"), ("severity", "ticket")];
const PAGE: [(&str, &str); 2] = [("condition", "step_up"), ("severity", "page")];
const LOST: [(&str, &str); 2] = [("condition", "gpu_lost"), ("gpu", "3")];

fn one(alerts: &[Value]) -> bool {
    alerts.len() == 1
}

pub(super) async fn until(what: &str, wanted: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !wanted().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn metric(server: &Server, series: &str) -> f64 {
    let text = get(server, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("no {series} in {text}"));
    line.trim().parse().unwrap()
}

/// Power rises by a quarter more than is allowed, then by much more; a GPU is lost and comes back. Meanwhile the collector is
/// killed, one Alertmanager is restarted, and the other is away from the start.
#[tokio::test]
async fn a_condition_is_one_page_whoever_is_restarted() {
    let receiver = Receiver::start().await;
    let mut first = Alertmanager::start(&format!("{}/first", receiver.address), &[]).await;
    let mut second = Alertmanager::start(&format!("{}/second", receiver.address), &[]).await;
    second.stop().await;
    let urls = [&first, &second].map(|one| format!("http://{}", one.address));
    let state = tempfile::tempdir().unwrap();
    let config = config(state.path(), &urls);
    let server = Server::start(config.clone()).await.unwrap();
    let mut node = Node::join(server.grpc).await;
    let judged = async || get(&server, "/api/v1/power").await.matches("\"watts\"").count() > 40;
    node.feed(until("four seconds of power", judged)).await;

    // A ticket, which the larger step makes a page.
    node.watts = 144.0;
    let ticket = node.feed(first.alerts_until(&TICKET, one)).await.remove(0);
    assert_eq!(ticket["labels"]["alertname"], "GridstepPowerSwing");
    assert_eq!(ticket["annotations"]["runbook_url"], "http://gridstep.example/runbooks/GridstepPowerSwing.md#step_up");
    node.watts = 200.0;
    node.feed(first.alerts_until(&PAGE, one)).await;
    let muted = |alerts: &[Value]| one(alerts) && alerts[0]["status"]["state"] == "suppressed";
    node.feed(first.alerts_until(&TICKET, muted)).await;
    let updated = |alerts: &[Value]| one(alerts) && alerts[0]["annotations"]["figures"] != ticket["annotations"]["figures"];
    node.feed(first.alerts_until(&PAGE, updated)).await;
    node.say(3, "gpu_lost").await;
    node.feed(first.alerts_until(&LOST, one)).await;

    // Who was away hears all of it.
    let failures = format!("gridstep_collector_alert_failures_total{{alertmanager=\"{}\"}}", urls[1]);
    assert!(metric(&server, &failures).await > 0.0);
    second.run().await;
    node.feed(second.alerts_until(&PAGE, one)).await;
    node.feed(second.alerts_until(&LOST, one)).await;

    // The collector dies and comes back; so does the Alertmanager.
    server.kill().await;
    first.stop().await;
    let server = Server::start(config).await.unwrap();
    first.run().await;
    node.rejoin(server.grpc).await;
    node.feed(first.alerts_until(&PAGE, one)).await;
    node.feed(first.alerts_until(&LOST, one)).await;

    // Everything is over, and was one condition each.
    node.say(3, "gpu_back").await;
    let over = async || receiver.count("/first/tickets resolved GridstepGpuFault") == 1;
    node.feed(until("the lost GPU's ticket is closed", over)).await;
    let over =
        async || ["/first", "/second"].iter().all(|who| receiver.count(&format!("{who}/pager resolved GridstepPowerSwing")) == 1);
    node.feed(until("the page is over", over)).await;
    for who in ["/first", "/second"] {
        let fired = |what: &str| receiver.count(&format!("{who}/{what}"));
        let counts = [
            fired("pager firing GridstepPowerSwing"),
            fired("pager firing GridstepGpuFault"),
            fired("tickets firing GridstepGpuFault"),
        ];
        assert_eq!(counts, [1, 0, 1], "{:#?}", receiver.notified());
    }
    assert!(first.alerts(&PAGE).await.is_empty());
    assert!(metric(&server, &format!("gridstep_collector_alerts_sent_total{{alertmanager=\"{}\"}}", urls[0])).await > 0.0);
    assert!(metric(&server, &format!("gridstep_collector_alerts_waiting{{alertmanager=\"{}\"}}", urls[0])).await == 0.0);
    server.stop().await.unwrap();
}

/// It takes connections and never answers.
#[tokio::test]
async fn an_alertmanager_that_hangs_holds_up_nobody() {
    let receiver = Receiver::start().await;
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let works = Alertmanager::start(&format!("{}/works", receiver.address), &[]).await;
    let urls = [format!("http://{}", hangs.local_addr().unwrap()), format!("http://{}", works.address)];
    let state = tempfile::tempdir().unwrap();
    let server = Server::start(config(state.path(), &urls)).await.unwrap();
    let mut node = Node::join(server.grpc).await;
    node.say(3, "gpu_lost").await;
    node.feed(works.alerts_until(&LOST, one)).await;
    let waiting = format!("gridstep_collector_alerts_last_success_timestamp_seconds{{alertmanager=\"{}\"}}", urls[0]);
    assert_eq!(metric(&server, &waiting).await, 0.0);
    server.stop().await.unwrap();
}

/// Two collectors that see the same name it alike.
#[tokio::test]
async fn two_collectors_side_by_side_are_one_alert() {
    let receiver = Receiver::start().await;
    let alertmanager = Alertmanager::start(&format!("{}/one", receiver.address), &[]).await;
    let url = [format!("http://{}", alertmanager.address)];
    let states = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut servers = Vec::new();
    for state in &states {
        let server = Server::start(config(state.path(), &url)).await.unwrap();
        let mut node = Node::join(server.grpc).await;
        // Their onsets are not the same.
        node.say(3, "gpu_lost").await;
        let sent = format!("gridstep_collector_alerts_sent_total{{alertmanager=\"{}\"}}", url[0]);
        node.feed(until("the alert is sent", async || metric(&server, &sent).await > 0.0)).await;
        servers.push((server, node));
    }
    assert_eq!(alertmanager.alerts(&LOST).await.len(), 1);
    assert_eq!(alertmanager.alerts(&[]).await.len(), 1);
    for (server, _) in servers {
        server.stop().await.unwrap();
    }
}

/// Two collectors with the same samples, each a little later than the other, one of which is killed and comes back: one page.
#[tokio::test]
async fn two_collectors_with_the_same_samples_are_one_page() {
    let receiver = Receiver::start().await;
    let alertmanager = Alertmanager::start(&format!("{}/one", receiver.address), &[]).await;
    let url = [format!("http://{}", alertmanager.address)];
    let states = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = [&states[0], &states[1]].map(|state| config(state.path(), &url));
    let mut one = Server::start(first.clone()).await.unwrap();
    let two = Server::start(second).await.unwrap();
    let mut node = Node::join(one.grpc).await;
    let mut other = Node::join(two.grpc).await;

    /// To both, until `done`; to the second 150 ms later.
    async fn feed<T>(node: &mut Node, other: &mut Node, done: impl Future<Output = T>) -> T {
        let feed = async {
            let mut ticks = interval(Duration::from_millis(50));
            let mut late: VecDeque<pb::Batch> = VecDeque::new();
            loop {
                ticks.tick().await;
                let batch = node.batch(Vec::new());
                node.agent.send(Kind::Batch(batch.clone())).await;
                late.push_back(batch);
                while late.len() > 3 {
                    let batch = late.pop_front().unwrap_or_default();
                    other.agent.send(Kind::Batch(batch)).await;
                }
            }
        };
        tokio::select! { result = done => result, () = feed => unreachable!() }
    }

    let judged = async || get(&two, "/api/v1/power").await.matches("\"watts\"").count() > 50;
    feed(&mut node, &mut other, until("five seconds of power", judged)).await;
    // In the middle of a second: the onset is part of an incident's name.
    let middle = async || (0.4..0.6).contains(&Micros::now().seconds().fract());
    feed(&mut node, &mut other, until("the middle of a second", middle)).await;
    node.watts = 200.0;
    let sent = format!("gridstep_collector_alerts_sent_total{{alertmanager=\"{}\"}}", url[0]);
    let both = async || metric(&one, &sent).await > 0.0 && metric(&two, &sent).await > 0.0;
    feed(&mut node, &mut other, until("both send", both)).await;
    feed(&mut node, &mut other, alertmanager.alerts_until(&PAGE, |alerts| alerts.len() == 1)).await;
    let named = async |server: &Server| -> Vec<String> {
        let incidents: Vec<Value> = serde_json::from_str(&get(server, "/api/v1/incidents").await).unwrap();
        incidents.iter().map(|incident| incident["id"].as_str().unwrap().to_owned()).collect()
    };
    let names = named(&one).await;
    assert_eq!((names.len(), &names), (1, &named(&two).await));

    one.kill().await;
    one = Server::start(first).await.unwrap();
    node.rejoin(one.grpc).await;
    assert_eq!(named(&one).await, names);
    let again = async || metric(&one, &sent).await > 1.0;
    feed(&mut node, &mut other, until("the one that was killed sends again", again)).await;
    assert_eq!(alertmanager.alerts(&[("severity", "page")]).await.len(), 1);
    let over = async || receiver.count("/one/pager resolved GridstepPowerSwing") == 1;
    feed(&mut node, &mut other, until("the page is over", over)).await;
    assert_eq!(receiver.count("/one/pager firing GridstepPowerSwing"), 1, "{:#?}", receiver.notified());
    assert_eq!((named(&one).await, named(&two).await), (names.clone(), names));
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}
