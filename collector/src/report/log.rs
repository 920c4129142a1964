//! What a running collector keeps for reports: the seconds of a day, and spectra by the quarter of an hour; about 5 MB. A restart begins it
//! anew.

use super::{Details, Recorder, Second, Spectra};
use crate::judge::Judge;
use crate::power::{Basis, Quarter};
use gridstep_wire::Micros;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Seconds: a day.
const SECONDS: usize = 86_400;
const QUARTERS: usize = 96;
const QUARTER_US: i64 = 900_000_000;

/// Written once a second by the judging's task, read by whoever asks for a report.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    seconds: VecDeque<Second>,
    /// By the start of their quarter.
    spectra: VecDeque<(i64, Spectra)>,
    spectrum_at: Option<Micros>,
    details: Details,
}

impl Log {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what has been judged since the last time.
    pub(crate) fn look(&self, judge: &mut Judge) {
        let seconds = judge.take_power_seconds();
        let Some(last) = seconds.last().map(|second| second.at) else { return };
        let is_due = self.kept().spectrum_at.is_none_or(|at| last.since(at) >= super::recorder::SPECTRUM_SECONDS);
        let floor = if is_due { judge.spectrum() } else { None };
        let mut kept = self.kept();
        kept.details.look(judge, last);
        for second in &seconds {
            if kept.seconds.len() == SECONDS {
                kept.seconds.pop_front();
            }
            kept.seconds.push_back(second.into());
        }
        let Some(floor) = floor else { return };
        kept.spectrum_at = Some(last);
        let quarter = last.0.div_euclid(QUARTER_US) * QUARTER_US;
        if kept.spectra.back().is_none_or(|(start, _)| *start != quarter) {
            if kept.spectra.len() == QUARTERS {
                kept.spectra.pop_front();
            }
            kept.spectra.push_back((quarter, Spectra::default()));
        }
        if let Some((_, spectra)) = kept.spectra.back_mut() {
            spectra.push(&floor);
        }
    }

    /// What is kept of this time, and from when to when that is.
    pub(crate) fn record(
        &self,
        from: Micros,
        to: Micros,
        basis: Basis,
        demand: &[Quarter],
    ) -> (Recorder, Option<(Micros, Micros)>) {
        let (seconds, spectra, details) = {
            let kept = self.kept();
            let range =
                kept.seconds.partition_point(|second| second.at <= from)..kept.seconds.partition_point(|second| second.at <= to);
            let seconds: Vec<Second> = kept.seconds.range(range.start.min(range.end)..range.end).copied().collect();
            let inside = |start: i64| start < to.0 && start + QUARTER_US > from.0;
            let spectra: Vec<Spectra> =
                kept.spectra.iter().filter(|(start, _)| inside(*start)).map(|(_, spectra)| spectra.clone()).collect();
            (seconds, spectra, kept.details.clone())
        };
        let mut recorder = Recorder::default();
        recorder.details = details;
        for second in &seconds {
            recorder.push(second);
            recorder.put_sum(basis, f64::from(second.mean_watts), f64::from(second.completeness));
        }
        spectra.iter().for_each(|spectra| recorder.put_spectra(spectra));
        let overlaps = |quarter: &&Quarter| quarter.start < to && quarter.start + QUARTER_US > from;
        demand.iter().filter(overlaps).for_each(|quarter| recorder.put_quarter(*quarter));
        let span = seconds.first().zip(seconds.last()).map(|(first, last)| (first.at - 1_000_000, last.at));
        (recorder, span)
    }
}
