//! Open incidents as series, for rules and dashboards.

use super::add;
use crate::alerts::{Announced, Notify, word};
use crate::incidents::{Incident, Kind, Severity, State};
use prometheus::{GaugeVec, IntGauge, IntGaugeVec, Opts, Registry, Result};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

const KINDS: [Kind; 5] = [Kind::Straggler, Kind::PowerSwing, Kind::Job, Kind::GpuFault, Kind::Telemetry];
const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

/// More incidents than this are not shown one by one, the least severe first.
const SHOWN: usize = 1000;

/// The subject and the condition are those that alerts go by: as of the incident's opening. `notify` is the loudest so far.
const LABELS: [&str; 10] = ["kind", "cause", "condition", "notify", "cluster", "feeder", "rack", "hpc_job", "node", "gpu"];

type Values = [String; LABELS.len()];

#[derive(Debug)]
pub(crate) struct IncidentMetrics {
    count: IntGaugeVec,
    open: GaugeVec,
    slowdown: GaugeVec,
    swing: GaugeVec,
    hidden: IntGauge,
    /// Series that there are.
    shown: Mutex<HashSet<Values>>,
}

impl IncidentMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let gauge = |name: &str, help: &str| add(registry, GaugeVec::new(Opts::new(name, help), &LABELS)?);
        let count = Opts::new("gridstep_incidents_open", "Incidents that are open.");
        let hidden = IntGauge::new("gridstep_collector_incidents_hidden", "Open incidents that have no series of their own.")?;
        Ok(Self {
            count: add(registry, IntGaugeVec::new(count, &["kind", "severity"])?)?,
            open: gauge("gridstep_incident_open", "1 for each incident that is open.")?,
            slowdown: gauge("gridstep_incident_slowdown_ratio", "By how much an open incident slows its job: 0 to 1.")?,
            swing: gauge("gridstep_incident_swing_watts", "Size of an open power swing: change of level, or peak to peak.")?,
            hidden: add(registry, hidden)?,
            shown: Mutex::default(),
        })
    }

    pub(crate) fn set(&self, incidents: &[Incident], announced: &Announced) {
        let mut open: Vec<&Incident> = incidents.iter().filter(|incident| incident.state == State::Open).collect();
        for kind in KINDS {
            for severity in SEVERITIES {
                let count = open.iter().filter(|one| one.kind == kind && one.severity == severity).count();
                self.count.with_label_values(&[word(kind), word(severity)]).set(count as i64);
            }
        }
        open.sort_by_key(|incident| std::cmp::Reverse(incident.severity));
        self.hidden.set(open.len().saturating_sub(SHOWN) as i64);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *shown);
        for incident in open.into_iter().take(SHOWN) {
            let values = values(incident, announced);
            self.show(incident, &values);
            shown.insert(values);
        }
        for gone in before.difference(&shown) {
            for gauge in [&self.open, &self.slowdown, &self.swing] {
                // Not every incident has every figure.
                let _ = gauge.remove_label_values(gone);
            }
        }
    }

    fn show(&self, incident: &Incident, values: &Values) {
        let figure = |name: &str| incident.magnitude.get(name).and_then(serde_json::Value::as_f64);
        self.open.with_label_values(values).set(1.0);
        if let Some(ratio) = figure("slowdown_ratio") {
            self.slowdown.with_label_values(values).set(ratio);
        }
        if let Some(watts) = figure("amplitude_watts").or_else(|| figure("delta_watts")) {
            self.swing.with_label_values(values).set(watts.abs());
        }
    }
}

fn values(incident: &Incident, announced: &Announced) -> Values {
    let known = announced.of(incident);
    let subject = known.map_or(&incident.subject, |known| &known.subject).clone();
    let notify = known.and_then(|known| known.notify()).map_or("none", Notify::name);
    [
        word(incident.kind),
        incident.cause.clone(),
        known.and_then(|known| known.condition.clone()).unwrap_or_default(),
        notify.to_owned(),
        subject.cluster.unwrap_or_default(),
        subject.feeder.unwrap_or_default(),
        subject.rack.unwrap_or_default(),
        subject.job.unwrap_or_default(),
        subject.node.unwrap_or_default(),
        subject.gpu.map(|gpu| gpu.to_string()).unwrap_or_default(),
    ]
}
