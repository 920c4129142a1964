//! align ─▶ **past** ─▶ web
//!
//! The last quarter of an hour as it was measured, in memory: power of the cluster and of each feeder and job at 10 Hz, and what is judged of each
//! GPU at 1 Hz. It is for whoever looks at what came before an incident; what is older or finer is in the recording. A restart begins it anew.
//!
//! A second is a row that is written once and then shared: whoever asks takes the rows along and nobody waits.

mod gpus;
mod power;

pub use gpus::{GPU_BYTES, GpuSeconds, Quantity};
pub use power::{BINS, Powers, Sum};

use gridstep_wire::Micros;
use std::collections::VecDeque;
use std::sync::Arc;

/// Seconds kept.
pub const SECONDS: usize = 900;

/// Rows of consecutive seconds; one that is missing has no row.
#[derive(Debug)]
pub struct Rows<T> {
    /// By second since the epoch, in order.
    rows: VecDeque<(i64, Arc<T>)>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { rows: VecDeque::new() }
    }
}

impl<T> Clone for Rows<T> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone() }
    }
}

impl<T> Rows<T> {
    /// Takes the row of a second; one that is no later than the last is let go of.
    fn push(&mut self, second: i64, row: T) {
        if self.rows.back().is_some_and(|(last, _)| *last >= second) {
            return;
        }
        while self.rows.front().is_some_and(|(first, _)| *first <= second - SECONDS as i64) {
            self.rows.pop_front();
        }
        self.rows.push_back((second, Arc::new(row)));
    }

    /// The last `seconds`, oldest first: the first second, and by second what `of` takes from its row. None: nothing is kept.
    pub fn last<V>(&self, seconds: usize, mut of: impl FnMut(Option<&T>) -> V) -> Option<(Micros, Vec<V>)> {
        let (last, _) = self.rows.back()?;
        let first = (last + 1 - seconds.clamp(1, SECONDS) as i64).max(self.rows.front()?.0);
        let mut rows = self.rows.range(self.rows.partition_point(|(second, _)| *second < first)..).peekable();
        let row = |second| of(rows.next_if(|(own, _)| *own == second).map(|(_, row)| &**row));
        Some((Micros(first * 1_000_000), (first..=*last).map(row).collect()))
    }
}

/// What is kept.
#[derive(Debug, Clone, Default)]
pub struct Past {
    pub power: Rows<Powers>,
    pub gpus: Rows<GpuSeconds>,
}

impl Past {
    /// The newest second of power, since the epoch.
    pub(crate) fn power_until(&self) -> Option<i64> {
        self.power.rows.back().map(|(second, _)| *second)
    }

    pub(crate) fn put_power(&mut self, second: i64, powers: Powers) {
        self.power.push(second, powers);
    }

    pub(crate) fn put_gpus(&mut self, second: i64, row: GpuSeconds) {
        self.gpus.push(second, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_that_is_missing_shows_and_the_oldest_are_let_go_of() {
        let mut rows = Rows::default();
        for second in (0..2000).filter(|second| second % 10 != 7) {
            rows.push(second, second);
        }
        rows.push(1500, 1500);
        assert_eq!(rows.rows.len(), SECONDS / 10 * 9);
        let (first, values) = rows.last(4, |row| row.copied()).unwrap();
        assert_eq!((first, values), (Micros(1_996_000_000), vec![Some(1996), None, Some(1998), Some(1999)]));
        assert_eq!(rows.last(5000, |row| row.copied()).unwrap().1.len(), SECONDS);
        assert!(Rows::<i64>::default().last(10, |row| row.copied()).is_none());
    }
}
