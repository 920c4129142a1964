//! A job that has come to a stop: a collective that does not end. Everybody spins, for far longer than the job ever did, but those
//! that did not arrive.

use super::{JobFinding, occupancy};
use crate::fleet::{GpuMetric, GpuSlot, JobSlot};
use crate::stragglers::job::Input;
use serde::{Deserialize, Serialize};

/// Seconds that a stop lasts at least; times the longest that the job ever spun, if that is longer; in steps: within two whole ones a job
/// that works has computed.
const LEAST: usize = 52;
const LONGER: f64 = 1.5;
const STEPS: usize = 2;
/// Share of computing that a collective's own kernels look like: how many SMs spin differs from one job to the next.
const SPINS: f64 = 0.12;
/// The job's share of members that spin.
const MOST: f64 = 0.5;
/// More than these that do not spin are no few that did not arrive.
const FEW: usize = 16;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stall {
    seconds: usize,
    /// The longest stretch of spinning that ended.
    longest: usize,
}

impl Stall {
    /// Takes one second; says when the job has stopped.
    pub fn take(&mut self, job: JobSlot, input: &Input<'_>, age: usize, unit: usize, busy: f64) -> Option<JobFinding> {
        if busy > SPINS || age < 30 {
            self.longest = self.longest.max(std::mem::take(&mut self.seconds));
            return None;
        }
        let utilization = input.gpus.column(GpuMetric::Utilization as usize);
        let spins = |gpu: &&GpuSlot| {
            let share = occupancy::of(input.gpus, gpu.0 as usize);
            share.is_some_and(|share| share < 2.0 * SPINS) && utilization.get(gpu.0 as usize).is_some_and(|&share| share > 0.9)
        };
        if (input.members.iter().filter(spins).count() as f64) < MOST * input.members.len() as f64 {
            // They idle: the job has ended, or writes.
            self.seconds = 0;
            return None;
        }
        self.seconds += 1;
        let least = LEAST.max(STEPS * unit).max((LONGER * self.longest as f64) as usize);
        if self.seconds < least || !(self.seconds - least).is_multiple_of(30) {
            return None;
        }
        // On their hosts, or in a kernel that does not end.
        let away = |gpu: &&GpuSlot| {
            let share = occupancy::of(input.gpus, gpu.0 as usize);
            share.is_some_and(|share| share > 0.5) || utilization.get(gpu.0 as usize).is_some_and(|&share| share < 0.1)
        };
        let missing: Vec<GpuSlot> = input.members.iter().filter(away).copied().collect();
        let at = input.end();
        Some(JobFinding {
            job,
            cause: "stalled",
            since: at - self.seconds as i64 * 1_000_000,
            at,
            slowdown_ratio: 1.0,
            missing: if missing.len() <= FEW { missing } else { Vec::new() },
            stage: Vec::new(),
            gpus: input.members.len(),
        })
    }
}
