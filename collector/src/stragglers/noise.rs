//! How much a figure differs among healthy members, for each length of window: learned, not assumed.

use super::median;
use serde::{Deserialize, Serialize};

/// Looks until the memory is as long as it becomes.
const MEMORY: f64 = 150.0;
/// From this many members on, their spread of this very moment counts as well.
const MANY: usize = 12;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Noise {
    spread: f64,
    looks: f64,
}

/// The middle of the values, and their robust deviation from it.
pub fn spread(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    let middle = median(&mut sorted);
    sorted.iter_mut().for_each(|value| *value = (*value - middle).abs());
    (middle, 1.4826 * median(&mut sorted))
}

impl Noise {
    /// Learns from what healthy members show.
    pub fn learn(&mut self, spread: f64) {
        if spread.is_nan() {
            return;
        }
        self.looks = (self.looks + 1.0).min(MEMORY);
        // What is large counts at once, what is small slowly.
        let weight = if spread > self.spread { 2.0 / (self.looks + 1.0) } else { 1.0 / self.looks };
        self.spread += weight.min(1.0) * (spread - self.spread);
    }

    pub fn deviation(&self, now: f64, members: usize, floor: f64) -> f64 {
        let now = if members >= MANY || self.looks < 5.0 { now } else { 0.0 };
        self.spread.max(now).max(floor)
    }
}
