//! Power bins → swings → incidents.

use super::Judge;
use crate::incidents::{Contributor, Kind, Report, Severity, Subject};
use crate::power::history::BIN;
use crate::power::{Basis, Oscillation, Step, View};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Rows of watts by source that are kept for attribution, one a second: three minutes.
const KEEP: usize = 180;

/// Watts by source, second by second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SourceHistory {
    sum: Vec<f32>,
    bins: u32,
    rows: VecDeque<(Micros, Vec<f32>)>,
}

impl SourceHistory {
    fn push(&mut self, at: Micros, watts: &[f32]) {
        self.sum.resize(watts.len(), 0.0);
        self.sum.iter_mut().zip(watts).for_each(|(sum, watts)| *sum += watts);
        self.bins += 1;
        if f64::from(self.bins) * BIN >= 0.999 {
            let scale = 1.0 / self.bins as f32;
            let row = self.sum.iter().map(|sum| sum * scale).collect();
            if self.rows.len() == KEEP {
                self.rows.pop_front();
            }
            self.rows.push_back((at, row));
            self.sum.fill(0.0);
            self.bins = 0;
        }
    }

    /// Mean by source between two instants.
    fn mean(&self, from: Micros, to: Micros) -> Vec<f64> {
        let rows: Vec<&Vec<f32>> = self.rows.iter().filter(|(at, _)| *at > from && *at <= to).map(|(_, row)| row).collect();
        let sources = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut mean = vec![0.0; sources];
        for row in &rows {
            mean.iter_mut().zip(*row).for_each(|(mean, &watts)| *mean += f64::from(watts) / rows.len() as f64);
        }
        mean
    }
}

impl Judge {
    pub(super) fn judge_power(&mut self, now: Micros) {
        let basis = *self.basis.get_or_insert_with(|| match self.config.power.limits.basis {
            Basis::Gpu if self.gpu_power.is_empty() && !self.node_power.is_empty() => Basis::Node,
            Basis::Node if self.node_power.is_empty() && !self.gpu_power.is_empty() => Basis::Gpu,
            wanted => wanted,
        });
        let (grid, jobs) = match basis {
            Basis::Gpu => (&mut self.gpu_power, &self.gpu_job),
            Basis::Node => (&mut self.node_power, &self.node_job),
        };
        let (history, signed, limits, sampling) = (&mut self.history, &mut self.signed, &self.limits, grid.sampling());
        let mut swings = Vec::new();
        grid.finish(now, jobs, |bin| {
            if bin.joined > 0.0 {
                history.joined(bin.joined);
            }
            history.push(bin.at, bin.sum, bin.completeness);
            signed.push(bin.watts);
            self.sources.push(bin.at, bin.watts);
            let view = View { history, signed, limits, sampling };
            if let Some(step) = self.steps.judge(&view, self.oscillation.cycle()) {
                swings.push((bin.at, bin.completeness, Swing::Step(step)));
            }
            if let Some(line) = self.oscillation.judge(&view, self.steps.quiet_since()) {
                swings.push((bin.at, bin.completeness, Swing::Oscillation(line)));
            }
        });
        if self.history.is_empty() {
            // Nothing judged yet: the basis is not settled.
            self.basis = None;
        }
        for (at, completeness, swing) in swings {
            match swing {
                Swing::Step(step) => self.report_step(at, completeness, &step),
                Swing::Oscillation(line) => self.report_oscillation(at, completeness, &line),
            }
        }
    }

    fn report_step(&mut self, at: Micros, completeness: f64, step: &Step) {
        let delta = step.delta_watts();
        let cause = if delta >= 0.0 { "step_up" } else { "step_down" };
        let ratio = delta.abs() / step.limit.1;
        let magnitude = object(json!({
            "delta_watts": round(delta), "watts_per_second": round(step.watts_per_second),
            "rise_seconds": (step.rise_seconds * 10.0).round() / 10.0,
            "before_watts": round(step.before_watts), "after_watts": round(step.after_watts),
            "limit_watts": round(step.limit.1), "limit_seconds": step.limit.0,
        }));
        let width = (step.rise_seconds + 1.0) * 1e6;
        let before = self.sources.mean(step.started_at - 5_000_000 - width as i64, step.started_at - width as i64);
        let after = self.sources.mean(step.started_at + width as i64, step.started_at + width as i64 + 5_000_000);
        let moved: Vec<f64> =
            after.iter().enumerate().map(|(source, after)| after - before.get(source).unwrap_or(&0.0)).collect();
        let summary = format!(
            "power {} by {} within {:.1} s (limit {} in {:.0} s)",
            if delta >= 0.0 { "rose" } else { "fell" },
            watts(delta.abs()),
            step.rise_seconds,
            watts(step.limit.1),
            step.limit.0
        );
        let contributors = self.contributors(&moved);
        let seen = Seen { started_at: step.started_at, cause, ratio, summary, magnitude };
        let report = self.swing(at, completeness, seen, contributors);
        let place = self
            .book
            .find_open(|open| open.kind == Kind::PowerSwing && open.opened_at == step.opened_at && open.cause != "oscillation");
        let place = match place {
            Some(place) => {
                self.book.refine(place, report);
                place
            }
            None => self.book.open(Kind::PowerSwing, report),
        };
        if step.settled {
            self.book.close(place, at, at);
        }
    }

    fn report_oscillation(&mut self, at: Micros, completeness: f64, line: &Oscillation) {
        let limit = self.limits.oscillation_watts;
        let magnitude = object(json!({
            "frequency_hz": line.frequency_hz, "amplitude_watts": round(line.amplitude_watts),
            "watts_per_second": round(line.watts_per_second), "damping_ratio": (line.damping_ratio * 1e4).round() / 1e4,
            "claim_limit_hz": line.claim_limit_hz, "limit_watts": round(limit),
            "amplitude_is_lower_bound": line.lower_bound,
        }));
        let ratio = line.amplitude_watts / limit;
        let summary = format!(
            "power oscillates by {}{} peak to peak at {:.3} Hz, every {:.1} s (limit {})",
            if line.lower_bound { "at least " } else { "" },
            watts(line.amplitude_watts),
            line.frequency_hz,
            1.0 / line.frequency_hz,
            watts(limit)
        );
        let swing = self.source_swing(line);
        let contributors = self.contributors(&swing);
        let seen = Seen { started_at: line.started_at, cause: "oscillation", ratio, summary, magnitude };
        let report = self.swing(at, completeness, seen, contributors);
        let place = self.book.find_open(|open| open.kind == Kind::PowerSwing && open.cause == "oscillation");
        let place = match place {
            Some(place) => {
                // A revision a second would be noise: when it matters, or every ten seconds.
                if at.since(self.book.get(place).updated_at) >= 10.0 || line.ended_at.is_some() {
                    self.book.refine(place, report);
                }
                place
            }
            None => self.book.open(Kind::PowerSwing, report),
        };
        if let Some(ended) = line.ended_at {
            self.book.close(place, ended, at);
        }
    }

    /// By source: the share of its swing that is in phase with the sum, Re(Zᵢ conj Z)/|Z|, over the last cycles.
    fn source_swing(&self, line: &Oscillation) -> Vec<f64> {
        let count = ((10.0 / line.frequency_hz).ceil() as usize).clamp(20, KEEP);
        let rows: Vec<&(Micros, Vec<f32>)> = self.sources.rows.iter().rev().take(count).collect();
        let sources = rows.iter().map(|row| row.1.len()).max().unwrap_or(0);
        let mut own = vec![(0.0, 0.0); sources];
        for (at, row) in &rows {
            let (sin, cos) = (std::f64::consts::TAU
                * (line.frequency_hz * (at.0.rem_euclid(1_000_000_000_000)) as f64 / 1e6).fract())
            .sin_cos();
            for (own, &watts) in own.iter_mut().zip(row) {
                *own = (own.0 + f64::from(watts) * cos, own.1 + f64::from(watts) * sin);
            }
        }
        let mean: f64 = rows.len().max(1) as f64;
        let total = own.iter().fold((0.0, 0.0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
        let norm = f64::hypot(total.0, total.1).max(1e-9);
        own.iter().map(|own| (own.0 * total.0 + own.1 * total.1) / norm / mean).collect()
    }

    /// The cluster's report of what one of the detectors saw.
    fn swing(&self, at: Micros, completeness: f64, seen: Seen, contributors: Vec<Contributor>) -> Report {
        let mut summary = seen.summary;
        if self.limits.from_nameplate {
            summary.push_str("; limits from the fleet's nameplate, no contract is configured");
        }
        Report {
            at,
            started_at: seen.started_at,
            cause: seen.cause,
            severity: if seen.ratio >= 1.5 { Severity::Critical } else { Severity::Warning },
            subject: Subject { cluster: Some("cluster".into()), ..Subject::default() },
            completeness: (completeness * 1e4).round() / 1e4,
            confirmed: completeness >= 0.5,
            summary,
            magnitude: seen.magnitude,
            evidence: Vec::new(),
            ruled_out: Vec::new(),
            contributors,
        }
    }

    /// Shares by job and by rack; the shares of one level sum to 1, what is small is «other».
    fn contributors(&self, moved: &[f64]) -> Vec<Contributor> {
        let total: f64 = moved.iter().sum();
        if total.abs() < 1e-6 {
            return Vec::new();
        }
        let basis = self.basis.unwrap_or_default();
        let node = |source: usize| match basis {
            Basis::Gpu => self.fleet.gpus()[source].node.0 as usize,
            Basis::Node => source,
        };
        let jobs = if basis == Basis::Gpu { &self.gpu_job } else { &self.node_job };
        let job = |source: usize| jobs.get(source).copied().flatten().map(|job| self.fleet.jobs()[job as usize].clone());
        let place = |source: usize| self.fleet.nodes()[node(source)].place.as_ref();
        let mut shares = Vec::new();
        let level = |what: &str, name: &dyn Fn(usize) -> Option<String>| {
            let mut groups: BTreeMap<String, f64> = BTreeMap::new();
            for (source, watts) in moved.iter().enumerate() {
                *groups.entry(name(source).unwrap_or_default()).or_default() += watts / total;
            }
            let mut other = groups.remove("").unwrap_or(0.0);
            let mut named: Vec<(String, f64)> = groups.into_iter().collect();
            named.sort_by(|a, b| b.1.total_cmp(&a.1));
            if named.len() > 5 {
                other += named.split_off(5).iter().map(|group| group.1).sum::<f64>();
            }
            if named.is_empty() {
                return Vec::new();
            }
            if other.abs() > 1e-9 {
                named.push(("other".into(), other));
            }
            let share = |(name, share): (String, f64)| Contributor { who: object(json!({ what: name })), share };
            named.into_iter().map(share).collect::<Vec<_>>()
        };
        shares.extend(level("job", &job));
        shares.extend(level("rack", &|source| place(source).map(|place| place.rack.clone())));
        shares
    }
}

/// What is known of a swing but for who moved.
struct Seen {
    started_at: Micros,
    cause: &'static str,
    /// To its limit.
    ratio: f64,
    summary: String,
    magnitude: Map<String, Value>,
}

enum Swing {
    Step(Step),
    Oscillation(Oscillation),
}

fn object(value: Value) -> Map<String, Value> {
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
