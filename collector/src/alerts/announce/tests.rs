use super::*;
use crate::incidents::{Book, Report};
use std::time::Duration;

/// Incidents as the judging makes them, and what is announced of them.
#[derive(Default)]
struct Desk {
    book: Book,
    announced: Announced,
    config: AlertsConfig,
}

const NODE: &str = "node5";

fn report(seconds: f64, severity: Severity, cause: &'static str, gpu: Option<u8>) -> Report {
    let subject = Subject { job: Some("llama".into()), node: Some(NODE.into()), gpu, ..Subject::default() };
    Report {
        at: Micros::from_seconds(seconds),
        started_at: Micros::from_seconds(seconds),
        cause,
        severity,
        subject,
        completeness: 1.0,
        confirmed: true,
        summary: format!("slow: {cause}"),
        magnitude: Default::default(),
        evidence: Vec::new(),
        ruled_out: Vec::new(),
        contributors: Vec::new(),
    }
}

impl Desk {
    fn open(&mut self, kind: Kind, report: Report) -> usize {
        let place = self.book.open(kind, report);
        self.note();
        place
    }

    fn refine(&mut self, place: usize, report: Report) {
        self.book.refine(place, report);
        self.note();
    }

    fn close(&mut self, place: usize, seconds: f64) {
        self.book.close(place, Micros::from_seconds(seconds), Micros::from_seconds(seconds));
        self.note();
    }

    fn note(&mut self) {
        for revision in self.book.take_revisions() {
            self.announced.note(&revision, self.config.minimum);
        }
    }

    fn alerts(&self, seconds: f64) -> Vec<Alert> {
        self.announced.alerts(self.book.incidents(), &self.config, Micros::from_seconds(seconds))
    }

    /// "page node5/3" for each that goes on.
    fn told(&self, seconds: f64) -> Vec<String> {
        let going = self.alerts(seconds).into_iter().filter(|alert| alert.ended_at.is_none());
        let mut told: Vec<String> = going.map(|alert| told(&alert.labels)).collect();
        told.sort();
        told
    }
}

fn told(labels: &Labels) -> String {
    let label = |name: &str| labels.get(name).map_or("", String::as_str);
    format!("{} {}/{}", label("severity"), label("node"), label("gpu"))
}

#[test]
fn a_refined_verdict_is_the_same_alert() {
    let mut desk = Desk::default();
    let place = desk.open(Kind::Straggler, report(1.0, Severity::Critical, "unknown", Some(3)));
    let before = desk.alerts(1.0);
    // Cause, subject's level and severity change; the page stays what it was.
    desk.refine(place, report(2.0, Severity::Warning, "thermal", None));
    let after = desk.alerts(2.0);
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_eq!(before[0].labels, after[0].labels);
    assert_eq!(after[0].annotations["cause"], "thermal");
    assert_eq!(after[0].started_at, Micros::from_seconds(1.0));
}

#[test]
fn labels_name_the_condition_and_nothing_that_may_differ() {
    let mut desk = Desk::default();
    desk.config.labels.insert("site".into(), "fra1".into());
    desk.open(Kind::Straggler, report(1.0, Severity::Warning, "thermal", Some(3)));
    desk.open(Kind::GpuFault, report(1.0, Severity::Warning, "gpu_lost", Some(3)));
    let labels: Vec<String> = desk
        .alerts(1.0)
        .iter()
        .map(|alert| alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
        .collect();
    let wanted = [
        "alertname=GridstepGpuFault condition=gpu_lost gpu=3 job=llama kind=gpu_fault node=node5 severity=ticket site=fra1",
        "alertname=GridstepStraggler gpu=3 job=llama kind=straggler node=node5 severity=ticket site=fra1",
    ];
    assert_eq!(labels, wanted);
}

#[test]
fn an_escalation_is_one_more_alert() {
    let mut desk = Desk::default();
    let place = desk.open(Kind::Straggler, report(1.0, Severity::Warning, "thermal", Some(3)));
    assert_eq!(desk.told(1.0), ["ticket node5/3"]);
    desk.refine(place, report(2.0, Severity::Critical, "thermal", Some(3)));
    assert_eq!(desk.told(2.0), ["page node5/3", "ticket node5/3"]);
    // A page is not taken back while the condition lasts.
    desk.refine(place, report(3.0, Severity::Warning, "thermal", Some(3)));
    assert_eq!(desk.told(3.0), ["page node5/3", "ticket node5/3"]);
    desk.close(place, 4.0);
    assert!(desk.told(4.0).is_empty());
    assert!(desk.alerts(4.0).iter().all(|alert| alert.ended_at == Some(Micros::from_seconds(4.0))));
}

#[test]
fn what_is_not_confirmed_does_not_page() {
    let mut desk = Desk::default();
    let unconfirmed = Report { confirmed: false, ..report(1.0, Severity::Critical, "thermal", Some(3)) };
    let place = desk.open(Kind::Straggler, unconfirmed);
    assert_eq!(desk.told(1.0), ["ticket node5/3"]);
    desk.refine(place, report(2.0, Severity::Critical, "thermal", Some(3)));
    assert_eq!(desk.told(2.0), ["page node5/3", "ticket node5/3"]);
}

#[test]
fn what_is_below_the_minimum_is_not_sent() {
    let mut desk = Desk::default();
    let place = desk.open(Kind::Straggler, report(1.0, Severity::Info, "thermal", Some(3)));
    assert!(desk.alerts(1.0).is_empty());
    desk.close(place, 2.0);
    assert!(desk.alerts(2.0).is_empty());
    desk.config.minimum = Severity::Critical;
    desk.open(Kind::Straggler, report(3.0, Severity::Warning, "thermal", Some(4)));
    assert!(desk.alerts(3.0).is_empty());
    desk.config.minimum = Severity::Info;
    desk.open(Kind::Straggler, report(4.0, Severity::Info, "thermal", Some(5)));
    assert_eq!(desk.told(4.0), ["ticket node5/5"]);
}

/// What severity an incident once had is not to be seen any more; the checkpoint knows.
#[test]
fn a_restart_goes_on_with_the_same_alerts() {
    let mut desk = Desk::default();
    let place = desk.open(Kind::Straggler, report(1.0, Severity::Critical, "unknown", Some(3)));
    desk.refine(place, report(2.0, Severity::Warning, "thermal", None));
    let mut bytes = Vec::new();
    ciborium::into_writer(&desk.announced, &mut bytes).unwrap();
    let before = desk.alerts(3.0);
    desk.announced = ciborium::from_reader(&bytes[..]).unwrap();
    desk.refine(place, report(4.0, Severity::Warning, "thermal", None));
    assert_eq!(desk.alerts(4.0), before);
}

#[test]
fn what_is_over_is_said_for_a_while_and_forgotten() {
    let mut desk = Desk::default();
    desk.config.expire_after = Duration::from_secs(300);
    let place = desk.open(Kind::Straggler, report(1.0, Severity::Warning, "thermal", Some(3)));
    desk.close(place, 10.0);
    assert_eq!(desk.alerts(309.0).len(), 1);
    assert!(desk.alerts(310.0).is_empty());
    desk.announced.forget(desk.book.incidents(), &desk.config, Micros::from_seconds(309.0));
    assert_eq!(desk.announced.0.len(), 1);
    desk.announced.forget(desk.book.incidents(), &desk.config, Micros::from_seconds(310.0));
    assert!(desk.announced.0.is_empty());
}

/// The same condition again: for Alertmanager it is the same alert, that goes on.
#[test]
fn of_two_incidents_with_the_same_labels_the_open_one_is_told() {
    let mut desk = Desk::default();
    let first = desk.open(Kind::Straggler, report(1.0, Severity::Warning, "thermal", Some(3)));
    desk.close(first, 10.0);
    let second = desk.open(Kind::Straggler, report(20.0, Severity::Warning, "power_cap", Some(3)));
    let alerts = desk.alerts(20.0);
    assert_eq!(alerts.len(), 1);
    assert_eq!((alerts[0].ended_at, alerts[0].started_at), (None, Micros::from_seconds(20.0)));
    assert_eq!(alerts[0].annotations["cause"], "power_cap");
    desk.close(second, 30.0);
    assert_eq!(desk.alerts(30.0)[0].ended_at, Some(Micros::from_seconds(30.0)));
}

#[test]
fn annotations_say_what_a_person_needs_to_disagree() {
    use crate::incidents::{Contributor, Evidence};
    let mut desk = Desk::default();
    desk.config.runbook_url = Some("https://wiki/runbooks/".into());
    desk.config.external_url = Some("https://gridstep".into());
    let mut told = report(1.0, Severity::Warning, "thermal", Some(3));
    told.magnitude.insert("slowdown_ratio".into(), 0.14.into());
    told.evidence.push(Evidence { signal: "sm_clock_mhz".into(), value: 1515.0, peers: Some(1845.0), score: Some(31.04) });
    told.ruled_out = vec!["power_cap".into(), "cpu_contention".into()];
    let who = [("job".to_owned(), "llama".into())].into_iter().collect();
    told.contributors.push(Contributor { who, share: 0.83 });
    desk.open(Kind::Straggler, told);
    let alert = desk.alerts(1.0).remove(0);
    let wanted = [
        ("cause", "thermal"),
        ("confirmed", "true"),
        ("contributors", "job llama 83 %"),
        ("data_completeness", "100.0 %"),
        ("evidence", "sm_clock_mhz 1515, peers 1845, 31.0 deviations off"),
        ("figures", "slowdown_ratio 0.14"),
        ("incident", "straggler-node5-gpu3-1"),
        ("incident_severity", "warning"),
        ("page_url", "https://gridstep"),
        ("ruled_out", "power_cap, cpu_contention"),
        ("runbook_url", "https://wiki/runbooks/GridstepStraggler.md#thermal"),
        ("summary", "slow: thermal"),
    ];
    assert_eq!(alert.annotations.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>(), wanted);
}

/// Its text is held against the causes by tests/it/alerts/dashboard.rs.
#[test]
fn every_kind_has_a_runbook_and_a_rule_of_its_name() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rules = std::fs::read_to_string(root.join("deploy/prometheus/gridstep.rules.yml")).unwrap();
    for kind in [Kind::Straggler, Kind::PowerSwing, Kind::Job, Kind::GpuFault, Kind::Telemetry] {
        let name = alertname(kind);
        assert!(root.join(format!("docs/runbooks/{name}.md")).exists(), "{name}");
        assert!(rules.contains(&format!("- alert: {name}\n")), "{name}");
    }
}
