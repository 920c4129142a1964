//! The pure judging, fed by hand.

use gridstep_collector::fleet::{GpuMetric, GpuSlot, NodeSlot};
use gridstep_collector::incidents::{Incident, State};
use gridstep_collector::judge::{Judge, JudgeConfig};
use gridstep_wire::Micros;

fn at(seconds: f64) -> Micros {
    Micros::from_seconds(1_760_000_000.0 + seconds)
}

fn node(judge: &mut Judge) -> (NodeSlot, Vec<GpuSlot>) {
    let node = judge.fleet_mut().node("node1");
    let gpus = (0..8).map(|index| judge.fleet_mut().gpu(node, index)).collect();
    (node, gpus)
}

/// GPUs that are up, second by second.
fn seconds(judge: &mut Judge, up: &[GpuSlot], span: std::ops::Range<u32>) {
    for second in span {
        judge.advance(at(f64::from(second)));
        for &gpu in up {
            judge.put_gpu(gpu, GpuMetric::Up, at(f64::from(second) + 0.5), 1.0);
        }
    }
}

fn open(judge: &Judge) -> Vec<(&str, Option<u8>)> {
    let open = judge.incidents().filter(|incident| incident.state == State::Open);
    open.map(|incident: &Incident| (incident.cause.as_str(), incident.subject.gpu)).collect()
}

#[test]
fn a_hung_gpu_stays_one_incident_while_its_node_falls_silent_and_comes_back() {
    let mut judge = Judge::new(JudgeConfig::default(), &[]);
    let (node, gpus) = node(&mut judge);
    seconds(&mut judge, &gpus, 0..10);
    judge.put_event(node, Some(gpus[5]), at(10.0), "driver_hung", 0);
    judge.put_event(node, None, at(20.0), "driver_hung", 0);
    assert_eq!(open(&judge), [("driver_hung", Some(5)), ("driver_hung", None)]);
    judge.put_event(node, None, at(25.0), "driver_back", 0);
    judge.put_event(node, Some(gpus[5]), at(25.0), "driver_hung", 0);
    assert_eq!(open(&judge), [("driver_hung", Some(5))]);
    judge.put_event(node, Some(gpus[5]), at(60.0), "driver_back", 0);
    assert_eq!(open(&judge), []);
    assert_eq!(judge.incidents().count(), 2);
}

/// An agent that was started anew does not say that a GPU is back.
#[test]
fn a_gpu_that_is_up_is_neither_lost_nor_hung() {
    let mut judge = Judge::new(JudgeConfig::default(), &[]);
    let (node, gpus) = node(&mut judge);
    seconds(&mut judge, &gpus, 0..10);
    judge.put_event(node, Some(gpus[2]), at(10.0), "gpu_lost", 0);
    judge.put_event(node, None, at(10.0), "driver_hung", 0);
    seconds(&mut judge, &gpus[3..], 20..30);
    assert_eq!(open(&judge), [("gpu_lost", Some(2))]);
    seconds(&mut judge, &gpus, 30..40);
    assert_eq!(open(&judge), []);
}

#[test]
fn another_configuration_leaves_incidents_and_fleet_alone() {
    let mut judge = Judge::new(JudgeConfig::default(), &[]);
    let (node, gpus) = node(&mut judge);
    seconds(&mut judge, &gpus, 0..10);
    judge.put_event(node, Some(gpus[2]), at(10.0), "gpu_lost", 0);
    let mut config = JudgeConfig::default();
    config.power.limits.contracted_watts = Some(1e6);
    judge.reconfigure(config, &[]);
    seconds(&mut judge, &gpus[..2], 10..20);
    assert_eq!(open(&judge), [("gpu_lost", Some(2))]);
    assert_eq!(judge.limits().contracted_watts, 1e6);
    assert_eq!(judge.fleet().gpus().len(), 8);
}

/// What was open before a long absence of the collector takes no room from what comes while the agents come back; a short one's is kept open.
#[test]
fn after_a_restart_what_is_new_has_room() {
    for (back, is_open) in [(30, true), (700, false)] {
        let mut judge = Judge::new(JudgeConfig::default(), &[]);
        let (_, gpus) = node(&mut judge);
        seconds(&mut judge, &gpus, 0..10);
        judge.hold(at(f64::from(back)));
        // What was kept, if it was not for too long, and what is new.
        let kept = if is_open { 10..back } else { back..back };
        for second in kept.chain(back..back + 20) {
            judge.advance(at(f64::from(second.max(back))));
            for &gpu in &gpus {
                judge.put_gpu_power(gpu, at(f64::from(second) + 0.5), 500.0);
                judge.put_gpu(gpu, GpuMetric::Up, at(f64::from(second) + 0.5), 1.0);
            }
        }
        judge.advance(at(f64::from(back) + 25.0));
        assert_eq!((judge.late_samples(), judge.ahead_samples()), (0, 0), "back after {back} s");
        assert_eq!(open(&judge), []);
        let seen = judge.power_history().filter(|point| point.completeness > 0.0 && point.at > at(f64::from(back) - 5.0)).count();
        assert!(seen >= 20, "{seen} bins, back after {back} s");
    }
}

/// The judging goes on when all are back who spoke before, and for some who stay away it waits no longer than it may.
#[test]
fn after_a_restart_the_judging_waits_for_those_who_spoke() {
    let resumed = |stays_away: usize| {
        let mut judge = Judge::new(JudgeConfig::default(), &[]);
        let (_, gpus) = node(&mut judge);
        seconds(&mut judge, &gpus, 0..10);
        let longest = judge.hold(at(15.0));
        let before = judge.judged_until();
        let mut from = 10;
        for second in 15..60 {
            judge.advance(at(f64::from(second)));
            if judge.judged_until() > before {
                assert_eq!(judge.late_samples(), 0);
                return (f64::from(second), longest.since(at(0.0)));
            }
            // They are back after four seconds, and bring three seconds of what they kept in each.
            let until = if second < 19 { from } else { (from + 3).min(second) };
            for (kept, &gpu) in (from..until).flat_map(|kept| gpus[stays_away..].iter().map(move |gpu| (kept, gpu))) {
                judge.put_gpu(gpu, GpuMetric::Up, at(f64::from(kept) + 0.5), 1.0);
            }
            from = until;
        }
        panic!("still waiting");
    };
    let (all_back, longest) = resumed(0);
    assert!((20.0..26.0).contains(&all_back) && longest == 35.0, "went on at {all_back}, at the latest at {longest}");
    assert_eq!(resumed(1), (35.0, 35.0));
}
