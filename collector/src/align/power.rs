//! Power of many sources (GPUs, whole nodes, or site meters) on one grid of 100 ms.
//!
//! Between two neighbouring samples of one source its power is taken to run straight; a bin's value is the power at its
//! centre. That costs amplitude at high frequencies, by the known gain [`interpolation_gain`], and adds nothing that was
//! not measured. A hole of more than [`LONGEST_HOLE`] periods is not bridged: the source is missing.
//!
//! A bin is judged twice over. It is **provisional** when [`ENOUGH`] of the sources are in it, or after the provisional watermark if half of
//! them are; it is **final** when all that still speak have passed it, or after the final watermark. What comes between the two replaces what
//! stood in for it: subtract the old, add the new, O(1) ([`Amended`]). What comes after is counted and not used.
//!
//! A missing source is imputed while the sum needs it ([`super::imputation`]). So a node that falls silent is no step of the sum. A source that
//! appears is taken to have drawn its first value before (`joined` of [`Bin`]).

use super::imputation::{JobRatios, job_of};
use super::ring::Ring;
use super::sources::Sources;
use super::{AlignConfig, BIN_US, Sampling};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// Sampling periods that may lie between two samples which are joined by a line.
pub const LONGEST_HOLE: f64 = 2.5;
/// Share of the sources that makes a bin worth judging at once.
pub const ENOUGH: f64 = 0.99;
/// Bins held open at most: 51.2 s.
const RING: i64 = 512;

/// What linear interpolation of samples `period` seconds apart leaves of a sine of `frequency` hertz: sinc²(f T).
pub fn interpolation_gain(frequency: f64, period: f64) -> f64 {
    sinc(frequency * period).powi(2)
}

/// sin(πx)/(πx)
pub fn sinc(x: f64) -> f64 {
    if x.abs() < 1e-9 { 1.0 } else { (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x) }
}

/// A bin that is judged for the first time, of all sources.
#[derive(Debug)]
pub struct Bin<'a> {
    /// Centre.
    pub at: Micros,
    /// Watts by source; imputed where it is missing, 0 where it was never heard of.
    pub watts: &'a [f32],
    /// Of all sources, watts.
    pub sum: f64,
    /// The part of the sum that is imputed, watts.
    pub imputed: f64,
    /// Sources measured ÷ sources known.
    pub completeness: f64,
    /// Known sources that are imputed.
    pub missing: &'a [u32],
    /// Sources heard of for the first time in this bin, and their watts.
    pub joined: &'a [(u32, f32)],
}

/// A source's value came after its bin had been judged, and before that was final.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Amended {
    pub at: Micros,
    pub source: u32,
    /// What had been imputed, watts.
    pub imputed: f32,
    pub watts: f32,
}

/// What [`PowerGrid::finish`] tells, in order.
#[derive(Debug)]
pub enum News<'a> {
    /// Sources that were heard of for the first time in bins that had been judged: as [`Bin::joined`].
    Joined(&'a [(u32, f32)]),
    /// Sources that are gone, and the watts that they are taken to have drawn: they are no longer imputed.
    Left(&'a [(u32, f32)]),
    Amended(Amended),
    Bin(Bin<'a>),
    /// The bin with this centre no longer changes.
    Final(Micros),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct OpenBin {
    /// By source; NaN: no value. Once the bin is judged, what is missing is imputed here.
    #[serde(with = "crate::packed")]
    watts: Vec<f32>,
    /// Sources that are measured.
    present: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PowerGrid {
    sources: Sources,
    /// Open bins by index: a bin's start is index × [`BIN_US`].
    ring: Ring<OpenBin>,
    /// Bins before this index have been judged.
    judged: i64,
    amended: Vec<Amended>,
    joined: Vec<(u32, f32)>,
    #[serde(default)]
    left: Vec<(u32, f32)>,
    watermark_us: i64,
    provisional_us: i64,
    hold: f64,
    sampling: Sampling,
    sampling_due: Micros,
    /// Columns to be used again.
    #[serde(skip)]
    spare: Vec<Vec<f32>>,
    #[serde(skip)]
    missing: Vec<u32>,
}

impl Default for PowerGrid {
    fn default() -> Self {
        Self::new(&AlignConfig::default(), 0.0)
    }
}

impl PowerGrid {
    /// `hold`: see [`Sampling`].
    pub fn new(config: &AlignConfig, hold: f64) -> Self {
        Self {
            sources: Sources::default(),
            ring: Ring::new(RING),
            judged: i64::MIN,
            amended: Vec::new(),
            joined: Vec::new(),
            left: Vec::new(),
            watermark_us: config.watermark_us(),
            provisional_us: config.provisional_us(),
            hold,
            sampling: Sampling { hold, ..Sampling::default() },
            sampling_due: Micros::MIN,
            spare: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Takes one sample of a source, as [`Self::put_run`].
    pub fn put(&mut self, source: usize, ts: Micros, watts: f32) {
        self.put_run(source, std::iter::once((ts, watts)));
    }

    /// Takes samples of a source. They come in the order of their stamps; one that does not is late.
    #[inline]
    pub fn put_run(&mut self, source: usize, samples: impl Iterator<Item = (Micros, f32)>) {
        if self.sources.len() <= source {
            self.sources.grow(source + 1);
        }
        let Self { sources, ring, spare, joined, amended, judged, .. } = self;
        let mut pen = Pen { ring, spare, joined, amended, judged: *judged };
        sources.take(source, samples, |sources, before, after| pen.join(sources, source, before, after));
    }

    /// Judges and finishes every bin that is due at `now` (arrival time). `job` gives each source's job.
    pub fn finish(&mut self, now: Micros, job: &[Option<u32>], mut take: impl FnMut(News<'_>)) {
        if !self.joined.is_empty() {
            take(News::Joined(&self.joined));
            self.joined.clear();
        }
        if !self.left.is_empty() {
            take(News::Left(&self.left));
            self.left.clear();
        }
        self.amended.drain(..).for_each(|change| take(News::Amended(change)));
        self.look_at_sampling(now);
        // Until sampling is known to be fine, a bin has to wait for the sample after it.
        let slowest = (self.sampling.slowest * 1e6) as i64;
        let deadline = now - self.watermark_us.max(slowest * 3 / 2 + 1_000_000);
        let patience = now - (self.provisional_us + (slowest - BIN_US).max(0)) - BIN_US;
        let heard = self.sources.heard();
        let Some(first) = self.ring.first() else { return };
        self.judged = self.judged.max(first);
        while let Some(bin) = self.ring.peek(self.judged) {
            let start = Micros(self.judged * BIN_US);
            let (present, centre) = (f64::from(bin.present), start + BIN_US / 2);
            let due = present >= ENOUGH * f64::from(heard)
                || start <= patience && 2.0 * present >= f64::from(heard)
                || self.sources.have_passed(centre, deadline);
            if !due {
                break;
            }
            self.judge(self.judged, job, &mut take);
            self.judged += 1;
        }
        while let Some(first) = self.ring.first().filter(|&first| first < self.judged) {
            let centre = Micros(first * BIN_US + BIN_US / 2);
            let whole = self.ring.peek(first).is_some_and(|bin| bin.present >= heard);
            if !whole && !self.sources.have_passed(centre, deadline) {
                break;
            }
            let Some((_, bin)) = self.ring.take(self.judged) else { break };
            self.spare.push(bin.watts);
            take(News::Final(centre));
        }
        self.ring.rest(deadline.0.div_euclid(BIN_US));
        if self.ring.first().is_none() {
            self.judged = i64::MIN;
        }
    }

    fn judge(&mut self, index: i64, job: &[Option<u32>], take: &mut impl FnMut(News<'_>)) {
        self.ring.begin();
        let bin = self.ring.bin(index);
        let (mut watts, present) = (std::mem::take(&mut bin.watts), bin.present);
        watts.resize(self.sources.len(), f32::NAN);
        let joined = self.sources.join(&watts);
        let known = self.sources.known();
        let mut imputed = 0.0;
        self.missing.clear();
        if present as usize == watts.len() {
            self.sources.learn_all(&watts);
        } else {
            let ratios = (present < known).then(|| JobRatios::new(&self.sources, &watts, job));
            for (source, value) in watts.iter_mut().enumerate() {
                if !value.is_nan() {
                    self.sources.learn(source, *value);
                } else if self.sources.is_known(source) {
                    let ratio = ratios.as_ref().and_then(|ratios| ratios.of(job_of(job, source)));
                    *value = self.sources.mean(source) * ratio.unwrap_or(1.0);
                    // It goes the way of those that it is measured against.
                    self.sources.learn(source, *value);
                    imputed += f64::from(*value);
                    self.missing.push(source as u32);
                } else {
                    *value = 0.0;
                }
            }
        }
        let sum = total(&watts);
        let completeness = f64::from(present) / f64::from(known.max(1));
        let at = Micros(index * BIN_US + BIN_US / 2);
        take(News::Bin(Bin { at, watts: &watts, sum, imputed, completeness, missing: &self.missing, joined: &joined }));
        self.ring.bin(index).watts = watts;
    }

    fn look_at_sampling(&mut self, now: Micros) {
        if now >= self.sampling_due || self.sources.has_new() {
            let (slowest, typical) = self.sources.periods();
            let phases = self.sources.phase_spread(typical.max(1e-3));
            self.sampling = Sampling { slowest, typical, phases, ..self.sampling };
            self.sampling_due = now + 5_000_000;
        }
    }

    /// How finely the sources are sampled.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Root of the mean square of the clocks' errors, seconds.
    pub fn set_clock_error(&mut self, seconds: f64) {
        self.sampling.clock = seconds;
    }

    /// Everything before this instant is finished.
    pub fn finished_until(&self) -> Option<Micros> {
        self.ring.first().map(|first| Micros(first * BIN_US))
    }

    pub fn is_empty(&self) -> bool {
        self.sources.len() == 0
    }

    /// Sources that have been part of the sum.
    pub fn known(&self) -> usize {
        self.sources.known() as usize
    }

    /// When a source spoke last. None: it is no part of the sum.
    pub fn last(&self, source: usize) -> Option<Micros> {
        self.sources.last(source)
    }

    /// How many sources have spoken of a time after `since`.
    pub fn speaking(&self, since: Micros) -> usize {
        (0..self.sources.len()).filter(|&source| self.sources.last(source).is_some_and(|last| last > since)).count()
    }

    /// The source, which no open bin has a value of, is gone for good: from the next call of [`Self::finish`] on it is no longer imputed.
    pub fn leave(&mut self, source: usize) {
        let Some(watts) = self.sources.leave(source) else { return };
        let judged = self.ring.first().map_or(0, |first| self.judged.saturating_sub(first).max(0));
        self.ring.iter_mut().take(judged as usize).for_each(|bin| stand_in(bin, source, 0.0));
        self.left.push((source as u32, watts));
    }

    /// Samples that came out of order or after their bin was finished.
    pub fn late(&self) -> u64 {
        self.sources.disordered() + self.ring.late()
    }

    /// Samples from too far in the future.
    pub fn ahead(&self) -> u64 {
        self.ring.ahead()
    }

    pub fn set_watermarks(&mut self, config: &AlignConfig) {
        (self.watermark_us, self.provisional_us) = (config.watermark_us(), config.provisional_us());
    }

    /// The source's latest value, watts.
    pub fn latest(&self, source: usize) -> Option<f32> {
        self.sources.latest(source)
    }
}

/// Draws lines into the bins.
struct Pen<'a> {
    ring: &'a mut Ring<OpenBin>,
    spare: &'a mut Vec<Vec<f32>>,
    joined: &'a mut Vec<(u32, f32)>,
    amended: &'a mut Vec<Amended>,
    judged: i64,
}

impl Pen<'_> {
    /// From one sample to the next.
    #[inline]
    fn join(&mut self, sources: &mut Sources, source: usize, (t0, p0): (Micros, f32), (t1, p1): (Micros, f32)) {
        let end = (t1.0 - BIN_US / 2).div_euclid(BIN_US);
        // From the sample before to the last centre that has been reached.
        let passed = end * BIN_US + BIN_US / 2 - t0.0;
        if passed <= 0 {
            return;
        }
        // What is nearly always the case: one bin, open and not judged yet.
        if passed <= BIN_US
            && end >= self.judged
            && let Some(bin) = self.ring.peek_mut(end)
            && let Some(cell) = bin.watts.get_mut(source)
        {
            // A clock that was set back may come by twice.
            bin.present += u32::from(cell.is_nan());
            *cell = p0 + (p1 - p0) / (t1.0 - t0.0) as f32 * passed as f32;
            return;
        }
        self.draw(sources, source, (t0, p0), (t1, p1));
    }

    /// Fills the bins whose centres lie in (t0, t1].
    #[inline(never)]
    fn draw(&mut self, sources: &mut Sources, source: usize, (t0, p0): (Micros, f32), (t1, p1): (Micros, f32)) {
        let start = (t0.0 - BIN_US / 2).div_euclid(BIN_US) + 1;
        let end = (t1.0 - BIN_US / 2).div_euclid(BIN_US);
        let slope = (p1 - p0) / (t1.0 - t0.0) as f32;
        let (ring, spare, known) = (&mut *self.ring, &mut *self.spare, sources.len());
        for index in ring.admit(start..=end, || OpenBin { watts: blank(spare, known), present: 0 }) {
            let centre = index * BIN_US + BIN_US / 2;
            let watts = p0 + slope * (centre - t0.0) as f32;
            let first = ring.first().unwrap_or(index);
            if index < self.judged {
                if sources.join_late(source, watts) {
                    self.joined.push((source as u32, watts));
                    ring.iter_mut().take((self.judged - first) as usize).for_each(|bin| stand_in(bin, source, watts));
                }
                let bin = ring.bin(index);
                let imputed = bin.watts[source];
                sources.relearn(source, imputed, watts);
                self.amended.push(Amended { at: Micros(centre), source: source as u32, imputed, watts });
            }
            let bin = ring.bin(index);
            if bin.watts.len() <= source {
                bin.watts.resize(known, f32::NAN);
            }
            bin.present += u32::from(index < self.judged || bin.watts[source].is_nan());
            bin.watts[source] = watts;
        }
    }
}

/// In a judged bin, what a source is taken to have drawn that joins after it.
fn stand_in(bin: &mut OpenBin, source: usize, watts: f32) {
    if bin.watts.len() <= source {
        bin.watts.resize(source + 1, 0.0);
    }
    bin.watts[source] = watts;
}

fn blank(spare: &mut Vec<Vec<f32>>, sources: usize) -> Vec<f32> {
    let mut column = spare.pop().unwrap_or_default();
    column.clear();
    column.resize(sources, f32::NAN);
    column
}

/// Sum in double precision of many single ones: sixteen lanes, which the processor adds side by side.
pub fn total(watts: &[f32]) -> f64 {
    let mut sum = 0.0;
    for block in watts.chunks(256) {
        let mut lanes = [0.0f32; 16];
        let mut parts = block.chunks_exact(16);
        for part in &mut parts {
            lanes.iter_mut().zip(part).for_each(|(lane, watts)| *lane += watts);
        }
        sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        sum += parts.remainder().iter().map(|&watts| f64::from(watts)).sum::<f64>();
    }
    sum
}

#[cfg(test)]
mod tests;
