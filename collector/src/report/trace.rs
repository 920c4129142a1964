//! Power over time in a bounded number of stretches: the longer the time, the longer each of them.

use super::Second;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// Stretches kept at most: more than a page is wide tell nothing.
const MOST: usize = 1200;

/// Some seconds together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    pub start: Micros,
    /// Seconds that are known of it.
    pub seconds: u32,
    pub mean_watts: f64,
    pub min_watts: f64,
    pub max_watts: f64,
    /// Mean and least of its seconds, 0 to 1.
    pub completeness: f64,
    pub least_completeness: f64,
}

impl Bucket {
    fn add(&mut self, other: &Self) {
        let (own, its) = (f64::from(self.seconds), f64::from(other.seconds));
        let mean = |a: f64, b: f64| (a * own + b * its) / (own + its).max(1.0);
        self.mean_watts = mean(self.mean_watts, other.mean_watts);
        self.completeness = mean(self.completeness, other.completeness);
        self.min_watts = self.min_watts.min(other.min_watts);
        self.max_watts = self.max_watts.max(other.max_watts);
        self.least_completeness = self.least_completeness.min(other.least_completeness);
        self.seconds += other.seconds;
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Seconds that a stretch is long.
    pub width: i64,
    /// In order; what is not known has none.
    pub buckets: Vec<Bucket>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { width: 1, buckets: Vec::new() }
    }
}

impl Trace {
    /// Seconds come in order.
    pub fn push(&mut self, second: &Second) {
        let share = f64::from(second.completeness);
        self.add(Bucket {
            start: second.at - 1_000_000,
            seconds: 1,
            mean_watts: f64::from(second.mean_watts),
            min_watts: f64::from(second.min_watts),
            max_watts: f64::from(second.max_watts),
            completeness: share,
            least_completeness: share,
        });
        if self.buckets.len() > MOST {
            self.width *= 2;
            std::mem::take(&mut self.buckets).into_iter().for_each(|bucket| self.add(bucket));
        }
    }

    fn add(&mut self, mut bucket: Bucket) {
        let width = self.width * 1_000_000;
        bucket.start = Micros(bucket.start.0.div_euclid(width) * width);
        match self.buckets.last_mut().filter(|last| last.start == bucket.start) {
            Some(last) => last.add(&bucket),
            None => self.buckets.push(bucket),
        }
    }

    /// All of it as one; None: nothing is known.
    pub fn whole(&self) -> Option<Bucket> {
        self.buckets.iter().copied().reduce(|mut all, bucket| {
            all.add(&bucket);
            all
        })
    }

    /// Stretches without a hole between them.
    pub fn runs(&self) -> impl Iterator<Item = &[Bucket]> {
        self.buckets.chunk_by(|a, b| b.start - a.start.0 == Micros(self.width * 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(index: i64, watts: f32) -> Second {
        let at = Micros((index + 1) * 1_000_000);
        Second { at, mean_watts: watts, min_watts: watts - 5.0, max_watts: watts + 5.0, completeness: 1.0, changes: [0.0; 3] }
    }

    #[test]
    fn a_long_time_takes_no_more_room_and_loses_no_extreme() {
        let mut trace = Trace::default();
        (0..100_000).for_each(|index| trace.push(&second(index, if index == 77_777 { 900.0 } else { 100.0 })));
        assert!(trace.buckets.len() <= MOST && trace.buckets.len() > MOST / 2, "{}", trace.buckets.len());
        let whole = trace.whole().unwrap();
        assert_eq!((whole.seconds, whole.max_watts, whole.min_watts), (100_000, 905.0, 95.0));
        assert!((whole.mean_watts - 100.008).abs() < 1e-3);
        assert_eq!(trace.runs().count(), 1);
    }

    #[test]
    fn a_hole_stays_a_hole() {
        let mut trace = Trace::default();
        (0..50).chain(80..100).for_each(|index| trace.push(&second(index, 100.0)));
        assert_eq!(trace.runs().map(<[Bucket]>::len).collect::<Vec<_>>(), [50, 20]);
    }
}
