//! What runs: jobs, their steps and phases.

use serde::Deserialize;

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
    /// Seconds from the start in which the processes are there but no step runs yet.
    #[serde(default)]
    pub idle_before: f64,
    /// The same before the end.
    #[serde(default)]
    pub idle_after: f64,
    #[serde(default)]
    pub on_lost_gpu: OnLostGpu,
    /// Seconds for which the others wait for a lost GPU: the collective's timeout.
    #[serde(default = "ten_minutes")]
    pub stall_seconds: f64,
    /// Seconds from a stall's end to the first step of the restarted job.
    #[serde(default = "one_minute")]
    pub restart_seconds: f64,
    /// One step.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
}

/// PyTorch's default timeout of NCCL collectives.
fn ten_minutes() -> f64 {
    600.0
}

fn one_minute() -> f64 {
    60.0
}

/// What becomes of a job when one of its GPUs is lost: the others finish computing, wait for it in the next collective for
/// `stall_seconds`, and then …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLostGpu {
    /// … the job ends, as without a scheduler that restarts it.
    #[default]
    End,
    /// … it starts again after `restart_seconds`, without the GPU if that is still lost.
    Restart,
    /// The job never waited: it goes on without the GPU at once.
    Continue,
}

impl Job {
    /// 2.25 s of computing and 0.75 s of communicating, for ever, on the first node.
    pub(super) fn steady() -> Self {
        let phase = |kind, seconds, watts, sm_active| Phase {
            kind,
            seconds,
            watts: Some(watts),
            sm_active,
            tensor_active: 0.6 * sm_active,
            dram_active: 0.4 * sm_active,
            nvlink_gib_s: if kind == PhaseKind::Communicate { 220.0 } else { 30.0 },
            pcie_gib_s: if kind == PhaseKind::Communicate { 20.0 } else { 2.0 },
            every_steps: None,
            every_seconds: None,
            writers: Writers::default(),
        };
        Self {
            name: "steady".to_owned(),
            first_node: 0,
            node_count: 1,
            start: 0.0,
            end: None,
            idle_before: 0.0,
            idle_after: 0.0,
            on_lost_gpu: OnLostGpu::default(),
            stall_seconds: ten_minutes(),
            restart_seconds: one_minute(),
            phases: vec![phase(PhaseKind::Compute, 2.25, 580.0, 0.92), phase(PhaseKind::Communicate, 0.75, 240.0, 0.2)],
        }
    }

    /// Whether the job holds this node.
    pub fn holds(&self, node: u32) -> bool {
        (self.first_node..self.first_node.saturating_add(self.node_count)).contains(&node)
    }

    /// End of the job in seconds, infinite if it has none. A lost GPU may end it before.
    pub fn end_or_forever(&self) -> f64 {
        self.end.unwrap_or(f64::INFINITY)
    }

    /// Seconds of a step without the rare phases, at full speed.
    pub fn step_seconds(&self) -> f64 {
        self.phases.iter().filter(|phase| !phase.rare()).map(|phase| phase.seconds).sum()
    }

    /// Steps from one occurrence of a phase to the next.
    fn interval(&self, phase: &Phase) -> u64 {
        match (phase.every_steps, phase.every_seconds) {
            (Some(steps), _) => u64::from(steps).max(1),
            (None, Some(seconds)) => (seconds / self.step_seconds()).round().max(1.0) as u64,
            (None, None) => 1,
        }
    }

    /// Steps after which everything repeats.
    pub(super) fn cycle_steps(&self) -> u64 {
        self.phases.iter().map(|phase| self.interval(phase)).fold(1, lcm)
    }

    /// The phases of all steps of a cycle, in order. A rare phase comes in the last step of its interval.
    pub(crate) fn phases_of_cycle(&self) -> impl Iterator<Item = &Phase> {
        let due = |step: u64, phase: &Phase| (step + 1).is_multiple_of(self.interval(phase));
        (0..self.cycle_steps()).flat_map(move |step| self.phases.iter().filter(move |phase| due(step, phase)))
    }
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b)
}

/// A part of a step, the same on every GPU of the job unless said otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    pub kind: PhaseKind,
    pub seconds: f64,
    /// Board power of one GPU. Needed where it computes or communicates, else as measured for the kind.
    pub watts: Option<f64>,
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
    /// Only in every so-manieth step.
    pub every_steps: Option<u32>,
    /// Only about this often, in whole steps at full speed.
    pub every_seconds: Option<f64>,
    /// Who is at work in a checkpoint.
    #[serde(default)]
    pub writers: Writers,
}

impl Phase {
    /// Whether the phase is left out of some steps.
    pub fn rare(&self) -> bool {
        self.every_steps.is_some_and(|steps| steps > 1) || self.every_seconds.is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseKind {
    /// Stretched by a slowing fault.
    Compute,
    /// Waits busily, as `[waiting]` says.
    Spin,
    Communicate,
    /// Hosts copy and write; no kernel runs where they do.
    Checkpoint,
    /// The processes are there, and no kernel runs.
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writers {
    /// Each GPU's process writes its shard.
    #[default]
    All,
    /// The job's first GPU's process writes; the others wait busily.
    First,
}
