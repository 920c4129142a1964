//! What is on its way to the store: incidents as soon as they are revised, and every few seconds a checkpoint.
//!
//! Both are written aside. Of an incident nobody is told before its row is there, but for a store that is slow or fails: then
//! telling comes first.

use super::nodes::Covered;
use crate::metrics::Metrics;
use crate::state::Snapshot;
use crate::store::{Gap, Store, StoreError, Told};
use gridstep_wire::Micros;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tracing::{error, info};

/// Telling waits for the store no longer than this.
const PATIENCE: Duration = Duration::from_millis(500);
/// Incidents that wait for a store that fails; beyond them the oldest are not stored.
const UNSAVED: usize = 10_000;
/// What was learned is written with a checkpoint, but not with each.
const LESSON_PERIOD: Duration = Duration::from_secs(60);
/// How often is looked for what is too old.
const FORGET_PERIOD: Duration = Duration::from_secs(3600);

pub(super) struct Saving {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    max_age: Duration,
    /// Revised since it was last stored, by id.
    unsaved: BTreeMap<String, Told>,
    save: Option<Save>,
    checkpoint: Option<Checkpoint>,
    /// The last checkpoint, and the last save, failed.
    checkpoint_failed: bool,
    save_failed: bool,
    learned_at: Option<Instant>,
    forgot_at: Option<Instant>,
}

struct Save {
    told: Vec<Told>,
    task: JoinHandle<Result<(), StoreError>>,
}

struct Checkpoint {
    covered: Covered,
    begun: Instant,
    task: JoinHandle<Result<u64, StoreError>>,
}

/// Something has been written, or has failed.
pub(super) enum Written {
    Save(Result<(), StoreError>),
    Checkpoint(Result<u64, StoreError>),
}

impl Saving {
    pub(super) fn new(store: Store, metrics: Arc<Metrics>, max_age: Duration) -> Self {
        Self {
            store: Arc::new(store),
            metrics,
            max_age,
            unsaved: BTreeMap::new(),
            save: None,
            checkpoint: None,
            checkpoint_failed: false,
            save_failed: false,
            learned_at: None,
            forgot_at: None,
        }
    }

    /// A revision that the store is to have.
    pub(super) fn add(&mut self, told: Told) {
        self.unsaved.insert(told.incident.id.clone(), told);
        while self.unsaved.len() > UNSAVED {
            let oldest = self.unsaved.values().min_by_key(|told| told.incident.started_at).map(|told| told.incident.id.clone());
            oldest.and_then(|id| self.unsaved.remove(&id));
            self.metrics.unstored_incidents.inc();
        }
    }

    /// All that was revised is stored, or is to be told of all the same: it waits since then.
    pub(super) fn may_tell(&self, since: Instant) -> bool {
        self.save_failed || self.unsaved.is_empty() && self.save.is_none() || since.elapsed() >= PATIENCE
    }

    pub(super) fn checkpoint_failed(&self) -> bool {
        self.checkpoint_failed
    }

    pub(super) fn is_writing_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// The first checkpoint of a run, and what the restart may have missed; who starts the collector waits for it.
    pub(super) fn write(&mut self, snapshot: &Snapshot, gap: Option<&Gap>) -> Result<(), StoreError> {
        let told: Vec<Told> = self.unsaved.values().cloned().collect();
        self.store.checkpoint(snapshot, &told, false)?;
        self.unsaved.clear();
        gap.map(|gap| self.store.put_gap(gap)).transpose()?;
        Ok(())
    }

    /// Stores what was revised; one at a time.
    pub(super) fn begin_save(&mut self) {
        self.metrics.unsaved_incidents.set(self.unsaved.len() as i64);
        if self.save.is_some() || self.unsaved.is_empty() {
            return;
        }
        let told: Vec<Told> = std::mem::take(&mut self.unsaved).into_values().collect();
        let (store, rows) = (self.store.clone(), told.clone());
        let task = tokio::task::spawn_blocking(move || store.save(&rows));
        self.save = Some(Save { told, task });
    }

    /// Encodes and writes aside. What is told of incidents goes with it.
    pub(super) fn begin_checkpoint(&mut self, snapshot: Snapshot, covered: Covered) {
        let lessons = self.learned_at.is_none_or(|at| at.elapsed() >= LESSON_PERIOD);
        if lessons {
            self.learned_at = Some(Instant::now());
        }
        // They are saved by themselves, and sooner; but it must not be ahead of them.
        let waiting = self.save.iter().flat_map(|save| &save.told).chain(self.unsaved.values());
        let (store, told) = (self.store.clone(), waiting.cloned().collect::<Vec<Told>>());
        let task = tokio::task::spawn_blocking(move || store.checkpoint(&snapshot, &told, lessons));
        self.checkpoint = Some(Checkpoint { covered, begun: Instant::now(), task });
    }

    /// Waits until something is written; for ever if nothing is on its way.
    pub(super) async fn written(&mut self) -> Written {
        tokio::select! {
            saved = ended(self.save.as_mut().map(|save| &mut save.task)) => Written::Save(saved),
            written = ended(self.checkpoint.as_mut().map(|checkpoint| &mut checkpoint.task)) => Written::Checkpoint(written),
        }
    }

    /// Gives what is durable now.
    pub(super) fn take(&mut self, written: Written) -> Option<Covered> {
        match written {
            Written::Save(result) => {
                let save = self.save.take();
                self.saved(save.map(|save| save.told).unwrap_or_default(), result);
                None
            }
            Written::Checkpoint(result) => {
                let checkpoint = self.checkpoint.take()?;
                self.checkpointed(checkpoint, result)
            }
        }
    }

    fn saved(&mut self, told: Vec<Told>, result: Result<(), StoreError>) {
        let Err(fault) = result else {
            self.save_failed = false;
            return;
        };
        self.metrics.store_failures.inc();
        if !self.save_failed {
            error!(fault = %chain(&fault), "incidents cannot be stored: they are told of all the same, and stored when that can be");
        }
        self.save_failed = true;
        // What has been revised again meanwhile is newer.
        for told in told.into_iter().filter(|told| !self.unsaved.contains_key(&told.incident.id)).collect::<Vec<_>>() {
            self.add(told);
        }
    }

    fn checkpointed(&mut self, checkpoint: Checkpoint, result: Result<u64, StoreError>) -> Option<Covered> {
        match result {
            Ok(bytes) => {
                self.metrics.checkpoint_seconds.observe(checkpoint.begun.elapsed().as_secs_f64());
                self.metrics.checkpoint_bytes.set(bytes as i64);
                self.checkpoint_failed = false;
                Some(checkpoint.covered)
            }
            Err(fault) => {
                self.metrics.checkpoint_failures.inc();
                if !self.checkpoint_failed {
                    error!(fault = %chain(&fault), "checkpoints fail: agents keep what they send");
                }
                self.checkpoint_failed = true;
                self.learned_at = None;
                None
            }
        }
    }

    pub(super) fn put_gap(&self, gap: Gap) {
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(fault) = store.put_gap(&gap) {
                metrics.store_failures.inc();
                error!(fault = %chain(&fault), "the gap of the restart cannot be stored");
            }
        });
    }

    /// Once an hour lets go of what is too old.
    pub(super) fn tend(&mut self) {
        if self.forgot_at.is_some_and(|at| at.elapsed() < FORGET_PERIOD) {
            return;
        }
        self.forgot_at = Some(Instant::now());
        let before = Micros::now() - i64::try_from(self.max_age.as_micros()).unwrap_or(i64::MAX);
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(fault) = store.forget(before) {
                metrics.store_failures.inc();
                error!(fault = %chain(&fault), "what is too old cannot be let go of");
            }
        });
    }

    /// After what is on its way, the last checkpoint.
    pub(super) async fn finish(mut self, snapshot: Snapshot) -> Result<(), StoreError> {
        while self.save.is_some() || self.checkpoint.is_some() {
            let written = self.written().await;
            self.take(written);
        }
        let told: Vec<Told> = self.unsaved.into_values().collect();
        let store = self.store;
        tokio::task::spawn_blocking(move || store.checkpoint(&snapshot, &told, true)).await??;
        info!("last checkpoint written");
        Ok(())
    }
}

/// The result of a task; never, if there is none.
async fn ended<T>(task: Option<&mut JoinHandle<Result<T, StoreError>>>) -> Result<T, StoreError> {
    match task {
        Some(task) => task.await?,
        None => std::future::pending().await,
    }
}

fn chain(fault: &dyn std::error::Error) -> String {
    std::iter::successors(fault.source(), |fault| fault.source())
        .fold(fault.to_string(), |text, fault| format!("{text}: {fault}"))
}
