//! kill -9 at any moment, under load: what was called durable is in the recording, and nothing is in it twice.

use super::process::{Process, batch, configure};
use super::{Sample, samples};
use crate::agent::Agent;
use crate::collector::DEADLINE;
use gridstep_wire::pb;
use gridstep_wire::pb::agent_message::Kind;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

const KILLS: u64 = 8;

/// Keeps what is not durable, as an agent does.
struct Node {
    name: String,
    kept: VecDeque<pb::Batch>,
    sequence: u64,
    durable: u64,
    /// All that it ever sent.
    sent: BTreeMap<u64, pb::Batch>,
}

impl Node {
    fn new(name: &str) -> Self {
        Self { name: name.into(), kept: VecDeque::new(), sequence: 0, durable: 0, sent: BTreeMap::new() }
    }

    fn acknowledge(&mut self, durable: u64) {
        assert!(durable >= self.durable, "{}: durable goes back from {} to {durable}", self.name, self.durable);
        self.durable = durable;
        self.kept.retain(|batch| batch.sequence > durable);
    }

    /// Sends until the stream breaks or `done`.
    async fn run(&mut self, process: &Process, done: impl Fn(&Self) -> bool) {
        let oldest = self.durable + 1;
        let (mut agent, welcome) = Agent::join(process.grpc, &self.name, oldest).await;
        self.acknowledge(welcome.durable);
        for batch in self.kept.clone() {
            agent.send(Kind::Batch(batch)).await;
        }
        while !done(self) {
            self.sequence += 1;
            let batch = batch(self.sequence);
            self.kept.push_back(batch.clone());
            self.sent.insert(self.sequence, batch.clone());
            agent.send(Kind::Batch(batch)).await;
            let sequence = self.sequence;
            let ack = agent.ack_until(|ack| ack.received >= sequence).await;
            self.acknowledge(ack.durable);
        }
    }

    /// Until all of it is durable.
    async fn end(&mut self, process: &Process) {
        let (mut agent, welcome) = Agent::join(process.grpc, &self.name, self.durable + 1).await;
        self.acknowledge(welcome.durable);
        for batch in self.kept.clone() {
            agent.send(Kind::Batch(batch)).await;
        }
        if self.durable < self.sequence {
            let sequence = self.sequence;
            self.durable = agent.ack_until(|ack| ack.durable == sequence).await.durable;
        }
    }

    /// By how many rows each sample ought to be there.
    fn expected(&self) -> impl Iterator<Item = (Sample, usize)> + '_ {
        let gpus = |batch: &pb::Batch| (0..8).map(move |gpu| (gpu, batch.base_us)).collect::<Vec<_>>();
        self.sent.values().flat_map(gpus).map(|(gpu, ts)| ((self.name.clone(), gpu, ts), 1))
    }
}

fn check(folder: &Path, nodes: &[Node]) {
    let expected: BTreeMap<Sample, usize> = nodes.iter().flat_map(Node::expected).collect();
    let mut found = samples(folder, "power-");
    for (sample, count) in samples(folder, "late-power-") {
        *found.entry(sample).or_default() += count;
    }
    let missing = expected.keys().filter(|sample| !found.contains_key(*sample)).count();
    let doubled = found.values().filter(|count| **count > 1).count();
    assert_eq!((missing, doubled, found.len()), (0, 0, expected.len()));
    println!("{} samples, none missing, none doubled", found.len());
}

#[tokio::test]
async fn kills_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, recording) = (folder.path().join("c.toml"), folder.path().join("recording"));
    configure(&file, &folder.path().join("state"), &recording);
    let mut nodes = [Node::new("node1"), Node::new("node2")];
    let mut last = 0;
    // RUNS=n: more of them.
    let kills = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(KILLS);
    for kill in 0..kills {
        let process = Process::start(&file, &[]);
        // Somewhere in the cycle of rolls and checkpoints, another place each time.
        let until = Instant::now() + Duration::from_millis(250 + (kill * 7919 + u64::from(process.child.id()) * 31) % 450);
        let done = |_: &Node| Instant::now() >= until;
        let [first, second] = &mut nodes;
        let run = async { tokio::join!(first.run(&process, done), second.run(&process, done)) };
        tokio::time::timeout(DEADLINE, run).await.unwrap();
        process.kill();
        let durable = nodes.iter().map(|node| node.durable).sum::<u64>();
        assert!(durable >= last);
        last = durable;
    }
    assert!(last > 0, "nothing was ever durable");
    let process = Process::start(&file, &[]);
    for node in &mut nodes {
        node.end(&process).await;
    }
    // All of it is durable, and so is in files: a kill takes nothing of it.
    process.kill();
    let process = Process::start(&file, &[]);
    process.terminate();
    check(&recording, &nodes);
    println!("{kills} kills");
}
