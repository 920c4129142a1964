//! The files that are whole, oldest first, and which of them go.

use super::upload::Pending;
use super::{RecorderError, failed};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    /// These may go.
    files: BTreeSet<Shelved>,
    /// These not yet. None: nothing is copied elsewhere.
    pending: Option<Arc<Pending>>,
    /// Of all.
    count: usize,
    bytes: u64,
}

/// A file, in the order in which they go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shelved {
    /// When its set began, microseconds since the epoch.
    pub(super) stamp: i64,
    /// A state goes before the rows that it is the begin of.
    is_rows: bool,
    pub(super) name: String,
    pub(super) bytes: u64,
}

impl Shelved {
    pub(super) fn new(stamp: i64, name: String, bytes: u64) -> Self {
        Self { stamp, is_rows: !name.ends_with(".json"), name, bytes }
    }
}

/// What went.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) files: u64,
    /// Of these, not copied yet.
    pub(super) lost: u64,
    /// Why there are not more. It is tried again the next time.
    pub(super) fault: Option<RecorderError>,
}

impl Shelf {
    pub(super) fn open(folder: &Path) -> Result<Self, RecorderError> {
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(folder).map_err(failed(&folder.display()))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(stamp) = stamp(&name) {
                files.insert(Shelved::new(stamp, name, entry.metadata().map_or(0, |metadata| metadata.len())));
            }
        }
        let bytes = files.iter().map(|file| file.bytes).sum();
        Ok(Self { folder: folder.into(), count: files.len(), files, pending: None, bytes })
    }

    /// From here on what is not copied stays as long as there is room for it.
    pub(super) fn hold(&mut self, is_copied: impl Fn(&str) -> bool) -> Arc<Pending> {
        let pending: Arc<Pending> = Arc::default();
        let (copied, others) = std::mem::take(&mut self.files).into_iter().partition(|file| is_copied(&file.name));
        self.files = copied;
        let others: BTreeSet<Shelved> = others;
        others.into_iter().for_each(|file| pending.add(file));
        self.pending = Some(pending.clone());
        pending
    }

    pub(super) fn last_stamp(&self) -> Option<i64> {
        self.files.last().map(|file| file.stamp)
    }

    pub(super) fn add(&mut self, name: &str, bytes: u64) {
        let Some(stamp) = stamp(name) else { return };
        self.bytes += bytes;
        self.count += 1;
        let file = Shelved::new(stamp, name.into(), bytes);
        match &self.pending {
            Some(pending) => pending.add(file),
            None => _ = self.files.insert(file),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The oldest go until the others fit. Those that are not copied yet go last, and only for want of room, not for their age.
    pub(super) fn retain(&mut self, max_bytes: u64, max_age: Duration, now: i64) -> Gone {
        let oldest = now.saturating_sub(i64::try_from(max_age.as_micros()).unwrap_or(i64::MAX));
        self.files.extend(self.pending.iter().flat_map(|pending| pending.take_released()));
        let mut gone = Gone::default();
        while let Some(file) = self.files.first().filter(|file| self.bytes > max_bytes || file.stamp < oldest).cloned() {
            self.files.remove(&file);
            if let Err(fault) = self.remove(&file) {
                self.files.insert(file);
                return Gone { fault: Some(fault), ..gone };
            }
            gone.files += 1;
        }
        while self.bytes > max_bytes {
            let Some((pending, file)) = self.pending.as_ref().and_then(|pending| Some((pending.clone(), pending.give_up()?)))
            else {
                break;
            };
            if let Err(fault) = self.remove(&file) {
                pending.add(file);
                return Gone { fault: Some(fault), ..gone };
            }
            (gone.files, gone.lost) = (gone.files + 1, gone.lost + 1);
        }
        gone
    }

    fn remove(&mut self, file: &Shelved) -> Result<(), RecorderError> {
        match fs::remove_file(self.folder.join(&file.name)) {
            // Somebody else has moved it elsewhere.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&file.name)(error)),
            _ => {}
        }
        self.bytes -= file.bytes;
        self.count -= 1;
        Ok(())
    }
}

/// Of a file that the recorder has written: `late-power-1760000000000000-0.parquet`.
pub(crate) fn stamp(name: &str) -> Option<i64> {
    let stem = name.strip_suffix(".parquet").or_else(|| name.strip_suffix(".json").filter(|stem| stem.starts_with("state-")))?;
    let stem = stem.strip_prefix("late-").unwrap_or(stem);
    let (_, rest) = stem.split_once('-')?;
    rest.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_files_go_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "state-3-0.json",
            "late-gpu-5-0.parquet",
            "power-3-0.parquet",
            "power-9-0.parquet",
            "gpu-000.parquet",
            "topology.csv",
        ] {
            fs::write(folder.path().join(name), [0; 10]).unwrap();
        }
        let mut shelf = Shelf::open(folder.path()).unwrap();
        assert_eq!((shelf.len(), shelf.bytes(), shelf.last_stamp()), (4, 40, Some(9)));
        assert_eq!(shelf.retain(30, Duration::from_secs(1), 10).files, 1);
        assert!(!folder.path().join("state-3-0.json").exists(), "goes first: nothing of its set may be missing");
        assert_eq!(shelf.retain(20, Duration::from_secs(1), 10).files, 1);
        assert!(!folder.path().join("power-3-0.parquet").exists());
        shelf.add("power-2000000-0.parquet", 10);
        assert_eq!(shelf.retain(100, Duration::from_secs(1), 1_000_009).files, 1);
        assert_eq!((shelf.len(), shelf.bytes()), (2, 20));
        assert!(folder.path().join("gpu-000.parquet").exists(), "is not the recorder's");
    }

    #[tokio::test]
    async fn what_is_not_copied_goes_last_and_never_for_its_age() {
        let folder = tempfile::tempdir().unwrap();
        for stamp in 1..=4 {
            fs::write(folder.path().join(format!("power-{stamp}-0.parquet")), [0; 10]).unwrap();
        }
        let mut shelf = Shelf::open(folder.path()).unwrap();
        let pending = shelf.hold(|name| name == "power-3-0.parquet");
        let there = |stamp: i64| folder.path().join(format!("power-{stamp}-0.parquet")).exists();
        let gone = shelf.retain(100, Duration::from_secs(1), 9_000_000);
        assert_eq!((gone.files, gone.lost), (1, 0));
        assert!(there(1) && there(2) && !there(3) && there(4));
        // There is no room: of those that wait the oldest one that is not being copied.
        let first = pending.next().await;
        let gone = shelf.retain(20, Duration::MAX, 9);
        assert_eq!((gone.files, gone.lost), (1, 1));
        assert!(there(1) && !there(2) && there(4));
        pending.release(first);
        shelf.add("power-5-0.parquet", 10);
        let gone = shelf.retain(20, Duration::MAX, 9);
        assert_eq!((gone.files, gone.lost), (1, 0));
        assert!(!there(1) && there(4));
        assert_eq!((shelf.len(), shelf.bytes()), (2, 20));
    }
}
