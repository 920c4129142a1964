//! Opens, refines, merges and closes: one condition is one incident.

use super::{Incident, Kind, Severity, State, Subject};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// A closed incident is kept this long, microseconds.
pub(crate) const KEEP_US: i64 = 24 * 3600 * 1_000_000;
/// What agents bring again after a restart shows the same condition with an onset that differs by less, microseconds.
const AGAIN_US: i64 = 5_000_000;
/// A swing that was told of before a restart, and of which nothing is seen since, is over after so long, microseconds.
const UNSEEN_US: i64 = 600_000_000;

/// A condition as a detector sees it now.
#[derive(Debug, Clone)]
pub struct Report {
    pub at: Micros,
    pub started_at: Micros,
    pub cause: &'static str,
    pub severity: Severity,
    pub subject: Subject,
    pub completeness: f64,
    pub confirmed: bool,
    pub summary: String,
    pub magnitude: serde_json::Map<String, serde_json::Value>,
    pub evidence: Vec<super::Evidence>,
    pub ruled_out: Vec<String>,
    pub contributors: Vec<super::Contributor>,
}

/// All incidents of the last day.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Book {
    incidents: Vec<Incident>,
    /// Revised since the last [`Book::take_revisions`].
    #[serde(skip)]
    revised: Vec<Incident>,
    /// Ids of incidents that were told of after the checkpoint, and that the judging has not seen again yet.
    #[serde(default)]
    adopted: Vec<String>,
}

impl Book {
    /// Opens an incident; gives its place in the book.
    pub fn open(&mut self, kind: Kind, report: Report) -> usize {
        if let Some(place) = self.told_before(kind, &report) {
            if self.incidents[place].state == State::Open {
                self.refine(place, report);
            }
            return place;
        }
        let mut id = name(kind, &report);
        // Another condition of the same subject within the same second.
        if self.incidents.iter().any(|incident| incident.id == id) {
            id = format!("{id}-{}", report.cause);
        }
        self.incidents.push(Incident {
            schema: 1,
            id,
            revision: 0,
            kind,
            cause: String::new(),
            severity: report.severity,
            state: State::Open,
            started_at: report.started_at,
            opened_at: report.at,
            updated_at: report.at,
            closed_at: None,
            confirmed: report.confirmed,
            completeness: report.completeness,
            subject: report.subject.clone(),
            summary: String::new(),
            magnitude: Default::default(),
            evidence: Vec::new(),
            ruled_out: Vec::new(),
            contributors: Vec::new(),
        });
        let place = self.incidents.len() - 1;
        self.refine(place, report);
        place
    }

    /// A new revision with what is known now. The id, the kind and the onset stay.
    pub fn refine(&mut self, place: usize, report: Report) {
        let incident = &mut self.incidents[place];
        self.adopted.retain(|id| *id != incident.id);
        incident.revision += 1;
        incident.cause = report.cause.into();
        incident.severity = report.severity;
        incident.updated_at = report.at;
        incident.confirmed |= report.confirmed;
        incident.completeness = report.completeness;
        incident.subject = report.subject;
        incident.summary = report.summary;
        incident.magnitude = report.magnitude;
        incident.evidence = report.evidence;
        incident.ruled_out = report.ruled_out;
        incident.contributors = report.contributors;
        self.revised.push(incident.clone());
    }

    /// It is still there, and there is nothing new to say.
    pub fn touch(&mut self, place: usize, at: Micros) {
        let incident = &mut self.incidents[place];
        incident.updated_at = incident.updated_at.max(at);
    }

    pub fn close(&mut self, place: usize, at: Micros, now: Micros) {
        let incident = &mut self.incidents[place];
        if incident.state == State::Closed {
            return;
        }
        incident.revision += 1;
        incident.state = State::Closed;
        incident.closed_at = Some(at);
        incident.updated_at = now;
        self.revised.push(incident.clone());
    }

    /// The open incident that `of` recognises.
    pub fn find_open(&self, of: impl Fn(&Incident) -> bool) -> Option<usize> {
        self.incidents.iter().position(|incident| incident.state == State::Open && of(incident))
    }

    /// The newest incident, open or not, that `of` recognises.
    pub fn find_last(&self, of: impl Fn(&Incident) -> bool) -> Option<usize> {
        self.incidents.iter().rposition(of)
    }

    pub fn place_of(&self, id: &str) -> Option<usize> {
        self.incidents.iter().rposition(|incident| incident.id == id)
    }

    pub fn get(&self, place: usize) -> &Incident {
        &self.incidents[place]
    }

    /// Places of all open incidents of a kind.
    pub fn open_places(&self, kind: Kind) -> Vec<usize> {
        let open =
            self.incidents.iter().enumerate().filter(|(_, incident)| incident.kind == kind && incident.state == State::Open);
        open.map(|(place, _)| place).collect()
    }

    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// An incident has been opened since the last [`Book::take_revisions`].
    pub fn has_opened(&self) -> bool {
        self.revised.iter().any(|incident| incident.revision == 1)
    }

    pub fn take_revisions(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.revised)
    }

    /// After a restart: incidents as they were told last, which may be later than the book is. What was told stays as it was, until
    /// there is more to tell: an id, once told, is that condition's, and its revisions go on upwards.
    pub fn adopt(&mut self, told: Vec<Incident>) {
        for incident in told {
            match self.place_of(&incident.id) {
                Some(place) if self.incidents[place].revision < incident.revision => self.incidents[place] = incident,
                Some(_) => {}
                None => {
                    self.adopted.push(incident.id.clone());
                    self.incidents.push(incident);
                }
            }
        }
    }

    /// The adopted incident that is this one seen again.
    fn told_before(&self, kind: Kind, report: &Report) -> Option<usize> {
        let is_it = |incident: &Incident| {
            let same_cause = matches!(kind, Kind::Straggler | Kind::Job) || incident.cause == report.cause;
            let apart = (incident.started_at.0 - report.started_at.0).abs();
            incident.kind == kind && same_cause && incident.subject == report.subject && apart < AGAIN_US
        };
        self.adopted.iter().filter_map(|id| self.place_of(id)).find(|&place| is_it(&self.incidents[place]))
    }

    /// Swings say themselves when they are over, but for those that are not seen again. All others close by what is seen of their
    /// subject.
    fn close_unseen(&mut self, now: Micros) {
        for id in std::mem::take(&mut self.adopted) {
            let Some(place) = self.place_of(&id) else { continue };
            let incident = &self.incidents[place];
            let last = incident.updated_at;
            match now.0 - last.0 < UNSEEN_US {
                true => self.adopted.push(id),
                false if incident.kind == Kind::PowerSwing => self.close(place, last, now),
                false => {}
            }
        }
    }

    /// Lets go of what closed more than a day ago.
    pub fn forget(&mut self, now: Micros) {
        if !self.adopted.is_empty() {
            self.close_unseen(now);
        }
        self.incidents.retain(|incident| incident.closed_at.is_none_or(|closed| now.0 - closed.0 < KEEP_US));
    }
}

/// A function of kind, subject and onset.
fn name(kind: Kind, report: &Report) -> String {
    let kind = match kind {
        Kind::Straggler => "straggler",
        Kind::PowerSwing => "swing",
        Kind::Job => "job",
        Kind::GpuFault => "gpu",
        Kind::Telemetry => "telemetry",
    };
    let subject = &report.subject;
    let place = subject.node.as_ref().or(subject.rack.as_ref()).or(subject.feeder.as_ref()).or(subject.cluster.as_ref());
    let place = place.or(subject.job.as_ref()).map_or("", String::as_str);
    let gpu = subject.gpu.map(|gpu| format!("-gpu{gpu}")).unwrap_or_default();
    let form = if kind == "swing" { format!("-{}", report.cause) } else { String::new() };
    format!("{kind}{form}-{place}{gpu}-{}", report.started_at.0.div_euclid(1_000_000))
}

#[cfg(test)]
mod tests;
