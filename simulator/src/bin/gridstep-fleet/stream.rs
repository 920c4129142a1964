//! A node's stream: connects, sends, keeps what is not durable, and connects again.

use crate::Arguments;
use crate::ledger::Ledger;
use crate::node::{Node, Random};
use crate::tally::{Tally, add};
use gridstep_wire::Micros;
use gridstep_wire::pb::telemetry_client::TelemetryClient;
use gridstep_wire::pb::{self, AgentMessage, agent_message::Kind, collector_message};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

/// Messages that wait for the network.
const QUEUE: usize = 8;
const LATE: Duration = Duration::from_secs(2);

struct Stream {
    out: mpsc::Sender<AgentMessage>,
    answers: Streaming<pb::CollectorMessage>,
    /// Batches up to here have been sent on it.
    sent: u64,
}

struct Sender {
    node: Node,
    spool: u64,
    late: Duration,
    kept: VecDeque<(Instant, AgentMessage, u64)>,
    /// Sequences up to here have been acknowledged.
    received: u64,
    durable: u64,
    random: Random,
    ledger: Option<Arc<Ledger>>,
}

/// Runs until the program ends.
pub(crate) async fn node(index: u32, arguments: Arc<Arguments>, tally: Arc<Tally>, ledger: Option<Arc<Ledger>>) {
    let mut random = Random::new(u64::from(index) << 20 | 7);
    // Not all at the same instant of it.
    let period = Duration::from_millis(arguments.batch_milliseconds.into());
    sleep(period.mul_f64(random.unit())).await;
    let late = if random.unit() < arguments.late { LATE } else { Duration::from_secs_f64(0.005 + 0.075 * random.unit()) };
    let node = Node::new(index, &arguments, Micros::now().0);
    let mut sender = Sender {
        node,
        spool: Micros::now().0 as u64 ^ u64::from(index),
        late,
        kept: VecDeque::new(),
        received: 0,
        durable: 0,
        random,
        ledger,
    };
    let mut stream = None;
    let mut connect_at = Instant::now();
    let mut due = Instant::now();
    loop {
        due += period;
        sender.measure(&arguments, &tally);
        if stream.is_none() && Instant::now() >= connect_at {
            stream = sender.connect(&arguments.collector).await.ok();
            // A second to three, so that a fleet does not come back at one instant.
            connect_at = Instant::now() + Duration::from_secs_f64(1.0 + 2.0 * sender.random.unit());
            if stream.is_some() {
                add(&tally.connected, 1);
                add(&tally.connects, 1);
            }
        }
        if let Some(open) = &mut stream {
            let flaps = sender.random.unit() < arguments.flap * period.as_secs_f64();
            if flaps || !sender.serve(open, due, &tally).await {
                stream = None;
                tally.connected.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if Instant::now() > due + Duration::from_millis(50) {
            add(&tally.behind, 1);
            due = due.max(Instant::now() - Duration::from_secs(1));
        }
        sleep_until(due).await;
    }
}

impl Sender {
    fn measure(&mut self, arguments: &Arguments, tally: &Tally) {
        let (batch, values) = self.node.batch(Micros::now().0);
        self.kept.push_back((Instant::now() + self.late, AgentMessage { kind: Some(Kind::Batch(batch)) }, values));
        add(&tally.batches, 1);
        if self.kept.len() > arguments.keep {
            self.kept.pop_front();
            add(&tally.lost, 1);
        }
    }

    /// Sequence of the oldest that is kept.
    fn oldest(&self) -> u64 {
        let sequence = |message: &AgentMessage| match &message.kind {
            Some(Kind::Batch(batch)) => batch.sequence,
            _ => 1,
        };
        self.kept.front().map_or(1, |(_, message, _)| sequence(message))
    }

    async fn connect(&mut self, collector: &str) -> anyhow::Result<Stream> {
        let endpoint = Endpoint::from_shared(collector.to_owned())?.connect_timeout(Duration::from_secs(5));
        let channel = endpoint.connect().await?;
        let (out, messages) = mpsc::channel(QUEUE);
        let hello = pb::Hello {
            node: self.node.name.clone(),
            spool: self.spool,
            oldest_sequence: self.oldest(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        out.send(AgentMessage { kind: Some(Kind::Hello(hello)) }).await?;
        out.send(AgentMessage { kind: Some(Kind::Declare(self.node.declare())) }).await?;
        let mut answers = TelemetryClient::new(channel).stream(ReceiverStream::new(messages)).await?.into_inner();
        let welcome = tokio::time::timeout(Duration::from_secs(10), answers.message()).await??;
        let Some(collector_message::Kind::Welcome(welcome)) = welcome.and_then(|message| message.kind) else {
            anyhow::bail!("the collector did not begin with a welcome");
        };
        let sent = welcome.durable.max(self.oldest().saturating_sub(1));
        Ok(Stream { out, answers, sent })
    }

    /// Sends what may go and hears what is said until `due`. False: the stream is over.
    async fn serve(&mut self, stream: &mut Stream, due: Instant, tally: &Tally) -> bool {
        loop {
            let next = (stream.sent + 1).checked_sub(self.oldest()).and_then(|place| self.kept.get(place as usize));
            let next = next.filter(|(ready, ..)| *ready <= due);
            let send = async {
                match next {
                    Some((ready, message, values)) => {
                        sleep_until(*ready).await;
                        (stream.out.send(message.clone()).await.is_ok(), prost::Message::encoded_len(message) as u64, *values)
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                (sent, bytes, values) = send => {
                    if !sent {
                        return false;
                    }
                    stream.sent += 1;
                    add(&tally.bytes, bytes);
                    add(&tally.values, values);
                }
                answer = stream.answers.message() => match answer {
                    Ok(Some(pb::CollectorMessage { kind: Some(collector_message::Kind::Ack(ack)) })) => self.acknowledge(ack, tally),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return false,
                },
                () = sleep_until(due) => return true,
            }
        }
    }

    fn acknowledge(&mut self, ack: pb::Ack, tally: &Tally) {
        add(&tally.received, ack.received.saturating_sub(self.received));
        add(&tally.durable, ack.durable.saturating_sub(self.durable));
        (self.received, self.durable) = (self.received.max(ack.received), self.durable.max(ack.durable));
        while !self.kept.is_empty() && self.oldest() <= ack.durable {
            let durable = self.kept.pop_front();
            if let (Some(ledger), Some((_, AgentMessage { kind: Some(Kind::Batch(batch)) }, _))) = (&self.ledger, durable) {
                ledger.durable(&self.node.name, self.node.gpus, &batch);
            }
        }
    }
}
