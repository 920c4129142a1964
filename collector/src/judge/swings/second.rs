//! A second oscillation, of others, while one goes on.
//!
//! Power adds up: a job that swings at f puts nothing but f and its harmonics into the sum, however steep its cycle. So who takes no part in the
//! oscillation that goes on leaves no trace of it in their own sum, and what that holds is another one's. Jobs (where there are none: feeders)
//! that swing at f by [`TAKES_PART`] of the whole or more take part. The sum of the others is looked at as the whole is, against the same limits and the same
//! sign-randomised sums. Neither harmonics nor leakage have to be told from a second line that way, and a second one may well be at seven times the first.

use super::places::feeder_name;
use super::{Judged, Swings};
use crate::align::BIN_US;
use crate::power::{History, Oscillation, OscillationJudge, Untimed, View};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who swings by this share of the whole takes part …
const TAKES_PART: f64 = 0.1;
/// … or by this share of the limit, if that is less.
const OF_LIMIT: f64 = 0.25;
/// Who takes part is looked at every so often, bins.
const LOOK: u32 = 100;
/// That rests on the last cycles of the first.
const PHASOR_CYCLES: f64 = 12.0;
/// Frequencies that differ by less than this share are one.
pub(super) const ALIKE: f64 = 0.1;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Second {
    /// By unit: takes no part in the first.
    members: Vec<bool>,
    history: History,
    judge: OscillationJudge,
    bins: u32,
}

impl Second {
    pub(super) fn running(&self) -> Option<&Oscillation> {
        self.judge.running()
    }

    pub(super) fn has(&self, unit: usize) -> bool {
        self.members.get(unit).copied().unwrap_or(false)
    }

    /// It is told as the first from now on, or there is no first.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// A value of one of the units came late.
    pub(super) fn amend(&mut self, at: Micros, unit: usize, imputed: f32, watts: f32, sources: usize) {
        if self.has(unit) {
            self.history.amend(at, f64::from(imputed), f64::from(watts), sources);
        }
    }
}

/// Frequencies of one oscillation.
pub(super) fn alike(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < ALIKE
}

impl Swings {
    /// Looks at the bin that has just been judged. Gives the second oscillation when it opens, changes or ends.
    pub(super) fn judge_second(&mut self, at: Micros, completeness: f64, judged: &Judged<'_>) -> Option<Oscillation> {
        let first = self.fleet.oscillation.running().map(|first| first.frequency_hz);
        let runs = self.second.running().is_some();
        let Some(hertz) = first.or_else(|| self.second.running().map(|second| second.frequency_hz)) else {
            if !self.second.members.is_empty() {
                self.second.end();
            }
            return None;
        };
        if !runs && self.second.bins.is_multiple_of(LOOK) {
            self.choose(hertz, judged);
        }
        self.second.bins += 1;
        if self.second.members.is_empty() {
            return None;
        }
        let members = &self.second.members;
        let row = self.units.bins().back()?;
        let watts = row.iter().zip(members).filter(|(_, is_in)| **is_in).map(|(&watts, _)| f64::from(watts)).sum();
        self.second.history.push(at, watts, 0.0, completeness);
        let view = View {
            history: &self.second.history,
            signed: &self.fleet.signed,
            untimed: &Untimed::default(),
            limits: judged.limits,
            bands: &judged.limits_given.band,
            sampling: judged.sampling,
            taken: None,
        };
        let found = self.second.judge.judge(&view, self.fleet.steps.quiet_since())?;
        // Somebody may have begun to take part since that was looked at.
        if !runs && self.choose(hertz, judged) {
            return None;
        }
        Some(found)
    }

    /// Who takes no part in what swings at this frequency. True: others than before; what was known of them is forgotten.
    fn choose(&mut self, hertz: f64, judged: &Judged<'_>) -> bool {
        let members = self.others(hertz, judged);
        if members == self.second.members {
            return false;
        }
        self.second = Second { members, bins: self.second.bins, ..Second::default() };
        if self.second.members.is_empty() {
            return true;
        }
        // But for the newest bin, which is yet to be looked at.
        let past = self.units.sum_in_bins(&self.second.members);
        let last = self.fleet.history.last().unwrap_or_default();
        let count = past.len().saturating_sub(1);
        for (index, watts) in past.into_iter().take(count).enumerate() {
            self.second.history.push(last - (count - index) as i64 * BIN_US, watts, 0.0, 1.0);
        }
        true
    }

    fn others(&self, hertz: f64, judged: &Judged<'_>) -> Vec<bool> {
        let units = &self.places.units;
        let group = |unit: usize| {
            let unit = &units[unit];
            unit.job.map_or_else(|| Err(feeder_name(judged.fleet, judged.basis, unit.node as usize)), Ok)
        };
        let groups: BTreeMap<_, usize> = (0..units.len()).map(group).map(|group| (group, 0)).collect();
        if groups.len() < 2 {
            return Vec::new();
        }
        let phasors = self.units.phasors(hertz, PHASOR_CYCLES);
        let mut swings: BTreeMap<_, (f64, f64)> = BTreeMap::new();
        for (unit, own) in phasors.iter().enumerate().take(units.len()) {
            let swing = swings.entry(group(unit)).or_default();
            *swing = (swing.0 + own.0, swing.1 + own.1);
        }
        let norm = |swing: &(f64, f64)| f64::hypot(swing.0, swing.1);
        let whole = swings.values().fold((0.0, 0.0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
        let limit = judged.limits.oscillation_at(hertz, &judged.limits_given.band);
        let least = (TAKES_PART * norm(&whole)).min(OF_LIMIT * limit);
        let members: Vec<bool> =
            (0..units.len()).map(|unit| swings.get(&group(unit)).is_some_and(|swing| norm(swing) < least)).collect();
        if members.contains(&true) { members } else { Vec::new() }
    }
}
