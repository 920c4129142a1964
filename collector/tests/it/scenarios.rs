//! Replays of whole recordings: labelled fleets that another simulator made, and 512 real H100s.

use gridstep_collector::incidents::{Incident, Kind};
use gridstep_collector::judge::JudgeConfig;
use gridstep_collector::power::Basis;
use gridstep_collector::replay::replay;
use gridstep_wire::Micros;
use serde_json::Value;
use std::path::{Path, PathBuf};

mod drop;
mod shift;

pub(crate) fn shared(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path)
}

fn incidents(folder: &Path, config: &JudgeConfig, until: Option<Micros>) -> Vec<Incident> {
    replay(folder, config.clone(), until, |_| ()).unwrap().incidents
}

pub(crate) fn scenario(name: &str) -> (PathBuf, Value, JudgeConfig) {
    let folder = shared("eval/scenarios").join(name);
    let truth: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("truth.json")).unwrap()).unwrap();
    let mut config = JudgeConfig::default();
    let limits = &mut config.power.limits;
    limits.contracted_watts = truth["config"]["contracted_watts"].as_f64();
    limits.step_1s_watts = truth["config"]["step_1s_watts"].as_f64();
    limits.step_10s_watts = truth["config"]["step_10s_watts"].as_f64();
    limits.oscillation_watts = truth["config"]["oscillation_watts"].as_f64();
    (folder, truth, config)
}

/// Every fault found within 90 s with its cause, and nothing else.
fn check_stragglers(name: &str) {
    let (folder, truth, config) = scenario(name);
    let all = incidents(&folder, &config, None);
    let found: Vec<&Incident> = all.iter().filter(|incident| incident.kind == Kind::Straggler).collect();
    let faults = truth["stragglers"].as_array().unwrap();
    assert_eq!(found.len(), faults.len(), "{name}: {found:#?}");
    for (fault, incident) in faults.iter().zip(found) {
        assert_eq!(incident.subject.node.as_deref(), fault["node"].as_str());
        assert_eq!(incident.subject.gpu.map(u64::from), fault["gpu"].as_u64());
        assert_eq!(Some(incident.cause.as_str()), fault["cause"].as_str());
        let delay = incident.opened_at.seconds() - truth["t0"].as_f64().unwrap() - fault["start"].as_f64().unwrap();
        assert!((0.0..90.0).contains(&delay), "{name}: {delay} s");
        let slowdown = incident.magnitude["slowdown_ratio"].as_f64().unwrap();
        assert!((slowdown - fault["job_slowdown"].as_f64().unwrap()).abs() < 0.05, "{name}: {slowdown}");
    }
}

#[test]
fn stragglers_of_labelled_fleets() {
    for name in ["healthy-pipeline", "host-and-clock", "job-start-and-crash", "thermal"] {
        check_stragglers(name);
    }
}

#[test]
fn a_job_starts_swings_and_crashes() {
    let (folder, truth, config) = scenario("job-start-and-crash");
    let all = incidents(&folder, &config, None);
    let swings: Vec<&Incident> = all.iter().filter(|incident| incident.kind == Kind::PowerSwing).collect();
    let wanted = truth["swings"].as_array().unwrap();
    assert_eq!(swings.len(), wanted.len(), "{swings:#?}");
    for (want, swing) in wanted.iter().zip(swings) {
        assert_eq!(Some(swing.cause.as_str()), want["form"].as_str());
        let at = swing.opened_at.seconds() - truth["t0"].as_f64().unwrap();
        assert!(at >= want["onset"].as_f64().unwrap() - 0.5 && at <= want["until"].as_f64().unwrap());
        for (figure, tolerance) in [("delta_watts", 0.05), ("frequency_hz", 0.02), ("amplitude_watts", 0.05)] {
            if let Some(want) = want[figure].as_f64() {
                let have = swing.magnitude[figure].as_f64().unwrap();
                assert!((have / want - 1.0).abs() <= tolerance, "{figure}: {have}, made {want}");
            }
        }
        let shares: f64 = swing.contributors.iter().filter(|who| who.who.contains_key("rack")).map(|who| who.share).sum();
        assert!((shares - 1.0).abs() < 1e-6, "shares of the racks sum to {shares}");
        // Four racks of one job; also when the oscillation is over.
        let equal = |share: f64| (share - 0.25).abs() < 0.05;
        let racks = swing.contributors.iter().filter(|who| who.who.contains_key("rack"));
        assert!(racks.clone().all(|who| equal(who.share)), "{:#?}", racks.collect::<Vec<_>>());
    }
}

/// Cut at an incident's opening, plus the watermark, the recording still shows it: no judgement uses the future.
#[test]
fn no_judgement_uses_the_future() {
    for name in ["host-and-clock", "job-start-and-crash", "thermal"] {
        let (folder, _, config) = scenario(name);
        for whole in incidents(&folder, &config, None) {
            let cut = whole.opened_at + (config.align.watermark_seconds * 1e6) as i64 + 1_000_000;
            let before = incidents(&folder, &config, Some(cut));
            assert!(before.iter().any(|incident| incident.id == whole.id), "{name}: {} is not there at its opening", whole.id);
        }
    }
}

pub(crate) fn gpt3_limits() -> JudgeConfig {
    let mut config = JudgeConfig::default();
    config.power.limits.basis = Basis::Node;
    config.power.limits.contracted_watts = Some(500e3);
    config.power.limits.oscillation_watts = Some(20e3);
    config
}

/// As many as a few seconds allow.
const SEEDS: u64 = 3;

/// The same meters, each shifted in time by an offset of its own, have nothing to do with each other any more.
#[test]
fn gpt3_with_its_meters_out_of_step_does_not_oscillate() {
    out_of_step(1..=SEEDS);
}

/// The same over more seeds: `cargo test -- --ignored --nocapture out_of_step`.
#[test]
#[ignore = "takes a minute or so"]
fn gpt3_out_of_step_over_many_seeds() {
    out_of_step(1..=30);
}

fn out_of_step(seeds: std::ops::RangeInclusive<u64>) {
    let nodes = shift::read(&shared("data/mlperf-smc-gpt3-64x8-h100-ac"));
    let oscillates = |seed: &u64| {
        let folder = tempfile::tempdir().unwrap();
        shift::meters(&nodes, folder.path(), *seed);
        let all = incidents(folder.path(), &gpt3_limits(), None);
        let found: Vec<&Incident> = all.iter().filter(|incident| incident.cause == "oscillation").collect();
        found.iter().for_each(|incident| println!("seed {seed}: {}", incident.summary));
        !found.is_empty()
    };
    let wrong: Vec<u64> = seeds.clone().filter(oscillates).collect();
    let count = seeds.count();
    println!("{} of {count} seeds are clean", count - wrong.len());
    assert!(wrong.is_empty(), "seeds {wrong:?} oscillate");
}

#[test]
fn lora_on_512_real_gpus_has_no_straggler() {
    let all = incidents(&shared("data/mlperf-smc-lora-64x8-h100-ac"), &gpt3_limits(), None);
    assert!(all.iter().all(|incident| incident.kind == Kind::PowerSwing), "{all:#?}");
}

#[test]
fn gpt3_on_512_real_gpus() {
    let config = gpt3_limits();
    let folder = shared("data/mlperf-smc-gpt3-64x8-h100-ac");
    let all = incidents(&folder, &config, None);
    let oscillations: Vec<&Incident> = all.iter().filter(|incident| incident.cause == "oscillation").collect();
    assert_eq!(oscillations.len(), 1, "{all:#?}");
    let frequency = oscillations[0].magnitude["frequency_hz"].as_f64().unwrap();
    assert!((frequency / 0.0915 - 1.0).abs() < 0.015, "{frequency} Hz");

    let amplitude = oscillations[0].magnitude["amplitude_watts"].as_f64().unwrap();
    assert!((35e3..45e3).contains(&amplitude), "{amplitude} W");
    let cycles = (oscillations[0].opened_at.seconds() - shift::steady_from(&shift::read(&folder))) * 0.0915;
    println!("told {cycles:.2} cycles after the begin of the first steady minute");
    assert!((0.0..4.0).contains(&cycles), "first told after {cycles} cycles");
    assert!(all.iter().filter(|incident| incident.cause.starts_with("step")).count() <= 3);
    assert!(all.iter().all(|incident| incident.kind == Kind::PowerSwing));
}
