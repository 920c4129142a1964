//! Folds what is judged, second by second, into what a report shows: in bounded memory, however long it goes on.

use super::{Changes, Details, Facts, Report, Second, Spectra, Sum, Trace, WINDOWS};
use crate::incidents::Incident;
use crate::judge::Judge;
use crate::power::{Basis, Quarter};
use gridstep_wire::Micros;
use std::collections::BTreeMap;

/// A spectrum is over so many seconds; so often one is taken.
pub(super) const SPECTRUM_SECONDS: f64 = 102.4;
/// Quarters of an hour kept: a month.
const QUARTERS: usize = 31 * 96;

#[derive(Debug, Clone, Copy)]
struct Running {
    watts: f64,
    max_watts: f64,
    completeness: f64,
    looks: f64,
}

#[derive(Debug, Clone)]
pub struct Recorder {
    trace: Trace,
    changes: Vec<Changes>,
    spectra: Option<Spectra>,
    spectrum_at: Option<Micros>,
    /// By their start.
    demand: BTreeMap<i64, Quarter>,
    sums: BTreeMap<Basis, Running>,
    pub(super) details: Details,
}

impl Default for Recorder {
    fn default() -> Self {
        let changes = WINDOWS.into_iter().map(Changes::new).collect();
        let (trace, demand, sums, details) = Default::default();
        Self { trace, changes, spectra: None, spectrum_at: None, demand, sums, details }
    }
}

impl Recorder {
    /// Looks at what has been judged since the last time: about once a second.
    pub fn look(&mut self, judge: &mut Judge) {
        let seconds = judge.take_power_seconds();
        seconds.iter().for_each(|second| self.push(&second.into()));
        let Some(last) = seconds.last() else { return };
        self.details.look(judge, last.at);
        if self.spectrum_at.is_none_or(|at| last.at.since(at) >= SPECTRUM_SECONDS)
            && let Some(floor) = judge.spectrum()
        {
            self.spectra.get_or_insert_default().push(&floor);
            self.spectrum_at = Some(last.at);
        }
        for figure in judge.figures() {
            self.put_sum(figure.basis, figure.watts, figure.completeness);
        }
        let (_, finished) = judge.demand();
        finished.last().into_iter().for_each(|quarter| self.put_quarter(*quarter));
    }

    pub fn push(&mut self, second: &Second) {
        self.trace.push(second);
        self.changes.iter_mut().enumerate().for_each(|(window, changes)| changes.push(second, window));
    }

    pub fn put_spectra(&mut self, spectra: &Spectra) {
        self.spectra.get_or_insert_default().add(spectra);
    }

    pub fn put_quarter(&mut self, quarter: Quarter) {
        self.demand.insert(quarter.start.0, quarter);
        if self.demand.len() > QUARTERS {
            self.demand.pop_first();
        }
    }

    pub fn put_sum(&mut self, basis: Basis, watts: f64, completeness: f64) {
        let empty = Running { watts: 0.0, max_watts: watts, completeness: 0.0, looks: 0.0 };
        let sum = self.sums.entry(basis).or_insert(empty);
        sum.watts += watts;
        sum.max_watts = sum.max_watts.max(watts);
        sum.completeness += completeness;
        sum.looks += 1.0;
    }

    /// What was judged of this time.
    pub fn report(mut self, source: String, (from, to): (Micros, Micros), facts: Facts, incidents: Vec<Incident>) -> Report {
        let sum = |(basis, running): (Basis, Running)| Sum {
            basis,
            mean_watts: running.watts / running.looks,
            max_watts: running.max_watts,
            completeness: running.completeness / running.looks,
        };
        self.details.keep(&incidents);
        Report {
            details: self.details,
            source,
            from,
            to,
            facts,
            trace: self.trace,
            changes: self.changes,
            spectra: self.spectra,
            demand: self.demand.into_values().collect(),
            sums: self.sums.into_iter().map(sum).collect(),
            incidents,
            late_samples: 0,
            unknown: Vec::new(),
        }
    }
}
