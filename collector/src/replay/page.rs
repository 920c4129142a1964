//! Rows in the order of their arrival, as the judging takes them.

use super::chunk::{Chunk, Numbers};
use crate::fleet::GpuMetric;
use arrow_array::Array;
use std::sync::Arc;

/// In [`Gpus::jobs`]: the row does not say, or says that there is none.
pub(super) const NOT_SAID: u32 = u32::MAX;
pub(super) const IDLE: u32 = u32::MAX - 1;

/// Some of the rows of all files.
#[derive(Default)]
pub(super) struct Page {
    /// In the order of arrival.
    pub(super) runs: Vec<Run>,
    pub(super) parts: Vec<Part>,
    /// Names that have been met for the first time: they have the next numbers.
    pub(super) nodes: Vec<Arc<str>>,
    pub(super) jobs: Vec<Arc<str>>,
}

/// The next rows of a part, which have arrived at the same instant.
pub(super) struct Run {
    /// Microseconds since the epoch.
    pub(super) arrival: i64,
    pub(super) part: u32,
    pub(super) rows: u32,
}

/// Rows of one file.
pub(super) enum Part {
    Gpus(Gpus),
    Others(Places),
}

/// Of files that are about GPUs alone, by column.
pub(super) struct Gpus {
    /// Number of the node × 256 + the GPU's index.
    pub(super) gpus: Vec<u32>,
    /// Microseconds since the epoch.
    pub(super) ts: Vec<i64>,
    /// Empty: the file does not have it. NaN: not known.
    pub(super) power: Vec<f64>,
    /// Numbers of names. Empty: the file does not say.
    pub(super) jobs: Vec<u32>,
    /// NaN: not known.
    pub(super) metrics: Vec<(GpuMetric, Vec<f64>)>,
    /// Where UUIDs and models are.
    pub(super) names: Option<Places>,
}

/// Rows as they are in the file.
pub(super) struct Places {
    pub(super) chunks: Vec<Arc<Chunk>>,
    /// Chunk and row.
    pub(super) rows: Vec<(u32, u32)>,
}

impl Places {
    pub(super) fn get(&self, row: usize) -> (&Chunk, usize) {
        let (chunk, row) = self.rows[row];
        (&self.chunks[chunk as usize], row as usize)
    }

    /// One value of each row, by its chunk's column.
    fn gather<'a, C, T>(&'a self, column: impl Fn(&'a Chunk) -> C, value: impl Fn(&C, usize) -> T) -> Vec<T> {
        let columns: Vec<C> = self.chunks.iter().map(|chunk| column(chunk)).collect();
        self.rows.iter().map(|&(chunk, row)| value(&columns[chunk as usize], row as usize)).collect()
    }
}

impl Gpus {
    /// Of rows that all say which GPU they are about.
    pub(super) fn gather(places: Places) -> Self {
        let any = |has: fn(&Chunk) -> bool| places.chunks.iter().any(|chunk| has(chunk));
        let (has_power, has_jobs) = (any(|chunk| chunk.power.is_some()), any(|chunk| chunk.job.is_some()));
        let gpus = places.gather(Chunk::gpu_numbers, |numbers, row| numbers[row]);
        let ts = places.gather(|chunk| chunk.ts.values(), |ts, row| ts[row]);
        let power = has_power.then(|| places.gather(|chunk| chunk.power.as_ref(), |power, row| figure(*power, row)));
        let jobs = has_jobs.then(|| places.gather(|chunk| chunk, |chunk, row| chunk.job_number(row)));
        let is_there = |metric: &&GpuMetric| places.chunks.iter().any(|chunk| chunk.gpu_metric(**metric).is_some());
        let of = |metric: GpuMetric| places.gather(|chunk| chunk.gpu_metric(metric), |column, row| figure(*column, row));
        let metrics = GpuMetric::ALL.iter().filter(is_there).map(|&metric| (metric, of(metric))).collect();
        Self {
            gpus,
            ts,
            power: power.unwrap_or_default(),
            jobs: jobs.unwrap_or_default(),
            metrics,
            names: any(|chunk| chunk.has_identity()).then_some(places),
        }
    }
}

#[inline]
fn figure(column: Option<&Numbers>, row: usize) -> f64 {
    column.filter(|column| column.is_valid(row)).map_or(f64::NAN, |column| column.values()[row])
}
