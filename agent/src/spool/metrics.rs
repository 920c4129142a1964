//! How full the spools are, and what they could not keep.

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Why a batch is let go of that no collector has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    MemoryFull,
    DiskFull,
    TooOld,
    TooLarge,
    Refused,
}

impl Reason {
    const ALL: [Self; 5] = [Self::MemoryFull, Self::DiskFull, Self::TooOld, Self::TooLarge, Self::Refused];

    fn label(self) -> &'static str {
        match self {
            Self::MemoryFull => "memory_full",
            Self::DiskFull => "disk_full",
            Self::TooOld => "too_old",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }
}

/// Of all collectors: one is `first`, the other `second`.
#[derive(Debug)]
pub struct SpoolMetrics {
    bytes: IntGaugeVec,
    batches: IntGaugeVec,
    oldest: GaugeVec,
    replayed: IntCounterVec,
    lost_bytes: IntCounterVec,
    failures: IntCounterVec,
    dropped: IntCounterVec,
    dropped_samples: IntCounterVec,
}

/// Of what is kept for one collector.
#[derive(Debug, Clone)]
pub(crate) struct QueueMetrics {
    pub(crate) memory_bytes: IntGauge,
    pub(crate) memory_batches: IntGauge,
    pub(crate) disk_bytes: IntGauge,
    pub(crate) disk_batches: IntGauge,
    pub(crate) oldest: Gauge,
    pub(crate) replayed: IntCounter,
    pub(crate) lost_bytes: IntCounter,
    pub(crate) failures: IntCounter,
    collector: &'static str,
    dropped: IntCounterVec,
    dropped_samples: IntCounterVec,
}

impl SpoolMetrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let named = |name: &str, help: &str| Opts::new(format!("gridstep_agent_{name}"), help);
        let counter = |name: &str, help: &str, labels: &[&str]| add(registry, IntCounterVec::new(named(name, help), labels)?);
        let gauge = |name: &str, help: &str, labels: &[&str]| add(registry, IntGaugeVec::new(named(name, help), labels)?);
        let oldest = named("spool_oldest_seconds", "age of the oldest batch not yet durable at the collector");
        let (by_place, by_reason) = (["collector", "place"], ["collector", "reason"]);
        Ok(Self {
            bytes: gauge("spool_bytes", "encoded bytes not yet durable at the collector", &by_place)?,
            batches: gauge("spool_batches", "batches not yet durable at the collector", &by_place)?,
            oldest: add(registry, GaugeVec::new(oldest, &["collector"])?)?,
            replayed: counter("spool_replayed_batches_total", "batches sent that were kept before", &["collector"])?,
            lost_bytes: counter("spool_lost_bytes_total", "bytes on disk that cannot be read any more", &["collector"])?,
            failures: counter("spool_disk_failures_total", "attempts to write batches to disk that failed", &["collector"])?,
            dropped: counter("batches_dropped_total", "batches let go of that no collector has", &by_reason)?,
            dropped_samples: counter("samples_dropped_total", "values in batches let go of", &by_reason)?,
        })
    }

    pub(crate) fn of(&self, collector: &'static str) -> QueueMetrics {
        let own = [collector];
        for reason in Reason::ALL {
            // A series that appears with its first loss would not be seen to increase.
            self.dropped.with_label_values(&[collector, reason.label()]);
            self.dropped_samples.with_label_values(&[collector, reason.label()]);
        }
        QueueMetrics {
            memory_bytes: self.bytes.with_label_values(&[collector, "memory"]),
            memory_batches: self.batches.with_label_values(&[collector, "memory"]),
            disk_bytes: self.bytes.with_label_values(&[collector, "disk"]),
            disk_batches: self.batches.with_label_values(&[collector, "disk"]),
            oldest: self.oldest.with_label_values(&own),
            replayed: self.replayed.with_label_values(&own),
            lost_bytes: self.lost_bytes.with_label_values(&own),
            failures: self.failures.with_label_values(&own),
            collector,
            dropped: self.dropped.clone(),
            dropped_samples: self.dropped_samples.clone(),
        }
    }
}

impl QueueMetrics {
    pub(crate) fn drop(&self, reason: Reason, batches: u64, samples: u64) {
        let labels = [self.collector, reason.label()];
        self.dropped.with_label_values(&labels).inc_by(batches);
        self.dropped_samples.with_label_values(&labels).inc_by(samples);
    }

    #[cfg(test)]
    pub(crate) fn unregistered() -> Self {
        SpoolMetrics::new(&Registry::new()).unwrap().of("first")
    }

    #[cfg(test)]
    pub(crate) fn dropped(&self, reason: Reason) -> u64 {
        self.dropped.with_label_values(&[self.collector, reason.label()]).get()
    }
}

fn add<T: Collector + Clone + 'static>(registry: &Registry, metric: T) -> prometheus::Result<T> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
