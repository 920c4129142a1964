//! Checkpoints as files beside the database: each is written whole under a name of its own, and the database says which one counts.
//!
//! They are no blobs in it, for they are large: of 16,384 GPUs some tens of megabytes every few seconds, which in SQLite's log
//! and then in its file would be written four times over.

use super::StoreError;
use crate::state::{self, Loaded, Snapshot};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// As it was called before there was a database.
pub(super) const BEFORE: &str = "collector.state";
/// Where one goes that cannot be read.
pub(super) const ASIDE: &str = "collector.state.unreadable";

pub(super) fn name(number: u64) -> String {
    format!("collector-{number}.state")
}

/// What [`name`] was made of.
pub(super) fn number(name: &str) -> Option<u64> {
    name.strip_prefix("collector-")?.strip_suffix(".state")?.parse().ok()
}

/// Numbers of the files that there are, the newest last.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        numbers.extend(entry?.file_name().to_str().and_then(number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Gives its size. After an error there is no such file.
pub(super) fn write(folder: &Path, number: u64, snapshot: &Snapshot) -> Result<u64, StoreError> {
    let path = folder.join(name(number));
    let write = || {
        let mut out = File::create(&path)?;
        let bytes = state::encode(snapshot, &mut out)?;
        out.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(bytes)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&path);
        StoreError::Write { path: path.clone(), source }
    })
}

/// None: there is no such file, or it was not understood and is set aside, for a person to look at.
pub(super) fn read(folder: &Path, name: &str) -> Result<Option<Loaded>, StoreError> {
    let path = folder.join(name);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Read { path, source }),
    };
    match state::decode(&bytes) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(fault) => {
            let aside = folder.join(ASIDE);
            fs::rename(&path, &aside).map_err(|source| StoreError::SetAside { path, source })?;
            tracing::warn!(%fault, moved_to = %aside.display(), "checkpoint is unreadable: judging begins anew");
            Ok(None)
        }
    }
}

/// Removes all but these. What cannot be removed is left: it is tried again each time.
pub(super) fn sweep(folder: &Path, keep: &[u64]) {
    let superseded = numbers(folder).unwrap_or_default().into_iter().filter(|number| !keep.contains(number)).map(name);
    for name in superseded {
        let _ = fs::remove_file(folder.join(name));
    }
}
