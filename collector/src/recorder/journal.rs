//! The journal: which files belong together, and which batches are in them.
//!
//! The files of a set are written aside and synced; then the journal that names them replaces the one before, and with that they
//! are all part of the recording or none is. What a crash leaves without its name gets it at the next start.

use super::lane::ASIDE;
use super::{MarkMap, RecorderError, failed};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

const FILE: &str = "recorder.journal";
const UNREADABLE: &str = "recorder.journal.unreadable";
/// The last letter is the version.
const MAGIC: &[u8; 8] = b"GRIDREC1";
const HEADER_BYTES: usize = 8 + 4;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Up to where each node's batches are in the recording.
    pub(super) marks: MarkMap,
    /// The last set.
    pub(super) files: Vec<String>,
}

impl Journal {
    /// Makes the folder whole again, and gives what it holds.
    pub(super) fn recover(folder: &Path) -> Result<Self, RecorderError> {
        let journal = Self::load(folder)?;
        journal.name_files(folder)?;
        let entries = fs::read_dir(folder).map_err(failed(&folder.display()))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.ends_with(ASIDE)) {
                fs::remove_file(entry.path()).map_err(failed(&entry.path().display()))?;
            }
        }
        Ok(journal)
    }

    fn load(folder: &Path) -> Result<Self, RecorderError> {
        let bytes = match fs::read(folder.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(failed(&FILE)(source)),
        };
        if let Some(journal) = decode(&bytes) {
            return Ok(journal);
        }
        tracing::warn!(moved_to = UNREADABLE, "the recorder's journal is unreadable: batches may be recorded twice");
        fs::rename(folder.join(FILE), folder.join(UNREADABLE)).map_err(failed(&FILE))?;
        Ok(Self::default())
    }

    /// From here on the set is part of the recording. Fails only where it is not.
    pub(super) fn commit(&self, folder: &Path) -> Result<(), RecorderError> {
        let aside = folder.join(format!("{FILE}{ASIDE}"));
        let write = || {
            let mut bytes = vec![0; HEADER_BYTES];
            ciborium::into_writer(self, &mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
            let sum = crc32fast::hash(&bytes[HEADER_BYTES..]);
            bytes[..8].copy_from_slice(MAGIC);
            bytes[8..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
            let mut file = File::create(&aside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            // The files' entries are there before the journal that names them.
            sync_folder(folder)?;
            fs::rename(&aside, folder.join(FILE))
        };
        write().map_err(failed(&FILE))
    }

    /// Gives the files their names. Can be done again.
    pub(super) fn name_files(&self, folder: &Path) -> Result<(), RecorderError> {
        sync_folder(folder).map_err(failed(&folder.display()))?;
        for name in &self.files {
            match fs::rename(folder.join(format!("{name}{ASIDE}")), folder.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(name)(error)),
                _ => {}
            }
        }
        sync_folder(folder).map_err(failed(&folder.display()))
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn decode(bytes: &[u8]) -> Option<Journal> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    if &header[..8] != MAGIC || header[8..] != crc32fast::hash(body).to_le_bytes() {
        return None;
    }
    ciborium::from_reader(body).ok()
}
