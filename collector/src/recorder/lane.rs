//! Rows of one kind on their way into files: in the order of their stamps, or long after their time.

use super::names::Names;
use super::rows::Rows;
use super::schema::Kind;
use super::{RecorderError, failed};
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A row that is behind what came by so much is still put in its place, microseconds.
const WINDOW_US: i64 = 2_000_000;

/// Ends the names of files that are not whole.
pub(super) const ASIDE: &str = ".aside";

/// A file that is written and has not got its name.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) file: File,
    /// Without [`ASIDE`].
    pub(super) name: String,
    pub(super) rows: u64,
}

#[derive(Debug)]
pub(super) struct Lane {
    kind: Kind,
    late: bool,
    folder: PathBuf,
    pub(super) rows: Rows,
    /// What was written last: nothing older can follow in this file.
    pub(super) frontier: i64,
    open: Option<Open>,
    written: Vec<Aside>,
}

struct Open {
    writer: ArrowWriter<File>,
    name: String,
    rows: u64,
}

impl Lane {
    pub(super) fn new(kind: Kind, late: bool, folder: &Path) -> Self {
        let rows = Rows::new(kind, late);
        Self { kind, late, folder: folder.into(), rows, frontier: i64::MIN, open: None, written: Vec::new() }
    }

    /// More rows are not kept in memory.
    fn most_rows(&self) -> usize {
        let rows = if self.kind == Kind::Power { 1 << 20 } else { 1 << 17 };
        if self.late { rows / 4 } else { rows }
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= self.most_rows()
    }

    /// Writes what nothing older is expected before. What is late is written when it is much: a file of its own then.
    pub(super) fn drain(&mut self, arrived_at: i64, stamp: i64, names: &mut Names) -> Result<(), RecorderError> {
        let full = self.is_full();
        if self.late {
            return if full { self.close(stamp, names) } else { Ok(()) };
        }
        let order = self.rows.order();
        let due = order.partition_point(|&row| self.rows.ts(row) < arrived_at - WINDOW_US);
        let due = if full { due.max(order.len() / 2) } else { due };
        self.write(&order[..due], stamp, names)?;
        self.rows.keep(&order[due..]);
        Ok(())
    }

    /// Writes all that there is, and ends the file.
    pub(super) fn close(&mut self, stamp: i64, names: &mut Names) -> Result<(), RecorderError> {
        let order = self.rows.order();
        self.write(&order, stamp, names)?;
        self.rows.clear();
        self.frontier = i64::MIN;
        let Some(Open { writer, name, rows }) = self.open.take() else { return Ok(()) };
        match writer.into_inner() {
            Ok(file) => self.written.push(Aside { file, name, rows }),
            Err(source) => {
                self.remove(&name);
                return Err(RecorderError::Write { file: name, source: source.into() });
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self) -> Vec<Aside> {
        std::mem::take(&mut self.written)
    }

    /// Gives up what is not whole: agents bring it again.
    pub(super) fn abandon(&mut self) {
        let open = self.open.take().map(|open| open.name);
        let written = std::mem::take(&mut self.written).into_iter().map(|aside| aside.name);
        open.into_iter().chain(written).for_each(|name| self.remove(&name));
        self.rows.clear();
        self.frontier = i64::MIN;
    }

    /// What stays goes at the next start.
    fn remove(&self, name: &str) {
        let _ = std::fs::remove_file(self.folder.join(format!("{name}{ASIDE}")));
    }

    fn write(&mut self, order: &[u32], stamp: i64, names: &mut Names) -> Result<(), RecorderError> {
        let Some(&last) = order.last() else { return Ok(()) };
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(stamp)?,
        };
        let batch = self.rows.batch(order, &names.array());
        let written = batch.map_err(parquet::errors::ParquetError::from).and_then(|batch| open.writer.write(&batch));
        let result = written.map_err(|source| RecorderError::Write { file: open.name.clone(), source: source.into() });
        open.rows += order.len() as u64;
        self.frontier = self.rows.ts(last);
        self.open = Some(open);
        result
    }

    fn begin(&self, stamp: i64) -> Result<Open, RecorderError> {
        let (late, part) = (if self.late { "late-" } else { "" }, self.written.len());
        let name = format!("{late}{}{stamp}-{part}.parquet", self.kind.prefix());
        let file = File::create(self.folder.join(format!("{name}{ASIDE}"))).map_err(failed(&name))?;
        let writer = ArrowWriter::try_new(file, self.rows.schema(), Some(self.kind.properties()));
        let writer = writer.map_err(|source| RecorderError::Write { file: name.clone(), source: source.into() })?;
        Ok(Open { writer, name, rows: 0 })
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Open").field("name", &self.name).field("rows", &self.rows).finish_non_exhaustive()
    }
}
