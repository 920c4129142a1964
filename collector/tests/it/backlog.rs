//! What an agent had kept on disk comes beside its live stream, counts once, and changes nothing of what is live.

use crate::agent::{Agent, SAMPLES, batch_of};
use crate::collector::{get, json, json_until, start};
use gridstep_collector::server::Server;
use gridstep_wire::pb::agent_message::Kind;
use gridstep_wire::{Micros, pb};
use std::time::Duration;

const OLD_SPOOL: u64 = 33;

/// What a backlog never is: stamped now, with a power that would show and an event that would end the node.
fn loud(sequence: u64) -> Kind {
    let mut batch = batch_of(sequence, 100_000);
    batch.events = vec![pb::Event { kind: "agent_stop".into(), ..Default::default() }];
    Kind::Batch(batch)
}

/// The node's live stream, going on until `done`.
async fn feed<T>(agent: &mut Agent, done: impl Future<Output = T>) -> T {
    let feed = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        for sequence in 1.. {
            ticks.tick().await;
            agent.send_batch(sequence).await;
            agent.ack_until(|ack| ack.received >= sequence).await;
        }
    };
    tokio::select! { value = done => value, () = feed => unreachable!() }
}

async fn judged_beyond(server: &Server, at: Micros) -> serde_json::Value {
    let beyond = |power: &serde_json::Value| power["points"].as_array().is_some_and(|points| is_after(points.last(), at));
    json_until(server, "/api/v1/power", beyond).await
}

fn is_after(point: Option<&serde_json::Value>, at: Micros) -> bool {
    point.and_then(|point| point["at"].as_str()).is_some_and(|stamp| stamp > gridstep_collector::incidents::rfc3339(at).as_str())
}

#[tokio::test]
async fn a_backlog_changes_nothing_of_what_is_live() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let (mut live, _) = Agent::join(server.grpc, "node1", 1).await;
    let power = feed(&mut live, async {
        judged_beyond(&server, Micros::now()).await;
        let (mut backlog, welcome) = Agent::join_backlog(server.grpc, "node1", OLD_SPOOL, 40).await;
        assert!(welcome.takes_backlog);
        for sequence in 40..50 {
            backlog.send(loud(sequence)).await;
        }
        let ack = backlog.ack_until(|ack| ack.durable >= 49).await;
        assert_eq!(ack.received, 49);
        let power = judged_beyond(&server, Micros::now()).await;
        (power, backlog)
    });
    let (power, _backlog) = power.await;
    let watts = power["points"].as_array().unwrap().iter().map(|point| point["watts"].as_f64().unwrap());
    assert!(watts.clone().all(|watts| watts < 4801.0), "{:?}", watts.collect::<Vec<_>>());
    let metrics = get(&server, "/metrics").await;
    assert!(metrics.contains(&format!("gridstep_collector_backlog_samples_total {}\n", 10 * SAMPLES)), "{metrics}");
    assert!(metrics.contains("gridstep_collector_lost_batches_total 0\n"), "{metrics}");
    let nodes = json(&server, "/api/v1/nodes").await;
    assert_eq!(nodes[0]["connected"], true);
    assert!(nodes[0]["received"].as_u64() > Some(0), "{nodes:#}");
    // The backlog goes on; the node is gone all the same.
    drop(live);
    json_until(&server, "/api/v1/nodes", |nodes| nodes[0]["connected"] == false).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_backlog_counts_once_over_a_kill_of_the_collector() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let (mut live, _) = Agent::join(server.grpc, "node1", 1).await;
    let (mut backlog, _) = Agent::join_backlog(server.grpc, "node1", OLD_SPOOL, 1).await;
    for sequence in 1..=5 {
        backlog.send(loud(sequence)).await;
    }
    live.send_batch(1).await;
    live.ack_until(|ack| ack.durable == 1).await;
    backlog.ack_until(|ack| ack.durable == 5).await;
    server.kill().await;

    let server = start(state.path()).await;
    let (_live, welcome) = Agent::join(server.grpc, "node1", 1).await;
    assert_eq!(welcome.durable, 1);
    let (mut backlog, welcome) = Agent::join_backlog(server.grpc, "node1", OLD_SPOOL, 1).await;
    assert_eq!(welcome.durable, 5);
    for sequence in 4..=6 {
        backlog.send(loud(sequence)).await;
    }
    backlog.ack_until(|ack| ack.durable == 6).await;
    let once = |nodes: &serde_json::Value| nodes[0]["samples"] == 7 * SAMPLES && nodes[0]["lost_batches"] == 0;
    json_until(&server, "/api/v1/nodes", once).await;
    server.stop().await.unwrap();
}
