//! Up to which frequency something may be claimed, and what is left of an amplitude below it.

use super::history::BIN;
use crate::align::Sampling;
use crate::align::power::{interpolation_gain, sinc};
use serde::{Deserialize, Serialize};
use std::f64::consts::LN_2;

/// Share of a rate up to which is claimed.
const CLAIMED: f64 = 0.4;
/// sinc² of this is a half.
const HALF_LEFT: f64 = 0.44;
/// Phases whose mean is no more than this are spread: 20 dB.
const SPREAD: f64 = 0.1;
/// Window of the H100's power sensor, seconds (facts/power-swings.md §1.2).
const SENSOR_WINDOW: f64 = 0.025;

/// What the sensor's window, the age of its readings, interpolation and the clocks' errors leave of the amplitude.
pub fn gain(hertz: f64, sampling: Sampling) -> f64 {
    let clocks = (-2.0 * (std::f64::consts::PI * hertz * sampling.clock).powi(2)).exp();
    sinc(hertz * SENSOR_WINDOW).abs() * sinc(hertz * sampling.hold).abs() * interpolation_gain(hertz, sampling.typical) * clocks
}

/// Highest frequency that is claimed, and what does not allow more (facts/power-swings.md §1.3).
pub fn claim_limit(sampling: Sampling) -> f64 {
    claim(sampling).hertz
}

/// What keeps claims below a frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimReason {
    /// Bins of 100 ms.
    Bins,
    /// Samples are further apart than that, if at instants of their own.
    Sampling,
    /// Samples are further apart, and the sources are sampled at the same instants: all of them together resolve no more than one does.
    Phases,
    /// The clocks' errors leave less than half of an amplitude.
    Clocks,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Claim {
    pub hertz: f64,
    pub reason: ClaimReason,
}

/// The least of: 0.4 of the bins' rate, 4 Hz; of the slowest sources' rate 0.4, or 0.44, where interpolation leaves half of the amplitude, if the
/// sources' phases are spread, so that aliases are not; where the clocks' errors leave half of the amplitude.
pub fn claim(sampling: Sampling) -> Claim {
    // As fine as the bins, but for a jitter.
    let slowest = if sampling.slowest > 1.05 * BIN { sampling.slowest } else { 0.0 };
    let sampled = if sampling.phases > SPREAD { (CLAIMED, ClaimReason::Phases) } else { (HALF_LEFT, ClaimReason::Sampling) };
    let clocks = if sampling.clock > 0.0 { (LN_2 / 2.0).sqrt() / (std::f64::consts::PI * sampling.clock) } else { f64::INFINITY };
    let all = [(CLAIMED / BIN, ClaimReason::Bins), (sampled.0 / slowest, sampled.1), (clocks, ClaimReason::Clocks)];
    let least = all.into_iter().fold(all[0], |least, one| if one.0 < least.0 { one } else { least });
    Claim { hertz: least.0, reason: least.1 }
}

/// What is sampled at the same instants cannot tell a line of f hertz from one of rate − f hertz; hertz. None: the phases are spread, and what is
/// faster than half of the rate shows by less than a tenth. Those of sensors that are read as often as they publish are: each has its own.
pub fn alias(hertz: f64, sampling: Sampling) -> Option<f64> {
    let at_once = sampling.phases > SPREAD && sampling.typical > 1.5 * sampling.hold;
    (at_once && sampling.typical > 0.0).then(|| 1.0 / sampling.typical - hertz)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Sampling = Sampling { slowest: 0.1, typical: 0.1, hold: 0.1, clock: 0.0, phases: 0.05 };

    fn limit(sampling: Sampling) -> (f64, ClaimReason) {
        let Claim { hertz, reason } = claim(sampling);
        ((hertz * 100.0).round() / 100.0, reason)
    }

    #[test]
    fn nothing_is_claimed_above_what_bins_sampling_phases_and_clocks_allow() {
        assert_eq!(limit(FINE), (4.0, ClaimReason::Bins));
        // Finer samples do not make finer bins.
        assert_eq!(limit(Sampling { slowest: 0.02, typical: 0.02, ..FINE }), (4.0, ClaimReason::Bins));
        assert_eq!(limit(Sampling { slowest: 0.5, ..FINE }), (0.88, ClaimReason::Sampling));
        assert_eq!(limit(Sampling { slowest: 0.5, phases: 0.9, ..FINE }), (0.8, ClaimReason::Phases));
        // 50 ms leave half of the amplitude at 3.75 Hz, 100 ms at 1.87 Hz.
        assert_eq!(limit(Sampling { clock: 0.05, ..FINE }), (3.75, ClaimReason::Clocks));
        assert_eq!(limit(Sampling { clock: 0.1, ..FINE }), (1.87, ClaimReason::Clocks));
        assert!((gain(1.87, Sampling { clock: 0.1, ..FINE }) / gain(1.87, FINE) - 0.5).abs() < 0.01);
    }

    #[test]
    fn what_is_sampled_at_once_may_be_an_alias() {
        let together = Sampling { slowest: 2.0, typical: 2.0, phases: 1.0, hold: 0.0, ..FINE };
        assert!((alias(0.0915, together).unwrap() - 0.4085).abs() < 1e-9);
        assert_eq!(alias(0.0915, Sampling { phases: 0.1, ..together }), None);
        assert_eq!(alias(0.0915, Sampling { phases: 1.0, ..FINE }), None);
    }
}
