//! A replay of what was recorded gives the incidents that were live.

use super::{files, recording};
use crate::agent::{Agent, batch_of};
use crate::collector::{DEADLINE, get};
use gridstep_collector::replay::replay;
use gridstep_collector::server::Server;
use gridstep_wire::pb;
use gridstep_wire::pb::agent_message::Kind;
use std::time::{Duration, Instant};

/// After so long the job's power falls.
const STEP: Duration = Duration::from_secs(6);
/// Incidents that have not changed for so long stand.
const QUIET: Duration = Duration::from_millis(2500);

#[tokio::test]
async fn a_replay_gives_the_live_incidents() {
    let state = tempfile::tempdir().unwrap();
    let topology = state.path().join("t.csv");
    std::fs::write(&topology, "node,rack,feeder\nnode1,r1,f1\n").unwrap();
    let mut config = recording(state.path());
    config.edge.topology = Some(topology);
    config.judge.power.limits.contracted_watts = Some(10e3);
    let server = Server::start(config.clone()).await.unwrap();
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let (begun, mut sequence) = (Instant::now(), 0);
    let (mut live, mut since) = (String::new(), Instant::now());
    let all = |live: &str| ["power_swing", "gpu_fault"].iter().all(|kind| live.contains(kind));
    while begun.elapsed() < STEP || since.elapsed() < QUIET || !all(&live) {
        assert!(begun.elapsed() < 2 * DEADLINE, "{live}");
        ticks.tick().await;
        sequence += 1;
        let mut batch = batch_of(sequence, if begun.elapsed() < STEP { 600 } else { 200 });
        if sequence == 20 {
            batch.events = vec![pb::Event { entity: 3, kind: "xid".into(), code: 48, ..Default::default() }];
        }
        agent.send(Kind::Batch(batch)).await;
        agent.ack_until(|ack| ack.received == sequence).await;
        let now = get(&server, "/api/v1/incidents").await;
        if now != live {
            (live, since) = (now, Instant::now());
        }
    }
    server.stop().await.unwrap();

    let folder = state.path().join("recording");
    assert!(files(&folder, "gpu-").len() > 1);
    let replayed = replay(&folder, config.judge, None, |_| ()).unwrap();
    assert_eq!(serde_json::to_string(&replayed.incidents).unwrap(), live);
}
