//! What the sum will do next: the crest and the trough of a running oscillation, and the next of recurring dips.
//!
//! * **oscillation**: mean and two harmonics are fitted by least squares to the last [`STRETCH`] (facts/power-swings.md §3.9), at the
//!   frequency that the oscillation is known to have, and followed into the future.
//! * **dips** (a checkpoint, an evaluation): the sum, smoothed over one cycle, falls below the middle between its usual level and its
//!   lowest. Three or more of them that are equally far apart, some of which may be missing, make a fourth likely.

mod score;

pub use score::{Score, Scored};

use super::History;
use super::history::BIN;
use super::spectrum;
use gridstep_wire::Micros;
use realfft::num_complex::Complex;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Seconds that a fit rests on; at least two cycles.
pub const STRETCH: f64 = 96.0;
/// Harmonics fitted.
const HARMONICS: usize = 2;
/// Dips that make a recurrence.
const DIPS: usize = 3;
/// Distances of dips that differ by less than this share are equal.
const EQUAL: f64 = 0.15;
/// A dip is so many times deeper than what the smoothed sum does otherwise (median of its distances from its median).
const DEEP: f64 = 6.0;

/// Mean and harmonics of a sum; the time is counted from the end of what they were fitted to.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    hertz: f64,
    mean: f64,
    /// Cosine and sine of each harmonic.
    harmonics: [(f64, f64); HARMONICS],
    /// Root mean square of what the fit leaves, watts.
    pub error_watts: f64,
}

/// An extreme to come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    pub at: Micros,
    pub watts: f64,
}

/// The next turns of an oscillation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    pub trough: Turn,
    pub crest: Turn,
    /// What the last stretch differed from its fit by, root mean square: what to allow for, watts.
    pub error_watts: f64,
}

/// The next of recurring dips.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Dips {
    /// Of those that were seen.
    pub count: usize,
    pub period_seconds: f64,
    /// Its middle.
    pub next_at: Micros,
    /// So much earlier or later.
    pub within_seconds: f64,
    /// How far below the level, watts: the median of those seen.
    pub depth_watts: f64,
}

/// Fits the newest bins of the stretch. None: it is shorter than two cycles.
pub fn fit(stretch: &[f64], hertz: f64) -> Option<Model> {
    let count = stretch.len().min((STRETCH.max(2.0 / hertz) / BIN) as usize);
    if count as f64 * BIN * hertz < 2.0 {
        return None;
    }
    let stretch = &stretch[stretch.len() - count..];
    const UNKNOWNS: usize = 1 + 2 * HARMONICS;
    let turn = Complex::from_polar(1.0, TAU * hertz * BIN);
    let first = Complex::from_polar(1.0, TAU * hertz * BIN * (1.0 - count as f64));
    let rows = std::iter::successors(Some(first), |phase| Some(phase * turn)).map(|phase| {
        let (cos, sin) = (phase.re, phase.im);
        [1.0, cos, sin, cos * cos - sin * sin, 2.0 * sin * cos]
    });
    let mut normal = vec![vec![0.0; UNKNOWNS + 1]; UNKNOWNS];
    for (row, &watts) in rows.clone().zip(stretch) {
        for (line, own) in normal.iter_mut().zip(row) {
            line.iter_mut().zip(row).for_each(|(cell, other)| *cell += own * other);
            line[UNKNOWNS] += own * watts;
        }
    }
    let solution = spectrum::solve(normal)?;
    let fitted = |row: [f64; UNKNOWNS]| row.iter().zip(&solution).map(|(base, factor)| base * factor).sum::<f64>();
    let squares: f64 = rows.zip(stretch).map(|(row, watts)| (watts - fitted(row)).powi(2)).sum();
    let harmonics = [(solution[1], solution[2]), (solution[3], solution[4])];
    Some(Model { hertz, mean: solution[0], harmonics, error_watts: (squares / count as f64).sqrt() })
}

impl Model {
    /// The sum so many seconds after the last bin.
    pub fn watts(&self, ahead: f64) -> f64 {
        let harmonic = |(order, (cos, sin)): (usize, &(f64, f64))| {
            let phase = TAU * self.hertz * ahead * (order + 1) as f64;
            cos * phase.cos() + sin * phase.sin()
        };
        self.mean + self.harmonics.iter().enumerate().map(harmonic).sum::<f64>()
    }

    /// Seconds from the last bin to the next trough and to the next crest, of one cycle.
    pub fn turns(&self) -> (f64, f64) {
        let steps = 256;
        let at = |step: usize| (step as f64 + 1.0) / steps as f64 / self.hertz;
        let by = |a: &f64, b: &f64| self.watts(*a).total_cmp(&self.watts(*b));
        let lowest = (0..steps).map(at).min_by(by).unwrap_or_default();
        (lowest, (0..steps).map(at).max_by(by).unwrap_or_default())
    }
}

/// The next turns of what swings at this frequency.
pub fn forecast(history: &History, hertz: f64) -> Option<Forecast> {
    let bins = (STRETCH.max(2.0 / hertz) / BIN).ceil() as usize + 1;
    let stretch: Vec<f64> = history.newest(bins).collect();
    let model = fit(&stretch, hertz)?;
    let last = history.last()?;
    let turn = |ahead: f64| Turn { at: last + (ahead * 1e6) as i64, watts: model.watts(ahead) };
    let (trough, crest) = model.turns();
    Some(Forecast { trough: turn(trough), crest: turn(crest), error_watts: model.error_watts })
}

/// The next dip, by those in the bins that are there; `cycle`: the period of an oscillation that goes on, seconds.
pub fn dips(history: &History, cycle: Option<f64>) -> Option<Dips> {
    // Means of one cycle, a second apart.
    let bins = ((cycle.unwrap_or(2.0) / BIN).round() as usize).max(10);
    let ages = (0..history.len().checked_sub(bins)?).step_by(10);
    let mut smooth: Vec<(Micros, f64)> = ages
        .filter_map(|age| Some((history.at(age) - (bins as i64 - 1) * crate::align::BIN_US / 2, history.mean(age, bins)?)))
        .collect();
    smooth.reverse();
    let level = median(smooth.iter().map(|point| point.1))?;
    let usual = median(smooth.iter().map(|point| (point.1 - level).abs()))?;
    let lowest = smooth.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    if level - lowest < DEEP * usual {
        return None;
    }
    let below = (level + lowest) / 2.0;
    // What began before the first or lasts to the last is no whole one.
    let runs: Vec<_> = smooth.chunk_by(|a, b| (a.1 < below) == (b.1 < below)).collect();
    let inner = runs.get(1..runs.len().saturating_sub(1))?;
    let whole = inner.iter().filter(|run| run[0].1 < below);
    let seen: Vec<(Micros, f64)> = whole.map(|run| middle(run, level)).collect();
    recurrence(&seen, history.last()?)
}

/// When a dip was, and how deep.
fn middle(run: &[(Micros, f64)], level: f64) -> (Micros, f64) {
    let lowest = run.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    (run[0].0 + (run[run.len() - 1].0.0 - run[0].0.0) / 2, level - lowest)
}

/// By when dips were, in order, and how deep.
fn recurrence(seen: &[(Micros, f64)], now: Micros) -> Option<Dips> {
    if seen.len() < DIPS {
        return None;
    }
    let apart: Vec<f64> = seen.windows(2).map(|pair| pair[1].0.since(pair[0].0)).collect();
    let period = median(apart.iter().copied())?;
    let off = |apart: f64| (apart / period - (apart / period).round().max(1.0)).abs();
    if period <= 0.0 || !apart.iter().all(|&apart| off(apart) < EQUAL) {
        return None;
    }
    // Over all of them: one that was missed counts.
    let periods: f64 = apart.iter().map(|apart| (apart / period).round().max(1.0)).sum();
    let (first, last) = (seen[0].0, seen[seen.len() - 1].0);
    let period = last.since(first) / periods;
    let ahead = (now.since(last) / period).floor() + 1.0;
    Some(Dips {
        count: seen.len(),
        period_seconds: period,
        next_at: last + (ahead * period * 1e6) as i64,
        within_seconds: period * apart.iter().map(|&apart| off(apart)).fold(0.0, f64::max),
        depth_watts: median(seen.iter().map(|dip| dip.1))?,
    })
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests;
