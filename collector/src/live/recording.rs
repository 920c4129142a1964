//! What the live side gives to the recorder, and what it does when that takes nothing.

use super::nodes::{Joining, Nodes};
use crate::ingest::Identity;
use crate::metrics::RecorderMetrics;
use crate::recorder::{Given, Learned, Marks, Recorder, Standing, Wanted};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Streams that are ended in a second, so that their agents bring what the recorder has not: not all come at once.
const AGAIN_STREAMS: usize = 64;
/// What was judged otherwise than it is recorded is over when it has not been for so long,
const QUIET: Duration = Duration::from_secs(5);
/// and between two states for that is at least
const APART: Duration = Duration::from_secs(60);

pub(super) struct Recording {
    recorder: Recorder,
    marks: Marks,
    standing: watch::Receiver<Standing>,
    metrics: RecorderMetrics,
    state_interval: Duration,
    /// When the last state was taken; when the last one after a disturbance was.
    learned: Option<Instant>,
    mended: Option<Instant>,
    /// When last something was judged that is not recorded at that place, or the other way round.
    disturbed: Option<Instant>,
}

impl Recording {
    pub(super) fn new(recorder: Recorder, metrics: RecorderMetrics) -> Self {
        let mut standing = recorder.standing();
        let marks = Marks::new(&standing.borrow_and_update());
        let (state_interval, learned, mended, disturbed) = (recorder.state_interval(), None, None, None);
        Self { recorder, marks, standing, metrics, state_interval, learned, mended, disturbed }
    }

    /// Gives up to where the recording has the stream's numbering.
    pub(super) fn join(&mut self, joining: &Joining) -> u64 {
        let (kept, lost) = self.marks.join(&joining.node, joining.spool, joining.oldest);
        self.metrics.lost_batches.inc_by(if joining.shared { 0 } else { lost });
        self.recorder.boot(&joining.node, joining.backlog, &joining.boot);
        kept
    }

    pub(super) fn is_failing(&self) -> bool {
        !self.marks.takes()
    }

    pub(super) fn identify(&self, node: String, backlog: bool, gpus: Vec<Identity>) {
        self.recorder.identify(node, backlog, gpus);
    }

    /// Gives the batch to the recorder if that lacks it. `judged`: it has just been.
    pub(super) fn offer(&mut self, given: Given, judged: bool) {
        let is_recorded = self.record(given.backlog, judged, given);
        if is_recorded != judged {
            self.disturb();
        }
    }

    /// True: the rows will be judged by a replay.
    fn record(&mut self, backlog: bool, judged: bool, given: Given) -> bool {
        let (node, spool, sequence) = (given.node.clone(), given.spool, given.batch.sequence);
        match self.marks.wants(&node, spool, sequence) {
            Wanted::No => return false,
            Wanted::Now => {
                if self.recorder.give(Given { epoch: self.marks.epoch(), ..given }) {
                    self.marks.given(&node, spool, sequence);
                    return if backlog { judged } else { true };
                }
                self.marks.fall_behind(&node, spool);
            }
            Wanted::Later => {}
        }
        self.metrics.deferred_batches.inc();
        false
    }

    /// From here on a replay would not give what is judged: it has to begin with a state again.
    pub(super) fn disturb(&mut self) {
        self.disturbed = Some(Instant::now());
    }

    /// Whether a state is to be taken, and if so whether the rows before it do not lead to it.
    pub(super) fn state_due(&self) -> Option<bool> {
        let Some(learned) = self.learned else { return Some(true) };
        let is_over = |disturbed: Instant| disturbed.elapsed() >= QUIET;
        if self.disturbed.is_some_and(is_over) && self.mended.is_none_or(|mended| mended.elapsed() >= APART) {
            return Some(true);
        }
        (learned.elapsed() >= self.state_interval).then_some(self.disturbed.is_some())
    }

    pub(super) fn learn(&mut self, learned: Learned) {
        if !self.marks.takes() || !self.recorder.learn(learned) {
            return;
        }
        let now = Instant::now();
        self.mended = if self.disturbed.is_some() { Some(now) } else { self.mended };
        (self.learned, self.disturbed) = (Some(now), None);
    }

    /// Waits until the recorder has something to say.
    pub(super) async fn changed(&mut self) {
        if self.standing.changed().await.is_err() {
            // Its thread has ended, which it has told of.
            std::future::pending().await
        }
    }

    /// What it says, to the streams.
    pub(super) fn update(&mut self, nodes: &mut Nodes) {
        let standing = self.standing.borrow_and_update().clone();
        self.marks.update(&standing);
        nodes.set_kept(&standing.marks);
    }

    /// Once a second: streams that have to come again are ended, when there is room for what they bring.
    pub(super) fn tend(&mut self, nodes: &mut Nodes) {
        self.metrics.queue_values.set(self.recorder.waiting() as i64);
        if self.marks.takes() && self.recorder.is_idle() {
            nodes.end_streams(AGAIN_STREAMS, |node, spool| self.marks.is_behind(node, spool));
        }
    }

    /// Closes its last files.
    pub(super) async fn finish(self) {
        // A panic has told of itself.
        let _ = tokio::task::spawn_blocking(move || self.recorder.finish()).await;
    }
}
