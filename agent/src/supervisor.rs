//! reader ─▶ **supervisor** ─▶ batcher
//!
//! Starts the reader, takes its frames, and abandons it when it falls silent or says that a call hangs: killed, but never
//! waited for, as a process stuck in the driver may not die. The replacement leaves a hanging GPU alone, until a trial process
//! of its own has shown that calls for it return again.

use crate::backoff::Backoff;
use crate::child::{self, Frames};
use crate::exporter::Metrics;
use crate::reader::Config;
use crate::reader::protocol::{Frame, Inventory, Power, Sweep, Xid};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::Child;
use tokio::sync::mpsc;

/// A hanging GPU is tried again after this time.
const HUNG_RETRY: Duration = Duration::from_secs(30);
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
    ReaderGone(&'static str),
    ReaderBack,
}

pub struct Supervisor {
    config: Config,
    metrics: Arc<Metrics>,
    /// Hanging GPUs, and when they were last tried.
    hung: BTreeMap<u32, Instant>,
    trial: Option<Trial>,
    /// Killed, not dead yet.
    abandoned: Vec<Child>,
    backoff: Backoff,
    gone: bool,
}

/// A process that does nothing but call the driver for one hanging GPU. As long as it cannot be reaped the GPU hangs, and no
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
}

/// Nobody listens.
struct Closed;

impl From<mpsc::error::SendError<Note>> for Closed {
    fn from(_: mpsc::error::SendError<Note>) -> Self {
        Self
    }
}

impl Supervisor {
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Self {
        let backoff = Backoff::new(RESTART.0, RESTART.1);
        Self { config, metrics, hung: BTreeMap::new(), trial: None, abandoned: Vec::new(), backoff, gone: false }
    }

    /// Until nobody listens; dropping it ends the reader.
    pub async fn run(mut self, notes: mpsc::Sender<Note>) {
        let Err(Closed) = self.keep_reading(&notes).await;
    }

    async fn keep_reading(&mut self, notes: &mpsc::Sender<Note>) -> Result<Infallible, Closed> {
        loop {
            let started = Instant::now();
            let end = match self.start() {
                Ok((child, frames)) => {
                    let end = self.follow(frames, notes).await;
                    self.abandon(child);
                    end?
                }
                Err(error) => {
                    tracing::error!(%error, "starting the reader failed");
                    self.say_gone("the reader does not start", notes).await?;
                    End::Failed
                }
            };
            if started.elapsed() >= STEADY {
                self.backoff.reset();
            }
            if let End::Failed = end {
                tokio::time::sleep(self.backoff.next(rand::random())).await;
            }
            self.wait_for_room(notes).await?;
            self.metrics.reader_restarts.inc();
        }
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
        while self.stuck() >= MAX_STUCK {
            self.say_gone("readers are stuck in the driver and cannot be killed", notes).await?;
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
        for gpu in self.hung.keys() {
            command.arg("--skip-gpu").arg(gpu.to_string());
        }
        child::spawn(command)
    }

    /// Whether a hanging GPU answers again. Starts a trial where it is time for one; never waits.
    fn answers_again(&mut self) -> bool {
        if let Some(trial) = &mut self.trial {
            match trial.child.try_wait() {
                Ok(None) => {
                    if trial.since.elapsed() > self.config.deadline {
                        let _ = trial.child.start_kill();
                    }
                    return false;
                }
                Ok(Some(status)) if status.success() => {
                    let gpu = trial.gpu;
                    tracing::info!(gpu, "calls into the driver return again");
                    self.hung.remove(&gpu);
                    self.trial = None;
                    return true;
                }
                _ => self.trial = None,
            }
        }
        let Some((&gpu, tried)) = self.hung.iter_mut().find(|(_, tried)| tried.elapsed() >= HUNG_RETRY) else { return false };
        *tried = Instant::now();
        let command = child::command(self.config.nvml_library.as_deref());
        match command.and_then(|mut command| command.arg("--try-gpu").arg(gpu.to_string()).spawn()) {
            Ok(child) => self.trial = Some(Trial { gpu, child, since: Instant::now() }),
            Err(error) => tracing::warn!(gpu, %error, "starting a trial of the gpu failed"),
        }
        false
    }

    /// Says once that no reader delivers.
    async fn say_gone(&mut self, why: &'static str, notes: &mpsc::Sender<Note>) -> Result<(), Closed> {
        self.metrics.reader_up.set(0);
        if std::mem::replace(&mut self.gone, true) {
            return Ok(());
        }
        tracing::warn!(why, "no reader delivers");
        Ok(notes.send(Note::ReaderGone(why)).await?)
    }

    /// Takes frames until the reader has to be given up.
    async fn follow(&mut self, mut frames: Frames, notes: &mpsc::Sender<Note>) -> Result<End, Closed> {
        let started = Instant::now();
        let (mut opened, mut delivers) = (false, false);
        let deadline = self.config.deadline + Duration::from_millis(1000);
        let mut waiting = String::new();
        let why = loop {
            self.stuck();
            if self.answers_again() {
                return Ok(End::Replace);
            }
            let frame = match tokio::time::timeout(deadline, frames.next()).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => break "the reader ended",
                Ok(Err(_)) => break "the reader sent what is no frame",
                Err(_) if !opened && started.elapsed() < OPENING => {
                    self.say_gone("the driver does not open", notes).await?;
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
            if !frame.waiting.is_empty() && frame.waiting != waiting {
                tracing::warn!(reason = frame.waiting, "no driver answers, trying again every second");
                waiting.clone_from(&frame.waiting);
            }
            self.forward(frame, notes).await?;
        };
        self.say_gone(why, notes).await?;
        Ok(End::Failed)
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
            self.say_gone("calls for one gpu after the other do not return", notes).await?;
        }
        Ok(End::Failed)
    }

    async fn forward(&mut self, frame: Frame, notes: &mpsc::Sender<Note>) -> Result<(), Closed> {
        if let Some(inventory) = frame.inventory {
            self.metrics.reader_up.set(1);
            notes.send(Note::Inventory(inventory)).await?;
        }
        if !frame.xids.is_empty() {
            notes.send(Note::Xids(frame.xids)).await?;
        }
        for gpu in frame.lost {
            notes.send(Note::Lost(gpu)).await?;
        }
        if !frame.power.is_empty() || !frame.sweeps.is_empty() {
            if std::mem::replace(&mut self.gone, false) {
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
        let mut supervisor = Supervisor::new(Config::default(), metrics);
        let mut sleep = tokio::process::Command::new("sleep");
        sleep.arg("1000").kill_on_drop(true);
        supervisor.abandoned = (0..MAX_STUCK).map(|_| sleep.spawn().unwrap()).collect();
        let stuck = supervisor.abandoned[0].id().unwrap().to_string();
        let (notes, mut said) = mpsc::channel(1);
        let waiting = tokio::spawn(async move { supervisor.wait_for_room(&notes).await.is_ok() });
        assert!(matches!(said.recv().await, Some(Note::ReaderGone(_))));
        assert!(!waiting.is_finished());
        assert!(std::process::Command::new("kill").args(["-KILL", &stuck]).status().unwrap().success());
        assert!(waiting.await.unwrap());
    }
}
