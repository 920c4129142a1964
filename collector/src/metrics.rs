//! The collector's own metrics, in a registry of their own. Their names are frozen: dashboards and rules go by them.
//!
//! No label is named `job` or `instance`: Prometheus gives those to whom it scrapes.

mod alerts;
mod fleet;
mod incidents;
mod recorder;
#[cfg(test)]
mod reference;
mod swings;
mod upload;

pub(crate) use alerts::AlertMetrics;
pub(crate) use recorder::RecorderMetrics;
pub(crate) use upload::UploadMetrics;

use alerts::Alertmanagers;
use fleet::FleetMetrics;
use incidents::IncidentMetrics;
use prometheus::core::{AtomicU64, GenericCounter};
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, Result, TextEncoder, core,
};

type Counter = GenericCounter<AtomicU64>;

/// Bounds of the buckets for the time that a checkpoint takes, seconds.
const CHECKPOINT_BUCKETS: [f64; 8] = [0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) fleet: FleetMetrics,
    pub(crate) incidents: IncidentMetrics,
    alertmanagers: Alertmanagers,
    pub(crate) recorder: RecorderMetrics,
    pub(crate) streams: IntGauge,
    pub(crate) batches: IntCounter,
    pub(crate) duplicate_batches: IntCounter,
    pub(crate) lost_batches: Counter,
    pub(crate) samples: Counter,
    pub(crate) backlog_samples: Counter,
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
    pub(crate) store_failures: IntCounter,
    pub(crate) unsaved_incidents: IntGauge,
    pub(crate) unstored_incidents: IntCounter,
    /// Of the last restart.
    pub(crate) gap_seconds: Gauge,
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
        let rejected = Opts::new("gridstep_collector_rejected_messages_total", "Messages that ended their stream: malformed.");
        let rejected_messages = IntCounterVec::new(rejected, &["reason"])?;
        let checkpoint = HistogramOpts::new("gridstep_collector_checkpoint_seconds", "Time to write a checkpoint.");
        let checkpoint_seconds = Histogram::with_opts(checkpoint.buckets(CHECKPOINT_BUCKETS.to_vec()))?;
        registry.register(Box::new(rejected_messages.clone()))?;
        registry.register(Box::new(checkpoint_seconds.clone()))?;
        let gap = "Of the last restart: time in which most of the fleet was not seen, once that is known.";
        for reason in ["hello", "empty", "declare", "batch"] {
            rejected_messages.with_label_values(&[reason]);
        }
        Ok(Self {
            fleet: FleetMetrics::new(&registry)?,
            incidents: IncidentMetrics::new(&registry)?,
            alertmanagers: Alertmanagers::new(&registry)?,
            recorder: RecorderMetrics::new(&registry)?,
            streams: gauge("streams", "Open streams of agents.")?,
            batches: counter("batches_total", "Batches taken.")?,
            duplicate_batches: counter("duplicate_batches_total", "Batches that came again and were not taken.")?,
            lost_batches: counter("lost_batches_total", "Batches that an agent let go of before they were taken.")?,
            samples: counter("samples_total", "Values taken.")?,
            backlog_samples: counter(
                "backlog_samples_total",
                "Values taken that agents had kept on disk: too old to be judged.",
            )?,
            unknown_samples: counter("unknown_samples_total", "Values of metrics that the judging does not know.")?,
            misdated_rows: counter("misdated_rows_total", "Rows dropped: stamped over 24 h before or 60 s after their arrival.")?,
            ahead_samples: counter("ahead_samples_total", "Values stamped too far ahead of the others, and not judged.")?,
            late_samples: counter("late_samples_total", "Values that came after their bin was final, and were not judged.")?,
            queue_batches: gauge("queue_batches", "Messages that wait for the judging.")?,
            checkpoint_failures: counter("checkpoint_failures_total", "Checkpoints that could not be written.")?,
            checkpoint_bytes: gauge("checkpoint_bytes", "Size of the last checkpoint.")?,
            store_failures: counter("store_failures_total", "Writes to the store beside checkpoints that failed.")?,
            unsaved_incidents: gauge("unsaved_incidents", "Incidents whose last revision is not in the store yet.")?,
            unstored_incidents: counter("unstored_incidents_total", "Revisions of incidents that no store could take in time.")?,
            gap_seconds: add(&registry, Gauge::new("gridstep_collector_gap_seconds", gap)?)?,
            rejected_messages,
            checkpoint_seconds,
            registry,
        })
    }

    pub(crate) fn alertmanager(&self, url: &str) -> AlertMetrics {
        self.alertmanagers.instance(url)
    }

    /// Prometheus' text format.
    pub(crate) fn text(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Makes a metric known.
fn add<T: core::Collector + Clone + 'static>(registry: &Registry, metric: T) -> Result<T> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
