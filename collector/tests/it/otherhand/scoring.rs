//! `score`: with a collector that says what it was given to say.

use super::{otherhand, python};
use crate::scenarios::shared;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const T0: f64 = 1_760_000_000.0;
/// `replay --incidents OUT SCENARIO`: the scenario has what is said, or nothing, and then it crashes.
const COLLECTOR: &str = r#"#!/bin/sh
[ "$1" = --version ] && exec echo a collector
[ -e "$4/said.jsonl" ] || { echo it panicked >&2; exit 101; }
cp "$4/said.jsonl" "$3"
"#;

fn collector(folder: &Path) -> PathBuf {
    let path = folder.join("collector");
    std::fs::write(&path, COLLECTOR).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn fault(node: &str, gpu: Option<u32>, start: f64, end: f64, slowdown: f64) -> Value {
    json!({"node": node, "gpu": gpu, "start": start, "end": end, "cause": "thermal", "job_slowdown": slowdown, "optional": slowdown < 0.01})
}

fn incident(node: &str, gpu: Option<u32>, opened: f64, cause: &str) -> Value {
    let subject = gpu.map_or(json!({"node": node}), |gpu| json!({"node": node, "gpu": gpu}));
    let stamp = |seconds: f64| jiff::Timestamp::from_millisecond(((T0 + seconds) * 1e3) as i64).unwrap().to_string();
    json!({"kind": "straggler", "cause": cause, "severity": "warning", "subject": subject, "opened_at": stamp(opened),
           "started_at": stamp(opened - 5.0), "magnitude": {"slowdown_ratio": 0.1}})
}

fn scenario(folder: &Path, name: &str, stragglers: &[Value], said: Option<&[Value]>) {
    let folder = folder.join(name);
    std::fs::create_dir(&folder).unwrap();
    let truth = json!({"name": name, "t0": T0, "seconds": 900, "gpus": 128, "stragglers": stragglers, "swings": null});
    std::fs::write(folder.join("truth.json"), truth.to_string()).unwrap();
    let Some(said) = said else { return };
    let lines: Vec<String> = said.iter().map(|incident| format!("{incident}\n")).collect();
    std::fs::write(folder.join("said.jsonl"), lines.concat()).unwrap();
}

/// Of each rule both sides.
fn scenarios(folder: &Path) {
    let faults = [
        fault("node00001", Some(2), 100.0, 700.0, 0.1),
        fault("node00001", Some(2), 750.0, 800.0, 0.1),
        fault("node00002", None, 100.0, 200.0, 0.03),
        fault("node00003", Some(0), 100.0, 200.0, 0.03),
        fault("node00004", Some(0), 100.0, 200.0, 0.001),
    ];
    let said = [
        incident("node00001", Some(2), 399.5, "thermal"),
        incident("node00001", Some(2), 400.0, "thermal"),
        incident("node00001", Some(2), 400.5, "thermal"),
        incident("node00001", Some(2), 860.0, "power_cap"),
        incident("node00002", Some(1), 150.0, "thermal"),
        incident("node00002", None, 99.5, "thermal"),
        incident("node00002", None, 260.5, "thermal"),
        incident("node00003", Some(0), 260.0, "unknown"),
        incident("node00004", Some(0), 150.0, "thermal"),
        json!({"kind": "power_swing", "cause": "step_up", "opened_at": "2025-10-09T09:00:00.000Z"}),
    ];
    scenario(folder, "faulty-1", &faults, Some(&said));
    scenario(folder, "healthy-1", &[], Some(&[incident("node00009", None, 50.0, "unknown")]));
    scenario(folder, "healthy-2", &[], Some(&[]));
}

#[test]
fn the_rules_are_the_shared_ones() {
    let folder = tempfile::tempdir().unwrap();
    scenarios(folder.path());
    let binary = collector(folder.path());
    let (code, printed, errors) =
        otherhand(&["score", "--json", "--collector", binary.to_str().unwrap(), folder.path().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{errors}");
    let ours: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ours.len(), 3);
    for our in ours {
        let of = folder.path().join(our["name"].as_str().unwrap());
        let [truth, said] = ["truth.json", "said.jsonl"].map(|file| of.join(file));
        let (code, printed, errors) = python(&[&shared("eval/score.py"), &truth, &said].map(|path| path.to_str().unwrap()));
        assert_eq!(code, Some(0), "{errors}");
        let theirs: Value = serde_json::from_str(printed.lines().next().unwrap()).unwrap();
        for key in ["faults", "found", "duplicates", "false", "cause_right", "delays_s"] {
            assert_eq!(our[key], theirs["stragglers"][key], "{} {key}", our["name"]);
        }
    }
}

#[test]
fn a_crash_is_told_and_no_miss() {
    let folder = tempfile::tempdir().unwrap();
    scenarios(folder.path());
    scenario(folder.path(), "faulty-2", &[fault("node00001", None, 1.0, 2.0, 0.1)], None);
    let binary = collector(folder.path());
    let (code, printed, errors) =
        otherhand(&["score", "--verbose", "--collector", binary.to_str().unwrap(), folder.path().to_str().unwrap()]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("faulty-2") && errors.contains("it panicked"), "{errors}");
    let row = |begin: &str| -> Vec<&str> {
        let line = printed.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{begin}: {printed}"));
        line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect()
    };
    assert_eq!(row("| all  "), ["all", "4", "3 of 4", "1 of 2", "2 of 2", "1 of 3", "0 / 5 / 0", "1", "1 of 2", "1"]);
    assert_eq!(row("| recall "), ["recall", "3 of 4", "0.750", "0.301 to 0.954"]);
    assert!(printed.contains("node00002 thermal 3.0 % 100 to 200 s -> missed"), "{printed}");
}

#[test]
fn wrong_usage_is_64() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("something"), "").unwrap();
    for (arguments, said) in [
        (vec!["generate", "--out", path], "--set"),
        (vec!["generate", "--kind", "plain", "--seeds", "9-2", "--out", path], "'9-2'"),
        (vec!["one", "--seed", "1", "--out", path], "no scenario"),
        (vec!["score", "--collector", "/nowhere/at/all", path], "truth.json"),
    ] {
        let (code, _, errors) = otherhand(&arguments);
        assert_eq!(code, Some(64), "{errors}");
        assert!(errors.contains(said), "{errors}");
    }
    scenarios(folder.path());
    let (code, _, errors) = otherhand(&["score", "--collector", "/nowhere/at/all", path]);
    assert!(code == Some(64) && errors.contains("/nowhere/at/all"), "{errors}");
}
