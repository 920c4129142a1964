//! The generator by another hand (simulator/otherhand): a seed means one scenario for good, its recordings are by the contract, its truth is
//! what the recording shows, and it scores as ../shared/eval/score.py does.

use crate::recorder::contract::{rows, table, told};
use crate::recorder::read;
use crate::scenarios::shared;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, TimestampMicrosecondType, UInt8Type, UInt64Type};
use arrow_array::{RecordBatch, StringArray};
use gridstep_collector::incidents::{Incident, Kind};
use gridstep_collector::judge::JudgeConfig;
use gridstep_collector::replay::replay;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

mod scoring;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python");
/// 600 s; one GPU's clock is locked, for 13 % of the job's speed.
const LOCKED: [&str; 6] = ["--kind", "plain", "--seed", "35", "--fault", "clock_lock"];

/// Of seed 20: its rows, the sum of the watts, and of the totals of NVLink errors.
const ROWS: usize = 115_149;
const WATTS: f64 = 60_544_895.5;
const ERRORS: u64 = 28_023_808;

fn python(arguments: &[&str]) -> (Option<i32>, String, String) {
    assert!(Path::new(PYTHON).exists(), "{PYTHON} is missing: run `make deps`");
    let Output { status, stdout, stderr } = Command::new(PYTHON).args(arguments).current_dir(ROOT).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn otherhand(arguments: &[&str]) -> (Option<i32>, String, String) {
    python(&[&["-m", "simulator.otherhand"], arguments].concat())
}

fn one(folder: &Path, scenario: &[&str]) -> Value {
    let (code, _, errors) = otherhand(&[&["one", "--out", folder.to_str().unwrap()], scenario].concat());
    assert_eq!(code, Some(0), "{errors}");
    serde_json::from_str(&std::fs::read_to_string(folder.join("truth.json")).unwrap()).unwrap()
}

#[test]
fn a_seed_is_one_scenario_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, other] = ["first", "second", "other"].map(|name| folder.path().join(name));
    let truth = one(&first, &["--seed", "20"]);
    one(&second, &["--seed", "20"]);
    one(&other, &["--seed", "21"]);
    for file in ["gpu-000.parquet", "node-000.parquet", "topology.csv"] {
        assert_eq!(std::fs::read(first.join(file)).unwrap(), std::fs::read(second.join(file)).unwrap(), "{file}");
    }
    let gpus = |folder: &Path| std::fs::read(folder.join("gpu-000.parquet")).unwrap();
    assert_ne!(gpus(&first), gpus(&other));

    // The figures in docs/evaluation.md are of this scenario and its like. If numpy draws otherwise one day, they have to be measured anew.
    assert_eq!(truth["harmless"].as_object().unwrap().keys().collect::<Vec<_>>(), ["hot_node"]);
    let faults: Vec<_> =
        truth["stragglers"].as_array().unwrap().iter().map(|fault| (&fault["cause"], &fault["job_slowdown"])).collect();
    assert_eq!(faults, [(&"power_brake".into(), &0.0296.into()), (&"hbm_degraded".into(), &0.0054.into())]);
    let batches = read(&first.join("gpu-000.parquet"));
    let watts: f64 =
        batches.iter().flat_map(|batch| batch["power_watts"].as_primitive::<Float32Type>().values()).map(|&w| f64::from(w)).sum();
    let errors: u64 = batches.iter().flat_map(|batch| batch["nvlink_errors_total"].as_primitive::<UInt64Type>().values()).sum();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), ROWS);
    assert!((watts / WATTS - 1.0).abs() < 1e-6, "{watts}");
    assert_eq!(errors, ERRORS);
}

#[test]
fn its_recordings_are_by_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("locked");
    one(&recording, &LOCKED);
    let text = std::fs::read_to_string(shared("contracts/recording.md")).unwrap();
    let mut known = rows(text.split("\n## ").next().unwrap());
    known.extend(table(&text, "gpu-*.parquet"));
    known.insert("job".into(), "string".into());
    let batches = read(&recording.join("gpu-000.parquet"));
    for field in batches[0].schema().fields() {
        assert_eq!(Some(&told(field.data_type()).replace("utf8", "string")), known.get(field.name()), "{}", field.name());
    }
    for batch in read(&recording.join("node-000.parquet")) {
        for field in batch.schema().fields() {
            assert!(text.contains(&format!("`{}`", field.name())) || known.contains_key(field.name()), "{}", field.name());
        }
        in_order(&batch);
    }
    batches.iter().for_each(in_order);
    let topology = std::fs::read_to_string(recording.join("topology.csv")).unwrap();
    assert_eq!(topology.lines().next(), Some("node,rack,feeder"));
    assert_eq!(topology.lines().count(), 17);
}

fn in_order(batch: &RecordBatch) {
    assert!(batch["ts"].as_primitive::<TimestampMicrosecondType>().values().is_sorted());
}

/// By node and GPU.
type ByGpu = BTreeMap<(String, u64), Seen>;

/// Sums over a span of time.
#[derive(Default, Clone, Copy)]
struct Seen {
    reads: f64,
    sm_active: f64,
    nvlink_bytes: f64,
}

#[test]
fn the_truth_is_what_the_recording_shows() {
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("locked");
    let truth = one(&recording, &LOCKED);
    let fault = &truth["stragglers"][0];
    let culprit = (fault["node"].as_str().unwrap().to_owned(), fault["gpu"].as_u64().unwrap());
    let [start, end] = ["start", "end"].map(|key| fault[key].as_f64().unwrap());
    let (before, during) = spans(&recording, &truth, start, end);

    // Who makes the others wait waits least of all, and no more than before; all others wait.
    let share = |seen: &Seen| seen.sm_active / seen.reads;
    let own = share(&during[&culprit]);
    for (gpu, seen) in during.iter().filter(|(gpu, _)| **gpu != culprit) {
        assert!(share(seen) < own - 0.03, "{gpu:?}");
        assert!(share(seen) < share(&before[gpu]) - 0.02, "{gpu:?}");
    }
    assert!((own - share(&before[&culprit])).abs() < 0.05, "{own}");
    // What is moved falls with the job's speed, for everybody alike.
    let rate = |of: &ByGpu| of.values().map(|seen| seen.nvlink_bytes / seen.reads).sum::<f64>();
    let slowdown = 1.0 - rate(&during) / rate(&before);
    assert!((slowdown - fault["job_slowdown"].as_f64().unwrap()).abs() < 0.02, "{slowdown}");

    let all = replay(&recording, JudgeConfig::default(), None, |_| ()).unwrap().incidents;
    let found: Vec<&Incident> = all.iter().filter(|incident| incident.kind == Kind::Straggler).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].subject.node.as_deref(), found[0].subject.gpu.map(u64::from)), (Some(&*culprit.0), Some(culprit.1)));
    assert_eq!(found[0].cause.as_str(), "clock_lock");

    // Who works with whom shows where nobody says it.
    let unnamed = folder.path().join("unnamed");
    one(&unnamed, &[&LOCKED[..], &["--unnamed"]].concat());
    let all = replay(&unnamed, JudgeConfig::default(), None, |_| ()).unwrap().incidents;
    let guessed: Vec<&Incident> = all.iter().filter(|incident| incident.kind == Kind::Straggler).collect();
    let of = |incident: &Incident| (incident.subject.node.clone(), incident.subject.gpu, incident.cause.to_string());
    assert_eq!(guessed.iter().map(|incident| of(incident)).collect::<Vec<_>>(), [of(found[0])]);
    assert!(guessed[0].subject.job.as_deref().is_some_and(|job| job.starts_with("unnamed-")), "{guessed:#?}");
}

/// By GPU of the job: before the fault and in it, a minute after the job's begin and without its pauses.
fn spans(recording: &Path, truth: &Value, start: f64, end: f64) -> (ByGpu, ByGpu) {
    let job = &truth["jobs"][0];
    let step = job["step_seconds"].as_f64().unwrap();
    let pauses = job["pauses"].as_array().unwrap();
    let figure = |of: &Value, key: &str| of[key].as_f64().unwrap();
    let paused = |at: f64| {
        pauses.iter().any(|p| (figure(p, "start")..figure(p, "start") + figure(p, "seconds") + 2.0 * step).contains(&at))
    };
    let (mut before, mut during) = (ByGpu::new(), ByGpu::new());
    for batch in read(&recording.join("gpu-000.parquet")) {
        let ts = batch["ts"].as_primitive::<TimestampMicrosecondType>();
        let nodes = batch["node"].as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
        let gpus = batch["gpu"].as_primitive::<UInt8Type>();
        let [active, bytes] =
            ["sm_active_ratio", "nvlink_bytes_per_second"].map(|name| batch[name].as_primitive::<Float32Type>());
        for (row, node) in nodes.into_iter().enumerate() {
            let at = ts.value(row) as f64 / 1e6 - figure(truth, "t0");
            let span = if (figure(job, "start") + 60.0..start).contains(&at) { &mut before } else { &mut during };
            if paused(at) || at < figure(job, "start") + 60.0 || (start..start + 2.0 * step).contains(&at) || at >= end {
                continue;
            }
            let seen = span.entry((node.unwrap().to_owned(), u64::from(gpus.value(row)))).or_default();
            seen.reads += 1.0;
            seen.sm_active += f64::from(active.value(row));
            seen.nvlink_bytes += f64::from(bytes.value(row));
        }
    }
    (before, during)
}
