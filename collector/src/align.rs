//! ingest, replay ─▶ **align** ─▶ power, stragglers
//!
//! Samples carry their own stamps; here, and only here, they become bins. [`power`] puts the power of each source on a grid of
//! 100 ms, [`seconds`] everything else on a grid of 1 s. Both finish a bin when every source that still speaks has passed it,
//! or when its deadline is over; what comes later is counted and not used. Bins of power are judged before they are final, and
//! put right until they are.
//!
//! All of it is a function of event time and of the time of arrival: the deadlines are looked at on a fixed grid of arrival
//! times ([`TICK_US`]), so that it does not matter how often the caller lets time pass.

pub mod calibration;
pub mod clocks;
mod imputation;
pub mod power;
pub mod ring;
pub mod seconds;
mod sources;

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
    /// A bin of power that half of the sources or more are in is judged after so long, seconds after its end, and put right until it is
    /// final. At once, if 99 % of them are in it.
    pub provisional_seconds: f64,
}

impl Default for AlignConfig {
    fn default() -> Self {
        Self { watermark_seconds: 3.0, provisional_seconds: 0.6 }
    }
}

impl AlignConfig {
    pub fn watermark_us(&self) -> i64 {
        (self.watermark_seconds * 1e6) as i64
    }

    pub fn provisional_us(&self) -> i64 {
        (self.provisional_seconds.min(self.watermark_seconds) * 1e6) as i64
    }

    /// Every fault: its key and what would be right.
    pub fn faults(&self) -> Vec<String> {
        let named = [("watermark_seconds", self.watermark_seconds), ("provisional_seconds", self.provisional_seconds)];
        let wrong = named.into_iter().filter(|(_, value)| !(0.0..=45.0).contains(value));
        wrong.map(|(key, value)| format!("align.{key} = {value}: must be seconds, 45 at most")).collect()
    }
}

/// How finely sources are sampled, seconds between samples; 0: not known yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Of the slowest source: nothing is claimed that it could not carry.
    pub slowest: f64,
    /// Root of the mean square of all: what [`power::interpolation_gain`] of a sum goes by, being 1 − (πfT)²/3 at first.
    pub typical: f64,
    /// How old a reading may be when it is stamped, at random: a sensor that publishes every so often, read at any time, seconds.
    pub hold: f64,
    /// Root of the mean square of the clocks' errors, seconds.
    pub clock: f64,
    /// |mean exp(2πi t ÷ T)| of the sources' stamps t, T being [`Self::typical`]: 1 where all are sampled at the same instants, about 0 where they are
    /// spread over the period. What is sampled at once shows what is faster than half of its rate as something slower; what is spread leaves this
    /// share of it (facts/power-swings.md §1.3).
    #[serde(default)]
    pub phases: f64,
}
