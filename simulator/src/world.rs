//! The analytic world: what a GPU does at a moment is a pure function of the scenario and the time.

use std::sync::Arc;

use crate::scenario::Scenario;

mod gpu;
mod job;
mod random;
mod track;

pub use gpu::{Gpu, History, reason};
pub use job::{Segment, timeline};
pub use track::{Channel, Levels, Track};

/// Watts of a GPU without work.
pub const IDLE_WATTS: f64 = 75.0;
/// Watts of a GPU that busily waits for others.
pub const SPIN_WATTS: f64 = 200.0;

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

    /// How a job's iterations lie in time, one entry for each stretch of constant speed.
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
        Gpu::new(Arc::clone(&self.scenario), node, index, track)
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

    /// Factor, near 1, by which a GPU really draws more power than the scenario says.
    fn gain(&self, node: u32, index: u32) -> f64 {
        1.0 + 0.025 * random::signed(self.scenario.seed, &[2, u64::from(node), u64::from(index)])
    }
}

#[cfg(test)]
mod tests;
