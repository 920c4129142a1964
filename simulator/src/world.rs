//! The analytic world: what a GPU does at a moment is a pure function of the scenario and the time.

use std::sync::Arc;

use crate::scenario::{Job, Scenario};
use work::Nature;

mod gpu;
mod heat;
mod job;
mod profile;
mod random;
mod track;
mod work;

pub use gpu::{Gpu, History, reason};
pub use job::{Activity, Pace, Segment, timeline};
pub use profile::{Channel, Levels};
pub use track::Track;

/// Watts of an H100 without a process: 74 to 78 measured (grantwilkins/training_profile).
pub const IDLE_WATTS: f64 = 75.0;
/// Watts of an H100 whose process does something else, at full clock (the same: 142 while it saves a checkpoint).
pub const HOST_WATTS: f64 = 142.0;
/// MHz of the streaming multiprocessors at full clock.
pub const MAX_CLOCK: f64 = 1980.0;
/// MHz of the streaming multiprocessors without a process.
pub const IDLE_CLOCK: f64 = 345.0;
/// MHz of the memory.
pub const MEMORY_CLOCK: u32 = 2619;

/// A scenario with everything that follows from it.
#[derive(Debug, Clone)]
pub struct World {
    scenario: Arc<Scenario>,
    /// One per job.
    timelines: Vec<Vec<Segment>>,
}

impl World {
    pub fn new(scenario: Scenario) -> Self {
        let timelines = scenario.jobs.iter().map(|job| timeline(job, &scenario.faults)).collect();
        Self { scenario: Arc::new(scenario), timelines }
    }

    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What a job does when, one entry for each stretch of constant speed.
    pub fn segments(&self, job: usize) -> &[Segment] {
        &self.timelines[job]
    }

    /// Seconds, 0.005 to 0.05, by which everything on a node runs late.
    pub fn jitter(&self, node: u32) -> f64 {
        0.005 + 0.045 * random::unit(self.scenario.seed, &[1, u64::from(node)])
    }

    /// One GPU.
    pub fn gpu(&self, node: u32, index: u32) -> Gpu {
        let track = Track::new(self, node, index);
        let held = (0..self.scenario.jobs.len()).filter(|job| self.scenario.jobs[*job].holds(node));
        let working = held.filter_map(|job| self.running(job)).collect();
        Gpu::new(Arc::clone(&self.scenario), node, index, track, working)
    }

    /// From when to when (s) a job's processes are there; a lost GPU may end it before its time.
    pub fn running(&self, job: usize) -> Option<(f64, f64)> {
        let segments = self.segments(job);
        Some((segments.first()?.from, segments.last()?.to))
    }

    /// The job that holds a node at scenario time `t` (s).
    pub fn job_at(&self, node: u32, t: f64) -> Option<&Job> {
        let runs = |job: usize| self.running(job).is_some_and(|(from, to)| from <= t && t < to);
        self.scenario.jobs.iter().enumerate().find(|(i, job)| job.holds(node) && runs(*i)).map(|(_, job)| job)
    }

    /// All GPUs of a node.
    pub fn node(&self, node: u32) -> Vec<Gpu> {
        (0..self.scenario.gpus_per_node).map(|index| self.gpu(node, index)).collect()
    }

    /// True board power (W) of a GPU at scenario time `t` (s).
    pub fn power_watts(&self, node: u32, index: u32, t: f64) -> f64 {
        self.gpu(node, index).at(t)[Channel::Watts as usize]
    }

    /// True board power (W) of all GPUs together, mean from `from` to `to` (s of scenario time).
    pub fn cluster_power_mean(&self, from: f64, to: f64) -> f64 {
        let gpus = (0..self.scenario.nodes).flat_map(|node| self.node(node));
        gpus.map(|gpu| gpu.track().mean(from, to)[Channel::Watts as usize]).sum()
    }

    /// What a GPU has of its own.
    fn nature(&self, node: u32, index: u32) -> Nature {
        let (seed, variety) = (self.scenario.seed, self.scenario.variety);
        let key = |what: u64| [what, u64::from(node), u64::from(index)];
        let gain = 1.0 + variety.watts * random::signed(seed, &key(2));
        Nature {
            gain,
            idle_watts: IDLE_WATTS * (1.0 + variety.idle_watts * random::signed(seed, &key(3))),
            clock: MAX_CLOCK * (1.0 - variety.clock * random::unit(seed, &key(4))),
            waiting: self.scenario.waiting,
            first: false,
        }
    }
}

#[cfg(test)]
mod tests;
