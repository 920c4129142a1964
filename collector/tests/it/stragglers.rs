//! Small synchronous jobs of which every second is known, through the whole judging.

use gridstep_collector::fleet::{GpuMetric, GpuSlot, JobSlot, NodeMetric, NodeSlot};
use gridstep_collector::incidents::{Incident, Kind};
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
}

const HEALTHY: Gpu = Gpu { factor: 1.0, bits: 0 };

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
    for second in 0..seconds {
        let slowest = (0..GPUS).map(|index| gpu(second, index).factor).fold(1.0, f64::max);
        for index in 0..GPUS {
            let (slot, Gpu { factor, bits }) = (GpuSlot(index as u32), gpu(second, index));
            let ts = Micros((EPOCH + second as i64) * 1_000_000 + index as i64 / 8 * 110_000);
            judge.advance(ts);
            if second == 0 {
                judge.put_gpu_job(slot, Some(JobSlot(0)));
            }
            let share = 0.7 * factor * (1.0 + noise(second, index)) / (0.7 * slowest + 0.3);
            let (active, utilization) = match hang(second) {
                None => (0.18 + share * 0.74, 1.0),
                Some(missing) if missing == index => (0.0, 0.0),
                Some(_) => (0.18, 1.0),
            };
            judge.put_gpu(slot, GpuMetric::SmActive, ts, active);
            judge.put_gpu(slot, GpuMetric::Utilization, ts, utilization);
            judge.put_gpu(slot, GpuMetric::EventReasons, ts, bits as f64);
            judge.put_gpu(slot, GpuMetric::SmClock, ts, 1845.0 / factor);
            judge.put_gpu_power(slot, ts, 150.0 + 400.0 * share);
            judge.put_node(NodeSlot(index as u32 / 8), NodeMetric::CpuUtilization, ts, 0.2);
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
    let hot = |second, gpu| if second >= 200 && gpu == 21 { Gpu { factor: 1.15, bits: reasons::SW_THERMAL } } else { HEALTHY };
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
        if second >= 200 && gpu / 8 >= 6 { Gpu { factor: 1.1, bits } } else { Gpu { factor: 1.0, bits } }
    };
    let found = run(330, role, |_| None, None);
    assert!(found.iter().all(|incident| incident.kind != Kind::Straggler), "{found:#?}");
}

#[test]
fn less_than_a_percent_is_no_incident() {
    let slow = |second, gpu| if second >= 200 && gpu == 21 { Gpu { factor: 1.008, bits: reasons::SW_THERMAL } } else { HEALTHY };
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
