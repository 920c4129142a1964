//! What is known of each source of power: columns, a slot each.

use super::power::LONGEST_HOLE;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// Time constant of a source's own mean, bins (60 s).
const MEAN_BINS: f32 = 600.0;
/// Samples in a row that are older than what came before, by more than [`SET_BACK_US`]: the clock has been set back.
const STRIKES: u8 = 20;
const SET_BACK_US: i64 = 5_000_000;
/// Of the sources this share may be sampled more slowly than is said of all.
const SLOW: f64 = 0.01;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Sources {
    last_ts: Vec<Micros>,
    last_watts: Vec<f32>,
    /// Seconds between samples, smoothed.
    period: Vec<f32>,
    samples: Vec<u32>,
    strikes: Vec<u8>,
    /// Watts over the last minute, and the bins that this rests on.
    mean: Vec<f32>,
    mean_bins: Vec<f32>,
    /// Part of the sum.
    is_known: Vec<bool>,
    known: u32,
    /// Sources with a sample.
    heard: u32,
    /// Samples that were no newer than the one before.
    disordered: u64,
    /// A source's period has become known since that was looked at.
    has_new: bool,
}

impl Sources {
    pub(super) fn len(&self) -> usize {
        self.last_ts.len()
    }

    pub(super) fn grow(&mut self, sources: usize) {
        self.last_ts.resize(sources, Micros::MIN);
        self.last_watts.resize(sources, 0.0);
        self.period.resize(sources, 0.0);
        self.samples.resize(sources, 0);
        self.strikes.resize(sources, 0);
        self.mean.resize(sources, 0.0);
        self.mean_bins.resize(sources, 0.0);
        self.is_known.resize(sources, false);
    }

    /// Takes a sample; gives the one before it where the two are to be joined by a line.
    pub(super) fn take(&mut self, source: usize, ts: Micros, watts: f32) -> Option<(Micros, f32)> {
        let before = (self.last_ts[source], self.last_watts[source]);
        if ts <= before.0 {
            self.disorder(source, ts, watts);
            return None;
        }
        (self.last_ts[source], self.last_watts[source]) = (ts, watts);
        let samples = self.samples[source];
        self.samples[source] = samples.saturating_add(1);
        self.strikes[source] = 0;
        let gap = ts.0.saturating_sub(before.0.0) as f32 * 1e-6;
        match samples {
            0 => {
                self.heard += 1;
                None
            }
            1 => {
                self.period[source] = gap.min(5.0);
                self.has_new = true;
                (gap <= 5.0).then_some(before)
            }
            _ => {
                let period = self.period[source];
                // A hole is not the period; a slower cadence for good is learned slowly.
                self.period[source] = period + (gap.min(2.0 * period) - period) / 16.0;
                (gap <= LONGEST_HOLE as f32 * period.max(0.2)).then_some(before)
            }
        }
    }

    fn disorder(&mut self, source: usize, ts: Micros, watts: f32) {
        self.disordered += 1;
        if self.last_ts[source].0 - ts.0 < SET_BACK_US {
            return;
        }
        self.strikes[source] += 1;
        if self.strikes[source] >= STRIKES {
            (self.last_ts[source], self.last_watts[source]) = (ts, watts);
            self.strikes[source] = 0;
        }
    }

    /// Every source that has spoken since `deadline` has passed this instant; the deadline, if none has.
    pub(super) fn passed(&self, deadline: Micros) -> Micros {
        let speaking = self.last_ts.iter().copied().filter(|&ts| ts > deadline);
        speaking.min().unwrap_or(deadline)
    }

    /// Lets the sources in that have a value here for the first time.
    pub(super) fn join(&mut self, watts: &[f32]) -> Vec<(u32, f32)> {
        if self.known == self.heard {
            return Vec::new();
        }
        let mut joined = Vec::new();
        for (source, &watts) in watts.iter().enumerate() {
            if !watts.is_nan() && !self.is_known[source] {
                (self.is_known[source], self.mean[source]) = (true, watts);
                joined.push((source as u32, watts));
            }
        }
        self.known += joined.len() as u32;
        joined
    }

    /// Lets one in that is always behind. False: it was known.
    pub(super) fn join_late(&mut self, source: usize, watts: f32) -> bool {
        if self.is_known[source] {
            return false;
        }
        (self.is_known[source], self.mean[source]) = (true, watts);
        self.known += 1;
        true
    }

    /// A source's measured value goes into its mean.
    pub(super) fn learn(&mut self, source: usize, watts: f32) {
        let bins = (self.mean_bins[source] + 1.0).min(MEAN_BINS);
        self.mean_bins[source] = bins;
        self.mean[source] += (watts - self.mean[source]) / bins;
    }

    /// The same for all, none of them missing.
    pub(super) fn learn_all(&mut self, watts: &[f32]) {
        for ((mean, bins), watts) in self.mean.iter_mut().zip(&mut self.mean_bins).zip(watts) {
            *bins = (*bins + 1.0).min(MEAN_BINS);
            *mean += (watts - *mean) / *bins;
        }
    }

    /// Seconds between samples: of the slowest but for a hundredth of them, and the root of the mean square.
    pub(super) fn periods(&mut self) -> (f64, f64) {
        self.has_new = false;
        let mut periods: Vec<f32> = self.period.iter().copied().filter(|&period| period > 0.0).collect();
        if periods.is_empty() {
            return (0.0, 0.0);
        }
        let squares: f64 = periods.iter().map(|&period| f64::from(period).powi(2)).sum();
        let typical = (squares / periods.len() as f64).sqrt();
        let last = periods.len() - 1 - (SLOW * periods.len() as f64) as usize;
        let (_, slowest, _) = periods.select_nth_unstable_by(last, f32::total_cmp);
        (f64::from(*slowest), typical)
    }

    pub(super) fn has_new(&self) -> bool {
        self.has_new
    }

    pub(super) fn heard(&self) -> u32 {
        self.heard
    }

    pub(super) fn known(&self) -> u32 {
        self.known
    }

    pub(super) fn is_known(&self, source: usize) -> bool {
        self.is_known[source]
    }

    /// Watts over the last minute.
    pub(super) fn mean(&self, source: usize) -> f32 {
        self.mean[source]
    }

    pub(super) fn disordered(&self) -> u64 {
        self.disordered
    }

    pub(super) fn latest(&self, source: usize) -> Option<f32> {
        self.samples.get(source).filter(|&&samples| samples > 0).map(|_| self.last_watts[source])
    }
}
