//! One file of a recording, its rows in the order of their arrival.

use super::ReplayError;
use super::chunk::{Chunk, wanted};
use super::files::Kind;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::path::PathBuf;

/// Rows that are read at once.
const CHUNK_ROWS: usize = 16_384;

/// Rows are stored in the order of their stamps and wanted in that of their arrival. Nothing arrives before its stamp, so
/// a row may go as soon as what is still unread is stamped after its arrival.
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) path: PathBuf,
    pub(super) rows_total: u64,
    state: State,
    /// Chunks with rows that have not gone; the number of the first one.
    chunks: VecDeque<(Chunk, usize)>,
    first_chunk: u64,
    rows_read: u64,
    /// (arrival, place in the file as chunk and row) of what is read and has not gone.
    waiting: BinaryHeap<Reverse<(i64, u64, u32)>>,
    /// The latest stamp that was read: nothing unread is older.
    frontier: i64,
}

enum State {
    /// Nothing in it is older (microseconds since the epoch).
    Unopened {
        earliest: i64,
    },
    Open(ParquetRecordBatchReader),
    Exhausted,
}

impl Source {
    /// Reads the file's footer only.
    pub(super) fn new(kind: Kind, path: PathBuf) -> Result<Self, ReplayError> {
        let builder = builder(&path)?;
        let metadata = builder.metadata();
        let rows_total = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
        let state = State::Unopened { earliest: earliest(&builder, metadata).unwrap_or(i64::MIN) };
        let (chunks, waiting) = Default::default();
        Ok(Self { kind, path, rows_total, state, chunks, first_chunk: 0, rows_read: 0, waiting, frontier: i64::MIN })
    }

    /// Nothing that is still to come arrives before this. None: nothing is to come.
    pub(super) fn bound(&self) -> Option<i64> {
        let head = self.waiting.peek().map(|Reverse((arrival, ..))| *arrival);
        match self.state {
            State::Unopened { earliest } => Some(earliest),
            State::Open(_) => Some(head.unwrap_or(i64::MAX).min(self.frontier)),
            State::Exhausted => head,
        }
    }

    /// Makes [`Self::bound`] the arrival of a row that is at hand.
    pub(super) fn prepare(&mut self) -> Result<(), ReplayError> {
        if let State::Unopened { .. } = self.state {
            self.state = State::Open(self.open()?);
        }
        while !matches!(self.state, State::Exhausted) && self.waiting.peek().is_none_or(|Reverse(row)| row.0 > self.frontier) {
            self.load()?;
        }
        Ok(())
    }

    /// The row of the earliest arrival, after [`Self::prepare`]: its chunk's number, the chunk, the place in it.
    pub(super) fn next(&mut self) -> Option<(u64, &Chunk, usize)> {
        let Reverse((_, number, row)) = self.waiting.pop()?;
        while self.chunks.front().is_some_and(|(_, left)| *left == 0) {
            self.chunks.pop_front();
            self.first_chunk += 1;
        }
        let (chunk, left) = self.chunks.get_mut(usize::try_from(number - self.first_chunk).ok()?)?;
        *left -= 1;
        Some((number, chunk, row as usize))
    }

    fn open(&self) -> Result<ParquetRecordBatchReader, ReplayError> {
        let builder = builder(&self.path)?;
        let schema = builder.schema().clone();
        let wanted = schema.fields().iter().enumerate().filter(|(_, field)| wanted(self.kind, field.name()));
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(index, _)| index));
        let reader = builder.with_projection(mask).with_batch_size(CHUNK_ROWS).build();
        reader.map_err(|source| ReplayError::Parquet { path: self.path.clone(), source })
    }

    fn load(&mut self) -> Result<(), ReplayError> {
        let State::Open(reader) = &mut self.state else { return Ok(()) };
        let Some(batch) = reader.next() else {
            self.state = State::Exhausted;
            return Ok(());
        };
        let batch = batch.map_err(|source| ReplayError::Rows { path: self.path.clone(), source })?;
        let chunk = Chunk::new(&batch, self.kind, &self.path, self.rows_read)?;
        let number = self.first_chunk + self.chunks.len() as u64;
        for row in 0..chunk.rows {
            self.waiting.push(Reverse((chunk.arrival(row), number, row as u32)));
            self.frontier = self.frontier.max(chunk.ts.value(row));
        }
        self.rows_read += chunk.rows as u64;
        let rows = chunk.rows;
        self.chunks.push_back((chunk, rows));
        Ok(())
    }
}

fn builder(path: &PathBuf) -> Result<ParquetRecordBatchReaderBuilder<File>, ReplayError> {
    let file = File::open(path).map_err(|source| ReplayError::Open { path: path.clone(), source })?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|source| ReplayError::Parquet { path: path.clone(), source })
}

/// The stamp that the file begins at, where its footer says so.
fn earliest(builder: &ParquetRecordBatchReaderBuilder<File>, metadata: &ParquetMetaData) -> Option<i64> {
    use arrow_schema::{DataType::Timestamp, TimeUnit::Microsecond};
    let field = builder.schema().field_with_name("ts").ok()?;
    if !matches!(field.data_type(), Timestamp(Microsecond, _)) {
        return None;
    }
    let column = builder.parquet_schema().columns().iter().position(|column| column.name() == "ts")?;
    let minima = metadata.row_groups().iter().map(|group| match group.column(column).statistics() {
        Some(Statistics::Int64(statistics)) => statistics.min_opt().copied(),
        _ => None,
    });
    minima.collect::<Option<Vec<i64>>>()?.into_iter().min()
}
