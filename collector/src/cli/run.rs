//! `run`: the collector itself.

use super::Failure;
use crate::config::{Config, ConfigError};
use crate::server::Server;
use crate::service::{self, NotifyState, tell};
use anyhow::{Context, Result};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Runs the collector until SIGTERM or SIGINT; SIGHUP reloads the configuration.
///
/// Takes what agents send (gRPC), judges it, and serves a page, an API and metrics (HTTP). Logs go to standard error; RUST_LOG
/// sets what is logged (default: info,object_store=warn).
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The configuration, TOML. None: the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The judging, and all streams.
const WORKERS: usize = 2;
/// The object store's crate tells of each retry; what came of them is told here.
const LOGGED: &str = "info,object_store=warn";

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = read(self.config.as_deref())?;
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
        let runtime = runtime.context("start the runtime")?;
        Ok(runtime.block_on(serve(config, self.config.as_deref()))?)
    }
}

/// The file's configuration; without a file the defaults.
fn read(path: Option<&Path>) -> Result<Config, ConfigError> {
    path.map_or_else(|| Ok(Config::default()), Config::read)
}

/// SIGHUP starts all parts anew with the configuration as it is then, in this process, and so takes up renewed certificates and
/// another topology too: the judging goes on from its checkpoint. A configuration that has faults or cannot be set up leaves the
/// one before in place.
async fn serve(mut config: Config, path: Option<&Path>) -> Result<()> {
    let mut signals = Signals::listen().context("listen for signals")?;
    let mut before: Option<Config> = None;
    loop {
        let mut server = match (Server::start(config.clone()).await, before.take()) {
            (Ok(server), _) => server,
            (Err(fault), Some(old)) => {
                error!("the new configuration cannot be set up, the one before stays: {fault:#}");
                config = old;
                continue;
            }
            (Err(fault), None) => return Err(fault),
        };
        tell(&[NotifyState::Ready]);
        let view = server.view();
        let request = tokio::select! {
            request = signals.next(path) => request,
            fault = server.failed() => return Err(fault),
            never = service::tend(view) => match never {},
        };
        if matches!(request, Request::Stop) {
            info!("collector stops");
        }
        server.stop().await?;
        match request {
            Request::Stop => return Ok(()),
            Request::Reload(new) => before = Some(std::mem::replace(&mut config, *new)),
        }
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
            match read(path) {
                Ok(config) => {
                    info!("configuration read, all parts start anew with it");
                    return Request::Reload(Box::new(config));
                }
                Err(fault) => error!("not reloaded, the configuration before stays: {:#}", anyhow::Error::from(fault)),
            }
            tell(&[NotifyState::Ready]);
        }
        tell(&[NotifyState::Stopping]);
        Request::Stop
    }
}
