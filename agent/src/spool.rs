//! batcher ─▶ **spool** ─▶ uplink
//!
//! Batches that the collector has not made durable yet, oldest first, bounded in bytes. When it is full the oldest go, and
//! are counted: what is recent matters more.

use gridstep_wire::pb;
use prost::Message;
use prost::bytes::Bytes;
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

/// A batch that is kept, encoded.
#[derive(Debug, Clone)]
pub struct Kept {
    pub sequence: u64,
    pub bytes: Bytes,
    /// Values in it.
    samples: u64,
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
    shrunk: Notify,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Kept>,
    bytes: usize,
    last_sequence: u64,
    /// The collector has everything up to here, but may lose it.
    received: u64,
    declared: Arc<pb::Declare>,
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
        Self { id: rand::random(), max_bytes, state: Mutex::default(), grown: Notify::new(), shrunk: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers the batch and keeps it; the oldest make room.
    pub fn push(&self, mut batch: pb::Batch) -> Pushed {
        let mut state = self.lock();
        state.last_sequence += 1;
        batch.sequence = state.last_sequence;
        let kept = Kept { sequence: batch.sequence, samples: samples(&batch), bytes: batch.encode_to_vec().into() };
        let mut pushed = Pushed { bytes: kept.bytes.len(), ..Pushed::default() };
        state.bytes += kept.bytes.len();
        state.batches.push_back(kept);
        while state.bytes > self.max_bytes && state.batches.len() > 1 {
            if let Some(oldest) = state.let_go() {
                pushed.dropped_batches += 1;
                pushed.dropped_samples += oldest.samples;
            }
        }
        drop(state);
        self.grown.notify_one();
        pushed
    }

    /// The collector has everything up to `received`, and keeps everything up to `durable`: let go of that.
    pub fn acknowledge(&self, received: u64, durable: u64) {
        let mut state = self.lock();
        state.received = received;
        while state.batches.front().is_some_and(|batch| batch.sequence <= durable) {
            state.let_go();
        }
        drop(state);
        self.shrunk.notify_waiters();
    }

    /// Lets go of one batch that no collector will take; gives its number of values.
    pub fn discard(&self, sequence: u64) -> u64 {
        let mut state = self.lock();
        let Ok(index) = state.batches.binary_search_by_key(&sequence, |batch| batch.sequence) else { return 0 };
        let Some(batch) = state.batches.remove(index) else { return 0 };
        state.bytes -= batch.bytes.len();
        drop(state);
        self.shrunk.notify_waiters();
        batch.samples
    }

    /// Waits until the collector has everything.
    pub async fn delivered(&self) {
        loop {
            let shrunk = self.shrunk.notified();
            {
                let state = self.lock();
                if state.batches.back().is_none_or(|newest| newest.sequence <= state.received) {
                    return;
                }
            }
            shrunk.await;
        }
    }

    /// The oldest batch after `sequence`.
    pub fn after(&self, sequence: u64) -> Option<Kept> {
        let state = self.lock();
        let index = state.batches.partition_point(|batch| batch.sequence <= sequence);
        state.batches.get(index).cloned()
    }

    /// Who speaks, with the present state of the numbering.
    pub fn hello(&self, node: &str) -> pb::Hello {
        let state = self.lock();
        let oldest_sequence = state.batches.front().map_or(state.last_sequence + 1, |batch| batch.sequence);
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
        let known = &state.declared;
        if more.metrics.is_empty() && more.jobs.is_empty() && more.entities.iter().all(|entity| known.entities.contains(entity)) {
            return;
        }
        let declared = Arc::make_mut(&mut state.declared);
        for entity in more.entities {
            declared.entities.retain(|known| known.id != entity.id);
            declared.entities.push(entity);
        }
        declared.metrics.extend(more.metrics);
        declared.jobs.extend(more.jobs);
    }

    /// All that is declared; another allocation when something was added.
    pub fn declared(&self) -> Arc<pb::Declare> {
        self.lock().declared.clone()
    }

    pub fn level(&self) -> Level {
        let state = self.lock();
        Level { batches: state.batches.len(), bytes: state.bytes }
    }
}

impl State {
    /// Of the oldest batch.
    fn let_go(&mut self) -> Option<Kept> {
        let oldest = self.batches.pop_front()?;
        self.bytes -= oldest.bytes.len();
        Some(oldest)
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
                spool.acknowledge(durable, durable);
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
    fn batch(detail: &str) -> pb::Batch {
        pb::Batch { events: vec![pb::Event { detail: detail.into(), ..Default::default() }], ..Default::default() }
    }

    #[tokio::test]
    async fn delivered_is_what_was_received_or_discarded() {
        use std::time::Duration;
        let spool = Spool::new(4000);
        spool.delivered().await;
        spool.push(batch("a"));
        spool.push(batch("b"));
        spool.acknowledge(1, 0);
        assert!(tokio::time::timeout(Duration::ZERO, spool.delivered()).await.is_err());
        spool.discard(2);
        spool.delivered().await;
        // A collector that starts anew may have lost what it did not make durable.
        spool.acknowledge(0, 0);
        let acknowledged = async { spool.acknowledge(2, 1) };
        tokio::join!(spool.delivered(), acknowledged);
        assert_eq!(spool.level(), Level { batches: 0, bytes: 0 });
    }
}
