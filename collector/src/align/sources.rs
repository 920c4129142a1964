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

/// What a sample is held against: all of it in one place, as it is touched with every sample.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Recent {
    ts: Micros,
    watts: f32,
    /// Seconds between samples, smoothed.
    period: f32,
    /// So far, as far as this counts: 0, 1, or more.
    samples: u8,
    strikes: u8,
}

impl Recent {
    const NONE: Self = Self { ts: Micros::MIN, watts: 0.0, period: 0.0, samples: 0, strikes: 0 };

    #[inline]
    fn follow(&mut self, ts: Micros, watts: f32, period: f32, in_order: bool) {
        (self.ts, self.watts, self.period) = (ts, watts, period);
        if in_order {
            self.strikes = 0;
        }
    }

    fn strike(&mut self, ts: Micros, watts: f32) {
        if self.ts.0.saturating_sub(ts.0) < SET_BACK_US {
            return;
        }
        self.strikes += 1;
        if self.strikes >= STRIKES {
            (self.ts, self.watts, self.strikes) = (ts, watts, 0);
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Sources {
    recent: Vec<Recent>,
    /// Watts over the last minute, and the bins that this rests on.
    #[serde(with = "crate::packed")]
    mean: Vec<f32>,
    #[serde(with = "crate::packed")]
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
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.recent.len()
    }

    pub(super) fn grow(&mut self, sources: usize) {
        self.recent.resize(sources, Recent::NONE);
        self.mean.resize(sources, 0.0);
        self.mean_bins.resize(sources, 0.0);
        self.is_known.resize(sources, false);
    }

    /// Takes samples of a source, in order; of each that is to be joined to the one before it by a line, gives both. What `join` does must not touch
    /// what is known of this source's samples.
    #[inline]
    pub(super) fn take(
        &mut self,
        source: usize,
        samples: impl Iterator<Item = (Micros, f32)>,
        mut join: impl FnMut(&mut Self, (Micros, f32), (Micros, f32)),
    ) {
        // Each in a register.
        let Recent { mut ts, mut watts, mut period, samples: count, .. } = self.recent[source];
        let (mut is_settled, mut in_order) = (count == 2, false);
        for sample in samples.filter(|sample| sample.1.is_finite()) {
            let before = (ts, watts);
            if is_settled && sample.0 > ts {
                let gap = sample.0.0.wrapping_sub(ts.0) as f32 * 1e-6;
                (ts, watts, in_order) = (sample.0, sample.1, true);
                let longest = LONGEST_HOLE as f32 * if period > 0.2 { period } else { 0.2 };
                // A hole is not the period; a slower cadence for good is learned slowly.
                period += (if gap < 2.0 * period { gap } else { 2.0 * period } - period) * (1.0 / 16.0);
                if gap <= longest {
                    join(self, before, sample);
                }
                continue;
            }
            self.recent[source].follow(ts, watts, period, in_order);
            in_order = false;
            if self.begin(source, sample) {
                join(self, before, sample);
            }
            Recent { ts, watts, period, .. } = self.recent[source];
            is_settled = self.recent[source].samples == 2;
        }
        self.recent[source].follow(ts, watts, period, in_order);
    }

    /// Takes a sample that is one of the first two, or in disorder. True: it is to be joined to the one before.
    #[cold]
    fn begin(&mut self, source: usize, (ts, watts): (Micros, f32)) -> bool {
        let own = &mut self.recent[source];
        if ts <= own.ts {
            self.disordered += 1;
            own.strike(ts, watts);
            return false;
        }
        let gap = ts.0.saturating_sub(own.ts.0) as f32 * 1e-6;
        (own.ts, own.watts, own.strikes) = (ts, watts, 0);
        own.samples += 1;
        if own.samples == 1 {
            self.heard += 1;
            return false;
        }
        own.period = gap.min(5.0);
        self.has_new = true;
        gap <= 5.0
    }

    /// Whether every source that has spoken since `deadline` has passed this instant; whether the deadline has, if none has spoken.
    pub(super) fn have_passed(&self, instant: Micros, deadline: Micros) -> bool {
        let mut speaking = self.recent.iter().map(|recent| recent.ts).filter(|&ts| ts > deadline);
        speaking.next().unwrap_or(deadline) >= instant && speaking.all(|ts| ts >= instant)
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

    /// In place of what had been imputed.
    pub(super) fn relearn(&mut self, source: usize, imputed: f32, watts: f32) {
        self.mean[source] += (watts - imputed) / self.mean_bins[source].max(1.0);
    }

    /// The same for all, none of them missing.
    pub(super) fn learn_all(&mut self, watts: &[f32]) {
        for ((mean, bins), watts) in self.mean.iter_mut().zip(&mut self.mean_bins).zip(watts) {
            *bins = if *bins < MEAN_BINS { *bins + 1.0 } else { MEAN_BINS };
            *mean += (watts - *mean) / *bins;
        }
    }

    /// Seconds between samples: of the slowest but for a hundredth of them, and the root of the mean square.
    pub(super) fn periods(&mut self) -> (f64, f64) {
        self.has_new = false;
        let mut periods: Vec<f32> = self.recent.iter().map(|recent| recent.period).filter(|&period| period > 0.0).collect();
        if periods.is_empty() {
            return (0.0, 0.0);
        }
        let squares: f64 = periods.iter().map(|&period| f64::from(period).powi(2)).sum();
        let typical = (squares / periods.len() as f64).sqrt();
        let last = periods.len() - 1 - (SLOW * periods.len() as f64) as usize;
        let (_, slowest, _) = periods.select_nth_unstable_by(last, f32::total_cmp);
        (f64::from(*slowest), typical)
    }

    /// See [`super::Sampling::phases`].
    pub(super) fn phase_spread(&self, period: f64) -> f64 {
        let newest = self.recent.iter().map(|recent| recent.ts).max().unwrap_or_default();
        // A thousand tell as much as all; one that is silent says nothing.
        let some = self.recent.iter().step_by(self.recent.len().div_ceil(1024).max(1));
        let speaks = some.filter(|recent| recent.samples == 2 && newest.since(recent.ts) < 10.0 * period);
        let (mut count, mut sum) = (0.0, (0.0, 0.0));
        for recent in speaks {
            let (sin, cos) = (std::f64::consts::TAU * newest.since(recent.ts) / period).sin_cos();
            (count, sum) = (count + 1.0, (sum.0 + cos, sum.1 + sin));
        }
        if count > 0.0 { f64::hypot(sum.0, sum.1) / count } else { 0.0 }
    }

    /// When it spoke last. None: it is no part of the sum.
    pub(super) fn last(&self, source: usize) -> Option<Micros> {
        self.is_known.get(source).filter(|known| **known).map(|_| self.recent[source].ts)
    }

    /// It is no longer part of the sum; gives what it is taken to have drawn. It comes back as one that is new.
    pub(super) fn leave(&mut self, source: usize) -> Option<f32> {
        self.last(source)?;
        (self.is_known[source], self.mean_bins[source], self.recent[source]) = (false, 0.0, Recent::NONE);
        self.known -= 1;
        self.heard -= 1;
        Some(std::mem::take(&mut self.mean[source]))
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
        self.recent.get(source).filter(|recent| recent.samples > 0).map(|recent| recent.watts)
    }
}
