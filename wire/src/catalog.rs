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
    /// What it is, in one line.
    pub help: &'static str,
}

const fn metric(name: &'static str, unit: &'static str, kind: Kind, exponent: i32, help: &'static str) -> Metric {
    Metric { name, unit, kind, exponent, help }
}

use Kind::{Counter, Gauge, State};

/// Metrics of one GPU.
pub const GPU: &[Metric] = &[
    metric("power_watts", "W", Gauge, -3, "board power, instantaneous (the sensor's last window)"),
    metric("power_average_watts", "W", Gauge, -3, "board power, the driver's average over one second"),
    metric("energy_joules_total", "J", Counter, -3, "energy of the board since the driver was loaded"),
    metric("temperature_celsius", "Cel", Gauge, 0, "temperature of the GPU core"),
    metric("memory_temperature_celsius", "Cel", Gauge, 0, "temperature of the HBM"),
    metric("hbm_used_bytes", "By", Gauge, 0, "HBM in use"),
    metric("hbm_total_bytes", "By", Gauge, 0, "HBM of the board"),
    metric("sm_clock_mhz", "MHz", Gauge, 0, "clock of the streaming multiprocessors"),
    metric("memory_clock_mhz", "MHz", Gauge, 0, "clock of the HBM"),
    metric("gpu_utilization_ratio", "1", Gauge, -2, "share of the driver's last sample period in which a kernel was resident"),
    metric("sm_active_ratio", "1", Gauge, -4, "share of SM cycles with work since the sweep before (GPM)"),
    metric("tensor_active_ratio", "1", Gauge, -4, "share of tensor-core cycles with work since the sweep before (GPM)"),
    metric("dram_active_ratio", "1", Gauge, -4, "share of the HBM's bandwidth in use since the sweep before (GPM)"),
    metric("clocks_event_reasons", "1", State, 0, "bits of what limits the clocks now (nvml.h, nvmlClocksEventReason*)"),
    metric("limited_power_seconds_total", "s", Counter, -9, "time with the clocks held down by the power cap"),
    metric("limited_thermal_seconds_total", "s", Counter, -9, "time with the clocks held down by heat"),
    metric("limited_brake_seconds_total", "s", Counter, -9, "time with the clocks held down by the power brake"),
    metric("power_limit_watts", "W", State, -3, "power limit that is enforced"),
    metric("pcie_link_generation", "1", State, 0, "generation of the PCIe link now"),
    metric("pcie_link_width", "1", State, 0, "lanes of the PCIe link now"),
    metric("pcie_bytes_per_second", "By/s", Gauge, 0, "PCIe traffic of both directions since the sweep before (GPM)"),
    metric("nvlink_bytes_per_second", "By/s", Gauge, 0, "traffic of all NVLinks, both directions, since the sweep before (GPM)"),
    metric("pcie_replays_total", "1", Counter, 0, "PCIe packets sent again"),
    metric("nvlink_errors_total", "1", Counter, 0, "replays (also those after CRC errors) and recoveries of all NVLinks"),
    metric("ecc_corrected_total", "1", Counter, 0, "corrected memory errors in the board's life"),
    metric("ecc_uncorrected_total", "1", Counter, 0, "uncorrected memory errors in the board's life"),
    metric("remapped_rows_total", "1", Counter, 0, "HBM rows remapped after corrected or uncorrected errors"),
    metric("remap_pending", "1", State, 0, "1: a row remapping waits for a reset of the GPU"),
    metric("nvlink_links_up", "1", State, 0, "NVLinks that are up"),
    metric("up", "1", State, 0, "1: the GPU answers; 0: its driver has lost it or a call hangs"),
    metric("job", "1", State, 0, "the job that has the GPU; 0: idle"),
    metric("xids_total", "1", Counter, 0, "XIDs that the driver told since the agent started"),
];

/// Metrics of the node itself (entity 0).
pub const NODE: &[Metric] = &[
    metric("power_watts", "W", Gauge, -3, "power of the whole node"),
    metric("cpu_power_watts", "W", Gauge, -3, "power of the CPU packages"),
    metric("cpu_utilization_ratio", "1", Gauge, -4, "share of the CPU time that was used"),
    metric("cpu_pressure_ratio", "1", Gauge, -4, "share of the time that some task waited for a CPU"),
    metric("memory_used_bytes", "By", Gauge, 0, "main memory in use"),
    metric("network_bytes_per_second", "By/s", Gauge, 0, "traffic of all network interfaces but loopback, both directions"),
    metric("network_link_bits_per_second", "bit/s", State, 0, "rate of the network links"),
    metric("network_errors_total", "1", Counter, 0, "errors of the network interfaces"),
    metric(
        "clock_error_seconds",
        "s",
        Gauge,
        -6,
        "bound on the error of the node's clock; 16 s where nothing keeps it synchronised",
    ),
    metric("job", "1", State, 0, "the job that has the node; 0: idle"),
    metric("clock_offset_seconds", "s", Gauge, -9, "what the kernel still has to correct the clock by"),
    metric("clock_estimated_error_seconds", "s", Gauge, -6, "error of the node's clock as its time daemon estimates it"),
    metric("clock_synchronised", "1", State, 0, "1: something keeps the clock synchronised; 0: nothing does"),
];

/// Where a metric stands in its list. In a constant an unknown name does not compile.
pub const fn index(list: &[Metric], name: &str) -> u32 {
    let mut index = 0;
    while index < list.len() {
        if same(list[index].name.as_bytes(), name.as_bytes()) {
            return index as u32;
        }
        index += 1;
    }
    panic!("no such metric in the catalog")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

impl Metric {
    /// What an integer on the wire is in `unit`. Divides where that is exact and a product is not.
    pub fn value(&self, integer: i64) -> f64 {
        match self.exponent {
            exponent if exponent < 0 => integer as f64 / 10f64.powi(-exponent),
            exponent => integer as f64 * 10f64.powi(exponent),
        }
    }

    /// The declaration under the given id.
    pub fn declare(&self, id: u32) -> pb::Metric {
        pb::Metric { id, name: self.name.into(), unit: self.unit.into(), kind: self.kind.into(), exponent: self.exponent }
    }
}
