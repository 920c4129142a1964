//! What is copied to the object store. Where none is configured all of it stays at nothing.

use super::{Counter, add};
use prometheus::{Gauge, IntCounter, IntGauge, Registry, Result};

#[derive(Debug, Clone)]
pub(crate) struct UploadMetrics {
    pub(crate) files: Counter,
    pub(crate) bytes: Counter,
    pub(crate) failures: IntCounter,
    pub(crate) failing: IntGauge,
    pub(crate) lost_files: Counter,
    pub(crate) pending_files: IntGauge,
    pub(crate) pending_bytes: IntGauge,
    pub(crate) oldest_pending_seconds: Gauge,
}

impl UploadMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let counter = |name: &str, help: &str| add(registry, Counter::new(format!("gridstep_upload_{name}"), help)?);
        let gauge = |name: &str, help: &str| add(registry, IntGauge::new(format!("gridstep_upload_{name}"), help)?);
        let failures = IntCounter::new("gridstep_upload_failures_total", "Attempts to copy a recorded file that failed.")?;
        let oldest = "Age of the oldest recorded file that is not in the object store; 0 where none is pending.";
        Ok(Self {
            files: counter("files_total", "Recorded files copied to the object store.")?,
            bytes: counter("bytes_total", "Size of the files copied to the object store.")?,
            failures: add(registry, failures)?,
            failing: gauge("failing", "1: the last attempt to copy a recorded file failed, and it is tried on.")?,
            lost_files: counter("lost_files_total", "Recorded files that were removed before they were in the object store.")?,
            pending_files: gauge("pending_files", "Recorded files that are not in the object store yet.")?,
            pending_bytes: gauge("pending_bytes", "Size of the recorded files that are not in the object store yet.")?,
            oldest_pending_seconds: add(registry, Gauge::new("gridstep_upload_oldest_pending_seconds", oldest)?)?,
        })
    }
}
