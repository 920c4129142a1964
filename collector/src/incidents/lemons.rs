//! incidents ─▶ **lemons**
//!
//! Nodes and GPUs that are in trouble again and again. Each time may be small, and each is over when somebody looks; over weeks it is the same
//! few machines (facts/stragglers.md §1: without its forty lemons a fleet of 24,000 GPUs saw 4 % of its large jobs fail, not 14 %). Of each
//! straggler, GPU fault and hung driver one line is kept for weeks, in the checkpoint, long after its incident has left the book.

use super::{Incident, Kind, Severity, State};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Weeks are looked back at.
pub const DAYS: i64 = 28;
const DAY_US: i64 = 24 * 3600 * 1_000_000;
/// So many incidents make a lemon, if they came on so many days: what comes thrice in one afternoon is one thing that is being mended.
pub const LEAST: usize = 3;
const LEAST_DAYS: usize = 2;
/// Lines that are kept: some two megabytes.
const MOST: usize = 20_000;

/// One incident of one node, in short.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    node: String,
    gpu: Option<u8>,
    kind: Kind,
    cause: String,
    started_at: Micros,
    /// When it closed; open: when it was last seen.
    until: Micros,
    open: bool,
    gpu_hours_lost: f64,
    cost: f64,
}

/// What the last weeks held, by incident.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Lemons {
    lines: BTreeMap<String, Line>,
    /// Lines let go of because there were too many.
    lost: u64,
}

/// A node with incidents, or one GPU of it where all are that GPU's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lemon {
    pub node: String,
    pub gpu: Option<u8>,
    pub incidents: usize,
    /// On how many days (UTC) one of them began.
    pub days: usize,
    pub by_cause: BTreeMap<String, usize>,
    /// Of all together.
    pub seconds: f64,
    pub gpu_hours_lost: f64,
    /// Where a price is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    #[serde(serialize_with = "super::stamp::serialize")]
    pub first_at: Micros,
    #[serde(serialize_with = "super::stamp::serialize")]
    pub last_at: Micros,
    /// Often enough, on several days, to be taken out for good.
    pub lemon: bool,
}

impl Lemons {
    /// Takes a revision of an incident.
    pub fn take(&mut self, incident: &Incident) {
        let Some(node) = incident.subject.node.clone().filter(|_| counts(incident)) else { return };
        let figure = |name: &str| incident.magnitude.get(name).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        let line = Line {
            node,
            gpu: incident.subject.gpu,
            kind: incident.kind,
            cause: incident.cause.clone(),
            started_at: incident.started_at,
            until: incident.closed_at.unwrap_or(incident.updated_at),
            open: incident.state == State::Open,
            gpu_hours_lost: figure("gpu_hours_lost"),
            cost: figure("cost"),
        };
        self.lines.insert(incident.id.clone(), line);
        self.forget(incident.updated_at);
    }

    fn forget(&mut self, now: Micros) {
        let oldest = now.0 - DAYS * DAY_US;
        if self.lines.len() > MOST || self.lines.values().any(|line| !line.open && line.until.0 < oldest) {
            self.lines.retain(|_, line| line.open || line.until.0 >= oldest);
        }
        while self.lines.len() > MOST {
            let eldest = self.lines.iter().min_by_key(|(_, line)| line.until).map(|(id, _)| id.clone());
            eldest.and_then(|id| self.lines.remove(&id));
            self.lost += 1;
        }
    }

    /// Lines let go of because there were too many.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Every node that had an incident, the most often troubled first, then what it cost.
    pub fn list(&self, priced: bool) -> Vec<Lemon> {
        let mut nodes: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
        self.lines.values().for_each(|line| nodes.entry(&line.node).or_default().push(line));
        let mut lemons: Vec<Lemon> = nodes.into_iter().map(|(node, lines)| sum_up(node, &lines, priced)).collect();
        let weight = |lemon: &Lemon| (lemon.lemon, lemon.incidents);
        lemons.sort_by(|a, b| weight(b).cmp(&weight(a)).then(b.gpu_hours_lost.total_cmp(&a.gpu_hours_lost)));
        lemons
    }
}

fn counts(incident: &Incident) -> bool {
    match incident.kind {
        // What is only for the record blames nobody.
        Kind::Straggler => incident.severity > Severity::Info,
        Kind::GpuFault => true,
        Kind::Telemetry => incident.cause == "driver_hung",
        Kind::PowerSwing | Kind::Job => false,
    }
}

fn sum_up(node: &str, lines: &[&Line], priced: bool) -> Lemon {
    let first = lines[0].gpu;
    let mut by_cause: BTreeMap<String, usize> = BTreeMap::new();
    lines.iter().for_each(|line| *by_cause.entry(line.cause.clone()).or_default() += 1);
    let days: BTreeSet<i64> = lines.iter().map(|line| line.started_at.0.div_euclid(DAY_US)).collect();
    let cents = |value: f64| (value * 100.0).round() / 100.0;
    Lemon {
        node: node.to_owned(),
        gpu: first.filter(|_| lines.iter().all(|line| line.gpu == first)),
        incidents: lines.len(),
        days: days.len(),
        by_cause,
        seconds: lines.iter().map(|line| line.until.since(line.started_at).max(0.0)).sum::<f64>().round(),
        gpu_hours_lost: cents(lines.iter().map(|line| line.gpu_hours_lost).sum()),
        cost: priced.then(|| cents(lines.iter().map(|line| line.cost).sum())),
        first_at: lines.iter().map(|line| line.started_at).min().unwrap_or_default(),
        last_at: lines.iter().map(|line| line.started_at).max().unwrap_or_default(),
        lemon: lines.len() >= LEAST && days.len() >= LEAST_DAYS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::{Book, Report, Subject};
    use serde_json::json;

    const HOUR_US: i64 = 3600 * 1_000_000;

    /// Incidents of `node` that begin at these hours, last one hour each, and cost three GPU-hours.
    fn trouble(lemons: &mut Lemons, node: &str, gpu: Option<u8>, cause: &'static str, hours: &[i64]) {
        let mut book = Book::default();
        for hour in hours {
            let at = Micros(hour * HOUR_US);
            let subject = Subject { node: Some(node.into()), gpu, job: Some("job".into()), ..Subject::default() };
            let report = Report {
                at,
                started_at: at,
                cause,
                severity: Severity::Warning,
                subject,
                completeness: 1.0,
                confirmed: true,
                summary: String::new(),
                magnitude: [("gpu_hours_lost".to_owned(), json!(3.0)), ("cost".to_owned(), json!(7.5))].into_iter().collect(),
                evidence: Vec::new(),
                ruled_out: Vec::new(),
                contributors: Vec::new(),
            };
            let place = book.open(Kind::Straggler, report);
            book.close(place, at + HOUR_US, at + HOUR_US);
        }
        book.take_revisions().iter().for_each(|revision| lemons.take(revision));
    }

    #[test]
    fn who_comes_again_on_several_days_is_a_lemon() {
        let mut lemons = Lemons::default();
        trouble(&mut lemons, "often", Some(3), "thermal", &[1, 30, 80]);
        trouble(&mut lemons, "one-afternoon", None, "unknown", &[12, 14, 16, 18]);
        trouble(&mut lemons, "once", Some(1), "thermal", &[90]);
        let list = lemons.list(true);
        let names: Vec<(&str, bool)> = list.iter().map(|lemon| (lemon.node.as_str(), lemon.lemon)).collect();
        assert_eq!(names, [("often", true), ("one-afternoon", false), ("once", false)]);
        let often = &list[0];
        assert_eq!((often.gpu, often.incidents, often.days, often.seconds), (Some(3), 3, 3, 3.0 * 3600.0));
        assert_eq!((often.gpu_hours_lost, often.cost), (9.0, Some(22.5)));
        assert_eq!(often.by_cause["thermal"], 3);
    }

    #[test]
    fn what_is_older_than_four_weeks_goes_and_what_is_older_than_the_book_stays() {
        let mut lemons = Lemons::default();
        trouble(&mut lemons, "old", None, "thermal", &[0]);
        trouble(&mut lemons, "newer", None, "thermal", &[24 * 27]);
        assert_eq!(lemons.list(false).len(), 2);
        trouble(&mut lemons, "newest", None, "thermal", &[24 * 28 + 2]);
        let names: Vec<String> = lemons.list(false).into_iter().map(|lemon| lemon.node).collect();
        assert_eq!(names, ["newer", "newest"]);
    }

    #[test]
    fn swings_and_jobs_are_no_nodes() {
        let mut lemons = Lemons::default();
        trouble(&mut lemons, "n", None, "thermal", &[1]);
        let mut swing = Book::default();
        let subject = Subject { cluster: Some("all".into()), ..Subject::default() };
        let report = Report {
            at: Micros(1),
            started_at: Micros(1),
            cause: "step_up",
            severity: Severity::Warning,
            subject,
            completeness: 1.0,
            confirmed: true,
            summary: String::new(),
            magnitude: Default::default(),
            evidence: Vec::new(),
            ruled_out: Vec::new(),
            contributors: Vec::new(),
        };
        swing.open(Kind::PowerSwing, report);
        swing.take_revisions().iter().for_each(|revision| lemons.take(revision));
        assert_eq!(lemons.list(false).len(), 1);
    }
}
