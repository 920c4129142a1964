//! A job that became slower, and no one GPU, node or rack makes the others wait: its own doing, or a stage's.

use super::JobFinding;
use super::accuse::{Scene, Suspects};
use super::job::{Input, JobJudge};
use crate::fleet::{JobSlot, NodeSlot};
use gridstep_wire::Micros;

/// A stage has to pace the others for so long, seconds and steps; in so many parts of that all along.
const STAGE_LONG: (usize, usize) = (30, 6);
const STAGE_PARTS: usize = 6;
/// And to slow the job by so much, as a share and in deviations of its speed.
const STAGE_SLOWDOWN: f64 = 0.03;
const STAGE_DEVIATIONS: f64 = 4.0;

impl JobJudge {
    /// Several nodes, all GPUs of each, wait least since the job became slower: a stage of a pipeline, or whatever else they have in common.
    /// One that has been the slowest all along is remembered so, and is how the job was made.
    pub(super) fn slow_stage(&self, scene: &Scene<'_>, suspects: &Suspects) -> Option<JobFinding> {
        let (window, stage) = (scene.window, &suspects.stage);
        let long = window >= STAGE_LONG.0 && scene.steps >= STAGE_LONG.1;
        if !self.learned || !long || stage.is_empty() || 2 * stage.len() > self.nodes.len() {
            return None;
        }
        let steady = |node: &u32| self.nodes.trace(*node).steady(window, STAGE_PARTS) == STAGE_PARTS;
        let step = self.pace.step();
        let seconds = (window as f64 / step).round() * step;
        let fall = self.speed.fall(seconds);
        let noise = self.speed.deviation(scene.scale, window as f64);
        let gap = suspects.stage_effect * self.level / (1.0 + suspects.stage_effect * self.level);
        let least = STAGE_SLOWDOWN.max(0.25 * gap).max(STAGE_DEVIATIONS * noise);
        if fall.is_nan() || fall < least || !stage.iter().all(steady) {
            return None;
        }
        let onset = stage.iter().map(|&node| self.nodes.trace(node).onset(window)).max().unwrap_or(window);
        let since = self.times.get(self.times.len().saturating_sub(onset)).copied().unwrap_or(scene.input.second);
        Some(JobFinding {
            job: scene.job,
            cause: "slow_stage",
            since: Micros(since * 1_000_000),
            at: scene.at,
            slowdown_ratio: fall,
            missing: Vec::new(),
            stage: stage.iter().map(|&node| NodeSlot(node)).collect(),
            gpus: scene.input.members.len(),
        })
    }

    pub(super) fn slow_everywhere(&self, job: JobSlot, at: Micros, input: &Input<'_>) -> Option<JobFinding> {
        let (slowdown, seconds) = self.speed.slow_for_long(self.pace.step())?;
        // Somebody was slow meanwhile.
        if self.suspected.is_some_and(|suspected| self.age - suspected < seconds) {
            return None;
        }
        Some(JobFinding {
            job,
            cause: "slow_everywhere",
            since: Micros((input.second - seconds as i64) * 1_000_000),
            at,
            slowdown_ratio: slowdown,
            missing: Vec::new(),
            stage: Vec::new(),
            gpus: input.members.len(),
        })
    }
}
