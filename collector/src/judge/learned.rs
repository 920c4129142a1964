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
