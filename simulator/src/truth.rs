//! What really happens in a scenario: what an observer should find.

use serde::Serialize;

use crate::scenario::{Fault, FaultKind, PhaseKind, Scenario};
use crate::world::{Activity, Channel, Pace, Segment, World};

/// The truth about a scenario. Times are seconds of scenario time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Truth {
    pub jobs: Vec<JobTruth>,
    pub faults: Vec<FaultTruth>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobTruth {
    pub name: String,
    pub gpus: u32,
    pub start: f64,
    /// When the processes end: at the job's end, or earlier by a lost GPU.
    pub end: Option<f64>,
    /// When the first step begins, if one ever does.
    pub training_from: Option<f64>,
    /// Mean board power of the job's GPUs over the first step minus that over as long before it, W.
    pub start_delta_watts: Option<f64>,
    /// That over the time of a step after the last step minus that over the last step, W.
    pub end_delta_watts: Option<f64>,
    /// One entry for each stretch of constant speed.
    pub segments: Vec<SegmentTruth>,
    /// When every GPU waits for one that is lost.
    pub stalls: Vec<StallTruth>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StallTruth {
    pub from: f64,
    pub to: Option<f64>,
    /// Mean of the GPUs' summed board power, W.
    pub mean_watts: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentTruth {
    pub from: f64,
    pub to: Option<f64>,
    /// Steps a second, where no rare phase (a checkpoint) comes between.
    pub iteration_hz: f64,
    /// Peak to peak of the fundamental of the GPUs' summed board power over such steps, W.
    pub fundamental_watts: f64,
    /// Mean of the GPUs' summed board power, W, rare phases included where the segment holds them.
    pub mean_watts: f64,
    /// Seconds after which everything repeats, rare phases too.
    pub cycle_seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultTruth {
    pub node: String,
    /// Absent: every GPU of the node.
    pub gpu: Option<u32>,
    pub kind: FaultKind,
    /// The cause by which an incident should name it.
    pub cause: &'static str,
    pub start: f64,
    pub end: Option<f64>,
    /// Factor by which a step of the GPU's job takes longer at the fault's start, if a job runs then; at least 1.
    pub slowdown: f64,
}

/// Works out the truth.
pub fn truth(scenario: &Scenario) -> Truth {
    let world = World::new(scenario.clone());
    Truth { jobs: (0..scenario.jobs.len()).map(|i| job(&world, i)).collect(), faults: faults(&world) }
}

fn job(world: &World, index: usize) -> JobTruth {
    let scenario = world.scenario();
    let job = &scenario.jobs[index];
    let held = job.first_node..job.first_node + job.node_count;
    let gpus: Vec<_> = held.flat_map(|node| world.node(node).into_iter().map(move |gpu| (world.jitter(node), gpu))).collect();
    let mean = |from: f64, length: f64| -> f64 {
        gpus.iter().map(|(late, gpu)| gpu.track().mean(from + late, from + late + length)[Channel::Watts as usize]).sum()
    };
    let segments = world.segments(index);
    let steps: Vec<(&Segment, Pace)> = segments.iter().filter_map(|s| Some((s, s.pace()?))).collect();
    let end = segments.last().map(|last| last.to).filter(|to| to.is_finite());
    let bounded = |t: f64| t.is_finite().then_some(t);
    let jump = |t: f64, step: f64| mean(t, step) - mean(t - step, step);
    JobTruth {
        name: job.name.clone(),
        gpus: gpus.len() as u32,
        start: job.start,
        end,
        training_from: steps.first().map(|(first, _)| first.from),
        start_delta_watts: steps.first().map(|(first, pace)| jump(first.from, pace.step)),
        end_delta_watts: steps.last().filter(|(last, _)| last.to.is_finite()).map(|(last, pace)| jump(last.to, pace.step)),
        segments: steps
            .iter()
            .map(|(segment, pace)| {
                // Later than any jitter, so that every node is in the segment.
                let inside = segment.from + 0.06;
                let (a, b) = gpus.iter().fold((0.0, 0.0), |(a, b), (_, gpu)| {
                    let (cosine, sine) = gpu.track().fundamental(inside, pace.step);
                    (a + cosine, b + sine)
                });
                SegmentTruth {
                    from: segment.from,
                    to: bounded(segment.to),
                    iteration_hz: 1.0 / pace.step,
                    fundamental_watts: 2.0 * a.hypot(b),
                    mean_watts: mean(segment.from, pace.cycle.min(segment.to - segment.from)),
                    cycle_seconds: pace.cycle,
                }
            })
            .collect(),
        stalls: segments
            .iter()
            .filter(|s| s.activity == Activity::Stalled)
            .map(|s| StallTruth { from: s.from, to: bounded(s.to), mean_watts: mean(s.from, (s.to - s.from).min(1.0)) })
            .collect(),
    }
}

fn faults(world: &World) -> Vec<FaultTruth> {
    let scenario = world.scenario();
    let slowdown = |fault: &Fault| {
        let stretch = fault.hindrance()?.stretch;
        let job = world.job_at(fault.node, fault.start)?;
        let normal = job.step_seconds();
        let compute: f64 = job.phases.iter().filter(|p| p.kind == PhaseKind::Compute && !p.rare()).map(|p| p.seconds).sum();
        Some((normal + compute * (stretch - 1.0)) / normal)
    };
    scenario
        .faults
        .iter()
        .map(|fault| FaultTruth {
            node: Scenario::node_name(fault.node),
            gpu: fault.gpu,
            kind: fault.kind,
            cause: fault.kind.cause(),
            start: fault.start,
            end: fault.end,
            slowdown: slowdown(fault).unwrap_or(1.0),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(more: &str) -> Truth {
        let text = format!(
            "gpus_per_node = 2\n[variety]\nwatts = 0.0\nidle_watts = 0.0\n[[job]]\nname = \"j\"\nnode_count = 1\nidle_before = 6.0\nstall_seconds = 30.0\n\
             [[job.phase]]\nkind = \"compute\"\nseconds = 2.0\nwatts = 600.0\n[[job.phase]]\nkind = \"communicate\"\nseconds = 1.0\nwatts = 240.0\n{more}"
        );
        truth(&Scenario::parse(&text).expect("the scenario is sound"))
    }

    #[test]
    fn faults_are_told_by_the_cause_of_their_incident() {
        let truth = told(
            "[[fault]]\nkind = \"hbm\"\nnode = 0\ngpu = 1\nstart = 20.0\nend = 60.0\ndepth = 0.2\n\
             [[fault]]\nkind = \"cpu\"\nnode = 0\nstart = 90.0\ndepth = 0.5\n",
        );
        let causes: Vec<_> = truth.faults.iter().map(|f| (f.gpu, f.cause)).collect();
        assert_eq!(causes, [(Some(1), "hbm_degraded"), (None, "cpu_contention")]);
        assert!((truth.faults[0].slowdown - 3.5 / 3.0).abs() < 1e-12);
        assert!((truth.faults[1].slowdown - 5.0 / 3.0).abs() < 1e-12);
        let paces: Vec<f64> = truth.jobs[0].segments.iter().map(|s| 1.0 / s.iteration_hz).collect();
        assert!(paces.iter().zip([3.0, 3.5, 3.0, 5.0]).all(|(a, b)| (a - b).abs() < 1e-9), "{paces:?}");
    }

    #[test]
    fn a_stall_and_the_end_that_it_brings_are_told() {
        let truth = told("[[fault]]\nkind = \"lost_gpu\"\nnode = 0\ngpu = 1\nstart = 61.0\n");
        let job = &truth.jobs[0];
        assert_eq!((job.training_from, job.end), (Some(6.0), Some(92.0)));
        assert_eq!((job.stalls[0].from, job.stalls[0].to), (62.0, Some(92.0)));
        // One GPU waits, the other is lost.
        assert!((job.stalls[0].mean_watts - (150.0 + 75.0)).abs() < 1e-9);
        assert!((job.start_delta_watts.unwrap() - 2.0 * (480.0 - 142.0)).abs() < 1e-9);
        // Over the last 3 s one GPU worked on, and the other went after 2 s, give or take the node's jitter.
        let last_step = 480.0 + (240.0 + 600.0 + 75.0) / 3.0;
        assert!((job.end_delta_watts.unwrap() - (225.0 - last_step)).abs() < 10.0);
    }
}
