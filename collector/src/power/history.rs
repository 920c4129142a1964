//! The sum of the last minutes, with running totals so that the mean of any stretch is O(1).

use crate::align::BIN_US;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Bins kept: 15 minutes.
pub const KEEP: usize = 9000;
/// Seconds per bin.
pub const BIN: f64 = BIN_US as f64 / 1e6;

/// Bins of a sum without holes, oldest first; the newest may be provisional.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct History {
    watts: VecDeque<f64>,
    completeness: VecDeque<f32>,
    /// The part of it that is imputed, watts.
    imputed: VecDeque<f32>,
    /// Running total before each bin; one longer than `watts`.
    total: VecDeque<f64>,
    /// Centre of the newest bin.
    last: Option<Micros>,
    /// Centre of the newest final bin.
    last_final: Option<Micros>,
}

impl History {
    /// After a hole the sum is taken to have gone straight from where it was to where it is: no faster than it must have.
    pub fn push(&mut self, at: Micros, watts: f64, imputed: f64, completeness: f64) {
        let (missing, before) = (self.missing(at), self.back(0));
        if missing >= KEEP {
            self.clear();
        } else if let Some(before) = before {
            for bin in 1..=missing {
                let between = before + bin as f64 / (missing + 1) as f64 * (watts - before);
                self.add(between, between, 0.0);
            }
        }
        self.add(watts, imputed, completeness);
        self.last = Some(at);
    }

    /// Bins that are missing between the newest and the one at this instant.
    pub fn missing(&self, at: Micros) -> usize {
        self.last.map_or(0, |last| ((at.0 - last.0) / BIN_US - 1).max(0) as usize)
    }

    fn add(&mut self, watts: f64, imputed: f64, completeness: f64) {
        if self.watts.len() == KEEP {
            self.watts.pop_front();
            self.completeness.pop_front();
            self.imputed.pop_front();
            self.total.pop_front();
        }
        let before = *self.total.back().unwrap_or(&0.0);
        if self.total.is_empty() {
            self.total.push_back(0.0);
        }
        self.total.push_back(before + watts * BIN);
        self.watts.push_back(watts);
        self.completeness.push_back(completeness as f32);
        self.imputed.push_back(imputed as f32);
    }

    /// A value has come for what was imputed at this instant, and is one of `sources`.
    pub fn amend(&mut self, at: Micros, imputed: f64, watts: f64, sources: usize) {
        let (age, count) = (self.age(at), self.watts.len());
        if at > self.last.unwrap_or(Micros::MIN) || age >= count {
            return;
        }
        let index = count - 1 - age;
        self.watts[index] += watts - imputed;
        self.imputed[index] -= imputed as f32;
        self.completeness[index] = (self.completeness[index] + 1.0 / sources.max(1) as f32).min(1.0);
        self.total.range_mut(index + 1..).for_each(|total| *total += (watts - imputed) * BIN);
    }

    /// The bin with this centre no longer changes.
    pub fn finish(&mut self, at: Micros) {
        self.last_final = self.last_final.max(Some(at));
    }

    /// Centre of the newest bin that no longer changes.
    pub fn last_final(&self) -> Option<Micros> {
        self.last_final
    }

    /// Watts imputed in the bin `age` bins before the newest.
    pub fn imputed(&self, age: usize) -> f64 {
        let index = self.imputed.len().checked_sub(age + 1);
        index.map_or(0.0, |index| f64::from(self.imputed[index]))
    }

    /// A source that was not known before joined with this power: it is taken to have drawn it all along.
    pub fn joined(&mut self, watts: f64) {
        self.watts.iter_mut().for_each(|old| *old += watts);
        let first = *self.total.front().unwrap_or(&0.0);
        self.total.iter_mut().enumerate().for_each(|(index, total)| *total += index as f64 * watts * BIN - first);
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn len(&self) -> usize {
        self.watts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.watts.is_empty()
    }

    pub fn last(&self) -> Option<Micros> {
        self.last
    }

    /// Centre of the bin `age` bins before the newest.
    pub fn at(&self, age: usize) -> Micros {
        self.last.unwrap_or_default() - age as i64 * BIN_US
    }

    /// Bins from the newest back to `ts`.
    pub fn age(&self, ts: Micros) -> usize {
        let micros = self.last.unwrap_or_default().0.saturating_sub(ts.0).max(0);
        (micros / BIN_US) as usize
    }

    /// Watts of the bin `age` bins before the newest.
    pub fn back(&self, age: usize) -> Option<f64> {
        self.watts.len().checked_sub(age + 1).map(|index| self.watts[index])
    }

    /// Mean of the `bins` bins that end `age` bins before the newest (age 0: including the newest).
    pub fn mean(&self, age: usize, bins: usize) -> Option<f64> {
        let end = self.total.len().checked_sub(age + 1)?;
        let start = end.checked_sub(bins)?;
        (bins > 0).then(|| (self.total[end] - self.total[start]) / (bins as f64 * BIN))
    }

    /// Lowest and highest of the same stretch; of what there is of it, if the history is shorter.
    pub fn range(&self, age: usize, bins: usize) -> Option<(f64, f64)> {
        let end = self.watts.len().checked_sub(age)?;
        let stretch = self.watts.range(end.saturating_sub(bins)..end);
        stretch.fold(None, |range, &watts| {
            let (low, high) = range.unwrap_or((watts, watts));
            Some((f64::min(low, watts), f64::max(high, watts)))
        })
    }

    /// Least completeness of the newest `bins` bins.
    pub fn completeness(&self, bins: usize) -> f64 {
        let newest = self.completeness.range(self.completeness.len().saturating_sub(bins)..);
        newest.fold(1.0, |least, &share| f64::min(least, f64::from(share)))
    }

    /// The newest `bins` bins, oldest first.
    pub fn newest(&self, bins: usize) -> impl Iterator<Item = f64> + '_ {
        self.watts.range(self.watts.len().saturating_sub(bins)..).copied()
    }

    /// (centre, watts, completeness), oldest first.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = (Micros, f64, f64)> + '_ {
        let count = self.watts.len();
        let points = self.watts.iter().zip(&self.completeness).enumerate();
        points.map(move |(index, (&watts, &completeness))| (self.at(count - 1 - index), watts, f64::from(completeness)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_gone_through_straight_and_known_to_be_one() {
        let mut history = History::default();
        let at = |bin: i64| Micros(bin * BIN_US + BIN_US / 2);
        (0..600).for_each(|bin| history.push(at(bin), 100.0, 0.0, 1.0));
        (800..1000).for_each(|bin| history.push(at(bin), 301.0, 0.0, 1.0));
        assert_eq!((history.len(), history.at(999), history.back(history.age(at(599)))), (1000, at(0), Some(100.0)));
        assert_eq!((history.back(history.age(at(600))), history.back(history.age(at(799)))), (Some(101.0), Some(300.0)));
        // Of it nothing is measured.
        assert_eq!((history.imputed(history.age(at(700))), history.imputed(0)), (201.0, 0.0));
        assert_eq!((history.completeness(200), history.completeness(201)), (1.0, 0.0));
        assert!((history.mean(0, 1000).unwrap() - (60_000.0 + 200.0 * 200.5 + 200.0 * 301.0) / 1000.0).abs() < 1e-6);
        // Of before a longer one than is kept nothing is left.
        history.push(at(1000 + KEEP as i64), 5.0, 0.0, 1.0);
        assert_eq!((history.len(), history.mean(0, 1)), (1, Some(5.0)));
    }

    #[test]
    fn means_survive_a_join() {
        let mut history = History::default();
        for bin in 0..KEEP as i64 + 50 {
            history.push(Micros(bin * BIN_US), bin as f64, 0.0, 1.0);
        }
        history.joined(1000.0);
        let newest = (KEEP + 49) as f64;
        assert!((history.mean(0, 1).unwrap() - newest - 1000.0).abs() < 1e-6);
        // What was imputed at 10, and is 60, five bins ago.
        history.amend(history.at(5), 10.0, 60.0, 4);
        assert!((history.mean(0, 10).unwrap() - (newest - 4.5) - 1005.0).abs() < 1e-6);
        assert!((history.mean(0, 5).unwrap() - (newest - 2.0) - 1000.0).abs() < 1e-6);
        assert!((history.mean(10, 100).unwrap() - (newest - 10.0 - 49.5) - 1000.0).abs() < 1e-6);
    }
}
