//! A node's streams: it connects, sends, keeps what is not durable, and connects again.
//!
//! As an agent does, it sends what is new at once: where it was away for longer than [`Arguments::backlog_after`], what it kept meanwhile is backlog, and
//! goes beside it over a stream of its own (`agent/src/spool/queue.rs`, `agent/src/uplink/backlog.rs`).

use crate::Arguments;
use crate::ledger::Ledger;
use crate::node::{Node, Random};
use crate::numbering::{Kept, Numbering, Stream};
use crate::tally::{Tally, add};
use gridstep_wire::Micros;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::transport::{Channel, Endpoint};

const LATE: Duration = Duration::from_secs(2);
/// Of the backlog: so many bytes a second, as an agent sends by default, and so many batches that are not acknowledged.
const BACKLOG_BYTES: f64 = 262_144.0;
const BACKLOG_AHEAD: u64 = 14;

/// The connection, and what goes over it.
struct Link {
    channel: Channel,
    live: Stream,
    backlog: Option<Stream>,
    /// When the next of the backlog may go.
    backlog_due: Instant,
}

struct Sender {
    node: Node,
    late: Duration,
    live: Numbering,
    /// The oldest first. The first is on its way.
    backlog: VecDeque<Numbering>,
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
    let live = Numbering::new(Micros::now().0 as u64 ^ u64::from(index), 1);
    let mut sender = Sender { node, late, live, backlog: VecDeque::new(), random, ledger };
    let mut link = None;
    let mut connect_at = Instant::now();
    let mut away_since = Instant::now();
    let mut due = Instant::now();
    loop {
        due += period;
        sender.measure(&arguments, &tally);
        if link.is_none() && Instant::now() >= connect_at {
            let away = away_since.elapsed().as_secs_f64();
            link = sender.connect(&arguments, away).await.ok();
            // A second to three, so that a fleet does not come back at one instant.
            connect_at = Instant::now() + Duration::from_secs_f64(1.0 + 2.0 * sender.random.unit());
            if link.is_some() {
                add(&tally.connected, 1);
                add(&tally.connects, 1);
            }
        }
        if let Some(open) = &mut link {
            let flaps = sender.random.unit() < arguments.flap * period.as_secs_f64();
            if flaps || !sender.serve(open, due, &tally).await {
                (link, away_since) = (None, Instant::now());
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
        self.live.kept.push_back(Kept { ready: Instant::now() + self.late, batch, values });
        add(&tally.batches, 1);
        let kept: usize = self.backlog.iter().chain([&self.live]).map(|numbering| numbering.kept.len()).sum();
        if kept > arguments.keep {
            self.backlog.front_mut().unwrap_or(&mut self.live).kept.pop_front();
            self.backlog.retain(|numbering| !numbering.kept.is_empty());
            add(&tally.lost, 1);
        }
    }

    /// `away`: for how long it has been, seconds.
    async fn connect(&mut self, arguments: &Arguments, away: f64) -> anyhow::Result<Link> {
        let endpoint = Endpoint::from_shared(arguments.collector.clone())?.connect_timeout(Duration::from_secs(5));
        let channel = endpoint.connect().await?;
        if arguments.backlog_after > 0.0 && away > arguments.backlog_after {
            let next = Numbering::new(Micros::now().0 as u64 ^ self.live.spool.rotate_left(32), self.node.sequence + 1);
            let closed = std::mem::replace(&mut self.live, next);
            self.backlog.extend((!closed.kept.is_empty()).then_some(closed));
        }
        let live = self.live.connect(channel.clone(), &self.node, false).await?;
        Ok(Link { channel, live, backlog: None, backlog_due: Instant::now() })
    }

    /// Sends what may go and hears what is said until `due`. False: the connection is over.
    async fn serve(&mut self, link: &mut Link, due: Instant, tally: &Tally) -> bool {
        if link.backlog.is_none()
            && let Some(numbering) = self.backlog.front()
        {
            match numbering.connect(link.channel.clone(), &self.node, true).await {
                Ok(stream) => link.backlog = Some(stream),
                Err(_) => return false,
            }
        }
        while Instant::now() < due {
            let ledger = self.ledger.as_deref();
            let next = self.live.next(&link.live, due);
            let ready = next.map_or(due, |next| next.ready);
            let older = self.backlog.front().zip(link.backlog.as_ref()).and_then(|(numbering, stream)| {
                numbering
                    .next(stream, due)
                    .filter(|_| stream.sent < numbering.received.max(numbering.oldest() - 1) + BACKLOG_AHEAD)
            });
            let older_ready = older.map_or(due, |_| link.backlog_due);
            tokio::select! {
                ack = link.live.answer() => match ack {
                    Some(ack) => self.live.acknowledge(ack, &self.node, tally, ledger),
                    None => return false,
                },
                ack = answer(&mut link.backlog) => match ack {
                    Some(ack) => {
                        let Some(numbering) = self.backlog.front_mut() else { return false };
                        numbering.acknowledge(ack, &self.node, tally, ledger);
                        if numbering.kept.is_empty() {
                            link.backlog = None;
                            self.backlog.pop_front();
                        }
                    }
                    None => return false,
                },
                () = sleep_until(ready), if next.is_some() => {
                    if let Some(next) = next && !link.live.send(next, tally).await {
                        return false;
                    }
                }
                () = sleep_until(older_ready), if older.is_some() => {
                    let (Some(older), Some(stream)) = (older, &mut link.backlog) else { continue };
                    link.backlog_due = Instant::now() + Duration::from_secs_f64(older.bytes() as f64 / BACKLOG_BYTES);
                    if !stream.send(older, tally).await {
                        return false;
                    }
                }
                () = sleep_until(due) => {}
            }
        }
        true
    }
}

/// Of a stream that there is.
async fn answer(stream: &mut Option<Stream>) -> Option<gridstep_wire::pb::Ack> {
    match stream {
        Some(stream) => stream.answer().await,
        None => std::future::pending().await,
    }
}
