//! ingest ─▶ **live** ─▶ web, state
//!
//! The one task that owns the judging while the collector runs. It takes what the streams decode, lets time pass, writes
//! checkpoints, and publishes a [`View`] each second: nobody else touches the judge, and nobody waits for a lock.

mod nodes;
mod put;
mod recording;
mod swings;
mod view;

pub(crate) use nodes::{Acked, Full, Joined, Joining};
pub(crate) use swings::{SwingsView, TurnView};
pub(crate) use view::{GpuCell, NodeView, View};

use crate::alerts::{AlertsConfig, Announced};
use crate::ingest::{Decoded, Identity};
use crate::judge::Judge;
use crate::metrics::Metrics;
use crate::recorder::{Given, Learned, Recorder};
use crate::report::Log;
use crate::state::{self, Basis, StateDir, StateError};
use gridstep_wire::Micros;
use nodes::{Covered, Nodes};
use recording::Recording;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Messages of all streams that wait for the judging. When they are so many, streams are not read.
pub(crate) const QUEUE_MESSAGES: usize = 256;

/// Time also passes when nothing arrives.
const ADVANCE_PERIOD: Duration = Duration::from_millis(100);
const PUBLISH_PERIOD: Duration = Duration::from_secs(1);

/// After a restart nothing is judged for so long: the agents come back with what they kept, microseconds.
const RESUME_HOLD_US: i64 = 10_000_000;

/// From the streams.
pub(crate) enum Message {
    /// An agent said hello.
    Join {
        joining: Joining,
        reply: oneshot::Sender<Result<Joined, Full>>,
    },
    /// The stream has ended.
    Leave {
        node: String,
        stream: u64,
    },
    Identify {
        node: String,
        gpus: Vec<Identity>,
        backlog: bool,
    },
    Batch {
        node: String,
        stream: u64,
        batch: Decoded,
        /// Of a backlog: let go of when the batch has been taken.
        turn: Option<OwnedSemaphorePermit>,
    },
}

/// Owns the judge.
pub(crate) struct Live {
    judge: Judge,
    basis: Basis,
    nodes: Nodes,
    recording: Option<Recording>,
    alerts: AlertsConfig,
    announced: Announced,
    /// Incidents have changed since the last view.
    revised: bool,
    state: Arc<StateDir>,
    metrics: Arc<Metrics>,
    view: watch::Sender<Arc<View>>,
    writing: Option<Writing>,
    checkpoint_failed: bool,
    /// What reports rest on.
    log: Arc<Log>,
    /// Late and ahead samples, as of the last view.
    misplaced_seen: (u64, u64),
    /// Of the last batch. Each has a time of its own, and none is before another: a recording has them in this order.
    arrived_at: Micros,
}

/// A checkpoint on its way to the disk.
struct Writing {
    covered: Covered,
    begun: Instant,
    bytes: usize,
    task: JoinHandle<Result<(), StateError>>,
}

impl Live {
    /// Takes up from the last checkpoint, under the configuration and the topology as they are now.
    pub(crate) fn new(
        state: StateDir,
        basis: Basis,
        alerts: AlertsConfig,
        recorder: Option<Recorder>,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, watch::Receiver<Arc<View>>), StateError> {
        let (judge, records, mut announced) = match state.load()? {
            Some(saved) => {
                let mut judge = saved.judge;
                if saved.basis != basis {
                    info!("configuration or topology has changed since the checkpoint: what was learned stays");
                }
                // In any case: a checkpoint of an older version may not have all of it.
                judge.reconfigure(basis.config.clone(), &basis.places);
                judge.hold(Micros::now() + RESUME_HOLD_US);
                (judge, saved.nodes, saved.announced)
            }
            None => (Judge::new(basis.config.clone(), &basis.places), Vec::new(), Announced::default()),
        };
        // Under the present configuration, what is open may be worth more.
        judge.incidents().for_each(|incident| announced.note(incident, alerts.minimum));
        let mut live = Self {
            log: Arc::default(),
            misplaced_seen: (judge.late_samples(), judge.ahead_samples()),
            judge,
            basis,
            nodes: Nodes::new(records),
            recording: recorder.map(|recorder| Recording::new(recorder, metrics.recorder.clone())),
            alerts,
            announced,
            revised: true,
            state: Arc::new(state),
            metrics,
            view: watch::channel(Arc::default()).0,
            writing: None,
            checkpoint_failed: false,
            arrived_at: Micros::now(),
        };
        live.tend_recording();
        // Whether the directory can be written must show at the start.
        let bytes = live.encode()?;
        live.state.store(&bytes)?;
        live.publish();
        let view = live.view.subscribe();
        Ok((live, view))
    }

    /// Runs until told to stop, then takes what still waits and writes a last checkpoint.
    pub(crate) async fn run(
        mut self,
        mut inbound: mpsc::Receiver<Message>,
        period: Duration,
        stop: CancellationToken,
    ) -> Result<(), StateError> {
        let mut advance = ticks(ADVANCE_PERIOD);
        let mut publish = ticks(PUBLISH_PERIOD);
        let mut checkpoint = ticks(period);
        loop {
            tokio::select! {
                message = inbound.recv() => match message {
                    Some(message) => self.take(message),
                    None => break,
                },
                _ = advance.tick() => {
                    self.judge.advance(Micros::now());
                    // Who asks is told of a new incident at once, and not with the next view.
                    if self.judge.has_opened() {
                        self.publish();
                    }
                }
                _ = publish.tick() => {
                    self.metrics.queue_batches.set(inbound.len() as i64);
                    self.publish();
                    self.tend_recording();
                }
                () = changed(&mut self.recording) => {
                    self.recording.iter_mut().for_each(|recording| recording.update(&mut self.nodes));
                }
                _ = checkpoint.tick(), if self.writing.is_none() => self.begin_checkpoint(),
                written = written(&mut self.writing) => self.end_checkpoint(written),
                () = stop.cancelled() => break,
            }
        }
        inbound.close();
        while let Ok(message) = inbound.try_recv() {
            self.take(message);
        }
        let recording = self.recording.take();
        let written = self.last_checkpoint().await;
        if let Some(recording) = recording {
            recording.finish().await;
        }
        written
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Join { joining, reply } => {
                let known = self.judge.fleet().nodes().len();
                let slot = (!joining.backlog).then(|| self.judge.fleet_mut().node(&joining.node));
                if self.judge.fleet().nodes().len() > known {
                    self.recording.iter_mut().for_each(Recording::disturb);
                }
                let recording = self.recording.as_mut().filter(|_| self.nodes.has_room(&joining.node));
                let kept = recording.map(|recording| recording.join(&joining));
                let (joined, lost) = self.nodes.join(&joining, slot, kept);
                self.metrics.lost_batches.inc_by(lost);
                // Fails when the stream has gone meanwhile: its successor joins over it.
                let _ = reply.send(joined);
            }
            Message::Leave { node, stream } => self.nodes.leave(&node, stream),
            Message::Identify { node, gpus, backlog } => {
                if !backlog {
                    self.identify(&node, &gpus);
                }
                self.recording.iter().for_each(|recording| recording.identify(node.clone(), backlog, gpus.clone()));
            }
            Message::Batch { node, stream, batch, turn: _turn } => self.batch(node, stream, batch),
        }
    }

    fn identify(&mut self, node: &str, gpus: &[Identity]) {
        let fleet = self.judge.fleet_mut();
        let node = fleet.node(node);
        for gpu in gpus {
            let slot = fleet.gpu(node, gpu.index);
            fleet.identify(slot, &gpu.uuid, &gpu.model);
        }
    }

    fn tend_recording(&mut self) {
        let Some(recording) = &mut self.recording else { return };
        recording.tend(&mut self.nodes);
        if let Some(anew) = recording.state_due() {
            let Basis { config, places } = self.basis.clone();
            recording.learn(Learned { at: self.arrived_at, anew, config, places, judge: self.judge.clone() });
        }
    }

    fn batch(&mut self, node: String, stream: u64, batch: Decoded) {
        let now = Micros::now().max(self.arrived_at + 1);
        self.arrived_at = now;
        let mut judged = false;
        match self.nodes.accept(&node, stream, batch.sequence, batch.samples, now) {
            nodes::Accepted::New { slot, lost } => {
                match slot {
                    Some(slot) => {
                        judged = true;
                        self.judge.advance(now);
                        put::batch(&mut self.judge, slot, &batch);
                    }
                    // Its time was judged without it.
                    None => self.metrics.backlog_samples.inc_by(batch.samples),
                }
                self.metrics.batches.inc();
                self.metrics.lost_batches.inc_by(lost);
                self.metrics.samples.inc_by(batch.samples);
            }
            nodes::Accepted::Again => self.metrics.duplicate_batches.inc(),
            nodes::Accepted::Replaced => {}
        }
        self.nodes.acknowledge(&node, stream);
        if let Some(recording) = &mut self.recording
            && let Some((spool, backlog)) = self.nodes.spool(&node, stream)
        {
            recording.offer(Given::new(node, spool, backlog, now, batch), judged);
        }
    }

    /// What is announced of an incident goes by its first revision, so every revision is looked at.
    fn take_revisions(&mut self) {
        for incident in self.judge.take_revisions() {
            self.announced.note(&incident, self.alerts.minimum);
            self.revised = true;
        }
    }

    fn publish(&mut self) {
        self.take_revisions();
        let (incidents, lemons) = match std::mem::take(&mut self.revised) {
            true => (Arc::new(self.judge.incidents().cloned().collect()), Arc::new(self.judge.lemons())),
            false => (self.view.borrow().incidents.clone(), self.view.borrow().lemons.clone()),
        };
        let misplaced = (self.judge.late_samples(), self.judge.ahead_samples());
        self.metrics.late_samples.inc_by(misplaced.0.saturating_sub(self.misplaced_seen.0));
        self.metrics.ahead_samples.inc_by(misplaced.1.saturating_sub(self.misplaced_seen.1));
        self.misplaced_seen = misplaced;
        let now = Micros::now();
        self.announced.forget(&incidents, &self.alerts, now);
        self.metrics.incidents.set(&incidents, &self.announced);
        let alerts = Arc::new(self.announced.alerts(&incidents, &self.alerts, now));
        self.log.look(&mut self.judge);
        let told = view::Told { incidents, lemons, alerts };
        let mut view = view::build(&self.judge, &self.nodes, told, self.log.clone(), self.checkpoint_failed);
        view.recording_failed = self.recording.as_ref().is_some_and(Recording::is_failing);
        self.metrics.fleet.set(&view);
        self.view.send_replace(Arc::new(view));
    }

    fn encode(&mut self) -> Result<Vec<u8>, StateError> {
        self.take_revisions();
        state::encode(&self.basis, &self.nodes.records(), &self.judge, &self.announced)
    }

    /// Encodes at this instant, between two batches; writes aside.
    fn begin_checkpoint(&mut self) {
        let begun = Instant::now();
        match self.encode() {
            Ok(bytes) => {
                let (size, state) = (bytes.len(), self.state.clone());
                let task = tokio::task::spawn_blocking(move || state.store(&bytes));
                self.writing = Some(Writing { covered: self.nodes.covered(), begun, bytes: size, task });
            }
            Err(fault) => self.checkpoint_failure(&fault),
        }
    }

    fn end_checkpoint(&mut self, (writing, result): (Writing, Result<(), StateError>)) {
        match result {
            Ok(()) => {
                self.metrics.checkpoint_seconds.observe(writing.begun.elapsed().as_secs_f64());
                self.metrics.checkpoint_bytes.set(writing.bytes as i64);
                self.nodes.make_durable(&writing.covered);
                self.checkpoint_failed = false;
            }
            Err(fault) => self.checkpoint_failure(&fault),
        }
    }

    fn checkpoint_failure(&mut self, fault: &StateError) {
        self.metrics.checkpoint_failures.inc();
        if !self.checkpoint_failed {
            error!(fault = %chain(fault), "checkpoints fail: agents keep what they send");
        }
        self.checkpoint_failed = true;
    }

    async fn last_checkpoint(mut self) -> Result<(), StateError> {
        if self.writing.is_some() {
            let written = written(&mut self.writing).await;
            self.end_checkpoint(written);
        }
        let (bytes, state) = (self.encode()?, self.state.clone());
        let task = tokio::task::spawn_blocking(move || state.store(&bytes));
        task.await.map_err(|error| StateError::Encode(error.to_string()))??;
        info!("last checkpoint written");
        Ok(())
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn chain(fault: &dyn std::error::Error) -> String {
    std::iter::successors(fault.source(), |fault| fault.source())
        .fold(fault.to_string(), |text, fault| format!("{text}: {fault}"))
}

/// Waits for the recorder's word; for ever if there is none.
async fn changed(recording: &mut Option<Recording>) {
    match recording {
        Some(recording) => recording.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits for the checkpoint on its way; for ever if there is none.
async fn written(writing: &mut Option<Writing>) -> (Writing, Result<(), StateError>) {
    let result = match writing {
        Some(writing) => (&mut writing.task).await,
        None => std::future::pending().await,
    };
    match writing.take() {
        Some(writing) => (writing, result.unwrap_or_else(|error| Err(StateError::Encode(error.to_string())))),
        None => std::future::pending().await,
    }
}
