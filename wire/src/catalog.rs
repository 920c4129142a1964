//! The metrics that agent and collector know by name.
//!
//! Names are those of the recording format. The agent declares its metrics on every stream (name, unit, kind, exponent), so
//! this list is no part of the protocol: an agent may send more, a collector takes what it knows.

use crate::pb::{self, metric::Kind};

/// One metric as it is declared on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// As in recordings.
    pub name: &'static str,
    /// UCUM-like base unit.
    pub unit: &'static str,
    pub kind: Kind,
    /// value in `unit` = integer on the wire × 10^exponent.
    pub exponent: i32,
}

const fn metric(name: &'static str, unit: &'static str, kind: Kind, exponent: i32) -> Metric {
    Metric { name, unit, kind, exponent }
}

use Kind::{Counter, Gauge, State};

/// Metrics of one GPU.
pub const GPU: &[Metric] = &[
    metric("power_watts", "W", Gauge, -3),
    metric("power_average_watts", "W", Gauge, -3),
    metric("energy_joules_total", "J", Counter, -3),
    metric("temperature_celsius", "Cel", Gauge, 0),
    metric("memory_temperature_celsius", "Cel", Gauge, 0),
    metric("hbm_used_bytes", "By", Gauge, 0),
    metric("hbm_total_bytes", "By", Gauge, 0),
    metric("sm_clock_mhz", "MHz", Gauge, 0),
    metric("memory_clock_mhz", "MHz", Gauge, 0),
    metric("gpu_utilization_ratio", "1", Gauge, -2),
    metric("sm_active_ratio", "1", Gauge, -4),
    metric("tensor_active_ratio", "1", Gauge, -4),
    metric("dram_active_ratio", "1", Gauge, -4),
    metric("clocks_event_reasons", "1", State, 0),
    metric("limited_power_seconds_total", "s", Counter, -9),
    metric("limited_thermal_seconds_total", "s", Counter, -9),
    metric("limited_brake_seconds_total", "s", Counter, -9),
    metric("power_limit_watts", "W", State, -3),
    metric("pcie_link_generation", "1", State, 0),
    metric("pcie_link_width", "1", State, 0),
    metric("pcie_bytes_per_second", "By/s", Gauge, 0),
    metric("nvlink_bytes_per_second", "By/s", Gauge, 0),
    metric("pcie_replays_total", "1", Counter, 0),
    metric("nvlink_errors_total", "1", Counter, 0),
    metric("ecc_corrected_total", "1", Counter, 0),
    metric("ecc_uncorrected_total", "1", Counter, 0),
    metric("remapped_rows_total", "1", Counter, 0),
    metric("remap_pending", "1", State, 0),
    metric("nvlink_links_up", "1", State, 0),
    metric("up", "1", State, 0),
    metric("job", "1", State, 0),
];

/// Metrics of the node itself (entity 0).
pub const NODE: &[Metric] = &[
    metric("power_watts", "W", Gauge, -3),
    metric("cpu_power_watts", "W", Gauge, -3),
    metric("cpu_utilization_ratio", "1", Gauge, -4),
    metric("cpu_pressure_ratio", "1", Gauge, -4),
    metric("memory_used_bytes", "By", Gauge, 0),
    metric("network_bytes_per_second", "By/s", Gauge, 0),
    metric("network_link_bits_per_second", "bit/s", State, 0),
    metric("network_errors_total", "1", Counter, 0),
    metric("clock_error_seconds", "s", Gauge, -6),
    metric("job", "1", State, 0),
];

impl Metric {
    /// The declaration under the given id.
    pub fn declare(&self, id: u32) -> pb::Metric {
        pb::Metric { id, name: self.name.into(), unit: self.unit.into(), kind: self.kind.into(), exponent: self.exponent }
    }
}
