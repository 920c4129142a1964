//! Small synchronous jobs of which every second is known, through the whole judging.

use gridstep_collector::fleet::{GpuMetric, GpuSlot, JobSlot, NodeMetric, NodeSlot};
use gridstep_collector::incidents::{Incident, Kind, Severity};
use gridstep_collector::judge::{Judge, JudgeConfig};
use gridstep_wire::{Micros, reasons};

const NODES: usize = 8;
const GPUS: usize = NODES * 8;
const EPOCH: i64 = 1_780_000_000;

/// What a GPU does in a second: how much longer it computes than the others (1: as long), and bits that its driver shows.
#[derive(Clone, Copy)]
struct Gpu {
    factor: f64,
    bits: u64,
    /// NVLink errors each second.
    errors: f64,
    /// Rate of its node's port, bits per second.
    port: f64,
    /// It has left the job.
    gone: bool,
}

const HEALTHY: Gpu = Gpu { factor: 1.0, bits: 0, errors: 0.0, port: 4e11, gone: false };

/// Noise of a quarter of a percent, the same in each run.
fn noise(second: usize, gpu: usize) -> f64 {
    let mixed = (second * 7919 + gpu * 104_729).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (mixed % 1000) as f64 / 1000.0 * 0.01 - 0.005
}

/// A job whose step is compute (70 % of a healthy one) and communication. `busy`: None, nobody computes and all but `missing` spin.
fn run(
    seconds: usize,
    gpu: impl Fn(usize, usize) -> Gpu,
    hang: impl Fn(usize) -> Option<usize>,
    price: Option<f64>,
) -> Vec<Incident> {
    run_with(seconds, gpu, hang, |_| 0.3, price)
}

/// What an agent can tell of a board: SM activity, that of one that spins, and of its tensor cores; or its power alone.
#[derive(Debug, Clone, Copy)]
enum Shows {
    Activity { spinning: f64 },
    Power,
}

/// The same, `communication` as a share of a healthy step's 0.7 of computing.
fn run_with(
    seconds: usize,
    gpu: impl Fn(usize, usize) -> Gpu,
    hang: impl Fn(usize) -> Option<usize>,
    communication: impl Fn(usize) -> f64,
    price: Option<f64>,
) -> Vec<Incident> {
    run_showing(Shows::Activity { spinning: 0.18 }, seconds, gpu, hang, communication, price)
}

fn run_showing(
    shows: Shows,
    seconds: usize,
    gpu: impl Fn(usize, usize) -> Gpu,
    hang: impl Fn(usize) -> Option<usize>,
    communication: impl Fn(usize) -> f64,
    price: Option<f64>,
) -> Vec<Incident> {
    let mut config = JudgeConfig::default();
    config.stragglers.gpu_hour_price = price;
    let mut judge = Judge::new(config, &[]);
    for node in 0..NODES {
        let slot = judge.fleet_mut().node(&format!("node{node}"));
        for gpu in 0..8 {
            judge.fleet_mut().gpu(slot, gpu);
        }
    }
    judge.fleet_mut().job("job");
    let mut last: Vec<Incident> = Vec::new();
    let mut errors = [0.0; GPUS];
    for second in 0..seconds {
        let slowest = (0..GPUS).map(|index| gpu(second, index).factor).fold(1.0, f64::max);
        for (index, total) in errors.iter_mut().enumerate() {
            let (slot, Gpu { factor, bits, errors: grown, port, gone }) = (GpuSlot(index as u32), gpu(second, index));
            let ts = Micros((EPOCH + second as i64) * 1_000_000 + index as i64 / 8 * 110_000);
            judge.advance(ts);
            judge.put_gpu_job(slot, (!gone).then_some(JobSlot(0)));
            let step = 0.7 * slowest + communication(second);
            let share = 0.7 * factor * (1.0 + noise(second, index)) / step;
            *total += grown;
            let spinning = if let Shows::Activity { spinning } = shows { spinning } else { 0.0 };
            let (active, utilization) = match hang(second) {
                None => (spinning + share * (0.92 - spinning), 1.0),
                Some(missing) if missing == index => (0.0, 0.0),
                Some(_) => (spinning, 1.0),
            };
            if let Shows::Activity { .. } = shows {
                judge.put_gpu(slot, GpuMetric::SmActive, ts, active);
                judge.put_gpu(slot, GpuMetric::TensorActive, ts, 0.4 * 0.7 * (1.0 + noise(second, index)) / step);
            }
            judge.put_gpu(slot, GpuMetric::PowerLimit, ts, 700.0);
            judge.put_gpu(slot, GpuMetric::Utilization, ts, utilization);
            judge.put_gpu(slot, GpuMetric::EventReasons, ts, bits as f64);
            judge.put_gpu(slot, GpuMetric::SmClock, ts, 1845.0 / factor);
            judge.put_gpu(slot, GpuMetric::NvlinkErrors, ts, *total);
            judge.put_gpu_power(slot, ts, 150.0 + 400.0 * share);
            judge.put_node(NodeSlot(index as u32 / 8), NodeMetric::CpuUtilization, ts, 0.2);
            judge.put_node(NodeSlot(index as u32 / 8), NodeMetric::NetworkLink, ts, port);
        }
        for incident in judge.take_revisions() {
            match last.iter_mut().find(|known| known.id == incident.id) {
                Some(known) => *known = incident,
                None => last.push(incident),
            }
        }
    }
    last.retain(|incident| incident.kind != Kind::PowerSwing);
    last
}

fn delay(incident: &Incident, onset: i64) -> f64 {
    incident.opened_at.seconds() - (EPOCH + onset) as f64
}

#[test]
fn a_hot_gpu_is_named_within_seconds_with_what_it_costs() {
    let hot = |second, gpu| {
        if second >= 200 && gpu == 21 { Gpu { factor: 1.15, bits: reasons::SW_THERMAL, ..HEALTHY } } else { HEALTHY }
    };
    let found = run(300, hot, |_| None, Some(2.0));
    assert_eq!(found.len(), 1, "{found:#?}");
    let incident = &found[0];
    assert_eq!((incident.kind, incident.cause.as_str()), (Kind::Straggler, "thermal"));
    assert_eq!((incident.subject.node.as_deref(), incident.subject.gpu), (Some("node2"), Some(5)));
    assert!((0.0..15.0).contains(&delay(incident, 200)), "{}", delay(incident, 200));
    let figure = |name: &str| incident.magnitude[name].as_f64().unwrap();
    // (0.7 × 1.15 + 0.3) / 1 = 1.105
    assert!((figure("slowdown_ratio") - 0.095).abs() < 0.02, "{}", figure("slowdown_ratio"));
    assert!((figure("cost_per_hour") - 2.0 * 64.0 * figure("slowdown_ratio")).abs() < 0.1);
}

#[test]
fn several_nodes_alike_are_a_role_and_a_fact_alone_is_no_fault() {
    let role = |second, gpu| {
        let bits = if second >= 100 && gpu == 9 { reasons::SW_THERMAL } else { 0 };
        if second >= 200 && gpu / 8 >= 6 { Gpu { factor: 1.1, bits, ..HEALTHY } } else { Gpu { bits, ..HEALTHY } }
    };
    let found = run(330, role, |_| None, None);
    assert!(found.iter().all(|incident| incident.kind != Kind::Straggler), "{found:#?}");
}

#[test]
fn one_who_is_slow_hides_no_other() {
    let two = |second, gpu| match gpu {
        21 if second >= 200 => Gpu { factor: 1.15, bits: reasons::SW_THERMAL, ..HEALTHY },
        50 if second >= 260 => Gpu { factor: 1.12, bits: reasons::SW_THERMAL, ..HEALTHY },
        _ => HEALTHY,
    };
    let found = run(330, two, |_| None, None);
    let named: Vec<_> = found.iter().map(|incident| (incident.subject.node.as_deref(), incident.subject.gpu)).collect();
    assert_eq!(named, [(Some("node2"), Some(5)), (Some("node6"), Some(2))], "{found:#?}");
}

#[test]
fn another_gpu_of_a_node_after_a_while_is_another_incident() {
    let one_then_another = |second, gpu| match (second, gpu) {
        (200..230, 21) | (350..400, 22) => Gpu { factor: 1.15, bits: reasons::SW_THERMAL, ..HEALTHY },
        _ => HEALTHY,
    };
    let found = run(400, one_then_another, |_| None, None);
    let named: Vec<_> = found.iter().map(|incident| incident.subject.gpu).collect();
    assert_eq!(named, [Some(5), Some(6)], "{found:#?}");
}

/// Spinning looks like computing, or the power of a second is all there is: nobody can be seen to wait.
#[test]
fn where_nobody_can_be_seen_to_wait_who_changed_as_the_job_fell_is_named() {
    for shows in [Shows::Activity { spinning: 0.91 }, Shows::Power] {
        let braked = |from: usize, slow: usize| {
            move |second, gpu: usize| {
                let bits = if second >= from && gpu / 8 == 2 { reasons::HW_POWER_BRAKE } else { 0 };
                let factor = if second >= slow && gpu / 8 == 2 { 1.2 } else { 1.0 };
                Gpu { factor, bits, ..HEALTHY }
            }
        };
        let stragglers = |gpu: &dyn Fn(usize, usize) -> Gpu, communication: &dyn Fn(usize) -> f64| {
            let mut found = run_showing(shows, 320, gpu, |_| None, communication, None);
            found.retain(|incident| incident.kind == Kind::Straggler);
            found
        };
        let found = stragglers(&braked(200, 200), &|_| 0.3);
        assert_eq!(found.len(), 1, "{shows:?} {found:#?}");
        let incident = &found[0];
        assert_eq!(
            (incident.cause.as_str(), incident.subject.node.as_deref(), incident.subject.gpu),
            ("power_brake", Some("node2"), None)
        );
        assert!((0.0..60.0).contains(&delay(incident, 200)), "{}", delay(incident, 200));
        // The job is no slower, or slower for a reason that nobody shows, or it became so long after.
        let longer = |second| if second >= 200 { 0.45 } else { 0.3 };
        assert!(stragglers(&braked(200, 999), &|_| 0.3).is_empty());
        assert!(stragglers(&braked(999, 999), &longer).is_empty());
        assert!(stragglers(&braked(100, 999), &longer).is_empty());
    }
}

/// The slow node's GPUs are gone while what they showed still stands out.
#[test]
fn a_job_may_end_node_by_node_while_one_is_slow() {
    let ends = |second, gpu| {
        let braked = if second >= 200 && gpu / 8 == 2 { reasons::HW_POWER_BRAKE } else { 0 };
        let factor = if braked != 0 { 1.15 } else { 1.0 };
        let at = if gpu / 8 == 2 { 240 } else { 241 + gpu / 8 };
        Gpu { factor, bits: braked, gone: second >= at, ..HEALTHY }
    };
    let found = run(260, ends, |_| None, None);
    let stragglers: Vec<_> = found.iter().filter(|incident| incident.kind == Kind::Straggler).collect();
    assert_eq!(stragglers.len(), 1, "{found:#?}");
    assert_eq!((stragglers[0].cause.as_str(), stragglers[0].subject.node.as_deref()), ("power_brake", Some("node2")));
}

/// The job became slower for another reason, in the middle of it or before it.
#[test]
fn errors_are_to_blame_only_where_they_began_with_it() {
    let with = |begin: usize, end: usize| {
        let errors = move |second, gpu| match gpu == 21 && (begin..end).contains(&second) {
            true => Gpu { errors: 30.0, ..HEALTHY },
            false => HEALTHY,
        };
        let found = run_with(300, errors, |_| None, |second| if second >= 200 { 0.4 } else { 0.3 }, None);
        found.into_iter().filter(|incident| incident.kind == Kind::Straggler).map(|incident| incident.cause).collect::<Vec<_>>()
    };
    assert_eq!(with(200, 300), ["nvlink_errors"]);
    assert_eq!(with(170, 260), [""; 0]);
    assert_eq!(with(230, 300), [""; 0]);
    assert_eq!(with(0, 300), [""; 0]);
}

#[test]
fn less_than_a_percent_is_no_incident() {
    let slow = |second, gpu| {
        if second >= 200 && gpu == 21 { Gpu { factor: 1.008, bits: reasons::SW_THERMAL, ..HEALTHY } } else { HEALTHY }
    };
    let found = run(400, slow, |_| None, None);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_collective_that_does_not_end_is_the_jobs_and_names_who_is_missing() {
    let found = run(300, |_, _| HEALTHY, |second| (second >= 200).then_some(33), None);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].kind, found[0].cause.as_str()), (Kind::Job, "stalled"));
    assert!(found[0].summary.contains("node4 GPU 1 did not arrive"), "{}", found[0].summary);
    assert!(delay(&found[0], 200) <= 60.0, "{}", delay(&found[0], 200));
}

#[test]
fn a_stage_that_becomes_slow_is_the_jobs() {
    let stage = |second, gpu| if second >= 200 && gpu / 8 >= 6 { Gpu { factor: 1.15, ..HEALTHY } } else { HEALTHY };
    let found = run(330, stage, |_| None, None);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].kind, found[0].cause.as_str()), (Kind::Job, "slow_stage"));
    assert!(found[0].summary.contains("the stage of node6, node7"), "{}", found[0].summary);
    assert!(delay(&found[0], 200) <= 60.0, "{}", delay(&found[0], 200));
    // One that has been the slowest all along is how the job was made.
    let always = |_, gpu| if gpu / 8 >= 6 { Gpu { factor: 1.3, ..HEALTHY } } else { HEALTHY };
    let found = run(330, always, |_| None, None);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_collective_that_becomes_slow_is_of_the_gpu_whose_link_became_bad() {
    // GPU 7 is a little out of line all along, as somebody always is: the job's speed is known all the same.
    let bad = |second, gpu| match gpu {
        21 if second >= 250 => Gpu { errors: 20.0, ..HEALTHY },
        7 if second % 40 < 12 => Gpu { factor: 1.02, ..HEALTHY },
        _ => HEALTHY,
    };
    let slower = |second| if second >= 250 { 0.42 } else { 0.3 };
    let found = run_with(330, bad, |_| None, slower, None);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].kind, found[0].cause.as_str()), (Kind::Straggler, "nvlink_errors"));
    assert_eq!((found[0].subject.node.as_deref(), found[0].subject.gpu), (Some("node2"), Some(5)));
    assert!((0.0..20.0).contains(&delay(&found[0], 250)), "{}", delay(&found[0], 250));
    // Errors without a slower job, and a slower job without errors, blame nobody.
    let found = run_with(330, bad, |_| None, |_| 0.3, None);
    assert!(found.iter().all(|incident| incident.kind != Kind::Straggler), "{found:#?}");
    let found = run_with(330, |_, _| HEALTHY, |_| None, slower, None);
    assert!(found.iter().all(|incident| incident.kind != Kind::Straggler), "{found:#?}");
}

#[test]
fn a_job_that_always_communicated_much_has_one_narrow_port_to_look_at() {
    let narrow = |_, gpu| if gpu / 8 == 2 { Gpu { port: 1e11, ..HEALTHY } } else { HEALTHY };
    let found = run_with(150, narrow, |_| None, |_| 0.5, None);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].kind, found[0].cause.as_str()), (Kind::Straggler, "network_slow"));
    assert_eq!((found[0].subject.node.as_deref(), found[0].subject.gpu), (Some("node2"), None));
    // By how much it slows the job is not known: no such figure, and it is for the record.
    assert_eq!(found[0].severity, Severity::Info);
    assert!(!found[0].magnitude.contains_key("slowdown_ratio") && found[0].magnitude.contains_key("communication_ratio"));
    // With as much communication and no narrow port, and with one and less communication, there is nothing to say.
    assert!(run_with(150, |_, _| HEALTHY, |_| None, |_| 0.5, None).is_empty());
    assert!(run_with(150, narrow, |_| None, |_| 0.2, None).is_empty());
    // Errors that have always come are a history, however much is communicated.
    let errors = |_, gpu| if gpu == 21 { Gpu { errors: 20.0, ..HEALTHY } } else { HEALTHY };
    let found = run_with(150, errors, |_| None, |_| 0.5, None);
    assert!(found.iter().all(|incident| incident.kind != Kind::Straggler), "{found:#?}");
}

#[test]
fn one_goes_and_another_comes_and_the_job_is_judged_on() {
    let mut judge = Judge::new(JudgeConfig::default(), &[]);
    let slots: Vec<GpuSlot> = (0..GPUS + 8)
        .map(|index| {
            let node = judge.fleet_mut().node(&format!("node{}", index / 8));
            judge.fleet_mut().gpu(node, (index % 8) as u8)
        })
        .collect();
    judge.fleet_mut().job("job");
    let mut found = Vec::new();
    for second in 0..400 {
        // The first node leaves, a ninth takes its place.
        let member = |index: usize| if second < 100 { index < GPUS } else { index >= 8 };
        for (index, &slot) in slots.iter().enumerate() {
            let ts = Micros((EPOCH + second as i64) * 1_000_000 + index as i64 / 8 * 100_000);
            judge.advance(ts);
            judge.put_gpu_job(slot, member(index).then_some(JobSlot(0)));
            let slow = if second >= 300 && index == 40 { 1.15 } else { 1.0 };
            let slowest = if second >= 300 { 1.15 } else { 1.0 };
            let share = 0.7 * slow * (1.0 + noise(second, index)) / (0.7 * slowest + 0.3);
            judge.put_gpu(slot, GpuMetric::SmActive, ts, if member(index) { 0.18 + share * 0.74 } else { 0.0 });
            judge.put_gpu(slot, GpuMetric::Utilization, ts, if member(index) { 1.0 } else { 0.0 });
            let bits = if slow > 1.0 { reasons::SW_THERMAL } else { 0 };
            judge.put_gpu(slot, GpuMetric::EventReasons, ts, bits as f64);
        }
        found.extend(judge.take_revisions());
    }
    let found: Vec<&Incident> = found.iter().filter(|incident| incident.kind == Kind::Straggler).collect();
    assert!(!found.is_empty() && found.iter().all(|incident| incident.subject.node.as_deref() == Some("node5")), "{found:#?}");
}
