//! Finished seconds → stragglers → incidents.

use super::Judge;
use crate::fleet::{GpuMetric, GpuSlot};
use crate::incidents::{Evidence, Kind, Report, Severity, Subject};
use crate::stragglers::facts::Fact;
use crate::stragglers::occupancy::{DWELL, Dwell};
use crate::stragglers::{Cause, Finding, JobFinding};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A straggler closes after so many seconds without evidence.
const QUIET_SECONDS: f64 = 600.0;
/// A job's incident closes after so many.
const JOB_QUIET_SECONDS: f64 = 90.0;
/// More nodes of a stage are not named one by one.
const STAGE_SHOWN: usize = 8;
/// Another cause than the one told has to show for so many.
const TURN_SECONDS: f64 = 12.0;
/// What says nothing new is told again after so many.
const REFRESH_SECONDS: f64 = 20.0;
/// From this slowdown on a straggler pages.
const CRITICAL_SLOWDOWN: f64 = 0.05;
/// But not before it has stood out for so many seconds: with a fact to show for it, and without. What is over sooner nobody would find any more.
const PAGE_SECONDS: f64 = 20.0;
const PAGE_SECONDS_UNKNOWN: f64 = 300.0;
/// Without a fact it is for the record until it has stood out for so many.
const WARNING_SECONDS_UNKNOWN: f64 = 120.0;
/// Evidence that comes again after more seconds has been away meanwhile.
const AWAY_SECONDS: f64 = 10.0;

/// After so many without evidence, another GPU of the node is another fault.
const APART_SECONDS: f64 = 60.0;

/// For how long an open straggler has stood out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Lasted {
    seconds: f64,
    last: Micros,
}

impl Lasted {
    fn new(at: Micros) -> Self {
        Self { seconds: 0.0, last: at }
    }

    fn again(&mut self, at: Micros) {
        let since = at.since(self.last);
        self.seconds += if since <= AWAY_SECONDS { since.max(0.0) } else { 0.0 };
        self.last = self.last.max(at);
    }
}

impl Judge {
    pub(super) fn judge_seconds(&mut self, now: Micros) {
        self.node_seconds.finish(now, |_, columns| self.latest_node = Some(columns));
        let (stragglers, fleet, grid, past) = (&mut self.stragglers, &mut self.fleet, &self.gpu_power, &mut self.past);
        // A state of an older version does not say.
        self.jobs_are_named |= self.gpu_job.iter().any(Option::is_some);
        let (mut findings, mut jobs) = (Vec::new(), Vec::new());
        let mut newest = None;
        self.gpu_seconds.finish(now, |second, columns| {
            let watts = |gpu| grid.latest(gpu).unwrap_or(f32::NAN);
            let power: Vec<f32> = (0..fleet.gpus().len()).map(watts).collect();
            let guessed = (!self.jobs_are_named).then(|| self.unnamed.take(second, &columns, fleet));
            let jobs_of = guessed.as_deref().unwrap_or(&self.gpu_job);
            let found = stragglers.judge(second, &columns, self.latest_node.as_ref(), &power, jobs_of, fleet);
            findings.extend(found.0);
            jobs.extend(found.1);
            Self::keep_gpus(past, second, &columns, &power);
            newest = Some((second, columns));
        });
        for finding in &findings {
            self.report_straggler(finding);
        }
        for finding in &jobs {
            self.report_job(finding);
        }
        self.judge_draws(now);
        if let Some((second, columns)) = newest {
            let at = Micros((second + 1) * 1_000_000);
            self.judge_faults(at, &columns);
            self.gpu_seconds.give_back(self.latest.replace(columns));
            self.close_quiet(at);
        }
    }

    /// Where there is no SM activity, power says whether a GPU computes.
    #[inline(never)]
    pub(super) fn dwell(&mut self, gpu: GpuSlot, ts: Micros, watts: f32) {
        let slot = gpu.0 as usize;
        let latest = |metric: GpuMetric| self.latest.as_ref().and_then(|second| second.column(metric as usize).get(slot));
        if latest(GpuMetric::SmActive).is_some_and(|active| !active.is_nan()) {
            return;
        }
        let limit = latest(GpuMetric::PowerLimit).map_or(f32::NAN, |&limit| limit as f32);
        if self.dwells.len() <= slot {
            self.dwells.resize(slot + 1, Dwell::default());
        }
        let computes = self.dwells[slot].take(watts, limit);
        self.gpu_seconds.put_beside(slot, DWELL, ts, f64::from(u8::from(computes)));
    }

    fn report_job(&mut self, finding: &JobFinding) {
        let name = self.fleet.job_name(finding.job).to_owned();
        let subject = Subject { job: Some(name.clone()), ..Subject::default() };
        let gpu = |slot: &GpuSlot| {
            let gpu = &self.fleet.gpus()[slot.0 as usize];
            format!("{} GPU {}", self.fleet.node_name(gpu.node), gpu.index)
        };
        let missing: Vec<String> = finding.missing.iter().map(gpu).collect();
        let percent = 100.0 * finding.slowdown_ratio;
        let stage: Vec<&str> = finding.stage.iter().map(|&node| self.fleet.node_name(node)).collect();
        let stage = match stage.as_slice() {
            [first, .., last] if stage.len() > STAGE_SHOWN => format!("{} nodes from {first} to {last}", stage.len()),
            _ => stage.join(", "),
        };
        let summary = match (finding.cause, missing.is_empty()) {
            ("stalled", true) => format!("{name} stands still: its GPUs spin"),
            ("stalled", false) => format!("{name} stands still: its GPUs spin, and {} did not arrive", missing.join(", ")),
            ("slow_stage", _) => format!("{name} is slower by {percent:.0} %: all of it waits for the stage of {stage}"),
            _ => format!("{name} is slower by {percent:.0} %, and nobody waits less than the others"),
        };
        let mut magnitude = Map::new();
        magnitude.insert("slowdown_ratio".into(), json!(tidy(finding.slowdown_ratio)));
        self.cost(&mut magnitude, finding.slowdown_ratio, finding.gpus, finding.at.since(finding.since));
        let report = Report {
            at: finding.at,
            started_at: finding.since,
            cause: finding.cause,
            severity: if finding.cause == "stalled" { Severity::Critical } else { Severity::Info },
            subject: subject.clone(),
            completeness: 1.0,
            confirmed: true,
            summary,
            magnitude,
            evidence: Vec::new(),
            ruled_out: Vec::new(),
            contributors: Vec::new(),
        };
        let same =
            |open: &crate::incidents::Incident| open.kind == Kind::Job && open.cause == finding.cause && open.subject == subject;
        match self.book.find_open(same) {
            Some(place) if finding.at.since(self.book.get(place).updated_at) >= REFRESH_SECONDS => {
                self.book.refine(place, report)
            }
            Some(_) => {}
            None => drop(self.book.open(Kind::Job, report)),
        }
    }

    fn report_straggler(&mut self, finding: &Finding) {
        let node = self.fleet.node_name(finding.node).to_owned();
        let gpu = finding.gpu.map(|gpu| self.fleet.gpus()[gpu.0 as usize].index);
        let open = self.book.find_open(|open| {
            let of_rack = finding.rack.is_some() && open.subject.rack == finding.rack;
            // What one fault shows by turns it does without long pauses; and what shows no fact is no other fault.
            let fact = finding.verdict.cause != Cause::Unknown;
            let still = !fact || open.subject.gpu == gpu || finding.at.since(open.updated_at) < APART_SECONDS;
            open.kind == Kind::Straggler && (open.subject.node.as_deref() == Some(&node) && still || of_rack)
        });
        let lasted = match open.filter(|_| finding.alarm) {
            Some(place) => {
                let id = self.book.get(place).id.clone();
                let lasted = self.lasted.entry(id).or_insert_with(|| Lasted::new(finding.at));
                lasted.again(finding.at);
                lasted.seconds
            }
            None => 0.0,
        };
        let mut report = self.straggler(finding, &node, lasted);
        match open {
            Some(place) if finding.alarm && self.fades(place, finding) => self.book.touch(place, finding.at),
            Some(place) if finding.alarm => {
                let strongest = self.strongest.entry(self.book.get(place).id.clone()).or_default();
                *strongest = strongest.max(finding.score);
                let incident = self.book.get(place);
                // Whoever was told is not told otherwise while it lasts.
                report.severity = report.severity.max(incident.severity);
                let told = incident.cause == report.cause && incident.subject == report.subject;
                let told = told && incident.severity == report.severity;
                if !told || report.at.since(incident.updated_at) >= REFRESH_SECONDS {
                    self.book.refine(place, report);
                }
            }
            None if finding.alarm => {
                let place = self.book.open(Kind::Straggler, report);
                let id = self.book.get(place).id.clone();
                self.lasted.insert(id.clone(), Lasted::new(finding.at));
                self.strongest.insert(id, finding.score);
            }
            _ => {}
        }
    }

    /// As the evidence fades, the verdict stays what it was while it was strong: half of the strongest evidence so far may
    /// refresh it or find a cause for what had none, another cause needs as much.
    fn fades(&mut self, place: usize, finding: &Finding) -> bool {
        let incident = self.book.get(place);
        let strongest = self.strongest.get(&incident.id).copied().unwrap_or(0.0);
        let (old, new) = (Cause::from_name(&incident.cause), finding.verdict.cause);
        // What showed is not undone by its no longer showing.
        if new == Cause::Unknown && old != new {
            return true;
        }
        let least = if old == new || old == Cause::Unknown { 0.5 } else { 1.0 };
        if finding.score < least * strongest {
            return true;
        }
        // Another cause has to show for longer than a bit flickers.
        if old == new {
            self.turning.remove(&incident.id);
            return false;
        }
        let (turning, since) = self.turning.entry(incident.id.clone()).or_insert((new, finding.at));
        if *turning != new {
            (*turning, *since) = (new, finding.at);
        }
        finding.at.since(*since) < TURN_SECONDS
    }

    fn straggler(&self, finding: &Finding, node: &str, lasted: f64) -> Report {
        let gpu = finding.gpu.map(|gpu| self.fleet.gpus()[gpu.0 as usize].index);
        let job = self.fleet.job_name(finding.job);
        let shown = finding.verdict.facts.iter().map(|&fact| Fact::ALL[fact]).chain([Fact::SmActive, Fact::SmClock]);
        let mut evidence: Vec<Evidence> = Vec::new();
        for fact in shown {
            let (value, peers) = (finding.now[fact as usize], finding.peers[fact as usize]);
            if !value.is_nan() && evidence.iter().all(|other| other.signal != fact.signal()) {
                let peers = (!peers.is_nan()).then(|| tidy(peers));
                let score = (fact == Fact::SmActive).then(|| tidy(finding.score));
                evidence.push(Evidence { signal: fact.signal().into(), value: tidy(value), peers, score });
            }
        }
        let what = match gpu {
            _ if finding.rack.is_some() => finding.rack.clone().unwrap_or_default(),
            Some(gpu) => format!("{node} GPU {gpu}"),
            None => node.to_owned(),
        };
        let told: Vec<String> = evidence.iter().take(3).map(|e| told(e, finding.peer_count)).collect();
        let why = finding.verdict.cause.name().replace('_', " ");
        let summary = format!("{what} slows {job} by {:.0} %: {}; {}", 100.0 * finding.slowdown_ratio, why, told.join(", "));
        let slowdown = finding.slowdown_ratio;
        let mut magnitude = Map::new();
        let known = finding.verdict.cause != Cause::Unknown;
        let severity = severity(finding.by_power, known, finding.communicates.is_some(), slowdown, lasted);
        // Who works with whom is a guess there: too little to page somebody who has no fact to show for it.
        let guess = !known && !self.jobs_are_named;
        let severity = if guess { severity.min(Severity::Warning) } else { severity };
        let mut summary = summary;
        if let Some(share) = finding.communicates {
            // By how much it slows the job cannot be seen.
            summary = suspected(&what, &why, job, share, &told);
            magnitude.insert("communication_ratio".into(), json!(tidy(share)));
        } else {
            magnitude.insert("slowdown_ratio".into(), json!((slowdown * 1e4).round() / 1e4));
            self.cost(&mut magnitude, slowdown, finding.gpus, finding.at.since(finding.since));
        }
        Report {
            at: finding.at,
            started_at: finding.since,
            cause: finding.verdict.cause.name(),
            severity,
            subject: match &finding.rack {
                Some(rack) => Subject { job: Some(job.into()), rack: Some(rack.clone()), ..Subject::default() },
                None => Subject { job: Some(job.into()), node: Some(node.into()), gpu, ..Subject::default() },
            },
            completeness: (finding.completeness * 1e4).round() / 1e4,
            confirmed: finding.completeness >= 0.5,
            summary,
            magnitude,
            evidence,
            ruled_out: finding.verdict.ruled_out.iter().map(|cause| cause.name().into()).collect(),
            contributors: Vec::new(),
        }
    }

    /// What it costs: the job's GPUs, by the share of their time that is lost. So far, and for each further hour.
    fn cost(&self, magnitude: &mut Map<String, Value>, slowdown: f64, gpus: usize, seconds: f64) {
        let each_hour = slowdown * gpus as f64;
        magnitude.insert("gpus_held".into(), json!(gpus));
        magnitude.insert("gpu_hours_lost".into(), json!(tidy(each_hour * seconds / 3600.0)));
        magnitude.insert("gpu_hours_lost_per_hour".into(), json!(tidy(each_hour)));
        if let Some(price) = self.config.stragglers.gpu_hour_price {
            magnitude.insert("cost".into(), json!((each_hour * seconds / 36.0 * price).round() / 100.0));
            magnitude.insert("cost_per_hour".into(), json!((100.0 * each_hour * price).round() / 100.0));
        }
    }

    pub(super) fn close_quiet(&mut self, now: Micros) {
        for place in self.book.open_places(Kind::Straggler) {
            let last = self.book.get(place).updated_at;
            if now.since(last) >= QUIET_SECONDS {
                self.book.close(place, last, now);
                self.strongest.remove(&self.book.get(place).id);
                self.lasted.remove(&self.book.get(place).id);
                self.turning.remove(&self.book.get(place).id);
            }
        }
        for place in self.book.open_places(Kind::Job) {
            let last = self.book.get(place).updated_at;
            if now.since(last) >= JOB_QUIET_SECONDS {
                self.book.close(place, last, now);
            }
        }
        self.book.forget(now);
    }
}

pub(super) fn tidy(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Who is blamed for no measured slowdown is for the record, and so is, at first, who has no fact to show for it. What power alone shows pages nobody.
fn severity(by_power: bool, known: bool, suspected: bool, slowdown: f64, lasted: f64) -> Severity {
    let (warning, page) = if known { (0.0, PAGE_SECONDS) } else { (WARNING_SECONDS_UNKNOWN, PAGE_SECONDS_UNKNOWN) };
    match () {
        () if suspected || by_power && !known || lasted < warning => Severity::Info,
        () if !by_power && slowdown >= CRITICAL_SLOWDOWN && lasted >= page => Severity::Critical,
        () => Severity::Warning,
    }
}

fn suspected(what: &str, why: &str, job: &str, share: f64, told: &[String]) -> String {
    let percent = 100.0 * share;
    format!(
        "{what} may slow {job}, which communicates {percent:.0} % of its time, ever since it began: {why}; {}",
        told.join(", ")
    )
}

/// "SM clock 1515 MHz where 127 peers have 1845"
fn told(evidence: &Evidence, peers: usize) -> String {
    let (name, unit, scale) = match evidence.signal.as_str() {
        "sm_clock_mhz" => ("SM clock", " MHz", 1.0),
        "sm_clock_highest_mhz" => ("highest SM clock", " MHz", 1.0),
        "temperature_celsius" => ("GPU", " °C", 1.0),
        "thermal_slowdown_ratio" => ("under thermal slowdown", " % of the time", 100.0),
        "power_cap_ratio" => ("under power cap", " % of the time", 100.0),
        "power_brake_ratio" => ("under power brake", " % of the time", 100.0),
        "power_limit_watts" => ("power limit", " W", 1.0),
        "sm_active_ratio" => ("SMs active", " %", 100.0),
        "cpu_utilization_ratio" => ("CPU", " %", 100.0),
        "cpu_pressure_ratio" => ("CPU pressure", " %", 100.0),
        "network_link_bits_per_second" => ("network link", " Gbit/s", 1e-9),
        other => (other, "", 1.0),
    };
    let show = |value: f64| {
        let value = value * scale;
        if value.abs() >= 10.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
    };
    match evidence.peers {
        Some(theirs) => format!("{name} {}{unit} where {peers} peers have {}", show(evidence.value), show(theirs)),
        None => format!("{name} {}{unit}", show(evidence.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_paged_by_power_alone_nor_by_what_costs_nothing() {
        for slowdown in [0.01, 0.2, 0.9] {
            let of = |by_power, known, suspected| severity(by_power, known, suspected, slowdown, 1e4);
            assert_eq!((of(true, false, false), of(true, true, false)), (Severity::Info, Severity::Warning));
            assert_eq!(of(false, true, true), Severity::Info);
            assert_eq!(of(false, true, false) == Severity::Critical, slowdown >= CRITICAL_SLOWDOWN);
        }
    }

    #[test]
    fn a_page_waits_until_it_has_lasted_and_without_a_fact_for_longer() {
        let mut lasted = Lasted::new(Micros(0));
        let mut told = [[None; 2]; 3];
        for second in 0..400 {
            // Away for a minute: that does not count.
            let at = Micros((second + if second >= 200 { 60 } else { 0 }) * 1_000_000);
            lasted.again(at);
            for (known, severities) in [false, true].into_iter().zip(0..) {
                let severity = severity(false, known, false, 0.1, lasted.seconds);
                told[severity as usize][severities].get_or_insert(second);
            }
        }
        assert_eq!(told, [[Some(0), None], [Some(120), Some(0)], [Some(301), Some(20)]]);
    }
}
