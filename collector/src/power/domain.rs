//! One sum with limits of its own: the fleet's, or a feeder's.

use super::bands::Bands;
use super::demand::{Demand, OverLimit};
use super::limits::BandLimit;
use super::ramps::{Ramp, WINDOWS, ramps};
use super::spectrum::{self, Floor};
use super::{Cycle, History, Oscillation, OscillationJudge, Resolved, Signed, Step, StepJudge, Untimed, View};
use crate::align::Sampling;
use crate::align::power::Amended;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Seconds kept for whoever takes them: an hour.
const KEEP_SECONDS: usize = 3600;
/// Bins of a spectrum: 102.4 s.
const SPECTRUM: usize = 1024;

/// What is found in a bin.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    Step(Step),
    Oscillation(Oscillation),
    OverLimit(OverLimit),
}

/// What a bin brings to a sum.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub at: Micros,
    pub watts: &'a [f32],
    pub sum: f64,
    pub imputed: f64,
    pub completeness: f64,
    /// Sources that joined, by their place in `watts`.
    pub joined: &'a [(u32, f32)],
}

/// One final second of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PowerSecond {
    /// Its end.
    pub at: Micros,
    pub mean_watts: f64,
    pub min_watts: f64,
    pub max_watts: f64,
    /// The least of its bins, 0 to 1.
    pub completeness: f64,
    pub ramps: [Ramp; WINDOWS.len()],
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Domain {
    pub history: History,
    pub signed: Signed,
    pub steps: StepJudge,
    pub oscillation: OscillationJudge,
    pub demand: Demand,
    pub bands: Bands,
    pub untimed: Untimed,
    /// Of another oscillation, that of those who take no part in this one.
    pub second_cycle: Option<Cycle>,
    seconds: VecDeque<PowerSecond>,
}

impl Domain {
    /// Looks at a bin, which may be provisional.
    pub fn judge(
        &mut self,
        input: &Input<'_>,
        limits: &Resolved,
        bands: &[BandLimit],
        sampling: Sampling,
        mut found: impl FnMut(Finding),
    ) {
        self.join(input.joined);
        if self.history.missing(input.at) > 0 {
            // The noise of what was not seen is not known.
            self.signed.clear();
            self.untimed.clear();
        }
        self.history.push(input.at, input.sum, input.imputed, input.completeness);
        self.signed.push(input.watts);
        self.untimed.push(input.watts);
        let cycle = self.cycle();
        let Self { history, signed, untimed, .. } = self;
        let view = View { history, signed, untimed, limits, bands, sampling, taken: self.second_cycle };
        if let Some(step) = self.steps.judge(&view, cycle) {
            found(Finding::Step(step));
        }
        if let Some(line) = self.oscillation.judge(&view, self.steps.quiet_since()) {
            found(Finding::Oscillation(line));
        }
    }

    /// The repetition that the sum is known to have; of two, the slower one.
    pub fn cycle(&self) -> Option<Cycle> {
        let cycles = self.oscillation.cycle().into_iter().chain(self.second_cycle);
        cycles.max_by(|a, b| a.period.total_cmp(&b.period))
    }

    /// Sources are heard of for the first time (or, of negative power, leave): they are taken to have drawn this all along.
    pub fn join(&mut self, sources: &[(u32, f32)]) {
        if sources.is_empty() {
            return;
        }
        let watts = sources.iter().map(|&(_, watts)| f64::from(watts)).sum();
        self.history.joined(watts);
        self.bands.joined(watts);
        self.signed.joined(sources.iter().map(|&(source, watts)| (source as usize, watts)));
    }

    /// A value of one of its sources came after its bin was judged.
    pub fn amend(&mut self, change: &Amended, source: usize, sources: usize) {
        let age = self.history.age(change.at);
        self.history.amend(change.at, f64::from(change.imputed), f64::from(change.watts), sources);
        self.signed.amend(age, source, change.watts - change.imputed);
        self.untimed.amend(&self.history, change.at, source, change.watts - change.imputed);
    }

    /// The bin at this instant no longer changes.
    pub fn finish(&mut self, at: Micros, limits: &Resolved) -> Option<OverLimit> {
        let age = self.history.age(at);
        let watts = self.history.back(age)?;
        let before = self.history.last_final().map_or(age, |before| self.history.age(before));
        (age + 1..before).rev().filter_map(|age| self.history.back(age)).for_each(|watts| self.bands.push(watts));
        self.history.finish(at);
        self.bands.push(watts);
        if at.0.rem_euclid(1_000_000) >= 900_000 {
            self.keep_second(at, age);
        }
        self.demand.push(at, watts, limits.demand_15min_watts)
    }

    fn keep_second(&mut self, at: Micros, age: usize) {
        let (min_watts, max_watts) = self.history.range(age, 10).unwrap_or_default();
        let mean_watts = self.history.mean(age, 10).unwrap_or(max_watts);
        let completeness = self.history.completeness(age + 10);
        if self.seconds.len() == KEEP_SECONDS {
            self.seconds.pop_front();
        }
        let ramps = ramps(&self.history, age);
        self.seconds.push_back(PowerSecond { at, mean_watts, min_watts, max_watts, completeness, ramps });
    }

    /// Final seconds since the last call, oldest first, of the last hour at most.
    pub fn take_seconds(&mut self) -> Vec<PowerSecond> {
        self.seconds.drain(..).collect()
    }

    /// How far the sum has moved up to now.
    pub fn ramps(&self) -> [Ramp; WINDOWS.len()] {
        ramps(&self.history, 0)
    }

    /// Of the last 102 s, beside what independent sources would show. None: not that much is known.
    pub fn spectrum(&self) -> Option<Floor> {
        if self.history.len() < SPECTRUM || self.signed.len() < SPECTRUM {
            return None;
        }
        let own: Vec<f64> = self.history.newest(SPECTRUM).collect();
        spectrum::beside(&own, (0..super::signed::SUMS).map(|sum| self.signed.newest(sum, SPECTRUM).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::BIN_US;

    fn input(bin: i64, watts: &[f32]) -> Input<'_> {
        let sum = watts.iter().map(|&watts| f64::from(watts)).sum();
        Input { at: Micros(bin * BIN_US + BIN_US / 2), watts, sum, imputed: 0.0, completeness: 1.0, joined: &[] }
    }

    /// Half a minute of nothing, in which the level changed: it may have done so slowly, and nobody has seen how restless it was.
    #[test]
    fn a_hole_is_no_step_and_the_past_stays_where_it_was() {
        let (mut domain, mut found) = (Domain::default(), Vec::new());
        let limits = Resolved {
            contracted_watts: 20_000.0,
            steps: [(1.0, 1000.0), (10.0, 2000.0), (60.0, 3000.0)],
            oscillation_watts: 1000.0,
            demand_15min_watts: 20_000.0,
            from_nameplate: false,
        };
        let sampling = Sampling { slowest: 0.1, typical: 0.1, ..Sampling::default() };
        for bin in (0..1200).chain(1500..1800) {
            let noise = |source: i64| ((bin * 7919 + source * 104_729) % 97) as f32 / 9.7;
            let level = if bin < 1200 { 500.0 } else { 700.0 };
            let watts: Vec<f32> = (0..16).map(|source| level + noise(source)).collect();
            domain.judge(&input(bin, &watts), &limits, &[], sampling, |finding| found.push((bin, finding)));
            domain.finish(Micros((bin - 20) * BIN_US + BIN_US / 2), &limits);
        }
        assert!(found.is_empty(), "{found:?}");
        let at = |bin: i64| domain.history.back(domain.history.age(Micros(bin * BIN_US + BIN_US / 2))).unwrap();
        assert!((at(1199) - 8080.0).abs() < 100.0 && (at(1500) - 11_280.0).abs() < 100.0, "{} {}", at(1199), at(1500));
        assert_eq!(domain.history.completeness(299), 1.0);
        assert_eq!(domain.history.completeness(301), 0.0);
        // The bands have seen no jump.
        assert!(domain.bands.powers().all(|band| band.rms_watts < 200.0), "{:?}", domain.bands.powers().collect::<Vec<_>>());
    }
}
