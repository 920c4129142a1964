//! align ─▶ **stragglers** ─▶ incidents
//!
//! In a synchronous job everybody's step lasts as long as the slowest one's: T = max(C + o) + M, with C compute, o host gaps, M
//! communication. Who makes the others wait does not wait. So the quantity is the share of the step that a GPU is *occupied*,
//! A = (C + o) / T ([`occupancy`]): busy SMs beyond what spinning in a collective shows, plus the time without any kernel.
//! When T grows, A falls by the same factor for everyone but the culprit, whatever its role. So
//!
//! ```text
//! x = (A − A of the others at the same instant) / A of the job − the member's own remembered offset
//! ```
//!
//! is near 0 for every victim and the culprit's own slowdown for the culprit. It is looked at twice: a GPU against its node, a node
//! against the others ([`reference`](mod@reference)), in windows of two steps to three minutes at once ([`windows`]); each length of window
//! has a noise of its own, which is learned ([`noise`]). Short windows find much soon, long ones little late. What makes a suspect a
//! culprit: [`accuse`]. Why it is slow is read from what changed on it and not on its peers ([`cause`]). How fast the job is shows in
//! the same figure ([`speed`]).

pub mod accuse;
mod blame;
pub mod cause;
mod convicted;
pub mod draw;
mod episodes;
pub mod facts;
pub mod job;
mod member;
mod moment;
pub mod noise;
pub mod occupancy;
pub mod pace;
pub mod reference;
mod roles;
mod roster;
pub mod speed;
pub mod stall;
pub mod trace;
pub mod unnamed;
mod whole;
mod windows;

pub use cause::{Cause, Verdict};
pub use job::JobJudge;
pub use member::Footprint;

use crate::align::seconds::Second;
use crate::fleet::{Fleet, GpuSlot, JobSlot, NodeSlot};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A suspect as of now.
#[derive(Debug, Clone)]
pub struct Finding {
    pub job: JobSlot,
    pub node: NodeSlot,
    /// None: the node as a whole.
    pub gpu: Option<GpuSlot>,
    /// Three or more nodes of it suffer together.
    pub rack: Option<String>,
    pub since: Micros,
    pub at: Micros,
    /// Enough to open an incident.
    pub alarm: bool,
    /// It rests on power alone, a rough measure of computing: nobody is paged by it.
    pub by_power: bool,
    /// 1 − speed with / speed without.
    pub slowdown_ratio: f64,
    /// The same by what it is occupied longer than its peers.
    pub gap: f64,
    /// In place of a slowdown, which is not known: the job's share of time without computing.
    pub communicates: Option<f64>,
    /// Robust deviations by which it waits less than its peers.
    pub score: f64,
    pub verdict: Verdict,
    pub now: facts::Row,
    pub peers: facts::Row,
    pub peer_count: usize,
    /// That the job holds.
    pub gpus: usize,
    /// Share of the job's GPUs that it rests on.
    pub completeness: f64,
}

/// What befalls a whole job.
#[derive(Debug, Clone)]
pub struct JobFinding {
    pub job: JobSlot,
    pub cause: &'static str,
    pub since: Micros,
    pub at: Micros,
    pub slowdown_ratio: f64,
    /// Who did not arrive, where that shows.
    pub missing: Vec<GpuSlot>,
    /// Whom all others wait for: a stage.
    pub stage: Vec<NodeSlot>,
    pub gpus: usize,
}

/// What the judging does without, to see what each part is worth (`gridstep-eval --without`). A collector has all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Without {
    /// Peers are all GPUs of the fleet, whatever their job.
    pub roles: bool,
    /// Nothing is remembered of a GPU: it is held to its peers alone.
    pub memory: bool,
    /// Seconds in which nobody computes count as all others.
    pub gate: bool,
    /// Who stands out is named, though the job is no slower and whether or not it lasts.
    pub corroboration: bool,
}

/// Offsets of before, by the names of job, node and GPU: whose judging begins anew, begins with these.
pub type Remembered = HashMap<(String, String, Option<u8>), f64>;

/// All jobs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StragglerJudge {
    jobs: Vec<JobJudge>,
    #[serde(skip)]
    remembered: Remembered,
    #[serde(skip)]
    without: Without,
}

impl StragglerJudge {
    pub fn new(without: Without) -> Self {
        Self { jobs: Vec::new(), remembered: Remembered::new(), without }
    }

    /// Every offset that is known: job, GPU (none: the node's own), node.
    pub fn offsets(&self, fleet: &Fleet, mut tell: impl FnMut(JobSlot, Option<GpuSlot>, NodeSlot, f64)) {
        for (job, judge) in (0..).map(JobSlot).zip(&self.jobs) {
            let (gpus, nodes) = judge.offsets();
            gpus.for_each(|(gpu, offset)| tell(job, Some(gpu), fleet.node_of(gpu), offset));
            nodes.for_each(|(node, offset)| tell(job, None, node, offset));
        }
    }

    pub fn remember(&mut self, remembered: Remembered) {
        self.remembered = remembered;
    }

    /// Takes one finished second: its columns, and each GPU's job. Gives what it shows, job by job.
    pub fn judge(
        &mut self,
        second: i64,
        gpus: &Second,
        nodes: Option<&Second>,
        power: &[f32],
        job: &[Option<u32>],
        fleet: &Fleet,
    ) -> (Vec<Finding>, Vec<JobFinding>) {
        let count = job.iter().flatten().max().map_or(0, |&last| last as usize + 1);
        if self.jobs.len() < count {
            self.jobs.resize_with(count, JobJudge::default);
        }
        let mut members = vec![Vec::new(); self.jobs.len()];
        for (gpu, job) in job.iter().enumerate() {
            if let Some(job) = job {
                let job = if self.without.roles { 0 } else { *job as usize };
                members[job].push(GpuSlot(gpu as u32));
            }
        }
        let mut findings = (Vec::new(), Vec::new());
        for (index, (judge, members)) in self.jobs.iter_mut().zip(&members).enumerate() {
            let (without, remembered) = (self.without, &self.remembered);
            let input = job::Input { second, gpus, nodes, power, members, fleet, without, remembered };
            let (stragglers, whole) = judge.judge(JobSlot(index as u32), &input);
            findings.0.extend(stragglers);
            findings.1.extend(whole);
        }
        findings
    }
}

/// The middle value; NaN where there is none. Reorders its argument.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let (middle, odd) = (values.len() / 2, values.len() % 2 == 1);
    let (lower, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return upper;
    }
    (lower.iter().copied().fold(f64::MIN, f64::max) + upper) / 2.0
}
