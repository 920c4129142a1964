//! What one collector has not made durable: in memory, and behind that on disk.
//!
//! Batches are kept by generation: a numbering under which they are sent. The last one is live. Without a collector its batches are
//! soon on disk, lest a kill cost them, and stay in memory too: a collector that is back after a restart gets them in order, before what
//! is new, and judges them as if it had not been away. Later memory lets go of them. From then on the next stream begins another generation, and
//! what there is of the one before is backlog: the new does not wait for the old, and a batch keeps its name, by which the collector knows it.

mod state;

pub(crate) use state::Kept;
pub(super) use state::{Generation, Load, Meaning};

use super::Level;
use super::disk::Disk;
use super::message::Message;
use super::metrics::{QueueMetrics, Reason};
use gridstep_wire::pb;
use state::{State, chunk};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("batches that were to be sent went to disk: what is new goes over another stream")]
pub(crate) struct Torn;

#[derive(Debug)]
pub(crate) struct Queue {
    max_bytes: usize,
    disk_after: Duration,
    backlog_after: Duration,
    pub(super) disk: Option<Disk>,
    pub(crate) metrics: QueueMetrics,
    meaning: Arc<Mutex<Meaning>>,
    state: Mutex<State>,
    /// Something new to send.
    pub(crate) grown: Notify,
    shrunk: Notify,
    /// Something may have to go to disk.
    pub(super) pressed: Notify,
}

impl Queue {
    /// `rest` is what another queue had.
    pub(super) fn new(
        config: &super::Config,
        disk: Option<Disk>,
        rest: Vec<Generation>,
        meaning: Arc<Mutex<Meaning>>,
        metrics: QueueMetrics,
    ) -> Self {
        let generations = rest.into_iter().chain([Generation::new()]).collect();
        let mut state =
            State { generations, bytes: 0, last_sequence: 0, away_since: Some(Instant::now()), ending: false, is_last: false };
        state.tidy();
        Self {
            max_bytes: config.max_bytes,
            disk_after: config.disk_after,
            backlog_after: config.backlog_after,
            disk,
            metrics,
            meaning,
            state: Mutex::new(state),
            grown: Notify::new(),
            shrunk: Notify::new(),
            pressed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meaning(&self, spool: u64) -> Meaning {
        let mut meaning = self.meaning.lock().unwrap_or_else(PoisonError::into_inner).clone();
        meaning.hello.spool = spool;
        meaning
    }

    /// Keeps the batch; the oldest make room. Gives how many had to go.
    pub(super) fn push(&self, kept: Kept) -> u64 {
        let mut state = self.lock();
        state.last_sequence = kept.sequence;
        state.bytes += kept.bytes.len();
        state.live().batches.push_back(kept);
        let (mut batches, mut samples) = (0, 0);
        while state.bytes > self.max_bytes {
            let Some(oldest) = state.generations.iter_mut().find(|generation| !generation.batches.is_empty()) else { break };
            let Some(dropped) = oldest.batches.pop_front() else { break };
            if dropped.sequence <= oldest.on_disk {
                oldest.moved = dropped.sequence;
            } else {
                (batches, samples) = (batches + 1, samples + dropped.samples);
            }
            state.bytes -= dropped.bytes.len();
        }
        let pressed = self.is_pressed(&state);
        drop(state);
        self.metrics.drop(Reason::MemoryFull, batches, samples);
        self.grown.notify_one();
        if pressed {
            self.pressed.notify_one();
        }
        batches
    }

    /// Memory is nearly full.
    fn is_pressed(&self, state: &State) -> bool {
        state.bytes > self.max_bytes / 4 * 3
    }

    /// What a stream for the live generation says first. Another one begins if this one has holes.
    pub(crate) fn begin(&self) -> pb::Hello {
        let mut state = self.lock();
        if state.live().moved > 0 {
            self.seal(&mut state);
        }
        let spool = state.live().spool;
        let oldest_sequence = state.live().batches.front().map_or(0, |batch| batch.sequence);
        let oldest_sequence = if oldest_sequence == 0 { state.last_sequence + 1 } else { oldest_sequence };
        pb::Hello { oldest_sequence, ..self.meaning(spool).hello }
    }

    fn seal(&self, state: &mut State) {
        let live = state.live();
        live.meaning = Some(self.meaning(live.spool));
        state.generations.push_back(Generation::new());
        state.tidy();
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        let mut state = self.lock();
        state.away_since = if connected { None } else { state.away_since.or_else(|| Some(Instant::now())) };
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.lock().away_since.is_none()
    }

    /// The oldest batch after `sequence` of what is live as `spool`.
    pub(crate) fn after(&self, spool: u64, sequence: u64) -> Result<Option<Kept>, Torn> {
        let mut state = self.lock();
        let live = state.live();
        if live.spool != spool || live.moved > sequence {
            return Err(Torn);
        }
        let index = live.batches.partition_point(|batch| batch.sequence <= sequence);
        Ok(live.batches.get(index).cloned())
    }

    /// The collector has everything of the generation up to `received`, and keeps everything up to `durable`: lets go of that.
    pub(crate) fn acknowledge(&self, spool: u64, received: u64, durable: u64) {
        let mut state = self.lock();
        let mut on_disk = true;
        if let Some(generation) = state.of(spool) {
            generation.received = received;
            on_disk = generation.on_disk > 0;
            let count = generation.batches.partition_point(|batch| batch.sequence <= durable);
            generation.batches.drain(..count);
            state.tidy();
        }
        drop(state);
        let heard = self.disk.as_ref().is_some_and(|disk| on_disk && disk.durable(spool, durable));
        if let Some(generation) = self.lock().of(spool).filter(|generation| heard && generation.on_disk <= durable) {
            (generation.on_disk, generation.moved) = (0, 0);
        }
        self.shrunk.notify_waiters();
    }

    /// Lets go of one batch that no collector will take.
    pub(crate) fn discard(&self, spool: u64, sequence: u64, reason: Reason) {
        let mut state = self.lock();
        let Some(generation) = state.of(spool) else { return };
        let Ok(index) = generation.batches.binary_search_by_key(&sequence, |batch| batch.sequence) else { return };
        let Some(batch) = generation.batches.remove(index) else { return };
        state.tidy();
        drop(state);
        self.metrics.drop(reason, 1, batch.samples);
        self.shrunk.notify_waiters();
    }

    /// Waits until the collector has everything that is live.
    pub(super) async fn delivered(&self) {
        self.lock().is_last = true;
        self.grown.notify_one();
        self.shrunk_until(|state| {
            let live = state.live();
            live.batches.back().is_none_or(|newest| newest.sequence <= live.received)
        })
        .await;
    }

    /// Waits until nothing is in memory.
    pub(super) async fn emptied(&self) {
        self.shrunk_until(|state| state.oldest().is_none()).await;
    }

    async fn shrunk_until(&self, done: impl Fn(&mut State) -> bool) {
        loop {
            let shrunk = self.shrunk.notified();
            if done(&mut self.lock()) {
                return;
            }
            shrunk.await;
        }
    }

    /// What is live is waited for, and there is nothing after this: the collector is to say at once how far it is.
    pub(crate) fn asks_after(&self, sequence: u64) -> bool {
        let mut state = self.lock();
        state.is_last && state.live().batches.back().is_some_and(|newest| newest.sequence <= sequence)
    }

    pub(crate) fn declared(&self) -> Arc<pb::Declare> {
        self.meaning.lock().unwrap_or_else(PoisonError::into_inner).declared.clone()
    }

    /// Who spoke, for the oldest generation that is not live.
    pub(crate) async fn oldest_backlog(&self) -> Option<pb::Hello> {
        let live = self.lock().live().spool;
        if let Some(disk) = &self.disk
            && let Some(hello) = disk.oldest(live).await
        {
            return Some(hello);
        }
        let state = self.lock();
        let oldest = state.generations.iter().find(|generation| generation.spool != live && !generation.batches.is_empty())?;
        let oldest_sequence = oldest.batches.front()?.sequence;
        Some(pb::Hello { oldest_sequence, ..oldest.meaning.clone()?.hello })
    }

    /// Some batches of a generation that is not live after `sequence`, and what is declared before them: first those on disk.
    pub(crate) async fn backlog(&self, spool: u64, sequence: u64, rewind: bool) -> Vec<Message> {
        if let Some(disk) = &self.disk {
            let messages = disk.read(spool, sequence, rewind).await;
            if !messages.is_empty() {
                return messages;
            }
        }
        let mut state = self.lock();
        let Some(generation) = state.of(spool) else { return Vec::new() };
        let index = generation.batches.partition_point(|batch| batch.sequence <= sequence);
        let batches = chunk(generation.batches.range(index..));
        let Some(meaning) = generation.meaning.as_ref().filter(|_| !batches.is_empty()) else { return Vec::new() };
        let declare = Message::from((*meaning.declared).clone());
        std::iter::once(declare).chain(batches.into_iter().map(|batch| Message::from(batch.bytes))).collect()
    }

    /// What has to go to disk now.
    pub(super) fn due(&self, now: Instant) -> Option<Load> {
        let mut state = self.lock();
        let live = state.live().spool;
        let everything = state.ending || self.is_pressed(&state);
        let connected = state.away_since.is_none();
        let is_due = |generation: &Generation| {
            let late = |oldest: &Kept| now.duration_since(oldest.at) >= self.disk_after;
            let oldest = generation.in_memory_alone().next();
            oldest.is_some_and(|oldest| generation.spool != live || everything || late(oldest) && !connected)
        };
        let generation = state.generations.iter().find(|generation| is_due(generation))?;
        let meaning = generation.meaning.clone().unwrap_or_else(|| self.meaning(generation.spool));
        Some(Load { meaning, batches: chunk(generation.in_memory_alone()) })
    }

    /// The load is on disk.
    pub(super) fn stored(&self, load: &Load) {
        let Some(last) = load.batches.last().map(|batch| batch.sequence) else { return };
        let mut state = self.lock();
        if let Some(generation) = state.of(load.meaning.hello.spool) {
            generation.on_disk = generation.on_disk.max(last);
        }
        drop(state);
        self.release(Instant::now());
    }

    /// Lets go of what is on disk too, where it is not to be sent before what is new.
    pub(super) fn release(&self, now: Instant) {
        let mut state = self.lock();
        let live = state.live().spool;
        let away = state.away_since.is_some_and(|since| now.duration_since(since) >= self.backlog_after);
        let all = away || state.ending || self.is_pressed(&state);
        for generation in &mut state.generations {
            if (generation.spool != live || all) && generation.moved < generation.on_disk {
                generation.release();
            }
        }
        state.tidy();
        drop(state);
        self.shrunk.notify_waiters();
    }

    /// From now on everything goes to disk.
    pub(super) fn end(&self) {
        self.lock().ending = true;
        self.pressed.notify_one();
    }

    /// Takes out what is in memory, for another queue.
    pub(super) fn take_rest(&self) -> Vec<Generation> {
        let mut state = self.lock();
        self.seal(&mut state);
        let mut rest: Vec<Generation> = std::mem::take(&mut state.generations).into();
        state.tidy();
        rest.retain(|generation| !generation.batches.is_empty());
        rest
    }

    /// Batches and bytes in memory, and when the oldest was made.
    pub(super) fn memory(&self) -> (usize, usize, Option<Instant>) {
        let state = self.lock();
        let batches = state.generations.iter().map(|generation| generation.batches.len()).sum();
        (batches, state.bytes, state.oldest().map(|batch| batch.at))
    }

    /// Batches that are in memory alone, and their bytes.
    pub(super) fn in_memory_alone(&self) -> Level {
        let state = self.lock();
        let alone = state.generations.iter().flat_map(Generation::in_memory_alone);
        alone.fold(Level::default(), |sum, batch| Level { batches: sum.batches + 1, bytes: sum.bytes + batch.bytes.len() })
    }
}

#[cfg(test)]
mod tests;
