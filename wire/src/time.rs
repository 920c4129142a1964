use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An instant: microseconds since the Unix epoch, UTC. All stamps of samples are of this type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    pub const MIN: Self = Self(i64::MIN);

    /// The wall clock. Only the edges call this; judging takes its instants as arguments.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds * 1e6).round() as i64)
    }

    /// Seconds since the epoch; exact to a microsecond until the year 2255.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Seconds from `earlier` to `self`; negative if `self` is the earlier one.
    pub fn since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }
}

/// Microseconds.
impl Add<i64> for Micros {
    type Output = Self;
    fn add(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// Microseconds.
impl Sub<i64> for Micros {
    type Output = Self;
    fn sub(self, micros: i64) -> Self {
        Self(self.0.saturating_sub(micros))
    }
}
