//! `[store]` of the collector's configuration.

use serde::{Deserialize, Serialize};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// `[store]`: what is kept of the past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Incidents that closed longer ago are let go of.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { max_age: 400 * DAY }
    }
}

impl StoreConfig {
    /// Every fault: its key and what would be right.
    pub(crate) fn faults(&self) -> Vec<String> {
        // The judging itself looks back a day.
        if self.max_age < 2 * DAY { vec!["store.max_age: is shorter than two days".into()] } else { Vec::new() }
    }
}
