//! What is simulated: a TOML file.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

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
    pub cost: Cost,
    pub sensor: Sensor,
    #[serde(rename = "job")]
    pub jobs: Vec<Job>,
    #[serde(rename = "fault")]
    pub faults: Vec<Fault>,
}

impl Default for Scenario {
    /// One node of eight GPUs in steady training.
    fn default() -> Self {
        let phase = |kind, seconds, watts, sm_active| Phase {
            kind,
            seconds,
            watts,
            sm_active,
            tensor_active: 0.6 * sm_active,
            dram_active: 0.4 * sm_active,
            nvlink_gib_s: if kind == PhaseKind::Communicate { 220.0 } else { 30.0 },
            pcie_gib_s: if kind == PhaseKind::Communicate { 20.0 } else { 2.0 },
        };
        Self {
            seed: 1,
            nodes: 1,
            gpus_per_node: 8,
            driver_version: "580.95.05".to_owned(),
            sample_clock: SampleClock::Realtime,
            started_at: None,
            process_pids: vec![4242],
            cost: Cost::default(),
            sensor: Sensor::default(),
            jobs: vec![Job {
                name: "steady".to_owned(),
                first_node: 0,
                node_count: 1,
                start: 0.0,
                end: None,
                phases: vec![phase(PhaseKind::Compute, 2.25, 580.0, 0.92), phase(PhaseKind::Communicate, 0.75, 240.0, 0.2)],
            }],
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

/// What each library call costs its caller, in microseconds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cost {
    /// Spent computing.
    pub cpu_us: u64,
    /// Spent asleep.
    pub wall_us: u64,
}

/// How the power sensor turns true watts into readings.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sensor {
    /// Length of the window, in milliseconds, that an instantaneous reading averages.
    pub window_ms: f64,
    /// Time between two publications, in milliseconds.
    pub period_ms: f64,
    /// Largest relative error of a GPU's sensor; each GPU has its own constant one.
    pub gain: f64,
}

impl Default for Sensor {
    fn default() -> Self {
        Self { window_ms: 25.0, period_ms: 100.0, gain: 0.05 }
    }
}

/// A training job that holds whole nodes and advances in lockstep.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    pub name: String,
    #[serde(default)]
    pub first_node: u32,
    pub node_count: u32,
    #[serde(default)]
    pub start: f64,
    /// Absent: runs for ever.
    pub end: Option<f64>,
    /// One iteration.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
}

impl Job {
    /// Whether the job holds this node.
    pub fn holds(&self, node: u32) -> bool {
        (self.first_node..self.first_node.saturating_add(self.node_count)).contains(&node)
    }

    /// End of the job in seconds, infinite if it has none.
    pub fn end_or_forever(&self) -> f64 {
        self.end.unwrap_or(f64::INFINITY)
    }
}

/// A part of an iteration, the same on every GPU of the job.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    pub kind: PhaseKind,
    pub seconds: f64,
    /// Board power of one GPU.
    pub watts: f64,
    /// Share of streaming-multiprocessor cycles, 0 to 1; likewise the next two.
    #[serde(default)]
    pub sm_active: f64,
    #[serde(default)]
    pub tensor_active: f64,
    #[serde(default)]
    pub dram_active: f64,
    /// Each direction.
    #[serde(default)]
    pub nvlink_gib_s: f64,
    #[serde(default)]
    pub pcie_gib_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseKind {
    /// Stretched by a slowing fault.
    Compute,
    Spin,
    Communicate,
    Checkpoint,
    Idle,
}

/// Something wrong with one GPU from `start` to `end`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: FaultKind,
    pub node: u32,
    pub gpu: u32,
    pub start: f64,
    /// Absent: for ever.
    pub end: Option<f64>,
    /// Share of the compute speed that is lost, 0 to below 1.
    #[serde(default)]
    pub depth: f64,
    /// By kind: `power_cap` watts, `slow_call` milliseconds, `xid` the code, `ecc` and `nvlink_errors` errors a second,
    /// `pcie_width` lanes.
    #[serde(default)]
    pub value: f64,
}

impl Fault {
    /// Whether the fault is on at scenario time `t` (s).
    pub fn active(&self, t: f64) -> bool {
        self.start <= t && t < self.end_or_forever()
    }

    /// End of the fault in seconds, infinite if it has none.
    pub fn end_or_forever(&self) -> f64 {
        self.end.unwrap_or(f64::INFINITY)
    }

    /// Seconds that the fault has been on by scenario time `t` (s).
    pub fn elapsed(&self, t: f64) -> f64 {
        (t.min(self.end_or_forever()) - self.start).max(0.0)
    }

    /// Factor by which the GPU's compute takes longer; 1 if it does not.
    pub fn stretch(&self) -> f64 {
        match self.kind {
            FaultKind::Thermal | FaultKind::ClockLock | FaultKind::PowerCap | FaultKind::PowerBrake | FaultKind::PcieWidth => {
                1.0 / (1.0 - self.depth)
            }
            _ => 1.0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    Thermal,
    ClockLock,
    PowerCap,
    PowerBrake,
    LostGpu,
    HungCall,
    SlowCall,
    Xid,
    Ecc,
    PcieWidth,
    NvlinkErrors,
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

    /// Name of a node.
    pub fn node_name(node: u32) -> String {
        format!("node{node:05}")
    }

    /// Refuses what cannot be simulated.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!((1..=MAX_GPUS).contains(&self.gpus_per_node), "gpus_per_node must be from 1 to {MAX_GPUS}");
        ensure!(self.sensor.period_ms > 0.0 && self.sensor.window_ms > 0.0, "the sensor's window and period must be positive");
        for (i, job) in self.jobs.iter().enumerate() {
            ensure!(job.first_node.saturating_add(job.node_count) <= self.nodes, "job {}: nodes beyond the cluster", job.name);
            ensure!(job.phases.iter().all(|p| p.seconds >= 0.0), "job {}: a phase of negative length", job.name);
            ensure!(job.phases.iter().map(|p| p.seconds).sum::<f64>() > 0.0, "job {}: an iteration takes no time", job.name);
            ensure!(job.start < job.end_or_forever(), "job {}: ends before it starts", job.name);
            for other in &self.jobs[..i] {
                let apart_in_time = job.start >= other.end_or_forever() || other.start >= job.end_or_forever();
                let apart_in_space =
                    job.first_node >= other.first_node + other.node_count || other.first_node >= job.first_node + job.node_count;
                ensure!(apart_in_time || apart_in_space, "jobs {} and {} hold the same node", other.name, job.name);
            }
        }
        for fault in &self.faults {
            ensure!(fault.node < self.nodes && fault.gpu < self.gpus_per_node, "a fault on a GPU that does not exist");
            ensure!((0.0..1.0).contains(&fault.depth), "a fault's depth must be from 0 to below 1");
        }
        Ok(())
    }
}
