//! What really happens in a scenario: what an observer should find.

use serde::Serialize;

use crate::scenario::{FaultKind, Scenario};
use crate::world::{Channel, World};

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
    pub end: Option<f64>,
    /// Mean board power of the job's GPUs over one iteration after the start minus that before, W.
    pub start_delta_watts: f64,
    /// The same at the end.
    pub end_delta_watts: Option<f64>,
    /// One entry for each stretch of constant speed.
    pub segments: Vec<SegmentTruth>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentTruth {
    pub from: f64,
    pub to: Option<f64>,
    /// Iterations a second.
    pub iteration_hz: f64,
    /// Peak to peak of the fundamental of the GPUs' summed board power, W.
    pub fundamental_watts: f64,
    /// Mean of the GPUs' summed board power, W.
    pub mean_watts: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultTruth {
    pub node: String,
    pub gpu: u32,
    pub cause: FaultKind,
    pub start: f64,
    pub end: Option<f64>,
    /// Factor by which an iteration of the GPU's job takes longer at the fault's start, if a job runs then; at least 1.
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
    let first = segments[0].iteration;
    let last = segments[segments.len() - 1].iteration;
    JobTruth {
        name: job.name.clone(),
        gpus: gpus.len() as u32,
        start: job.start,
        end: job.end,
        start_delta_watts: mean(job.start, first) - mean(job.start - first, first),
        end_delta_watts: job.end.map(|end| mean(end, last) - mean(end - last, last)),
        segments: segments
            .iter()
            .map(|segment| {
                // Later than any jitter, so that every node is in the segment.
                let inside = segment.from + 0.06;
                let (a, b) = gpus.iter().fold((0.0, 0.0), |(a, b), (_, gpu)| {
                    let (cosine, sine) = gpu.track().fundamental(inside);
                    (a + cosine, b + sine)
                });
                SegmentTruth {
                    from: segment.from,
                    to: segment.to.is_finite().then_some(segment.to),
                    iteration_hz: 1.0 / segment.iteration,
                    fundamental_watts: 2.0 * a.hypot(b),
                    mean_watts: mean(segment.from, segment.iteration.min(segment.to - segment.from)),
                }
            })
            .collect(),
    }
}

fn faults(world: &World) -> Vec<FaultTruth> {
    let scenario = world.scenario();
    let slowdown = |node: u32, t: f64, stretch: f64| {
        let job = scenario.jobs.iter().find(|job| job.holds(node) && (job.start..job.end_or_forever()).contains(&t))?;
        let normal: f64 = job.phases.iter().map(|p| p.seconds).sum();
        let compute: f64 = job.phases.iter().filter(|p| p.kind == crate::scenario::PhaseKind::Compute).map(|p| p.seconds).sum();
        Some((normal + compute * (stretch - 1.0)) / normal)
    };
    scenario
        .faults
        .iter()
        .map(|fault| FaultTruth {
            node: Scenario::node_name(fault.node),
            gpu: fault.gpu,
            cause: fault.kind,
            start: fault.start,
            end: fault.end,
            slowdown: slowdown(fault.node, fault.start, fault.stretch()).unwrap_or(1.0),
        })
        .collect()
}
