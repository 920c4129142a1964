//! What is kept beyond the day that the judging looks back, and over restarts.

use crate::agent::{Agent, batch, declare, hello};
use crate::collector::{DEADLINE, config, get, get_from, json, json_until, start};
use crate::recorder::full_disk::{mounting, until};
use crate::recorder::process::Process;
use gridstep_collector::incidents::rfc3339;
use gridstep_collector::server::Server;
use gridstep_wire::pb::agent_message::Kind;
use gridstep_wire::{Micros, pb};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn say(sequence: u64, kind: &str) -> Kind {
    let event = pb::Event { entity: 4, kind: kind.into(), ..Default::default() };
    Kind::Batch(pb::Batch { sequence, base_us: Micros::now().0, events: vec![event], ..Default::default() })
}

fn ids(incidents: &Value) -> Vec<&str> {
    incidents.as_array().unwrap().iter().map(|incident| incident["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn past_incidents_are_found_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    let before = rfc3339(Micros::now() - 1_000_000);
    agent.send(say(1, "gpu_lost")).await;
    let open = json_until(&server, "/api/v1/incidents?state=open", |open| ids(open).len() == 1).await;
    // What was measured within a second of the loss does not undo it.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    agent.send(say(2, "gpu_back")).await;
    json_until(&server, "/api/v1/incidents?state=closed", |closed| ids(closed) == ids(&open)).await;
    agent.ack_until(|ack| ack.durable == 2).await;
    server.kill().await;

    let server = start(state.path()).await;
    let found = json(&server, &format!("/api/v1/incidents?from={before}&kind=gpu_fault&node=node1")).await;
    assert_eq!((ids(&found), &found[0]["state"]), (ids(&open), &"closed".into()));
    for none in [format!("to={before}"), format!("from={before}&node=other"), "from=2100-01-01T00:00:00Z".into()] {
        assert_eq!(ids(&json(&server, &format!("/api/v1/incidents?{none}")).await).len(), 0, "{none}");
    }
    let address = format!("http://{}", server.http);
    let asked = tokio::task::spawn_blocking(move || {
        let program = env!("CARGO_BIN_EXE_gridstep-collector");
        let arguments = ["incidents", "--json", "--from", &before, "--kind", "gpu_fault", "--url", &address];
        Command::new(program).args(arguments).output().unwrap()
    });
    let asked = asked.await.unwrap();
    assert!(asked.status.success());
    let told: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!(told["id"], open[0]["id"]);
    server.stop().await.unwrap();
}

/// The agent has lost what was measured meanwhile.
#[tokio::test]
async fn what_was_not_seen_during_a_restart_is_told() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    assert_eq!(get(&server, "/api/v1/gaps").await, "[]");
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    let judged = json_until(&server, "/api/v1/power", |power| power["points"].as_array().is_some_and(|points| points.len() > 20));
    tokio::select! { _ = judged => {}, () = agent.feed() => {} }
    server.kill().await;
    let killed = Micros::now();
    tokio::time::sleep(Duration::from_secs(3)).await;

    let server = start(state.path()).await;
    let begun = Micros::now();
    let unsettled = json(&server, "/api/v1/gaps").await;
    assert_eq!((unsettled.as_array().unwrap().len(), &unsettled[0]["settled_at"]), (1, &Value::Null));
    let words = vec![hello("node1", 1_000_000), declare()];
    let agent = Agent::open(crate::agent::channel(server.grpc).await, words).await.unwrap();
    let feed = async {
        for sequence in 1_000_000.. {
            agent.send(Kind::Batch(batch(sequence))).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let settled = async {
        loop {
            let gaps = json(&server, "/api/v1/gaps").await;
            if !gaps[0]["settled_at"].is_null() {
                return gaps;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let gaps =
        tokio::select! { gaps = tokio::time::timeout(2 * DEADLINE, settled) => gaps.unwrap(), () = feed => unreachable!() };
    let stamp = |name: &str| Micros(gaps[0][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_microsecond());
    // What came within the watermark before the kill is not judged yet when it comes.
    assert!(killed.since(stamp("unseen_from")).abs() < 4.0, "killed at {}: {gaps:#}", rfc3339(killed));
    assert!(stamp("unseen_to").since(begun).abs() < 1.5, "back at {}: {gaps:#}", rfc3339(begun));
    assert!((2.5..8.0).contains(&gaps[0]["unseen_seconds"].as_f64().unwrap()), "{gaps:#}");
    assert!(get(&server, "/metrics").await.lines().any(|line| {
        line.strip_prefix("gridstep_collector_gap_seconds ").is_some_and(|seconds| seconds.parse::<f64>().unwrap() > 2.0)
    }));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let state = tempfile::tempdir().unwrap();
    start(state.path()).await.stop().await.unwrap();
    let path = state.path().join("collector.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // user_version, in the file's header.
    bytes[60..64].copy_from_slice(&77u32.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = format!("{:#}", Server::start(config(state.path())).await.unwrap_err());
    assert!(error.contains("collector.db") && error.contains("version 77"), "{error}");
}

/// Incidents are told of all the same; nothing is durable; and when there is room again all of it is stored.
#[tokio::test]
async fn a_full_disk_stops_nothing_but_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (folder.path().join("c.toml"), folder.path().join("state"));
    std::fs::create_dir(&state).unwrap();
    let text = format!(
        "state_dir = {state:?}\ncheckpoint_interval = '150ms'\n[grpc]\nlisten = '127.0.0.1:0'\n[http]\nlisten = '127.0.0.1:0'\n"
    );
    std::fs::write(&file, text).unwrap();
    let Some(wrapper) = mounting(&state) else { return };
    let process = Process::start(&file, &wrapper);
    let inside = PathBuf::from(format!("/proc/{}/root{}", process.child.id(), state.display()));
    let (mut agent, _) = Agent::join(process.grpc, "node1", 1).await;
    agent.send_batch(1).await;
    agent.ack_until(|ack| ack.durable == 1).await;

    let filler = inside.join("filler");
    let _ = std::fs::write(&filler, vec![0; 5 << 20]);
    // What SQLite has room for in its files already is used up as well.
    let failing = async {
        for sequence in 2.. {
            agent.send(say(sequence, "gpu_lost")).await;
            agent.ack_until(|ack| ack.received == sequence).await;
            let metrics = process.metrics().await;
            if !metrics.contains("gridstep_collector_checkpoint_failures_total 0\n") {
                return sequence;
            }
        }
        0
    };
    let last = tokio::time::timeout(DEADLINE, failing).await.unwrap();
    agent.send(Kind::Batch(batch(last + 1))).await;
    let ack = agent.ack_until(|ack| ack.received == last + 1).await;
    assert!(ack.durable <= last, "{ack:?}");
    let told: Value = serde_json::from_str(&get_from(process.http, "/api/v1/incidents").await).unwrap();
    assert_eq!(ids(&told).len(), 1, "{told:#}");

    std::fs::remove_file(&filler).unwrap();
    agent.ack_until(|ack| ack.durable == last + 1).await;
    until(&process, "gridstep_collector_unsaved_incidents 0\n").await;
    let past: Value = serde_json::from_str(&get_from(process.http, "/api/v1/incidents?from=2020-01-01T00:00:00Z").await).unwrap();
    assert_eq!(ids(&past), ids(&told));
    process.kill();
}
