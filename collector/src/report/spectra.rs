//! Spectra of many stretches, as their mean: what swings all the time, beside what independent sources would show.

use crate::power::spectrum::Floor;
use serde::{Deserialize, Serialize};

/// Peak-to-peak watts by frequency.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spectra {
    /// Frequency of the place with index 1, hertz.
    pub step_hz: f64,
    /// Stretches that went in.
    pub stretches: u32,
    /// Sums of squares, of the sum and of its floor.
    squares: Vec<f64>,
    floor_squares: Vec<f64>,
    /// The largest of any stretch.
    pub highest_watts: Vec<f64>,
}

impl Spectra {
    pub fn push(&mut self, floor: &Floor) {
        let count = floor.watts.len();
        if self.squares.len() != count {
            let empty = vec![0.0; count];
            *self = Self {
                step_hz: floor.step_hz,
                stretches: 0,
                squares: empty.clone(),
                floor_squares: empty.clone(),
                highest_watts: empty,
            };
        }
        self.stretches += 1;
        let square = |sums: &mut [f64], watts: &[f64]| sums.iter_mut().zip(watts).for_each(|(sum, watts)| *sum += watts * watts);
        square(&mut self.squares, &floor.watts);
        square(&mut self.floor_squares, &floor.floor_watts);
        self.highest_watts.iter_mut().zip(&floor.watts).for_each(|(most, &watts)| *most = most.max(watts));
    }

    /// Those of another time too.
    pub fn add(&mut self, other: &Self) {
        if self.squares.len() != other.squares.len() {
            *self = other.clone();
            return;
        }
        self.stretches += other.stretches;
        let add = |own: &mut [f64], its: &[f64]| own.iter_mut().zip(its).for_each(|(own, its)| *own += its);
        add(&mut self.squares, &other.squares);
        add(&mut self.floor_squares, &other.floor_squares);
        self.highest_watts.iter_mut().zip(&other.highest_watts).for_each(|(most, &watts)| *most = most.max(watts));
    }

    /// (hertz, root of the mean square of the sum, likewise of independent sources), without the level itself.
    pub fn lines(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        let mean = |square: f64| (square / f64::from(self.stretches.max(1))).sqrt();
        let pairs = self.squares.iter().zip(&self.floor_squares).enumerate().skip(1);
        pairs.map(move |(place, (&own, &floor))| (place as f64 * self.step_hz, mean(own), mean(floor)))
    }

    /// The strongest line at most this high that is told from independent sources: (hertz, watts, times its floor).
    pub fn strongest(&self, highest_hz: f64, threshold_ratio: f64) -> Option<(f64, f64, f64)> {
        let told = |&(hertz, watts, floor): &(f64, f64, f64)| hertz <= highest_hz && watts > threshold_ratio * floor;
        let best = self.lines().filter(told).max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some((best.0, best.1, best.1 / best.2.max(1e-9)))
    }
}
