//! A step, as it is told.

use super::super::{Found, Scope};
use super::{CRITICAL_RATIO, Seen, object, round, watts};
use crate::incidents::{Incident, Kind, Severity};
use crate::judge::Judge;
use crate::power::Step;
use gridstep_wire::Micros;
use serde_json::json;

/// Steps of the fleet and of a feeder that begin this close together are one, seconds.
const SAME: f64 = 3.0;
/// A step is told anew every second for so long, then once in so long; seconds.
const FRESH: f64 = 5.0;
/// A step that consists of what is imputed to more than this is not confirmed.
const IMPUTED: f64 = 0.5;
/// A job's name may go so long before its power falls, seconds.
const JOB_ENDS: f64 = 2.0;

impl Judge {
    pub(super) fn report_step(&mut self, found: &Found, step: &Step) {
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

    /// The step is not one of nodes that fell silent or came back; what is there at its end counts.
    fn is_measured(&self, scope: Scope, step: &Step) -> bool {
        let history = &self.domain(scope).history;
        let most = IMPUTED * step.delta_watts().abs();
        let now = history.imputed(0);
        let before = history.imputed(history.age(step.started_at - ((step.rise_seconds + 0.5) * 1e6) as i64));
        (now - before).abs() <= most || step.settled && now <= most
    }
}
