//! The sum around the onset of each incident, bin by bin: what a plot of all the time is too coarse for.

use crate::incidents::{Incident, Kind};
use crate::judge::Judge;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Incidents that are looked at closely: the latest.
const MOST: usize = 100;
/// Seconds before the onset.
const BEFORE: f64 = 15.0;
/// Seconds after it, and cycles of an oscillation after it is told.
const AFTER: f64 = 30.0;
const CYCLES: f64 = 6.0;
const LONGEST: f64 = 300.0;

/// Centre of a bin, and watts.
type Point = (Micros, f32);

/// By incident.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Details(BTreeMap<String, Vec<Point>>);

impl Details {
    /// Looks for incidents whose onset is past, up to the last second that is final.
    pub fn look(&mut self, judge: &Judge, last: Micros) {
        let swings = judge.incidents().filter(|incident| last.since(incident.started_at) < LONGEST + 300.0);
        let due = |incident: &&Incident| {
            incident.kind == Kind::PowerSwing
                && incident.cause != "over_limit"
                && last >= end(incident)
                && !self.0.contains_key(&incident.id)
        };
        let due: Vec<&Incident> = swings.filter(due).collect();
        for incident in due {
            if self.0.len() == MOST {
                self.forget_oldest();
            }
            let (from, to) = (incident.started_at - (BEFORE * 1e6) as i64, end(incident));
            let points = judge.power_history().filter(|point| point.at >= from && point.at <= to);
            self.0.insert(incident.id.clone(), points.map(|point| (point.at, point.watts as f32)).collect());
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.0.iter().min_by_key(|(_, points)| points.first().map(|point| point.0));
        if let Some(id) = oldest.map(|(id, _)| id.clone()) {
            self.0.remove(&id);
        }
    }

    /// Oldest first; empty: nothing is known.
    pub fn of(&self, incident: &Incident) -> &[Point] {
        self.0.get(&incident.id).map_or(&[], Vec::as_slice)
    }

    /// Lets go of all but these.
    pub fn keep(&mut self, incidents: &[Incident]) {
        self.0.retain(|id, _| incidents.iter().any(|incident| incident.id == *id));
    }
}

fn end(incident: &Incident) -> Micros {
    let cycles = incident.magnitude.get("frequency_hz").and_then(|hertz| hertz.as_f64()).map_or(0.0, |hertz| CYCLES / hertz);
    let told = incident.opened_at.since(incident.started_at);
    incident.started_at + ((told + AFTER.max(cycles)).min(LONGEST) * 1e6) as i64
}
