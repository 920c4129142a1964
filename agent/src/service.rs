//! **service**: the agent under a service manager. Signals come in; that it is ready, how it is and that it lives go out
//! (sd_notify(3)); where nobody asks for that, nothing is said.
//!
//! SIGTERM stops. SIGHUP starts all parts anew with the configuration as it is then, in this process, and so takes up renewed
//! certificates too. A configuration that has faults or cannot be set up leaves the one before in place.

use crate::config::{self, Config};
use crate::exporter::Metrics;
use crate::release::Release;
use crate::spool::{Level, Rest, Spool};
use anyhow::Context;
use sd_notify::NotifyState;
use std::cell::Cell;
use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often is looked whether there is something to say.
const LOOK: Duration = Duration::from_secs(1);
/// Signs of life while the manager has patience for one.
const PULSES: u32 = 3;

/// Runs the agent until SIGTERM or SIGINT.
pub async fn run(mut config: Config, path: Option<&Path>) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("listening for signals")?;
    let mut before = None;
    let mut rest = Rest::default();
    let release = Release::default();
    loop {
        let service = Service { release: release.clone(), ..Service::default() };
        let mut told = None;
        let ended = crate::run(config.clone(), &service, &mut rest, async { told = Some(signals.next(path).await) }).await;
        config = match (ended, told) {
            (Ok(()), Some(Request::Reload(new))) => {
                before = Some(config);
                *new
            }
            (Ok(()), _) => return Ok(()),
            (Err(error), _) => match before.take().filter(|_| !service.ready.get()) {
                Some(old) => {
                    tracing::error!("the new configuration cannot be set up, the one before stays: {error:#}");
                    old
                }
                None => return Err(error),
            },
        };
    }
}

enum Request {
    Stop,
    Reload(Box<Config>),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// What is asked for next. A file with faults is no request.
    async fn next(&mut self, path: Option<&Path>) -> Request {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {}
            }
            tell(&[NotifyState::Reloading]);
            match config::load(path) {
                Ok(config) => {
                    tracing::info!("configuration read, all parts start anew with it");
                    return Request::Reload(Box::new(config));
                }
                Err(faults) => tracing::error!("not reloaded, the configuration before stays: {faults}"),
            }
            tell(&[NotifyState::Ready]);
        }
        tell(&[NotifyState::Stopping]);
        Request::Stop
    }
}

/// What one run of the agent tells its manager.
#[derive(Debug, Default)]
pub struct Service {
    ready: Cell<bool>,
    /// Outlives the run.
    release: Release,
}

impl Service {
    pub(crate) fn release(&self) -> &Release {
        &self.release
    }

    /// Says that the agent is ready, which it is when everything is set up, and from then on how it is.
    pub(crate) async fn tend(&self, metrics: &Metrics, spool: &Spool) -> Infallible {
        self.ready.set(true);
        tell(&[NotifyState::Ready]);
        let mut pulse = Pulse::new(sd_notify::watchdog_enabled());
        let mut said = String::new();
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let reader = match self.release.left() {
                Some(_) => Reader::Released,
                None if metrics.reader_up.get() == 1 => Reader::Reads,
                None => Reader::Waits,
            };
            let status = status(reader, metrics.readings.answering(), metrics.connected.get() == 1, spool.level());
            if status != said {
                tell(&[NotifyState::Status(&status)]);
                said = status;
            }
            if pulse.beats(metrics.batches.get(), Instant::now()) {
                tell(&[NotifyState::Watchdog]);
            }
        }
    }
}

/// When to give a sign of life: as long as batches are made. One is made each second, whatever the driver and the collector do.
#[derive(Debug)]
struct Pulse {
    period: Duration,
    batches: u64,
    last: Option<Instant>,
}

impl Pulse {
    /// None: nobody watches.
    fn new(patience: Option<Duration>) -> Self {
        Self { period: patience.map_or(Duration::MAX, |patience| patience / PULSES), batches: 0, last: None }
    }

    fn beats(&mut self, batches: u64, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.duration_since(last) >= self.period);
        let beats = due && batches > self.batches;
        if beats {
            (self.batches, self.last) = (batches, Some(now));
        }
        beats
    }
}

#[derive(Debug, Clone, Copy)]
enum Reader {
    Reads,
    Waits,
    Released,
}

/// One line for who asks how the unit is.
fn status(reader: Reader, (up, silent): (usize, usize), connected: bool, waiting: Level) -> String {
    let gpus = match (reader, silent) {
        (Reader::Waits, _) => "no driver answers".into(),
        (Reader::Released, _) => "has let go of the driver, as asked".into(),
        (Reader::Reads, 0) => format!("reading {up} GPUs"),
        (Reader::Reads, _) => format!("reading {up} GPUs, {silent} do not answer"),
    };
    match connected {
        true => format!("{gpus}; streaming to the collector"),
        false => format!("{gpus}; no stream to the collector, {:.0} MiB wait for it", waiting.bytes as f64 / f64::from(1 << 20)),
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "telling the service manager failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sign_of_life_without_new_batches() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(Some(Duration::from_secs(15)));
        assert!(!pulse.beats(0, after(0)));
        assert!(pulse.beats(1, after(1)));
        assert!(!pulse.beats(5, after(5)), "not due yet");
        assert!(pulse.beats(6, after(6)));
        assert!(!pulse.beats(6, after(60)), "the batcher is stuck");
        assert!(pulse.beats(7, after(61)));
    }

    #[test]
    fn the_status_says_what_is_missing() {
        let waiting = Level { batches: 99, bytes: 3 << 20 };
        assert_eq!(status(Reader::Reads, (8, 0), true, waiting), "reading 8 GPUs; streaming to the collector");
        let both = status(Reader::Reads, (7, 1), false, waiting);
        assert_eq!(both, "reading 7 GPUs, 1 do not answer; no stream to the collector, 3 MiB wait for it");
        assert!(status(Reader::Waits, (0, 0), true, waiting).starts_with("no driver answers;"));
        assert!(status(Reader::Released, (0, 8), true, waiting).starts_with("has let go of the driver"));
    }
}
