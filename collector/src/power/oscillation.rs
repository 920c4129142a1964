//! Sustained, coherent repetitions of the sum.
//!
//! Once a second, on stretches of 4 to 128 s:
//!
//! 1. **candidate**: the repetition rate whose harmonics hold most of the stretch's spectrum, at least [`CYCLES`] cycles of it;
//! 2. **amplitude**: the fundamental's peak-to-peak by least squares, ÷ the gain of sensor and interpolation at that frequency,
//!    above the limit;
//! 3. **synchrony**: the sum must swing more than N independent sources would. T = |S(f)|² / mean_k |Y_k(f)|², Y_k = Σᵢ ±pᵢ with
//!    fixed random signs. What all have in common is in the Y_k too; without it T becomes T' = T ÷ (1 − T/N), which has no upper bound. If sources
//!    are independent, T' follows F(2, 2n) whatever the colour of their noise, 1/n = 1/K + 1/N; it must exceed its 1 − 10⁻¹⁰ quantile,
//!    n (p^(−1/n) − 1): 27.7 for K = 64 and many sources, 33.7 for 64 (facts/power-swings.md §3.4 has K = 16 and 10⁻⁶, 21.9, which
//!    in a small noisy fleet is exceeded by chance every few days, as there is a look each second at several stretches and all frequencies);
//! 4. **sustained**: each of the last [`CYCLES`] cycles swings by at least half of the amplitude, all in one phase
//!    (|Σz| ≥ 0.8 Σ|z|), and the repetition explains at least [`EXPLAINED`] of the stretch's variance.
//!
//! It ends when it has been below 0.8 of the limit for 30 s or three cycles, whichever is longer.

use super::claim::{claim_limit, gain};
use super::history::BIN;
use super::signed::SUMS;
use super::whole::Whole;
use super::{Cycle, History, View, spectrum};
use crate::align::Sampling;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Cycles that make a repetition.
pub const CYCLES: f64 = 3.0;
/// Least share of variance explained.
pub const EXPLAINED: f64 = 0.35;
/// A candidate is fitted if it comes up to this share of the limits before: it is off the spectrum's frequency by an eighth of a cycle in the stretch
/// at most, which costs the fundamental 3 % and its fourth harmonic more than half.
const WORTH_A_FIT: f64 = 0.5;
/// Of independent sources so many looks are exceeded.
pub const CHANCE: f64 = 1e-10;
/// Of what the sources do, at least so much is taken for their own.
const LEAST_LEFT: f64 = 1e-3;
/// Stretches looked at, seconds.
const STRETCHES: [f64; 11] = [4.0, 5.6, 8.0, 11.2, 16.0, 22.4, 32.0, 45.0, 64.0, 90.0, 128.0];
/// So many cycles after it was opened, one that does not fit what came since is looked for anew: it was locked on what came before its onset.
const YOUNG: f64 = 6.0;
/// A cycle that swings by less than this share of the newest two is before the onset.
const BEFORE_ONSET: f64 = 0.6;
/// Figures rest on at most so many cycles.
const FIGURE_CYCLES: f64 = 20.0;
/// The whole incident counts where its coherence is at least this share of that of its last cycles.
const STEADY: f64 = 0.9;

/// A running (or just ended) oscillation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Oscillation {
    pub started_at: Micros,
    pub opened_at: Micros,
    pub frequency_hz: f64,
    /// Peak to peak of the fundamental, corrected for the gain, watts.
    pub amplitude_watts: f64,
    /// Steepest change within a second during the last cycle, watts per second.
    pub watts_per_second: f64,
    /// The corrected amplitude is a lower bound: less than half of it passes sensor and sampling.
    pub lower_bound: bool,
    /// Nothing is claimed above this frequency.
    pub claim_limit_hz: f64,
    /// Test statistic of synchrony when it was opened.
    pub synchrony: f64,
    pub explained: f64,
    /// Relative decrease of the amplitude per radian: −σ/√(σ² + ω²); negative: growing.
    pub damping_ratio: f64,
    /// Of the second and third harmonic to the fundamental: small for a sine, large for pulses.
    #[serde(default)]
    pub harmonics: [f64; 2],
    pub ended_at: Option<Micros>,
}

impl Oscillation {
    /// Takes the figures of a line that fits better; frequency (hertz) and peak to peak (watts) as they are best known.
    fn adopt(&mut self, line: &spectrum::Line, (frequency_hz, watts): (f64, f64), view: &View<'_>) {
        let gain = gain(frequency_hz, view.sampling);
        self.frequency_hz = frequency_hz;
        self.amplitude_watts = watts / gain.max(0.5);
        self.lower_bound = gain < 0.5;
        self.explained = line.explained;
        self.harmonics = line.harmonics;
        self.watts_per_second = steepest(view.history, 1.0 / frequency_hz, view.sampling);
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OscillationJudge {
    current: Option<Oscillation>,
    below_since: Option<Micros>,
    bins: u64,
    /// Amplitude of earlier seconds, for damping: (seconds since opened, watts).
    track: VecDeque<(f64, f64)>,
    whole: Whole,
}

impl OscillationJudge {
    /// Looks at the newest bin. Gives the oscillation when it opens, changes or ends.
    pub fn judge(&mut self, view: &View<'_>, quiet_since: Option<Micros>) -> Option<Oscillation> {
        self.bins += 1;
        if !self.bins.is_multiple_of(10) {
            return None;
        }
        let history = view.history;
        // After a hole, until there is enough of what came after it.
        let least = self.current.as_ref().map_or(0, |running| (CYCLES / running.frequency_hz / BIN) as usize);
        if !view.signed.reaches(least) {
            return None;
        }
        let quiet = quiet_since.map_or(history.len(), |at| history.age(at)).min(history.len());
        match self.current.take() {
            Some(running) => self.follow(running, view, quiet),
            None => self.open(view),
        }
    }

    /// The one that goes on.
    pub fn running(&self) -> Option<&Oscillation> {
        self.current.as_ref()
    }

    pub fn cycle(&self) -> Option<Cycle> {
        self.current.as_ref().map(|running| Cycle { period: 1.0 / running.frequency_hz })
    }

    /// A repetition in the shortest stretch that shows one: the line, its synchrony, and the stretch's seconds.
    fn look(view: &View<'_>) -> Option<(spectrum::Line, f64, f64)> {
        let View { history, sampling, .. } = *view;
        let least = least_limit(view) * gain(claim_limit(sampling), sampling);
        STRETCHES.iter().find_map(|&seconds| {
            let bins = (seconds / BIN) as usize;
            if bins > history.len() || !view.signed.reaches(bins) || seconds < 8.0 * sampling.slowest {
                return None;
            }
            // A line is at most 4/π of the range that it runs in (a square wave).
            let (low, high) = history.range(0, bins)?;
            if 1.5 * (high - low) < least {
                return None;
            }
            let stretch: Vec<f64> = history.newest(bins).collect();
            Self::find(&stretch, view)
        })
    }

    fn open(&mut self, view: &View<'_>) -> Option<Oscillation> {
        let View { history, sampling, .. } = *view;
        let (line, synchrony, seconds) = Self::look(view)?;
        // What lies before the onset would thin out its figures.
        let stretch = view.untimed.newest(history, (seconds / BIN) as usize, line.frequency_hz);
        let begun = since_onset(&stretch, line.frequency_hz);
        let line = spectrum::fit(&stretch[stretch.len() - begun..], line.frequency_hz, claim_limit(sampling)).unwrap_or(line);
        let gain = gain(line.frequency_hz, sampling);
        let now = history.last()?;
        let opened = Oscillation {
            started_at: now - (begun as f64 * BIN * 1e6) as i64,
            opened_at: now,
            frequency_hz: line.frequency_hz,
            amplitude_watts: line.amplitude_watts() / gain.max(0.5),
            watts_per_second: steepest(history, 1.0 / line.frequency_hz, sampling),
            lower_bound: gain < 0.5,
            claim_limit_hz: claim_limit(sampling),
            synchrony,
            explained: line.explained,
            damping_ratio: 0.0,
            harmonics: line.harmonics,
            ended_at: None,
        };
        self.begin_anew();
        self.current = Some(opened.clone());
        Some(opened)
    }

    /// What was gathered of another rate is nothing to this one.
    fn begin_anew(&mut self) {
        self.below_since = None;
        self.track.clear();
        self.whole = Whole::default();
    }

    fn find(stretch: &[f64], view: &View<'_>) -> Option<(spectrum::Line, f64, f64)> {
        let claim = claim_limit(view.sampling);
        let seconds = stretch.len() as f64 * BIN;
        let rough = spectrum::strongest_rate(stretch, CYCLES / seconds, claim)?;
        let timed = view.untimed.from_hz().map(|_| view.untimed.newest(view.history, stretch.len(), rough));
        let stretch = timed.as_deref().unwrap_or(stretch);
        let size = |line: &spectrum::Line| {
            let hertz = line.frequency_hz;
            line.amplitude_watts() / gain(hertz, view.sampling) / view.limits.oscillation_at(hertz, view.bands)
        };
        // Most are nothing, and that is cheaper seen than how much of it.
        let near = spectrum::at(stretch, rough, claim)?;
        if size(&near) < WORTH_A_FIT || near.explained < WORTH_A_FIT * EXPLAINED {
            return None;
        }
        let line = spectrum::fit(stretch, rough, claim)?;
        let hertz = line.frequency_hz;
        let enough = size(&line) > 1.0;
        if !enough || line.explained < EXPLAINED || hertz * seconds < CYCLES || hertz > claim {
            return None;
        }
        if !sustained(stretch, hertz, line.amplitude_watts()) {
            return None;
        }
        let synchrony = Self::synchrony(stretch, hertz, view);
        (synchrony > synchrony_threshold(CHANCE, view.signed.sources())).then_some((line, synchrony, seconds))
    }

    /// T' of T = |S(f)|² / mean |Y_k(f)|² over the same stretch. Sources that are missing follow their job in the sum, which makes it swing
    /// as if they were coherent: of sources of which a share c is there, independent ones give a T that is 1/c² too large.
    fn synchrony(stretch: &[f64], hertz: f64, view: &View<'_>) -> f64 {
        let bins = stretch.len().min(view.signed.len());
        let flat = spectrum::without_trend(&stretch[stretch.len() - bins..]);
        let own = spectrum::demodulate(&flat, hertz).norm_sqr();
        let random = view.signed.power_at(bins, hertz);
        if random <= 0.0 {
            return f64::INFINITY;
        }
        let ratio = view.history.completeness(bins).powi(2) * own / random;
        ratio / (1.0 - ratio / view.signed.sources().max(1) as f64).max(LEAST_LEFT)
    }

    fn follow(&mut self, mut running: Oscillation, view: &View<'_>, quiet: usize) -> Option<Oscillation> {
        let View { history, limits, bands, sampling, .. } = *view;
        let limit = limits.oscillation_at(running.frequency_hz, bands);
        let claim = claim_limit(sampling);
        let now = history.last()?;
        let period = 1.0 / running.frequency_hz;
        let (least, most) = ((CYCLES * period / BIN) as usize, (FIGURE_CYCLES * period / BIN) as usize);
        let whole = history.age(running.started_at);
        // The amplitude of the last cycles says whether it goes on; the longer stretch says what it is.
        let recent = view.untimed.newest(history, least.min(history.len()), running.frequency_hz);
        let recent_line = spectrum::at(&recent, running.frequency_hz, claim)?;
        let present = recent_line.amplitude_watts() / gain(running.frequency_hz, sampling).max(0.5);
        // A change of level within the last cycles spoils their figures: the ones before it stand.
        let clean = recent_line.explained >= EXPLAINED.max(0.7 * running.explained);
        let goes_on = present > 0.8 * limit && quiet >= least && clean;
        let since = now.since(running.opened_at);
        if !clean
            && since < YOUNG * period
            && let Some((line, ..)) = Self::look(view).filter(|(line, ..)| !is_anothers(line, view))
        {
            self.begin_anew();
            running.adopt(&line, (line.frequency_hz, line.amplitude_watts()), view);
            self.current = Some(running.clone());
            return Some(running);
        }
        let centre = since - 0.5 * CYCLES * period;
        if goes_on && whole >= least && self.whole.last().is_none_or(|last| centre - last >= CYCLES * period) {
            self.whole.push(centre, recent_line.phasor);
        }
        let fresh = since < 20.0;
        if goes_on && (fresh || self.bins.is_multiple_of(100)) {
            // Young as it may be, all of it and nothing before.
            let span = whole.min(quiet).min(most).max((2.0 * period / BIN) as usize);
            let long = view.untimed.newest(history, span.min(history.len()), running.frequency_hz);
            let line = self.relock(&long, &running, view).or_else(|| spectrum::fit(&long, running.frequency_hz, claim));
            if let Some(line) = line.filter(|line| line.explained >= EXPLAINED) {
                running.adopt(&line, self.figures(&line, long.len(), since), view);
            }
        }
        running.claim_limit_hz = claim;
        self.track.push_back((since, present));
        while self.track.front().is_some_and(|first| since - first.0 > 10.0 * period) {
            self.track.pop_front();
        }
        running.damping_ratio = damping(&self.track, running.frequency_hz);
        if present < 0.8 * limit {
            let since = *self.below_since.get_or_insert(now);
            if now.since(since) >= (CYCLES * period).max(30.0) {
                running.ended_at = Some(since);
                return Some(running);
            }
        } else {
            self.below_since = None;
        }
        self.current = Some(running.clone());
        Some(running)
    }

    /// Frequency (hertz) and peak to peak (watts) of an oscillation whose last cycles, `bins` long, hold this line: of the whole
    /// incident, which is better known, as long as that agrees with itself as much as its last cycles do.
    fn figures(&self, line: &spectrum::Line, bins: usize, since: f64) -> (f64, f64) {
        let seconds = bins as f64 * BIN;
        let reach = 0.5 / seconds;
        let latest = self.whole.common(since - seconds, line.frequency_hz, reach);
        let whole = self.whole.common(0.0, line.frequency_hz, reach);
        match (whole, latest) {
            (Some(whole), Some(latest)) if since > seconds && whole.coherence >= STEADY * latest.coherence => {
                (whole.frequency_hz, whole.amplitude_watts)
            }
            _ => (line.frequency_hz, line.amplitude_watts()),
        }
    }

    /// Another rate that explains the stretch clearly better: the first lock may have been on a harmonic, or the job's step
    /// has changed. Looked for every ten seconds.
    fn relock(&self, stretch: &[f64], running: &Oscillation, view: &View<'_>) -> Option<spectrum::Line> {
        if !self.bins.is_multiple_of(100) {
            return None;
        }
        let (line, _, _) = Self::find(stretch, view)?;
        let other = (line.frequency_hz / running.frequency_hz - 1.0).abs() > 0.1;
        (other && !is_anothers(&line, view) && line.explained > running.explained + 0.1).then_some(line)
    }
}

/// The second oscillation has this rate.
fn is_anothers(line: &spectrum::Line, view: &View<'_>) -> bool {
    view.taken.is_some_and(|taken| (line.frequency_hz * taken.period - 1.0).abs() < 0.1)
}

/// The least that any line is allowed, watts.
fn least_limit(view: &View<'_>) -> f64 {
    view.bands.iter().map(|band| band.watts).fold(view.limits.oscillation_watts, f64::min)
}

/// Bins from the onset to the stretch's end, in whole cycles and at least two: how far back cycles swing like the newest two.
fn since_onset(stretch: &[f64], hertz: f64) -> usize {
    let flat = spectrum::without_trend(stretch);
    let cycle = 1.0 / hertz / BIN;
    let swing = |back: usize| {
        let end = flat.len().checked_sub((back as f64 * cycle).round() as usize)?;
        let start = end.checked_sub(cycle.round() as usize)?;
        Some(spectrum::demodulate(&flat[start..end], hertz).norm())
    };
    let (Some(newest), Some(second)) = (swing(0), swing(1)) else { return flat.len() };
    let least = BEFORE_ONSET * newest.min(second);
    let cycles = (2..).take_while(|&back| swing(back).is_some_and(|swing| swing >= least)).count() + 2;
    ((cycles as f64 * cycle).round() as usize).min(flat.len())
}

/// The last cycles all swing, and in one phase.
fn sustained(stretch: &[f64], hertz: f64, amplitude: f64) -> bool {
    let cycle = (1.0 / hertz / BIN).round() as usize;
    let flat = spectrum::without_trend(stretch);
    let count = flat.len() / cycle.max(1);
    if count < CYCLES as usize {
        return false;
    }
    let cycles: Vec<_> = (0..CYCLES as usize)
        .map(|back| {
            let end = flat.len() - back * cycle;
            let own = spectrum::demodulate(&flat[end - cycle..end], hertz);
            // Refer all of them to one origin.
            own * realfft::num_complex::Complex::from_polar(1.0, -std::f64::consts::TAU * hertz * BIN * (end - cycle) as f64)
        })
        .collect();
    let swing = |z: &realfft::num_complex::Complex<f64>| 4.0 * z.norm() / cycle as f64;
    let coherent =
        cycles.iter().sum::<realfft::num_complex::Complex<f64>>().norm() / cycles.iter().map(|z| z.norm()).sum::<f64>();
    cycles.iter().all(|z| swing(z) >= 0.5 * amplitude) && coherent >= 0.8
}

/// Quantile 1 − p of F(2, 2n): n (p^(−1/n) − 1), 1/n = 1/K + 1/N for N sources.
pub fn synchrony_threshold(p: f64, sources: usize) -> f64 {
    let n = 1.0 / (1.0 / SUMS as f64 + 1.0 / sources.max(1) as f64);
    n * (p.powf(-1.0 / n) - 1.0)
}

fn steepest(history: &History, period: f64, sampling: Sampling) -> f64 {
    let span = (sampling.slowest.max(1.0_f64.min(period / 2.0)) / BIN).round().max(1.0) as usize;
    let change = |age: usize| Some((history.back(age)? - history.back(age + span)?).abs());
    (0..(period / BIN) as usize).filter_map(change).fold(0.0, f64::max) / (span as f64 * BIN)
}

/// −σ/√(σ² + ω²) from the slope σ of the amplitude's logarithm.
fn damping(track: &VecDeque<(f64, f64)>, hertz: f64) -> f64 {
    let points: Vec<(f64, f64)> = track.iter().filter(|point| point.1 > 0.0).map(|&(t, a)| (t, a.ln())).collect();
    let count = points.len() as f64;
    if count < 4.0 {
        return 0.0;
    }
    let (mean_t, mean_a) = (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
    let spread: f64 = points.iter().map(|p| (p.0 - mean_t).powi(2)).sum();
    let slope = points.iter().map(|p| (p.0 - mean_t) * (p.1 - mean_a)).sum::<f64>() / spread.max(1e-9);
    -slope / slope.hypot(std::f64::consts::TAU * hertz)
}
