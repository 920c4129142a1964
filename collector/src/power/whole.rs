//! The fundamental of a whole incident, from blocks of a few cycles each.
//!
//! Each block gives the fundamental's phasor z at its centre t, by least squares. The incident's frequency is where the blocks
//! agree best, its amplitude what they have in common: max over f of |Σ z e^(−2πift)| ÷ n. That costs a few operations a
//! block, however many cycles there were; an oscillation that drifts in phase shows by Σ being much less than Σ|z|.

use realfft::num_complex::Complex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::f64::consts::TAU;

/// Blocks kept: at three cycles of 10 s each, a day and a half.
const KEEP: usize = 4096;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Block {
    /// Centre, seconds since the incident was opened.
    at: f64,
    /// Phasor there, watts (half of the peak to peak).
    re: f64,
    im: f64,
}

/// What blocks have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Common {
    pub frequency_hz: f64,
    /// Peak to peak, watts.
    pub amplitude_watts: f64,
    /// |Σz| ÷ Σ|z|, 0 to 1.
    pub coherence: f64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Whole {
    blocks: VecDeque<Block>,
}

impl Whole {
    pub fn push(&mut self, at: f64, phasor: Complex<f64>) {
        if self.blocks.len() == KEEP {
            self.blocks.pop_front();
        }
        self.blocks.push_back(Block { at, re: phasor.re, im: phasor.im });
    }

    /// Centre of the newest block.
    pub fn last(&self) -> Option<f64> {
        self.blocks.back().map(|block| block.at)
    }

    /// Of the blocks since then, at a frequency within ± `reach` of `near` hertz.
    pub fn common(&self, since: f64, near: f64, reach: f64) -> Option<Common> {
        let blocks: Vec<&Block> = self.blocks.iter().filter(|block| block.at >= since).collect();
        let (first, last) = (blocks.first()?.at, blocks.last()?.at);
        let total: f64 = blocks.iter().map(|block| block.re.hypot(block.im)).sum();
        let norm = |hertz: f64| {
            let turned = |block: &&Block| Complex::new(block.re, block.im) * Complex::from_polar(1.0, -TAU * hertz * block.at);
            blocks.iter().map(turned).sum::<Complex<f64>>().norm()
        };
        // A quarter of the resolution first, then finer around the best.
        let mut step = 0.25 / (last - first).max(1.0 / reach.max(1e-6));
        let steps = (reach / step).ceil() as i64;
        let best = (-steps..=steps).map(|index| near + index as f64 * step).max_by(|&a, &b| norm(a).total_cmp(&norm(b)))?;
        let mut best = (best, norm(best));
        for _ in 0..8 {
            step /= 2.0;
            for hertz in [best.0 - step, best.0 + step] {
                let norm = norm(hertz);
                if norm > best.1 {
                    best = (hertz, norm);
                }
            }
        }
        let amplitude_watts = 2.0 * best.1 / blocks.len() as f64;
        (total > 0.0).then_some(Common { frequency_hz: best.0, amplitude_watts, coherence: best.1 / total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_noisy_blocks_know_frequency_and_amplitude_well() {
        let mut whole = Whole::default();
        for index in 0..100 {
            let at = 33.0 * f64::from(index);
            // Each block is off by a fifth, in a direction of its own.
            let noise = Complex::from_polar(4e3, f64::from(index * index) * 1.7);
            whole.push(at, Complex::from_polar(20e3, TAU * 0.09148 * at + 0.3) + noise);
        }
        let common = whole.common(0.0, 0.0916, 0.0005).unwrap();
        assert!((common.frequency_hz - 0.09148).abs() < 2e-5, "{common:?}");
        assert!((common.amplitude_watts / 40e3 - 1.0).abs() < 0.03, "{common:?}");
        assert!(common.coherence > 0.9);
    }

    #[test]
    fn a_drifting_phase_shows() {
        let mut whole = Whole::default();
        (0..40).for_each(|index| whole.push(f64::from(index), Complex::from_polar(1.0, 0.01 * f64::from(index * index))));
        assert!(whole.common(0.0, 0.0, 0.01).unwrap().coherence < 0.7);
    }
}
