//! What had to wait, beside what is live: one generation after the other, in order, and not faster than is configured.
//!
//! It goes over a stream of its own on the same connection. Little of it is on its way at a time, so that it does not take the room
//! of what is live.

use super::stream::{Refusal, Stream, Window};
use super::{BACKOFF, Kind, Queue, Reason};
use crate::backoff::Backoff;
use crate::exporter::Metrics;
use crate::spool::Message;
use anyhow::Context;
use gridstep_wire::pb;
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::transport::Channel;

/// How often is looked whether there is a backlog.
const LOOK: Duration = Duration::from_secs(1);
/// As [`super::WINDOW_BYTES`].
const WINDOW_BYTES: usize = 64 << 10;

pub(super) struct Backlog {
    queue: Arc<Queue>,
    bytes_per_second: f64,
    metrics: Arc<Metrics>,
    faults: RefCell<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    refusal: Refusal,
    /// Batches that are not sent: no collector takes them.
    refused: BTreeSet<(u64, u64)>,
}

impl Backlog {
    pub(super) fn new(queue: Arc<Queue>, bytes_per_second: u32, metrics: Arc<Metrics>) -> Self {
        Self { queue, bytes_per_second: bytes_per_second.into(), metrics, faults: RefCell::default() }
    }

    /// As long as the connection lasts. `shared`: another collector may have taken some of it.
    pub(super) async fn deliver(&self, channel: Channel, taken: bool, shared: bool) -> Infallible {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let Some(hello) = self.queue.oldest_backlog().await else {
                sleep(LOOK).await;
                continue;
            };
            if !taken {
                tracing::warn!("the collector is older than this agent and takes no backlog: it stays on disk");
                return std::future::pending().await;
            }
            let hello = pb::Hello { backlog: true, shared, ..hello };
            match self.generation(channel.clone(), hello).await {
                Ok(batches) => {
                    tracing::info!(batches, "a backlog is delivered");
                    backoff.reset();
                }
                Err(error) => {
                    let pause = backoff.next(rand::random());
                    let reason = format!("{error:#}");
                    if is_gone(&error) {
                        tracing::debug!(reason, again_in = ?pause, "the backlog waits for the collector");
                    } else {
                        tracing::warn!(reason, again_in = ?pause, "the backlog is not delivered");
                    }
                    sleep(pause).await;
                }
            }
        }
    }

    /// Until everything of it is durable; gives how many batches were sent.
    async fn generation(&self, channel: Channel, hello: pb::Hello) -> anyhow::Result<u64> {
        let mut at = hello.oldest_sequence.saturating_sub(1);
        let mut stream = Stream::open(channel, || hello).await?;
        let spool = stream.spool;
        let mut durable = stream.welcome.durable;
        at = at.max(durable);
        self.queue.acknowledge(spool, durable, durable);
        let mut waiting: VecDeque<Message> = self.queue.backlog(spool, at, true).await.into();
        let mut window = Window::new(WINDOW_BYTES);
        let (mut sent, mut next, mut count) = (0, Instant::now(), 0);
        loop {
            if waiting.is_empty() {
                waiting = self.queue.backlog(spool, at, false).await.into();
                if waiting.is_empty() && durable >= sent {
                    self.queue.acknowledge(spool, at, at);
                    return Ok(count);
                }
            }
            let ready = !waiting.is_empty() && window.is_open(self.faults.borrow().refusal.is_suspected());
            let room = async {
                sleep_until(next).await;
                stream.out.reserve().await
            };
            tokio::select! {
                answer = stream.incoming.message() => match answer {
                    Ok(Some(pb::CollectorMessage { kind: Some(Kind::Ack(ack)) })) => {
                        durable = ack.durable;
                        self.queue.acknowledge(spool, ack.received, durable);
                        window.acknowledge(ack.received);
                        self.faults.borrow_mut().refusal.acknowledge(spool, ack.received);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => anyhow::bail!("the collector closed the stream"),
                    Err(status) => {
                        self.refuse(&status, spool, &window);
                        return Err(status).context("its stream broke");
                    }
                },
                room = room, if ready => {
                    let room = room.context("its stream takes no more")?;
                    let Some(message) = waiting.pop_front() else { continue };
                    let Some(sequence) = message.sequence() else {
                        room.send(message);
                        continue;
                    };
                    at = sequence;
                    if self.is_left_out(&stream, &message, sequence) {
                        continue;
                    }
                    let bytes = message.batch.as_ref().map_or(0, |batch| batch.len());
                    next = next.max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
                    window.sent(sequence, bytes);
                    room.send(message);
                    (sent, count) = (sequence, count + 1);
                    self.queue.metrics.replayed.inc();
                    self.metrics.sent_bytes.inc_by(bytes as u64);
                }
            }
        }
    }

    fn refuse(&self, status: &tonic::Status, spool: u64, window: &Window) {
        let mut faults = self.faults.borrow_mut();
        if let Some(sequence) = faults.refusal.judge(status, spool, window) {
            faults.refused.insert((spool, sequence));
        }
    }

    fn is_left_out(&self, stream: &Stream, message: &Message, sequence: u64) -> bool {
        let refused = self.faults.borrow().refused.contains(&(stream.spool, sequence));
        let reason = match (stream.excess(message), refused) {
            (Some(bytes), _) => {
                tracing::warn!(sequence, bytes, "dropping a batch that is larger than the collector takes");
                Reason::TooLarge
            }
            (None, true) => Reason::Refused,
            (None, false) => return false,
        };
        self.queue.metrics.drop(reason, 1, message.samples());
        true
    }
}

/// The collector went away, or is about to: the stream of what is live ends too, and says so.
fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<tonic::Status>().is_some_and(|status| status.code() == tonic::Code::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_stops_is_told_of_once() {
        let broke = |status: tonic::Status| Err::<(), _>(status).context("its stream broke").unwrap_err();
        assert!(is_gone(&broke(tonic::Status::unavailable("the collector is stopping"))));
        assert!(!is_gone(&broke(tonic::Status::invalid_argument("batch"))));
        assert!(!is_gone(&anyhow::anyhow!("the collector closed the stream")));
    }
}
