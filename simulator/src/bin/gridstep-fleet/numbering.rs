//! What a node has sent under one numbering, until it is durable; and one stream of that.

use crate::ledger::Ledger;
use crate::node::Node;
use crate::tally::{Tally, add};
use gridstep_wire::pb::telemetry_client::TelemetryClient;
use gridstep_wire::pb::{self, AgentMessage, agent_message::Kind, collector_message};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Messages that wait for the network.
const QUEUE: usize = 8;

#[derive(Debug)]
pub(crate) struct Kept {
    /// It leaves no sooner.
    pub(crate) ready: Instant,
    pub(crate) batch: pb::Batch,
    pub(crate) values: u64,
}

#[derive(Debug)]
pub(crate) struct Numbering {
    pub(crate) spool: u64,
    pub(crate) kept: VecDeque<Kept>,
    /// Sequences up to here have been acknowledged.
    pub(crate) received: u64,
    durable: u64,
}

/// A numbering on its way.
pub(crate) struct Stream {
    out: mpsc::Sender<AgentMessage>,
    answers: Streaming<pb::CollectorMessage>,
    /// Batches up to here have been sent on it.
    pub(crate) sent: u64,
}

impl Kept {
    /// On the wire.
    pub(crate) fn bytes(&self) -> usize {
        prost::Message::encoded_len(&self.batch)
    }
}

impl Numbering {
    /// `first`: sequence of its first batch.
    pub(crate) fn new(spool: u64, first: u64) -> Self {
        Self { spool, kept: VecDeque::new(), received: first - 1, durable: first - 1 }
    }

    /// Sequence of the oldest that is kept.
    pub(crate) fn oldest(&self) -> u64 {
        self.kept.front().map_or(self.received.max(self.durable) + 1, |kept| kept.batch.sequence)
    }

    /// The next to go, if it may by `until`.
    pub(crate) fn next(&self, stream: &Stream, until: Instant) -> Option<&Kept> {
        let place = (stream.sent + 1).checked_sub(self.oldest())?;
        self.kept.get(place as usize).filter(|kept| kept.ready <= until)
    }

    pub(crate) async fn connect(&self, channel: Channel, node: &Node, backlog: bool) -> anyhow::Result<Stream> {
        let (out, messages) = mpsc::channel(QUEUE);
        let hello = pb::Hello {
            node: node.name.clone(),
            spool: self.spool,
            oldest_sequence: self.oldest(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            backlog,
            ..Default::default()
        };
        out.send(AgentMessage { kind: Some(Kind::Hello(hello)) }).await?;
        out.send(AgentMessage { kind: Some(Kind::Declare(node.declare())) }).await?;
        let mut answers = TelemetryClient::new(channel).stream(ReceiverStream::new(messages)).await?.into_inner();
        let welcome = tokio::time::timeout(Duration::from_secs(10), answers.message()).await??;
        let Some(collector_message::Kind::Welcome(welcome)) = welcome.and_then(|message| message.kind) else {
            anyhow::bail!("the collector did not begin with a welcome");
        };
        let sent = welcome.durable.max(self.oldest().saturating_sub(1));
        Ok(Stream { out, answers, sent })
    }

    pub(crate) fn acknowledge(&mut self, ack: pb::Ack, node: &Node, tally: &Tally, ledger: Option<&Ledger>) {
        add(&tally.received, ack.received.saturating_sub(self.received));
        add(&tally.durable, ack.durable.saturating_sub(self.durable));
        (self.received, self.durable) = (self.received.max(ack.received), self.durable.max(ack.durable));
        while !self.kept.is_empty() && self.oldest() <= ack.durable {
            let durable = self.kept.pop_front();
            if let (Some(ledger), Some(kept)) = (ledger, durable) {
                ledger.durable(&node.name, node.gpus, &kept.batch);
            }
        }
    }
}

impl Stream {
    /// False: the stream is over.
    pub(crate) async fn send(&mut self, kept: &Kept, tally: &Tally) -> bool {
        let message = AgentMessage { kind: Some(Kind::Batch(kept.batch.clone())) };
        let bytes = kept.bytes() as u64;
        if self.out.send(message).await.is_err() {
            return false;
        }
        self.sent += 1;
        add(&tally.bytes, bytes);
        add(&tally.values, kept.values);
        true
    }

    /// None: the stream is over.
    pub(crate) async fn answer(&mut self) -> Option<pb::Ack> {
        loop {
            match self.answers.message().await {
                Ok(Some(pb::CollectorMessage { kind: Some(collector_message::Kind::Ack(ack)) })) => return Some(ack),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }
}
