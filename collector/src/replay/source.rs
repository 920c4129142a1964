//! One file of a recording, read in the order of its stamps.

use super::ReplayError;
use super::chunk::{Chunk, wanted};
use super::files::Kind;
use super::numbers::{Known, Numbers};
use super::page::Places;
use crate::fleet::GpuMetric;
use crate::recorder::CREATOR;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::statistics::Statistics;
use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Rows that are read at once: of power, and of what has many columns.
const POWER_ROWS: usize = 65_536;
const CHUNK_ROWS: usize = 16_384;
/// Nothing arrives earlier than so long before its stamp, microseconds: a clock that is ahead by more brings its rows out of order.
const AHEAD_US: i64 = 500_000;

/// Rows are stored in the order of their stamps and wanted in that of their arrival: a row may go as soon as what is unread is stamped,
/// or known to have arrived, after its arrival.
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) path: PathBuf,
    pub(super) rows_total: u64,
    state: State,
    rows_read: u64,
    /// The latest stamp that was read: nothing unread is older. Of an unopened file its earliest.
    frontier: i64,
    /// By row group, where it ends in the file and when the first row from it on arrived, where the footer says so.
    arrivals: VecDeque<(u64, i64)>,
    /// What is read, in the order of arrival; so much of it has gone.
    waiting: Vec<Waiting>,
    gone: usize,
    /// To be used again.
    merged: Vec<Waiting>,
    /// What arrived up to then is known already.
    since: i64,
    /// Chunks with rows that wait; the number of the first one.
    chunks: VecDeque<(Arc<Chunk>, usize)>,
    first_chunk: u32,
    nodes: Known,
    jobs: Known,
}

/// A row: its place is (chunk, row), numbered from the file's begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiting {
    pub(super) arrival: i64,
    pub(super) chunk: u32,
    pub(super) row: u32,
}

enum State {
    Unopened,
    Open(ParquetRecordBatchReader),
    Exhausted,
}

impl Source {
    /// Reads the file's footer only.
    pub(super) fn new(kind: Kind, path: PathBuf, since: i64) -> Result<Self, ReplayError> {
        let builder = builder(&path)?;
        let rows_total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let frontier = minima(&builder, "ts").and_then(|minima| minima.into_iter().min()).unwrap_or(i64::MIN);
        let arrivals = arrivals(&builder).unwrap_or_default();
        Ok(Self {
            kind,
            path,
            rows_total,
            state: State::Unopened,
            rows_read: 0,
            frontier,
            arrivals,
            waiting: Vec::new(),
            gone: 0,
            merged: Vec::new(),
            since,
            chunks: VecDeque::new(),
            first_chunk: 0,
            nodes: Known::default(),
            jobs: Known::default(),
        })
    }

    /// Nothing unread arrives before this. None: all is read.
    pub(super) fn bound(&self) -> Option<i64> {
        if matches!(self.state, State::Exhausted) {
            return None;
        }
        let stated = self.arrivals.front().map_or(i64::MIN, |&(_, arrival)| arrival);
        Some(stated.max(self.frontier.saturating_sub(AHEAD_US)))
    }

    /// Reads some further rows.
    pub(super) fn load(&mut self, nodes: &mut Numbers, jobs: &mut Numbers) -> Result<(), ReplayError> {
        if let State::Unopened = self.state {
            self.state = State::Open(self.open()?);
            self.frontier = i64::MIN;
        }
        let State::Open(reader) = &mut self.state else { return Ok(()) };
        let Some(batch) = reader.next() else {
            self.state = State::Exhausted;
            return Ok(());
        };
        let batch = batch.map_err(|source| ReplayError::Rows { path: self.path.clone(), source })?;
        let mut chunk = Chunk::new(&batch, self.kind, &self.path, self.rows_read)?;
        let nodes = self.nodes.numbers(&chunk.node, nodes);
        let jobs = chunk.job.as_ref().map(|names| self.jobs.numbers(names, jobs)).unwrap_or_default();
        chunk.number(&nodes, jobs, &self.path)?;
        let waiting = self.wait(&chunk);
        self.frontier = chunk.ts.values().iter().copied().fold(self.frontier, i64::max);
        self.rows_read += chunk.rows as u64;
        while self.arrivals.front().is_some_and(|&(end, _)| end <= self.rows_read) {
            self.arrivals.pop_front();
        }
        self.chunks.push_back((Arc::new(chunk), waiting));
        Ok(())
    }

    /// Gives how many rows of the chunk are judged.
    fn wait(&mut self, chunk: &Chunk) -> usize {
        let number = self.first_chunk + self.chunks.len() as u32;
        let new: Vec<Waiting> =
            chunk.by_arrival(self.since).into_iter().map(|(arrival, row)| Waiting { arrival, chunk: number, row }).collect();
        let waiting = &self.waiting[self.gone..];
        let mut merged = std::mem::take(&mut self.merged);
        merged.clear();
        merge(waiting, &new, &mut merged);
        self.gone = 0;
        self.merged = std::mem::replace(&mut self.waiting, merged);
        new.len()
    }

    /// Rows that arrived before.
    pub(super) fn due(&self, until: i64) -> usize {
        self.waiting[self.gone..].partition_point(|row| row.arrival < until)
    }

    /// Takes them out, in the order of their arrival, those of the same instant in the order of the file.
    pub(super) fn take(&mut self, until: i64) -> Vec<Waiting> {
        let due = self.gone..self.gone + self.due(until);
        self.gone = due.end;
        self.waiting[due].to_vec()
    }

    /// Where rows that were taken are; lets go of chunks that no row waits in.
    pub(super) fn places(&mut self, rows: &[Waiting]) -> Places {
        let chunks = self.chunks.iter().map(|(chunk, _)| chunk.clone()).collect();
        let first = self.first_chunk;
        let places = rows.iter().map(|row| (row.chunk - first, row.row)).collect();
        for row in rows {
            self.chunks[(row.chunk - first) as usize].1 -= 1;
        }
        while self.chunks.front().is_some_and(|(_, left)| *left == 0) {
            self.chunks.pop_front();
            self.first_chunk += 1;
        }
        Places { chunks, rows: places }
    }

    /// All has gone.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Exhausted) && self.waiting.len() == self.gone
    }

    fn open(&self) -> Result<ParquetRecordBatchReader, ReplayError> {
        let builder = builder(&self.path)?;
        let schema = builder.schema().clone();
        // What a collector puts there its events say too, and that is what it has judged.
        let ours = builder.metadata().file_metadata().created_by().is_some_and(|by| by.starts_with(CREATOR));
        let is_wanted = |name: &str| wanted(self.kind, name) && !(ours && name == GpuMetric::Xid.name());
        let wanted = schema.fields().iter().enumerate().filter(|(_, field)| is_wanted(field.name()));
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(index, _)| index));
        let rows = if self.kind == Kind::Power { POWER_ROWS } else { CHUNK_ROWS };
        let reader = builder.with_projection(mask).with_batch_size(rows).build();
        reader.map_err(|source| ReplayError::Parquet { path: self.path.clone(), source })
    }
}

/// Both are in order; of rows that arrived at the same instant those that were read first come first.
fn merge(mut one: &[Waiting], mut other: &[Waiting], merged: &mut Vec<Waiting>) {
    merged.reserve(one.len() + other.len());
    while let (Some(first), Some(second)) = (one.first(), other.first()) {
        if first.arrival <= second.arrival {
            let run = one.iter().take_while(|row| row.arrival <= second.arrival).count();
            merged.extend_from_slice(&one[..run]);
            one = &one[run..];
        } else {
            let run = other.iter().take_while(|row| row.arrival < first.arrival).count();
            merged.extend_from_slice(&other[..run]);
            other = &other[run..];
        }
    }
    merged.extend_from_slice(one);
    merged.extend_from_slice(other);
}

fn builder(path: &PathBuf) -> Result<ParquetRecordBatchReaderBuilder<File>, ReplayError> {
    let file = File::open(path).map_err(|source| ReplayError::Open { path: path.clone(), source })?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|source| ReplayError::Parquet { path: path.clone(), source })
}

/// By row group, where it ends and when the first row from it on arrived.
fn arrivals(builder: &ParquetRecordBatchReaderBuilder<File>) -> Option<VecDeque<(u64, i64)>> {
    let mut minima = minima(builder, "arrived_at")?;
    for group in (1..minima.len()).rev() {
        minima[group - 1] = minima[group - 1].min(minima[group]);
    }
    let groups = builder.metadata().row_groups().iter().zip(minima);
    let ends = groups.scan(0, |end, (group, arrival)| {
        *end += u64::try_from(group.num_rows()).unwrap_or(0);
        Some((*end, arrival))
    });
    Some(ends.collect())
}

/// By row group, the column's least stamp, where the footer says so of all.
fn minima(builder: &ParquetRecordBatchReaderBuilder<File>, stamps: &str) -> Option<Vec<i64>> {
    use arrow_schema::{DataType::Timestamp, TimeUnit::Microsecond};
    let field = builder.schema().field_with_name(stamps).ok()?;
    if !matches!(field.data_type(), Timestamp(Microsecond, _)) {
        return None;
    }
    let column = builder.parquet_schema().columns().iter().position(|column| column.name() == stamps)?;
    let minima = builder.metadata().row_groups().iter().map(|group| {
        let column = group.column(column);
        match column.statistics() {
            // A row without it arrives at its stamp.
            Some(Statistics::Int64(statistics)) if !field.is_nullable() || stamps == "ts" => statistics.min_opt().copied(),
            _ => None,
        }
    });
    minima.collect()
}
