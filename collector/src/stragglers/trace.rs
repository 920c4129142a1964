//! The last minutes of one figure, second by second, so that the mean over any window costs two look-ups.

use serde::{Deserialize, Serialize};

/// Seconds that are kept.
pub const KEEP: usize = 256;
/// Sums beyond this lose what a second adds, in f32.
const LARGE: f32 = 64.0;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trace {
    /// Running sums, a ring; the newest at `count % KEEP`.
    sums: Vec<f32>,
    count: usize,
    sum: f32,
}

impl Default for Trace {
    fn default() -> Self {
        Self { sums: vec![0.0; KEEP], count: 0, sum: 0.0 }
    }
}

impl Trace {
    pub fn push(&mut self, value: f64) {
        self.hold();
        self.put(value);
    }

    /// One more second, of which nothing is known yet: it counts as zero.
    pub fn hold(&mut self) {
        self.count += 1;
        self.sums[self.count % KEEP] = self.sum;
    }

    /// What the newest second shows.
    pub fn put(&mut self, value: f64) {
        self.sum += value as f32;
        self.sums[self.count % KEEP] = self.sum;
        if self.sum.abs() > LARGE {
            let sum = std::mem::take(&mut self.sum);
            self.sums.iter_mut().for_each(|kept| *kept -= sum);
        }
    }

    pub fn len(&self) -> usize {
        self.count.min(KEEP - 1)
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn clear(&mut self) {
        (self.count, self.sum) = (0, 0.0);
        self.sums.fill(0.0);
    }

    /// Sum over the seconds `to..from` before now (`from` > `to`).
    pub fn sum(&self, from: usize, to: usize) -> f64 {
        let at = |back: usize| self.sums[(self.count + KEEP - back.min(self.len())) % KEEP];
        f64::from(at(to) - at(from))
    }

    /// Mean over the last `seconds`.
    pub fn mean(&self, seconds: usize) -> f64 {
        self.sum(seconds, 0) / seconds.max(1) as f64
    }

    /// Mean over the last `seconds`, which need not be whole: over whole steps.
    pub fn mean_of(&self, seconds: f64) -> f64 {
        let (whole, part) = (seconds.floor() as usize, seconds.fract());
        (self.sum(whole, 0) + part * self.sum(whole + 1, whole)) / seconds.max(1.0)
    }

    /// How many of `parts` equal stretches of the last `seconds` reach half of the whole's mean.
    pub fn steady(&self, seconds: usize, parts: usize) -> usize {
        let half = 0.5 * self.mean(seconds);
        let bound = |part: usize| seconds * part / parts;
        (0..parts)
            .filter(|&part| {
                let (to, from) = (bound(part), bound(part + 1));
                self.sum(from, to) >= half * (from - to) as f64
            })
            .count()
    }

    /// Seconds since the figure rose to the level that it has had over the last `window`.
    pub fn onset(&self, window: usize) -> usize {
        let half = 0.5 * self.mean(window);
        let rise = |&back: &usize| self.sum(back, 0) - half * back as f64;
        (1..=self.len()).max_by(|a, b| rise(a).total_cmp(&rise(b))).unwrap_or(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_the_onset_of_a_level() {
        let mut trace = Trace::default();
        (0..1000).for_each(|_| trace.push(0.01));
        (0..30).for_each(|_| trace.push(0.21));
        assert!((trace.mean(30) - 0.21).abs() < 1e-4);
        assert!((trace.mean(60) - 0.11).abs() < 1e-4);
        assert_eq!((trace.onset(20), trace.steady(30, 5)), (30, 5));
        // One high second is not steady.
        (0..10).for_each(|second| trace.push(if second == 3 { 1.0 } else { 0.0 }));
        assert_eq!(trace.steady(10, 5), 1);
    }
}
