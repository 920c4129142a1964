//! What is kept of one GPU of a job, and of one node of it.

use super::facts::{Fact, Gatherer, Row};
use super::trace::Trace;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) trace: Trace,
    pub(super) facts: Gatherer,
    /// Remembered share by which it is occupied longer than its node's median.
    pub(super) offset: f64,
    /// Facts while healthy.
    pub(super) past: Option<Vec<f32>>,
    pub(super) turns: u32,
    pub(super) suspect: bool,
    /// It was slow already when the job began.
    pub(super) from_the_start: bool,
    /// Share of the last seconds in which it computed at all.
    pub(super) busy: f32,
}

/// A node, against the other nodes of the job.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct NodeTrace {
    pub(super) trace: Trace,
    pub(super) offset: f64,
    pub(super) suspect: bool,
    pub(super) from_the_start: bool,
}

/// What is kept of one GPU, bytes: the last minutes of what it shows, and all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    pub history: usize,
    pub beside: usize,
}

impl Footprint {
    /// Of a GPU of a job that has been learned.
    pub fn of_a_gpu() -> Self {
        let history = super::trace::KEEP * size_of::<f32>();
        // Its key in the map as well, which is filled by two thirds.
        let node_of_map = (size_of::<Member>() + size_of::<u32>()) * 3 / 2;
        Self { history, beside: node_of_map + Fact::COUNT * size_of::<f32>() }
    }
}

impl Member {
    /// Facts follow what was seen while nobody was suspected.
    pub(super) fn remember(&mut self, healthy: bool) {
        let row = self.facts.row();
        self.facts.turn();
        if self.suspect || self.from_the_start || !healthy && self.turns >= 6 {
            return;
        }
        self.turns += 1;
        let weight = 1.0 / (self.turns as f32).min(60.0);
        let past = self.past.get_or_insert_with(|| row.iter().map(|&value| value as f32).collect());
        for (past, now) in past.iter_mut().zip(row) {
            if past.is_nan() {
                *past = now as f32;
            } else if !now.is_nan() {
                *past += weight * (now as f32 - *past);
            }
        }
    }

    pub(super) fn past(&self) -> Option<Row> {
        let past = self.past.as_ref().filter(|_| self.turns >= 6)?;
        let mut row = [f64::NAN; Fact::COUNT];
        row.iter_mut().zip(past).for_each(|(row, &past)| *row = f64::from(past));
        Some(row)
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
