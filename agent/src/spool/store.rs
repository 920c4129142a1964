//! queue ─▶ **store** (a directory)
//!
//! Batches on disk, in segments: files that each hold the begin of a stream (who speaks, what is declared) and batches of one
//! numbering in their order. The oldest segments go when the directory has its bytes or they have their age. Every call may block
//! as long as the disk does.
//!
//! What was appended survives a kill; what [`Store::sync`] has seen, a loss of power.

mod segment;

use super::message::Message;
use super::metrics::{QueueMetrics, Reason};
use super::queue::{Load, Meaning};
use super::record::{self, MAGIC};
use gridstep_wire::pb;
use segment::{Cursor, Segment};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A segment takes no more batches then, or at a quarter of what the directory may have.
const SEGMENT_BYTES: u64 = 1 << 20;
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);

#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) max_bytes: u64,
    pub(super) max_age: Duration,
}

/// The directory; one agent at a time.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    limits: Limits,
    metrics: QueueMetrics,
    /// Oldest first; with a writer the last is its.
    segments: VecDeque<Segment>,
    writer: Option<Writer>,
    cursor: Option<Cursor>,
    next_number: u64,
    _lock: File,
}

#[derive(Debug)]
struct Writer {
    file: File,
    declared: Arc<pb::Declare>,
    synced: bool,
}

impl Store {
    /// Takes up what lies in the directory.
    pub(super) fn open(directory: &Path, limits: Limits, metrics: QueueMetrics) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let lock = lock(directory)?;
        let mut store = Self {
            directory: directory.into(),
            limits,
            metrics,
            segments: VecDeque::new(),
            writer: None,
            cursor: None,
            next_number: 0,
            _lock: lock,
        };
        for (number, path) in store.files()? {
            store.next_number = number + 1;
            store.take_up(number, path)?;
        }
        store.report();
        Ok(store)
    }

    /// Numbers and paths of the segments, oldest first.
    fn files(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".segment"));
            if let Some(number) = name.and_then(|name| name.parse().ok()) {
                files.push((number, path));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// A segment of an earlier run.
    fn take_up(&mut self, number: u64, path: PathBuf) -> io::Result<()> {
        let file = fs::metadata(&path)?;
        let bytes = file.len();
        let newest = file.modified()?;
        let hello = Arc::default();
        let mut segment = Segment { number, path, hello, first: 0, last: 0, batches: 0, bytes, end: bytes, begun_us: 0, newest };
        if let Err(damage) = segment.look_through() {
            self.metrics.lost_bytes.inc_by(segment.cut(&damage));
        }
        if let Some(before) = self.segments.back().filter(|before| before.hello == segment.hello) {
            segment.hello = before.hello.clone();
        }
        if segment.batches > 0 {
            self.segments.push_back(segment);
        } else {
            segment.remove();
        }
        Ok(())
    }

    /// Keeps the batches that are not there yet. In an error none of them is kept.
    pub(super) fn append(&mut self, load: &Load, now: SystemTime) -> io::Result<()> {
        let spool = load.meaning.hello.spool;
        let known = self.segments.iter().rev().find(|segment| segment.hello.spool == spool).map_or(0, |segment| segment.last);
        let new = load.batches.iter().filter(|batch| batch.sequence > known);
        let new: Vec<Message> = new.map(|batch| Message::from(batch.bytes.clone())).collect();
        let (Some((first, made_us)), Some((last, _))) = (new.first().and_then(Message::name), new.last().and_then(Message::name))
        else {
            return Ok(());
        };
        let mut batches = Vec::new();
        new.iter().for_each(|batch| record::put(&mut batches, batch));
        self.make_room(batches.len() as u64);
        let full = SEGMENT_BYTES.min(self.limits.max_bytes / 4);
        if self.segments.back().is_some_and(|segment| segment.hello.spool != spool || segment.end >= full) {
            self.close();
        }
        let mut out = self.head(&load.meaning);
        out.append(&mut batches);
        if self.writer.is_none() {
            self.begin_segment(&load.meaning.hello, first, made_us)?;
        }
        let written = self.write(&out);
        let Some(segment) = self.segments.back_mut() else { return written };
        match written {
            Ok(()) => {
                (segment.last, segment.newest) = (last, now);
                segment.batches += new.len() as u64;
                segment.end += out.len() as u64;
                segment.bytes = segment.end;
                self.writer.iter_mut().for_each(|writer| writer.declared = load.meaning.declared.clone());
            }
            Err(_) => self.abandon(),
        }
        self.report();
        written
    }

    /// What has to stand before the next batches.
    fn head(&self, meaning: &Meaning) -> Vec<u8> {
        let mut head = Vec::new();
        if self.writer.is_none() {
            head.extend(MAGIC);
            record::put(&mut head, &Message::from(meaning.hello.clone()));
        }
        if self.writer.as_ref().is_none_or(|writer| !Arc::ptr_eq(&writer.declared, &meaning.declared)) {
            record::put(&mut head, &Message::from((*meaning.declared).clone()));
        }
        head
    }

    fn begin_segment(&mut self, hello: &pb::Hello, first: u64, begun_us: i64) -> io::Result<()> {
        let number = self.next_number;
        let path = self.directory.join(format!("{number:010}.segment"));
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        self.next_number += 1;
        self.writer = Some(Writer { file, declared: Arc::default(), synced: false });
        let (hello, newest) = (Arc::new(hello.clone()), SystemTime::UNIX_EPOCH);
        self.segments.push_back(Segment { number, path, hello, first, last: 0, batches: 0, bytes: 0, end: 0, begun_us, newest });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writer = self.writer.as_mut().ok_or(io::ErrorKind::NotFound)?;
        writer.synced = false;
        writer.file.write_all(bytes)
    }

    /// After a write that failed: the segment ends where it was whole.
    fn abandon(&mut self) {
        let (Some(writer), Some(segment)) = (self.writer.take(), self.segments.back()) else { return };
        // Where even that fails, reading ends there in this run, and at the torn record in the next.
        let _ = writer.file.set_len(segment.end);
        if segment.batches == 0 {
            segment.remove();
            self.segments.pop_back();
        }
    }

    /// Lets go of the oldest, if need be, so that so much more fits.
    fn make_room(&mut self, bytes: u64) {
        while self.bytes() + bytes > self.limits.max_bytes && !self.segments.is_empty() {
            self.drop_oldest(Reason::DiskFull);
        }
    }

    /// Lets go of what is too old.
    pub(super) fn expire(&mut self, now: SystemTime) {
        let max_age = self.limits.max_age;
        let is_old = |segment: &Segment| now.duration_since(segment.newest).is_ok_and(|age| age > max_age);
        while self.segments.front().is_some_and(is_old) {
            self.drop_oldest(Reason::TooOld);
        }
    }

    fn drop_oldest(&mut self, reason: Reason) {
        let Some(segment) = self.segments.pop_front() else { return };
        if self.segments.is_empty() {
            self.writer = None;
        }
        self.metrics.drop(reason, segment.batches, segment.samples());
        segment.remove();
        self.report();
    }

    /// The collector keeps everything of the numbering up to `sequence`: lets go of segments of which that is all.
    pub(super) fn durable(&mut self, spool: u64, sequence: u64) {
        let is_over = |segment: &Segment| segment.hello.spool == spool && segment.last <= sequence;
        if self.segments.back().is_some_and(is_over) {
            self.writer = None;
        }
        self.segments.iter().filter(|segment| is_over(segment)).for_each(|segment| segment.remove());
        self.segments.retain(|segment| !is_over(segment));
        self.report();
    }

    /// Who spoke, for the oldest batches that are of another numbering than `live`.
    pub(super) fn oldest(&self, live: u64) -> Option<pb::Hello> {
        let segment = self.segments.iter().find(|segment| segment.hello.spool != live)?;
        Some(pb::Hello { oldest_sequence: segment.first, ..(*segment.hello).clone() })
    }

    /// Some batches of the numbering after `sequence`, in their order, with what is declared before them; nothing after the last.
    /// `rewind`: what was declared earlier is not known any more.
    pub(super) fn read(&mut self, spool: u64, sequence: u64, rewind: bool) -> Vec<Message> {
        if rewind {
            self.cursor = None;
        }
        loop {
            let wanted = |segment: &Segment| segment.hello.spool == spool && segment.last > sequence;
            let Some(index) = self.segments.iter().position(wanted) else { return Vec::new() };
            let mut messages = Vec::new();
            let mut last = sequence;
            let read = self.segments[index].read(&mut self.cursor, &mut last, &mut messages);
            if read.is_err() || last == sequence {
                // There is no more in it.
                self.segments[index].last = last;
            }
            if let Err(damage) = read {
                self.metrics.lost_bytes.inc_by(self.segments[index].cut(&damage));
                if index == self.segments.len() - 1 {
                    self.writer = None;
                }
            }
            if last > sequence {
                return messages;
            }
        }
    }

    /// Makes what was appended survive a loss of power.
    pub(super) fn sync(&mut self) {
        let Some(writer) = self.writer.as_mut().filter(|writer| !writer.synced) else { return };
        let synced = writer.file.sync_data().and_then(|()| File::open(&self.directory)?.sync_all());
        match synced {
            Ok(()) => writer.synced = true,
            Err(error) => {
                self.metrics.failures.inc();
                tracing::warn!(directory = %self.directory.display(), %error, "the spool's disk does not say that it has written");
            }
        }
    }

    fn close(&mut self) {
        self.sync();
        self.writer = None;
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// When the oldest batch was made, microseconds since the epoch.
    pub(super) fn oldest_us(&self) -> Option<i64> {
        self.segments.front().map(|segment| segment.begun_us)
    }

    fn report(&self) {
        self.metrics.disk_bytes.set(self.bytes() as i64);
        self.metrics.disk_batches.set(self.segments.iter().map(|segment| segment.batches as i64).sum());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// A predecessor, in this process or another, may yet be about to end.
fn lock(directory: &Path) -> io::Result<File> {
    let lock = File::create(directory.join("lock"))?;
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Err(io::Error::new(io::ErrorKind::WouldBlock, "another agent uses it")),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => return Ok(lock),
        }
    }
}

#[cfg(test)]
mod tests;
