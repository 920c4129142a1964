//! batcher ─▶ **exporter**: `/metrics`, `/healthz`, `/readyz`. A scrape never touches the driver.

use crate::reader::protocol::{Inventory, Sweep};
use crate::spool::{Level, Pushed};
use axum::{Router, extract::State, http::StatusCode, routing::get};
use gridstep_wire::catalog;
use prometheus::core::Collector;
use prometheus::{Counter, Encoder, GaugeVec, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// `[http]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub listen: SocketAddr,
    /// Allows listening beyond loopback, in the clear.
    pub insecure: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 19810)), insecure: false }
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
    gpu: Vec<Option<GaugeVec>>,
    /// Without labels, but as vectors: a metric that was never read has no series, rather than a zero.
    host: Vec<Option<GaugeVec>>,
    up: IntGaugeVec,
    uuids: Mutex<BTreeMap<u32, String>>,
    pub reader_up: IntGauge,
    pub reader_restarts: IntCounter,
    pub driver_seconds: Counter,
    pub connected: IntGauge,
    pub sent_bytes: IntCounter,
    samples: IntCounter,
    pub(crate) batches: IntCounter,
    batch_bytes: IntCounter,
    spool_bytes: IntGauge,
    spool_batches: IntGauge,
    dropped: IntCounter,
    dropped_samples: IntCounter,
}

impl Metrics {
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let mut gpu = Vec::new();
        for metric in catalog::GPU {
            gpu.push(match metric.name {
                "up" | "job" => None,
                name => {
                    let (name, help) = exported("gpu", name, metric.unit);
                    Some(add(&registry, GaugeVec::new(Opts::new(name, help), &["gpu", "uuid"])?)?)
                }
            });
        }
        let mut host = Vec::new();
        for metric in catalog::NODE {
            host.push(match metric.name {
                "job" => None,
                name => {
                    let (name, help) = exported("node", name, metric.unit);
                    Some(add(&registry, GaugeVec::new(Opts::new(name, help), &[])?)?)
                }
            });
        }
        let counter = |name: &str, help: &str| add(&registry, IntCounter::new(format!("gridstep_agent_{name}"), help)?);
        let gauge = |name: &str, help: &str| add(&registry, IntGauge::new(format!("gridstep_agent_{name}"), help)?);
        let up = Opts::new("gridstep_gpu_up", "1: the GPU answers; 0: its driver has lost it or a call hangs, see reason");
        Ok(Self {
            up: add(&registry, IntGaugeVec::new(up, &["gpu", "reason"])?)?,
            reader_up: gauge("reader_up", "1: the child process that talks to the driver delivers")?,
            reader_restarts: counter("reader_restarts_total", "starts of a replacement for the reader")?,
            driver_seconds: add(
                &registry,
                Counter::new("gridstep_agent_driver_seconds_total", "wall time spent inside the driver")?,
            )?,
            connected: gauge("uplink_connected", "1: the collector has accepted the stream")?,
            sent_bytes: counter("sent_bytes_total", "encoded bytes of batches handed to the stream, repeats included")?,
            samples: counter("samples_total", "values put into batches")?,
            batches: counter("batches_total", "batches made")?,
            batch_bytes: counter("batch_bytes_total", "encoded bytes of batches made")?,
            spool_bytes: gauge("spool_bytes", "encoded bytes not yet durable at the collector")?,
            spool_batches: gauge("spool_batches", "batches not yet durable at the collector")?,
            dropped: counter("batches_dropped_total", "batches that a full spool let go of")?,
            dropped_samples: counter("samples_dropped_total", "values in batches that a full spool let go of")?,
            gpu,
            host,
            uuids: Mutex::default(),
            registry,
        })
    }

    pub(crate) fn identify(&self, inventory: &Inventory) {
        let mut uuids = self.uuids.lock().unwrap_or_else(PoisonError::into_inner);
        for gpu in &inventory.gpus {
            uuids.insert(gpu.index, gpu.uuid.clone());
        }
    }

    pub(crate) fn down(&self, gpu: u32, why: &str) {
        let index = gpu.to_string();
        self.forget_up(&index);
        // What was read last is not what is: the series end.
        let uuids = self.uuids.lock().unwrap_or_else(PoisonError::into_inner);
        let uuid = uuids.get(&gpu).map_or("", String::as_str);
        for gauge in self.gpu.iter().flatten() {
            let _ = gauge.remove_label_values(&[index.as_str(), uuid]);
        }
        self.up.with_label_values(&[index.as_str(), why]).set(0);
    }

    pub(crate) fn power(&self, gpu: u32, milliwatts: u32) {
        self.set_gpu(gpu, 0, f64::from(milliwatts) / 1e3);
    }

    pub(crate) fn sweep(&self, sweep: &Sweep) {
        for (&metric, &value) in sweep.metrics.iter().zip(&sweep.values) {
            let Some(known) = catalog::GPU.get(metric as usize) else { continue };
            self.set_gpu(sweep.gpu, metric as usize, value as f64 * 10f64.powi(known.exponent));
        }
        let index = sweep.gpu.to_string();
        self.forget_up(&index);
        self.up.with_label_values(&[index.as_str(), ""]).set(1);
    }

    fn forget_up(&self, gpu: &str) {
        for why in ["", "gpu_lost", "driver_hung"] {
            let _ = self.up.remove_label_values(&[gpu, why]);
        }
    }

    fn set_gpu(&self, gpu: u32, metric: usize, value: f64) {
        if let Some(Some(gauge)) = self.gpu.get(metric) {
            let uuids = self.uuids.lock().unwrap_or_else(PoisonError::into_inner);
            let uuid = uuids.get(&gpu).map_or("", String::as_str);
            gauge.with_label_values(&[gpu.to_string().as_str(), uuid]).set(value);
        }
    }

    pub(crate) fn host(&self, values: &[(&'static str, i64)]) {
        for (name, value) in values {
            let Some(index) = catalog::NODE.iter().position(|metric| metric.name == *name) else { continue };
            if let Some(Some(gauge)) = self.host.get(index) {
                gauge.with_label_values::<&str>(&[]).set(*value as f64 * 10f64.powi(catalog::NODE[index].exponent));
            }
        }
    }

    pub(crate) fn batch(&self, samples: u64, pushed: Pushed, level: Level) {
        self.samples.inc_by(samples);
        self.batches.inc();
        self.batch_bytes.inc_by(pushed.bytes as u64);
        self.dropped.inc_by(pushed.dropped_batches);
        self.dropped_samples.inc_by(pushed.dropped_samples);
        self.spool_bytes.set(level.bytes as i64);
        self.spool_batches.set(level.batches as i64);
    }

    /// GPUs that answer, and GPUs that do not.
    pub(crate) fn gpus(&self) -> (usize, usize) {
        let families = self.up.collect();
        let gauges: Vec<f64> =
            families.iter().flat_map(|family| family.get_metric()).map(|metric| metric.get_gauge().get_value()).collect();
        let up = gauges.iter().filter(|&&up| up > 0.0).count();
        (up, gauges.len() - up)
    }

    pub fn text(&self) -> String {
        let mut out = Vec::new();
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Name and help; names are those of the recordings.
fn exported(kind: &str, name: &str, unit: &str) -> (String, String) {
    (format!("gridstep_{kind}_{name}"), format!("{} ({unit})", name.replace('_', " ")))
}

fn add<T: Collector + Clone + 'static>(registry: &Registry, metric: T) -> prometheus::Result<T> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

pub async fn bind(config: &Config) -> std::io::Result<TcpListener> {
    TcpListener::bind(config.listen).await
}

/// Until dropped: then open connections end too, and nobody goes on scraping what does not change any more.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let ready = |State(metrics): State<Arc<Metrics>>| async move {
        if metrics.reader_up.get() == 1 {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "no driver answers\n")
        }
    };
    let router = Router::new()
        .route("/metrics", get(|State(metrics): State<Arc<Metrics>>| async move { metrics.text() }))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(metrics);
    let (_open, dropped) = tokio::sync::oneshot::channel::<()>();
    axum::serve(listener, router).with_graceful_shutdown(async move { drop(dropped.await) }).await
}
