//! kill -9 at any moment, under load: what was called durable is in the recording, and nothing is in it twice; an incident that anybody
//! was told of is there after the restart, under the same id, once.

use super::process::{Process, batch, configure};
use super::{Sample, samples};
use crate::agent::Agent;
use crate::alerts::alertmanager::Alertmanager;
use crate::alerts::receiver::Receiver;
use crate::collector::{DEADLINE, get_from};
use gridstep_wire::pb;
use gridstep_wire::pb::agent_message::Kind;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const KILLS: u64 = 24;

/// Keeps what is not durable, as an agent does.
struct Node {
    name: String,
    kept: VecDeque<pb::Batch>,
    sequence: u64,
    durable: u64,
    /// All that it ever sent.
    sent: BTreeMap<u64, pb::Batch>,
    /// GPUs whose loss its next batches tell.
    lost: VecDeque<u32>,
}

impl Node {
    fn new(name: &str) -> Self {
        Self { name: name.into(), kept: VecDeque::new(), sequence: 0, durable: 0, sent: BTreeMap::new(), lost: VecDeque::new() }
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
            let mut batch = batch(self.sequence);
            let lost =
                self.lost.pop_front().map(|gpu| pb::Event { entity: gpu + 1, kind: "gpu_lost".into(), ..Default::default() });
            batch.events.extend(lost);
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

/// What anybody was told of: by id, its revision.
#[derive(Default)]
struct Told(BTreeMap<String, u64>);

impl Told {
    /// Looks until it is asked no more.
    async fn watch(&mut self, http: SocketAddr) {
        loop {
            self.look(http).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Nothing that was told is taken back.
    async fn look(&mut self, http: SocketAddr) {
        let answer: Vec<Value> = serde_json::from_str(&get_from(http, "/api/v1/incidents").await).unwrap();
        let now: BTreeMap<String, u64> = answer
            .iter()
            .map(|incident| (incident["id"].as_str().unwrap().to_owned(), incident["revision"].as_u64().unwrap()))
            .collect();
        assert_eq!(now.len(), answer.len(), "{answer:#?}");
        for (id, revision) in &self.0 {
            assert!(now.get(id) >= Some(revision), "{id} was told of in revision {revision}: {answer:#?}");
        }
        self.0 = now;
    }
}

#[tokio::test]
async fn kills_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, recording) = (folder.path().join("c.toml"), folder.path().join("recording"));
    let receiver = Receiver::start().await;
    let alertmanager = Alertmanager::start(&receiver.address.to_string(), &[]).await;
    configure(&file, &folder.path().join("state"), &recording);
    let alerts =
        format!("[alerts]\nresend_interval = '100ms'\n[[alerts.alertmanager]]\nurl = 'http://{}'\n", alertmanager.address);
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + &alerts).unwrap();
    let mut nodes = ["node1", "node2", "node3"].map(Node::new);
    let mut told = Told::default();
    let mut last = 0;
    // RUNS=n: more of them.
    let kills = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(KILLS);
    for kill in 0..kills {
        let process = Process::start(&file, &[]);
        told.look(process.http).await;
        if kill < 24 {
            nodes[(kill % 3) as usize].lost.push_back((kill / 3) as u32);
        }
        // Somewhere in the cycle of rolls and checkpoints, another place each time.
        let until = Instant::now() + Duration::from_millis(20 + (kill * 7919 + u64::from(process.child.id()) * 31) % 680);
        let done = |_: &Node| Instant::now() >= until;
        let [first, second, third] = &mut nodes;
        let run = async { tokio::join!(first.run(&process, done), second.run(&process, done), third.run(&process, done)) };
        let run = async {
            tokio::select! { _ = run => {}, () = told.watch(process.http) => {} }
        };
        tokio::time::timeout(DEADLINE, run).await.unwrap();
        process.kill();
        let durable = nodes.iter().map(|node| node.durable).sum::<u64>();
        assert!(durable >= last);
        last = durable;
    }
    assert!(last > 0 && !told.0.is_empty(), "nothing was ever durable");
    let process = Process::start(&file, &[]);
    for node in &mut nodes {
        node.end(&process).await;
    }
    // A process that was killed too soon was told of none.
    let lost = nodes.iter().flat_map(|node| node.sent.values()).filter(|batch| !batch.events.is_empty()).count();
    assert!(lost > 6, "{lost}");
    let all = alertmanager.alerts_until(&[("condition", "gpu_lost")], |alerts| alerts.len() >= lost).await;
    assert_eq!(all.len(), lost);
    told.look(process.http).await;
    assert_eq!(told.0.len(), lost, "{:#?}", told.0);
    // All of it is durable, and so is in files: a kill takes nothing of it.
    process.kill();
    let process = Process::start(&file, &[]);
    told.look(process.http).await;
    process.terminate();
    check(&recording, &nodes);
    println!("{kills} kills, {lost} incidents");
}
