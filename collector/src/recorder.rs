//! live ─▶ **recorder** (Parquet)
//!
//! Keeps every sample that agents send, in the files of a recording. A thread of its own turns batches into rows ([`desk`]), rows in
//! the order of their stamps into files ([`lane`]), and at each roll all files of that time into one set ([`closer`]), which becomes
//! part of the recording as a whole ([`journal`]). Only then its batches may be called durable.
//!
//! The judging does not wait for it: while its queue is full, or the disk, batches are not given to it, and agents keep them; when
//! it takes some again, the streams concerned are ended, and come back with what it has not ([`marks`]).

mod closer;
mod config;
mod desk;
mod journal;
mod lane;
mod learned;
mod marks;
#[cfg(test)]
mod measure;
mod names;
mod rows;
mod schema;
mod shelf;
mod upload;
mod writer;

pub use config::RecorderConfig;
pub(crate) use learned::{Head, Learned};
pub(crate) use marks::{Marks, Wanted};
pub(crate) use schema::CREATOR;
pub(crate) use shelf::stamp;
pub(crate) use upload::Upload;
pub use upload::UploadConfig;

use crate::ingest::{Decoded, Identity};
use crate::metrics::RecorderMetrics;
use closer::{Closer, Shelving};
use desk::Desk;
use gridstep_wire::Micros;
use journal::Journal;
use shelf::Shelf;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use upload::UploadError;
use writer::Writer;

/// What waits for the recorder: so many batches,
const QUEUE_BATCHES: usize = 16_384;
/// and so many values, some three seconds of 16,384 GPUs.
const QUEUE_VALUES: usize = 2 << 20;
/// A predecessor that is dying holds the lock for a moment yet.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// By node and numbering, the batches up to here.
pub(crate) type MarkMap = BTreeMap<String, Vec<(u64, u64)>>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RecorderError {
    #[error("recording to {file}")]
    File { file: String, source: io::Error },
    #[error("write {file}")]
    Write { file: String, source: Box<parquet::errors::ParquetError> },
    #[error("the recording in {0} belongs to another collector")]
    Locked(PathBuf),
    #[error("prepare to copy recorded files")]
    Upload(#[from] UploadError),
    #[error("the recorder was killed")]
    Killed,
}

fn failed(file: &impl ToString) -> impl Fn(io::Error) -> RecorderError {
    let file = file.to_string();
    move |source| RecorderError::File { file: file.clone(), source }
}

fn chain(fault: &dyn std::error::Error) -> String {
    std::iter::successors(fault.source(), |fault| fault.source())
        .fold(fault.to_string(), |text, fault| format!("{text}: {fault}"))
}

/// How the recorder is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// What the recording holds.
    pub(crate) marks: Arc<MarkMap>,
    /// Counts how often it has lost what was given to it since then.
    pub(crate) epoch: u64,
    /// False: the disk is full or fails.
    pub(crate) takes: bool,
}

/// A batch for the recorder.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) node: Arc<str>,
    pub(crate) spool: u64,
    pub(crate) backlog: bool,
    pub(crate) arrived_at: Micros,
    pub(crate) batch: Decoded,
    /// Of the standing that it was given under.
    pub(crate) epoch: u64,
    pub(crate) weight: usize,
}

impl Given {
    pub(crate) fn new(node: Arc<str>, spool: u64, backlog: bool, arrived_at: Micros, batch: Decoded) -> Self {
        let rows = batch.tables.iter().map(|table| table.rows.len() * (1 + table.columns.len()));
        let weight = 1 + rows.sum::<usize>() + batch.events.len();
        Self { node, spool, backlog, arrived_at, batch, epoch: 0, weight }
    }
}

enum Order {
    Boot { node: String, backlog: bool, boot: String },
    Identify { node: String, backlog: bool, gpus: Vec<Identity> },
    Batch(Box<Given>),
    Learn(Box<Learned>),
    Finish,
}

/// The live side's hold of the recorder. Dropped, all that is in no closed file is lost, as by a kill: call [`Recorder::finish`].
#[derive(Debug)]
pub(crate) struct Recorder {
    orders: Option<SyncSender<Order>>,
    waiting: Arc<AtomicUsize>,
    standing: watch::Receiver<Standing>,
    killed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    state_interval: Duration,
    upload: Option<Upload>,
}

impl Recorder {
    /// Makes the folder whole and goes on with what it holds. Fails where it could not be written.
    pub(crate) fn start(
        folder: &Path,
        config: RecorderConfig,
        topology: Option<&Path>,
        metrics: RecorderMetrics,
    ) -> Result<Self, RecorderError> {
        fs::create_dir_all(folder).map_err(failed(&folder.display()))?;
        let lock = lock(folder)?;
        let journal = Journal::recover(folder)?;
        // Whether it can be written must show at the start.
        journal.commit(folder)?;
        topology.map(|topology| copy(topology, folder)).transpose()?;
        let mut shelf = Shelf::open(folder)?;
        let last_stamp = shelf.last_stamp().unwrap_or(0);
        let upload = Upload::prepare(&config.upload, folder, &mut shelf, metrics.upload.clone())?;
        metrics.disk_bytes.set(shelf.bytes() as i64);
        metrics.disk_files.set(shelf.len() as i64);
        let marks = Arc::new(journal.marks);
        let state_interval = config.state_interval;
        let (standing, receiver) = watch::channel(Standing { marks: marks.clone(), epoch: 0, takes: true });
        let (waiting, killed): (Arc<AtomicUsize>, Arc<AtomicBool>) = Default::default();
        let shelving = Shelving {
            folder: folder.into(),
            config: config.clone(),
            shelf,
            metrics: metrics.clone(),
            killed: killed.clone(),
            is_losing: false,
        };
        let writer = Writer {
            folder: folder.into(),
            config,
            desk: Desk::new(folder, &marks),
            closer: Closer::start(shelving).map_err(failed(&folder.display()))?,
            metrics,
            standing,
            waiting: waiting.clone(),
            marks,
            last_stamp,
            learning: Vec::new(),
            begun: None,
            closing: None,
            failing: None,
            epoch: 0,
            _lock: lock,
        };
        let (orders, inbound) = sync_channel(QUEUE_BATCHES);
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || writer.run(&inbound));
        let thread = Some(thread.map_err(failed(&folder.display()))?);
        Ok(Self { orders: Some(orders), waiting, standing: receiver, killed, thread, state_interval, upload })
    }

    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    pub(crate) fn state_interval(&self) -> Duration {
        self.state_interval
    }

    /// What copies closed files elsewhere, if that is wanted: to be run.
    pub(crate) fn take_upload(&mut self) -> Option<Upload> {
        self.upload.take()
    }

    /// Values that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// There is room again.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting() < QUEUE_VALUES / 4
    }

    /// False: the queue is full. What it does not take is null in the recording.
    pub(crate) fn boot(&self, node: &str, backlog: bool, boot: &str) -> bool {
        self.order(Order::Boot { node: node.into(), backlog, boot: boot.into() })
    }

    /// As [`Self::boot`].
    pub(crate) fn identify(&self, node: String, backlog: bool, gpus: Vec<Identity>) -> bool {
        self.order(Order::Identify { node, backlog, gpus })
    }

    /// False: the queue is full, and it is not written.
    pub(crate) fn learn(&self, learned: Learned) -> bool {
        self.order(Order::Learn(Box::new(learned)))
    }

    /// False: the queue is full, and it is not taken.
    pub(crate) fn give(&self, given: Given) -> bool {
        let weight = given.weight;
        if self.waiting.fetch_add(weight, Ordering::Relaxed) > QUEUE_VALUES || !self.order(Order::Batch(Box::new(given))) {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn order(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.try_send(order).is_ok())
    }

    /// Closes the last files. Takes as long as the disk does.
    pub(crate) fn finish(mut self) {
        let orders = self.orders.take();
        let told = orders.is_some_and(|orders| orders.send(Order::Finish).is_ok());
        if let Some(thread) = self.thread.take().filter(|_| told) {
            // A panic has told of itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.orders.is_some() {
            self.killed.store(true, Ordering::Relaxed);
        }
    }
}

/// The topology, as it is now, beside the files.
fn copy(topology: &Path, folder: &Path) -> Result<(), RecorderError> {
    let aside = folder.join(format!("topology.csv{}", lane::ASIDE));
    let copy = || {
        fs::copy(topology, &aside)?;
        fs::rename(&aside, folder.join("topology.csv"))
    };
    copy().map_err(failed(&topology.display()))
}

fn lock(folder: &Path) -> Result<File, RecorderError> {
    let lock = File::create(folder.join("recorder.lock")).map_err(failed(&folder.display()))?;
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Err(RecorderError::Locked(folder.into())),
            Err(TryLockError::Error(source)) => return Err(failed(&folder.display())(source)),
        }
    }
}
