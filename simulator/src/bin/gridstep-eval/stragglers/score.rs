//! Incidents against the truth, by the rules of ../shared/eval/score.py.

use super::fault::Course;
use super::fleet::{Outcome, Seen, Setup, seconds};
use gridstep_collector::incidents::{Kind, Severity};
use std::collections::BTreeMap;

#[derive(Debug, Default, Clone)]
pub(crate) struct Score {
    pub(crate) faults: usize,
    pub(crate) found: usize,
    pub(crate) duplicates: usize,
    pub(crate) wrong: Vec<String>,
    pub(crate) missed: Vec<String>,
    pub(crate) late: Vec<String>,
    /// From the onset (or the job's begin) to the arrival at which it was there.
    pub(crate) delays: Vec<f64>,
    /// Those of them of what was there when the job began.
    pub(crate) delays_before: Vec<f64>,
    pub(crate) causes: BTreeMap<(String, String), usize>,
    pub(crate) first_right: usize,
    pub(crate) gpu_days: f64,
    pub(crate) pages: usize,
    pub(crate) fleets: usize,
    /// Fleets in which anything wrong was raised.
    pub(crate) raised: usize,
    pub(crate) jobs: BTreeMap<String, usize>,
    pub(crate) job_delays: Vec<f64>,
}

impl Score {
    pub(crate) fn add(&mut self, other: Score) {
        self.faults += other.faults;
        self.found += other.found;
        self.duplicates += other.duplicates;
        self.wrong.extend(other.wrong);
        self.missed.extend(other.missed);
        self.late.extend(other.late);
        self.delays.extend(other.delays);
        self.delays_before.extend(other.delays_before);
        other.causes.into_iter().for_each(|(key, count)| *self.causes.entry(key).or_default() += count);
        other.jobs.into_iter().for_each(|(key, count)| *self.jobs.entry(key).or_default() += count);
        self.first_right += other.first_right;
        self.gpu_days += other.gpu_days;
        self.pages += other.pages;
        self.fleets += other.fleets;
        self.raised += other.raised;
        self.job_delays.extend(other.job_delays);
    }

    pub(crate) fn precision(&self) -> f64 {
        self.found as f64 / (self.found + self.wrong.len() + self.duplicates).max(1) as f64
    }

    pub(crate) fn recall(&self) -> f64 {
        self.found as f64 / self.faults.max(1) as f64
    }

    pub(crate) fn f1(&self) -> f64 {
        let (p, r) = (self.precision(), self.recall());
        if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 }
    }

    pub(crate) fn causes_right(&self) -> usize {
        self.causes.iter().filter(|((truth, said), _)| truth == said).map(|(_, count)| count).sum()
    }
}

/// 95 % interval of a share (Wilson).
pub(crate) fn wilson(right: usize, of: usize) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, p, z) = (of as f64, right as f64 / of as f64, 1.96f64);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// 95 % upper bound of a Poisson mean of which `count` came.
pub(crate) fn poisson_upper(count: usize) -> f64 {
    // Through the normal approximation of Byar, exact to a percent; none: 3.0.
    let n = count as f64 + 1.0;
    if count == 0 { 2.996 } else { n * (1.0 - 1.0 / (9.0 * n) + 1.645 / (3.0 * n.sqrt())).powi(3) }
}

pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    if values.is_empty() { f64::NAN } else { values[((values.len() - 1) as f64 * share).round() as usize] }
}

/// A straggler that somebody has named: node, GPU, seconds.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) node: usize,
    pub(crate) gpu: Option<usize>,
    /// When it was there, and the event time at which it was opened.
    pub(crate) at: f64,
    pub(crate) opened: f64,
    pub(crate) cause: String,
    pub(crate) text: String,
    pub(crate) page: bool,
}

pub(crate) fn named(outcome: &Outcome) -> Vec<Named> {
    let stragglers = outcome.incidents.iter().filter(|seen| seen.first.kind == Kind::Straggler);
    stragglers
        .map(|seen| {
            // The node, and the GPU where there is one, as of the first revision; the cause as of the last.
            let node =
                seen.first.subject.node.as_deref().and_then(|node| node.strip_prefix("node")).and_then(|node| node.parse().ok());
            Named {
                node: node.unwrap_or(usize::MAX),
                gpu: seen.last.subject.gpu.map(usize::from),
                at: seen.at,
                opened: seconds(seen.first.opened_at),
                cause: seen.last.cause.clone(),
                text: format!("{:.0} s {} (first {} {:?})", seen.at, seen.last.summary, seen.first.cause, seen.first.subject.gpu),
                page: seen.last.severity == Severity::Critical,
            }
        })
        .collect()
}

pub(crate) fn score(setup: &Setup, named: &[Named], outcome: &Outcome, name: &str) -> Score {
    let mut score = Score { fleets: 1, gpu_days: setup.nodes as f64 * 8.0 * setup.seconds / 86_400.0, ..Score::default() };
    let begins = setup.jobs[0].from;
    let mut found = vec![false; setup.faults.len()];
    let mut order: Vec<&Named> = named.iter().collect();
    order.sort_by(|a, b| a.at.total_cmp(&b.at));
    score.faults = setup.faults.len();
    for (place, named) in order.iter().enumerate() {
        let hit = setup.faults.iter().position(|fault| {
            let start = fault.start.max(begins);
            let latest = match fault.course {
                // Off and on: whenever it is at work.
                Course::Intermittent(..) | Course::Forever => setup.seconds,
                Course::Lasting(_) => fault.end(setup.seconds) + 60.0,
            };
            fault.node == named.node && fault.gpu == named.gpu && (start..=latest.min(start + 300.0)).contains(&named.opened)
        });
        match hit {
            Some(fault) if !found[fault] => {
                found[fault] = true;
                score.found += 1;
                score.first_right += usize::from(place == 0);
                let delay = named.at - setup.faults[fault].start.max(begins);
                score.delays.push(delay);
                if setup.faults[fault].start < begins {
                    score.delays_before.push(delay);
                }
                if delay > 0.0 {
                    score.late.push(format!(
                        "{name} seed {}: {delay:.0} s {} [step {:.2}]",
                        setup.seed, named.text, setup.jobs[0].step
                    ));
                }
                let key = (setup.faults[fault].cause.name().to_owned(), named.cause.clone());
                *score.causes.entry(key).or_default() += 1;
            }
            Some(_) => score.duplicates += 1,
            None => {
                score.wrong.push(format!("{name} seed {}: {} [step {:.2}]", setup.seed, named.text, setup.jobs[0].step));
                score.pages += usize::from(named.page);
            }
        }
    }
    for (fault, _) in setup.faults.iter().zip(&found).filter(|(_, found)| !**found) {
        let job = &setup.jobs[0];
        score.missed.push(format!(
            "{name} seed {}: {fault:?} [step {:.2} nodes {:?} stages {:?}]",
            setup.seed, job.step, job.nodes, job.stages
        ));
    }
    let others = outcome.incidents.iter().filter(|seen| !matches!(seen.first.kind, Kind::Straggler | Kind::PowerSwing));
    for Seen { at, last, .. } in others {
        let right = match last.cause.as_str() {
            "stalled" => setup.hangs().is_some(),
            "slow_stage" => setup.has_slow_stage(),
            "slow_everywhere" => setup.congested(),
            "nvlink_errors" if setup.has_errors() => true,
            "clock_skewed" => setup.is_skewed(&last.subject),
            // The fault itself, told beside the straggler.
            _ => last.kind == Kind::GpuFault && !setup.faults.is_empty(),
        };
        if right && matches!(last.cause.as_str(), "stalled" | "slow_stage") {
            score.job_delays.push(at - setup.jobs[0].phases[0].0);
        }
        *score.jobs.entry(format!("{:?} {}{}", last.kind, last.cause, if right { "" } else { ", wrong" })).or_default() += 1;
        if let Some(missing) = setup.hangs().filter(|_| right) {
            *score.jobs.entry(format!("  of them {}", who_is_missing(missing, &last.summary))).or_default() += 1;
        }
        if !right {
            score.wrong.push(format!(
                "{name} seed {}: {:?} {at:.0} s {} [step {:.2}]",
                setup.seed, last.kind, last.summary, setup.jobs[0].step
            ));
        }
    }
    score.raised = usize::from(!score.wrong.is_empty());
    let told = |cause: &str| outcome.incidents.iter().any(|seen| seen.last.cause == cause);
    if setup.hangs().is_some() && !told("stalled") || setup.has_slow_stage() && !told("slow_stage") {
        score.missed.push(format!("{name} seed {}: {:?}", setup.seed, setup.jobs[0]));
    }
    score
}

fn who_is_missing(missing: usize, summary: &str) -> &'static str {
    let named = summary.contains("did not arrive");
    match (missing == usize::MAX, named) {
        (true, false) => "without anybody missing, and nobody named",
        (true, true) => "without anybody missing, and somebody named",
        (false, _) if summary.contains(&format!("node{:05} GPU {} did not arrive", missing / 8, missing % 8)) => {
            "with the one that is missing named"
        }
        (false, _) => "with one missing that is not named",
    }
}
