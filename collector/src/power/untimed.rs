//! Sources whose clocks are off: they are part of the sum, and say nothing of what is faster than their clocks are good.
//!
//! A source that is off by δ shows a line of frequency f with its phase turned by 2πfδ. Above f = [`TURN`] ÷ δ, and in any case above
//! [`FAST`], lines are measured on the sum of the others, scaled up to the whole.

use super::History;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Bins kept: 128 s.
const KEEP: usize = 1280;
/// Above this frequency they are left out, hertz (facts/power-swings.md §2).
const FAST: f64 = 1.0;
/// … or above that at which they are turned by so much of a cycle: cos 36° = 0.81.
const TURN: f64 = 0.1;
/// Where they draw more of the sum than this, the others do not stand for it.
const MOST: f64 = 0.5;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Untimed {
    /// In order.
    sources: Vec<u32>,
    /// Largest of their clocks' offsets, seconds.
    worst: f64,
    /// What they draw together, newest last; watts.
    watts: VecDeque<f32>,
}

impl Untimed {
    /// `sources`, in order, are off by `worst` seconds at most.
    pub fn set(&mut self, sources: Vec<u32>, worst: f64) {
        self.worst = worst;
        if self.sources != sources {
            self.sources = sources;
            self.watts.clear();
        }
    }

    /// Forgets the bins: what comes is not next to them.
    pub fn clear(&mut self) {
        self.watts.clear();
    }

    pub fn push(&mut self, watts: &[f32]) {
        if self.sources.is_empty() {
            return;
        }
        if self.watts.len() == KEEP {
            self.watts.pop_front();
        }
        self.watts.push_back(self.sources.iter().filter_map(|&source| watts.get(source as usize)).sum());
    }

    /// A source's value in the bin at this instant was off by so much, watts.
    pub fn amend(&mut self, history: &History, at: Micros, source: usize, watts: f32) {
        let index = self.watts.len().checked_sub(history.age(at) + 1);
        if let Some(index) = index.filter(|_| self.sources.binary_search(&(source as u32)).is_ok()) {
            self.watts[index] += watts;
        }
    }

    /// Nodes are left out above this frequency, hertz. None: no clock is off.
    pub fn from_hz(&self) -> Option<f64> {
        (!self.sources.is_empty()).then(|| (TURN / self.worst.max(1e-3)).min(FAST))
    }

    /// The newest bins of the sum for a line of this frequency: of the others, scaled up, where it takes that and they are known for so long.
    pub fn newest(&self, history: &History, bins: usize, hertz: f64) -> Vec<f64> {
        let whole: Vec<f64> = history.newest(bins).collect();
        if self.from_hz().is_none_or(|from| hertz <= from) || self.watts.len() < whole.len() {
            return whole;
        }
        let own = self.watts.range(self.watts.len() - whole.len()..).map(|&watts| f64::from(watts));
        let (total, left_out) = (whole.iter().sum::<f64>(), own.clone().sum::<f64>());
        if left_out > MOST * total {
            return whole;
        }
        let scale = total / (total - left_out);
        whole.iter().zip(own).map(|(whole, own)| (whole - own) * scale).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four sources swing at 2 Hz; the clock of one is off by a quarter of a second, which turns it round.
    #[test]
    fn what_is_fast_is_measured_without_them_and_what_is_slow_with_them() {
        let (mut history, mut untimed) = (History::default(), Untimed::default());
        untimed.set(vec![2], 0.25);
        for bin in 0..400 {
            let own = |source: usize| {
                let t = f64::from(bin) * 0.1 - if source == 2 { 0.25 } else { 0.0 };
                (100.0 + 10.0 * (std::f64::consts::TAU * 2.0 * t).sin()) as f32
            };
            let watts: Vec<f32> = (0..4).map(own).collect();
            untimed.push(&watts);
            history.push(Micros(i64::from(bin) * 100_000), watts.iter().map(|&watts| f64::from(watts)).sum(), 0.0, 1.0);
        }
        let swing = |hertz: f64| {
            let line = super::super::spectrum::at(&untimed.newest(&history, 200, hertz), 2.0, 4.0).unwrap();
            line.amplitude_watts()
        };
        assert!((swing(2.0) / 80.0 - 1.0).abs() < 0.01, "{} W", swing(2.0));
        assert!((swing(0.3) / 40.0 - 1.0).abs() < 0.01, "{} W of the whole", swing(0.3));
        untimed.set(Vec::new(), 0.0);
        assert_eq!(untimed.from_hz(), None);
    }
}
