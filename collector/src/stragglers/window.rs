//! A mean over two blocks, tapered.
//!
//! GPUs are swept at different instants, so the seconds of two of them cover slightly different stretches of the job's step. In a
//! plain mean over a block that is no whole number of steps, what lies at its two ends makes them differ by up to one second of
//! work in a block. A triangular window leaves sinc²(f N) of a step rate f instead of sinc(f N), N seconds a block: for ten
//! seconds of a 3-s step 0.7 % instead of 8 %.

use serde::{Deserialize, Serialize};

/// Seconds of a block, half of the window, where the step does not demand more.
pub const BLOCK: u32 = 10;
/// Least share of the window's weight that must be there.
const ENOUGH: f64 = 0.6;

/// Sum of weighted values, and sum of the weights.
type Weighted = (f64, f64);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Window {
    rising: Weighted,
    falling: Weighted,
    /// Rising half of the block before.
    before: Weighted,
}

impl Window {
    /// Takes second number `second`, from 0, of a block of `block`.
    pub fn take(&mut self, second: u32, block: u32, value: f64) {
        let up = ((f64::from(second) + 0.5) / f64::from(block)).min(1.0);
        self.rising = (self.rising.0 + up * value, self.rising.1 + up);
        self.falling = (self.falling.0 + (1.0 - up) * value, self.falling.1 + 1.0 - up);
    }

    /// The block ends: mean over it and the one before; None where too much of them is missing.
    pub fn finish(&mut self, block: u32) -> Option<f64> {
        let (sum, weight) = (self.before.0 + self.falling.0, self.before.1 + self.falling.1);
        self.before = std::mem::take(&mut self.rising);
        self.falling = Weighted::default();
        (weight >= ENOUGH * f64::from(block)).then(|| sum / weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of second `second` in which a step of 3 s, 0.75 s of it communication, computes; swept `late` seconds late.
    fn busy(second: u32, late: f64) -> f64 {
        let slices = (0..100).filter(|slice| (f64::from(second) + f64::from(*slice) / 100.0 - late).rem_euclid(3.0) < 2.25);
        slices.count() as f64 / 100.0
    }

    #[test]
    fn instants_of_sweeping_hardly_show() {
        let means: Vec<f64> = [0.0, 0.3, 0.6, 0.9]
            .iter()
            .map(|&late| {
                let mut window = Window::default();
                (0..10).for_each(|second| window.take(second, BLOCK, busy(second, late)));
                assert_eq!(window.finish(BLOCK), None);
                (0..10).for_each(|second| window.take(second, BLOCK, busy(second + 10, late)));
                window.finish(BLOCK).unwrap()
            })
            .collect();
        assert!(means.iter().all(|mean| (mean / 0.75 - 1.0).abs() < 0.01), "{means:?}");
    }

    #[test]
    fn a_window_with_holes_says_nothing() {
        let mut window = Window::default();
        (0..10).for_each(|second| window.take(second, BLOCK, 1.0));
        window.finish(BLOCK);
        (0..2).for_each(|second| window.take(second, BLOCK, 1.0));
        assert_eq!(window.finish(BLOCK), Some(1.0));
        assert_eq!(window.finish(BLOCK), None);
    }
}
