//! What the sum would do if its sources had nothing to do with each other.
//!
//! Y_k = Σᵢ ±pᵢ with fixed random signs, for a few k: if the sources are independent, Y_k moves as the sum does, whatever the colour
//! of their noise; what they do together cancels. So a swing of the sum is measured in units of what independence gives.

use super::history::BIN;
use super::spectrum;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Sign-randomised sums.
pub const SUMS: usize = 16;
/// Bins kept: 128 s.
const KEEP: usize = 1280;

/// The last two minutes of the sign-randomised sums.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Signed {
    /// Newest last.
    bins: VecDeque<[f32; SUMS]>,
}

impl Signed {
    /// Takes the sources' watts in the newest bin.
    pub fn push(&mut self, watts: &[f32]) {
        if self.bins.len() == KEEP {
            self.bins.pop_front();
        }
        self.bins.push_back(signed_sums(watts));
    }

    pub fn len(&self) -> usize {
        self.bins.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    /// Mean of |Σ Y_k(t) e^(−2πift)|² over the newest `bins` bins, their linear trends taken off; watts² · bins².
    pub fn power_at(&self, bins: usize, hertz: f64) -> f64 {
        let start = self.bins.len() - bins.min(self.bins.len());
        let power = |sum: usize| {
            let values: Vec<f64> = self.bins.range(start..).map(|sums| f64::from(sums[sum])).collect();
            spectrum::demodulate(&spectrum::without_trend(&values), hertz).norm_sqr()
        };
        (0..SUMS).map(power).sum::<f64>() / SUMS as f64
    }

    /// Root mean square of Y_k about its mean, over the `seconds` that end `skip` bins before the newest; watts. None: not that much
    /// is known.
    pub fn deviation(&self, skip: usize, seconds: f64) -> Option<f64> {
        let end = self.bins.len().checked_sub(skip)?;
        let start = end.checked_sub((seconds / BIN) as usize)?;
        let count = (end - start) as f64;
        let variance = |sum: usize| {
            let (total, squares) = self.bins.range(start..end).fold((0.0, 0.0), |(total, squares), sums| {
                let value = f64::from(sums[sum] - self.bins[start][sum]);
                (total + value, squares + value * value)
            });
            squares / count - (total / count).powi(2)
        };
        (count > 0.0).then(|| ((0..SUMS).map(variance).sum::<f64>() / SUMS as f64).max(0.0).sqrt())
    }
}

/// Σᵢ ±pᵢ, the signs fixed by source and sum.
fn signed_sums(watts: &[f32]) -> [f32; SUMS] {
    let mut sums = [0.0f32; SUMS];
    for (source, &watts) in watts.iter().enumerate() {
        let bits = mix(source as u64);
        for (sum, total) in sums.iter_mut().enumerate() {
            *total += if bits >> sum & 1 == 1 { watts } else { -watts };
        }
    }
    sums
}

/// SplitMix64's finaliser: 64 well-mixed bits of an index.
fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
