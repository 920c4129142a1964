//! `[recorder]` of the collector's configuration.

use super::UploadConfig;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file has its name within a minute of its first row: so much is left for writing and syncing it.
const LONGEST_ROLL: Duration = Duration::from_secs(50);
/// Shorter, and the files are little else than footers.
const SHORTEST_ROLL: Duration = Duration::from_millis(100);
/// Of a large fleet a state takes a second to write, and tens of megabytes.
const SHORTEST_STATE: Duration = Duration::from_secs(60);
const LEAST_BYTES: u64 = 1 << 20;

/// What of the samples is kept, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecorderConfig {
    /// Off as delivered: it takes a disk of its own size.
    pub enabled: bool,
    /// None: `recording` in the state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Files are closed this often; agents keep what they have sent until then.
    #[serde(with = "humantime_serde")]
    pub roll_interval: Duration,
    /// What the judging has learned is written so often: a replay may begin there.
    #[serde(with = "humantime_serde")]
    pub state_interval: Duration,
    /// The oldest files go when all of them are larger,
    pub max_bytes: u64,
    /// or when they are older.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Closed files are copied there.
    pub upload: UploadConfig,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            directory: None,
            roll_interval: Duration::from_secs(30),
            state_interval: Duration::from_secs(3600),
            max_bytes: 100 << 30,
            max_age: Duration::from_secs(30 * 24 * 3600),
            upload: UploadConfig::default(),
        }
    }
}

impl RecorderConfig {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(SHORTEST_ROLL..=LONGEST_ROLL).contains(&self.roll_interval) {
            faults.push("recorder.roll_interval: is not between 100ms and 50s".into());
        }
        if self.state_interval < SHORTEST_STATE {
            faults.push("recorder.state_interval: is shorter than 1min".into());
        }
        if self.max_bytes < LEAST_BYTES {
            faults.push(format!("recorder.max_bytes = {}: is less than {LEAST_BYTES}", self.max_bytes));
        }
        if self.max_age < LONGEST_ROLL {
            faults.push("recorder.max_age: is shorter than 50s".into());
        }
        if self.directory.as_ref().is_some_and(|directory| !directory.is_absolute()) {
            faults.push("recorder.directory: is no absolute path".into());
        }
        faults.extend(self.upload.faults());
        faults
    }

    pub(crate) fn folder(&self, state: &Path) -> PathBuf {
        self.directory.clone().unwrap_or_else(|| state.join("recording"))
    }
}
