//! What one GPU's own figures say without any peers: memory, links, limiters, and sensors that no longer move.
//!
//! Only a change counts, and of what comes and goes only what stays: machines have lifetime totals, links that have always been narrow,
//! and bits that flicker for a second or two.

use crate::align::seconds::Second;
use crate::fleet::GpuMetric;
use crate::incidents::Severity;
use gridstep_wire::reasons;
use serde::{Deserialize, Serialize};

/// A limiter's bit is on for this share of the last half minute or so.
const DUTY: f32 = 0.8;
const FOLLOW: f32 = 1.0 / 20.0;
/// Looks until a link under load is known; looks that a narrower one must last.
const LINK_LOOKS: u8 = 30;
/// NVLink errors per second that last for minutes: bursts of a thousand within one are common.
const NVLINK_RATE: f32 = 5.0;
const NVLINK_FOLLOW: f32 = 1.0 / 300.0;
/// Seconds that a computing board's power stays the same to the digit.
const STUCK: u16 = 180;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Watch {
    uncorrected: Option<f32>,
    thermal: f32,
    brake: f32,
    /// Width and generation under load, and looks at them; looks at less.
    link: (f32, f32),
    looks: u8,
    narrow: u8,
    links_up: Option<f32>,
    nvlink: Option<f64>,
    nvlink_rate: f32,
    watts: f32,
    same: u16,
}

/// Cause, severity, what to say.
pub(super) type Symptom = (&'static str, Severity, String);

impl Watch {
    /// Takes one second.
    pub(super) fn take(&mut self, columns: &Second, gpu: usize, watts: f32, symptoms: &mut Vec<Symptom>) {
        let value = |metric: GpuMetric| columns.column(metric as usize).get(gpu).copied().filter(|value| !value.is_nan());
        self.memory(value(GpuMetric::EccUncorrected), value(GpuMetric::RemapPending), symptoms);
        if let Some(bits) = value(GpuMetric::EventReasons) {
            self.limiters(bits as u64, symptoms);
        }
        let computes = value(GpuMetric::SmActive).or(value(GpuMetric::Utilization)).is_some_and(|share| share > 0.5);
        if computes && let (Some(width), Some(generation)) = (value(GpuMetric::PcieWidth), value(GpuMetric::PcieGeneration)) {
            self.link(width as f32, generation as f32, symptoms);
        }
        self.nvlink(value(GpuMetric::NvlinkErrors), value(GpuMetric::NvlinkLinksUp), symptoms);
        self.same = if computes && watts == self.watts && watts > 0.0 { self.same.saturating_add(1) } else { 0 };
        self.watts = watts;
        if self.same >= STUCK {
            symptoms.push((
                "sensor_stuck",
                Severity::Warning,
                format!("power has been {watts:.3} W to the digit for {} s", self.same),
            ));
        }
    }

    fn memory(&mut self, uncorrected: Option<f64>, pending: Option<f64>, symptoms: &mut Vec<Symptom>) {
        if let Some(count) = uncorrected
            && self.uncorrected.replace(count as f32).is_some_and(|before| count as f32 > before)
        {
            symptoms.push(("ecc_uncorrected", Severity::Warning, format!("uncorrected memory errors, {count} by now")));
        }
        if pending.is_some_and(|pending| pending > 0.0) {
            symptoms.push(("remap_pending", Severity::Info, "a row waits for a reset to be remapped".into()));
        }
    }

    fn limiters(&mut self, bits: u64, symptoms: &mut Vec<Symptom>) {
        let follow = |duty: &mut f32, mask: u64| {
            *duty += FOLLOW * (f32::from(u8::from(bits & mask != 0)) - *duty);
            *duty > DUTY
        };
        if follow(&mut self.thermal, reasons::HW_THERMAL) {
            symptoms.push(("thermal_slowdown", Severity::Warning, "hardware slows it down for its heat".into()));
        }
        if follow(&mut self.brake, reasons::HW_POWER_BRAKE) {
            symptoms.push(("power_brake", Severity::Warning, "the power brake is on".into()));
        }
    }

    /// Narrower or slower than under load before, for as long as it took to know that.
    fn link(&mut self, width: f32, generation: f32, symptoms: &mut Vec<Symptom>) {
        if self.looks < LINK_LOOKS {
            self.looks += 1;
            self.link = (self.link.0.max(width), self.link.1.max(generation));
            return;
        }
        let less = width < self.link.0 || generation < self.link.1;
        self.narrow = if less { self.narrow.saturating_add(1) } else { 0 };
        self.link = (self.link.0.max(width), self.link.1.max(generation));
        if self.narrow >= LINK_LOOKS {
            let (was_width, was_generation) = self.link;
            symptoms.push((
                "pcie_link",
                Severity::Info,
                format!("its link under load is x{width} of generation {generation}, and was x{was_width} of {was_generation}"),
            ));
        }
    }

    fn nvlink(&mut self, errors: Option<f64>, up: Option<f64>, symptoms: &mut Vec<Symptom>) {
        if let Some(errors) = errors {
            let grown = self.nvlink.replace(errors).map_or(0.0, |before| (errors - before).max(0.0)) as f32;
            // A burst counts as one second of it, whatever its size.
            self.nvlink_rate += NVLINK_FOLLOW * (grown.min(2.0 * NVLINK_RATE) - self.nvlink_rate);
            if self.nvlink_rate > NVLINK_RATE {
                symptoms.push(("nvlink_errors", Severity::Info, "NVLink errors keep coming".into()));
            }
        }
        let Some(up) = up else { return };
        let before = self.links_up.get_or_insert(up as f32);
        if (up as f32) < *before {
            symptoms.push(("nvlink_down", Severity::Warning, format!("{up} NVLinks are up of {before}")));
        }
        *before = before.max(up as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flickers_is_history_and_what_stays_is_a_fault() {
        let mut watch = Watch::default();
        let mut symptoms = Vec::new();
        (0..200).for_each(|second| watch.limiters(if second % 40 < 4 { reasons::HW_THERMAL } else { 0 }, &mut symptoms));
        assert!(symptoms.is_empty());
        (0..40).for_each(|_| watch.limiters(reasons::HW_THERMAL, &mut symptoms));
        assert_eq!(symptoms[0].0, "thermal_slowdown");
    }

    #[test]
    fn a_link_that_was_always_narrow_is_none_that_became_so() {
        let mut watch = Watch::default();
        let mut symptoms = Vec::new();
        (0..100).for_each(|_| watch.link(8.0, 5.0, &mut symptoms));
        assert!(symptoms.is_empty());
        (0..40).for_each(|_| watch.link(4.0, 5.0, &mut symptoms));
        assert_eq!(symptoms[0].0, "pcie_link");
    }

    #[test]
    fn totals_and_bursts_say_nothing() {
        let mut watch = Watch::default();
        let mut symptoms = Vec::new();
        watch.memory(Some(7.0), None, &mut symptoms);
        watch.memory(Some(0.0), None, &mut symptoms);
        (0..60).for_each(|second| watch.nvlink(Some(if second < 30 { 100.0 } else { 5000.0 }), Some(18.0), &mut symptoms));
        assert!(symptoms.is_empty());
        watch.memory(Some(1.0), None, &mut symptoms);
        assert_eq!(symptoms[0].0, "ecc_uncorrected");
    }
}
