//! The dashboard, the rules and the runbooks that we ship, as files.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DASHBOARD: &str = include_str!("../../../../dashboards/grafana/fleet.json");
const RULES: &str = include_str!("../../../../deploy/prometheus/gridstep.rules.yml");

/// Units that Grafana knows and that we use.
const UNITS: [&str; 6] = ["bytes", "hertz", "percentunit", "s", "short", "watt"];
/// Panels of what not every fleet has: dips that recur, a second oscillation, clocks that are off, whole nodes or meters that are measured.
const RARE: [&str; 4] = ["Next recurring dip", "Second oscillation", "Clocks that are off", "Error of the calibrations"];

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row").cloned().collect()
}

/// Title and expression of every target, as Grafana would send it.
pub(super) fn expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for panel in panels() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m").replace("$job", ".*");
            assert!(!expression.contains('$'), "a variable that the dashboard does not have: {expression}");
            all.push((panel["title"].as_str().unwrap().to_owned(), expression));
        }
    }
    assert!(all.len() > 20, "{all:#?}");
    all
}

/// Whether a panel is about what a fleet may well be without.
pub(super) fn is_rare(title: &str) -> bool {
    RARE.contains(&title)
}

/// Every metric that the dashboard, but for what is rare, and the rules name.
pub(super) fn metrics() -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let rules = RULES.lines().filter(|line| !line.trim_start().starts_with('#'));
    let texts = rules
        .map(str::to_owned)
        .chain(expressions().into_iter().filter(|(title, _)| !is_rare(title)).map(|(_, expression)| expression));
    let words = texts.flat_map(|text| text.split(word).map(str::to_owned).collect::<Vec<_>>());
    words.filter(|word| word.starts_with("gridstep_")).collect()
}

#[test]
fn every_panel_says_what_it_shows_and_in_what_unit() {
    let mut ids = BTreeSet::new();
    for panel in panels() {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 20), "{title} has no description");
        assert!(UNITS.contains(&panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap()), "{title} has no unit");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the id of another panel");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
    }
}

/// What no test fleet shows is at least a metric that the collector has.
#[test]
fn rare_panels_show_what_the_collector_exports() {
    let source = include_str!("../../../src/metrics/swings.rs");
    let rare: Vec<_> = expressions().into_iter().filter(|(title, _)| is_rare(title)).collect();
    let titles: BTreeSet<&str> = rare.iter().map(|(title, _)| title.as_str()).collect();
    assert_eq!(titles.len(), RARE.len(), "{titles:?}");
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    for name in rare.iter().flat_map(|(_, expression)| expression.split(word)).filter_map(|word| word.strip_prefix("gridstep_")) {
        assert!(source.contains(&format!("\"{name}\"")), "{name} is not exported");
    }
}

#[test]
fn no_panel_lies_upon_another() {
    let edges = |panel: &Value| ["x", "y", "w", "h"].map(|edge| panel["gridPos"][edge].as_u64().unwrap());
    let all: Vec<Value> = serde_json::from_str::<Value>(DASHBOARD).unwrap()["panels"].as_array().unwrap().clone();
    for (at, one) in all.iter().enumerate() {
        let [x, y, w, h] = edges(one);
        assert!(x + w <= 24, "{}", one["title"]);
        for other in &all[at + 1..] {
            let [left, top, width, height] = edges(other);
            let apart = x + w <= left || left + width <= x || y + h <= top || top + height <= y;
            assert!(apart, "{} and {}", one["title"], other["title"]);
        }
    }
}

fn runbook(alert: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/runbooks/{alert}.md"))
}

/// Each alert of the rules, and so each that the collector sends: they have the same names.
#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let ruled: BTreeSet<&str> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(ruled.len() > 10);
    for alert in &ruled {
        let text = std::fs::read_to_string(runbook(alert)).unwrap_or_else(|_| panic!("{alert} has no runbook"));
        for part in ["# What it means", "# Ten seconds", "# What to do", "# A false one", "# Silence"] {
            assert!(text.contains(part), "{alert}.md has no part {part:?}");
        }
    }
    let files =
        std::fs::read_dir(runbook("x").parent().unwrap()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    for file in files.filter(|file| file != "README.md") {
        assert!(ruled.contains(file.trim_end_matches(".md")), "{file} is for no alert");
    }
}

/// Alerts link to the heading of their cause.
#[test]
fn every_cause_has_a_heading_in_its_runbook() {
    let causes = [
        (
            "GridstepStraggler",
            "thermal power_cap power_brake clock_lock hbm_degraded nvlink_errors pcie_degraded cpu_contention network_slow unknown",
        ),
        ("GridstepPowerSwing", "step_up step_down oscillation over_limit"),
        ("GridstepJob", "stalled slow_everywhere slow_stage"),
        ("GridstepGpuFault", "gpu_lost"),
        ("GridstepTelemetry", "driver_hung"),
    ];
    for (alert, causes) in causes {
        let text = std::fs::read_to_string(runbook(alert)).unwrap();
        for cause in causes.split(' ') {
            assert!(text.lines().any(|line| line == format!("## {cause}")), "{alert}.md has no heading for {cause}");
        }
    }
}
