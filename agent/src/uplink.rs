//! spool ─▶ **uplink** ═══ gRPC ═══▶ collector
//!
//! One stream for what is live, opened again with a jittered back-off whenever it ends, and a slower one beside it for what had to
//! wait on disk ([`backlog`]). The spool lets go of a batch when the collector says that it is durable; after a reconnect everything
//! behind that is sent again, and the collector drops what it knows.
//!
//! A second collector has an uplink of its own, or takes the place of the first while that does not answer.

mod backlog;
mod config;
mod stream;

pub use config::{Collector, Config, Mode};

use crate::backoff::Backoff;
use crate::exporter::Metrics;
use crate::spool::{Message, Queue, Reason, Spool};
use anyhow::Context;
use backlog::Backlog;
use gridstep_wire::pb::{self, collector_message::Kind};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use stream::{Refusal, Stream, Window};
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

/// Encoded bytes of batches that the collector has not acknowledged as received; no more are sent then.
const WINDOW_BYTES: usize = 1 << 20;
/// Between two attempts: first and last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The second collector takes the place of a first that does not answer for so long: not of one that restarts.
const STANDBY_AFTER: Duration = Duration::from_secs(5);

/// Delivers one queue.
pub struct Uplink {
    first: Endpoint,
    /// Takes the place of the first while that does not answer.
    second: Option<Endpoint>,
    queue: Arc<Queue>,
    spool: Arc<Spool>,
    metrics: Arc<Metrics>,
    backlog: Backlog,
}

/// A collector that has welcomed what is live.
struct Reached {
    channel: Channel,
    stream: Stream,
}

impl Uplink {
    /// One for each queue.
    pub fn new(config: &Config, rate: u32, spool: &Arc<Spool>, metrics: &Arc<Metrics>) -> anyhow::Result<Vec<Self>> {
        let mut first = vec![config.first().channel().context("uplink.endpoint")?];
        let mut second = config.second.as_ref().map(|second| second.channel().context("uplink.second")).transpose()?;
        if config.mode == Mode::Both {
            first.extend(second.take());
        }
        let uplink = |(first, queue): (Endpoint, &Arc<Queue>)| Self {
            first,
            second: second.clone(),
            queue: queue.clone(),
            spool: spool.clone(),
            metrics: metrics.clone(),
            backlog: Backlog::new(queue.clone(), rate, metrics.clone()),
        };
        Ok(first.into_iter().zip(spool.queues()).map(uplink).collect())
    }

    /// All of them, for ever.
    pub async fn run_all(uplinks: Vec<Self>) -> Infallible {
        let mut uplinks = uplinks.into_iter();
        match (uplinks.next(), uplinks.next()) {
            (Some(one), None) => one.run().await,
            (Some(one), Some(two)) => tokio::select! { never = one.run() => never, never = two.run() => never },
            _ => std::future::pending().await,
        }
    }

    async fn run(self) -> Infallible {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut refusal = Refusal::default();
        let mut silent_since = Instant::now();
        loop {
            let ended = match self.reach(&self.first).await {
                Ok(reached) => {
                    let ended = self.carry(reached, &mut backoff, &mut refusal).await;
                    silent_since = Instant::now();
                    ended
                }
                Err(fault) => match self.second.as_ref().filter(|_| silent_since.elapsed() >= STANDBY_AFTER) {
                    Some(second) => self
                        .stand_by(second, &mut backoff, &mut refusal, &mut silent_since)
                        .await
                        .context(format!("{fault:#}; the second")),
                    None => Err(fault),
                },
            };
            self.set_connected(false);
            let pause = backoff.next(rand::random());
            let reason = ended.err().map_or_else(|| "the collector closed the stream".into(), |error| format!("{error:#}"));
            tracing::warn!(reason, again_in = ?pause, "no stream to the collector");
            sleep(pause).await;
        }
    }

    /// Over the second until its stream ends or the first answers, and then over that.
    async fn stand_by(
        &self,
        second: &Endpoint,
        backoff: &mut Backoff,
        refusal: &mut Refusal,
        silent_since: &mut Instant,
    ) -> anyhow::Result<()> {
        let reached = self.reach(second).await?;
        tracing::warn!(collector = %second.uri(), "the first collector does not answer, the second takes its place");
        let first = tokio::select! {
            ended = self.carry(reached, backoff, refusal) => return ended,
            first = self.first_again() => first,
        };
        tracing::info!("the first collector answers again");
        let ended = self.carry(first, backoff, refusal).await;
        *silent_since = Instant::now();
        ended
    }

    async fn first_again(&self) -> Reached {
        let mut backoff = Backoff::new(BACKOFF.1, BACKOFF.1);
        loop {
            sleep(backoff.next(rand::random())).await;
            if let Ok(reached) = self.reach(&self.first).await {
                return reached;
            }
        }
    }

    async fn reach(&self, endpoint: &Endpoint) -> anyhow::Result<Reached> {
        let channel = endpoint.connect().await.context("connecting")?;
        let hello = || pb::Hello { shared: self.second.is_some(), ..self.queue.begin() };
        let stream = Stream::open(channel.clone(), hello).await?;
        tracing::info!(collector = stream.welcome.collector_version, durable = stream.welcome.durable, "stream is open");
        Ok(Reached { channel, stream })
    }

    fn set_connected(&self, connected: bool) {
        self.queue.set_connected(connected);
        self.metrics.connected.set(i64::from(self.spool.is_connected()));
    }

    /// What is live, and beside it what is not, until the stream of what is live ends.
    async fn carry(&self, reached: Reached, backoff: &mut Backoff, refusal: &mut Refusal) -> anyhow::Result<()> {
        self.set_connected(true);
        let takes_backlog = reached.stream.welcome.takes_backlog;
        tokio::select! {
            ended = self.live(reached.stream, backoff, refusal) => ended,
            never = self.backlog.deliver(reached.channel, takes_backlog, self.second.is_some()) => match never {},
        }
    }

    async fn live(&self, mut stream: Stream, backoff: &mut Backoff, refusal: &mut Refusal) -> anyhow::Result<()> {
        let spool = stream.spool;
        let mut sent = stream.welcome.durable;
        self.queue.acknowledge(spool, sent, sent);
        let mut declared = None;
        let mut window = Window::new(WINDOW_BYTES);
        let mut asked = false;
        loop {
            let next = self.queue.after(spool, sent)?;
            // What is declared again is answered at once.
            if !asked && next.is_none() && self.queue.asks_after(sent) {
                (asked, declared) = (true, None);
            }
            let ready = declared.is_none() || window.is_open(refusal.is_suspected()) && next.is_some();
            tokio::select! {
                answer = stream.incoming.message() => match answer {
                    Ok(Some(pb::CollectorMessage { kind: Some(Kind::Ack(ack)) })) => {
                        // One that welcomes and then hangs up is not called again at once.
                        backoff.reset();
                        self.queue.acknowledge(spool, ack.received, ack.durable);
                        window.acknowledge(ack.received);
                        refusal.acknowledge(spool, ack.received);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        if let Some(sequence) = refusal.judge(&status, spool, &window) {
                            self.queue.discard(spool, sequence, Reason::Refused);
                        }
                        return Err(status).context("the stream broke");
                    }
                },
                room = stream.out.reserve(), if ready => {
                    let room = room.context("the stream takes no more")?;
                    let now = self.queue.declared();
                    if !declared.as_ref().is_some_and(|declared| Arc::ptr_eq(declared, &now)) {
                        room.send(Message::from((*now).clone()));
                        declared = Some(now);
                    } else if let Some(batch) = next {
                        sent = batch.sequence;
                        let message = Message::from(batch.bytes.clone());
                        if let Some(bytes) = stream.excess(&message) {
                            tracing::warn!(sent, bytes, "dropping a batch that is larger than the collector takes");
                            self.queue.discard(spool, sent, Reason::TooLarge);
                            continue;
                        }
                        self.metrics.sent_bytes.inc_by(batch.bytes.len() as u64);
                        window.sent(sent, batch.bytes.len());
                        room.send(message);
                    }
                }
                () = self.queue.grown.notified() => {}
            }
        }
    }
}
