//! queue ─▶ **disk** ─▶ store
//!
//! The thread that waits for the disk, so that nothing else does. Who asks it something waits for the answer; of a disk that hangs
//! none comes.

use super::message::Message;
use super::metrics::QueueMetrics;
use super::queue::Load;
use super::store::{Limits, Store};
use gridstep_wire::{Micros, pb};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// What waits for the thread at most: one to write, one to read, and what is durable.
const ORDERS: usize = 8;
/// What was appended survives a loss of power after this time.
const SYNC_PERIOD: Duration = Duration::from_secs(5);
/// How often is looked whether there is room for an order.
const ROOM: Duration = Duration::from_millis(100);
/// A directory that cannot be used is tried again then.
const RETRY: Duration = Duration::from_secs(5);

/// The thread's other end. The thread ends with it.
#[derive(Debug)]
pub(super) struct Disk {
    orders: SyncSender<Order>,
    /// When the oldest batch was made, microseconds since the epoch; 0: there is none.
    oldest_us: Arc<AtomicI64>,
}

#[derive(Debug)]
enum Order {
    Append(Load, oneshot::Sender<io::Result<Load>>),
    Sync(oneshot::Sender<()>),
    Oldest { live: u64, reply: oneshot::Sender<Option<pb::Hello>> },
    Read { spool: u64, sequence: u64, rewind: bool, reply: oneshot::Sender<Vec<Message>> },
    Durable { spool: u64, sequence: u64 },
}

impl Disk {
    pub(super) fn start(directory: PathBuf, limits: Limits, metrics: QueueMetrics) -> io::Result<Self> {
        let (orders, inbox) = sync_channel(ORDERS);
        let oldest_us = Arc::<AtomicI64>::default();
        let keeper = Keeper { directory, limits, metrics, store: None, fault: None, oldest_us: oldest_us.clone() };
        std::thread::Builder::new().name("spool".into()).spawn(move || keeper.run(&inbox))?;
        Ok(Self { orders, oldest_us })
    }

    /// Writes the load, and gives it back.
    pub(super) async fn append(&self, load: Load) -> io::Result<Load> {
        let written = self.ask(|reply| Order::Append(load, reply)).await;
        written.unwrap_or_else(|| Err(io::Error::other("the thread that writes has ended")))
    }

    pub(super) async fn sync(&self) {
        self.ask(Order::Sync).await;
    }

    /// Who spoke, for the oldest batches that are of another numbering than `live`.
    pub(super) async fn oldest(&self, live: u64) -> Option<pb::Hello> {
        or_never(self.ask(|reply| Order::Oldest { live, reply }).await).await
    }

    /// See [`Store::read`].
    pub(super) async fn read(&self, spool: u64, sequence: u64, rewind: bool) -> Vec<Message> {
        or_never(self.ask(|reply| Order::Read { spool, sequence, rewind, reply }).await).await
    }

    /// False, not heard, where the thread is behind: an acknowledgement comes again, with the next or the next stream.
    pub(super) fn durable(&self, spool: u64, sequence: u64) -> bool {
        self.orders.try_send(Order::Durable { spool, sequence }).is_ok()
    }

    /// Of the oldest batch.
    pub(super) fn age(&self) -> Option<Duration> {
        let oldest_us = Some(self.oldest_us.load(Ordering::Relaxed)).filter(|&oldest| oldest > 0)?;
        Some(Duration::from_micros(u64::try_from(Micros::now().0 - oldest_us).unwrap_or(0)))
    }

    /// None: the thread has ended.
    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let mut order = order(reply);
        while let Err(back) = self.orders.try_send(order) {
            let TrySendError::Full(full) = back else { return None };
            order = full;
            sleep(ROOM).await;
        }
        answer.await.ok()
    }
}

/// What is not known of the disk is not taken for nothing: later batches would be sent before earlier ones.
async fn or_never<T>(answer: Option<T>) -> T {
    match answer {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

/// Runs in the thread.
struct Keeper {
    directory: PathBuf,
    limits: Limits,
    metrics: QueueMetrics,
    store: Option<Store>,
    /// What was wrong with the directory, and when.
    fault: Option<(Instant, io::Error)>,
    oldest_us: Arc<AtomicI64>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Order>) {
        if let Err(error) = self.store() {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "the spool's directory cannot be used: batches are kept in memory alone");
        }
        let mut synced = Instant::now();
        loop {
            self.report();
            match inbox.recv_timeout(SYNC_PERIOD) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if synced.elapsed() >= SYNC_PERIOD {
                if let Ok(store) = self.store() {
                    store.sync();
                    store.expire(SystemTime::now());
                }
                synced = Instant::now();
            }
        }
    }

    fn report(&self) {
        let oldest_us = self.store.as_ref().and_then(Store::oldest_us);
        self.oldest_us.store(oldest_us.unwrap_or(0), Ordering::Relaxed);
    }

    fn take(&mut self, order: Order) {
        // Who asked may have gone.
        match order {
            Order::Append(load, reply) => {
                let written = self.store().and_then(|store| store.append(&load, SystemTime::now()));
                let _ = reply.send(written.map(|()| load));
            }
            Order::Sync(reply) => {
                self.store.iter_mut().for_each(Store::sync);
                let _ = reply.send(());
            }
            Order::Oldest { live, reply } => {
                let _ = reply.send(self.store.as_ref().and_then(|store| store.oldest(live)));
            }
            Order::Read { spool, sequence, rewind, reply } => {
                let messages = self.store.as_mut().map(|store| store.read(spool, sequence, rewind));
                let _ = reply.send(messages.unwrap_or_default());
            }
            Order::Durable { spool, sequence } => self.store.iter_mut().for_each(|store| store.durable(spool, sequence)),
        }
    }

    /// The directory, as soon as it can be used.
    fn store(&mut self) -> io::Result<&mut Store> {
        if self.store.is_none() {
            if self.fault.as_ref().is_none_or(|(at, _)| at.elapsed() >= RETRY) {
                let opened = Store::open(&self.directory, self.limits.clone(), self.metrics.clone());
                self.fault = opened.map(|store| self.store = Some(store)).err().map(|error| (Instant::now(), error));
            }
            if let Some((_, error)) = &self.fault {
                return Err(io::Error::new(error.kind(), error.to_string()));
            }
        }
        self.store.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
