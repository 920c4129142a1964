//! How the fleet's power moves, as the last view shows it.

use super::add;
use crate::live::SwingsView;
use prometheus::{GaugeVec, Opts, Registry, Result};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Feeders beyond these have no series.
const FEEDERS: usize = 200;

#[derive(Debug)]
pub(super) struct SwingMetrics {
    sums: GaugeVec,
    completeness: GaugeVec,
    feeders: GaugeVec,
    changes: GaugeVec,
    bands: GaugeVec,
    // Without labels, but as vectors: what is not known has no series.
    frequency: GaugeVec,
    amplitude: GaugeVec,
    claim_limit: GaugeVec,
    demand: GaugeVec,
    /// Feeders that have series.
    named: Mutex<BTreeSet<String>>,
}

impl SwingMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let vector = |name: &str, help: &str, labels: &[&str]| {
            add(registry, GaugeVec::new(Opts::new(format!("gridstep_{name}"), help), labels)?)
        };
        Ok(Self {
            sums: vector(
                "sum_power_watts",
                "Power by what is summed: gpu boards, whole nodes, or meters of the site.",
                &["basis"],
            )?,
            completeness: vector("sum_completeness_ratio", "Share of its sources that such a sum rests on.", &["basis"])?,
            feeders: vector(
                "feeder_power_watts",
                "Power of what a feeder supplies, on the configured basis, last second.",
                &["feeder"],
            )?,
            changes: vector(
                "cluster_change_watts",
                "How far the power has risen from its least, or fallen from its most, within a window up to now.",
                &["window", "direction"],
            )?,
            bands: vector("cluster_band_watts", "Root mean square of the power within a band of frequencies.", &["band"])?,
            frequency: vector("cluster_oscillation_hertz", "Frequency of the oscillation that goes on; none: no series.", &[])?,
            amplitude: vector(
                "cluster_oscillation_watts",
                "Peak to peak of the oscillation that goes on; none: no series.",
                &[],
            )?,
            claim_limit: vector("cluster_claim_limit_hertz", "Nothing is claimed of the power above this frequency.", &[])?,
            demand: vector(
                "cluster_demand_watts",
                "Mean of the running quarter of an hour on the clock, as far as it is known.",
                &[],
            )?,
            named: Mutex::default(),
        })
    }

    pub(super) fn set(&self, view: &SwingsView) {
        for figure in &view.figures {
            let basis = [match figure.basis {
                crate::power::Basis::Gpu => "gpu",
                crate::power::Basis::Node => "node",
                crate::power::Basis::Meter => "meter",
            }];
            self.sums.with_label_values(&basis).set(figure.watts);
            self.completeness.with_label_values(&basis).set(figure.completeness);
        }
        if view.figures.is_empty() {
            return;
        }
        for ramp in &view.ramps {
            let window = format!("{:.0}s", ramp.window_seconds);
            self.changes.with_label_values(&[window.as_str(), "up"]).set(ramp.up_watts);
            self.changes.with_label_values(&[window.as_str(), "down"]).set(ramp.down_watts);
        }
        for band in &view.bands {
            let name = format!("{}-{}Hz", band.from_hz, band.to_hz);
            self.bands.with_label_values(&[name.as_str()]).set(band.rms_watts);
        }
        let line = view.oscillation.as_ref();
        set_or_none(&self.frequency, line.map(|line| line.frequency_hz));
        set_or_none(&self.amplitude, line.map(|line| line.amplitude_watts));
        set_or_none(&self.claim_limit, Some(view.claim_limit_hz));
        set_or_none(&self.demand, view.demand.as_ref().map(|quarter| quarter.watts));
        self.set_feeders(view);
    }

    fn set_feeders(&self, view: &SwingsView) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *named);
        for feeder in view.levels.feeders.iter().take(FEEDERS) {
            self.feeders.with_label_values(&[feeder.name.as_str()]).set(feeder.watts);
            named.insert(feeder.name.clone());
        }
        for gone in before.difference(&named) {
            let _ = self.feeders.remove_label_values(&[gone.as_str()]);
        }
    }
}

fn set_or_none(gauge: &GaugeVec, value: Option<f64>) {
    match value {
        Some(value) => gauge.with_label_values::<&str>(&[]).set(value),
        None => gauge.reset(),
    }
}
