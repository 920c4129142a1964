//! A replay of what was recorded gives the incidents that were live.

use super::{files, recording};
use crate::agent::{Agent, batch_of};
use crate::collector::{DEADLINE, get};
use gridstep_collector::replay::replay;
use gridstep_collector::server::Server;
use gridstep_wire::pb;
use gridstep_wire::pb::agent_message::Kind;
use std::path::{Path, PathBuf};
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

/// A node that keeps what is not durable, as agents do.
struct Node {
    name: &'static str,
    agent: Agent,
    kept: Vec<pb::Batch>,
    sequence: u64,
}

impl Node {
    async fn join(name: &'static str, server: &Server) -> Self {
        let (agent, _) = Agent::join(server.grpc, name, 1).await;
        Self { name, agent, kept: Vec::new(), sequence: 0 }
    }

    async fn join_again(&mut self, server: &Server) {
        let oldest = self.kept.first().map_or(self.sequence + 1, |batch| batch.sequence);
        let (agent, welcome) = Agent::join(server.grpc, self.name, oldest).await;
        self.agent = agent;
        self.kept.retain(|batch| batch.sequence > welcome.durable);
        for batch in &self.kept {
            self.agent.send(Kind::Batch(batch.clone())).await;
        }
    }

    async fn send(&mut self, watts: i64) {
        self.sequence += 1;
        let batch = batch_of(self.sequence, watts);
        self.kept.push(batch.clone());
        self.agent.send(Kind::Batch(batch)).await;
        // Waiting for it would make the samples few, and a step's figures with it.
        if let Some(ack) = self.agent.last_ack().await {
            self.kept.retain(|batch| batch.sequence > ack.durable);
        }
    }
}

/// All nodes draw so much, until it is enough.
async fn run(nodes: &mut [Node], server: &Server, watts: i64, mut enough: impl AsyncFnMut(&Server) -> bool) {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    while !enough(server).await {
        assert!(begun.elapsed() < 2 * DEADLINE, "{}", get(server, "/api/v1/incidents").await);
        ticks.tick().await;
        for node in nodes.iter_mut() {
            node.send(watts).await;
        }
    }
}

/// Enough is when so many incidents are there and stand.
fn settled(incidents: usize) -> impl AsyncFnMut(&Server) -> bool {
    let (mut last, mut since) = (String::new(), Instant::now());
    async move |server| {
        let now = get(server, "/api/v1/incidents").await;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        last.matches("\"id\":").count() >= incidents && since.elapsed() >= QUIET
    }
}

async fn states(server: &Server) -> u64 {
    let metrics = get(server, "/metrics").await;
    let count = metrics.lines().find_map(|line| line.strip_prefix("gridstep_recorder_states_total ")).unwrap();
    count.parse().unwrap()
}

/// The collector is killed, and takes again what the recorder had already: from the state that follows, and through all of it,
/// a replay gives what was live.
#[tokio::test]
async fn a_replay_from_a_later_state_gives_the_live_incidents() {
    let state = tempfile::tempdir().unwrap();
    let mut config = recording(state.path());
    config.judge.power.limits.contracted_watts = Some(10e3);
    // Until the kill no checkpoint but that of the start: the recorder is ahead of it for sure.
    let mut without_checkpoints = config.clone();
    without_checkpoints.edge.checkpoint_interval = Duration::from_secs(3600);
    let server = Server::start(without_checkpoints).await.unwrap();
    let mut nodes = [Node::join("node1", &server).await, Node::join("node2", &server).await];
    let begun = Instant::now();
    run(&mut nodes, &server, 600, async |_| begun.elapsed() > STEP).await;
    run(&mut nodes, &server, 200, settled(1)).await;
    server.kill().await;

    let server = Server::start(config.clone()).await.unwrap();
    for node in &mut nodes {
        node.join_again(&server).await;
    }
    // That of the start, and that of when all is there again.
    run(&mut nodes, &server, 200, async |server| states(server).await >= 2).await;
    run(&mut nodes, &server, 650, settled(2)).await;
    let live = get(&server, "/api/v1/incidents").await;
    server.stop().await.unwrap();

    let folder = state.path().join("recording");
    let incidents = |folder: &Path| {
        let replayed = replay(folder, config.judge.clone(), None, |_| ()).unwrap();
        (serde_json::to_string(&replayed.incidents).unwrap(), replayed.learned_at)
    };
    let (whole, first) = incidents(&folder);
    assert_eq!(whole, live);
    // What is left when older files have gone.
    let last = files(&folder, "state-").pop().unwrap();
    let stamp = |path: &Path| path.file_stem().unwrap().to_str().unwrap().rsplit('-').nth(1).unwrap().to_owned();
    let all = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let older = |path: &PathBuf| path.extension().is_some_and(|of| of == "parquet" || of == "json") && stamp(path) < stamp(&last);
    all.filter(older).for_each(|path| std::fs::remove_file(path).unwrap());
    let (part, later) = incidents(&folder);
    assert_eq!(part, live);
    assert!(first < later);
    // It is the state that does it.
    std::fs::remove_file(last).unwrap();
    assert_ne!(incidents(&folder), (live, None));
}
