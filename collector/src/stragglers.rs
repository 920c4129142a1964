//! align ─▶ **stragglers** ─▶ incidents
//!
//! In a synchronous job everybody's step lasts as long as the slowest one's: T = max(C + o) + M, with C compute, o host gaps, M
//! communication. Who makes the others wait does not wait. So the quantity is the share of the step that a GPU is *occupied*,
//! A = (C + o) / T ([`occupancy`]): busy SMs beyond what spinning in a collective shows, plus the time without any kernel.
//! When T grows, A falls by the same factor for everyone but the culprit, whatever its role; so in logarithms
//!
//! ```text
//! d = (ln A − median of the job) − the GPU's own remembered offset
//! ```
//!
//! is near 0 for every victim and ln of the culprit's own slowdown for the culprit ([`job`]). `d` in robust deviations of the
//! job is summed up (a one-sided CUSUM), so that a burst does not suffice; a suspect is named only where the job did slow
//! down by it, where the suspects are one GPU or one node, and, while offsets are not learned yet, only with a hard fact.
//! Why it is slow is read from what changed on it and not on its peers ([`cause`]).

pub mod cause;
pub mod facts;
pub mod job;
pub mod occupancy;
pub mod pace;
pub mod window;

pub use cause::{Cause, Verdict};
pub use job::{Finding, JobJudge};

use crate::align::seconds::Second;
use crate::fleet::{Fleet, GpuSlot, JobSlot};
use serde::{Deserialize, Serialize};

/// All jobs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StragglerJudge {
    jobs: Vec<JobJudge>,
}

impl StragglerJudge {
    /// Takes one finished second: its columns, and each GPU's job. Gives what it shows, job by job.
    pub fn judge(
        &mut self,
        second: i64,
        gpus: &Second,
        nodes: Option<&Second>,
        power: &[f32],
        job: &[Option<u32>],
        fleet: &Fleet,
    ) -> Vec<Finding> {
        let count = job.iter().flatten().max().map_or(0, |&last| last as usize + 1);
        if self.jobs.len() < count {
            self.jobs.resize_with(count, JobJudge::default);
        }
        let mut members = vec![Vec::new(); self.jobs.len()];
        for (gpu, job) in job.iter().enumerate() {
            if let Some(job) = job {
                members[*job as usize].push(GpuSlot(gpu as u32));
            }
        }
        let mut findings = Vec::new();
        for (index, (judge, members)) in self.jobs.iter_mut().zip(&members).enumerate() {
            let input = job::Input { second, gpus, nodes, power, members, fleet };
            findings.extend(judge.judge(JobSlot(index as u32), &input));
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
