//! Findings → incidents: one condition, one incident.
//!
//! What the fleet and one of its feeders both show at once is one condition: the fleet's. A change that has returned and comes again is
//! counted, not told anew ([`super::recurring`]).

use super::super::Judge;
use super::contributors::Moved;
use super::recurring::Recurring;
use super::second::alike;
use super::{Found, Scope};
use crate::incidents::{Book, Contributor, Evidence, Incident, Kind, Report, Severity, Subject};
use crate::power::forecast::Turn;
use crate::power::{BandLimit, Finding, Oscillation, OverLimit, Resolved, Step, forecast, oscillation};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Ratio to its limit from which a swing pages at once.
pub(super) const CRITICAL_RATIO: f64 = 1.5;
/// An oscillation above a limit of the contract pages when it has lasted so long, seconds.
const CRITICAL_SECONDS: f64 = 60.0;
/// … or grows by more than this per radian, for five cycles.
const GROWING: f64 = -0.005;
const GROWING_CYCLES: f64 = 5.0;
/// Steps of the fleet and of a feeder that begin this close together are one, seconds.
const SAME: f64 = 3.0;
/// A step is told anew every second for so long, then once in so long; seconds.
const FRESH: f64 = 5.0;
/// A step that consists of what is imputed to more than this is not confirmed.
const IMPUTED: f64 = 0.5;
/// A job's name may go so long before its power falls, seconds.
const JOB_ENDS: f64 = 2.0;
/// A frequency is a multiple of another within this share.
const HARMONIC: f64 = 0.05;
/// A second oscillation whose share of one job is larger is that job's.
const MOST: f64 = 0.5;
/// A feeder takes part in an oscillation whose share in it is so large.
const TAKES_PART: f64 = 0.1;
/// With less of the data nothing is confirmed.
const CONFIRMS: f64 = 0.5;
/// What swings by less than this share of the oscillation's figure swings no more.
const FADED: f64 = 0.5;

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

    fn report_step(&mut self, found: &Found, step: &Step) {
        let (scope, at) = (found.scope, found.at);
        let cause = if step.delta_watts() >= 0.0 { "step_up" } else { "step_down" };
        let known = self.told(scope).step.clone().filter(|(opened, _)| *opened == step.opened_at);
        let place = match &known {
            Some((_, id)) => self.book.place_of(id),
            None => self.place_of_step(scope, cause, step, at),
        };
        if place.is_some_and(|place| self.is_anothers(scope, place)) {
            return;
        }
        // A revision a second while it is young, then one in five.
        let is_told = |incident: &Incident| {
            incident.confirmed && at.since(step.opened_at) > FRESH && at.since(incident.updated_at) < FRESH && !step.settled
        };
        if known.is_some() && place.is_some_and(|place| is_told(self.book.get(place))) {
            return;
        }
        let id = place.map(|place| self.book.get(place).id.clone());
        let count = self.told(scope).recurring.count(id.as_deref());
        let seen = self.step_seen(scope, found, step, cause, count);
        let report = self.swing(found, seen);
        let place = self.book.put(place, Kind::PowerSwing, report);
        let id = self.book.get(place).id.clone();
        if known.is_none() {
            self.told(scope).recurring.began(&id, cause, step.delta_watts(), step.started_at);
            self.told(scope).step = Some((step.opened_at, id.clone()));
        }
        if step.settled && !self.told(scope).recurring.holds(&id) {
            self.book.close(place, at, at);
        }
    }

    /// The incident that a step which is news belongs to, if there is one.
    fn place_of_step(&mut self, scope: Scope, cause: &str, step: &Step, at: Micros) -> Option<usize> {
        // The one before is over, as far as it does not come again.
        if let Some((_, id)) = self.told(scope).step.take() {
            self.told(scope).recurring.returns(step.delta_watts(), step.started_at);
            let holds = self.told(scope).recurring.holds(&id);
            let ends_it = self.book.place_of(&id).filter(|&place| !holds && !self.is_anothers(scope, place));
            if let Some(place) = ends_it {
                self.book.close(place, at, at);
            }
        }
        if let Some(id) = self.told(scope).recurring.recurs(cause, step.delta_watts(), step.started_at) {
            return self.book.place_of(&id);
        }
        let same = |incident: &Incident| {
            incident.kind == Kind::PowerSwing
                && incident.cause == cause
                && incident.started_at.since(step.started_at).abs() <= SAME.max(step.rise_seconds)
                && incident.subject.cluster.is_some() != matches!(scope, Scope::Fleet | Scope::Others)
        };
        self.book.find_last(same)
    }

    /// A feeder's finding belongs to an incident of the fleet: that tells it.
    fn is_anothers(&self, scope: Scope, place: usize) -> bool {
        matches!(scope, Scope::Feeder(_)) && self.book.get(place).subject.cluster.is_some()
    }

    fn step_seen(&self, scope: Scope, found: &Found, step: &Step, cause: &'static str, count: u32) -> Seen {
        let delta = step.delta_watts();
        let mut magnitude = object(json!({
            "delta_watts": round(delta), "watts_per_second": round(step.watts_per_second),
            "rise_seconds": (step.rise_seconds * 10.0).round() / 10.0,
            "before_watts": round(step.before_watts), "after_watts": round(step.after_watts),
            "limit_watts": round(step.limit.1), "limit_seconds": step.limit.0,
        }));
        let mut summary = format!(
            "power {} by {} within {:.1} s (limit {} in {:.0} s)",
            if delta >= 0.0 { "rose" } else { "fell" },
            watts(delta.abs()),
            step.rise_seconds,
            watts(step.limit.1),
            step.limit.0
        );
        if count > 0 {
            magnitude.insert("recurrences".into(), count.into());
            let times = if count == 1 { "once".into() } else { format!("{count} times") };
            summary.push_str(&format!(", and {times} again"));
        }
        let ratio = delta.abs() / step.limit.1;
        Seen {
            started_at: step.started_at,
            cause,
            severity: if ratio >= CRITICAL_RATIO { Severity::Critical } else { Severity::Warning },
            confirmed: self.is_confirmed(scope, found, step.opened_at) && self.is_measured(scope, step),
            summary,
            magnitude,
            moved: self.moved_in_step(scope, step),
            changed_at: step.started_at - ((step.rise_seconds + JOB_ENDS) * 1e6) as i64,
            falls: delta < 0.0,
        }
    }

    /// The bin that opened it is final, and enough of the data is there.
    fn is_confirmed(&self, scope: Scope, found: &Found, opened_at: Micros) -> bool {
        found.completeness >= CONFIRMS && self.domain(scope).history.last_final().is_some_and(|last| last >= opened_at)
    }

    /// The step is not one of nodes that fell silent or came back; what is there at its end counts.
    fn is_measured(&self, scope: Scope, step: &Step) -> bool {
        let history = &self.domain(scope).history;
        let most = IMPUTED * step.delta_watts().abs();
        let now = history.imputed(0);
        let before = history.imputed(history.age(step.started_at - ((step.rise_seconds + 0.5) * 1e6) as i64));
        (now - before).abs() <= most || step.settled && now <= most
    }

    fn report_oscillation(&mut self, found: &Found, line: &Oscillation) {
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
        let magnitude = object(json!({
            "frequency_hz": line.frequency_hz, "amplitude_watts": round(line.amplitude_watts),
            "watts_per_second": round(line.watts_per_second), "damping_ratio": round4(line.damping_ratio),
            "claim_limit_hz": line.claim_limit_hz, "limit_watts": round(limit),
            "amplitude_is_lower_bound": line.lower_bound,
            "harmonic_2_ratio": round4(line.harmonics[0]), "harmonic_3_ratio": round4(line.harmonics[1]),
        }));
        let mut magnitude = magnitude;
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
        let gain = (oscillation::gain(hertz, sampling) * 1e4).round() / 1e4;
        let mut all = vec![evidence("gain_ratio", gain), evidence("clock_error_seconds", (sampling.clock * 1e4).round() / 1e4)];
        all.push(evidence("phase_spread_ratio", (sampling.phases * 1e4).round() / 1e4));
        all.extend(oscillation::alias(hertz, sampling).map(|alias| evidence("alias_hz", (alias * 1e4).round() / 1e4)));
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
