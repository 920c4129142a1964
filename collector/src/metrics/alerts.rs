//! What became of the alerts.

use super::add;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result};

/// By address of the Alertmanager.
#[derive(Debug)]
pub(super) struct Alertmanagers {
    sent: IntCounterVec,
    failures: IntCounterVec,
    waiting: IntGaugeVec,
    last_success: GaugeVec,
}

/// Those of one Alertmanager.
#[derive(Debug)]
pub(crate) struct AlertMetrics {
    pub(crate) sent: IntCounter,
    pub(crate) failures: IntCounter,
    pub(crate) waiting: IntGauge,
    pub(crate) last_success: Gauge,
}

impl Alertmanagers {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(format!("gridstep_collector_{name}"), help);
        let label = &["alertmanager"];
        let sent = opts("alerts_sent_total", "Alerts that the Alertmanager took, repetitions included.");
        let failures = opts("alert_failures_total", "Requests to the Alertmanager that failed; they are made again.");
        let waiting = opts("alerts_waiting", "Alerts that the Alertmanager has yet to hear.");
        let success =
            opts("alerts_last_success_timestamp_seconds", "When the Alertmanager last took what it was sent, if only nothing.");
        Ok(Self {
            sent: add(registry, IntCounterVec::new(sent, label)?)?,
            failures: add(registry, IntCounterVec::new(failures, label)?)?,
            waiting: add(registry, IntGaugeVec::new(waiting, label)?)?,
            last_success: add(registry, GaugeVec::new(success, label)?)?,
        })
    }

    pub(super) fn instance(&self, url: &str) -> AlertMetrics {
        let label = &[url];
        AlertMetrics {
            sent: self.sent.with_label_values(label),
            failures: self.failures.with_label_values(label),
            waiting: self.waiting.with_label_values(label),
            last_success: self.last_success.with_label_values(label),
        }
    }
}
