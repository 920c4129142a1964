//! reader ┐
//! (NVML) │
//! host ──┼─▶ batcher ─▶ spool ─▶ uplink ═══ gRPC ═══▶ collector
//! jobs ──┘      └─▶ exporter (/metrics)
//!
//! **The agent**: one a node. It never loads libnvidia-ml itself: a call into the driver may never return, so all of them are
//! made by a child process, the [`reader`], which the [`supervisor`] abandons and replaces when it hangs.

mod aside;
pub mod backoff;
pub mod batcher;
pub mod child;
pub mod clock;
pub mod config;
pub mod control;
pub mod exporter;
pub mod host;
pub mod jobs;
pub mod probe;
pub mod reader;
pub mod release;
pub mod service;
pub mod spool;
pub mod supervisor;
pub mod top;
pub mod uplink;

use anyhow::Context;
use config::Config;
use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Notes of the reader that may wait for the batcher.
const NOTES: usize = 256;
/// What was gathered before the end has this long to get to the collector, or, with a disk, half of it, and then as long to get there.
const LAST_WORDS: Duration = Duration::from_millis(1500);

async fn control_by(control: Option<&control::Control>, release: &release::Release) -> Infallible {
    match control {
        Some(control) => control.serve(release).await,
        None => std::future::pending().await,
    }
}

/// Runs until `shutdown` is over, and tells `service` how it is; then the reader is ended, and the rest sent or kept on disk, as far
/// as that goes in a moment. What is left in memory is `rest`, which the next run takes over.
pub async fn run(
    config: Config,
    service: &service::Service,
    rest: &mut spool::Rest,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let metrics = Arc::new(exporter::Metrics::new()?);
    let http = exporter::bind(&config.http).await.with_context(|| format!("listening on {}", config.http.listen))?;
    let metrics_at = http.local_addr().context("listening")?;
    let kept = std::mem::take(rest);
    let spool = spool::Spool::new(&config.spool, &config.node, config.uplink.queues(), kept, &metrics.spool);
    let spool = Arc::new(spool.context("setting up the spool")?);
    let uplinks = uplink::Uplink::new(&config.uplink, config.spool.replay_bytes_per_second, &spool, &metrics);
    let uplinks = uplinks.inspect_err(|_| *rest = spool.take_rest()).context("setting up the uplink")?;
    tracing::info!(node = config.node, collector = config.uplink.endpoint, metrics = %metrics_at, "agent starts");
    let (notes_out, notes) = mpsc::channel(NOTES);
    let release = service.release().clone();
    let supervisor = supervisor::Supervisor::new(config.reader.clone(), config.node.clone(), release.clone(), metrics.clone());
    // Without it everything but a release works.
    let control = control::Control::bind(&config.control).unwrap_or_else(|error| {
        tracing::warn!("nobody can tell this agent to let go of the driver: {error:#}");
        None
    });
    let reader = async {
        tokio::select! {
            // First, so that a reader which ends by the same signal is not taken for a failure.
            biased;
            () = shutdown => {}
            () = supervisor.run(notes_out) => {}
        }
    };
    let host = host::Host::new(Path::new("/"), config.spool.directory.clone());
    let jobs = jobs::Jobs::new(config.jobs.clone());
    let batcher = batcher::Batcher::new(config.batch_period, spool.clone(), metrics.clone(), host, jobs).run(notes);
    let last_words = if spool.has_disk() { LAST_WORDS / 2 } else { LAST_WORDS };
    let gather = async {
        // The batcher ends when there is no reader any more, and flushes.
        tokio::join!(reader, batcher);
        // To a collector that is not there it takes for ever.
        if spool.is_connected() || !spool.has_disk() {
            let _ = tokio::time::timeout(last_words, spool.delivered()).await;
        }
    };
    let ended = tokio::select! {
        () = gather => Ok(()),
        never = uplink::Uplink::run_all(uplinks) => match never {},
        never = spool.tend() => match never {},
        served = exporter::serve(http, metrics.clone(), config.http.dcgm, config.node.clone()) => served.context("serving /metrics"),
        never = service.tend(&metrics, &spool) => match never {},
        never = control_by(control.as_ref(), &release) => match never {},
    };
    let saved = async {
        tokio::select! { () = spool.save() => {}, never = spool.tend() => match never {} }
    };
    let _ = tokio::time::timeout(last_words, saved).await;
    let left = spool.in_memory().batches;
    if left > 0 {
        tracing::warn!(left, "batches are left in memory that the collector has not made durable");
    }
    *rest = spool.take_rest();
    ended
}
