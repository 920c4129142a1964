//! An oscillation, as it is told.

use super::super::second::alike;
use super::super::{Found, Scope};
use super::{CRITICAL_RATIO, Seen, object, round, watts};
use crate::incidents::{Contributor, Incident, Kind, Severity};
use crate::judge::Judge;
use crate::power::Oscillation;
use crate::power::forecast::{self, Turn};
use serde_json::{Map, Value, json};

/// An oscillation above a limit of the contract pages when it has lasted so long, seconds.
const CRITICAL_SECONDS: f64 = 60.0;
/// … or grows by more than this per radian, for five cycles.
const GROWING: f64 = -0.005;
const GROWING_CYCLES: f64 = 5.0;
/// A frequency is a multiple of another within this share.
const HARMONIC: f64 = 0.05;
/// A feeder takes part in an oscillation whose share in it is so large.
const TAKES_PART: f64 = 0.1;
/// What swings by less than this share of the oscillation's figure swings no more.
const FADED: f64 = 0.5;

impl Judge {
    pub(super) fn report_oscillation(&mut self, found: &Found, line: &Oscillation) {
        let (scope, at) = (found.scope, found.at);
        let known = self.told(scope).line.clone().and_then(|id| self.book.place_of(&id));
        let place = known.or_else(|| self.place_of_line(scope, line));
        if place.is_some_and(|place| self.is_anothers(scope, place)) {
            if line.ended_at.is_some() {
                self.told(scope).line = None;
            }
            return;
        }
        // A revision a second would be noise: when it matters, or every ten seconds.
        let due = |incident: &Incident| {
            at.since(incident.updated_at) >= 10.0
                || line.ended_at.is_some()
                || (!incident.confirmed && at.since(incident.updated_at) >= 1.0)
        };
        let place = match place {
            Some(place) if known.is_some() && !due(self.book.get(place)) => place,
            place => {
                let seen = self.oscillation_seen(scope, found, line);
                // Shares of what has all but ended are those of noise: who swung while it did is what matters.
                let fades = seen.moved.watts.iter().sum::<f64>() < FADED * line.amplitude_watts;
                let mut report = self.swing(found, seen);
                if let Some(place) = place.filter(|_| fades) {
                    report.contributors.clone_from(&self.book.get(place).contributors);
                }
                self.book.put(place, Kind::PowerSwing, report)
            }
        };
        let id = self.book.get(place).id.clone();
        self.told(scope).line = Some(id);
        if let Some(ended) = line.ended_at {
            self.book.close(place, ended, at);
            self.told(scope).line = None;
        }
    }

    /// The incident of the same condition that another scope has told: the fleet tells what was a feeder's or the second's so far, a feeder's is part of
    /// the fleet's.
    fn place_of_line(&mut self, scope: Scope, line: &Oscillation) -> Option<usize> {
        let second = self.swings.second.running().is_some_and(|second| alike(second.frequency_hz, line.frequency_hz));
        if scope == Scope::Fleet && second {
            self.swings.second.end();
            return self.swings.told_second.line.take().and_then(|id| self.book.place_of(&id));
        }
        let of_fleet = matches!(scope, Scope::Fleet | Scope::Others);
        let other = |incident: &Incident| {
            let open = incident.kind == Kind::PowerSwing && incident.cause == "oscillation";
            open && incident.subject.cluster.is_some() != of_fleet
        };
        self.book.find_open(|incident| other(incident) && self.is_same(scope, line, incident))
    }

    /// The incident's oscillation is this one: it has its frequency, or one is a harmonic of the other (the first lock may be on one) and the feeder
    /// takes part in both.
    fn is_same(&self, scope: Scope, line: &Oscillation, incident: &Incident) -> bool {
        let Some(told) = incident.magnitude.get("frequency_hz").and_then(Value::as_f64) else { return false };
        if alike(told, line.frequency_hz) {
            return true;
        }
        let ratio = f64::max(told / line.frequency_hz, line.frequency_hz / told);
        if (ratio - ratio.round()).abs() > HARMONIC * ratio {
            return false;
        }
        let name = match scope {
            Scope::Feeder(index) => self.swings.feeders[index].name.clone(),
            _ => incident.subject.feeder.clone().unwrap_or_default(),
        };
        let takes_part =
            |who: &Contributor| who.who.get("feeder").is_some_and(|feeder| *feeder == name) && who.share >= TAKES_PART;
        if matches!(scope, Scope::Feeder(_)) {
            return incident.contributors.iter().any(takes_part);
        }
        let moved = self.moved_in_oscillation(scope, line);
        self.contributors(&moved.watts, line.started_at, false).iter().any(takes_part)
    }

    fn oscillation_seen(&self, scope: Scope, found: &Found, line: &Oscillation) -> Seen {
        let (limits, bands) = self.limits_of(scope);
        let limit = limits.oscillation_at(line.frequency_hz, bands);
        let ratio = line.amplitude_watts / limit;
        let lasts = found.at.since(line.started_at);
        let grows = line.damping_ratio < GROWING && lasts * line.frequency_hz >= GROWING_CYCLES;
        let in_band = limit < limits.oscillation_watts;
        let pages = !limits.from_nameplate && (grows || in_band || lasts > CRITICAL_SECONDS);
        let round4 = |value: f64| (value * 1e4).round() / 1e4;
        let mut magnitude = object(json!({
            "frequency_hz": line.frequency_hz, "amplitude_watts": round(line.amplitude_watts),
            "watts_per_second": round(line.watts_per_second), "damping_ratio": round4(line.damping_ratio),
            "claim_limit_hz": line.claim_limit_hz, "limit_watts": round(limit),
            "amplitude_is_lower_bound": line.lower_bound,
            "harmonic_2_ratio": round4(line.harmonics[0]), "harmonic_3_ratio": round4(line.harmonics[1]),
        }));
        magnitude.extend(self.foretold(scope, line));
        let summary = format!(
            "power oscillates by {}{} peak to peak at {:.3} Hz, every {:.1} s (limit {}){}",
            if line.lower_bound { "at least " } else { "" },
            watts(line.amplitude_watts),
            line.frequency_hz,
            1.0 / line.frequency_hz,
            watts(limit),
            if grows { ", and grows" } else { "" },
        );
        Seen {
            started_at: line.started_at,
            cause: "oscillation",
            severity: if ratio >= CRITICAL_RATIO || ratio >= 1.0 && pages { Severity::Critical } else { Severity::Warning },
            confirmed: self.is_confirmed(scope, found, line.opened_at),
            summary,
            magnitude,
            moved: self.moved_in_oscillation(scope, line),
            changed_at: line.started_at,
            falls: false,
        }
    }

    /// The next turns, as of this revision: seconds from then, and watts.
    fn foretold(&self, scope: Scope, line: &Oscillation) -> Map<String, Value> {
        let Some(next) = forecast::forecast(&self.domain(scope).history, line.frequency_hz) else { return Map::new() };
        if scope == Scope::Others || line.ended_at.is_some() {
            return Map::new();
        }
        let last = self.domain(scope).history.last().unwrap_or_default();
        let ahead = |turn: Turn| (turn.at.since(last) * 10.0).round() / 10.0;
        let mut all = object(json!({
            "next_trough_seconds": ahead(next.trough), "next_trough_watts": round(next.trough.watts),
            "next_crest_seconds": ahead(next.crest), "next_crest_watts": round(next.crest.watts),
            "forecast_error_watts": round(next.error_watts),
        }));
        // As measured: how far off forecasts were so far.
        if let Some(scored) = self.swings.score.scored().filter(|_| scope == Scope::Fleet) {
            all.insert("forecast_measured_error_watts".into(), round(scored.error_watts).into());
        }
        all
    }
}
