//! live ─▶ **store** (SQLite, and a file) ─▶ web
//!
//! What must survive the collector, in `state_dir`: incidents, for more than a year; the checkpoint of the judging, with what agents
//! have sent; what was learned of each GPU; and what was not seen during restarts.
//!
//! Two rules keep it whole, whenever the collector is killed:
//!
//! * A checkpoint counts when a transaction names its file. The same transaction brings every incident that the checkpoint knows
//!   of up to date: the incidents in the database are never behind it.
//! * A revision of an incident is a row before anybody is told of it. So the database may be ahead of the checkpoint, and a start
//!   gives the judging back what was told since ([`Judge::adopt`](crate::judge::Judge::adopt)): nothing that was told is taken
//!   back, and what agents bring again is the same incident again.
//!
//! All of it waits for the disk: it is called where nobody else waits.

mod config;
mod database;
mod files;
mod gap;
mod history;
mod learned;
#[cfg(test)]
mod measure;
mod told;

pub use config::StoreConfig;

pub(crate) use gap::Gap;
pub(crate) use history::History;
pub(crate) use told::{Told, Wanted};

use crate::incidents::book::KEEP_US;
use crate::judge::Lesson;
use crate::state::{Loaded, Snapshot};
use gridstep_wire::Micros;
use rusqlite::{Connection, OptionalExtension, params};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A predecessor that is dying holds the lock for a moment yet.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Lessons in a transaction.
const LESSONS: usize = 2_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("make state directory {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("lock state directory {0}: another collector holds it")]
    Locked(PathBuf),
    #[error(
        "open store {path}: its schema is version {version}, and this program knows versions up to {known}; run the program that wrote \
         it, or move the file away"
    )]
    Newer { path: PathBuf, version: usize, known: usize },
    #[error("open store {path}: {fault}")]
    Unsound { path: PathBuf, fault: String },
    #[error("{doing} store {path}")]
    Database { doing: &'static str, path: PathBuf, source: rusqlite::Error },
    #[error("read checkpoint {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("set aside the unreadable {path}")]
    SetAside { path: PathBuf, source: io::Error },
    #[error("write checkpoint {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("write checkpoint: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What was kept, at a start.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// None: there is none, or it is not understood.
    pub(crate) checkpoint: Option<Loaded>,
    /// Incidents that the judging's book may have, as they were told last; oldest first.
    pub(crate) told: Vec<Told>,
    pub(crate) learned: Vec<Lesson>,
}

/// The state directory; one collector at a time.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    writer: Mutex<Writer>,
    _lock: File,
}

#[derive(Debug)]
struct Writer {
    database: Connection,
    /// Of the checkpoint that counts. None: there is none, or it is one of before there was a database.
    number: Option<u64>,
    /// Of the last attempt.
    tried: u64,
}

impl Store {
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Directory { path: folder.into(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = lock(folder)?;
        let database = database::open(folder)?;
        let tried = files::numbers(folder).map_err(failed)?.last().copied().unwrap_or(0);
        let writer = Mutex::new(Writer { database, number: None, tried });
        Ok(Self { folder: folder.into(), writer, _lock: lock })
    }

    /// For questions.
    pub(crate) fn history(&self) -> History {
        History::new(&self.folder)
    }

    /// What the last run left.
    pub(crate) fn load(&self) -> Result<Kept, StoreError> {
        let mut writer = self.writer();
        let failed = |source| self.failed("read", source);
        let select = "SELECT file FROM checkpoint";
        let named: Option<String> = writer.database.query_row(select, [], |row| row.get(0)).optional().map_err(failed)?;
        let told = told::current(&writer.database, Micros::now() - KEEP_US).map_err(failed)?;
        let learned = learned::read(&writer.database).map_err(failed)?;
        let checkpoint = match named {
            Some(name) => {
                writer.number = files::number(&name);
                if !self.folder.join(&name).exists() {
                    tracing::warn!(file = name, "the checkpoint's file is gone: judging begins anew");
                }
                files::read(&self.folder, &name)?
            }
            None => self.without_a_row()?,
        };
        Ok(Kept { checkpoint, told, learned })
    }

    /// The database is new: of before there was one, or set aside. Whichever checkpoint is whole will do, the newest first.
    fn without_a_row(&self) -> Result<Option<Loaded>, StoreError> {
        let failed = |source| StoreError::Directory { path: self.folder.clone(), source };
        for number in files::numbers(&self.folder).map_err(failed)?.into_iter().rev() {
            if let Some(loaded) = files::read(&self.folder, &files::name(number))? {
                return Ok(Some(loaded));
            }
        }
        files::read(&self.folder, files::BEFORE)
    }

    /// Incidents as they are from now on.
    pub(crate) fn save(&self, told: &[Told]) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let mut save = || {
            let transaction = writer.database.transaction()?;
            told::write(&transaction, told)?;
            transaction.commit()
        };
        save().map_err(|source| self.failed("write", source))
    }

    /// Writes a checkpoint, and with it what is told of incidents; gives its size. After a crash there is the one before or this
    /// one. One at a time. Incidents are saved meanwhile: only naming it takes the database.
    pub(crate) fn checkpoint(&self, snapshot: &Snapshot, told: &[Told], lessons: bool) -> Result<u64, StoreError> {
        let number = {
            let mut writer = self.writer();
            writer.tried += 1;
            writer.tried
        };
        let bytes = files::write(&self.folder, number, snapshot)?;
        let mut writer = self.writer();
        let mut name = || {
            let transaction = writer.database.transaction()?;
            told::write(&transaction, told)?;
            let put = "INSERT OR REPLACE INTO checkpoint (one, file, bytes, written_at) VALUES (1, ?1, ?2, ?3)";
            transaction.execute(put, params![files::name(number), bytes as i64, Micros::now().0])?;
            transaction.commit()
        };
        let named = name().map_err(|source| self.failed("write", source));
        // A commit that failed may yet turn out to be there after a crash: its file stays until the next attempt.
        let before = writer.number.filter(|_| named.is_err());
        files::sweep(&self.folder, &[before.unwrap_or(number), number]);
        named?;
        writer.number = Some(number);
        // Of before there was a database: that has taken over.
        let _ = fs::remove_file(self.folder.join(files::BEFORE));
        drop(writer);
        if lessons && let Err(fault) = self.learn(&snapshot.judge.learned()) {
            tracing::warn!(%fault, "what was learned is in the checkpoint alone");
        }
        Ok(bytes)
    }

    /// Some at a time: incidents do not wait for all of it.
    fn learn(&self, lessons: &[Lesson]) -> rusqlite::Result<()> {
        for some in lessons.chunks(LESSONS) {
            let mut writer = self.writer();
            let transaction = writer.database.transaction()?;
            learned::write(&transaction, some, Micros::now())?;
            transaction.commit()?;
        }
        Ok(())
    }

    pub(crate) fn put_gap(&self, gap: &Gap) -> Result<(), StoreError> {
        gap::write(&self.writer().database, gap).map_err(|source| self.failed("write", source))?;
        Ok(())
    }

    /// Lets go of what closed before.
    pub(crate) fn forget(&self, before: Micros) -> Result<(), StoreError> {
        let writer = self.writer();
        let database = &writer.database;
        let forget = || {
            told::forget(database, before)?;
            gap::forget(database, before)?;
            learned::forget(database, before)
        };
        forget().map_err(|source| self.failed("write", source))?;
        Ok(())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Database { doing, path: self.folder.join(database::FILE), source }
    }
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::Directory { path: folder.into(), source };
    let lock = File::create(folder.join("collector.lock")).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(fs::TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_RETRY),
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Locked(folder.into())),
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests;
