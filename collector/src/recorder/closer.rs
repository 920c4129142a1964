//! Sets of files become part of the recording, in a thread of its own: a slow disk delays what is durable, and nothing else.

use super::journal::Journal;
use super::lane::{ASIDE, Aside};
use super::shelf::Shelf;
use super::{MarkMap, RecorderConfig, RecorderError, chain, failed};
use crate::metrics::RecorderMetrics;
use gridstep_wire::Micros;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{error, warn};

/// Between two attempts to name files that are part of the recording already.
const AGAIN: Duration = Duration::from_secs(1);

/// Files that are written together, and what is in the recording with them.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) files: Vec<Aside>,
    pub(super) marks: MarkMap,
}

/// What became of a set.
pub(super) type Closed = Result<Arc<MarkMap>, RecorderError>;

/// One set at a time.
#[derive(Debug)]
pub(super) struct Closer {
    sets: Option<SyncSender<Set>>,
    closed: Receiver<Closed>,
    thread: Option<JoinHandle<()>>,
    pub(super) is_busy: bool,
}

impl Closer {
    pub(super) fn start(shelving: Shelving) -> std::io::Result<Self> {
        let (sets, inbound) = sync_channel(1);
        let (outbound, closed) = sync_channel(1);
        let run = move || shelving.run(&inbound, &outbound);
        let thread = std::thread::Builder::new().name("recorder-closer".into()).spawn(run)?;
        Ok(Self { sets: Some(sets), closed, thread: Some(thread), is_busy: false })
    }

    pub(super) fn close(&mut self, set: Set) {
        // Fails where the thread has panicked; then nothing is durable any more, and the log says why.
        self.is_busy = self.sets.as_ref().is_some_and(|sets| sets.send(set).is_ok());
    }

    pub(super) fn closed(&mut self) -> Option<Closed> {
        let closed = self.closed.try_recv().ok()?;
        self.is_busy = false;
        Some(closed)
    }

    pub(super) fn wait(&mut self) -> Option<Closed> {
        let closed = self.is_busy.then(|| self.closed.recv().ok()).flatten();
        self.is_busy = false;
        closed
    }
}

impl Drop for Closer {
    /// Whoever comes after has the folder to itself.
    fn drop(&mut self) {
        self.sets = None;
        self.thread.take().map(JoinHandle::join);
    }
}

/// What the thread has.
#[derive(Debug)]
pub(super) struct Shelving {
    pub(super) folder: PathBuf,
    pub(super) config: RecorderConfig,
    pub(super) shelf: Shelf,
    pub(super) metrics: RecorderMetrics,
    /// As by a kill.
    pub(super) killed: Arc<AtomicBool>,
    /// Files go that are nowhere else.
    pub(super) is_losing: bool,
}

impl Shelving {
    fn run(mut self, inbound: &Receiver<Set>, outbound: &SyncSender<Closed>) {
        while let Ok(set) = inbound.recv() {
            let begun = Instant::now();
            let closed = self.close(set);
            self.metrics.close_seconds.observe(begun.elapsed().as_secs_f64());
            if self.killed.load(Ordering::Relaxed) || outbound.send(closed).is_err() {
                return;
            }
        }
    }

    fn close(&mut self, set: Set) -> Closed {
        let Set { files, marks } = set;
        let journal = Journal { marks, files: files.iter().map(|aside| aside.name.clone()).collect() };
        let sizes: Result<Vec<u64>, RecorderError> = files.iter().map(sync).collect();
        let committed = sizes.and_then(|sizes| {
            if self.killed.load(Ordering::Relaxed) {
                return Err(RecorderError::Killed);
            }
            journal.commit(&self.folder).map(|()| sizes)
        });
        let sizes = match committed {
            Ok(sizes) => sizes,
            Err(fault) => {
                for name in journal.files.iter().filter(|_| !matches!(fault, RecorderError::Killed)) {
                    // What stays goes at the next start.
                    let _ = std::fs::remove_file(self.folder.join(format!("{name}{ASIDE}")));
                }
                return Err(fault);
            }
        };
        self.name_files(&journal);
        for (aside, bytes) in files.iter().zip(sizes) {
            self.shelf.add(&aside.name, bytes);
            self.metrics.rows.inc_by(aside.rows);
            self.metrics.bytes.inc_by(bytes);
        }
        self.metrics.files.inc_by(files.len() as u64);
        self.retain();
        Ok(Arc::new(journal.marks))
    }

    /// They are part of the recording: it goes on until they have their names.
    fn name_files(&self, journal: &Journal) {
        let mut told = false;
        while let Err(fault) = journal.name_files(&self.folder) {
            if !std::mem::replace(&mut told, true) {
                error!(fault = %chain(&fault), "recorded files cannot be named, again each second");
            }
            if self.killed.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn retain(&mut self) {
        let gone = self.shelf.retain(self.config.max_bytes, self.config.max_age, Micros::now().0);
        if let Some(fault) = gone.fault {
            error!(fault = %chain(&fault), "recorded files that are too old cannot be removed");
        }
        let is_losing = gone.lost > 0;
        if is_losing && !self.is_losing {
            warn!(
                max_bytes = self.config.max_bytes,
                "recorded files are removed that are not in the object store yet: all are larger than they may be"
            );
        }
        self.is_losing = is_losing;
        self.metrics.removed_files.inc_by(gone.files);
        self.metrics.upload.lost_files.inc_by(gone.lost);
        self.metrics.disk_bytes.set(self.shelf.bytes() as i64);
        self.metrics.disk_files.set(self.shelf.len() as i64);
    }
}

/// Gives its size.
fn sync(aside: &Aside) -> Result<u64, RecorderError> {
    let size = || {
        aside.file.sync_all()?;
        Ok(aside.file.metadata()?.len())
    };
    size().map_err(failed(&aside.name))
}
