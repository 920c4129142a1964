//! How far the sum moves within a window: how often, and the worst.

use super::Second;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// Bins on each side of zero.
const HALF: usize = 512;
/// Of each direction.
const WORST: usize = 5;
/// Changes that end closer to each other than this (or the window) are one, seconds.
const APART: f64 = 30.0;

/// The largest change within a window that ended at some second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub at: Micros,
    pub watts: f64,
    /// Share of the sources that the sum rested on then.
    pub completeness: f64,
}

/// Counts of values of unknown range in bins of one width, which doubles when a value does not fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    pub width: f64,
    /// From −512 widths to +512.
    pub counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { width: 1.0, counts: vec![0; 2 * HALF] }
    }
}

impl Histogram {
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        while value.abs() >= HALF as f64 * self.width {
            self.widen();
        }
        self.counts[(value / self.width + HALF as f64).floor() as usize] += 1;
    }

    fn widen(&mut self) {
        let old = std::mem::replace(&mut self.counts, vec![0; 2 * HALF]);
        for (place, count) in old.into_iter().enumerate() {
            let from_zero = (place as i64 - HALF as i64).div_euclid(2);
            self.counts[(from_zero + HALF as i64) as usize] += count;
        }
        self.width *= 2.0;
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// (from, to, count) of each bin.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64, u64)> + '_ {
        let edge = |place: usize| (place as f64 - HALF as f64) * self.width;
        self.counts.iter().enumerate().map(move |(place, &count)| (edge(place), edge(place + 1), count))
    }

    /// So large in either direction is at most what this share of the values is; to the width of a bin, upwards.
    pub fn magnitude(&self, share: f64) -> f64 {
        let by_size = |size: usize| self.counts[HALF + size] + self.counts[HALF - 1 - size];
        let wanted = share * self.total() as f64;
        let mut seen = 0;
        let reached = (0..HALF).find(|&size| {
            seen += by_size(size);
            seen as f64 >= wanted
        });
        (reached.unwrap_or(HALF - 1) + 1) as f64 * self.width
    }
}

/// Changes within one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    pub window_seconds: f64,
    pub histogram: Histogram,
    /// Largest first, of each direction: up, down.
    worst: [Vec<Change>; 2],
    /// What may still be part of a larger one.
    pending: [Option<Change>; 2],
}

impl Changes {
    pub fn new(window_seconds: f64) -> Self {
        Self { window_seconds, histogram: Histogram::default(), worst: Default::default(), pending: Default::default() }
    }

    pub fn push(&mut self, second: &Second, window: usize) {
        let watts = f64::from(second.changes[window]);
        self.histogram.push(watts);
        let change = Change { at: second.at, watts, completeness: f64::from(second.completeness) };
        let direction = usize::from(watts < 0.0);
        let apart = APART.max(self.window_seconds);
        let Some(before) = self.pending[direction] else {
            self.pending[direction] = Some(change);
            return;
        };
        if change.at.since(before.at) >= apart {
            keep(&mut self.worst[direction], before);
            self.pending[direction] = Some(change);
        } else if watts.abs() > before.watts.abs() {
            self.pending[direction] = Some(change);
        }
    }

    /// The worst in one direction (0: up, 1: down), largest first.
    pub fn worst(&self, direction: usize) -> Vec<Change> {
        let mut worst = self.worst[direction].clone();
        if let Some(pending) = self.pending[direction] {
            keep(&mut worst, pending);
        }
        worst
    }
}

fn keep(worst: &mut Vec<Change>, change: Change) {
    let place = worst.partition_point(|other| other.watts.abs() >= change.watts.abs());
    worst.insert(place, change);
    worst.truncate(WORST);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_grows_with_what_it_is_given() {
        let mut histogram = Histogram::default();
        (0..1000).for_each(|index| histogram.push(f64::from(index) - 500.0));
        histogram.push(1e6);
        assert_eq!(histogram.total(), 1001);
        assert!((histogram.magnitude(1.0) - 1e6).abs() <= histogram.width);
        let near = |share: f64| histogram.magnitude(share);
        assert!(near(0.5) <= 500.0 + histogram.width && near(0.99) <= 500.0 + histogram.width);
    }

    #[test]
    fn one_ramp_is_one_of_the_worst() {
        let mut changes = Changes::new(10.0);
        for index in 0..600i64 {
            // Rises by 90 W around 100 s, by 50 W around 300 s; falls by 70 W around 500 s.
            let near = |at: i64, watts: f32| if (index - at).abs() < 8 { watts - (index - at).abs() as f32 } else { 0.0 };
            let watts = near(100, 90.0) + near(300, 50.0) - near(500, 70.0);
            let at = Micros(index * 1_000_000);
            let second =
                Second { at, mean_watts: 0.0, min_watts: 0.0, max_watts: 0.0, completeness: 1.0, changes: [0.0, watts, 0.0] };
            changes.push(&second, 1);
        }
        let ups = changes.worst(0);
        assert_eq!((ups[0].watts, ups[0].at.0, ups[1].watts), (90.0, 100_000_000, 50.0));
        assert_eq!(changes.worst(1)[0].watts, -70.0);
    }
}
