//! Checkpoints, idle parts, waiting.

use super::*;

/// Steps of 2 s computing and 1 s communicating, with more.
fn world_with(job: &str, phase: &str) -> World {
    let text = format!(
        "gpus_per_node = 4\n[variety]\nwatts = 0.0\n[[job]]\nname = \"j\"\nnode_count = 1\n{job}\n\
         [[job.phase]]\nkind = \"compute\"\nseconds = 2.0\nwatts = 600.0\nsm_active = 0.9\n\
         [[job.phase]]\nkind = \"communicate\"\nseconds = 1.0\nwatts = 240.0\nsm_active = 0.2\n{phase}"
    );
    World::new(Scenario::parse(&text).unwrap())
}

#[test]
fn a_checkpoint_comes_every_so_many_steps() {
    let world = world_with("", "[[job.phase]]\nkind = \"checkpoint\"\nseconds = 6.0\nevery_steps = 10\n");
    let (gpu, late) = (world.gpu(0, 0), world.jitter(0));
    assert_eq!((pace(&world, 0).step, pace(&world, 0).cycle), (3.0, 36.0));
    let mean = |from: f64| watts(gpu.track().mean(from + late, from + late + 6.0));
    for cycle in [0.0, 36.0, 360.0] {
        assert!((mean(cycle) - 480.0).abs() < 1e-9);
        assert!((mean(cycle + 24.0) - 480.0).abs() < 1e-9);
        assert!((mean(cycle + 30.0) - HOST_WATTS).abs() < 1e-9);
    }
    assert_eq!(gpu.at(33.0)[Channel::Busy as usize], 0.0);
    // The line of the steps is that of a job without checkpoints.
    let plain = world_with("", "").gpu(0, 0).track().fundamental(1.0, 3.0);
    let rare = gpu.track().fundamental(1.0, 3.0);
    assert!((plain.0 - rare.0).abs() + (plain.1 - rare.1).abs() < 1e-9);
}

#[test]
fn one_writer_lets_the_others_wait() {
    let world =
        world_with("", "[[job.phase]]\nkind = \"checkpoint\"\nseconds = 6.0\nevery_seconds = 30.0\nwriters = \"first\"\n");
    let (writer, other) = (world.gpu(0, 0).at(33.0), world.gpu(0, 3).at(33.0));
    assert_eq!((watts(writer), writer[Channel::Busy as usize]), (HOST_WATTS, 0.0));
    assert_eq!((watts(other), other[Channel::Sm as usize]), (150.0, 0.18));
    assert!(other[Channel::Busy as usize] > 0.98);
}

#[test]
fn a_job_is_idle_before_its_first_and_after_its_last_step() {
    let world = world_with("start = 10.0\nend = 100.0\nidle_before = 20.0\nidle_after = 5.0", "");
    let bounds: Vec<(f64, bool)> = world.segments(0).iter().map(|s| (s.from, s.pace().is_some())).collect();
    assert_eq!(bounds, [(10.0, false), (30.0, true), (95.0, false)]);
    let gpu = world.gpu(0, 0);
    assert!(watts(gpu.at(9.0)) < 80.0 && !gpu.working(9.0));
    for t in [11.0, 29.0, 96.0] {
        assert!(watts(gpu.at(t)) == HOST_WATTS && gpu.working(t), "{t}");
    }
    assert_eq!(watts(gpu.at(31.0)), 600.0);
    assert_eq!(world.job_at(0, 99.0).map(|job| job.name.as_str()), Some("j"));
    assert!(world.job_at(0, 100.0).is_none());
}

#[test]
fn a_spin_phase_waits_as_the_scenario_says() {
    let world = world_with("", "[[job.phase]]\nkind = \"spin\"\nseconds = 1.0\n");
    assert_eq!(watts(world.gpu(0, 1).at(3.5)), 150.0);
    let mut scenario = world.scenario().clone();
    scenario.waiting.watts = 210.0;
    assert_eq!(watts(World::new(scenario).gpu(0, 1).at(3.5)), 210.0);
}
