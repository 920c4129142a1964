//! The recorder's thread: batches into rows, rows into files, files into sets.

use super::closer::{Closed, Closer, Set};
use super::desk::Desk;
use super::lane::Aside;
use super::learned::{Learned, Writing};
use super::{MarkMap, Order, RecorderConfig, RecorderError, Standing, chain, failed};
use crate::metrics::RecorderMetrics;
use gridstep_wire::Micros;
use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{error, info};

/// How often is looked at what is due.
const LOOK: Duration = Duration::from_millis(100);
/// Batches come in one by one and are taken together: after some have been, so long nothing is. Waking this thread costs more than taking one, and
/// whoever gives one would do it.
const REST: Duration = Duration::from_millis(20);
/// Not more, before it is looked at what is due.
const AT_ONCE: usize = 4096;
/// Between two writings of what waits for older rows. As long as they wait: what stays is put in order anew each time.
const DRAIN: Duration = Duration::from_secs(2);
/// Between two attempts to write again.
const PROBE: Duration = Duration::from_secs(5);
/// So much must be free for that.
const PROBE_BYTES: usize = 1 << 20;

pub(super) struct Writer {
    pub(super) folder: PathBuf,
    pub(super) config: RecorderConfig,
    pub(super) desk: Desk,
    pub(super) closer: Closer,
    pub(super) metrics: RecorderMetrics,
    pub(super) standing: watch::Sender<Standing>,
    /// Values that wait.
    pub(super) waiting: Arc<AtomicUsize>,
    /// What the recording holds.
    pub(super) marks: Arc<MarkMap>,
    pub(super) last_stamp: i64,
    /// States of this set on their way to the disk.
    pub(super) learning: Vec<Writing>,
    /// When the first row of the set came, and what its files are named by.
    pub(super) begun: Option<(Instant, i64)>,
    /// The same of the set that is on its way.
    pub(super) closing: Option<(Instant, i64)>,
    pub(super) failing: Option<Instant>,
    pub(super) epoch: u64,
    /// The folder is this one's.
    pub(super) _lock: File,
}

impl Writer {
    /// To the last word, or as by a kill when there is none.
    pub(super) fn run(mut self, inbound: &Receiver<Order>) {
        let (mut looked, mut drained) = (Instant::now(), Instant::now());
        loop {
            match inbound.recv_timeout(LOOK) {
                Ok(order) => {
                    if self.take_all(order, inbound).is_break() {
                        return self.finish();
                    }
                    std::thread::sleep(REST);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if looked.elapsed() < LOOK {
                continue;
            }
            looked = Instant::now();
            self.look();
            if drained.elapsed() >= DRAIN && self.failing.is_none() {
                drained = Instant::now();
                self.drain();
            }
        }
    }

    /// What waits, or a part of that. Break: that was the last word.
    fn take_all(&mut self, first: Order, inbound: &Receiver<Order>) -> ControlFlow<()> {
        for order in std::iter::once(first).chain(inbound.try_iter()).take(AT_ONCE) {
            if let Order::Finish = order {
                return ControlFlow::Break(());
            }
            self.take(order);
            if self.desk.is_full() {
                self.drain();
            }
        }
        ControlFlow::Continue(())
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Boot { node, backlog, boot } => self.desk.boot(&node, backlog, &boot),
            Order::Identify { node, backlog, gpus } => self.desk.identify(&node, backlog, &gpus),
            Order::Learn(learned) if self.failing.is_none() => self.learn(learned),
            Order::Learn(_) => {}
            Order::Batch(given) => {
                self.waiting.fetch_sub(given.weight, Ordering::Relaxed);
                // What was on its way when rows before it were lost.
                if given.epoch != self.epoch || self.failing.is_some() {
                    return;
                }
                self.desk.put(&given);
                self.begin();
            }
            Order::Finish => {}
        }
    }

    /// Gives the stamp of the set.
    fn begin(&mut self) -> i64 {
        if let Some((_, stamp)) = self.begun {
            return stamp;
        }
        self.last_stamp = Micros::now().0.max(self.last_stamp + 1);
        self.begun = Some((Instant::now(), self.last_stamp));
        self.last_stamp
    }

    /// A state belongs to the set that is open: all rows after it are in that or in later ones.
    fn learn(&mut self, learned: Box<Learned>) {
        let name = format!("state-{}-{}.json", self.begin(), self.learning.len());
        match learned.write(&self.folder, name.clone()) {
            Ok(writing) => self.learning.push(writing),
            Err(fault) => error!(fault = %chain(&failed(&name)(fault)), "a state is not recorded"),
        }
    }

    /// Waits for the states. One that fails is missing; the rows are there.
    fn learned(&mut self) -> Vec<Aside> {
        let mut states = Vec::new();
        for writing in self.learning.drain(..) {
            match writing.join() {
                Ok(Ok(state)) => states.push(state),
                Ok(Err(fault)) => error!(fault = %chain(&fault), "a state is not recorded"),
                // A panic has told of itself.
                Err(_) => {}
            }
        }
        self.metrics.states.inc_by(states.len() as u64);
        states
    }

    fn drain(&mut self) {
        let stamp = self.begun.map_or(0, |(_, stamp)| stamp);
        let done = self.desk.drain(stamp);
        self.note(done);
    }

    fn look(&mut self) {
        if let Some(closed) = self.closer.closed() {
            self.closed(closed);
        }
        if self.failing.is_some_and(|since| since.elapsed() >= PROBE) && !self.closer.is_busy {
            self.probe();
        }
        let oldest = self.closing.or(self.begun).map_or(0.0, |(begun, _)| begun.elapsed().as_secs_f64());
        self.metrics.unclosed_seconds.set(oldest);
        let due = self.begun.is_some_and(|(begun, _)| begun.elapsed() >= self.config.roll_interval);
        if due && !self.closer.is_busy {
            self.roll();
        }
    }

    fn roll(&mut self) {
        let Some((begun, stamp)) = self.begun.take() else { return };
        let (mut lanes, names) = self.desk.lanes();
        let done = lanes.try_for_each(|lane| lane.close(stamp, names));
        drop(lanes);
        if self.note(done) {
            let mut files = self.learned();
            files.extend(self.desk.lanes().0.flat_map(|lane| lane.take()));
            self.closer.close(Set { files, marks: self.desk.marks() });
            self.closing = Some((begun, stamp));
            self.desk.tidy();
        }
    }

    fn closed(&mut self, closed: Closed) {
        self.closing = None;
        match closed {
            Ok(marks) => {
                self.marks = marks.clone();
                self.standing.send_modify(|standing| standing.marks = marks);
            }
            Err(fault) => {
                self.note(Err(fault));
            }
        }
    }

    /// False: what there was since the last set is given up.
    fn note(&mut self, done: Result<(), RecorderError>) -> bool {
        let Err(fault) = done else { return true };
        self.metrics.failures.inc();
        if self.failing.is_none() {
            error!(fault = %chain(&fault), "recording fails: agents keep what they send");
        }
        self.failing = Some(Instant::now());
        self.metrics.failing.set(1);
        self.begun = None;
        for state in self.learned() {
            let _ = fs::remove_file(self.folder.join(format!("{}{}", state.name, super::lane::ASIDE)));
        }
        self.desk.lanes().0.for_each(|lane| lane.abandon());
        // A set that is on its way and still succeeds says so later; until then its batches count as not taken.
        self.desk.set_marks(&self.marks);
        self.epoch += 1;
        let epoch = self.epoch;
        self.standing.send_modify(|standing| (standing.epoch, standing.takes) = (epoch, false));
        false
    }

    /// Whether it would go again.
    fn probe(&mut self) {
        let aside = self.folder.join(format!("probe{}", super::lane::ASIDE));
        let write = || {
            let mut file = File::create(&aside)?;
            file.write_all(&[1; PROBE_BYTES])?;
            file.sync_all()
        };
        let done = write().map_err(failed(&aside.display()));
        let _ = fs::remove_file(&aside);
        if let Err(fault) = done {
            self.failing = Some(Instant::now());
            tracing::debug!(fault = %chain(&fault), "recording still fails");
            return;
        }
        info!("recording goes on");
        self.failing = None;
        self.metrics.failing.set(0);
        // What it holds may be further than what was given up.
        self.desk.set_marks(&self.marks);
        let marks = self.marks.clone();
        self.standing.send_modify(|standing| (standing.marks, standing.takes) = (marks, true));
    }

    fn finish(mut self) {
        if let Some(closed) = self.closer.wait() {
            self.closed(closed);
        }
        self.roll();
        if let Some(closed) = self.closer.wait() {
            self.closed(closed);
        }
        info!("the recorder's last files are closed");
    }
}
