//! reader ─▶ **supervisor** ─▶ batcher
//!
//! Starts the reader, takes its frames, and abandons it when it falls silent or says that a call hangs: killed, but never
//! waited for, as a process stuck in the driver may not die. The replacement leaves a hanging GPU alone for a while.

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
/// Between two starts of the reader.
const RESTART: Duration = Duration::from_millis(500);
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
    /// No reader: it fell silent or died.
    ReaderGone,
    ReaderBack,
}

pub struct Supervisor {
    config: Config,
    metrics: Arc<Metrics>,
    hung: BTreeMap<u32, Instant>,
    gone: bool,
}

impl Supervisor {
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Self {
        Self { config, metrics, hung: BTreeMap::new(), gone: false }
    }

    pub async fn run(mut self, notes: mpsc::Sender<Note>) {
        loop {
            self.hung.retain(|_, since| since.elapsed() < HUNG_RETRY);
            match self.start() {
                Ok((child, stdout)) => {
                    let closed = self.follow(stdout, &notes).await;
                    abandon(child);
                    if closed {
                        return;
                    }
                }
                Err(error) => tracing::error!(%error, "starting the reader failed"),
            }
            self.metrics.reader_restarts.inc();
            tokio::time::sleep(RESTART).await;
        }
    }

    fn start(&self) -> std::io::Result<(Child, ChildStdout)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("reader");
        if let Some(library) = &self.config.nvml_library {
            command.arg("--nvml-library").arg(library);
        }
        let milliseconds = |duration: Duration| duration.as_millis().to_string();
        command.arg("--power-period-ms").arg(milliseconds(self.config.power_period));
        command.arg("--sweep-period-ms").arg(milliseconds(self.config.sweep_period));
        command.arg("--deadline-ms").arg(milliseconds(self.config.deadline));
        for gpu in self.hung.keys() {
            command.arg("--skip-gpu").arg(gpu.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("the reader has no standard output"))?;
        Ok((child, stdout))
    }

    /// Takes frames until the reader has to be given up. True: nobody listens any more.
    async fn follow(&mut self, mut stdout: ChildStdout, notes: &mpsc::Sender<Note>) -> bool {
        let deadline = self.config.deadline + Duration::from_millis(1000);
        let mut buffer = Vec::new();
        let mut waiting = String::new();
        let why = loop {
            let frame = match tokio::time::timeout(deadline, read_frame(&mut stdout, &mut buffer)).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => break "the reader ended",
                Ok(Err(_)) => break "the reader sent what is no frame",
                Err(_) => break "the reader fell silent",
            };
            self.metrics.driver_seconds.inc_by(frame.driver_us as f64 / 1e6);
            if frame.hung_gpu > 0 {
                let gpu = frame.hung_gpu - 1;
                self.hung.insert(gpu, Instant::now());
                self.metrics.reader_up.set(0);
                if notes.send(Note::Hung(gpu)).await.is_err() {
                    return true;
                }
                tracing::warn!(gpu, "a call into the driver does not return, replacing the reader");
                return false;
            }
            if !frame.waiting.is_empty() && frame.waiting != waiting {
                tracing::warn!(reason = frame.waiting, "no driver answers, trying again every second");
                waiting.clone_from(&frame.waiting);
            }
            if self.forward(frame, notes).await.is_err() {
                return true;
            }
        };
        tracing::warn!(why, "replacing the reader");
        self.metrics.reader_up.set(0);
        let said = std::mem::replace(&mut self.gone, true);
        !said && notes.send(Note::ReaderGone).await.is_err()
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
            if std::mem::replace(&mut self.gone, false) {
                notes.send(Note::ReaderBack).await?;
            }
            notes.send(Note::Values { power: frame.power, sweeps: frame.sweeps }).await?;
        }
        Ok(())
    }
}

/// Kills the child and lets the runtime reap it whenever it dies.
fn abandon(mut child: Child) {
    let _ = child.start_kill();
    tokio::spawn(async move {
        let _ = child.wait().await;
    });
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
