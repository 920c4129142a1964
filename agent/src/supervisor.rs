//! reader ─▶ **supervisor** ─▶ batcher
//!
//! Starts the reader, takes its frames, and abandons it when it falls silent or says that a call hangs: killed, but never
//! waited for, as a process stuck in the driver may not die. The replacement leaves a hanging GPU alone, until a trial process
//! of its own has shown that calls for it return again.

use crate::backoff::Backoff;
use crate::exporter::Metrics;
use crate::reader::Config;
use crate::reader::protocol::{Frame, Inventory, Power, Sweep};
use prost::Message;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;

/// A hanging GPU is tried again after this time.
const HUNG_RETRY: Duration = Duration::from_secs(30);
/// Between two starts of the reader: first and last.
const RESTART: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(10));
/// Opening many boards takes a driver this long at most.
const OPENING: Duration = Duration::from_secs(60);
/// Abandoned readers that may be stuck in the driver at a time; no further one is started.
const MAX_STUCK: usize = 4;
/// Largest frame that is believed, bytes.
const MAX_FRAME: usize = 1 << 20;

/// What the reader shows.
#[derive(Debug)]
pub enum Note {
    Inventory(Inventory),
    Values {
        power: Vec<Power>,
        sweeps: Vec<Sweep>,
    },
    Lost(u32),
    /// A call for this GPU does not return.
    Hung(u32),
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
    /// Nobody listens.
    Closed,
    Failed,
    /// A GPU that it leaves alone answers again.
    Answers,
}

impl Supervisor {
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Self {
        let backoff = Backoff::new(RESTART.0, RESTART.1);
        Self { config, metrics, hung: BTreeMap::new(), trial: None, abandoned: Vec::new(), backoff, gone: false }
    }

    pub async fn run(mut self, notes: mpsc::Sender<Note>) {
        loop {
            let end = match self.start() {
                Ok((child, stdout)) => {
                    let end = self.follow(stdout, &notes).await;
                    self.abandon(child);
                    end
                }
                Err(error) => {
                    tracing::error!(%error, "starting the reader failed");
                    End::Failed
                }
            };
            match end {
                End::Closed => return,
                End::Answers => {}
                End::Failed => tokio::time::sleep(self.backoff.next(rand::random())).await,
            }
            self.metrics.reader_restarts.inc();
            while self.stuck() >= MAX_STUCK {
                tokio::time::sleep(RESTART.1).await;
            }
        }
    }

    /// Kills the child; it is reaped whenever it dies.
    fn abandon(&mut self, mut child: Child) {
        let _ = child.start_kill();
        self.abandoned.push(child);
    }

    /// Abandoned readers that have not died.
    fn stuck(&mut self) -> usize {
        self.abandoned.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        self.abandoned.len()
    }

    fn command(&self) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("reader");
        if let Some(library) = &self.config.nvml_library {
            command.arg("--nvml-library").arg(library);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        Ok(command)
    }

    fn start(&self) -> std::io::Result<(Child, ChildStdout)> {
        let mut command = self.command()?;
        let milliseconds = |duration: Duration| duration.as_millis().to_string();
        command.arg("--power-period-ms").arg(milliseconds(self.config.power_period));
        command.arg("--sweep-period-ms").arg(milliseconds(self.config.sweep_period));
        command.arg("--deadline-ms").arg(milliseconds(self.config.deadline));
        for gpu in self.hung.keys() {
            command.arg("--skip-gpu").arg(gpu.to_string());
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("the reader has no standard output"))?;
        Ok((child, stdout))
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
        let spawned =
            self.command().and_then(|mut command| command.arg("--try-gpu").arg(gpu.to_string()).stdout(Stdio::null()).spawn());
        match spawned {
            Ok(child) => self.trial = Some(Trial { gpu, child, since: Instant::now() }),
            Err(error) => tracing::warn!(gpu, %error, "starting a trial of the gpu failed"),
        }
        false
    }

    /// Says once that no reader delivers.
    async fn say_gone(&mut self, why: &'static str, notes: &mpsc::Sender<Note>) -> Result<(), mpsc::error::SendError<Note>> {
        self.metrics.reader_up.set(0);
        if std::mem::replace(&mut self.gone, true) {
            return Ok(());
        }
        tracing::warn!(why, "no reader delivers");
        notes.send(Note::ReaderGone(why)).await
    }

    /// Takes frames until the reader has to be given up.
    async fn follow(&mut self, mut stdout: ChildStdout, notes: &mpsc::Sender<Note>) -> End {
        let started = Instant::now();
        let mut opened = false;
        let deadline = self.config.deadline + Duration::from_millis(1000);
        let mut buffer = Vec::new();
        let mut waiting = String::new();
        let why = loop {
            if self.answers_again() {
                return End::Answers;
            }
            let frame = match tokio::time::timeout(deadline, read_frame(&mut stdout, &mut buffer)).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => break "the reader ended",
                Ok(Err(_)) => break "the reader sent what is no frame",
                Err(_) if !opened && started.elapsed() < OPENING => {
                    if self.say_gone("the driver does not open", notes).await.is_err() {
                        return End::Closed;
                    }
                    continue;
                }
                Err(_) => break "the reader fell silent",
            };
            opened |= frame.inventory.is_some();
            self.metrics.driver_seconds.inc_by(frame.driver_us as f64 / 1e6);
            if frame.hung_gpu > 0 {
                let gpu = frame.hung_gpu - 1;
                self.hung.insert(gpu, Instant::now());
                self.metrics.reader_up.set(0);
                if notes.send(Note::Hung(gpu)).await.is_err() {
                    return End::Closed;
                }
                tracing::warn!(gpu, "a call into the driver does not return, replacing the reader");
                return End::Failed;
            }
            if !frame.waiting.is_empty() && frame.waiting != waiting {
                tracing::warn!(reason = frame.waiting, "no driver answers, trying again every second");
                waiting.clone_from(&frame.waiting);
            }
            if self.forward(frame, notes).await.is_err() {
                return End::Closed;
            }
        };
        match self.say_gone(why, notes).await {
            Ok(()) => End::Failed,
            Err(_) => End::Closed,
        }
    }

    async fn forward(&mut self, frame: Frame, notes: &mpsc::Sender<Note>) -> Result<(), mpsc::error::SendError<Note>> {
        if let Some(inventory) = frame.inventory {
            self.metrics.reader_up.set(1);
            notes.send(Note::Inventory(inventory)).await?;
        }
        for gpu in frame.lost {
            notes.send(Note::Lost(gpu)).await?;
        }
        if !frame.power.is_empty() || !frame.sweeps.is_empty() {
            self.backoff.reset();
            if std::mem::replace(&mut self.gone, false) {
                notes.send(Note::ReaderBack).await?;
            }
            notes.send(Note::Values { power: frame.power, sweeps: frame.sweeps }).await?;
        }
        Ok(())
    }
}

/// The next frame; None: the pipe is closed.
async fn read_frame(stdout: &mut ChildStdout, buffer: &mut Vec<u8>) -> std::io::Result<Option<Frame>> {
    loop {
        if !buffer.is_empty() {
            let mut rest = buffer.as_slice();
            if let Ok(length) = prost::decode_length_delimiter(&mut rest) {
                if length > MAX_FRAME {
                    return Err(std::io::Error::other("frame too large"));
                }
                let head = buffer.len() - rest.len();
                if rest.len() >= length {
                    let frame = Frame::decode(&rest[..length]).map_err(std::io::Error::other)?;
                    buffer.drain(..head + length);
                    return Ok(Some(frame));
                }
            } else if buffer.len() >= 10 {
                return Err(std::io::Error::other("no length"));
            }
        }
        if stdout.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
