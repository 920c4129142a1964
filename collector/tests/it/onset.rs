//! How long it takes from the board to whoever asks: real agents on simulated boards, a real collector, its API.

use crate::alerts::fleet::Agents;
use crate::collector::{config, json};
use gridstep_collector::server::Server;
use gridstep_wire::Micros;
use std::time::Duration;

/// Seconds of scenario time at which the boards of one node and then of the other go from idle to work at once.
const ONSETS: [f64; 2] = [9.0, 21.0];
const SCENARIO: &str = r#"
seed = 406
nodes = 2
gpus_per_node = 8

[[job]]
name = "llama3-405b"
node_count = 1
start = 5.0
idle_before = 4.0
[[job.phase]]
kind = "compute"
seconds = 2.0
watts = 600.0
sm_active = 0.9

[[job]]
name = "mixtral"
first_node = 1
node_count = 1
start = 5.0
idle_before = 16.0
[[job.phase]]
kind = "compute"
seconds = 2.0
watts = 600.0
sm_active = 0.9
"#;

/// Longer than that is a failure, however slow the machine; seconds.
const LONGEST: f64 = 15.0;

#[tokio::test]
async fn a_step_is_in_the_api_soon_after_its_onset() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder.path().join("state"));
    // Boards that are taken by a process draw a little more before it computes: that is no step.
    config.judge.power.limits.contracted_watts = Some(40_000.0);
    let server = Server::start(config).await.unwrap();
    let start = Micros::now().seconds() + 1.0;
    let _agents = Agents::start(folder.path(), server.grpc, start, SCENARIO);
    for (before, onset) in ONSETS.map(|onset| start + onset).into_iter().enumerate() {
        let seen = loop {
            let incidents = json(&server, "/api/v1/incidents").await;
            let now = Micros::now().seconds();
            let mut steps = incidents.as_array().unwrap().iter().filter(|incident| incident["cause"] == "step_up");
            if let Some(step) = steps.nth(before) {
                println!("in the API {:.2} s after its onset: {}", now - onset, step["summary"]);
                break now;
            }
            assert!(now - onset < LONGEST, "no step {:.1} s after its onset: {incidents:#}", now - onset);
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(seen > onset, "it is told before it happens");
    }
    server.stop().await.unwrap();
}
