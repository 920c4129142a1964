//! Swings of a small fleet, fed by hand: 8 nodes of 8 GPUs at 10 Hz on two feeders, one job.

use gridstep_collector::fleet::{GpuSlot, Place};
use gridstep_collector::incidents::{Incident, Severity, State};
use gridstep_collector::judge::{Judge, JudgeConfig};
use gridstep_collector::power::{BandLimit, FeederLimits};
use gridstep_wire::Micros;

/// The beginning of a quarter of an hour.
const EPOCH: f64 = 1_759_999_500.0;
const NODES: usize = 8;

fn at(seconds: f64) -> Micros {
    Micros::from_seconds(EPOCH + seconds)
}

struct Fleet {
    judge: Judge,
    second: f64,
    /// When each incident was first seen, and whether it was confirmed then.
    seen: Vec<(String, f64, bool)>,
}

impl Fleet {
    fn new(config: JudgeConfig) -> Self {
        let place = |node: usize| Place {
            node: format!("node{node}"),
            rack: format!("rack{}", node / 2),
            feeder: if node < NODES / 2 { "a".into() } else { "b".into() },
            in_service: true,
        };
        let mut judge = Judge::new(config, &(0..NODES).map(place).collect::<Vec<_>>());
        let job = judge.fleet_mut().job("llama");
        for node in 0..NODES {
            let slot = judge.fleet_mut().node(&format!("node{node}"));
            for index in 0..8 {
                let gpu = judge.fleet_mut().gpu(slot, index);
                judge.put_gpu_job(gpu, Some(job));
            }
        }
        Self { judge, second: 0.0, seen: Vec::new() }
    }

    /// Each GPU draws what `watts` says of its node at a time; None: silence. A sample arrives `delay` seconds after its time.
    fn run(&mut self, until: f64, delay: impl Fn(usize) -> f64, watts: impl Fn(usize, f64) -> Option<f64>) {
        while self.second < until {
            let tick = (self.second * 10.0).round() as usize;
            self.judge.advance(at(self.second));
            for gpu in 0..NODES * 8 {
                let node = gpu / 8;
                // A noise of 8 W, another one for each GPU and time.
                let noise = (((tick * 64 + gpu) * 2_654_435_761) >> 7) % 1000;
                let t = self.second - delay(node);
                if let Some(watts) = watts(node, t) {
                    self.judge.put_gpu_power(GpuSlot(gpu as u32), at(t), watts + noise as f64 / 40.0 - 12.5);
                }
            }
            for incident in self.judge.take_revisions() {
                if self.seen.iter().all(|(id, ..)| *id != incident.id) {
                    self.seen.push((incident.id, self.second, incident.confirmed));
                }
            }
            self.second += 0.1;
        }
    }

    fn swings(&self) -> Vec<&Incident> {
        self.judge.incidents().collect()
    }
}

fn config(contract: f64) -> JudgeConfig {
    let mut config = JudgeConfig::default();
    config.power.limits.contracted_watts = Some(contract);
    config
}

fn share(incident: &Incident, level: &str, name: &str) -> f64 {
    let who = incident.contributors.iter().find(|who| who.who.get(level).is_some_and(|own| own == name));
    who.map_or(0.0, |who| who.share)
}

#[test]
fn a_step_is_seen_in_time_though_an_agent_is_late() {
    let mut fleet = Fleet::new(config(44_800.0));
    let late = |node: usize| if node == 7 { 2.2 } else { 0.3 };
    fleet.run(90.0, late, |_, t| Some(if t < 60.0 { 300.0 } else { 400.0 }));
    let swings = fleet.swings();
    assert_eq!(swings.len(), 1, "{swings:#?}");
    let (_, seen, confirmed) = fleet.seen[0];
    assert!((60.2..61.5).contains(&seen) && !confirmed, "seen at {seen} s");
    assert!((swings[0].magnitude["delta_watts"].as_f64().unwrap() / 6400.0 - 1.0).abs() < 0.02, "{swings:#?}");
    assert!(swings[0].confirmed);
    assert!((share(swings[0], "feeder", "a") - 0.5).abs() < 0.02 && (share(swings[0], "node", "node3") - 0.125).abs() < 0.02);
    let simultaneity = swings[0].evidence.iter().find(|one| one.signal == "simultaneity_ratio").unwrap().value;
    assert!(simultaneity > 0.9);
}

#[test]
fn a_feeder_has_limits_of_its_own() {
    let mut config = config(44_800.0);
    let own = FeederLimits { contracted_watts: Some(20_000.0), step_1s_watts: Some(1_000.0), ..FeederLimits::default() };
    config.power.limits.feeder.insert("a".into(), own);
    let mut fleet = Fleet::new(config);
    // 1,600 W within a second are nothing to the fleet (2,240 W).
    fleet.run(150.0, |_| 0.3, |node, t| Some(if node < 4 && t >= 60.0 { 350.0 } else { 300.0 }));
    let swings = fleet.swings();
    assert_eq!(swings.len(), 1, "{swings:#?}");
    assert_eq!((swings[0].subject.feeder.as_deref(), swings[0].subject.cluster.as_deref()), (Some("a"), None));
    assert_eq!(swings[0].state, State::Closed);
    assert!((share(swings[0], "rack", "rack0") - 0.5).abs() < 0.03 && (share(swings[0], "job", "llama") - 1.0).abs() < 1e-6);
    // What both show is one condition.
    fleet.run(
        240.0,
        |_| 0.3,
        |node, t| {
            Some(if t >= 200.0 {
                450.0
            } else if node < 4 {
                350.0
            } else {
                300.0
            })
        },
    );
    let swings = fleet.swings();
    assert_eq!(swings.len(), 2, "{swings:#?}");
    assert!(swings[1].subject.cluster.is_some() && swings[1].subject.feeder.is_none());
    let feeders = fleet.judge.feeders();
    assert!((feeders[0].watts / 14_400.0 - 1.0).abs() < 0.02, "{feeders:?}");
}

#[test]
fn what_falls_silent_and_comes_back_otherwise_is_no_swing_before_it_is_measured() {
    let mut fleet = Fleet::new(config(44_800.0));
    // Two nodes of eight lose their agents, and their power with them.
    fleet.run(90.0, |_| 0.3, |node, t| (node < 6 || t < 60.0).then_some(400.0));
    assert!(fleet.swings().is_empty());
    assert!(fleet.judge.power_history().next_back().unwrap().completeness < 0.8);
    fleet.run(200.0, |_| 0.3, |node, t| Some(if node >= 6 && t >= 60.0 { 70.0 } else { 400.0 }));
    let swings = fleet.swings();
    assert_eq!(swings.len(), 1, "{swings:#?}");
    assert!(!fleet.seen[0].2 && swings[0].confirmed, "{swings:#?}");
}

#[test]
fn a_band_allows_less_than_the_rest() {
    let mut config = config(44_800.0);
    config.power.limits.band = vec![BandLimit { from_hz: 0.2, to_hz: 0.8, watts: 300.0 }];
    let mut fleet = Fleet::new(config);
    // 640 W from crest to trough; 896 W are allowed elsewhere.
    fleet.run(70.0, |_| 0.3, |_, t| Some(300.0 + 5.0 * (std::f64::consts::TAU * 0.4 * t).sin()));
    let swings = fleet.swings();
    assert_eq!(swings.len(), 1, "{swings:#?}");
    assert_eq!((swings[0].cause.as_str(), swings[0].severity), ("oscillation", Severity::Critical));
    assert!((swings[0].magnitude["amplitude_watts"].as_f64().unwrap() / 640.0 - 1.0).abs() < 0.1, "{swings:#?}");
    let bands = fleet.judge.bands();
    assert!(bands[1].rms_watts > 2.0 * bands[0].rms_watts && bands[1].rms_watts > 2.0 * bands[2].rms_watts, "{bands:?}");
}

#[test]
fn demand_is_over_its_limit_as_soon_as_that_is_certain() {
    let mut config = config(60_000.0);
    config.power.limits.demand_15min_watts = Some(20_000.0);
    let mut fleet = Fleet::new(config);
    fleet.run(960.0, |_| 0.3, |_, _| Some(400.0));
    let swings = fleet.swings();
    assert_eq!(swings.len(), 1, "{swings:#?}");
    assert_eq!((swings[0].cause.as_str(), swings[0].severity), ("over_limit", Severity::Critical));
    // 25.6 kW reach 20 kW × 900 s after 703 s.
    assert!((swings[0].opened_at.seconds() - EPOCH - 703.0).abs() < 3.0, "{swings:#?}");
    let (_, quarters) = fleet.judge.demand();
    let whole = quarters.last().unwrap();
    assert!((whole.watts / 25_600.0 - 1.0).abs() < 0.01 && whole.completeness > 0.99, "{quarters:?}");
}

/// A dip of twenty seconds every two minutes: two changes, counted.
#[test]
fn what_comes_again_is_counted_and_not_told_anew() {
    let mut fleet = Fleet::new(config(44_800.0));
    fleet.run(600.0, |_| 0.3, |_, t| Some(if t > 60.0 && (t - 60.0).rem_euclid(120.0) < 20.0 { 250.0 } else { 400.0 }));
    let swings = fleet.swings();
    assert_eq!(swings.len(), 2, "{swings:#?}");
    assert_eq!((swings[0].cause.as_str(), swings[1].cause.as_str()), ("step_down", "step_up"));
    assert_eq!(swings[0].magnitude["recurrences"], 4, "{swings:#?}");
}

#[test]
fn a_clock_that_is_off_is_told() {
    let mut fleet = Fleet::new(config(448_000.0));
    // Node 5 stamps 120 ms too late; its job moves unevenly.
    let off = |node: usize| if node == 5 { 0.12 } else { 0.0 };
    let job = |t: f64| 300.0 + 60.0 * ((1.1 * t).sin() + (2.7 * t).sin() + (0.05 * t * t).sin());
    fleet.run(130.0, |node| 0.3 - off(node), |node, t| Some(job(t - off(node))));
    let clock = fleet.judge.clock(gridstep_collector::fleet::NodeSlot(5));
    assert!((clock.arrival_offset_seconds.unwrap() + 0.12).abs() < 0.01, "{clock:?}");
    assert!((clock.lag_seconds.unwrap() - 0.12).abs() < 0.03, "{clock:?}");
    assert!(fleet.judge.clock(gridstep_collector::fleet::NodeSlot(2)).lag_seconds.unwrap().abs() < 0.03);
}

/// Whenever the second comes: soon, it makes the first a larger one; later, it is one of its own.
#[test]
fn a_larger_step_after_a_small_one_is_critical() {
    let mut missed = Vec::new();
    for begin in [3.0, 4.3, 12.0] {
        for gap in (4..20).chain((20..150).step_by(10)).map(|tenths| f64::from(tenths) / 10.0) {
            let mut fleet = Fleet::new(config(44_800.0));
            let level = |t: f64| {
                if t < begin {
                    100.0
                } else if t < begin + gap {
                    144.0
                } else {
                    200.0
                }
            };
            fleet.run(begin + gap + 20.0, |_| 0.3, |_, t| Some(level(t)));
            let page = |incident: &&Incident| incident.severity == Severity::Critical && incident.confirmed;
            if !fleet.swings().iter().any(page) {
                missed.push((begin, gap));
            }
        }
    }
    assert!(missed.is_empty(), "begin and gap, seconds: {missed:?}");
}
