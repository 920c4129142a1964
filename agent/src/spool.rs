//! batcher ─▶ **spool** ─▶ uplink
//!
//! Batches that the collector has not made durable yet, oldest first, bounded in bytes. When it is full the oldest go, and
//! are counted: what is recent matters more.

use gridstep_wire::pb;
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// `[spool]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Encoded bytes of unacknowledged batches kept in memory.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_bytes: 64 << 20 }
    }
}

/// Batches and what gives meaning to their ids.
#[derive(Debug)]
pub struct Spool {
    /// Names the numbering of this run of the agent.
    pub id: u64,
    max_bytes: usize,
    state: Mutex<State>,
    /// Something new to send.
    pub grown: Notify,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<(Arc<pb::Batch>, usize)>,
    bytes: usize,
    last_sequence: u64,
    declared: pb::Declare,
    hello: pb::Hello,
}

/// What a push did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Encoded size of the batch.
    pub bytes: usize,
    /// What had to go to make room for it.
    pub dropped_batches: u64,
    pub dropped_samples: u64,
}

/// Sample values in a batch.
pub(crate) fn samples(batch: &pb::Batch) -> u64 {
    batch.blocks.iter().flat_map(|block| &block.columns).map(|column| column.delta.len() as u64).sum()
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub batches: usize,
    pub bytes: usize,
}

impl Config {
    pub(crate) fn faults(&self) -> Vec<String> {
        if self.max_bytes >= 1 << 20 {
            return Vec::new();
        }
        vec![format!("spool.max_bytes = {}: must be at least 1048576", self.max_bytes)]
    }
}

impl Spool {
    pub fn new(max_bytes: usize) -> Self {
        Self { id: rand::random(), max_bytes, state: Mutex::default(), grown: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers the batch and keeps it; the oldest make room.
    pub fn push(&self, mut batch: pb::Batch) -> Pushed {
        let mut state = self.lock();
        state.last_sequence += 1;
        batch.sequence = state.last_sequence;
        let bytes = batch.encoded_len();
        state.batches.push_back((Arc::new(batch), bytes));
        state.bytes += bytes;
        let mut pushed = Pushed { bytes, ..Pushed::default() };
        while state.bytes > self.max_bytes && state.batches.len() > 1 {
            if let Some((batch, bytes)) = state.batches.pop_front() {
                state.bytes -= bytes;
                pushed.dropped_batches += 1;
                pushed.dropped_samples += samples(&batch);
            }
        }
        drop(state);
        self.grown.notify_one();
        pushed
    }

    /// The collector keeps everything up to here: let go of it.
    pub fn durable(&self, sequence: u64) {
        let mut state = self.lock();
        while state.batches.front().is_some_and(|(batch, _)| batch.sequence <= sequence) {
            if let Some((_, bytes)) = state.batches.pop_front() {
                state.bytes -= bytes;
            }
        }
    }

    /// The oldest batch after `sequence`.
    pub fn after(&self, sequence: u64) -> Option<Arc<pb::Batch>> {
        let state = self.lock();
        let index = state.batches.partition_point(|(batch, _)| batch.sequence <= sequence);
        state.batches.get(index).map(|(batch, _)| batch.clone())
    }

    /// Who speaks, with the present state of the numbering.
    pub fn hello(&self, node: &str) -> pb::Hello {
        let state = self.lock();
        let oldest_sequence = state.batches.front().map_or(state.last_sequence + 1, |(batch, _)| batch.sequence);
        let own = (node.to_owned(), self.id, oldest_sequence);
        pb::Hello {
            node: own.0,
            spool: own.1,
            oldest_sequence,
            agent_version: env!("CARGO_PKG_VERSION").into(),
            ..state.hello.clone()
        }
    }

    /// What is known of node and driver.
    pub fn identify(&self, boot: String, driver_version: String, nvml_version: String) {
        let mut state = self.lock();
        state.hello = pb::Hello { boot, driver_version, nvml_version, ..Default::default() };
    }

    /// Adds to what is declared; ids keep their meaning.
    pub fn declare(&self, more: pb::Declare) {
        let mut state = self.lock();
        for entity in more.entities {
            state.declared.entities.retain(|known| known.id != entity.id);
            state.declared.entities.push(entity);
        }
        state.declared.metrics.extend(more.metrics);
        state.declared.jobs.extend(more.jobs);
    }

    pub fn declared(&self) -> pb::Declare {
        self.lock().declared.clone()
    }

    pub fn level(&self) -> Level {
        let state = self.lock();
        Level { batches: state.batches.len(), bytes: state.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is pushed and acknowledged: nothing is lost that fits, order holds, the bound holds.
        #[test]
        fn keeps_the_newest_in_order(steps in proptest::collection::vec((1usize..400, 0u64..60), 1..120)) {
            let spool = Spool::new(4000);
            let mut durable = 0;
            for (size, acknowledge) in steps {
                let event = pb::Event { detail: "x".repeat(size), ..Default::default() };
                spool.push(pb::Batch { events: vec![event], ..Default::default() });
                durable = durable.max(acknowledge);
                spool.durable(durable);
                let level = spool.level();
                prop_assert!(level.bytes <= 4000);
                let mut at = durable;
                let mut count = 0;
                while let Some(batch) = spool.after(at) {
                    prop_assert!(batch.sequence > at);
                    prop_assert!(count == 0 || batch.sequence == at + 1);
                    at = batch.sequence;
                    count += 1;
                }
                prop_assert_eq!(count, level.batches);
            }
        }
    }
}
