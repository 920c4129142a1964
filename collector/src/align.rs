//! ingest, replay ─▶ **align** ─▶ power, stragglers
//!
//! Samples carry their own stamps; here, and only here, they become bins. [`power`] puts the power of each source on a grid of
//! 100 ms, [`seconds`] everything else on a grid of 1 s. Both finish a bin when every source that still speaks has passed it,
//! or when its deadline is over; what comes later is counted and not used.
//!
//! All of it is a function of event time and of the time of arrival: the deadlines are looked at on a fixed grid of arrival
//! times ([`TICK_US`]), so that it does not matter how often the caller lets time pass.

pub mod power;
pub mod ring;
pub mod seconds;

use serde::{Deserialize, Serialize};

/// Width of a power bin, microseconds.
pub const BIN_US: i64 = 100_000;
/// Arrival times at which bins are finished, microseconds.
pub const TICK_US: i64 = 100_000;

/// `[align]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlignConfig {
    /// A bin waits this long for sources that are behind; seconds after its end. Facts: a healthy agent is 0.35 s behind.
    pub watermark_seconds: f64,
}

impl Default for AlignConfig {
    fn default() -> Self {
        Self { watermark_seconds: 3.0 }
    }
}

impl AlignConfig {
    pub fn watermark_us(&self) -> i64 {
        (self.watermark_seconds * 1e6) as i64
    }
}

/// How finely sources are sampled, seconds between samples; 0: not known yet.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sampling {
    /// Of the slowest source: nothing is claimed that it could not carry.
    pub slowest: f64,
    /// Root of the mean square of all: what [`power::interpolation_gain`] of a sum goes by, being 1 − (πfT)²/3 at first.
    pub typical: f64,
    /// How old a reading may be when it is stamped, at random: a sensor that publishes every so often, read at any time, seconds.
    pub hold: f64,
}
