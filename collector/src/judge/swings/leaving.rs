//! Nodes that are gone for good: they are no longer filled in.
//!
//! A node that falls silent goes on in the sum ([`crate::align::imputation`]), for a while: it may be back any moment, and its power was not
//! lost with its agent. After [`GONE`], or [`DRAINED`] where the topology has taken it out of service, it is let go of: it is taken never to have drawn, the
//! past of the sum included, so that its leaving is no step. When it speaks again it is as one that is new.

use super::super::Judge;
use crate::align::power::PowerGrid;
use crate::fleet::GpuSlot;
use gridstep_wire::Micros;

/// Silence after which a source is let go of, seconds.
const GONE: f64 = 600.0;
/// … of a node that is out of service.
const DRAINED: f64 = 90.0;
/// It is looked for every so often, microseconds.
const PERIOD_US: i64 = 10_000_000;

impl Judge {
    pub(super) fn let_go(&mut self, now: Micros) {
        if self.swings.let_go_due.is_some_and(|due| now < due) {
            return;
        }
        self.swings.let_go_due = Some(now + PERIOD_US);
        self.swings.gone.retain(|&gpu| self.gpu_power.last(gpu as usize).is_none());
        let gpus = self.fleet.gpus().iter().enumerate();
        // One whose clock was set back by hours still speaks.
        let arrivals = &self.swings.arrivals;
        let gpus = gpus.filter(|(slot, _)| !arrivals.has_any_of(*slot));
        let all = self.fleet.gpus().len();
        let gone = leaving(&self.gpu_power, all, gpus.map(|(slot, gpu)| (slot, self.is_drained(gpu.node.0 as usize))), now);
        for source in gone {
            self.gpu_power.leave(source);
            self.swings.gone.insert(source as u32);
        }
        let nodes = 0..self.fleet.nodes().len();
        let all = nodes.len();
        let gone = leaving(&self.node_power, all, nodes.map(|node| (node, self.is_drained(node))), now);
        gone.into_iter().for_each(|source| self.node_power.leave(source));
    }

    fn is_drained(&self, node: usize) -> bool {
        let place = self.fleet.nodes().get(node).and_then(|node| node.place.as_ref());
        place.is_some_and(|place| !place.in_service)
    }

    /// GPUs that were let go of, and by the topology ought to be there.
    pub(super) fn gone_in_service(&self) -> f64 {
        let expected = |&&gpu: &&u32| {
            let node = self.fleet.node_of(GpuSlot(gpu));
            self.fleet.nodes()[node.0 as usize].place.as_ref().is_some_and(|place| place.in_service)
        };
        self.swings.gone.iter().filter(expected).count() as f64
    }
}

/// Of sources, and whether they are out of service: those to be let go of. None, where half of `all` are silent: that is not the nodes' doing.
fn leaving(grid: &PowerGrid, all: usize, sources: impl Iterator<Item = (usize, bool)>, now: Micros) -> Vec<usize> {
    let (mut silent, mut leaving) = (0, Vec::new());
    for (source, is_drained) in sources {
        let Some(last) = grid.last(source) else { continue };
        let silence = now.since(last);
        silent += usize::from(silence >= DRAINED && !is_drained);
        if silence >= if is_drained { DRAINED } else { GONE } {
            leaving.push(source);
        }
    }
    if 2 * silent > all { Vec::new() } else { leaving }
}
