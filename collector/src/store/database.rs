//! The database file: opened, checked, brought to this program's schema. What is not sound is set aside.
//!
//! `synchronous = FULL`: a commit that has returned survives a loss of power, and so may be called durable.

use super::StoreError;
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const FILE: &str = "collector.db";
/// Where a database goes that cannot be read.
pub(super) const ASIDE: &str = "collector.db.unreadable";
/// What SQLite keeps beside it.
const BESIDE: [&str; 2] = ["-wal", "-shm"];
/// One after the other; how many of them a database has had is its `user_version`. They are never changed, only added to.
const STEPS: [&str; 2] = [include_str!("schema/1.sql"), include_str!("schema/2.sql")];
/// A person with sqlite3 may hold it for a moment.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is waiting to be moved into the database is cut back to this, bytes.
const LOG_BYTES: i64 = 4 << 20;

/// Why there is no connection.
enum Unsound {
    /// Its content: to be set aside.
    Content(String),
    Other(StoreError),
}

/// Opens the database of the folder for writing.
pub(super) fn open(folder: &Path) -> Result<Connection, StoreError> {
    let path = folder.join(FILE);
    match open_sound(&path) {
        Ok(database) => Ok(database),
        Err(Unsound::Other(fault)) => Err(fault),
        Err(Unsound::Content(fault)) => {
            let aside = set_aside(folder).map_err(|source| StoreError::SetAside { path: path.clone(), source })?;
            tracing::warn!(%fault, moved_to = %aside.display(), "store is unreadable: past incidents are not known");
            open_sound(&path).map_err(|unsound| match unsound {
                Unsound::Other(fault) => fault,
                Unsound::Content(fault) => StoreError::Unsound { path, fault },
            })
        }
    }
}

fn open_sound(path: &Path) -> Result<Connection, Unsound> {
    let failed = |fault: rusqlite::Error| match fault.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => Unsound::Content(fault.to_string()),
        _ => Unsound::Other(StoreError::Database { doing: "open", path: path.into(), source: fault }),
    };
    let mut database = Connection::open(path).map_err(failed)?;
    database.busy_timeout(PATIENCE).map_err(failed)?;
    let version = version(&database).map_err(failed)?;
    if version > STEPS.len() {
        return Err(Unsound::Other(StoreError::Newer { path: path.into(), version, known: STEPS.len() }));
    }
    database.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
    database.pragma_update(None, "synchronous", "full").map_err(failed)?;
    database.pragma_update(None, "journal_size_limit", LOG_BYTES).map_err(failed)?;
    let said: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if said != "ok" {
        return Err(Unsound::Content(said));
    }
    migrate(&mut database, version).map_err(failed)?;
    Ok(database)
}

fn version(database: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

/// Each step is there as a whole or not at all.
fn migrate(database: &mut Connection, from: usize) -> rusqlite::Result<()> {
    for (step, version) in STEPS.iter().zip(1i64..).skip(from) {
        let transaction = database.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

fn set_aside(folder: &Path) -> io::Result<PathBuf> {
    let aside = folder.join(ASIDE);
    for suffix in BESIDE.into_iter().rev().chain([""]) {
        let from = folder.join(format!("{FILE}{suffix}"));
        match fs::rename(from, folder.join(format!("{ASIDE}{suffix}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// A connection for questions alone: they do not hold up who writes.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    database.busy_timeout(PATIENCE)?;
    Ok(database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_an_older_version_is_brought_up() {
        let folder = tempfile::tempdir().unwrap();
        let older = Connection::open(folder.path().join(FILE)).unwrap();
        older.execute_batch(STEPS[0]).unwrap();
        older.pragma_update(None, "user_version", 1).unwrap();
        older.execute("INSERT INTO checkpoint VALUES (1, 'collector-7.state', 3, 5)", []).unwrap();
        drop(older);
        let database = open(folder.path()).unwrap();
        assert_eq!(version(&database).unwrap(), STEPS.len());
        let file: String = database.query_row("SELECT file FROM checkpoint", [], |row| row.get(0)).unwrap();
        assert_eq!(file, "collector-7.state");
        assert_eq!(database.query_row("SELECT count(*) FROM gap", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let newer = open(folder.path()).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        drop(newer);
        let text = open(folder.path()).unwrap_err().to_string();
        let known = STEPS.len();
        assert!(text.contains("collector.db") && text.contains("version 99") && text.contains(&known.to_string()), "{text}");
        assert!(!folder.path().join(ASIDE).exists());
    }

    #[test]
    fn what_is_no_database_or_a_broken_one_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(&path, vec![7; 8192]).unwrap();
        let database = open(folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join(ASIDE)).unwrap(), vec![7; 8192]);
        for number in 0..200 {
            database
                .execute("INSERT INTO learned VALUES ('gpu_offset', 'j', ?1, 0, 0.0, 0)", [format!("{number:0>200}")])
                .unwrap();
        }
        drop(database);
        // Pages of the table, but not the first.
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[end - 8192..].fill(0xA5);
        fs::write(&path, bytes).unwrap();
        let database = open(folder.path()).unwrap();
        assert_eq!(database.query_row("SELECT count(*) FROM learned", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }
}
