//! reader ─▶ **supervisor** ─▶ batcher
//!
//! Starts the reader, takes its frames, and abandons it when it falls silent or says that a call hangs: killed, but never
//! waited for, as a process stuck in the driver may not die. The replacement leaves a hanging GPU alone, until a trial process
//! of its own has shown that calls for it return again. A GPU that was lost is tried the same way: a process that has opened the
//! driver before may not see that it is back. While the driver is to be left alone ([`Release`]) there is no such process.

mod paces;

use crate::backoff::Backoff;
use crate::child::{self, Frames};
use crate::control::span;
use crate::exporter::Metrics;
use crate::reader::protocol::{Frame, Inventory, Power, Sweep, Xid};
use crate::reader::{Config, STILL_LOST};
use crate::release::{Grip, Release};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::Child;
use tokio::sync::mpsc;

use paces::Paces;

/// A hanging or lost GPU is tried again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// Between two starts of the reader: first and last.
const RESTART: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(10));
/// A reader that has lasted this long was started well: the next pause is the first again.
const STEADY: Duration = Duration::from_secs(10);
/// Opening many boards takes a driver this long at most.
const OPENING: Duration = Duration::from_secs(60);
/// Abandoned readers that may be stuck in the driver at a time; no further one is started.
const MAX_STUCK: usize = 4;
/// Between two looks whether one of them has died.
const STUCK_RETRY: Duration = Duration::from_secs(1);
/// Between two looks whether a process has died that has the driver open, while it is to be let go of.
const LETTING_GO: Duration = Duration::from_millis(20);

/// What the reader shows.
#[derive(Debug)]
pub enum Note {
    Inventory(Inventory),
    Values {
        power: Vec<Power>,
        sweeps: Vec<Sweep>,
    },
    Xids(Vec<Xid>),
    Lost(u32),
    /// A call for this GPU, by its name in nvml.h, does not return.
    Hung(u32, String),
    /// No reader delivers, and why.
    ReaderGone(Gone, String),
    ReaderBack,
    /// The driver is let go of, for so long.
    Released(Duration),
    /// It is not any more.
    Retaken,
}

/// Why nothing is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Calls do not return, or the reader ends time and again.
    Hung,
    /// The driver that was open has been unloaded or replaced, or has lost everything.
    Driver,
}

impl Gone {
    /// The reason that is shown with a GPU.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hung => "driver_hung",
            Self::Driver => "driver_gone",
        }
    }
}

pub struct Supervisor {
    config: Config,
    /// Name of this node.
    node: String,
    metrics: Arc<Metrics>,
    release: Release,
    /// Hanging and lost GPUs, and when they were last tried.
    hung: BTreeMap<u32, Instant>,
    lost: BTreeMap<u32, Instant>,
    paces: Paces,
    /// Why no driver answers, as it was logged last.
    waiting: String,
    trial: Option<Trial>,
    /// Killed, not dead yet.
    abandoned: Vec<Child>,
    backoff: Backoff,
    /// It was said that no reader delivers.
    gone: bool,
    /// Whoever listens takes nothing for known until it hears that a reader delivers.
    silent: bool,
}

/// A process that does nothing but call the driver for one hanging or lost GPU. As long as it cannot be reaped the GPU hangs, and no
/// other one is started.
struct Trial {
    gpu: u32,
    child: Child,
    since: Instant,
}

/// Why a reader is not followed any more.
enum End {
    Failed,
    /// One GPU hung, or one that it leaves alone answers again: the next reader takes its place at once.
    Replace,
    /// The driver is to be let go of.
    Release,
}

/// Nobody listens.
struct Closed;

impl From<mpsc::error::SendError<Note>> for Closed {
    fn from(_: mpsc::error::SendError<Note>) -> Self {
        Self
    }
}

impl Supervisor {
    pub fn new(config: Config, node: String, release: Release, metrics: Arc<Metrics>) -> Self {
        Self {
            config,
            node,
            metrics,
            release,
            hung: BTreeMap::new(),
            lost: BTreeMap::new(),
            paces: Paces::default(),
            waiting: String::new(),
            trial: None,
            abandoned: Vec::new(),
            backoff: Backoff::new(RESTART.0, RESTART.1),
            gone: false,
            silent: false,
        }
    }

    /// Until nobody listens; dropping it ends the reader.
    pub async fn run(mut self, notes: mpsc::Sender<Note>) {
        let Err(Closed) = self.keep_reading(&notes).await;
    }

    async fn keep_reading(&mut self, notes: &mpsc::Sender<Note>) -> Result<Infallible, Closed> {
        loop {
            self.stay_away(notes).await?;
            let started = Instant::now();
            let end = match self.start() {
                Ok((child, frames)) => {
                    let end = self.follow(frames, notes).await;
                    self.abandon(child);
                    end?
                }
                Err(error) => {
                    tracing::error!(%error, "starting the reader failed");
                    self.say_gone(Gone::Hung, "the reader does not start", notes).await?;
                    End::Failed
                }
            };
            if started.elapsed() >= STEADY {
                self.backoff.reset();
            }
            if let End::Failed = end {
                let pause = self.backoff.next(rand::random());
                tokio::select! { () = tokio::time::sleep(pause) => {} () = self.release.changed() => {} }
            }
            self.wait_for_room(notes).await?;
            self.metrics.reader_restarts.inc();
        }
    }

    /// As long as the driver is to be left alone: no process has it open, but for those that do not die.
    async fn stay_away(&mut self, notes: &mpsc::Sender<Note>) -> Result<(), Closed> {
        let mut away = false;
        while let Some(left) = self.release.left() {
            if !std::mem::replace(&mut away, true) {
                tracing::info!(duration = span(left), "the driver is let go of");
                self.metrics.driver_released.set(1);
                self.metrics.reader_up.set(0);
                if let Some(trial) = self.trial.take() {
                    self.abandon(trial.child);
                }
                notes.send(Note::Released(left)).await?;
            }
            let stuck = self.stuck();
            self.release.set_grip(if stuck == 0 { Grip::Free } else { Grip::Stuck(stuck) });
            let look = left.min(if stuck == 0 { STUCK_RETRY } else { LETTING_GO });
            tokio::select! { () = tokio::time::sleep(look) => {} () = self.release.changed() => {} }
        }
        self.release.set_grip(Grip::Held);
        if away {
            tracing::info!("the driver is taken again");
            self.metrics.driver_released.set(0);
            // Whatever was wrong is another driver's.
            (self.hung, self.lost, self.gone, self.silent) = (BTreeMap::new(), BTreeMap::new(), false, true);
            self.waiting.clear();
            notes.send(Note::Retaken).await?;
        }
        Ok(())
    }

    /// Kills the child; it is reaped whenever it dies.
    fn abandon(&mut self, mut child: Child) {
        let _ = child.start_kill();
        self.abandoned.push(child);
    }

    /// How many abandoned readers have not died; those that have are reaped.
    fn stuck(&mut self) -> usize {
        self.abandoned.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        self.abandoned.len()
    }

    /// Waits until few enough are stuck.
    async fn wait_for_room(&mut self, notes: &mpsc::Sender<Note>) -> Result<(), Closed> {
        while self.stuck() >= MAX_STUCK && self.release.left().is_none() {
            self.say_gone(Gone::Hung, "readers are stuck in the driver and cannot be killed", notes).await?;
            tokio::time::sleep(STUCK_RETRY).await;
        }
        Ok(())
    }

    fn start(&self) -> std::io::Result<(Child, Frames)> {
        let mut command = child::command(self.config.nvml_library.as_deref())?;
        let milliseconds = |duration: Duration| duration.as_millis().to_string();
        command.arg("--power-period-ms").arg(milliseconds(self.config.power_period));
        command.arg("--sweep-period-ms").arg(milliseconds(self.config.sweep_period));
        command.arg("--deadline-ms").arg(milliseconds(self.config.deadline));
        if !self.config.gpm {
            command.arg("--no-gpm");
        }
        command.arg("--budget-us").arg(self.config.budget.as_micros().to_string());
        command.arg("--power-source").arg(self.config.power_source.name());
        command.arg(format!("--node={}", self.node));
        for gpu in self.hung.keys() {
            command.arg("--skip-gpu").arg(gpu.to_string());
        }
        child::spawn(command)
    }

    /// Whether a hanging or lost GPU answers again. Starts a trial where it is time for one; never waits.
    fn answers_again(&mut self) -> bool {
        if let Some(trial) = &mut self.trial {
            match trial.child.try_wait() {
                Ok(None) => {
                    if trial.since.elapsed() > self.config.deadline {
                        let _ = trial.child.start_kill();
                    }
                    return false;
                }
                Ok(Some(status)) => {
                    let gpu = trial.gpu;
                    self.trial = None;
                    if self.tried(gpu, status) {
                        return true;
                    }
                }
                Err(_) => self.trial = None,
            }
        }
        let mut both = self.hung.iter_mut().chain(&mut self.lost);
        let Some((&gpu, tried)) = both.find(|(_, tried)| tried.elapsed() >= TRY_AGAIN) else { return false };
        *tried = Instant::now();
        let command = child::command(self.config.nvml_library.as_deref());
        match command.and_then(|mut command| command.arg("--try-gpu").arg(gpu.to_string()).spawn()) {
            Ok(child) => self.trial = Some(Trial { gpu, child, since: Instant::now() }),
            Err(error) => tracing::warn!(gpu, %error, "starting a trial of the gpu failed"),
        }
        false
    }

    /// Whether another reader would see more of the GPU than the one that is, after such a trial.
    fn tried(&mut self, gpu: u32, status: ExitStatus) -> bool {
        let is_there = status.success();
        let returns = is_there || status.code() == Some(i32::from(STILL_LOST));
        if returns && self.hung.remove(&gpu).is_some() {
            tracing::info!(gpu, "calls into the driver return again");
            return true;
        }
        if is_there && self.lost.remove(&gpu).is_some() {
            tracing::info!(gpu, "the gpu is there again, for who opens the driver anew");
            return true;
        }
        false
    }

    /// Says once that no reader delivers.
    async fn say_gone(&mut self, gone: Gone, why: &str, notes: &mpsc::Sender<Note>) -> Result<(), Closed> {
        self.metrics.reader_up.set(0);
        if std::mem::replace(&mut self.gone, true) {
            return Ok(());
        }
        self.silent = true;
        tracing::warn!(why, "no reader delivers");
        Ok(notes.send(Note::ReaderGone(gone, why.into())).await?)
    }

    /// Takes frames until the reader has to be given up.
    async fn follow(&mut self, mut frames: Frames, notes: &mpsc::Sender<Note>) -> Result<End, Closed> {
        let started = Instant::now();
        let (mut opened, mut delivers) = (false, false);
        let deadline = self.config.deadline + Duration::from_millis(1000);
        let release = self.release.clone();
        let why = loop {
            self.stuck();
            if release.left().is_some() {
                return Ok(End::Release);
            }
            if self.answers_again() {
                return Ok(End::Replace);
            }
            let next = tokio::select! {
                next = tokio::time::timeout(deadline, frames.next()) => next,
                () = release.changed() => continue,
            };
            let frame = match next {
                Ok(Ok(Some(frame))) => frame,
                // It has said why.
                Ok(Ok(None)) if !opened && !self.waiting.is_empty() => return Ok(End::Failed),
                Ok(Ok(None)) => break "the reader ended",
                Ok(Err(_)) => break "the reader sent what is no frame",
                Err(_) if !opened && started.elapsed() < OPENING => {
                    self.say_gone(Gone::Hung, "the driver does not open", notes).await?;
                    continue;
                }
                Err(_) => break "the reader fell silent",
            };
            opened |= frame.inventory.is_some();
            delivers |= !frame.power.is_empty() || !frame.sweeps.is_empty();
            self.metrics.driver_seconds.inc_by(frame.driver_us as f64 / 1e6);
            if let Some(hung) = frame.hung {
                tracing::warn!(gpu = hung.gpu, call = hung.call, "a call into the driver does not return, replacing the reader");
                let Some(gpu) = hung.gpu else { break "a call into the driver does not return" };
                return self.leave_alone(gpu, hung.call, delivers, notes).await;
            }
            if !frame.gone.is_empty() {
                self.say_gone(Gone::Driver, &frame.gone, notes).await?;
                return Ok(End::Failed);
            }
            self.take_waiting(&frame.waiting);
            self.forward(frame, notes).await?;
        };
        self.say_gone(Gone::Hung, why, notes).await?;
        Ok(End::Failed)
    }

    fn take_waiting(&mut self, waiting: &str) {
        if !waiting.is_empty() && waiting != self.waiting {
            tracing::warn!("no driver answers, trying again and again: {waiting}");
            self.waiting = waiting.into();
        }
    }

    /// A hanging GPU: the next reader does without it. Where the reader after a hanging one hangs too, it is not one GPU alone.
    async fn leave_alone(&mut self, gpu: u32, call: String, delivers: bool, notes: &mpsc::Sender<Note>) -> Result<End, Closed> {
        self.hung.insert(gpu, Instant::now());
        self.metrics.reader_up.set(0);
        notes.send(Note::Hung(gpu, call)).await?;
        if delivers {
            return Ok(End::Replace);
        }
        if self.hung.len() > 1 {
            self.say_gone(Gone::Hung, "calls for one gpu after the other do not return", notes).await?;
        }
        Ok(End::Failed)
    }

    async fn forward(&mut self, frame: Frame, notes: &mpsc::Sender<Note>) -> Result<(), Closed> {
        if let Some(inventory) = frame.inventory {
            self.metrics.reader_up.set(1);
            self.waiting.clear();
            self.paces.forget(&self.metrics);
            tracing::info!(driver = inventory.driver_version, gpus = inventory.gpus.len(), "the driver is open");
            notes.send(Note::Inventory(inventory)).await?;
        }
        self.paces.take(frame.paces, &self.metrics);
        if !frame.xids.is_empty() {
            notes.send(Note::Xids(frame.xids)).await?;
        }
        for gpu in frame.lost {
            self.lost.entry(gpu).or_insert_with(Instant::now);
            notes.send(Note::Lost(gpu)).await?;
        }
        for sweep in &frame.sweeps {
            self.lost.remove(&sweep.gpu);
        }
        if !frame.power.is_empty() || !frame.sweeps.is_empty() {
            self.gone = false;
            if std::mem::replace(&mut self.silent, false) {
                notes.send(Note::ReaderBack).await?;
            }
            notes.send(Note::Values { power: frame.power, sweeps: frame.sweeps }).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_that_cannot_be_killed_are_said_and_waited_for() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut supervisor = Supervisor::new(Config::default(), String::new(), Release::default(), metrics);
        let mut sleep = tokio::process::Command::new("sleep");
        sleep.arg("1000").kill_on_drop(true);
        supervisor.abandoned = (0..MAX_STUCK).map(|_| sleep.spawn().unwrap()).collect();
        let stuck = supervisor.abandoned[0].id().unwrap().to_string();
        let (notes, mut said) = mpsc::channel(1);
        let waiting = tokio::spawn(async move { supervisor.wait_for_room(&notes).await.is_ok() });
        assert!(matches!(said.recv().await, Some(Note::ReaderGone(..))));
        assert!(!waiting.is_finished());
        assert!(std::process::Command::new("kill").args(["-KILL", &stuck]).status().unwrap().success());
        assert!(waiting.await.unwrap());
    }
}
