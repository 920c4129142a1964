//! How much of its time a GPU is occupied with its own work: from SM activity and utilisation, or, without GPM, from its power.

use crate::align::seconds::Second;
use crate::fleet::GpuMetric;
use serde::{Deserialize, Serialize};

/// SM activity of a GPU that spins in a collective: 24 of 132 SMs (facts/stragglers.md §2).
pub const SPINNING: f64 = 0.18;
/// SM activity of a GPU that computes.
pub const COMPUTING: f64 = 0.92;
/// Power of a board that spins, and that computes, as shares of its limit: an H100 of 700 W takes 150 and 550 (same section). Where [`Dwell`] begins.
const SPINNING_POWER: f32 = 0.21;
const COMPUTING_POWER: f32 = 0.79;
/// The limit of a board that tells none, watts.
const LIMIT: f32 = 700.0;
/// Samples with which the two levels follow.
const FOLLOW: f32 = 1.0 / 200.0;

/// Share of the second spent computing, 0 to 1: SM activity between spinning and computing.
pub fn busy(sm_active: f64) -> f64 {
    ((sm_active - SPINNING) / (COMPUTING - SPINNING)).clamp(0.0, 1.0)
}

/// Computing and, besides, no kernel at all (its host is late): the share in which the GPU made others wait, or would have.
/// The rest is communication and waiting.
pub fn with_gap(busy: f64, utilization: f64) -> f64 {
    let host_gap = if utilization.is_nan() { 0.0 } else { (1.0 - utilization).clamp(0.0, 1.0) };
    (busy + host_gap).min(1.0)
}

/// Share of the second that the GPU computed, by what it has: SM activity, or how long its power dwelt above the middle.
pub fn of(second: &Second, gpu: usize) -> Option<f64> {
    let value = |metric: usize| second.column(metric).get(gpu).copied().filter(|value| !value.is_nan());
    value(GpuMetric::SmActive as usize).map(busy).or_else(|| value(DWELL))
}

/// The column of seconds that holds it, after those of [`GpuMetric`].
pub const DWELL: usize = GpuMetric::COUNT;

/// The two levels between which a GPU's power goes up and down within a step. Spinning and computing differ by a factor of three
/// or more, so a sample is one or the other; at which level it computes (its clock) does not matter.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Dwell {
    /// Both 0: the board's limit is not known yet.
    low: f32,
    high: f32,
}

impl Dwell {
    /// Whether it computes, by one sample. `limit`: the board's power limit, watts; NaN: not known.
    pub fn take(&mut self, watts: f32, limit: f32) -> bool {
        if self.high == 0.0 && limit > 0.0 {
            (self.low, self.high) = (SPINNING_POWER * limit, COMPUTING_POWER * limit);
        }
        if self.high == 0.0 {
            return watts > 0.5 * LIMIT;
        }
        let computes = watts > (self.low + self.high) / 2.0;
        let level = if computes { &mut self.high } else { &mut self.low };
        *level += FOLLOW * (watts - *level);
        computes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_what_is_neither_computing_nor_a_late_host() {
        assert_eq!(with_gap(busy(SPINNING), 1.0), 0.0);
        assert_eq!(with_gap(busy(COMPUTING), 1.0), 1.0);
        assert_eq!(with_gap(busy(0.0), 0.0), 1.0);
        assert!((with_gap(busy(0.55), 0.95) - 0.55).abs() < 1e-9);
    }

    #[test]
    fn power_dwells_at_two_levels_whatever_they_are() {
        for (limit, high, low) in [(700.0, 420.0, 190.0), (400.0, 330.0, 95.0), (1000.0, 820.0, 330.0)] {
            let mut dwell = Dwell::default();
            let computed = (0..4000).filter(|sample| dwell.take(if sample % 10 < 7 { high } else { low }, limit)).count();
            assert_eq!(computed, 2800, "{limit}");
            // Not before the limit is known.
            assert!(!Dwell::default().take(low, f32::NAN) && Dwell::default().take(420.0, f32::NAN));
            assert!((dwell.high - high).abs() < 1.0 && (dwell.low - low).abs() < 2.0);
        }
    }
}
