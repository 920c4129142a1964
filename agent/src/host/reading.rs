//! What one look at the node gave, with its stamp.

use crate::reader::protocol::Part;
use gridstep_wire::Micros;
use gridstep_wire::catalog::{self, Rate};
use std::time::Instant;

/// How far a stamp that is taken beside its reading may be from it, microseconds.
const BESIDE_US: u32 = 1000;

/// Place in [`catalog::NODE`].
pub(super) const fn node(name: &str) -> u32 {
    catalog::index(catalog::NODE, name)
}

/// An instant, for differences and for stamps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Instant,
    /// Microseconds since the epoch.
    pub(super) us: i64,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), us: Micros::now().0 }
    }

    /// Seconds since an earlier one; never 0, so that rates stay finite.
    pub(super) fn seconds_since(self, earlier: Self) -> f64 {
        self.at.duration_since(earlier.at).as_secs_f64().max(1e-3)
    }
}

/// Values with one stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// When they were read or, of what is measured over a window, the centre of that; microseconds since the epoch.
    pub ts_us: i64,
    /// Bound on the error of the stamp, the clock's own aside.
    pub error_us: u32,
    /// `Rate::Slow`: what is read every so often only, and holds until then.
    pub rate: Rate,
    /// Places in [`catalog::NODE`], and integers.
    pub values: Vec<(u32, i64)>,
    pub parts: Vec<Part>,
}

impl Reading {
    /// Of values as they are at this moment.
    pub(super) fn at(moment: Moment) -> Self {
        Self { ts_us: moment.us, error_us: BESIDE_US, rate: Rate::Sweep, values: Vec::new(), parts: Vec::new() }
    }

    /// Of values over the time between two moments; the clock may have been set in between.
    pub(super) fn over(earlier: Moment, later: Moment) -> Self {
        let half_us = (later.seconds_since(earlier) * 5e5) as i64;
        Self { ts_us: later.us - half_us, ..Self::at(later) }
    }

    /// Of what a sensor averaged over a window that ended somewhere between two moments.
    pub(super) fn averaged(begun: Moment, ended: Moment, window_us: i64) -> Self {
        let half_us = (ended.seconds_since(begun) * 5e5) as i64;
        let error_us = u32::try_from(half_us + window_us / 2).unwrap_or(u32::MAX).saturating_add(BESIDE_US);
        Self { ts_us: ended.us - half_us - window_us / 2, error_us, ..Self::at(ended) }
    }

    pub(super) fn slow(self) -> Self {
        Self { rate: Rate::Slow, ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty() && self.parts.is_empty()
    }

    pub(super) fn put(&mut self, metric: u32, value: i64) {
        self.values.push((metric, value));
    }

    /// A share of 1, by its place.
    pub(super) fn put_ratio(&mut self, metric: u32, share: f64) {
        self.put(metric, (share.clamp(0.0, 1.0) * 1e4).round() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn stamps_are_centres() {
        let begun = Moment { at: Instant::now(), us: 10_000_000 };
        let ended = Moment { at: begun.at + Duration::from_secs(2), us: 12_000_000 };
        assert_eq!(Reading::over(begun, ended).ts_us, 11_000_000);
        let averaged = Reading::averaged(begun, ended, 1_000_000);
        assert_eq!((averaged.ts_us, averaged.error_us), (10_500_000, 1_501_000));
        // The clock was set back by an hour: the stamp is of the new time.
        let set = Moment { us: 12_000_000 - 3_600_000_000, ..ended };
        assert_eq!(Reading::over(begun, set).ts_us, 11_000_000 - 3_600_000_000);
    }
}
