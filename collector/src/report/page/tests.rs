use super::*;
use crate::incidents::{Contributor, Severity, State, Subject};
use crate::report::{Facts, Recorder, Second, Size};
use gridstep_wire::Micros;
use serde_json::{Value, json};

const T0: i64 = 1_760_000_000;

fn object(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn at(second: i64) -> Micros {
    Micros((T0 + second) * 1_000_000)
}

fn report(incidents: Vec<Incident>) -> Report {
    let mut recorder = Recorder::default();
    for second in 1..=1200 {
        let watts: f32 = if second < 600 { 8e6 } else { 12e6 };
        let change: f32 = if second == 600 { 4e6 } else { 1e4 };
        let completeness = if second == 300 { 0.5 } else { 1.0 };
        let (min_watts, max_watts) = (watts - 2e4, watts + 2e4);
        recorder.push(&Second { at: at(second), mean_watts: watts, min_watts, max_watts, completeness, changes: [change; 3] });
    }
    let limits = crate::power::Limits { contracted_watts: Some(13e6), ..Default::default() }.resolve(0.0);
    let size = Size { gpus: 16_384, nodes: 2048, jobs: vec!["<b>llama</b>".into()], ..Size::default() };
    let facts = Facts { limits, size, claim_limit_hz: 4.0, threshold_ratio: 4.7, ..Facts::default() };
    recorder.report("here".into(), (at(0), at(1200)), facts, incidents)
}

fn step() -> Incident {
    let share = |level: &str, name: &str, share: f64| Contributor { who: object(json!({ level: name })), share };
    Incident {
        schema: 1,
        id: "x".into(),
        revision: 1,
        kind: Kind::PowerSwing,
        cause: "step_up".into(),
        severity: Severity::Critical,
        state: State::Closed,
        started_at: at(599),
        opened_at: at(601),
        updated_at: at(640),
        closed_at: Some(at(640)),
        confirmed: false,
        completeness: 0.997,
        subject: Subject::default(),
        summary: "power rose by 4.00 MW".into(),
        magnitude: object(json!({"delta_watts": 4e6, "rise_seconds": 0.4, "limit_watts": 650e3, "limit_seconds": 1.0})),
        evidence: Vec::new(),
        ruled_out: Vec::new(),
        contributors: vec![share("job", "<b>llama</b>", 0.9), share("job", "other", 0.1), share("feeder", "a", 1.0)],
    }
}

fn text(report: &Report) -> String {
    page(report).replace('\u{a0}', " ")
}

#[test]
fn a_step_is_told_with_its_figures_and_whose_it_is() {
    let html = text(&report(vec![step()]));
    for wanted in [
        "Beyond a limit: 1 change of level, no sustained oscillation, no period of demand.",
        "The GPU boards drew 10.0 MW on average, between 7.98 MW and 12.0 MW; data 99.96 % complete.",
        "Largest changes: +4.00 MW within 1 s",
        "<dt>change of level</dt><dd>+4.00 MW</dd>",
        "<dt>limit</dt><dd>650.0 kW</dd>",
        "By job: &lt;b&gt;llama&lt;/b&gt; 90.0 %, other 10.0 %",
        "<td>2025-10-09 09:03:20</td><td>1 s</td><td class=\"n\">4.00</td><td class=\"n\">4.00</td><td class=\"n\">615 %</td>",
        "#1</a>: job &lt;b&gt;llama&lt;/b&gt; (90.0 %)",
        "not confirmed: data are missing",
        "Onset 2025-10-09 09:03:19, told 2 s later; until 2025-10-09 09:04:00 (41 s)",
    ] {
        assert!(html.contains(wanted), "{wanted:?} is not in {html}");
    }
    assert!(!html.contains("<b>llama"), "a name is no markup");
}

#[test]
fn nothing_known_is_said_to_be() {
    let empty = Recorder::default().report("here".into(), (at(0), at(60)), Facts::default(), Vec::new());
    let html = text(&empty);
    for wanted in ["Nothing is known of the power in this time.", "No swing of power was beyond a limit.", "No stretch of 102 s"]
    {
        assert!(html.contains(wanted), "{wanted:?} is not in {html}");
    }
}

#[test]
fn a_quiet_time_is_said_to_be() {
    let html = text(&report(Vec::new()));
    assert!(html.contains("No change of power was beyond a limit."));
    assert!(html.contains("no incident"), "the ramps are still listed");
}
