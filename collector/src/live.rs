//! ingest ─▶ **live** ─▶ web, store
//!
//! The one task that owns the judging while the collector runs. It takes what the streams decode, lets time pass, writes
//! checkpoints, and publishes a [`View`] each second: nobody else touches the judge, and nobody waits for a lock.

mod gap;
mod nodes;
mod recording;
mod saving;
mod swings;
mod view;

pub(crate) use nodes::{Acked, Full, Joined, Joining, StreamId};
pub(crate) use swings::{SwingsView, TurnView};
pub(crate) use view::{GpuCell, NodeView, View};

use crate::alerts::{AlertsConfig, Announced};
use crate::ingest::{Decoded, Identity, put_batch};
use crate::judge::Judge;
use crate::metrics::Metrics;
use crate::recorder::{Given, Learned, Recorder};
use crate::report::Log;
use crate::state::{Basis, Snapshot};
use crate::store::{Kept, Store, StoreConfig, StoreError, Told};
use gap::GapWatch;
use gridstep_wire::Micros;
use nodes::Nodes;
use recording::Recording;
use saving::{Saving, Written};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Messages of all streams that wait for the judging. When they are so many, streams are not read.
pub(crate) const QUEUE_MESSAGES: usize = 256;

/// Batches come in one by one and are taken together: after some have been, so long nothing is. Of a large fleet's, waking up costs more than the taking.
const REST: Duration = Duration::from_millis(5);
/// When so many were waiting, the streams may be, and there is no rest.
const BUSY_MESSAGES: usize = QUEUE_MESSAGES / 2;

/// Time also passes when nothing arrives.
const ADVANCE_PERIOD: Duration = Duration::from_millis(100);
const PUBLISH_PERIOD: Duration = Duration::from_secs(1);

/// From the streams.
pub(crate) enum Message {
    /// An agent said hello.
    Join { joining: Joining, reply: oneshot::Sender<Result<Joined, Full>> },
    /// The stream has ended.
    Leave { stream: StreamId },
    /// What a stream declares; it also asks how far it is.
    Identify { stream: StreamId, node: String, gpus: Vec<Identity>, backlog: bool },
    Batch {
        stream: StreamId,
        batch: Decoded,
        /// Of a backlog: let go of when the batch has been taken.
        turn: Option<OwnedSemaphorePermit>,
    },
}

/// Owns the judge.
pub(crate) struct Live {
    judge: Judge,
    basis: Arc<Basis>,
    nodes: Nodes,
    recording: Option<Recording>,
    alerts: AlertsConfig,
    announced: Announced,
    /// Since when incidents are others than the last view has.
    revised: Option<Instant>,
    saving: Saving,
    /// Of the restart, until it is known.
    gap: Option<GapWatch>,
    metrics: Arc<Metrics>,
    view: watch::Sender<Arc<View>>,
    /// What reports rest on.
    log: Arc<Log>,
    /// Late and ahead samples, as of the last view.
    misplaced_seen: (u64, u64),
    /// Of the last batch. Each has a time of its own, and none is before another: a recording has them in this order.
    arrived_at: Micros,
}

impl Live {
    /// Takes up from the last checkpoint, under the configuration and the topology as they are now.
    pub(crate) fn new(
        store: Store,
        basis: Basis,
        keeping: &StoreConfig,
        alerts: AlertsConfig,
        recorder: Option<Recorder>,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, watch::Receiver<Arc<View>>), StoreError> {
        let now = Micros::now();
        let Kept { checkpoint, told, learned } = store.load()?;
        let (mut judge, records, mut announced, gap) = match checkpoint {
            Some(saved) => {
                let mut judge = saved.judge;
                if saved.basis != basis {
                    info!("configuration or topology has changed since the checkpoint: what was learned stays");
                }
                // In any case: a checkpoint of an older version may not have all of it.
                judge.reconfigure(basis.config.clone(), &basis.places);
                let judged = judge.judged_until();
                let gap = GapWatch::new(judged, now, judge.hold(now));
                (judge, saved.nodes, saved.announced, gap)
            }
            None => (Judge::new(basis.config.clone(), &basis.places), Vec::new(), Announced::default(), None),
        };
        for told in &told {
            told.announcement.iter().for_each(|before| announced.restore(&told.incident, before.clone()));
        }
        judge.adopt(told.into_iter().map(|told| told.incident).collect());
        judge.remember(learned);
        // Under the present configuration, what is open may be worth more.
        judge.incidents().for_each(|incident| announced.note(incident, alerts.minimum));
        let mut live = Self {
            log: Arc::default(),
            misplaced_seen: (judge.late_samples(), judge.ahead_samples()),
            judge,
            basis: Arc::new(basis),
            nodes: Nodes::new(records),
            recording: recorder.map(|recorder| Recording::new(recorder, metrics.recorder.clone())),
            alerts,
            announced,
            revised: Some(Instant::now()),
            saving: Saving::new(store, metrics.clone(), keeping.max_age),
            gap,
            metrics,
            view: watch::channel(Arc::default()).0,
            arrived_at: Micros::now(),
        };
        live.tend_recording();
        // Whether the directory can be written must show at the start.
        let snapshot = live.snapshot();
        live.saving.write(&snapshot, live.gap.as_ref().map(|watch| &watch.gap))?;
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
    ) -> Result<(), StoreError> {
        let mut advance = ticks(ADVANCE_PERIOD);
        let mut publish = ticks(PUBLISH_PERIOD);
        let mut checkpoint = ticks(period);
        let mut waiting = Vec::with_capacity(QUEUE_MESSAGES);
        let mut rest = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            tokio::select! {
                () = &mut rest, if !rest.is_elapsed() => {}
                count = inbound.recv_many(&mut waiting, QUEUE_MESSAGES), if rest.is_elapsed() => {
                    if count == 0 {
                        break;
                    }
                    waiting.drain(..).for_each(|message| self.take(message));
                    if count < BUSY_MESSAGES {
                        rest.as_mut().reset(tokio::time::Instant::now() + REST);
                    }
                }
                _ = advance.tick() => {
                    let now = Micros::now();
                    self.judge.advance(now);
                    self.nodes.acknowledge_rest(now);
                    // Who asks is told of a new incident as soon as it is stored, and not with the next view.
                    if self.judge.has_opened() {
                        self.take_revisions();
                        self.saving.begin_save();
                    }
                }
                _ = publish.tick() => {
                    self.metrics.queue_batches.set(inbound.len() as i64);
                    self.publish();
                    self.tend_recording();
                    self.saving.tend();
                    self.look_for_gap();
                }
                () = changed(&mut self.recording) => {
                    self.recording.iter_mut().for_each(|recording| recording.update(&mut self.nodes));
                }
                _ = checkpoint.tick(), if !self.saving.is_writing_checkpoint() => self.begin_checkpoint(),
                written = self.saving.written() => self.written(written),
                () = stop.cancelled() => break,
            }
        }
        inbound.close();
        while let Ok(message) = inbound.try_recv() {
            self.take(message);
        }
        let recording = self.recording.take();
        let snapshot = self.snapshot();
        let written = self.saving.finish(snapshot).await;
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
            Message::Leave { stream } => self.nodes.leave(stream),
            Message::Identify { stream, node, gpus, backlog } => {
                self.nodes.answer(stream, self.arrived_at);
                if !backlog {
                    self.identify(&node, &gpus);
                }
                self.recording.iter().for_each(|recording| recording.identify(node.clone(), backlog, gpus.clone()));
            }
            Message::Batch { stream, batch, turn: _turn } => self.batch(stream, batch),
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
            let Basis { config, places } = Basis::clone(&self.basis);
            recording.learn(Learned { at: self.arrived_at, anew, config, places, judge: self.judge.clone() });
        }
    }

    fn batch(&mut self, stream: StreamId, batch: Decoded) {
        let now = Micros::now().max(self.arrived_at + 1);
        self.arrived_at = now;
        let mut judged = false;
        match self.nodes.accept(stream, batch.sequence, batch.samples, now) {
            nodes::Accepted::New { slot, lost } => {
                match slot {
                    Some(slot) => {
                        judged = true;
                        self.judge.advance(now);
                        put_batch(&mut self.judge, slot, &batch);
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
        self.nodes.acknowledge(stream, batch.samples, now);
        if let Some(recording) = &mut self.recording
            && let Some(nodes::Source { node, spool, backlog }) = self.nodes.source(stream)
        {
            recording.offer(Given::new(node, spool, backlog, now, batch), judged);
        }
    }

    /// What is announced of an incident goes by its first revision, so every revision is looked at.
    fn take_revisions(&mut self) {
        for incident in self.judge.take_revisions() {
            self.announced.note(&incident, self.alerts.minimum);
            self.revised.get_or_insert_with(Instant::now);
            let announcement = self.announced.of(&incident).cloned();
            self.saving.add(Told { incident, announcement });
        }
    }

    fn publish(&mut self) {
        self.take_revisions();
        self.saving.begin_save();
        let now = Micros::now();
        let told = self.revised.take_if(|since| self.saving.may_tell(*since));
        let (incidents, lemons) = match told {
            Some(_) => (Arc::new(self.judge.incidents().cloned().collect()), Arc::new(self.judge.lemons())),
            None => (self.view.borrow().incidents.clone(), self.view.borrow().lemons.clone()),
        };
        if self.revised.is_none() {
            self.announced.forget(&incidents, &self.alerts, now);
        }
        let misplaced = (self.judge.late_samples(), self.judge.ahead_samples());
        self.metrics.late_samples.inc_by(misplaced.0.saturating_sub(self.misplaced_seen.0));
        self.metrics.ahead_samples.inc_by(misplaced.1.saturating_sub(self.misplaced_seen.1));
        self.misplaced_seen = misplaced;
        self.metrics.incidents.set(&incidents, &self.announced);
        let alerts = Arc::new(self.announced.alerts(&incidents, &self.alerts, now));
        self.log.look(&mut self.judge);
        let told = view::Told { incidents, lemons, alerts };
        let mut view = view::build(&self.judge, &self.nodes, told, self.log.clone(), self.saving.checkpoint_failed());
        view.recording_failed = self.recording.as_ref().is_some_and(Recording::is_failing);
        self.metrics.fleet.set(&view);
        self.view.send_replace(Arc::new(view));
    }

    /// All of it at this instant, between two batches. It is encoded aside: a copy takes less time.
    fn snapshot(&mut self) -> Snapshot {
        self.take_revisions();
        Snapshot {
            basis: self.basis.clone(),
            nodes: self.nodes.records().into_iter().map(|(name, record)| (name.to_owned(), record.clone())).collect(),
            judge: self.judge.clone(),
            announced: self.announced.clone(),
        }
    }

    fn begin_checkpoint(&mut self) {
        let snapshot = self.snapshot();
        self.saving.begin_checkpoint(snapshot, self.nodes.covered());
    }

    fn written(&mut self, written: Written) {
        let is_save = matches!(written, Written::Save(_));
        if let Some(covered) = self.saving.take(written) {
            self.nodes.make_durable(&covered);
        }
        if is_save && self.revised.is_some() {
            self.publish();
        }
    }

    /// Once the agents have had time to bring what they kept, says what was not seen.
    fn look_for_gap(&mut self) {
        let Some(gap) = self.gap.as_ref().and_then(|watch| watch.look(&self.judge)) else { return };
        self.gap = None;
        let unseen = gap.unseen_seconds.unwrap_or_default();
        self.metrics.gap_seconds.set(unseen);
        let told = |at: Option<Micros>| at.map(crate::incidents::rfc3339).unwrap_or_default();
        let completeness = gap.completeness.unwrap_or_default();
        match gap.unseen_from {
            Some(_) => warn!(
                from = told(gap.unseen_from),
                to = told(gap.unseen_to),
                unseen_seconds = unseen,
                completeness,
                "during the restart most of the fleet was not seen"
            ),
            None => info!(completeness, "nothing was missed during the restart"),
        }
        self.saving.put_gap(gap);
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the recorder's word; for ever if there is none.
async fn changed(recording: &mut Option<Recording>) {
    match recording {
        Some(recording) => recording.changed().await,
        None => std::future::pending().await,
    }
}
