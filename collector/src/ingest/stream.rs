//! One agent's stream.

use super::declared::Declared;
use super::decode::decode;
use super::service::{Inbound, Kind};
use super::{Ingest, MAX_MESSAGE_BYTES, Malformed};
use crate::live::{Acked, Joined, Joining, Message, StreamId};
use gridstep_wire::pb::{CollectorMessage, Hello, Welcome, collector_message};
use gridstep_wire::{Micros, pb};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

type Outbound = mpsc::Sender<Result<CollectorMessage, Status>>;

/// A stream that has not said who it is by then is ended.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Rows stamped longer ago are dropped and counted: of a node with a wrong clock, or of an agent that kept them in memory.
const OLDEST: Duration = Duration::from_secs(24 * 3600);
/// What agents kept on disk is not judged, and may be older.
const OLDEST_OF_BACKLOG: Duration = Duration::from_secs(31 * 24 * 3600);
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_NODE_BYTES: usize = 253;
const MAX_TEXT_BYTES: usize = 256;

/// Serves the stream to its end.
pub(super) async fn serve(ingest: Ingest, inbound: Streaming<Inbound>, outbound: Outbound) {
    ingest.metrics.streams.inc();
    let status = match open(&ingest, inbound, &outbound).await {
        Ok((stream, acks)) => {
            let Stream { id, node, backlog, .. } = &stream;
            let (left, node, backlog) = (Message::Leave { stream: *id }, node.clone(), *backlog);
            let status = run(stream, acks, &ingest, &outbound).await;
            // Fails when the collector stops: then all have left.
            let _ = ingest.live.send(left).await;
            info!(node, backlog, reason = status.as_ref().map_or("closed", Status::message), "agent left");
            status
        }
        Err(status) => {
            debug!(reason = status.message(), "stream refused");
            Some(status)
        }
    };
    if let Some(status) = status {
        // The agent may have gone, or not read what waits for it.
        let _ = outbound.send_timeout(Err(status), LAST_WORD_TIMEOUT).await;
    }
    ingest.metrics.streams.dec();
}

struct Stream {
    node: String,
    id: StreamId,
    /// Brings what earlier ones could not.
    backlog: bool,
    inbound: Streaming<Inbound>,
    declared: Declared,
    ingest: Ingest,
}

/// Hello and Welcome.
async fn open(
    ingest: &Ingest,
    mut inbound: Streaming<Inbound>,
    outbound: &Outbound,
) -> Result<(Stream, watch::Receiver<Acked>), Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello within 10 s"))??;
    let Some(Kind::Hello(hello)) = first.and_then(|message| message.kind) else {
        return Err(refuse(ingest, &Malformed::NoHello));
    };
    check(&hello).map_err(|malformed| refuse(ingest, &malformed))?;
    let (reply, answer) = oneshot::channel();
    let joining = Joining {
        node: hello.node.clone(),
        spool: hello.spool,
        oldest: hello.oldest_sequence,
        backlog: hello.backlog,
        shared: hello.shared,
        boot: hello.boot.clone(),
    };
    ingest.live.send(Message::Join { joining, reply }).await.map_err(|_| stopping())?;
    let joined = answer.await.map_err(|_| stopping())?;
    let Joined { stream, durable, acks } = joined.map_err(|full| Status::resource_exhausted(full.to_string()))?;
    let welcome = Welcome {
        collector_version: env!("CARGO_PKG_VERSION").into(),
        instance: ingest.instance,
        durable,
        max_message_bytes: MAX_MESSAGE_BYTES,
        takes_backlog: true,
    };
    send(outbound, collector_message::Kind::Welcome(welcome)).await?;
    let backlog = hello.backlog;
    info!(node = hello.node, agent = hello.agent_version, driver = hello.driver_version, backlog, "agent joined");
    let (declared, ingest) = (Declared::default(), ingest.clone());
    Ok((Stream { node: hello.node, id: stream, backlog, inbound, declared, ingest }, acks))
}

/// To the end of the stream; why it ends, if not at the agent's wish. What comes is taken by a task of its own: with each batch that task is woken, and has
/// nothing else to look at then.
async fn run(stream: Stream, mut acks: watch::Receiver<Acked>, ingest: &Ingest, outbound: &Outbound) -> Option<Status> {
    let mut taking = JoinSet::new();
    taking.spawn(stream.take_all());
    let mut stopped = std::pin::pin!(ingest.stop.cancelled());
    let status = loop {
        let done = tokio::select! {
            ended = taking.join_next() => break ended.and_then(|ended| ended.unwrap_or_else(|fault| Some(Status::internal(fault.to_string())))),
            changed = acks.changed() => match changed {
                Ok(()) => {
                    let Acked { received, durable } = *acks.borrow_and_update();
                    send(outbound, collector_message::Kind::Ack(pb::Ack { received, durable })).await
                }
                Err(_) => Err(Status::aborted("another stream of the node took over, or the recorder lacks batches of this one")),
            },
            () = &mut stopped => Err(stopping()),
        };
        if let Err(status) = done {
            break Some(status);
        }
    };
    // Nothing comes of it any more when it has left.
    taking.shutdown().await;
    status
}

impl Stream {
    /// To the end of what comes; why it ends, if not at the agent's wish.
    async fn take_all(mut self) -> Option<Status> {
        loop {
            let done = match self.inbound.message().await {
                Ok(Some(message)) => self.take(message).await,
                Ok(None) => return None,
                Err(status) => Err(status),
            };
            if let Err(status) = done {
                return Some(status);
            }
        }
    }

    async fn take(&mut self, message: Inbound) -> Result<(), Status> {
        let turn = match self.backlog {
            true => Some(self.ingest.backlog_turn.clone().acquire_owned().await.map_err(|_| stopping())?),
            false => None,
        };
        let message = self.read(message, turn).map_err(|malformed| {
            warn!(node = self.node, fault = %malformed, "malformed message");
            refuse(&self.ingest, &malformed)
        })?;
        match message {
            Some(message) => self.ingest.live.send(message).await.map_err(|_| stopping()),
            None => Ok(()),
        }
    }

    /// None: there is nothing in it for the judging.
    fn read(&mut self, message: Inbound, turn: Option<OwnedSemaphorePermit>) -> Result<Option<Message>, Malformed> {
        match message.kind.ok_or(Malformed::Empty)? {
            Kind::Hello(_) => Err(Malformed::SecondHello),
            Kind::Declare(declare) => {
                let gpus = self.declared.declare(declare)?;
                Ok(Some(Message::Identify { stream: self.id, node: self.node.clone(), gpus, backlog: self.backlog }))
            }
            Kind::Batch(batch) => {
                let oldest = if self.backlog { OLDEST_OF_BACKLOG } else { OLDEST };
                let batch = decode(&batch, &self.declared, Micros::now(), oldest)?;
                self.ingest.metrics.unknown_samples.inc_by(batch.unknown);
                self.ingest.metrics.misdated_rows.inc_by(batch.misdated);
                Ok(Some(Message::Batch { stream: self.id, batch, turn }))
            }
        }
    }
}

fn check(hello: &Hello) -> Result<(), Malformed> {
    let node = &hello.node;
    if node.is_empty() || node.len() > MAX_NODE_BYTES {
        return Err(Malformed::Hello(format!("the node's name has {} bytes, not 1 to {MAX_NODE_BYTES}", node.len())));
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-:@".contains(letter);
    if !node.chars().all(plain) {
        return Err(Malformed::Hello("the node's name has other characters than letters, digits and ._-:@".into()));
    }
    let texts = [
        ("boot", &hello.boot),
        ("agent_version", &hello.agent_version),
        ("driver_version", &hello.driver_version),
        ("nvml_version", &hello.nvml_version),
    ];
    for (name, text) in texts {
        if text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
            return Err(Malformed::Hello(format!("{name} is longer than {MAX_TEXT_BYTES} bytes or not printable")));
        }
    }
    Ok(())
}

fn refuse(ingest: &Ingest, malformed: &Malformed) -> Status {
    ingest.metrics.rejected_messages.with_label_values(&[malformed.reason()]).inc();
    Status::invalid_argument(malformed.to_string())
}

fn stopping() -> Status {
    Status::unavailable("the collector is stopping")
}

async fn send(outbound: &Outbound, kind: collector_message::Kind) -> Result<(), Status> {
    let message = CollectorMessage { kind: Some(kind) };
    outbound.send(Ok(message)).await.map_err(|_| Status::cancelled("the agent is gone"))
}
