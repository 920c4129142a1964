//! Clocks that are off: telemetry incidents, and what is left out of the figures for it.
//!
//! Whether a clock is off, and by how much, [`crate::align::clocks`] says from three witnesses, with hysteresis.

use super::Judge;
use super::swings::object;
use crate::align::clocks::{ClockView, LASTS, Off, Usual};
use crate::fleet::NodeSlot;
use crate::incidents::{Evidence, Kind, Report, Severity};
use crate::power::Basis;
use gridstep_wire::Micros;
use serde_json::{Value, json};

const CAUSE: &str = "clock_skewed";
/// So long ago it began, when it is told, microseconds.
const LASTS_US: i64 = LASTS as i64 * 1_000_000;
/// A clock that its agent alone calls off is taken to be off by so much, seconds: what is above 1 Hz goes without it.
const DOUBTED: f64 = 0.1;
/// An offset that has changed by this share is told anew.
const CHANGED: f64 = 0.25;

impl Judge {
    /// Once a second.
    pub(super) fn watch_clocks(&mut self, at: Micros) {
        let usual = Usual::of(&self.swings.clocks);
        let looked = self.swings.look_at_clocks(&usual);
        let open = !self.book.open_places(Kind::Telemetry).is_empty();
        for (node, off) in (0..).map(NodeSlot).zip(&looked) {
            match off {
                Some(off) => self.tell_clock(node, at, *off),
                None if open => self.close_faults(node, None, at, CAUSE),
                None => {}
            }
        }
        self.leave_untimed(&looked);
    }

    fn tell_clock(&mut self, node: NodeSlot, at: Micros, off: Off) {
        let subject = self.fault_subject(node, None);
        let known = self.book.find_open(|open| open.cause == CAUSE && open.subject == subject);
        let told = |place: usize| self.book.get(place).magnitude.get("clock_offset_seconds").and_then(Value::as_f64);
        let same = |told: f64| (told - off.seconds).abs() <= CHANGED * told.abs().max(off.seconds.abs());
        if let Some(place) = known.filter(|&place| told(place).is_some_and(same)) {
            self.book.touch(place, at);
            return;
        }
        let report = Report {
            at,
            started_at: known.map_or(at - LASTS_US, |place| self.book.get(place).started_at),
            cause: CAUSE,
            severity: Severity::Warning,
            completeness: 1.0,
            confirmed: true,
            summary: summary(self.fleet.node_name(node), off),
            magnitude: object(json!({ "clock_offset_seconds": (off.seconds * 1e4).round() / 1e4 })),
            evidence: witnesses(&self.clock(node)),
            ruled_out: Vec::new(),
            contributors: Vec::new(),
            subject,
        };
        match known {
            Some(place) => self.book.refine(place, report),
            None => _ = self.book.open(Kind::Telemetry, report),
        }
    }

    /// Sources of nodes whose clocks are off say nothing of what is fast.
    fn leave_untimed(&mut self, off: &[Option<Off>]) {
        if off.iter().all(Option::is_none) {
            self.swings.leave_untimed(Vec::new(), 0.0);
            return;
        }
        let is_off = |node: u32| off.get(node as usize).copied().flatten();
        let sources: Vec<(u32, Off)> = match self.basis.unwrap_or_default() {
            Basis::Gpu => (0..).zip(self.fleet.gpus()).filter_map(|(gpu, of)| Some((gpu, is_off(of.node.0)?))).collect(),
            Basis::Node => (0..self.fleet.nodes().len() as u32).filter_map(|node| Some((node, is_off(node)?))).collect(),
            Basis::Meter => Vec::new(),
        };
        // Where most are off, the others do not stand for them.
        let all = if self.basis == Some(Basis::Node) { self.fleet.nodes().len() } else { self.fleet.gpus().len() };
        if 2 * sources.len() > all {
            self.swings.leave_untimed(Vec::new(), 0.0);
            return;
        }
        // A bound is not an offset: by its arrivals, a clock that only its agent doubts is not further off than they can tell.
        let known = |off: &Off| if off.is_stated { off.seconds.min(DOUBTED) } else { off.seconds.abs() };
        let worst = sources.iter().map(|(_, off)| known(off)).fold(0.0, f64::max);
        self.swings.leave_untimed(sources.into_iter().map(|(source, _)| source).collect(), worst);
    }
}

fn summary(node: &str, off: Off) -> String {
    let by = match off.seconds.abs() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.0} ms", seconds * 1e3),
    };
    match off.is_stated {
        true => format!("{node}: its clock may be off by {by}, by its own account"),
        false => format!("{node}: its clock is {by} {}", if off.seconds > 0.0 { "ahead" } else { "behind" }),
    }
}

fn witnesses(clock: &ClockView) -> Vec<Evidence> {
    let evidence = |signal: &str, value: Option<f64>| {
        let value = value.map(|value| (value * 1e4).round() / 1e4)?;
        Some(Evidence { signal: signal.into(), value, peers: None, score: None })
    };
    let all = [
        evidence("clock_error_seconds", clock.stated_error_seconds),
        evidence("arrival_offset_seconds", clock.arrival_offset_seconds),
        evidence("job_lag_seconds", clock.lag_seconds),
    ];
    all.into_iter().flatten().collect()
}
