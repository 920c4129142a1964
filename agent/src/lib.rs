//! reader ┐
//! (NVML) │
//! host ──┼─▶ batcher ─▶ spool ─▶ uplink ═══ gRPC ═══▶ collector
//! jobs ──┘      └─▶ exporter (/metrics)
//!
//! **The agent**: one a node. It never loads libnvidia-ml itself: a call into the driver may never return, so all of them are
//! made by a child process, the [`reader`], which the [`supervisor`] abandons and replaces when it hangs.

pub mod backoff;
pub mod batcher;
pub mod child;
pub mod clock;
pub mod config;
pub mod exporter;
pub mod host;
pub mod jobs;
pub mod probe;
pub mod reader;
pub mod service;
pub mod spool;
pub mod supervisor;
pub mod uplink;

use anyhow::Context;
use config::Config;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Notes of the reader that may wait for the batcher.
const NOTES: usize = 256;
/// What was gathered before the end has this long to get to the collector.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// Runs until `shutdown` is over, and tells `service` how it is; then the reader is ended, and the rest sent, as far as that goes in a
/// moment.
pub async fn run(config: Config, service: &service::Service, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let metrics = Arc::new(exporter::Metrics::new()?);
    let http = exporter::bind(&config.http).await.with_context(|| format!("listening on {}", config.http.listen))?;
    let spool = Arc::new(spool::Spool::new(config.spool.max_bytes));
    let uplink =
        uplink::Uplink::new(&config.uplink, &config.node, spool.clone(), metrics.clone()).context("setting up the uplink")?;
    let metrics_at = http.local_addr().context("listening")?;
    tracing::info!(node = config.node, collector = config.uplink.endpoint, metrics = %metrics_at, "agent starts");
    let (notes_out, notes) = mpsc::channel(NOTES);
    let supervisor = supervisor::Supervisor::new(config.reader.clone(), metrics.clone());
    let reader = async {
        tokio::select! {
            // First, so that a reader which ends by the same signal is not taken for a failure.
            biased;
            () = shutdown => {}
            () = supervisor.run(notes_out) => {}
        }
    };
    let jobs = jobs::Jobs::new(config.jobs.clone());
    let batcher = batcher::Batcher::new(config.batch_period, spool.clone(), metrics.clone(), jobs).run(notes);
    let gather = async {
        // The batcher ends when there is no reader any more, and flushes.
        tokio::join!(reader, batcher);
        if tokio::time::timeout(LAST_WORDS, spool.delivered()).await.is_err() {
            let left = spool.level().batches;
            tracing::warn!(left, "the agent stops with batches that the collector has not acknowledged");
        }
    };
    tokio::select! {
        () = gather => Ok(()),
        () = uplink.run() => Ok(()),
        served = exporter::serve(http, metrics.clone()) => served.context("serving /metrics"),
        never = service.tend(&metrics, &spool) => match never {},
    }
}
