//! Findings → incidents: one condition, one incident.
//!
//! What the fleet and one of its feeders both show at once is one condition: the fleet's. A change that has returned and comes again is
//! counted, not told anew ([`super::recurring`]).

mod oscillation;
mod step;

use super::super::Judge;
use super::contributors::Moved;
use super::recurring::Recurring;
use super::{Found, Scope};
use crate::incidents::{Book, Contributor, Evidence, Kind, Report, Severity, Subject};
use crate::power::{BandLimit, Finding, OverLimit, Resolved, claim};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Ratio to its limit from which a swing pages at once.
pub(super) const CRITICAL_RATIO: f64 = 1.5;
/// A second oscillation whose share of one job is larger is that job's.
const MOST: f64 = 0.5;
/// With less of the data nothing is confirmed.
const CONFIRMS: f64 = 0.5;

/// What has been told of one scope.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Told {
    /// The step that is being refined: when it was opened, and its incident.
    step: Option<(Micros, String)>,
    line: Option<String>,
    over: Option<String>,
    pub(super) recurring: Recurring,
}

/// What is known of a swing but for who moved.
struct Seen {
    started_at: Micros,
    cause: &'static str,
    severity: Severity,
    confirmed: bool,
    summary: String,
    magnitude: Map<String, Value>,
    moved: Moved,
    /// Jobs count that worked then, and whether a fall is to be theirs.
    changed_at: Micros,
    falls: bool,
}

impl Judge {
    pub(super) fn report(&mut self, found: &Found) {
        match &found.finding {
            Finding::Step(step) => self.report_step(found, step),
            Finding::Oscillation(line) => self.report_oscillation(found, line),
            Finding::OverLimit(over) => self.report_over_limit(found, over),
        }
    }

    fn told(&mut self, scope: Scope) -> &mut Told {
        match scope {
            Scope::Fleet => &mut self.swings.told,
            Scope::Others => &mut self.swings.told_second,
            Scope::Feeder(index) => &mut self.swings.feeders[index].told,
        }
    }

    fn limits_of(&self, scope: Scope) -> (Resolved, &[BandLimit]) {
        let given = &self.config.power.limits;
        match scope {
            Scope::Fleet | Scope::Others => (self.limits, &given.band),
            Scope::Feeder(index) => {
                let feeder = &self.swings.feeders[index];
                (feeder.limits, given.feeder.get(&feeder.name).map_or(&[], |own| own.band.as_slice()))
            }
        }
    }

    fn subject(&self, scope: Scope) -> Subject {
        match scope {
            Scope::Fleet | Scope::Others => Subject { cluster: Some("cluster".into()), ..Subject::default() },
            Scope::Feeder(index) => Subject { feeder: Some(self.swings.feeders[index].name.clone()), ..Subject::default() },
        }
    }

    /// A feeder's finding belongs to an incident of the fleet: that tells it.
    fn is_anothers(&self, scope: Scope, place: usize) -> bool {
        matches!(scope, Scope::Feeder(_)) && self.book.get(place).subject.cluster.is_some()
    }

    /// The bin that opened it is final, and enough of the data is there.
    fn is_confirmed(&self, scope: Scope, found: &Found, opened_at: Micros) -> bool {
        found.completeness >= CONFIRMS && self.domain(scope).history.last_final().is_some_and(|last| last >= opened_at)
    }

    fn report_over_limit(&mut self, found: &Found, over: &OverLimit) {
        let scope = found.scope;
        let limits = self.limits_of(scope).0;
        let magnitude = object(json!({
            "demand_watts": round(over.demand_watts), "limit_watts": round(limits.demand_15min_watts), "quarters": over.quarters,
        }));
        let summary =
            format!("demand of 15 minutes is {} or more (limit {})", watts(over.demand_watts), watts(limits.demand_15min_watts));
        let seen = Seen {
            started_at: over.started_at,
            cause: "over_limit",
            severity: if limits.from_nameplate { Severity::Warning } else { Severity::Critical },
            confirmed: found.completeness >= CONFIRMS,
            summary,
            magnitude,
            moved: Moved { watts: self.swings.units.mean(found.at - 60_000_000, found.at), simultaneity: None },
            changed_at: found.at - 60_000_000,
            falls: false,
        };
        let report = self.swing(found, seen);
        let place = self.told(scope).over.clone().and_then(|id| self.book.place_of(&id));
        let place = self.book.put(place, Kind::PowerSwing, report);
        self.told(scope).over = Some(self.book.get(place).id.clone());
        if let Some(ended) = over.ended_at {
            self.book.close(place, ended, found.at);
            self.told(scope).over = None;
        }
    }

    /// The report of what one of the detectors saw.
    fn swing(&self, found: &Found, seen: Seen) -> Report {
        let mut summary = seen.summary;
        if let Scope::Feeder(index) = found.scope {
            summary = format!("{}: {summary}", self.swings.feeders[index].name);
        }
        if self.limits_of(found.scope).0.from_nameplate {
            summary.push_str("; limits from the fleet's nameplate, no contract is configured");
        }
        let mut evidence = self.togetherness(seen.moved.simultaneity);
        evidence.extend(self.carried(&seen.magnitude));
        let contributors = self.contributors(&seen.moved.watts, seen.changed_at, seen.falls);
        let mut subject = self.subject(found.scope);
        if found.scope == Scope::Others {
            subject.job = most_of_it(&contributors);
        }
        Report {
            at: found.at,
            started_at: seen.started_at,
            cause: seen.cause,
            severity: seen.severity,
            subject,
            completeness: (found.completeness * 1e4).round() / 1e4,
            confirmed: seen.confirmed,
            summary,
            magnitude: seen.magnitude,
            evidence,
            ruled_out: Vec::new(),
            contributors,
        }
    }

    /// What the figures rest on: what sensor, sampling and clocks leave of an amplitude, and the clocks' error.
    fn carried(&self, magnitude: &Map<String, Value>) -> Vec<Evidence> {
        let Some(hertz) = magnitude.get("frequency_hz").and_then(Value::as_f64) else { return Vec::new() };
        let sampling = self.sampling();
        let evidence = |signal: &str, value: f64| Evidence { signal: signal.into(), value, peers: None, score: None };
        let gain = (claim::gain(hertz, sampling) * 1e4).round() / 1e4;
        let mut all = vec![evidence("gain_ratio", gain), evidence("clock_error_seconds", (sampling.clock * 1e4).round() / 1e4)];
        all.push(evidence("phase_spread_ratio", (sampling.phases * 1e4).round() / 1e4));
        all.extend(claim::alias(hertz, sampling).map(|alias| evidence("alias_hz", (alias * 1e4).round() / 1e4)));
        all
    }

    /// Recurring changes that have not come again for long are over.
    pub(super) fn close_recurring(&mut self, at: Micros) {
        let scopes = (0..self.swings.feeders.len()).map(Scope::Feeder).chain([Scope::Fleet]);
        for scope in scopes.collect::<Vec<_>>() {
            for (id, ended) in self.told(scope).recurring.over(at) {
                if let Some(place) = self.book.place_of(&id).filter(|&place| !self.is_anothers(scope, place)) {
                    self.book.close(place, ended, at);
                }
            }
        }
    }
}

/// The job that swings, where it is one: two oscillations of a fleet have two subjects.
fn most_of_it(contributors: &[Contributor]) -> Option<String> {
    let job = |who: &Contributor| who.who.get("job").and_then(Value::as_str).filter(|_| who.share > MOST).map(str::to_owned);
    contributors.iter().find_map(job)
}

impl Book {
    /// Refines the incident at this place, or opens one; gives its place.
    fn put(&mut self, place: Option<usize>, kind: Kind, report: Report) -> usize {
        match place {
            Some(place) => {
                self.refine(place, report);
                place
            }
            None => self.open(kind, report),
        }
    }
}

pub(in crate::judge) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// "58.1 kW"
fn watts(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.2} MW", value / 1e6),
        v if v >= 1e3 => format!("{:.1} kW", value / 1e3),
        _ => format!("{value:.0} W"),
    }
}
