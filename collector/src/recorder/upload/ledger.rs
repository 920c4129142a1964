//! What is in the object store already, a name a line, beside the files themselves: `uploaded.list`.
//!
//! A file is noted after it is there, so the list never says too much; what it misses (a kill in between, a list that cannot be written) is
//! copied again, as it was. It says where to: another destination begins another list.

use super::UploadError;
use crate::recorder::chain;
use crate::recorder::lane::ASIDE;
use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;
use tracing::warn;

const FILE: &str = "uploaded.list";
/// So many lines beyond twice of what it began with, and it is written anew without those of files that are gone.
const SPARE_LINES: usize = 4096;

#[derive(Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
    destination: String,
    /// None: it is to be opened.
    file: Option<tokio::fs::File>,
    lines: usize,
    most_lines: usize,
    is_failing: bool,
}

impl Ledger {
    /// Also gives what it holds. Fails where it cannot be read or written.
    pub(super) fn open(folder: &Path, destination: &str) -> Result<(Self, HashSet<String>), UploadError> {
        let names = rewrite(folder, destination).map_err(|source| UploadError::Ledger { file: folder.join(FILE), source })?;
        let (folder, destination) = (folder.into(), destination.into());
        let mut ledger = Self { folder, destination, file: None, lines: 0, most_lines: 0, is_failing: false };
        ledger.begin(names.len());
        Ok((ledger, names))
    }

    fn begin(&mut self, lines: usize) {
        (self.file, self.lines, self.most_lines) = (None, lines, 2 * lines + SPARE_LINES);
    }

    /// It is there. Where that cannot be noted a restart copies it again.
    pub(super) async fn note(&mut self, name: &str) {
        let noted = self.append(name).await;
        if let Err(fault) = &noted
            && !self.is_failing
        {
            warn!(fault = %chain(fault), "what is in the object store cannot be noted: a restart copies it again");
            self.file = None;
        }
        self.is_failing = noted.is_err();
    }

    async fn append(&mut self, name: &str) -> std::io::Result<()> {
        if self.lines >= self.most_lines {
            let (folder, destination) = (self.folder.clone(), self.destination.clone());
            let names = tokio::task::spawn_blocking(move || rewrite(&folder, &destination)).await??;
            self.begin(names.len());
        }
        let file = match &mut self.file {
            Some(file) => file,
            closed => {
                let mut options = tokio::fs::OpenOptions::new();
                closed.insert(options.append(true).open(self.folder.join(FILE)).await?)
            }
        };
        file.write_all(format!("{name}\n").as_bytes()).await?;
        file.flush().await?;
        self.lines += 1;
        Ok(())
    }
}

/// Without what is gone from the folder.
fn rewrite(folder: &Path, destination: &str) -> std::io::Result<HashSet<String>> {
    let text = match fs::read(folder.join(FILE)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let mut lines = text.lines();
    let is_there = |name: &&str| !name.is_empty() && !name.contains('/') && folder.join(name).exists();
    let names: HashSet<String> = match lines.next() {
        Some(noted) if noted == destination => lines.filter(is_there).map(str::to_owned).collect(),
        _ => HashSet::new(),
    };
    let aside = folder.join(format!("{FILE}{ASIDE}"));
    let mut file = std::io::BufWriter::new(fs::File::create(&aside)?);
    writeln!(file, "{destination}")?;
    for name in &names {
        writeln!(file, "{name}")?;
    }
    file.into_inner()?.sync_all()?;
    fs::rename(&aside, folder.join(FILE))?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, destination: &str) -> (Ledger, Vec<String>) {
        let (ledger, names) = Ledger::open(folder, destination).unwrap();
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort();
        (ledger, names)
    }

    #[tokio::test]
    async fn what_was_noted_is_known_later_as_long_as_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for name in ["a", "b", "c"] {
            fs::write(folder.join(name), name).unwrap();
        }
        let (mut ledger, names) = open(folder, "s3://x/");
        assert!(names.is_empty());
        for name in ["a", "b"] {
            ledger.note(name).await;
        }
        assert_eq!(open(folder, "s3://x/").1, ["a", "b"]);
        fs::remove_file(folder.join("a")).unwrap();
        // A torn end, as of a loss of power.
        let mut torn = fs::OpenOptions::new().append(true).open(folder.join(FILE)).unwrap();
        torn.write_all(b"c\n../b\npower-17").unwrap();
        assert_eq!(open(folder, "s3://x/").1, ["b", "c"]);
        assert!(open(folder, "s3://y/").1.is_empty(), "nothing is there");
        assert!(open(folder, "s3://x/").1.is_empty(), "it is another list since");
    }

    #[tokio::test]
    async fn it_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kept"), "").unwrap();
        let (mut ledger, _) = open(folder.path(), "s3://x/");
        ledger.note("kept").await;
        for number in 0..2 * SPARE_LINES {
            ledger.note(&format!("gone-{number}")).await;
        }
        let lines = fs::read_to_string(folder.path().join(FILE)).unwrap().lines().count();
        assert!(lines < SPARE_LINES + 4, "{lines}");
        assert_eq!(open(folder.path(), "s3://x/").1, ["kept"]);
    }

    #[tokio::test]
    async fn a_list_that_cannot_be_written_is_no_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        let (mut ledger, _) = open(folder.path(), "s3://x/");
        fs::remove_file(folder.path().join(FILE)).unwrap();
        ledger.note("a").await;
        assert!(ledger.is_failing);
        fs::write(folder.path().join(FILE), "s3://x/\n").unwrap();
        ledger.note("a").await;
        assert!(!ledger.is_failing);
        assert_eq!(open(folder.path(), "s3://x/").1, ["a"]);
    }
}
