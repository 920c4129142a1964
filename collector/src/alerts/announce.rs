//! incidents ─▶ alerts.
//!
//! Labels are those of the incident's first revision. Of the later ones remembers only whether it ever was worth a ticket or a
//! page: a page is not taken back before the incident closes, so that a verdict that wavers rings once. Where a ticket becomes
//! a page, the page is one more alert, and Alertmanager is to mute the ticket (deploy/alertmanager/alertmanager.yml).

use super::text::{annotations, word};
use super::{Alert, AlertsConfig, Labels};
use crate::incidents::{Incident, Kind, Severity, State, Subject};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Labels that name the condition.
pub(super) const OWN_LABELS: [&str; 10] =
    ["alertname", "kind", "condition", "cluster", "feeder", "rack", "job", "node", "gpu", "severity"];

/// How loud.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Notify {
    /// Somebody looks at it in working hours.
    Ticket,
    /// Somebody is woken.
    Page,
}

impl Notify {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Page => "page",
        }
    }
}

/// What was announced of one incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    /// As of the first revision, like `condition`.
    pub(crate) subject: Subject,
    /// The cause, where causes are conditions of their own: power may rise and oscillate at once, a GPU have two faults. A
    /// straggler's or a job's is a verdict, and may be refined.
    pub(crate) condition: Option<String>,
    ticket: bool,
    page: bool,
}

impl Announcement {
    fn new(incident: &Incident) -> Self {
        let condition = match incident.kind {
            Kind::Straggler | Kind::Job => None,
            Kind::PowerSwing | Kind::GpuFault | Kind::Telemetry => Some(incident.cause.clone()),
        };
        Self { subject: incident.subject.clone(), condition, ticket: false, page: false }
    }

    /// The loudest so far. None: nobody was told.
    pub(crate) fn notify(&self) -> Option<Notify> {
        match (self.ticket, self.page) {
            (_, true) => Some(Notify::Page),
            (true, false) => Some(Notify::Ticket),
            (false, false) => None,
        }
    }
}

/// What was announced of all incidents that are open or closed a while ago, by id. Part of the checkpoint: how severe an
/// incident once was cannot be told from what it is now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Announced(HashMap<String, Announcement>);

impl Announced {
    /// Takes note of an incident's revision; of each, in their order.
    pub(crate) fn note(&mut self, incident: &Incident, minimum: Severity) {
        if incident.state == State::Closed {
            return;
        }
        let known = self.0.entry(incident.id.clone()).or_insert_with(|| Announcement::new(incident));
        match incident.severity {
            severity if severity < minimum => {}
            // While what could overturn it is out, nobody is woken; but it is on record.
            Severity::Critical if incident.confirmed => known.page = true,
            _ => known.ticket |= !known.page,
        }
    }

    /// After a restart: what was announced before. Nothing of it is taken back.
    pub(crate) fn restore(&mut self, incident: &Incident, before: Announcement) {
        let known = self.0.entry(incident.id.clone()).or_insert_with(|| before.clone());
        known.ticket |= before.ticket;
        known.page |= before.page;
    }

    pub(crate) fn of(&self, incident: &Incident) -> Option<&Announcement> {
        self.0.get(&incident.id)
    }

    /// All alerts that go on, or were over less than `expire_after` ago. Of two incidents with the same labels (one after the
    /// other, of one subject) the alert is one: it goes on while either does.
    pub(crate) fn alerts(&self, incidents: &[Incident], config: &AlertsConfig, now: Micros) -> Vec<Alert> {
        let mut alerts: BTreeMap<Labels, Alert> = BTreeMap::new();
        for incident in incidents.iter().filter(|incident| is_current(incident, config, now)) {
            let Some(known) = self.of(incident) else { continue };
            for notify in [known.ticket.then_some(Notify::Ticket), known.page.then_some(Notify::Page)].into_iter().flatten() {
                let alert = alert(incident, known, notify, config);
                match alerts.get_mut(&alert.labels) {
                    Some(other) => merge(other, alert),
                    None => drop(alerts.insert(alert.labels.clone(), alert)),
                }
            }
        }
        alerts.into_values().collect()
    }

    /// Lets go of incidents that are no longer told of.
    pub(crate) fn forget(&mut self, incidents: &[Incident], config: &AlertsConfig, now: Micros) {
        let current = incidents.iter().filter(|incident| is_current(incident, config, now));
        let current: HashSet<&String> = current.map(|incident| &incident.id).collect();
        self.0.retain(|id, _| current.contains(id));
    }
}

fn is_current(incident: &Incident, config: &AlertsConfig, now: Micros) -> bool {
    incident.state == State::Open || now.since(incident.updated_at) < config.expire_after.as_secs_f64()
}

fn alert(incident: &Incident, known: &Announcement, notify: Notify, config: &AlertsConfig) -> Alert {
    let mut labels = config.labels.clone();
    let mut label = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            labels.insert(name.into(), value.into());
        }
    };
    let Subject { cluster, feeder, rack, job, node, gpu } = &known.subject;
    label("alertname", Some(alertname(incident.kind)));
    label("kind", Some(&word(incident.kind)));
    label("condition", known.condition.as_deref());
    label("cluster", cluster.as_deref());
    label("feeder", feeder.as_deref());
    label("rack", rack.as_deref());
    label("job", job.as_deref());
    label("node", node.as_deref());
    label("gpu", gpu.map(|gpu| gpu.to_string()).as_deref());
    label("severity", Some(notify.name()));
    Alert {
        labels,
        annotations: annotations(incident, alertname(incident.kind), config),
        started_at: incident.started_at,
        ended_at: incident.closed_at.map(|closed| closed.max(incident.started_at)),
    }
}

/// The name of the alert is that of its runbook's file.
fn alertname(kind: Kind) -> &'static str {
    match kind {
        Kind::Straggler => "GridstepStraggler",
        Kind::PowerSwing => "GridstepPowerSwing",
        Kind::Job => "GridstepJob",
        Kind::GpuFault => "GridstepGpuFault",
        Kind::Telemetry => "GridstepTelemetry",
    }
}

/// `later` has the same labels and stands later in the book.
fn merge(alert: &mut Alert, later: Alert) {
    match (alert.ended_at, later.ended_at) {
        // What goes on is what is told.
        (None, Some(_)) => {}
        (Some(_), _) => *alert = later,
        (None, None) => *alert = Alert { started_at: alert.started_at.min(later.started_at), ..later },
    }
}

#[cfg(test)]
mod tests;
