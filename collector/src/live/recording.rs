//! What the live side gives to the recorder, and what it does when that takes nothing.

use super::nodes::{Joining, Nodes};
use crate::ingest::{Decoded, Identity};
use crate::metrics::RecorderMetrics;
use crate::recorder::{Given, Marks, Recorder, Standing, Wanted};
use gridstep_wire::Micros;
use tokio::sync::watch;

/// Streams that are ended in a second, so that their agents bring what the recorder has not: not all come at once.
const AGAIN_STREAMS: usize = 64;

pub(super) struct Recording {
    recorder: Recorder,
    marks: Marks,
    standing: watch::Receiver<Standing>,
    metrics: RecorderMetrics,
}

impl Recording {
    pub(super) fn new(recorder: Recorder, metrics: RecorderMetrics) -> Self {
        let mut standing = recorder.standing();
        let marks = Marks::new(&standing.borrow_and_update());
        Self { recorder, marks, standing, metrics }
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

    /// Gives the batch to the recorder if that lacks it.
    pub(super) fn offer(&mut self, node: String, spool: u64, backlog: bool, now: Micros, batch: Decoded) {
        let sequence = batch.sequence;
        match self.marks.wants(&node, spool, sequence) {
            Wanted::No => return,
            Wanted::Now => {
                let given = Given { epoch: self.marks.epoch(), ..Given::new(node.clone(), spool, backlog, now, batch) };
                if self.recorder.give(given) {
                    self.marks.given(&node, spool, sequence);
                    return;
                }
                self.marks.fall_behind(&node, spool);
            }
            Wanted::Later => {}
        }
        self.metrics.deferred_batches.inc();
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
