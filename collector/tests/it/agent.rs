//! Speaks as an agent does.

use crate::collector::DEADLINE;
use gridstep_wire::block::BlockBuilder;
use gridstep_wire::pb::telemetry_client::TelemetryClient;
use gridstep_wire::pb::{self, Ack, AgentMessage, Welcome, agent_message, collector_message};
use gridstep_wire::{Micros, catalog};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

pub(crate) const SPOOL: u64 = 77;
/// Values in one [`batch`].
pub(crate) const SAMPLES: u64 = 8 * 4;

pub(crate) struct Agent {
    out: mpsc::Sender<AgentMessage>,
    answers: Streaming<pb::CollectorMessage>,
}

pub(crate) fn hello(node: &str, oldest: u64) -> agent_message::Kind {
    agent_message::Kind::Hello(live(node, oldest))
}

fn live(node: &str, oldest: u64) -> pb::Hello {
    pb::Hello { node: node.into(), spool: SPOOL, oldest_sequence: oldest, ..Default::default() }
}

/// Eight GPUs, all metrics of the catalogue (ids from 1), one job.
pub(crate) fn declare() -> agent_message::Kind {
    let gpu = |index| pb::Gpu { index, uuid: format!("GPU-{index}"), model: "H100".into(), ..Default::default() };
    agent_message::Kind::Declare(pb::Declare {
        metrics: catalog::GPU.iter().zip(1..).map(|(metric, id)| metric.declare(id)).collect(),
        entities: (0..8).map(|index| pb::Entity { id: index + 1, what: Some(pb::entity::What::Gpu(gpu(index))) }).collect(),
        jobs: vec![pb::Job { id: 1, name: "llama".into(), ..Default::default() }],
    })
}

pub(crate) fn metric(name: &str) -> u32 {
    catalog::GPU.iter().position(|metric| metric.name == name).unwrap() as u32 + 1
}

/// Power, temperature, job and one metric that the judging does not know, of eight GPUs, stamped now.
pub(crate) fn batch(sequence: u64) -> pb::Batch {
    batch_of(sequence, 600)
}

/// The same with another power of each GPU.
pub(crate) fn batch_of(sequence: u64, watts: i64) -> pb::Batch {
    let metrics = ["power_watts", "temperature_celsius", "job", "hbm_total_bytes"].map(metric);
    let base_us = Micros::now().0;
    let mut block = BlockBuilder::new(base_us, &metrics, 500);
    for entity in 1..=8 {
        block.push(entity, base_us, [Some(watts * 1000), Some(60), Some(1), Some(80 << 30)]);
    }
    pb::Batch { sequence, base_us, blocks: vec![block.finish()], ..Default::default() }
}

pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

impl Agent {
    /// Opens a stream and says the words.
    pub(crate) async fn open(channel: Channel, words: Vec<agent_message::Kind>) -> Result<Self, Status> {
        let (out, messages) = mpsc::channel(64);
        for word in words {
            out.try_send(AgentMessage { kind: Some(word) }).unwrap();
        }
        let answers = TelemetryClient::new(channel).stream(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Self { out, answers })
    }

    /// Hello and Declare; gives the Welcome.
    pub(crate) async fn join(address: SocketAddr, node: &str, oldest: u64) -> (Self, Welcome) {
        Self::join_with(address, live(node, oldest)).await
    }

    /// The same for what went to disk under the numbering `spool`.
    pub(crate) async fn join_backlog(address: SocketAddr, node: &str, spool: u64, oldest: u64) -> (Self, Welcome) {
        Self::join_with(address, pb::Hello { spool, backlog: true, ..live(node, oldest) }).await
    }

    async fn join_with(address: SocketAddr, hello: pb::Hello) -> (Self, Welcome) {
        let words = vec![agent_message::Kind::Hello(hello), declare()];
        let mut agent = Self::open(channel(address).await, words).await.unwrap();
        match agent.answer().await {
            Ok(Some(collector_message::Kind::Welcome(welcome))) => (agent, welcome),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send(&self, kind: agent_message::Kind) {
        self.out.send(AgentMessage { kind: Some(kind) }).await.unwrap();
    }

    pub(crate) async fn send_batch(&self, sequence: u64) {
        self.send(agent_message::Kind::Batch(batch(sequence))).await;
    }

    /// A batch every 50 ms, each taken before the next. Never ends.
    pub(crate) async fn feed(&mut self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        for sequence in 1.. {
            ticks.tick().await;
            self.send_batch(sequence).await;
            self.ack_until(|ack| ack.received >= sequence).await;
        }
    }

    pub(crate) async fn answer(&mut self) -> Result<Option<collector_message::Kind>, Status> {
        let message = timeout(DEADLINE, self.answers.message()).await.expect("an answer in time")?;
        Ok(message.and_then(|message| message.kind))
    }

    /// Reads acknowledgements until one is as wanted.
    pub(crate) async fn ack_until(&mut self, wanted: impl Fn(&Ack) -> bool) -> Ack {
        loop {
            match self.answer().await {
                Ok(Some(collector_message::Kind::Ack(ack))) if wanted(&ack) => return ack,
                Ok(Some(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The newest acknowledgement, if one has come.
    pub(crate) async fn last_ack(&mut self) -> Option<Ack> {
        let mut last = None;
        while let Ok(answer) = timeout(Duration::ZERO, self.answers.message()).await {
            match answer.unwrap().and_then(|message| message.kind) {
                Some(collector_message::Kind::Ack(ack)) => last = Some(ack),
                other => panic!("{other:?}"),
            }
        }
        last
    }

    /// Reads until the stream ends; why.
    pub(crate) async fn end(&mut self) -> Option<Status> {
        loop {
            match self.answer().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }
}
