//! What faults do to the GPU that has them, and to its job.

use super::*;
use crate::scenario::FaultKind;

/// Steps of 2 s computing and 1 s communicating on four GPUs of two nodes, from second 0 on.
fn with(job: &str, fault: &str) -> World {
    let text = format!(
        "nodes = 2\ngpus_per_node = 2\n[variety]\nwatts = 0.0\nclock = 0.0\n\
         [[job]]\nname = \"j\"\nnode_count = 2\n{job}\n\
         [[job.phase]]\nkind = \"compute\"\nseconds = 2.0\nwatts = 600.0\nsm_active = 0.9\ntensor_active = 0.5\ndram_active = 0.4\n\
         [[job.phase]]\nkind = \"communicate\"\nseconds = 1.0\nwatts = 240.0\nsm_active = 0.2\n\
         [[fault]]\n{fault}\n"
    );
    World::new(Scenario::parse(&text).unwrap())
}

fn level(levels: Levels, channel: Channel) -> f64 {
    levels[channel as usize]
}

#[test]
fn a_driver_that_is_loaded_anew_counts_from_zero() {
    let world = with("", "kind = \"unloaded\"\nnode = 0\nstart = 30.0\nend = 40.0\ndriver_version = \"590.1\"");
    let (own, other) = (world.gpu(0, 1), world.gpu(1, 0));
    assert_eq!([29.0, 31.0, 41.0].map(|t| own.unloaded(t)), [false, true, false]);
    assert_eq!([29.0, 31.0, 41.0].map(|t| own.driver_version(t)), ["580.95.05", "580.95.05", "590.1"]);
    assert!(own.energy_joules(29.0) > 5000.0 && own.energy_joules(41.0) < 1000.0);
    assert!(!other.unloaded(31.0) && other.energy_joules(41.0) > other.energy_joules(29.0));
}

#[test]
fn degraded_memory_is_slow_and_shows() {
    let world = with("", "kind = \"hbm\"\nnode = 0\ngpu = 1\nstart = 30.0\nend = 90.0\ndepth = 0.2\nvalue = 4.0");
    assert!((pace(&world, 1).step - 3.5).abs() < 1e-12);
    let (slow, peer) = (world.gpu(0, 1), world.gpu(0, 0));
    let t = 30.0 + world.jitter(0) + 1.0;
    let before = slow.at(1.0);
    assert_eq!(level(slow.at(t), Channel::Sm), level(before, Channel::Sm));
    assert!((level(slow.at(t), Channel::Tensor) - 0.4).abs() < 1e-9);
    assert_eq!(slow.clock_mhz(t), 1980);
    assert_eq!((slow.memory_clock_mhz(t), peer.memory_clock_mhz(t)), (2095, 2619));
    assert!((IDLE_WATTS..watts(before)).contains(&watts(slow.at(t))));
    assert_eq!(slow.corrected_errors(40.0), 40);
    assert_eq!(slow.corrected_errors(500.0), 240);
    let remapped = slow.remapped_corrected(29.0);
    assert_eq!(slow.remapped_corrected(31.0), remapped + 1);
    assert_eq!([29.0, 31.0, 91.0].map(|t| slow.remap_pending(t)), [false, true, false]);
    assert_eq!(slow.reasons(t) & !reason::SW_POWER_CAP, 0);
    // Errors and a pending row alone slow nobody.
    let harmless = with("", "kind = \"hbm\"\nnode = 0\ngpu = 1\nstart = 30.0\nvalue = 4.0");
    assert_eq!(harmless.segments(0).len(), 1);
    assert_eq!(harmless.gpu(0, 1).memory_clock_mhz(40.0), 2619);
}

#[test]
fn a_host_without_time_starves_its_gpus() {
    let world = with("", "kind = \"cpu\"\nnode = 1\nstart = 30.0\ndepth = 0.25");
    let t = 30.0 + world.jitter(1) + 1.0;
    for index in 0..2 {
        let starved = world.gpu(1, index);
        let (before, now) = (starved.at(1.0), starved.at(t));
        assert!((level(now, Channel::Sm) - 0.75 * level(before, Channel::Sm)).abs() < 1e-9);
        assert!((level(now, Channel::Busy) - 0.75).abs() < 1e-9);
        assert_eq!(starved.clock_mhz(t), 1980);
        assert_eq!(starved.memory_clock_mhz(t), MEMORY_CLOCK);
        assert_eq!(starved.reasons(t) & !reason::SW_POWER_CAP, 0);
        assert!((HOST_WATTS..watts(before)).contains(&watts(now)));
    }
    // The others are done by then, and wait.
    let late = 30.0 + world.jitter(0) + 2.3;
    assert!((level(world.gpu(0, 0).at(late), Channel::Sm) - 0.18).abs() < 1e-9);
}

#[test]
fn the_work_of_a_step_is_the_same_at_any_speed() {
    for (kind, clock) in [("thermal", 0.8), ("hbm", 1.0), ("cpu", 1.0), ("pcie_width", 1.0)] {
        let world = with("", &format!("kind = \"{kind}\"\nnode = 0\ngpu = 0\nstart = 30.0\ndepth = 0.2"));
        let gpu = world.gpu(0, 0);
        let late = world.jitter(0);
        let tensor = |from: f64, step: f64| level(gpu.track().mean(from + late, from + late + step), Channel::Tensor) * step;
        let (healthy, slow) = (tensor(0.0, 3.0), clock * tensor(30.0, 3.5));
        assert!((healthy - slow).abs() < 1e-9, "{kind}: {healthy} and {slow}");
    }
}

#[test]
fn all_wait_for_a_lost_gpu_and_then_the_job_ends() {
    let world = with("stall_seconds = 100.0", "kind = \"lost_gpu\"\nnode = 1\ngpu = 1\nstart = 31.0");
    // Lost 1 s into a step's computing: the others finish that.
    let segments = world.segments(0);
    assert_eq!(segments.len(), 2);
    assert!((segments[0].to - 32.0).abs() < 1e-9);
    assert_eq!(segments[1].activity, Activity::Stalled);
    assert_eq!(world.running(0), Some((0.0, 132.0)));
    let (lost, other) = (world.gpu(1, 1), world.gpu(0, 0));
    assert!(lost.fault(FaultKind::LostGpu, 40.0).is_some());
    assert!((watts(lost.at(40.0)) / IDLE_WATTS - 1.0).abs() < 0.05);
    for t in [33.0, 80.0, 131.9] {
        let levels = other.at(t);
        assert!((watts(levels) - 150.0).abs() < 1e-9 && level(levels, Channel::Busy) > 0.98, "{levels:?}");
        assert!(other.working(t));
    }
    assert!(!other.working(133.0));
    assert!((watts(other.at(133.0)) / IDLE_WATTS - 1.0).abs() < 0.05);
}

#[test]
fn a_job_may_restart_without_the_lost_gpu() {
    let job = "on_lost_gpu = \"restart\"\nstall_seconds = 20.0\nrestart_seconds = 10.0";
    let world = with(job, "kind = \"lost_gpu\"\nnode = 1\ngpu = 1\nstart = 2.5\nend = 50.0");
    let activities: Vec<(f64, Activity)> = world.segments(0).iter().map(|s| (s.from, s.activity)).collect();
    assert_eq!(activities.len(), 4, "{activities:?}");
    // Lost while communicating: waited for at once.
    assert_eq!(activities[1], (2.5, Activity::Stalled));
    assert_eq!(activities[2], (22.5, Activity::Loaded));
    assert_eq!(activities[3].0, 32.5);
    assert!(matches!(activities[3].1, Activity::Training(pace) if pace.offset == 0.0 && pace.step == 3.0));
    let (lost, other) = (world.gpu(1, 1), world.gpu(0, 1));
    let late = world.jitter(0).max(world.jitter(1));
    assert!((watts(other.at(25.0)) - HOST_WATTS).abs() < 1e-9);
    assert!((watts(other.at(33.0 + late)) - 600.0).abs() < 1e-9);
    assert!(watts(lost.at(49.9)) < 80.0);
    // Back at 50 s, in the middle of a step of the rest.
    assert!((watts(lost.at(51.0 + late)) - 600.0).abs() < 1e-9);
}

#[test]
fn a_gpu_that_is_lost_before_the_start_lets_no_step_begin() {
    let world = with("", "kind = \"lost_gpu\"\nnode = 0\ngpu = 0\nstart = -5.0");
    assert_eq!(world.segments(0)[0].activity, Activity::Stalled);
    assert_eq!(world.running(0), Some((0.0, 600.0)));
    let on = with("on_lost_gpu = \"continue\"", "kind = \"lost_gpu\"\nnode = 0\ngpu = 0\nstart = -5.0");
    assert!(on.segments(0)[0].pace().is_some());
    assert_eq!(on.running(0), Some((0.0, f64::INFINITY)));
}

#[test]
fn a_lost_gpu_slows_nobody_any_more() {
    let job = "on_lost_gpu = \"restart\"\nstall_seconds = 20.0\nrestart_seconds = 10.0";
    let hot = "kind = \"thermal\"\nnode = 0\ngpu = 1\nstart = 10.0\ndepth = 0.5";
    let world = with(job, &format!("{hot}\n[[fault]]\nkind = \"lost_gpu\"\nnode = 0\ngpu = 1\nstart = 30.0"));
    let steps: Vec<f64> = world.segments(0).iter().filter_map(|s| Some(s.pace()?.step)).collect();
    assert_eq!(steps, [3.0, 5.0, 3.0]);
}
