//! batcher ─▶ **exporter**: `/metrics`, `/healthz`, `/readyz`. A scrape never touches the driver.

mod dcgm;
mod jobs;
mod own;
mod readings;
#[cfg(test)]
mod reference;

pub use dcgm::Names;

use crate::reader::PowerSource;
use crate::reader::protocol::Pace;
use crate::spool::SpoolMetrics;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::{Router, extract::State, routing::get};
use gridstep_wire::catalog;
use jobs::JobInfo;
use prometheus::core::Collector;
use prometheus::{Counter, Encoder, GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
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
    pub(crate) jobs: JobInfo,
    pub reader_up: IntGauge,
    pub reader_restarts: IntCounter,
    pub driver_seconds: Counter,
    implausible: IntCounterVec,
    pub driver_released: IntGauge,
    power_period: GaugeVec,
    sweep_period: GaugeVec,
    pub clock_steps: IntCounter,
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
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            add(&registry, GaugeVec::new(Opts::new(format!("gridstep_agent_{name}"), help), labels)?)
        };
        let driver_seconds = Counter::new("gridstep_agent_driver_seconds_total", "wall time spent inside the driver")?;
        let implausible =
            Opts::new("gridstep_agent_implausible_readings_total", "readings dropped that no board can show, by metric");
        let readings = add(&registry, Readings::new()?)?;
        Ok(Self {
            own: add(&registry, own::Own::new(readings.clone())?)?,
            jobs: add(&registry, JobInfo::new(readings.clone())?)?,
            readings,
            reader_up: gauge("reader_up", "1: the child process that talks to the driver delivers")?,
            reader_restarts: counter("reader_restarts_total", "starts of a replacement for the reader")?,
            driver_seconds: add(&registry, driver_seconds)?,
            implausible: add(&registry, IntCounterVec::new(implausible, &["metric"])?)?,
            driver_released: gauge("driver_released", "1: the agent has let go of the driver, as it was asked to")?,
            power_period: gauges(
                "power_period_seconds",
                "time between two values of power, and where they come from",
                &["gpu", "source"],
            )?,
            sweep_period: gauges("sweep_period_seconds", "time between two readings of everything else", &["gpu"])?,
            clock_steps: counter("clock_steps_total", "times that the node's clock was set, by 100 ms or more")?,
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

    /// Counts a reading of a GPU that was dropped, by its metric's place in the catalog.
    pub(crate) fn implausible(&self, metric: u32) {
        if let Some(metric) = catalog::GPU.get(metric as usize) {
            self.implausible.with_label_values(&[metric.name]).inc();
        }
    }

    /// How a GPU is read from now on.
    pub(crate) fn pace(&self, pace: &Pace) {
        let gpu = pace.gpu.to_string();
        for source in [PowerSource::Field, PowerSource::Samples].map(PowerSource::name) {
            if source == pace.source {
                self.power_period.with_label_values(&[&gpu, source]).set(pace.power_period_us as f64 / 1e6);
            } else {
                let _ = self.power_period.remove_label_values(&[&gpu, source]);
            }
        }
        self.sweep_period.with_label_values(&[&gpu]).set(pace.sweep_period_us as f64 / 1e6);
    }

    /// Another reader reads.
    pub(crate) fn forget_paces(&self) {
        self.power_period.reset();
        self.sweep_period.reset();
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
