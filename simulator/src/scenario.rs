//! What is simulated: a TOML file. simulator/README.md tells its keys.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

mod check;
mod fault;
mod fleet;
mod job;

pub use fault::{Fault, FaultKind, Hindrance, How};
pub use fleet::{Cost, GpuSpec, Samples, Sensor, Variety, Waiting};
pub use job::{Job, OnLostGpu, Phase, PhaseKind, Writers};

/// Environment variable: path of the scenario, TOML. Without it the default scenario runs.
pub const SCENARIO_ENV: &str = "GRIDSTEP_SIM_SCENARIO";
/// Environment variable: index of the node that this process sees, from 0.
pub const NODE_ENV: &str = "GRIDSTEP_SIM_NODE";
/// Environment variable: Unix seconds (fractions allowed) at which scenario time is 0; overrides `started_at`.
pub const START_ENV: &str = "GRIDSTEP_SIM_START";

/// Most GPUs that a node can have.
pub const MAX_GPUS: u32 = 64;

/// A whole simulated cluster. Times are seconds of scenario time unless said otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Seeds every pseudo-random choice: gains, histories, identities, jitter, noise.
    pub seed: u64,
    /// Number of nodes, named `node00000`, `node00001` and so on.
    pub nodes: u32,
    pub gpus_per_node: u32,
    pub driver_version: String,
    /// Which clock stamps the entries of the sample buffers.
    pub sample_clock: SampleClock,
    /// Unix seconds of scenario time 0; absent: the current hour's start.
    pub started_at: Option<f64>,
    /// Processes reported on every GPU that a job uses.
    pub process_pids: Vec<u32>,
    /// GPM metrics (NVML_GPM_METRIC_*) that this driver does not know: a request with one of them is refused as a whole.
    pub gpm_unknown: Vec<u32>,
    /// The boards have power smoothing, as Blackwell's.
    pub power_smoothing: bool,
    pub cost: Cost,
    pub sensor: Sensor,
    pub variety: Variety,
    pub waiting: Waiting,
    #[serde(rename = "gpu")]
    pub gpus: Vec<GpuSpec>,
    #[serde(rename = "job")]
    pub jobs: Vec<Job>,
    #[serde(rename = "fault")]
    pub faults: Vec<Fault>,
}

impl Default for Scenario {
    /// One node of eight GPUs in steady training.
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 1,
            gpus_per_node: 8,
            driver_version: "580.95.05".to_owned(),
            sample_clock: SampleClock::Realtime,
            started_at: None,
            process_pids: vec![4242],
            gpm_unknown: Vec::new(),
            power_smoothing: false,
            cost: Cost::default(),
            sensor: Sensor::default(),
            variety: Variety::default(),
            waiting: Waiting::default(),
            gpus: Vec::new(),
            jobs: vec![Job::steady()],
            faults: Vec::new(),
        }
    }
}

/// The clock of the sample buffers' time stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleClock {
    Realtime,
    Boottime,
}

impl Scenario {
    /// Reads and checks a scenario file.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no valid scenario", path.display()))
    }

    /// Parses and checks the text of a scenario file.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        // What the default scenario runs must not leak into a file that names no job.
        let mut scenario: Self = toml::from_str(text)?;
        let table: toml::Table = toml::from_str(text)?;
        if !table.contains_key("job") {
            scenario.jobs.clear();
        }
        scenario.check()?;
        Ok(scenario)
    }

    /// Refuses what cannot be simulated; the error names every such thing.
    pub fn check(&self) -> anyhow::Result<()> {
        check::check(self)
    }

    /// Name of a node.
    pub fn node_name(node: u32) -> String {
        format!("node{node:05}")
    }
}

#[cfg(test)]
mod tests;
