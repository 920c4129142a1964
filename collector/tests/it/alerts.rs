//! Alerts, from samples of agents to notifications, with Debian's Alertmanager; and what we ship for that and for Prometheus and
//! Grafana.

pub(crate) mod alertmanager;
mod dashboard;
mod delivery;
pub(crate) mod fleet;
mod prometheus;
pub(crate) mod receiver;
mod secure;

use crate::agent::{Agent, declare, hello, metric};
use gridstep_collector::alerts::AlertmanagerConfig;
use gridstep_collector::config::Config;
use gridstep_wire::block::BlockBuilder;
use gridstep_wire::{Micros, pb};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// One condition takes a minute to be over.
const PATIENCE: Duration = Duration::from_secs(150);

/// A collector of eight GPUs, 5.6 kW, that speaks to these Alertmanagers.
fn config(state: &Path, alertmanagers: &[String]) -> Config {
    let mut config = crate::collector::config(state);
    config.judge.align.watermark_seconds = 1.0;
    config.judge.power.limits.contracted_watts = Some(5600.0);
    config.edge.alerts.resend_interval = Duration::from_millis(500);
    config.edge.alerts.expire_after = Duration::from_secs(120);
    config.edge.alerts.external_url = Some("http://gridstep.example".into());
    config.edge.alerts.runbook_url = Some("http://gridstep.example/runbooks".into());
    let one = |url: &String| AlertmanagerConfig { url: url.clone(), ca_file: None, authorization_file: None };
    config.edge.alerts.alertmanager = alertmanagers.iter().map(one).collect();
    config
}

/// An agent of eight GPUs that all draw the same.
struct Node {
    agent: Agent,
    sequence: u64,
    watts: f64,
}

impl Node {
    async fn join(collector: SocketAddr) -> Self {
        let (agent, welcome) = Agent::join(collector, "node1", 1).await;
        Self { agent, sequence: welcome.durable, watts: 100.0 }
    }

    /// After a restart: all batches that are not durable are taken to be lost.
    async fn rejoin(&mut self, collector: SocketAddr) {
        let words = vec![hello("node1", self.sequence + 1), declare()];
        self.agent = Agent::open(crate::agent::channel(collector).await, words).await.unwrap();
    }

    /// Sends samples until `done` is.
    async fn feed<T>(&mut self, done: impl Future<Output = T>) -> T {
        let feed = async {
            let mut ticks = interval(Duration::from_millis(100));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                self.send(Vec::new()).await;
            }
        };
        tokio::select! { result = done => result, () = feed => unreachable!() }
    }

    /// An event of the GPU with this index.
    async fn say(&mut self, gpu: u32, kind: &str) {
        self.send(vec![pb::Event { entity: gpu + 1, kind: kind.into(), ..Default::default() }]).await;
    }

    async fn send(&mut self, events: Vec<pb::Event>) {
        let batch = self.batch(events);
        self.agent.send(pb::agent_message::Kind::Batch(batch)).await;
    }

    /// The next one, stamped now.
    fn batch(&mut self, events: Vec<pb::Event>) -> pb::Batch {
        self.sequence += 1;
        let base_us = Micros::now().0;
        let mut block = BlockBuilder::new(base_us, &["power_watts", "job"].map(metric), 500);
        for entity in 1..=8 {
            block.push(entity, base_us, [Some((self.watts * 1e3) as i64), Some(1)]);
        }
        pb::Batch { sequence: self.sequence, base_us, blocks: vec![block.finish()], events, ..Default::default() }
    }
}
