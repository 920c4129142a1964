//! ingest, replay ─▶ **jobs** ─▶ align
//!
//! Rows repeat their job; the judging wants to hear of changes only.

use crate::fleet::{GpuSlot, JobSlot, NodeSlot};
use crate::judge::Judge;
use gridstep_wire::Micros;

/// Which job each GPU and node was last said to work for.
#[derive(Debug, Default)]
pub(crate) struct KnownJobs {
    /// By slot; None: nothing said yet, Some(None): idle.
    gpus: Vec<Option<Option<JobSlot>>>,
    nodes: Vec<Option<Option<JobSlot>>>,
}

impl KnownJobs {
    pub(crate) fn gpu(&mut self, judge: &mut Judge, gpu: GpuSlot, ts: Micros, job: Option<JobSlot>) {
        if news(&mut self.gpus, gpu.0, job) {
            judge.put_gpu_job(gpu, ts, job);
        }
    }

    pub(crate) fn node(&mut self, judge: &mut Judge, node: NodeSlot, ts: Micros, job: Option<JobSlot>) {
        if news(&mut self.nodes, node.0, job) {
            judge.put_node_job(node, ts, job);
        }
    }
}

/// Sets the place to the value; whether that is news.
fn news<T: Copy + PartialEq>(places: &mut Vec<Option<T>>, index: u32, value: T) -> bool {
    let index = index as usize;
    if places.len() <= index {
        places.resize(index + 1, None);
    }
    places[index].replace(value) != Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_and_each_change_are_news() {
        let mut places = Vec::new();
        let heard = [None, None, Some(1), Some(1), None].map(|job: Option<u8>| news(&mut places, 3, job));
        assert_eq!(heard, [true, false, true, false, true]);
    }
}
