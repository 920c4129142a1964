//! The store as who asks sees it: by a connection of its own, so that a long answer holds up nobody who writes.

use super::gap::{self, Gap};
use super::told::{self, Wanted};
use super::{StoreError, database};
use crate::incidents::Incident;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Waits for the disk: ask it where nobody else waits.
#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    database: Mutex<Option<Connection>>,
}

impl History {
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join(database::FILE), database: Mutex::default() }
    }

    /// At most `limit` incidents, the newest of them, newest last.
    pub(crate) fn incidents(&self, wanted: &Wanted, limit: usize) -> Result<Vec<Incident>, StoreError> {
        self.ask(|database| told::find(database, wanted, limit))
    }

    /// The last restarts, newest last.
    pub(crate) fn gaps(&self, limit: usize) -> Result<Vec<Gap>, StoreError> {
        self.ask(|database| gap::list(database, limit))
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = || {
            if database.is_none() {
                *database = Some(database::open_to_read(&self.path)?);
            }
            database.as_ref().map_or(Err(rusqlite::Error::InvalidQuery), question)
        };
        ask().map_err(|source| StoreError::Database { doing: "ask", path: self.path.clone(), source })
    }
}
