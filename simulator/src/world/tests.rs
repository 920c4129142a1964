use super::*;

mod faults;
mod jobs;
mod variety;

const LOCKSTEP: &str = r#"
nodes = 2
gpus_per_node = 2
[[job]]
name = "j"
node_count = 2
start = 8.0
end = 100.0
[[job.phase]]
kind = "compute"
seconds = 2.0
watts = 600.0
sm_active = 0.9
[[job.phase]]
kind = "communicate"
seconds = 1.0
watts = 240.0
sm_active = 0.2
[[fault]]
kind = "thermal"
node = 1
gpu = 1
start = 21.0
end = 60.0
depth = 0.2
"#;

fn world() -> World {
    World::new(Scenario::parse(LOCKSTEP).unwrap())
}

fn watts(levels: Levels) -> f64 {
    levels[Channel::Watts as usize]
}

/// The pace of a job's segment in which it trains.
fn pace(world: &World, segment: usize) -> Pace {
    world.segments(0)[segment].pace().expect("the job trains then")
}

#[test]
fn a_slow_gpu_stretches_every_iteration_of_its_job() {
    let world = world();
    let segments = world.segments(0);
    assert_eq!(segments.len(), 3);
    assert!((pace(&world, 0).step - 3.0).abs() < 1e-12);
    assert!((pace(&world, 1).step - 3.5).abs() < 1e-12);
    assert_eq!(segments[2].to, 100.0);
}

#[test]
fn progress_is_continuous_across_a_change_of_speed() {
    let world = world();
    // 13 s after the start: step 4, 1 s into compute, which is 1.25 s at the lower speed.
    assert_eq!(pace(&world, 1).first_cycle, 4);
    assert!((pace(&world, 1).offset - 1.25).abs() < 1e-9);
}

#[test]
fn others_spin_while_the_slow_one_computes() {
    let world = world();
    let t = 21.0 + world.jitter(1) + 3.5 * 3.0 - 1.25 + 2.25;
    let culprit = world.gpu(1, 1);
    let innocent = world.gpu(1, 0);
    assert!((innocent.at(t)[Channel::Sm as usize] - 0.18).abs() < 1e-9);
    assert!((culprit.at(t)[Channel::Sm as usize] - 0.9).abs() < 1e-9);
    assert_eq!(innocent.clock_mhz(t), 1980);
    assert!(culprit.clock_mhz(t) < 1600);
    let ratio = watts(culprit.at(t)) / 600.0;
    assert!((0.70..0.82).contains(&ratio), "{ratio}");
    assert!(culprit.temperature(59.0) > 84.0);
    assert_eq!(culprit.reasons(t) & reason::SW_THERMAL, reason::SW_THERMAL);
    assert_eq!(culprit.reason_ns(reason::SW_THERMAL, 31.0), 10_000_000_000);
}

#[test]
fn means_agree_with_sums_of_moments() {
    let world = world();
    let gpu = world.gpu(0, 0);
    for (from, to) in [(0.0, 5.0), (7.0, 12.3), (19.5, 33.3), (95.0, 105.0)] {
        let steps = 200_000;
        let step = (to - from) / f64::from(steps);
        let sum: f64 = (0..steps).map(|i| watts(gpu.at(from + (f64::from(i) + 0.5) * step))).sum();
        let mean = watts(gpu.track().mean(from, to));
        assert!((sum / f64::from(steps) - mean).abs() < 0.05, "{from}..{to}: {mean}");
    }
}

#[test]
fn the_cluster_is_the_sum_of_its_gpus() {
    let world = world();
    let steps = 4000;
    let mut sum = 0.0;
    for (node, index) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let gpu = world.gpu(node, index);
        sum += (0..steps).map(|i| watts(gpu.at(20.0 + (f64::from(i) + 0.5) * 0.001))).sum::<f64>() / f64::from(steps);
    }
    let mean = world.cluster_power_mean(20.0, 24.0);
    assert!((mean - sum).abs() < 2.0, "{mean} is not {sum}");
    assert!((world.power_watts(0, 0, 1.0) / IDLE_WATTS - 1.0).abs() < 0.04);
}

#[test]
fn energy_never_falls_and_power_stays_in_range() {
    let gpu = world().gpu(1, 1);
    let mut last = gpu.energy_joules(-10.0);
    for i in 0..2400 {
        let t = -10.0 + f64::from(i) * 0.05;
        let joules = gpu.energy_joules(t);
        assert!(joules >= last);
        last = joules;
        assert!((60.0..720.0).contains(&gpu.instant_watts(t)));
        assert!((28.0..90.0).contains(&gpu.temperature(t)));
    }
}

#[test]
fn the_fundamental_of_a_square_wave_is_known() {
    let world = World::new(Scenario::parse(&LOCKSTEP.replace("seconds = 2.0", "seconds = 1.0")).unwrap());
    let gpu = world.gpu(0, 0);
    let (a, b) = gpu.track().fundamental(15.0, 2.0);
    let gain = watts(gpu.at(8.5)) / 600.0;
    let expected = 360.0 * gain * 2.0 / std::f64::consts::PI;
    assert!((a.hypot(b) - expected).abs() < 1e-6);
}

#[test]
fn unknown_keys_impossible_gpus_and_overlapping_jobs_are_refused() {
    assert!(Scenario::parse("nonsense = 1").is_err());
    assert!(Scenario::parse(&LOCKSTEP.replace("gpu = 1", "gpu = 9")).is_err());
    let mut twice = Scenario::parse(LOCKSTEP).unwrap();
    twice.jobs.push(twice.jobs[0].clone());
    assert!(twice.check().is_err());
}
