//! What the sum would do if its sources had nothing to do with each other.
//!
//! Y_k = Σᵢ ±pᵢ with fixed random signs, for a few k: if the sources are independent, Y_k moves as the sum does, whatever the colour
//! of their noise; what they do together cancels. So a swing of the sum is measured in units of what independence gives.
//!
//! In large fleets the sources are first added up in [`CELLS`] random cells: the first sources have one each, those after them go by blocks of
//! [`BLOCK`], the boards of a node, so that what the boards of one node do together is theirs and not yet the fleet's. In each of the sums one half
//! of the cells counts as positive, so that what is common leaves no more than it would with a sign of its own for each source.

use super::history::BIN;
use super::spectrum;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Sign-randomised sums. With sixteen, what is to be exceeded by chance once in ten billion looks is twice as high as with 64.
pub const SUMS: usize = 64;
/// Bins kept: 128 s.
const KEEP: usize = 1280;
/// Groups of sources that have their signs in common.
const CELLS: usize = 256;
/// Neighbours that share a cell, once there are more sources than cells.
const BLOCK: usize = 8;

/// The last two minutes of the sign-randomised sums.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Signed {
    /// Newest last, by sum. Those of older versions were others.
    #[serde(default, rename = "sums", with = "crate::packed")]
    bins: VecDeque<Vec<f32>>,
    /// In the newest bin.
    #[serde(default)]
    sources: usize,
    /// By block of sources.
    #[serde(skip)]
    cells: Vec<u8>,
    /// By cell and sum: 1 or −1.
    #[serde(skip)]
    signs: Vec<f32>,
}

impl Signed {
    /// Takes the sources' watts in the newest bin.
    pub fn push(&mut self, watts: &[f32]) {
        let mut sums = if self.bins.len() == KEEP { self.bins.pop_front().unwrap_or_default() } else { Vec::new() };
        sums.clear();
        sums.resize(SUMS, 0.0f32);
        self.sources = watts.len();
        self.learn(watts.len());
        let mut cells = [0.0f32; CELLS];
        let (own, rest) = watts.split_at(watts.len().min(CELLS));
        cells[..own.len()].copy_from_slice(own);
        for (block, &cell) in rest.chunks(BLOCK).zip(&self.cells[self.cells.len().min(CELLS / BLOCK)..]) {
            cells[usize::from(cell)] += block.iter().sum::<f32>();
        }
        for (watts, signs) in cells.iter().zip(self.signs.chunks_exact(SUMS)) {
            sums.iter_mut().zip(signs).for_each(|(sum, sign)| *sum += watts * sign);
        }
        self.bins.push_back(sums);
    }

    fn learn(&mut self, sources: usize) {
        if self.signs.is_empty() {
            let by_sum: Vec<Vec<f32>> = (0..SUMS).map(balanced).collect();
            self.signs = (0..CELLS).flat_map(|cell| by_sum.iter().map(move |signs| signs[cell])).collect();
        }
        (self.cells.len()..sources.div_ceil(BLOCK)).for_each(|block| self.cells.push(cell(block * BLOCK)));
    }

    /// A source's value in the bin `age` bins before the newest was off by so much, watts.
    pub fn amend(&mut self, age: usize, source: usize, watts: f32) {
        let Some(index) = self.bins.len().checked_sub(age + 1) else { return };
        // They are not kept in checkpoints.
        self.learn(0);
        add(&mut self.bins[index], &self.signs, source, watts);
    }

    /// Sources that were not known before are taken to have drawn this all along.
    pub fn joined(&mut self, sources: impl Iterator<Item = (usize, f32)>) {
        self.learn(0);
        let mut by = vec![0.0; SUMS];
        sources.for_each(|(source, watts)| add(&mut by, &self.signs, source, watts));
        self.bins.iter_mut().for_each(|sums| sums.iter_mut().zip(&by).for_each(|(sum, by)| *sum += by));
    }

    /// Forgets the bins: what comes is not next to them.
    pub fn clear(&mut self) {
        self.bins.clear();
    }

    /// Whether it goes back by so many bins, or as far as ever.
    pub fn reaches(&self, bins: usize) -> bool {
        self.bins.len() >= bins.min(KEEP)
    }

    pub fn len(&self) -> usize {
        self.bins.len()
    }

    /// Sources that they are sums of.
    pub fn sources(&self) -> usize {
        self.sources
    }

    pub fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    /// The newest `bins` bins of one of the sums, oldest first.
    pub fn newest(&self, sum: usize, bins: usize) -> impl Iterator<Item = f64> + '_ {
        self.bins.range(self.bins.len() - bins.min(self.bins.len())..).map(move |sums| f64::from(sums[sum]))
    }

    /// Mean of |Σ Y_k(t) e^(−2πift)|² over the newest `bins` bins, their linear trends taken off; watts² · bins².
    pub fn power_at(&self, bins: usize, hertz: f64) -> f64 {
        let power = |sum: usize| {
            let values: Vec<f64> = self.newest(sum, bins).collect();
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

fn add(sums: &mut [f32], signs: &[f32], source: usize, watts: f32) {
    let own = signs.chunks_exact(SUMS).nth(usize::from(cell(source)));
    own.into_iter().for_each(|signs| sums.iter_mut().zip(signs).for_each(|(sum, sign)| *sum += sign * watts));
}

/// Signs by cell of one of the sums: random, as many of one as of the other.
fn balanced(sum: usize) -> Vec<f32> {
    let mut cells: Vec<usize> = (0..CELLS).collect();
    cells.sort_by_key(|&cell| mix((sum * CELLS + cell) as u64 ^ 0x5157));
    let mut signs = vec![-1.0; CELLS];
    cells[..CELLS / 2].iter().for_each(|&cell| signs[cell] = 1.0);
    signs
}

/// The first sources have a cell each. Blocks of the others are dealt out to all cells in turn, in another order each time: neighbouring nodes have
/// nothing in common, and no cell has many more than another, which would leave something of what is common to all.
fn cell(source: usize) -> u8 {
    if source < CELLS {
        return source as u8;
    }
    let block = (source - CELLS) / BLOCK;
    let order = mix((block / CELLS) as u64);
    (block as u64).wrapping_mul(order | 1).wrapping_add(order >> 32) as u8
}

/// SplitMix64's finaliser: 64 well-mixed bits of an index.
fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is common cancels as well as it would with a sign of its own for each source; what is not, stays.
    #[test]
    fn what_is_common_cancels_and_what_is_not_stays() {
        let sources = 8192;
        let mut signed = Signed::default();
        let noise = |source: usize, bin: usize| ((mix((source * 977 + bin) as u64) % 2001) as f32 - 1000.0) / 10.0;
        for bin in 0..200 {
            let common = if bin % 2 == 0 { 300.0 } else { 0.0 };
            signed.push(&(0..sources).map(|source| 500.0 + common + noise(source, bin)).collect::<Vec<_>>());
        }
        let independent = 100.0 / 3f64.sqrt() * (sources as f64).sqrt();
        let common = 150.0 * (sources as f64).sqrt();
        let most = independent.hypot(common);
        let deviation = signed.deviation(0, 19.0).unwrap();
        assert!((0.6 * independent..1.6 * most).contains(&deviation), "{deviation} W, expected {independent} to {most} W");
    }

    #[test]
    fn an_amendment_is_what_the_bin_would_have_been() {
        let mut late = Signed::default();
        let mut whole = Signed::default();
        let watts: Vec<f32> = (0..600).map(|source| source as f32).collect();
        let mut imputed = watts.clone();
        imputed[500] = 20.0;
        late.push(&imputed);
        late.push(&watts);
        (0..2).for_each(|_| whole.push(&watts));
        late.amend(1, 500, 480.0);
        let same = late.bins.iter().flatten().zip(whole.bins.iter().flatten()).all(|(a, b)| (a - b).abs() < 0.1);
        assert!(same);
    }
}
