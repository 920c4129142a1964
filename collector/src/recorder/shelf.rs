//! The files that are whole, oldest first, and which of them go.

use super::{RecorderError, failed};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    files: VecDeque<Shelved>,
    bytes: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shelved {
    /// When its set began, microseconds since the epoch.
    stamp: i64,
    /// A state goes before the rows that it is the begin of.
    is_rows: bool,
    name: String,
    bytes: u64,
}

impl Shelved {
    fn new(stamp: i64, name: String, bytes: u64) -> Self {
        Self { stamp, is_rows: !name.ends_with(".json"), name, bytes }
    }
}

impl Shelf {
    pub(super) fn open(folder: &Path) -> Result<Self, RecorderError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed(&folder.display()))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(stamp) = stamp(&name) {
                files.push(Shelved::new(stamp, name, entry.metadata().map_or(0, |metadata| metadata.len())));
            }
        }
        files.sort();
        let bytes = files.iter().map(|file| file.bytes).sum();
        Ok(Self { folder: folder.into(), files: files.into(), bytes })
    }

    pub(super) fn last_stamp(&self) -> Option<i64> {
        self.files.back().map(|file| file.stamp)
    }

    /// All of one set, whose stamp is the latest.
    pub(super) fn add(&mut self, name: &str, bytes: u64) {
        let Some(stamp) = stamp(name) else { return };
        self.files.push_back(Shelved::new(stamp, name.into(), bytes));
        self.bytes += bytes;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// The oldest go until the others fit; gives how many went. What cannot be removed is tried again.
    pub(super) fn retain(&mut self, max_bytes: u64, max_age: Duration, now: i64) -> Result<u64, RecorderError> {
        let oldest = now.saturating_sub(i64::try_from(max_age.as_micros()).unwrap_or(i64::MAX));
        let mut gone = 0;
        while let Some(file) = self.files.front() {
            if self.bytes <= max_bytes && file.stamp >= oldest {
                break;
            }
            match fs::remove_file(self.folder.join(&file.name)) {
                // Somebody else has moved it elsewhere.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&file.name)(error)),
                _ => {}
            }
            self.bytes -= file.bytes;
            self.files.pop_front();
            gone += 1;
        }
        Ok(gone)
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
        assert_eq!(shelf.retain(30, Duration::from_secs(1), 10).unwrap(), 1);
        assert!(!folder.path().join("state-3-0.json").exists(), "goes first: nothing of its set may be missing");
        assert_eq!(shelf.retain(20, Duration::from_secs(1), 10).unwrap(), 1);
        assert!(!folder.path().join("power-3-0.parquet").exists());
        shelf.add("power-2000000-0.parquet", 10);
        assert_eq!(shelf.retain(100, Duration::from_secs(1), 1_000_009).unwrap(), 1);
        assert_eq!((shelf.len(), shelf.bytes()), (2, 20));
        assert!(folder.path().join("gpu-000.parquet").exists(), "is not the recorder's");
    }
}
