//! Who moved: shares of a swing by job, rack, feeder and node.

use super::super::Judge;
use super::places::feeder_name;
use super::{Scope, report::object};
use crate::incidents::{Contributor, Evidence};
use crate::power::{Basis, CYCLES, Oscillation, Step};
use gridstep_wire::Micros;
use serde_json::json;
use std::collections::HashMap;

/// Named contributors of a level; the rest is «other».
const NAMED: usize = 5;
/// A unit takes part in a step when it moves by more than this, watts (facts/power-swings.md §3.6).
const LEAST_MOVE: f64 = 50.0;
/// … and together with the others, when it makes half of its way this close to their median, microseconds.
const TOGETHER_US: i64 = 250_000;

/// What each unit did.
pub(super) struct Moved {
    /// Watts by unit.
    pub(super) watts: Vec<f64>,
    /// By weight, the part of what moves that moves at the same time. None: not known.
    pub(super) simultaneity: Option<f64>,
}

impl Judge {
    /// From level to level: means over whole cycles (5 s without one) on both sides, over up to a minute where the levels are as steady, as
    /// far as they are known.
    pub(super) fn moved_in_step(&self, scope: Scope, step: &Step) -> Moved {
        let units = &self.swings.units;
        let domain = self.domain(scope);
        let length = domain.oscillation.cycle().map_or(5.0, |cycle| cycle.period * (5.0 / cycle.period).ceil());
        // Of what is further back seconds are known, which must not reach into the change.
        let span = |steady: f64| match steady > 2.0 * length {
            true => ((steady - 1.0) * 1e6) as i64,
            false => (length * 1e6) as i64,
        };
        let apart = |span: i64| if span > (length * 1e6) as i64 { 500_000 } else { 0 };
        let (before, after) = (span(step.steady_seconds.0), span(step.steady_seconds.1));
        let rise = (step.rise_seconds * 1e6) as i64 + 100_000;
        let begun = step.started_at - rise;
        let now = domain.history.last().unwrap_or(step.opened_at) + 100_000;
        let over = step.over_at.min(now - 300_000);
        let before = units.mean(begun - before - apart(before), begun - apart(before));
        let over = over + apart(after);
        let mut after = units.mean(over, now.min(over + after));
        after.resize(before.len(), 0.0);
        let watts: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        let halfway = units.halfway(&before, &after, begun - 1_000_000, now);
        let simultaneity = simultaneity(&watts, &halfway);
        Moved { watts: self.within(scope, watts), simultaneity }
    }

    pub(super) fn moved_in_oscillation(&self, scope: Scope, line: &Oscillation) -> Moved {
        let since = self.domain(scope).history.last().map_or(0.0, |now| now.since(line.started_at));
        let mut watts = self.swings.units.swing(line.frequency_hz, (since * line.frequency_hz).max(CYCLES));
        if scope == Scope::Others {
            (0..watts.len()).filter(|&unit| !self.swings.second.has(unit)).for_each(|unit| watts[unit] = 0.0);
        }
        Moved { watts: self.within(scope, watts), simultaneity: None }
    }

    /// What belongs to the scope; nothing of the others.
    fn within(&self, scope: Scope, mut watts: Vec<f64>) -> Vec<f64> {
        if let Scope::Feeder(index) = scope {
            let name = &self.swings.feeders[index].name;
            let basis = self.basis.unwrap_or_default();
            let outside = |unit: usize| {
                let node = self.swings.places.units.get(unit).map_or(usize::MAX, |unit| unit.node as usize);
                feeder_name(&self.fleet, basis, node) != Some(name)
            };
            (0..watts.len()).filter(|&unit| outside(unit)).for_each(|unit| watts[unit] = 0.0);
        }
        watts
    }

    /// Shares by job, rack, feeder and node; the shares of one level sum to 1, what is small is «other». Jobs as they were at the change, which is one
    /// since that instant.
    pub(super) fn contributors<'a>(&'a self, moved: &[f64], since: Micros, falls: bool) -> Vec<Contributor> {
        let total: f64 = moved.iter().sum();
        if total.abs() < 1e-6 {
            return Vec::new();
        }
        let basis = self.basis.unwrap_or_default();
        let units = &self.swings.places.units;
        let node = |unit: usize| units.get(unit).map_or(usize::MAX, |unit| unit.node as usize);
        let job = |unit: usize| units.get(unit)?.job_of_change(since, falls).map(|job| self.fleet.jobs()[job as usize].as_str());
        let place = |unit: usize| self.fleet.nodes().get(node(unit)).filter(|_| basis != Basis::Meter)?.place.as_ref();
        let name = |unit: usize| match basis {
            Basis::Meter => None,
            _ => self.fleet.nodes().get(node(unit)).map(|node| node.name.as_str()),
        };
        let level = |what: &str, name: &dyn Fn(usize) -> Option<&'a str>| {
            let mut groups: HashMap<&str, f64> = HashMap::new();
            for (unit, watts) in moved.iter().enumerate() {
                *groups.entry(name(unit).unwrap_or_default()).or_default() += watts / total;
            }
            let mut other = groups.remove("").unwrap_or(0.0);
            let mut named: Vec<(&str, f64)> = groups.into_iter().collect();
            named.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
            if named.len() > NAMED {
                other += named.split_off(NAMED).iter().map(|group| group.1).sum::<f64>();
            }
            if named.is_empty() {
                return Vec::new();
            }
            if other.abs() > 1e-9 {
                named.push(("other", other));
            }
            let share = |(name, share): (&str, f64)| Contributor { who: object(json!({ what: name })), share };
            named.into_iter().map(share).collect::<Vec<_>>()
        };
        let mut shares = level("job", &job);
        shares.extend(level("rack", &|unit| place(unit).map(|place| place.rack.as_str())));
        shares.extend(level("feeder", &|unit| feeder_name(&self.fleet, basis, node(unit))));
        shares.extend(level("node", &name));
        shares
    }

    /// How the units' movements fall together.
    pub(super) fn togetherness(&self, simultaneity: Option<f64>) -> Vec<Evidence> {
        let evidence = |signal: &str, value: f64| Evidence {
            signal: signal.into(),
            value: (value * 1e4).round() / 1e4,
            peers: None,
            score: None,
        };
        let mut all: Vec<Evidence> = simultaneity.map(|share| evidence("simultaneity_ratio", share)).into_iter().collect();
        if let Some(coincidence) = self.swings.units.coincidence() {
            all.push(evidence("coincidence_factor", coincidence.factor));
            all.push(evidence("swing_coincidence_ratio", coincidence.swing));
            all.push(evidence("synchrony_ratio", coincidence.synchrony));
        }
        all
    }
}

/// Of what moves, the part (by watts) that makes half of its way within a quarter of a second of the median.
fn simultaneity(watts: &[f64], halfway: &[Option<Micros>]) -> Option<f64> {
    let moves = watts.iter().zip(halfway).filter(|(watts, _)| watts.abs() > LEAST_MOVE);
    let mut moves: Vec<(Micros, f64)> = moves.filter_map(|(watts, at)| at.map(|at| (at, watts.abs()))).collect();
    moves.sort_by_key(|(at, _)| *at);
    let median = moves.get(moves.len() / 2)?.0;
    let all: f64 = moves.iter().map(|(_, watts)| watts).sum();
    let near = moves.iter().filter(|(at, _)| (at.0 - median.0).abs() <= TOGETHER_US);
    Some(near.map(|(_, watts)| watts).sum::<f64>() / all)
}
