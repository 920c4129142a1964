//! batcher ─▶ **exporter**: `/metrics`, `/healthz`, `/readyz`. A scrape never touches the driver.

mod dcgm;
mod own;
mod readings;

pub use dcgm::Names;

use crate::spool::SpoolMetrics;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::{Router, extract::State, routing::get};
use prometheus::core::Collector;
use prometheus::{Counter, Encoder, IntCounter, IntGauge, Registry, TextEncoder};
use readings::Readings;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// `[http]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub listen: SocketAddr,
    /// Allows listening beyond loopback, in the clear.
    pub insecure: bool,
    /// How the series at `/metrics/dcgm` spell the label that names the node.
    pub dcgm: Names,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 19810)), insecure: false, dcgm: Names::default() }
    }
}

impl Config {
    pub(crate) fn faults(&self) -> Vec<String> {
        if self.listen.ip().is_loopback() || self.insecure {
            return Vec::new();
        }
        let fault = format!(
            "http.listen = \"{}\": beyond loopback /metrics is readable by anyone; write insecure = true beside it to allow that",
            self.listen
        );
        vec![fault]
    }
}

/// Everything that `/metrics` shows.
pub struct Metrics {
    registry: Registry,
    own: own::Own,
    pub(crate) readings: Readings,
    pub reader_up: IntGauge,
    pub reader_restarts: IntCounter,
    pub driver_seconds: Counter,
    pub connected: IntGauge,
    pub sent_bytes: IntCounter,
    samples: IntCounter,
    pub(crate) batches: IntCounter,
    batch_bytes: IntCounter,
    pub(crate) spool: SpoolMetrics,
}

impl Metrics {
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| add(&registry, IntCounter::new(format!("gridstep_agent_{name}"), help)?);
        let gauge = |name: &str, help: &str| add(&registry, IntGauge::new(format!("gridstep_agent_{name}"), help)?);
        let driver_seconds = Counter::new("gridstep_agent_driver_seconds_total", "wall time spent inside the driver")?;
        let readings = add(&registry, Readings::new()?)?;
        Ok(Self {
            own: add(&registry, own::Own::new(readings.clone())?)?,
            readings,
            reader_up: gauge("reader_up", "1: the child process that talks to the driver delivers")?,
            reader_restarts: counter("reader_restarts_total", "starts of a replacement for the reader")?,
            driver_seconds: add(&registry, driver_seconds)?,
            connected: gauge(
                "uplink_connected",
                "1: the collector has accepted the stream (of two that both get everything: each has)",
            )?,
            sent_bytes: counter("sent_bytes_total", "encoded bytes of batches handed to the stream, repeats included")?,
            samples: counter("samples_total", "values put into batches")?,
            batches: counter("batches_total", "batches made")?,
            batch_bytes: counter("batch_bytes_total", "encoded bytes of batches made")?,
            spool: SpoolMetrics::new(&registry)?,
            registry,
        })
    }

    pub(crate) fn batch(&self, samples: u64, bytes: usize) {
        self.samples.inc_by(samples);
        self.batches.inc();
        self.batch_bytes.inc_by(bytes as u64);
    }

    pub fn text(&self) -> String {
        let mut out = Vec::new();
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

fn add<T: Collector + Clone + 'static>(registry: &Registry, metric: T) -> prometheus::Result<T> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

pub async fn bind(config: &Config) -> std::io::Result<TcpListener> {
    TcpListener::bind(config.listen).await
}

fn plain(text: String) -> impl IntoResponse {
    ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)
}

/// Until dropped: then open connections end too, and nobody goes on scraping what does not change any more.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, names: Names, node: String) -> std::io::Result<()> {
    metrics.own.name(&node);
    let ready = |State(metrics): State<Arc<Metrics>>| async move {
        if metrics.reader_up.get() == 1 {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "no driver answers\n")
        }
    };
    let own = |State(metrics): State<Arc<Metrics>>| async move { plain(metrics.text()) };
    let node: Arc<str> = node.into();
    let dcgm = move |State(metrics): State<Arc<Metrics>>| {
        let node = node.clone();
        async move { plain(dcgm::text(&metrics.readings.lock(), names, &node)) }
    };
    let router = Router::new()
        .route("/metrics", get(own))
        .route("/metrics/dcgm", get(dcgm))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(metrics);
    let (_open, dropped) = tokio::sync::oneshot::channel::<()>();
    axum::serve(listener, router).with_graceful_shutdown(async move { drop(dropped.await) }).await
}
