//! Swings of a small fleet, fed by hand: 8 nodes of 8 GPUs at 10 Hz on two feeders, one job.

use gridstep_collector::fleet::{GpuSlot, NodeMetric, NodeSlot, Place};
use gridstep_collector::incidents::{Incident, Kind, Severity, State};
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
        let mut judge = Judge::new(config, &Self::places(|_| true));
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

    fn places(in_service: impl Fn(usize) -> bool) -> Vec<Place> {
        let place = |node: usize| Place {
            node: format!("node{node}"),
            rack: format!("rack{}", node / 2),
            feeder: if node < NODES / 2 { "a".into() } else { "b".into() },
            in_service: in_service(node),
        };
        (0..NODES).map(place).collect()
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
    let nodes = (0..NODES).map(|node| share(swings[0], "node", &format!("node{node}"))).filter(|share| *share > 0.0);
    let shares: Vec<f64> = nodes.collect();
    // Some of eight that are alike are named.
    assert!(shares.len() == 5 && shares.iter().all(|share| (share - 0.125).abs() < 0.005), "{:#?}", swings[0]);
    assert!((share(swings[0], "feeder", "a") - 0.5).abs() < 0.005, "{:#?}", swings[0]);
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
    let clock = fleet.judge.clock(NodeSlot(5));
    assert!((clock.arrival_offset_seconds.unwrap() + 0.12).abs() < 0.01, "{clock:?}");
    assert!((clock.lag_seconds.unwrap() - 0.12).abs() < 0.03, "{clock:?}");
    assert!(fleet.judge.clock(NodeSlot(2)).lag_seconds.unwrap().abs() < 0.03);
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

fn clocks(fleet: &Fleet) -> Vec<&Incident> {
    let told = |incident: &&Incident| (incident.kind, incident.cause.as_str()) == (Kind::Telemetry, "clock_skewed");
    fleet.swings().into_iter().filter(told).collect()
}

/// A clock that is ahead by 120 ms, by the way of its samples and by its job: one incident, which ends when it is set right.
#[test]
fn a_clock_that_is_off_is_one_incident_and_ends() {
    let mut fleet = Fleet::new(config(448_000.0));
    let job = |t: f64| 300.0 + 60.0 * ((1.1 * t).sin() + (2.7 * t).sin() + (0.05 * t * t).sin());
    for (until, off) in [(200.0, 0.12), (400.0, 0.0)] {
        let off = |node: usize| if node == 5 { off } else { 0.0 };
        fleet.run(until, |node| 0.3 - off(node), |node, t| Some(job(t - off(node))));
        let told = clocks(&fleet);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert_eq!(told[0].subject.node.as_deref(), Some("node5"));
        let open = off(5) > 0.0;
        assert_eq!(told[0].state == State::Open, open, "{told:#?}");
        // Turned by more than a tenth of a cycle above 0.83 Hz.
        assert_eq!(fleet.judge.untimed_from_hz().map(|hertz| (hertz * 10.0).round()), open.then_some(8.0));
    }
    let offset = clocks(&fleet)[0].magnitude["clock_offset_seconds"].as_f64().unwrap();
    assert!((offset / 0.12 - 1.0).abs() < 0.25, "{offset} s");
}

/// A node that nothing keeps on time says 16 s; that is a bound, and by its arrivals it is right enough for what is slow.
#[test]
fn a_clock_that_its_agent_doubts_is_left_out_of_what_is_fast_alone() {
    for (doubted, from) in [(1, Some(1.0)), (8, None)] {
        let mut fleet = Fleet::new(config(448_000.0));
        for second in 0..120 {
            for node in 0..NODES as u32 {
                let error = if node < doubted { 16.0 } else { 0.002 };
                fleet.judge.put_node(NodeSlot(node), NodeMetric::ClockError, at(f64::from(second) + 0.5), error);
            }
            fleet.run(f64::from(second + 1), |_| 0.3, |_, _| Some(300.0));
        }
        assert_eq!(fleet.judge.untimed_from_hz(), from, "{doubted} nodes");
        // Where no clock is kept, none stands out.
        assert_eq!(clocks(&fleet).len(), usize::from(doubted == 1), "{:#?}", clocks(&fleet));
    }
}

/// Three nodes of eight are off by a third of a second: at 1.5 Hz they would halve the sum's swing. What is said of it is said of the rest.
#[test]
fn a_fast_oscillation_is_measured_without_the_clocks_that_are_off() {
    let mut fleet = Fleet::new(config(44_800.0));
    let off = |node: usize| if node >= 5 { 1.0 / 3.0 } else { 0.0 };
    let swing = |t: f64| if t < 150.0 { 0.0 } else { 20.0 * (std::f64::consts::TAU * 1.5 * t).sin() };
    fleet.run(180.0, |node| 0.4 - off(node), |node, t| Some(300.0 + swing(t - off(node))));
    let line = fleet.swings().into_iter().find(|incident| incident.cause == "oscillation").unwrap();
    let amplitude = line.magnitude["amplitude_watts"].as_f64().unwrap();
    assert!((amplitude / (64.0 * 40.0) - 1.0).abs() < 0.1, "{:#?}", fleet.swings());
}

/// One job on each feeder.
fn two_jobs(config: JudgeConfig) -> Fleet {
    let mut fleet = Fleet::new(config);
    let job = fleet.judge.fleet_mut().job("mixtral");
    (32..64).for_each(|gpu| fleet.judge.put_gpu_job(GpuSlot(gpu), Some(job)));
    fleet
}

fn oscillations(fleet: &Fleet) -> Vec<&Incident> {
    fleet.swings().into_iter().filter(|incident| incident.cause == "oscillation").collect()
}

/// Steep pulses every ten seconds: full of harmonics.
fn pulses(t: f64) -> f64 {
    if t.rem_euclid(10.0) < 7.0 { 330.0 } else { 290.0 }
}

fn fast(t: f64) -> f64 {
    300.0 + 30.0 * (std::f64::consts::TAU * 0.7 * t).sin()
}

/// At seven times the frequency of the first, which itself has such a harmonic.
#[test]
fn another_job_that_swings_is_another_oscillation() {
    let mut fleet = two_jobs(config(44_800.0));
    let llama = |node: usize, t: f64, until: f64| if t < until { pulses(t) } else { 330.0 - node as f64 };
    let mixtral = |t: f64| if (120.0..260.0).contains(&t) { fast(t) } else { 300.0 };
    let watts = |node: usize, t: f64| Some(if node < 4 { llama(node, t, 190.0) } else { mixtral(t) });
    fleet.run(118.0, |_| 0.3, watts);
    assert_eq!(oscillations(&fleet).len(), 1, "{:#?}", fleet.swings());
    fleet.run(180.0, |_| 0.3, watts);
    let both = oscillations(&fleet);
    assert_eq!(both.len(), 2, "{both:#?}");
    for (line, hertz, amplitude, job) in [(both[0], 0.1, 32.0 * 40.0 * 1.03, "llama"), (both[1], 0.7, 32.0 * 60.0, "mixtral")] {
        assert!((line.magnitude["frequency_hz"].as_f64().unwrap() / hertz - 1.0).abs() < 0.01, "{line:#?}");
        assert!((line.magnitude["amplitude_watts"].as_f64().unwrap() / amplitude - 1.0).abs() < 0.1, "{line:#?}");
        assert!((share(line, "job", job) - 1.0).abs() < 0.05 && line.state == State::Open, "{line:#?}");
    }
    let (_, seen, _) = fleet.seen.iter().find(|(id, ..)| *id == both[1].id).unwrap();
    assert!((120.0..126.5).contains(seen), "seen at {seen} s");
    assert!(fleet.judge.second_oscillation().is_some());
    let jobs: Vec<Option<&str>> = both.iter().map(|line| line.subject.job.as_deref()).collect();
    assert_eq!(jobs, [None, Some("mixtral")]);
    // The first ends before the second does: that stays what it is.
    fleet.run(340.0, |_| 0.3, watts);
    let both = oscillations(&fleet);
    assert_eq!(both.len(), 2, "{both:#?}");
    assert!(both.iter().all(|line| line.state == State::Closed) && both[0].closed_at < both[1].closed_at, "{both:#?}");
}

#[test]
fn jobs_that_swing_together_are_one_oscillation_and_so_are_its_harmonics() {
    for share in [1.0, 0.5, 0.15] {
        let mut fleet = two_jobs(config(44_800.0));
        fleet.run(240.0, |_| 0.3, |node, t| Some(if node < 4 { pulses(t) } else { 300.0 + share * (pulses(t) - 300.0) }));
        assert_eq!(oscillations(&fleet).len(), 1, "{share}: {:#?}", fleet.swings());
        assert!(fleet.judge.second_oscillation().is_none());
    }
}

/// The feeder of the second has limits of its own: the fleet's and the feeder's are still one condition, and the first is another.
#[test]
fn a_second_oscillation_on_a_feeder_with_limits_is_told_once() {
    let feeder_b = || {
        let mut config = config(44_800.0);
        let own = FeederLimits { contracted_watts: Some(22_400.0), ..FeederLimits::default() };
        config.power.limits.feeder.insert("b".into(), own);
        config
    };
    let mut fleet = two_jobs(feeder_b());
    // The second begins after 100 s, at this share of its swing.
    let second = |share: f64| {
        move |node: usize, t: f64| {
            let own = if t < 100.0 { 300.0 } else { 300.0 + share * (fast(t) - 300.0) };
            Some(if node < 4 { pulses(t) } else { own })
        }
    };
    fleet.run(180.0, |_| 0.3, second(1.0));
    let both = oscillations(&fleet);
    assert_eq!(both.len(), 2, "{both:#?}");
    assert!((both[1].magnitude["frequency_hz"].as_f64().unwrap() / 0.7 - 1.0).abs() < 0.01, "{both:#?}");
    // What is too small for the fleet is the feeder's alone, at another frequency than the fleet's.
    let mut small = two_jobs(feeder_b());
    small.run(180.0, |_| 0.3, second(0.35));
    let both = oscillations(&small);
    assert_eq!(both.len(), 2, "{both:#?}");
    assert_eq!(both[1].subject.feeder.as_deref(), Some("b"), "{both:#?}");
}

/// The job's name is gone in the very second in which its power falls.
#[test]
fn a_job_that_ends_is_who_made_the_step() {
    for ends in [58.5, 60.0, 60.4, 61.0] {
        let mut fleet = two_jobs(config(44_800.0));
        let watts = |node: usize, t: f64| Some(if node < 4 && t >= 60.0 { 100.0 } else { 400.0 });
        fleet.run(ends, |_| 0.3, watts);
        (0..32).for_each(|gpu| fleet.judge.put_gpu_job(GpuSlot(gpu), None));
        fleet.run(150.0, |_| 0.3, watts);
        let swings = fleet.swings();
        assert_eq!((swings.len(), swings[0].cause.as_str()), (1, "step_down"), "{swings:#?}");
        assert!((share(swings[0], "job", "llama") - 1.0).abs() < 0.02, "job ends at {ends} s: {:#?}", swings[0].contributors);
        let sum: f64 = swings[0].contributors.iter().filter(|who| who.who.contains_key("job")).map(|who| who.share).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
}

/// A node that is silent for good is filled in for ten minutes, and then no longer; which is no step.
#[test]
fn a_node_that_is_gone_is_let_go_of() {
    let mut fleet = Fleet::new(config(44_800.0));
    let watts = |node: usize, t: f64| (node != 7 || t < 60.0).then_some(400.0);
    fleet.run(600.0, |_| 0.3, watts);
    let last = |fleet: &Fleet| fleet.judge.power_history().next_back().unwrap();
    assert!((last(&fleet).watts / (64.0 * 400.0) - 1.0).abs() < 0.01, "{:?}", last(&fleet));
    fleet.run(800.0, |_| 0.3, watts);
    assert!((last(&fleet).watts / (56.0 * 400.0) - 1.0).abs() < 0.01, "{:?}", last(&fleet));
    // By the topology it ought to be there.
    assert!((last(&fleet).completeness - 0.875).abs() < 1e-6);
    assert!(fleet.swings().is_empty(), "{:#?}", fleet.swings());
    let first = fleet.judge.power_history().next().unwrap();
    assert!((first.watts / (56.0 * 400.0) - 1.0).abs() < 0.01, "it is taken never to have drawn: {first:?}");
    // It is back: as one that is new.
    fleet.run(900.0, |_| 0.3, |_, _| Some(400.0));
    assert!((last(&fleet).watts / (64.0 * 400.0) - 1.0).abs() < 0.01 && last(&fleet).completeness == 1.0, "{:?}", last(&fleet));
    assert!(fleet.swings().is_empty(), "{:#?}", fleet.swings());
}

#[test]
fn a_node_that_is_out_of_service_is_let_go_of_soon() {
    let mut fleet = Fleet::new(config(44_800.0));
    let watts = |node: usize, t: f64| (node != 7 || t < 60.0).then_some(400.0);
    fleet.run(70.0, |_| 0.3, watts);
    let places = Fleet::places(|node| node != 7);
    fleet.judge.reconfigure(config(44_800.0), &places);
    fleet.run(200.0, |_| 0.3, watts);
    let last = fleet.judge.power_history().next_back().unwrap();
    assert!((last.watts / (56.0 * 400.0) - 1.0).abs() < 0.01 && last.completeness == 1.0, "{last:?}");
    assert!(fleet.swings().is_empty(), "{:#?}", fleet.swings());
}
