//! The collector's own metrics, in a registry of their own.

use crate::incidents::{Incident, Kind, Severity, State};
use prometheus::core::{AtomicU64, GenericCounter};
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result,
    TextEncoder,
};

type Counter = GenericCounter<AtomicU64>;

const KINDS: [(Kind, &str); 5] = [
    (Kind::Straggler, "straggler"),
    (Kind::PowerSwing, "power_swing"),
    (Kind::Job, "job"),
    (Kind::GpuFault, "gpu_fault"),
    (Kind::Telemetry, "telemetry"),
];
const SEVERITIES: [(Severity, &str); 3] =
    [(Severity::Info, "info"), (Severity::Warning, "warning"), (Severity::Critical, "critical")];

/// Bounds of the buckets for the time that a checkpoint takes, seconds.
const CHECKPOINT_BUCKETS: [f64; 8] = [0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) cluster_power: Gauge,
    pub(crate) cluster_completeness: Gauge,
    incidents_open: IntGaugeVec,
    pub(crate) nodes_connected: IntGauge,
    pub(crate) streams: IntGauge,
    pub(crate) batches: IntCounter,
    pub(crate) duplicate_batches: IntCounter,
    pub(crate) lost_batches: Counter,
    pub(crate) samples: Counter,
    pub(crate) unknown_samples: Counter,
    pub(crate) misdated_rows: Counter,
    pub(crate) late_samples: Counter,
    pub(crate) ahead_samples: Counter,
    /// By what was wrong.
    pub(crate) rejected_messages: IntCounterVec,
    pub(crate) queue_batches: IntGauge,
    pub(crate) checkpoint_seconds: Histogram,
    pub(crate) checkpoint_failures: IntCounter,
    pub(crate) checkpoint_bytes: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> Result<IntCounter> {
            let counter = IntCounter::new(format!("gridstep_collector_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge> {
            let gauge = IntGauge::new(format!("gridstep_collector_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let float = |name: &str, help: &str| -> Result<Gauge> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let open = Opts::new("gridstep_incidents_open", "Incidents that are open.");
        let incidents_open = IntGaugeVec::new(open, &["kind", "severity"])?;
        let rejected = Opts::new("gridstep_collector_rejected_messages_total", "Messages that ended their stream: malformed.");
        let rejected_messages = IntCounterVec::new(rejected, &["reason"])?;
        let checkpoint = HistogramOpts::new("gridstep_collector_checkpoint_seconds", "Time to write a checkpoint.");
        let checkpoint_seconds = Histogram::with_opts(checkpoint.buckets(CHECKPOINT_BUCKETS.to_vec()))?;
        registry.register(Box::new(incidents_open.clone()))?;
        registry.register(Box::new(rejected_messages.clone()))?;
        registry.register(Box::new(checkpoint_seconds.clone()))?;
        for reason in ["hello", "empty", "declare", "batch"] {
            rejected_messages.with_label_values(&[reason]);
        }
        Ok(Self {
            cluster_power: float("gridstep_cluster_power_watts", "Power of the fleet on the configured basis, last final bin.")?,
            cluster_completeness: float(
                "gridstep_cluster_completeness_ratio",
                "Share of the expected sources that the power rests on.",
            )?,
            nodes_connected: gauge("nodes_connected", "Nodes with a stream.")?,
            streams: gauge("streams", "Open streams of agents.")?,
            batches: counter("batches_total", "Batches taken.")?,
            duplicate_batches: counter("duplicate_batches_total", "Batches that came again and were not taken.")?,
            lost_batches: counter("lost_batches_total", "Batches that an agent let go of before they were taken.")?,
            samples: counter("samples_total", "Values taken.")?,
            unknown_samples: counter("unknown_samples_total", "Values of metrics that the judging does not know.")?,
            misdated_rows: counter("misdated_rows_total", "Rows dropped: stamped over 24 h before or 60 s after their arrival.")?,
            ahead_samples: counter("ahead_samples_total", "Values stamped too far ahead of the others, and not judged.")?,
            late_samples: counter("late_samples_total", "Values that came after their bin was final, and were not judged.")?,
            queue_batches: gauge("queue_batches", "Messages that wait for the judging.")?,
            checkpoint_failures: counter("checkpoint_failures_total", "Checkpoints that could not be written.")?,
            checkpoint_bytes: gauge("checkpoint_bytes", "Size of the last checkpoint.")?,
            incidents_open,
            rejected_messages,
            checkpoint_seconds,
            registry,
        })
    }

    pub(crate) fn set_incidents(&self, incidents: &[Incident]) {
        for (kind, kind_name) in KINDS {
            for (severity, severity_name) in SEVERITIES {
                let open = |one: &&Incident| one.state == State::Open && one.kind == kind && one.severity == severity;
                let count = incidents.iter().filter(open).count();
                self.incidents_open.with_label_values(&[kind_name, severity_name]).set(count as i64);
            }
        }
    }

    /// Prometheus' text format.
    pub(crate) fn text(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
