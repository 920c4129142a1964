//! What is known of one GPU of a job beside its waiting.

use super::facts::{Fact, Gatherer, Row};
use super::trace::KEEP;
use serde::{Deserialize, Serialize};

/// Turns until a past is one.
pub(super) const TURNS: u32 = 6;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) facts: Gatherer,
    /// Facts while healthy.
    past: [f32; Fact::COUNT],
    turns: u32,
}

impl Default for Known {
    fn default() -> Self {
        Self { facts: Gatherer::default(), past: [f32::NAN; Fact::COUNT], turns: 0 }
    }
}

/// What is kept of one GPU, bytes: the last minutes of what it shows, and all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    pub history: usize,
    pub beside: usize,
}

impl Footprint {
    /// Of a GPU of a job: its trace; its facts, and slot, offset, sum, begin of the trace, share of computing, whether it was slow from the start.
    pub fn of_a_gpu() -> Self {
        let by_place = 3 * size_of::<f32>() + size_of::<u32>() + size_of::<u64>() + size_of::<bool>();
        Self { history: KEEP * size_of::<f32>(), beside: size_of::<Known>() + by_place }
    }
}

impl Known {
    /// Facts follow what was seen while nobody was suspected: neither it (`suspect`) nor, once enough is known, anybody.
    pub(super) fn remember(&mut self, suspect: bool, healthy: bool) {
        if suspect || !healthy && self.turns >= TURNS {
            self.facts.turn();
            return;
        }
        let row = self.facts.row();
        self.facts.turn();
        self.turns += 1;
        let weight = 1.0 / (self.turns as f32).min(60.0);
        for (past, now) in self.past.iter_mut().zip(row) {
            if past.is_nan() {
                *past = now as f32;
            } else if !now.is_nan() {
                *past += weight * (now as f32 - *past);
            }
        }
    }

    /// What it showed so far was the fault.
    pub(super) fn forget(&mut self) {
        (self.past, self.turns) = ([f32::NAN; Fact::COUNT], 0);
    }

    pub(super) fn past(&self) -> Option<Row> {
        (self.turns >= TURNS).then(|| self.past.map(f64::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_takes_less_than_a_kibibyte_beside_its_history() {
        assert!(Footprint::of_a_gpu().beside <= 1024, "{:?}", Footprint::of_a_gpu());
    }
}
