//! Watts by unit over the last minutes: who moved.
//!
//! A unit is what moves together: the GPUs of one node that work for one job, or a node where only nodes are known. So a fleet has about
//! as many units as nodes, and every level (node, rack, feeder, job) is a sum of units. The last [`FINE`] bins are kept as they are, the last
//! three minutes in seconds.

use crate::align::BIN_US;
use crate::packed;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Bins kept: 25 s.
const FINE: usize = 250;
/// Seconds kept.
const COARSE: usize = 180;
const SECOND_US: i64 = 1_000_000;
/// Swings up to this frequency show in means of a second, hertz.
const SLOW: f64 = 0.2;

/// Rows of watts by unit, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Rows {
    /// Centre of the newest.
    last: Option<Micros>,
    #[serde(with = "packed")]
    rows: VecDeque<Vec<f32>>,
}

impl Rows {
    fn push(&mut self, at: Micros, step_us: i64, keep: usize) -> &mut Vec<f32> {
        // After a hole the past is another.
        if self.last.is_some_and(|last| at - step_us != last) {
            self.rows.clear();
        }
        self.last = Some(at);
        let mut row = if self.rows.len() >= keep { self.rows.pop_front().unwrap_or_default() } else { Vec::new() };
        row.clear();
        self.rows.push_back(row);
        let newest = self.rows.len() - 1;
        &mut self.rows[newest]
    }

    /// Places of the rows whose centres lie in [from, to).
    fn between(&self, from: Micros, to: Micros, step_us: i64) -> std::ops::Range<usize> {
        let Some(last) = self.last else { return 0..0 };
        let count = self.rows.len() as i64;
        let place = |at: Micros| (count - 1 - (last.0.saturating_sub(at.0)).div_euclid(step_us)).clamp(0, count) as usize;
        let range = place(from)..place(to);
        if range.start > range.end { 0..0 } else { range }
    }

    fn first(&self, step_us: i64) -> Option<Micros> {
        self.last.filter(|_| !self.rows.is_empty()).map(|last| last - (self.rows.len() as i64 - 1) * step_us)
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Units {
    fine: Rows,
    coarse: Rows,
    /// Of the second that is not whole yet, and its begin.
    open: Vec<f32>,
    #[serde(default)]
    open_since: Option<Micros>,
    open_bins: u32,
}

/// How the units' peaks fall together over the last minutes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Coincidence {
    /// Peak of the sum ÷ sum of the units' peaks.
    pub factor: f64,
    /// Peak to peak of the sum ÷ sum of the units' peaks to peaks.
    pub swing: f64,
    /// Variance of the sum ÷ (units × sum of the units' variances): 1 where all do the same, 1 ÷ units where each does as it likes.
    pub synchrony: f64,
}

impl Units {
    /// Takes the sources' watts in a bin that is judged. `runs`: the unit of so many sources that stand side by side, and so on.
    pub fn push(&mut self, at: Micros, watts: &[f32], runs: &[(u32, u32)], units: usize) {
        let row = self.fine.push(at, BIN_US, FINE);
        row.resize(units, 0.0);
        let mut rest = watts;
        for &(unit, count) in runs {
            let (own, others) = rest.split_at(rest.len().min(count as usize));
            row[unit as usize] += own.iter().sum::<f32>();
            rest = others;
        }
    }

    /// A value came late.
    pub fn amend(&mut self, at: Micros, unit: usize, watts: f32) {
        let place = self.fine.between(at, at + BIN_US, BIN_US).start;
        if let Some(cell) = self.fine.rows.get_mut(place).and_then(|row| row.get_mut(unit)) {
            *cell += watts;
        }
    }

    /// The bin at this instant no longer changes.
    pub fn finish(&mut self, at: Micros) {
        let place = self.fine.between(at, at + BIN_US, BIN_US).start;
        let Some(row) = self.fine.rows.get(place) else { return };
        let second = Micros(at.0.div_euclid(SECOND_US) * SECOND_US);
        if self.open_since.replace(second) != Some(second) {
            // The one before has no end.
            self.open.fill(0.0);
            self.open_bins = 0;
        }
        if self.open.len() < row.len() {
            self.open.resize(row.len(), 0.0);
        }
        self.open.iter_mut().zip(row).for_each(|(sum, watts)| *sum += watts);
        self.open_bins += 1;
        if at + BIN_US < second + SECOND_US {
            return;
        }
        let scale = 1.0 / self.open_bins as f32;
        let row = self.coarse.push(second + SECOND_US / 2, SECOND_US, COARSE);
        row.extend(self.open.iter().map(|sum| sum * scale));
        self.open.fill(0.0);
        self.open_bins = 0;
    }

    /// Mean by unit over [from, to); from seconds where the bins do not go back that far. Empty: nothing is known of that time.
    pub fn mean(&self, from: Micros, to: Micros) -> Vec<f64> {
        let is_fine = self.fine.first(BIN_US).is_some_and(|first| from >= first - BIN_US);
        let (rows, step) = if is_fine { (&self.fine, BIN_US) } else { (&self.coarse, SECOND_US) };
        let range = rows.between(from, to, step);
        let count = range.len() as f64;
        let mut mean = vec![0.0; rows.rows.range(range.clone()).map(Vec::len).max().unwrap_or(0)];
        for row in rows.rows.range(range) {
            mean.iter_mut().zip(row).for_each(|(mean, &watts)| *mean += f64::from(watts) / count);
        }
        mean
    }

    /// By unit: the part of its swing at this frequency that is in phase with the sum's, Re(Zᵢ conj Z) ÷ |Z|, over so many cycles at most; watts
    /// peak to peak.
    pub fn swing(&self, hertz: f64, most: f64) -> Vec<f64> {
        let own = self.phasors(hertz, most);
        let total = own.iter().fold((0.0, 0.0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
        let norm = f64::hypot(total.0, total.1).max(1e-9);
        own.iter().map(|own| (own.0 * total.0 + own.1 * total.1) / norm).collect()
    }

    /// By unit: its swing at this frequency, real and imaginary, over the last whole cycles that are known, so many at most; watts peak to
    /// peak.
    pub fn phasors(&self, hertz: f64, most: f64) -> Vec<(f64, f64)> {
        let known = |rows: &VecDeque<Vec<f32>>, step: f64| (rows.len() as f64 * step * hertz).min(most).floor();
        let (fine, coarse) = (known(&self.fine.rows, 0.1), known(&self.coarse.rows, 1.0));
        // More cycles are less noise, which matters more than that a second smooths them: it smooths all units alike.
        let is_fine = hertz > SLOW || coarse <= fine;
        let (rows, step, cycles) = if is_fine { (&self.fine.rows, 0.1, fine) } else { (&self.coarse.rows, 1.0, coarse) };
        let count = ((cycles / hertz / step).round() as usize).min(rows.len());
        let rows: Vec<&Vec<f32>> = rows.range(rows.len() - count..).collect();
        let units = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mean: Vec<f32> = (0..units).map(|unit| rows.first().and_then(|row| row.get(unit)).copied().unwrap_or(0.0)).collect();
        let mut own = vec![(0.0, 0.0); units];
        for (index, row) in rows.iter().enumerate() {
            let (sin, cos) = (std::f64::consts::TAU * hertz * step * index as f64).sin_cos();
            // A Hann window: what is slow does not leak in.
            let window = 0.5 - 0.5 * (std::f64::consts::TAU * (index as f64 + 0.5) / rows.len() as f64).cos();
            for ((own, &watts), mean) in own.iter_mut().zip(*row).zip(&mean) {
                let watts = window * f64::from(watts - mean);
                *own = (own.0 + watts * cos, own.1 + watts * sin);
            }
        }
        // The window's mean is a half, and a sine of amplitude a leaves a / 2: peak to peak is eight times the mean.
        let scale = 8.0 / rows.len().max(1) as f64;
        own.iter().map(|own| (own.0 * scale, own.1 * scale)).collect()
    }

    /// When each of these units had made half of its way from before to after, between two instants; by unit, None where that is not known.
    pub fn halfway(&self, before: &[f64], after: &[f64], from: Micros, to: Micros) -> Vec<Option<Micros>> {
        let range = self.fine.between(from, to, BIN_US);
        let Some(first) = self.fine.first(BIN_US) else { return Vec::new() };
        let crossing = |unit: usize, (before, after): (f64, f64)| {
            let middle = (before + after) / 2.0;
            let beyond = |row: &Vec<f32>| {
                let watts = f64::from(*row.get(unit)?);
                ((watts - middle) * (after - before) >= 0.0).then_some(())
            };
            let place = range.clone().find(|&place| beyond(&self.fine.rows[place]).is_some())?;
            Some(first + place as i64 * BIN_US)
        };
        before.iter().copied().zip(after.iter().copied()).enumerate().map(|(unit, levels)| crossing(unit, levels)).collect()
    }

    /// Of the last three minutes, in seconds. None: nothing is known yet.
    pub fn coincidence(&self) -> Option<Coincidence> {
        let units = self.coarse.rows.iter().map(Vec::len).max()?;
        let mut own = vec![Spread::default(); units];
        let mut whole = Spread::default();
        for row in &self.coarse.rows {
            own.iter_mut().zip(row).for_each(|(spread, &watts)| spread.push(f64::from(watts)));
            whole.push(row.iter().map(|&watts| f64::from(watts)).sum());
        }
        let sum = |of: fn(&Spread) -> f64| own.iter().map(of).sum::<f64>();
        let ratio = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
        Some(Coincidence {
            factor: ratio(whole.high, sum(|spread| spread.high)),
            swing: ratio(whole.high - whole.low, sum(|spread| spread.high - spread.low)),
            synchrony: ratio(whole.variance(), units as f64 * sum(Spread::variance)),
        })
    }

    /// The last whole second by unit, watts.
    pub fn latest(&self) -> Option<(Micros, &[f32])> {
        Some((self.coarse.last?, self.coarse.rows.back()?))
    }

    /// The bins of a second since the epoch, in order. None: not all of them are known.
    pub fn second(&self, second: i64) -> Option<impl Iterator<Item = &[f32]>> {
        let range = self.fine.between(Micros(second * SECOND_US), Micros((second + 1) * SECOND_US), BIN_US);
        (range.len() as i64 == SECOND_US / BIN_US).then(|| self.fine.rows.range(range).map(Vec::as_slice))
    }

    /// The last seconds of the sum of some units, oldest first; watts.
    pub fn series(&self, is_in: impl Fn(usize) -> bool) -> Vec<(Micros, f64)> {
        let Some(first) = self.coarse.first(SECOND_US) else { return Vec::new() };
        let sum =
            |row: &Vec<f32>| row.iter().enumerate().filter(|(unit, _)| is_in(*unit)).map(|(_, &watts)| f64::from(watts)).sum();
        (0..).zip(&self.coarse.rows).map(|(place, row)| (first + place * SECOND_US, sum(row))).collect()
    }

    /// The sum of some units in bins, oldest first, the newest being that of the last bin; before the bins that are kept, from seconds.
    pub fn sum_in_bins(&self, is_in: &[bool]) -> Vec<f64> {
        let sum =
            |row: &Vec<f32>| row.iter().zip(is_in).filter(|(_, is_in)| **is_in).map(|(&watts, _)| f64::from(watts)).sum::<f64>();
        let Some(fine) = self.fine.first(BIN_US) else { return Vec::new() };
        let mut all = Vec::new();
        if let Some(first) = self.coarse.first(SECOND_US) {
            for (place, row) in (0..).zip(&self.coarse.rows) {
                let begin = first + place * SECOND_US - SECOND_US / 2;
                let bins = (fine.0 - BIN_US / 2 - begin.0).div_euclid(BIN_US).clamp(0, SECOND_US / BIN_US);
                all.extend(std::iter::repeat_n(sum(row), bins as usize));
            }
        }
        all.extend(self.fine.rows.iter().map(sum));
        all
    }

    /// One is taken to have drawn so much more all along.
    pub fn add(&mut self, unit: usize, watts: f32) {
        let rows = self.fine.rows.iter_mut().chain(&mut self.coarse.rows);
        rows.filter_map(|row| row.get_mut(unit)).for_each(|cell| *cell += watts);
    }

    /// The bins kept of one unit and of the sum of others, newest last: for the audit of clocks.
    pub(crate) fn bins(&self) -> &VecDeque<Vec<f32>> {
        &self.fine.rows
    }
}

#[derive(Debug, Clone, Copy)]
struct Spread {
    count: f64,
    /// The first value: sums are taken of what the others are off it.
    first: f64,
    total: f64,
    squares: f64,
    low: f64,
    high: f64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { count: 0.0, first: 0.0, total: 0.0, squares: 0.0, low: f64::INFINITY, high: f64::NEG_INFINITY }
    }
}

impl Spread {
    fn push(&mut self, x: f64) {
        self.first = if self.count > 0.0 { self.first } else { x };
        self.count += 1.0;
        let off = x - self.first;
        (self.total, self.squares) = (self.total + off, self.squares + off * off);
        self.low = if x < self.low { x } else { self.low };
        self.high = if x > self.high { x } else { self.high };
    }

    fn variance(&self) -> f64 {
        let count = self.count.max(1.0);
        (self.squares / count - (self.total / count).powi(2)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bin: i64) -> Micros {
        Micros(1_760_000_000_000_000 + bin * BIN_US + BIN_US / 2)
    }

    fn fed(bins: i64, watts: impl Fn(usize, f64) -> f64) -> Units {
        let mut units = Units::default();
        for bin in 0..bins {
            let row: Vec<f32> = (0..4).map(|source| watts(source, bin as f64 * 0.1) as f32).collect();
            units.push(at(bin), &row, &[(0, 2), (1, 1), (2, 1)], 3);
            units.finish(at(bin));
        }
        units
    }

    #[test]
    fn a_step_is_theirs_who_moved() {
        let units = fed(600, |source, t| 100.0 + if source >= 2 && t >= 50.0 + 0.5 * (source - 2) as f64 { 50.0 } else { 0.0 });
        let (before, after) = (units.mean(at(450), at(490)), units.mean(at(520), at(560)));
        assert_eq!((before.clone(), after.clone()), (vec![200.0, 100.0, 100.0], vec![200.0, 150.0, 150.0]));
        let halfway = units.halfway(&before, &after, at(480), at(540));
        assert_eq!(halfway[1..], [Some(at(500)), Some(at(505))]);
        // Long ago: from seconds.
        assert_eq!(units.mean(at(100), at(200)), vec![200.0, 100.0, 100.0]);
    }

    #[test]
    fn a_fast_swing_is_theirs_who_swing_in_phase() {
        let wave = |t: f64, hertz: f64| (std::f64::consts::TAU * hertz * t).sin();
        let units = fed(900, |source, t| 500.0 + [0.0, 10.0, 30.0, -20.0][source] * wave(t, 1.7) + 50.0 * wave(t, 0.013));
        let swing = units.swing(1.7, 12.0);
        let total: f64 = swing.iter().sum();
        let shares: Vec<f64> = swing.iter().map(|swing| swing / total).collect();
        assert!((shares[0] - 0.5).abs() < 0.02 && (shares[1] - 1.5).abs() < 0.02 && (shares[2] + 1.0).abs() < 0.02, "{shares:?}");
    }

    #[test]
    fn the_sum_of_some_goes_back_further_in_seconds() {
        let units = fed(600, |source, t| if source == 3 { 100.0 } else { (t * 10.0).round() });
        let sum = units.sum_in_bins(&[false, true, true]);
        assert_eq!(sum.len(), 600);
        assert_eq!((sum[599], sum[350]), (699.0, 450.0));
        // Means of a second: of bins 0 to 9.
        assert_eq!((sum[0], sum[9]), (104.5, 104.5));
    }

    #[test]
    fn what_is_late_goes_where_it_belongs() {
        let mut units = Units::default();
        for bin in 0..40 {
            units.push(at(bin), &[100.0, 100.0, 100.0, 100.0], &[(0, 2), (1, 1), (2, 1)], 3);
            if bin >= 5 {
                units.amend(at(bin - 5), 1, 30.0);
                units.finish(at(bin - 5));
            }
        }
        assert_eq!(units.mean(at(10), at(20)), vec![200.0, 130.0, 100.0]);
        assert_eq!(units.latest().unwrap().1, [200.0, 130.0, 100.0]);
    }

    #[test]
    fn peaks_that_fall_together_add_up() {
        let same = fed(1800, |_, t| 100.0 + if t.rem_euclid(20.0) < 10.0 { 50.0 } else { 0.0 }).coincidence().unwrap();
        assert!((same.factor - 1.0).abs() < 0.01 && (same.swing - 1.0).abs() < 0.01, "{same:?}");
        let apart = |source: usize, t: f64| 100.0 + if (t / 7.0) as usize % 3 == source % 3 { 90.0 } else { 0.0 };
        let apart = fed(1800, apart).coincidence().unwrap();
        assert!(apart.factor < 0.95 && apart.synchrony < 0.3, "{apart:?}");
    }
}
