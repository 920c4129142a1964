//! reader ┐
//! (NVML) │
//! host ──┼─▶ batcher ─▶ spool ─▶ uplink ═══ gRPC ═══▶ collector
//! jobs ──┘      └─▶ exporter (/metrics)
//!
//! **The agent**: one a node. It never loads libnvidia-ml itself: a call into the driver may never return, so all of them are
//! made by a child process, the [`reader`], which the [`supervisor`] abandons and replaces when it hangs.

pub mod backoff;
pub mod batcher;
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
use tokio::sync::mpsc;

/// Frames from the reader that may wait for the batcher.
const FRAMES: usize = 256;

/// Runs until `shutdown` is over, and tells `service` how it is.
pub async fn run(config: Config, service: &service::Service, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let metrics = Arc::new(exporter::Metrics::new()?);
    let http = exporter::bind(&config.http).await.with_context(|| format!("listening on {}", config.http.listen))?;
    let spool = Arc::new(spool::Spool::new(config.spool.max_bytes));
    let channel =
        uplink::Uplink::new(&config.uplink, &config.node, spool.clone(), metrics.clone()).context("setting up the uplink")?;
    let (frames_out, frames) = mpsc::channel(FRAMES);
    tracing::info!(node = config.node, collector = config.uplink.endpoint, metrics = %config.http.listen, "agent starts");
    let reader = supervisor::Supervisor::new(config.reader.clone(), metrics.clone()).run(frames_out);
    let jobs = jobs::Jobs::new(config.jobs.clone());
    let batcher = batcher::Batcher::new(config.batch_period, spool.clone(), metrics.clone(), jobs).run(frames);
    tokio::select! {
        () = shutdown => {}
        () = reader => {}
        () = batcher => {}
        () = channel.run() => {}
        served = exporter::serve(http, metrics.clone()) => served.context("serving /metrics")?,
        never = service.tend(&metrics, &spool) => match never {},
    }
    Ok(())
}
