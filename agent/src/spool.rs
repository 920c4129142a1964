//! batcher ─▶ **spool** ─▶ uplink
//!
//! Batches that the collector has not made durable yet, oldest first: in memory, and on disk where that takes long
//! ([`queue`]). Bounded in bytes, and on disk in time: the oldest go, and are counted, as what is recent matters more. Where there
//! are two collectors, each has a queue of its own over the same bytes.

mod disk;
mod message;
mod metrics;
mod mover;
mod queue;
mod record;
mod store;

pub(crate) use message::Message;
pub(crate) use metrics::Reason;
pub use metrics::SpoolMetrics;
pub(crate) use queue::Queue;

use gridstep_wire::pb;
use prost::Message as _;
use queue::{Generation, Kept, Meaning};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What is kept for the collectors, and where; labels of metrics and folders.
const NAMES: [&str; 2] = ["first", "second"];

/// `[spool]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Encoded bytes of batches kept in memory.
    pub max_bytes: usize,
    /// Without a collector, batches go to disk when they are so old.
    #[serde(with = "humantime_serde")]
    pub disk_after: Duration,
    /// A collector that is back within so long gets what it missed before what is new; after that, beside it. Without a disk, always before.
    #[serde(with = "humantime_serde")]
    pub backlog_after: Duration,
    /// None: `spool` in the folder that systemd gives for state; without one nothing goes to disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Encoded bytes of batches kept on disk; 0: none.
    pub disk_max_bytes: u64,
    /// What is on disk for longer goes.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// What was on disk is sent this fast, beside what is live.
    pub replay_bytes_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_bytes: 8 << 20,
            disk_after: Duration::from_secs(5),
            backlog_after: Duration::from_secs(30),
            directory: std::env::var_os("STATE_DIRECTORY").map(|state| PathBuf::from(state).join("spool")),
            disk_max_bytes: 1 << 30,
            max_age: Duration::from_secs(24 * 3600),
            replay_bytes_per_second: 256 << 10,
        }
    }
}

impl Config {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.max_bytes < 1 << 20 {
            faults.push(format!("spool.max_bytes = {}: must be at least 1048576", self.max_bytes));
        }
        if (1..64 << 10).contains(&self.disk_max_bytes) {
            faults.push(format!("spool.disk_max_bytes = {}: must be 0 or at least 65536", self.disk_max_bytes));
        }
        if self.directory.as_ref().is_some_and(|directory| !directory.is_absolute()) {
            faults.push("spool.directory: must be an absolute path".into());
        }
        let times = [
            ("disk_after", self.disk_after, 3600),
            ("backlog_after", self.backlog_after, 3600),
            ("max_age", self.max_age, 31 * 24 * 3600),
        ];
        for (key, value, longest) in times {
            if !(Duration::from_secs(1)..=Duration::from_secs(longest)).contains(&value) {
                faults.push(format!("spool.{key} = \"{value:?}\": must be between 1s and {longest}s"));
            }
        }
        if self.replay_bytes_per_second < 4 << 10 {
            faults.push(format!("spool.replay_bytes_per_second = {}: must be at least 4096", self.replay_bytes_per_second));
        }
        faults
    }

    /// On disk, for the collector of this name.
    fn disk(&self, name: &str) -> Option<PathBuf> {
        self.directory.as_ref().filter(|_| self.disk_max_bytes > 0).map(|directory| directory.join(name))
    }
}

/// What was still in memory at the end of a spool, by collector.
#[derive(Debug, Default)]
pub struct Rest(Vec<Vec<Generation>>);

/// Numbers and encodes batches, and keeps them for each collector.
#[derive(Debug)]
pub struct Spool {
    last_sequence: AtomicU64,
    meaning: Arc<Mutex<Meaning>>,
    queues: Vec<Arc<Queue>>,
}

/// What a push did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Encoded size of the batch.
    pub bytes: usize,
    /// What had to go to make room for it.
    pub dropped_batches: u64,
}

/// Sample values in a batch.
pub(crate) fn samples(batch: &pb::Batch) -> u64 {
    batch.blocks.iter().flat_map(|block| &block.columns).map(|column| column.delta.len() as u64).sum()
}

/// Figures for the status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level {
    pub batches: usize,
    pub bytes: usize,
}

impl Spool {
    /// For so many collectors, one or two, with what an earlier spool had left.
    pub fn new(config: &Config, node: &str, collectors: usize, rest: Rest, metrics: &SpoolMetrics) -> std::io::Result<Self> {
        let hello = pb::Hello { node: node.into(), agent_version: env!("CARGO_PKG_VERSION").into(), ..Default::default() };
        let meaning = Arc::new(Mutex::new(Meaning { hello, ..Meaning::default() }));
        let limits = store::Limits { max_bytes: config.disk_max_bytes, max_age: config.max_age };
        let mut rest = rest.0.into_iter();
        let queue = |name: &'static str| {
            let metrics = metrics.of(name);
            let start = |directory| disk::Disk::start(directory, limits.clone(), metrics.clone());
            let disk = config.disk(name).map(start).transpose()?;
            Ok(Arc::new(Queue::new(config, disk, rest.next().unwrap_or_default(), meaning.clone(), metrics)))
        };
        let queues = NAMES.into_iter().take(collectors).map(queue).collect::<std::io::Result<_>>()?;
        Ok(Self { last_sequence: AtomicU64::new(0), meaning, queues })
    }

    /// One for each collector.
    pub(crate) fn queues(&self) -> &[Arc<Queue>] {
        &self.queues
    }

    fn meaning(&self) -> MutexGuard<'_, Meaning> {
        self.meaning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers the batch and keeps it; the oldest make room.
    pub fn push(&self, mut batch: pb::Batch) -> Pushed {
        batch.sequence = self.last_sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let samples = samples(&batch);
        let kept = Kept { sequence: batch.sequence, samples, bytes: batch.encode_to_vec().into(), at: Instant::now() };
        let dropped = self.queues.iter().map(|queue| queue.push(kept.clone())).sum();
        Pushed { bytes: kept.bytes.len(), dropped_batches: dropped }
    }

    /// What is known of node and driver.
    pub fn identify(&self, boot: String, driver_version: String, nvml_version: String) {
        let hello = &mut self.meaning().hello;
        (hello.boot, hello.driver_version, hello.nvml_version) = (boot, driver_version, nvml_version);
    }

    /// Adds to what is declared; ids keep their meaning.
    pub fn declare(&self, more: pb::Declare) {
        let mut meaning = self.meaning();
        let known = &meaning.declared;
        let news = |job: &pb::Job| !known.jobs.contains(job);
        if more.metrics.is_empty()
            && !more.jobs.iter().any(news)
            && more.entities.iter().all(|entity| known.entities.contains(entity))
        {
            return;
        }
        let declared = Arc::make_mut(&mut meaning.declared);
        for entity in more.entities {
            declared.entities.retain(|known| known.id != entity.id);
            declared.entities.push(entity);
        }
        declared.metrics.extend(more.metrics);
        for job in more.jobs {
            declared.jobs.retain(|known| known.id != job.id);
            declared.jobs.push(job);
        }
    }

    /// All collectors take what is live.
    pub(crate) fn is_connected(&self) -> bool {
        self.queues.iter().all(|queue| queue.is_connected())
    }

    /// Moves batches to disk in time, and tells how much there is.
    pub(crate) async fn tend(&self) -> Infallible {
        match &self.queues[..] {
            [one] => one.tend().await,
            [one, two] => tokio::select! { never = one.tend() => never, never = two.tend() => never },
            _ => std::future::pending().await,
        }
    }

    /// Waits until the collectors have everything that is live.
    pub(crate) async fn delivered(&self) {
        for queue in &self.queues {
            queue.delivered().await;
        }
    }

    /// Some of what is in memory can go to disk.
    pub(crate) fn has_disk(&self) -> bool {
        self.queues.iter().any(|queue| queue.disk.is_some())
    }

    /// Waits until everything in memory is on disk.
    pub(crate) async fn save(&self) {
        self.queues.iter().for_each(|queue| queue.end());
        for queue in &self.queues {
            if let Some(disk) = &queue.disk {
                queue.emptied().await;
                disk.sync().await;
            }
        }
    }

    /// Takes out what is in memory.
    pub(crate) fn take_rest(&self) -> Rest {
        Rest(self.queues.iter().map(|queue| queue.take_rest()).collect())
    }

    /// What waits for a collector in memory.
    pub(crate) fn in_memory(&self) -> Level {
        let mut level = Level::default();
        for (batches, bytes, _) in self.queues.iter().map(|queue| queue.memory()) {
            (level.batches, level.bytes) = (level.batches + batches, level.bytes + bytes);
        }
        level
    }

    /// What waits for a collector, on disk too.
    pub fn level(&self) -> Level {
        let mut level = Level::default();
        for queue in &self.queues {
            let alone = queue.in_memory_alone();
            level.batches += alone.batches + queue.metrics.disk_batches.get() as usize;
            level.bytes += alone.bytes + queue.metrics.disk_bytes.get() as usize;
        }
        level
    }
}
