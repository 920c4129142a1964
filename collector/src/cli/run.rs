//! `run`: the collector itself.

use super::Failure;
use crate::config::Config;
use crate::server::Server;
use anyhow::{Context, Result};
use std::io::IsTerminal;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// Runs the collector until SIGTERM or SIGINT.
///
/// Takes what agents send (gRPC), judges it, and serves a page, an API and metrics (HTTP). Logs go to standard error; RUST_LOG
/// sets what is logged (default: info).
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The configuration, TOML. None: the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The judging, and all streams.
const WORKERS: usize = 2;

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
        let runtime = runtime.context("start the runtime")?;
        Ok(runtime.block_on(serve(config))?)
    }
}

async fn serve(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut server = Server::start(config).await?;
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        error = server.failed() => Some(error),
    };
    if let Some(error) = failed {
        return Err(error);
    }
    info!("collector stops");
    server.stop().await
}
