//! How the fleet's power moves, as the last view shows it.

use super::add;
use crate::live::{SwingsView, TurnView};
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
    second_frequency: GaugeVec,
    second_amplitude: GaugeVec,
    phase_spread: GaugeVec,
    untimed: GaugeVec,
    turns: GaugeVec,
    turns_at: GaugeVec,
    forecast_error: GaugeVec,
    dip_at: GaugeVec,
    dip_depth: GaugeVec,
    dip_period: GaugeVec,
    calibration_error: GaugeVec,
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
            second_frequency: vector(
                "cluster_second_oscillation_hertz",
                "Frequency of another oscillation, of those who take no part in the first; none: no series.",
                &[],
            )?,
            second_amplitude: vector("cluster_second_oscillation_watts", "Peak to peak of that; none: no series.", &[])?,
            phase_spread: vector(
                "cluster_phase_spread_ratio",
                "1: all sources are sampled at the same instants; about 0: these are spread over the time between samples.",
                &[],
            )?,
            untimed: vector(
                "cluster_untimed_hertz",
                "Nodes whose clocks are off are left out of lines above this frequency; no clock is off: no series.",
                &[],
            )?,
            turns: vector(
                "cluster_forecast_watts",
                "Power at the next trough and crest of the oscillation that goes on; none: no series.",
                &["turn"],
            )?,
            turns_at: vector("cluster_forecast_timestamp_seconds", "When these are.", &["turn"])?,
            forecast_error: vector(
                "cluster_forecast_error_watts",
                "Root mean square: of the fit to the last cycles, of forecasts so far against what came, and of saying that all stays as it is.",
                &["of"],
            )?,
            dip_at: vector(
                "cluster_dip_timestamp_seconds",
                "When the next of the dips that recur is (a checkpoint, an evaluation); none recur: no series.",
                &[],
            )?,
            dip_depth: vector("cluster_dip_depth_watts", "How far below the level it goes.", &[])?,
            dip_period: vector("cluster_dip_period_seconds", "How long from one to the next.", &[])?,
            calibration_error: vector(
                "calibration_error_ratio",
                "What a calibration leaves: of nodes by their boards (the middle one), of the site's meters by the nodes.",
                &["of"],
            )?,
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
        let second = view.second_oscillation.as_ref();
        set_or_none(&self.second_frequency, second.map(|line| line.frequency_hz));
        set_or_none(&self.second_amplitude, second.map(|line| line.amplitude_watts));
        set_or_none(&self.phase_spread, Some(view.phase_spread_ratio));
        set_or_none(&self.untimed, view.untimed_from_hz);
        self.set_forecast(view);
        let dips = view.dips.as_ref();
        set_or_none(&self.dip_at, dips.map(|dips| dips.instant.seconds()));
        set_or_none(&self.dip_depth, dips.map(|dips| dips.depth_watts));
        set_or_none(&self.dip_period, dips.map(|dips| dips.period_seconds));
        let calibration = [("node", view.calibration.node_error_ratio), ("meter", view.calibration.meter_error_ratio)];
        set_labelled(&self.calibration_error, &calibration);
        set_or_none(&self.demand, view.demand.as_ref().map(|quarter| quarter.watts));
        self.set_feeders(view);
    }

    fn set_forecast(&self, view: &SwingsView) {
        let line = view.oscillation.as_ref();
        let (trough, crest) = (line.and_then(|line| line.next_trough.as_ref()), line.and_then(|line| line.next_crest.as_ref()));
        set_labelled(&self.turns, &[("trough", trough.map(|turn| turn.watts)), ("crest", crest.map(|turn| turn.watts))]);
        let at = |turn: Option<&TurnView>| turn.map(|turn| turn.instant.seconds());
        set_labelled(&self.turns_at, &[("trough", at(trough)), ("crest", at(crest))]);
        let score = view.forecast_score;
        let errors = [
            ("fit", line.and_then(|line| line.forecast_error_watts)),
            ("measured", score.map(|score| score.error_watts)),
            ("persistence", score.map(|score| score.persistence_error_watts)),
        ];
        set_labelled(&self.forecast_error, &errors);
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

fn set_labelled(gauge: &GaugeVec, values: &[(&str, Option<f64>)]) {
    for (label, value) in values {
        match value {
            Some(value) => gauge.with_label_values(&[label]).set(*value),
            None => _ = gauge.remove_label_values(&[label]),
        }
    }
}

fn set_or_none(gauge: &GaugeVec, value: Option<f64>) {
    match value {
        Some(value) => gauge.with_label_values::<&str>(&[]).set(value),
        None => gauge.reset(),
    }
}
