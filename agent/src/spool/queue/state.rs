//! What a queue consists of.

use gridstep_wire::pb;
use prost::bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::Instant;

/// Batches that are handed on at a time, encoded.
const CHUNK_BYTES: usize = 64 << 10;

/// A batch that is kept, encoded.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) sequence: u64,
    pub(crate) bytes: Bytes,
    /// Values in it.
    pub(in crate::spool) samples: u64,
    /// When it was made.
    pub(in crate::spool) at: Instant,
}

/// What gives meaning to batches: who speaks, and what its ids stand for.
#[derive(Debug, Clone, Default)]
pub(in crate::spool) struct Meaning {
    pub(in crate::spool) hello: pb::Hello,
    pub(in crate::spool) declared: Arc<pb::Declare>,
}

/// Batches on their way to the disk, oldest first.
#[derive(Debug)]
pub(in crate::spool) struct Load {
    pub(in crate::spool) meaning: Meaning,
    pub(in crate::spool) batches: Vec<Kept>,
}

#[derive(Debug)]
pub(in crate::spool) struct Generation {
    pub(super) spool: u64,
    /// None: live, and so has the meaning that there is now.
    pub(super) meaning: Option<Meaning>,
    pub(super) batches: VecDeque<Kept>,
    /// The collector has everything up to here, but may lose it.
    pub(super) received: u64,
    /// Everything up to here is on disk; 0: nothing is.
    pub(super) on_disk: u64,
    /// Everything up to here is in memory no more, as it is on disk; 0: nothing is.
    pub(super) moved: u64,
}

#[derive(Debug)]
pub(super) struct State {
    /// Oldest first; the last is live.
    pub(super) generations: VecDeque<Generation>,
    pub(super) bytes: usize,
    pub(super) last_sequence: u64,
    /// Since when no collector takes what is live. None: one does.
    pub(super) away_since: Option<Instant>,
    /// Everything goes to disk.
    pub(super) ending: bool,
    /// What is live is waited for: nothing comes after it.
    pub(super) is_last: bool,
}

impl Generation {
    pub(super) fn new() -> Self {
        Self { spool: rand::random(), meaning: None, batches: VecDeque::new(), received: 0, on_disk: 0, moved: 0 }
    }

    /// Batches that are in memory alone, the oldest first.
    pub(super) fn in_memory_alone(&self) -> impl Iterator<Item = &Kept> {
        self.batches.range(self.batches.partition_point(|batch| batch.sequence <= self.on_disk)..)
    }

    /// What is on disk is needed in memory no more.
    pub(super) fn release(&mut self) {
        self.batches.drain(..self.batches.partition_point(|batch| batch.sequence <= self.on_disk));
        self.moved = self.on_disk;
    }
}

impl State {
    pub(super) fn live(&mut self) -> &mut Generation {
        if self.generations.is_empty() {
            self.generations.push_back(Generation::new());
        }
        let last = self.generations.len() - 1;
        &mut self.generations[last]
    }

    pub(super) fn of(&mut self, spool: u64) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.spool == spool)
    }

    /// After batches were taken out: forgets what is empty and not live.
    pub(super) fn tidy(&mut self) {
        let live = self.live().spool;
        self.generations.retain(|generation| generation.spool == live || !generation.batches.is_empty());
        self.bytes = self.generations.iter().flat_map(|generation| &generation.batches).map(|batch| batch.bytes.len()).sum();
    }

    pub(super) fn oldest(&self) -> Option<&Kept> {
        self.generations.iter().find_map(|generation| generation.batches.front())
    }
}

/// The first of them, at least one.
pub(super) fn chunk<'a>(batches: impl Iterator<Item = &'a Kept>) -> Vec<Kept> {
    let mut bytes = 0;
    let fits = |batch: &&Kept| {
        bytes += batch.bytes.len();
        bytes <= CHUNK_BYTES || bytes == batch.bytes.len()
    };
    batches.take_while(fits).cloned().collect()
}
