//! What the recorder does. Without one all of it stays at nothing.

use super::{Counter, UploadMetrics, add};
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Registry, Result};

/// Bounds of the buckets for the time that a set of files takes, seconds.
const BUCKETS: [f64; 8] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

#[derive(Debug, Clone)]
pub(crate) struct RecorderMetrics {
    pub(crate) rows: Counter,
    pub(crate) bytes: Counter,
    pub(crate) files: Counter,
    pub(crate) removed_files: Counter,
    pub(crate) states: Counter,
    pub(crate) failures: IntCounter,
    pub(crate) failing: IntGauge,
    pub(crate) deferred_batches: IntCounter,
    pub(crate) lost_batches: Counter,
    pub(crate) queue_values: IntGauge,
    pub(crate) unclosed_seconds: Gauge,
    pub(crate) close_seconds: Histogram,
    pub(crate) disk_bytes: IntGauge,
    pub(crate) disk_files: IntGauge,
    pub(crate) upload: UploadMetrics,
}

impl RecorderMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let counter = |name: &str, help: &str| add(registry, Counter::new(format!("gridstep_recorder_{name}"), help)?);
        let integer = |name: &str, help: &str| add(registry, IntCounter::new(format!("gridstep_recorder_{name}"), help)?);
        let gauge = |name: &str, help: &str| add(registry, IntGauge::new(format!("gridstep_recorder_{name}"), help)?);
        let unclosed = "Age of the oldest batch that is in no closed file: agents keep it so long.";
        let close = HistogramOpts::new("gridstep_recorder_close_seconds", "Time to sync and name a set of files.");
        Ok(Self {
            rows: counter("rows_total", "Rows in closed files.")?,
            bytes: counter("bytes_total", "Size of closed files.")?,
            files: counter("files_total", "Files closed.")?,
            removed_files: counter("removed_files_total", "Files removed: too old, or beyond what all may take.")?,
            states: counter("states_total", "States of the judging that were written beside the rows.")?,
            failures: integer("failures_total", "Files that could not be written; agents bring again what was in them.")?,
            failing: gauge("failing", "1: nothing can be written, and it is tried every 5 s.")?,
            deferred_batches: integer(
                "deferred_batches_total",
                "Batches that were not recorded as they came: the queue was full, or the disk. Agents bring them again.",
            )?,
            lost_batches: counter("lost_batches_total", "Batches that an agent let go of before they were recorded.")?,
            queue_values: gauge("queue_values", "Values that wait for the recorder.")?,
            unclosed_seconds: add(registry, Gauge::new("gridstep_recorder_unclosed_seconds", unclosed)?)?,
            close_seconds: add(registry, Histogram::with_opts(close.buckets(BUCKETS.to_vec()))?)?,
            disk_bytes: gauge("disk_bytes", "Size of the recording on disk.")?,
            disk_files: gauge("disk_files", "Files of the recording on disk.")?,
            upload: UploadMetrics::new(registry)?,
        })
    }
}
