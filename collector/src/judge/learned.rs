//! What the judging has learned of single GPUs and nodes, in a form that outlives its checkpoint.
//!
//! A checkpoint holds all of it, and more. But one may be lost, or of another version that begins anew; then what a GPU showed
//! while it was healthy is still known, and one that has been slow all the while is not taken for healthy.

use super::Judge;
use crate::fleet::{GpuSlot, JobSlot, NodeSlot};
use std::borrow::Cow;

/// By how much of its job's step a GPU is occupied longer than its node's median.
const GPU_OFFSET: &str = "gpu_offset";
/// Likewise a node, than the job's other nodes.
const NODE_OFFSET: &str = "node_offset";
/// What a node draws beside its boards, watts; and for each watt of them.
const NODE_WATTS: [&str; 2] = ["node_offset_watts", "node_gain"];
/// Likewise the site's meters, to the sum of the nodes.
const METER_WATTS: [&str; 2] = ["meter_offset_watts", "meter_gain"];

/// One figure. What does not apply is empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    pub what: Cow<'static, str>,
    pub job: String,
    pub node: String,
    pub gpu: Option<u8>,
    pub value: f64,
}

impl Judge {
    pub fn learned(&self) -> Vec<Lesson> {
        let fleet = &self.fleet;
        let mut lessons = Vec::new();
        let node_name = |node: NodeSlot| fleet.node_name(node).to_owned();
        let job_name = |job: JobSlot| fleet.job_name(job).to_owned();
        self.stragglers.offsets(fleet, |job, gpu, node, value| {
            let (what, index) = match gpu {
                Some(GpuSlot(gpu)) => (GPU_OFFSET, Some(fleet.gpus()[gpu as usize].index)),
                None => (NODE_OFFSET, None),
            };
            lessons.push(Lesson { what: what.into(), job: job_name(job), node: node_name(node), gpu: index, value });
        });
        let nodes = (0..fleet.nodes().len() as u32).map(NodeSlot);
        let calibrations = nodes.filter_map(|node| Some((NODE_WATTS, node_name(node), self.node_calibration(node)?)));
        let meter = self.meter_calibration().map(|calibration| (METER_WATTS, String::new(), calibration));
        for (names, node, calibration) in calibrations.chain(meter) {
            for (what, value) in names.into_iter().zip([calibration.offset_watts, calibration.gain]) {
                lessons.push(Lesson { what: what.into(), job: String::new(), node: node.clone(), gpu: None, value });
            }
        }
        lessons.retain(|lesson| lesson.value.is_finite());
        lessons
    }

    /// After a restart: what was learned before. It counts where the checkpoint has nothing of it.
    pub fn remember(&mut self, lessons: Vec<Lesson>) {
        let is_offset = |lesson: &Lesson| [GPU_OFFSET, NODE_OFFSET].contains(&lesson.what.as_ref());
        let offsets = lessons.into_iter().filter(is_offset);
        self.stragglers.remember(offsets.map(|lesson| ((lesson.job, lesson.node, lesson.gpu), lesson.value)).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::GpuMetric;
    use crate::judge::JudgeConfig;
    use gridstep_wire::Micros;

    const GPUS: u32 = 32;

    /// A job of four nodes, all alike; fed until offsets are known.
    fn learned(remembered: Vec<Lesson>) -> Vec<Lesson> {
        let mut judge = Judge::new(JudgeConfig::default(), &[]);
        for node in 0..GPUS / 8 {
            let node = judge.fleet_mut().node(&format!("node{node}"));
            (0..8).for_each(|gpu| _ = judge.fleet_mut().gpu(node, gpu));
        }
        let job = judge.fleet_mut().job("job");
        judge.remember(remembered);
        for second in 0..250 {
            for gpu in 0..GPUS {
                let ts = Micros((1_780_000_000 + second) * 1_000_000);
                judge.advance(ts);
                judge.put_gpu_job(GpuSlot(gpu), Some(job));
                let noise = f64::from((second as u32 * 7919 + gpu * 104_729) % 101) / 101.0 * 0.01;
                judge.put_gpu(GpuSlot(gpu), GpuMetric::SmActive, ts, 0.7 + noise);
                judge.put_gpu(GpuSlot(gpu), GpuMetric::Utilization, ts, 1.0);
                judge.put_gpu_power(GpuSlot(gpu), ts, 500.0 + noise);
            }
            let learned = judge.learned();
            if !learned.is_empty() {
                return learned;
            }
        }
        panic!("nothing was learned");
    }

    fn offset(lessons: &[Lesson], node: &str, gpu: u8) -> f64 {
        let is_it = |lesson: &&Lesson| lesson.what == GPU_OFFSET && lesson.node == node && lesson.gpu == Some(gpu);
        lessons.iter().find(is_it).unwrap_or_else(|| panic!("no {node} {gpu} in {lessons:?}")).value
    }

    #[test]
    fn what_was_learned_before_counts_where_a_judging_begins_anew() {
        let anew = learned(Vec::new());
        assert_eq!(anew.iter().filter(|lesson| lesson.what == GPU_OFFSET && lesson.job == "job").count(), GPUS as usize);
        assert!(offset(&anew, "node1", 2).abs() < 0.002, "{anew:?}");
        let lesson = Lesson { what: GPU_OFFSET.into(), job: "job".into(), node: "node1".into(), gpu: Some(2), value: 0.004 };
        let other = Lesson { job: "another".into(), gpu: Some(3), ..lesson.clone() };
        let remembered = learned(vec![lesson, other]);
        assert!((offset(&remembered, "node1", 2) - 0.004).abs() < 1e-6);
        assert!((offset(&remembered, "node1", 3) - offset(&anew, "node1", 3)).abs() < 1e-6);
    }
}
