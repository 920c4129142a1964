//! What lies in a recording's folder.

use super::ReplayError;
use crate::recorder::stamp;
use std::fs;
use std::path::{Path, PathBuf};

/// What the rows of a file are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A GPU at one instant.
    Gpu,
    /// The power of a GPU, and nothing else.
    Power,
    Node,
    Event,
    /// A site meter at one instant.
    Meter,
    /// Any of the above, long after its time; its columns tell which.
    Late,
}

const PREFIXES: [(&str, Kind); 6] = [
    ("gpu-", Kind::Gpu),
    ("power-", Kind::Power),
    ("node-", Kind::Node),
    ("event-", Kind::Event),
    ("meter-", Kind::Meter),
    ("late-", Kind::Late),
];

/// The files of a recording, by kind and name: rows that arrive at the same instant are judged in this order.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) files: Vec<(Kind, PathBuf)>,
    pub(super) topology: Option<PathBuf>,
    /// What had been learned, `state-*.json`.
    pub(super) states: Vec<PathBuf>,
}

impl Recording {
    /// Leaves out the files of sets before that of the state.
    pub(super) fn begin_with(&mut self, state: &Path) {
        let stamp = |path: &Path| path.file_name().and_then(|name| stamp(name.to_str()?));
        let first = stamp(state);
        self.files.retain(|(_, path)| stamp(path).is_none() || stamp(path) >= first);
    }
}

pub(super) fn find(folder: &Path) -> Result<Recording, ReplayError> {
    let failed = |source| ReplayError::Folder { path: folder.into(), source };
    let mut files = Vec::new();
    let (mut topology, mut states) = (None, Vec::new());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name == "topology.csv" {
            topology = Some(path);
        } else if name.starts_with("state-") && name.ends_with(".json") {
            states.push(path);
        } else if let Some(kind) = kind(name) {
            files.push((kind, path));
        }
    }
    if files.iter().all(|(kind, _)| *kind == Kind::Event) {
        return Err(ReplayError::NoFiles(folder.into()));
    }
    files.sort();
    Ok(Recording { files, topology, states })
}

fn kind(name: &str) -> Option<Kind> {
    let stem = name.strip_suffix(".parquet")?;
    PREFIXES.iter().find(|(prefix, _)| stem.starts_with(prefix)).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        assert_eq!(kind("gpu-000.parquet"), Some(Kind::Gpu));
        assert_eq!(kind("late-7.parquet"), Some(Kind::Late));
        assert_eq!(kind("gpu-000.parquet.tmp"), None);
        assert_eq!(kind("meter-000.parquet"), Some(Kind::Meter));
        assert_eq!(kind("state-000.parquet"), None);
    }
}
