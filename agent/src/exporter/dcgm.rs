//! `/metrics/dcgm`: the readings under the names of dcgm-exporter's default set, for dashboards and alerts that were made for it: names, units, labels
//! and their order as of its release 4.8 (etc/default-counters.csv, docs/dcgm.md says what differs). A value that is not known has no
//! series, as there.

use super::readings::{Gpu, State};
use gridstep_wire::catalog;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// How the node is named: dcgm-exporter spelt the label `Hostname` until 4.5, and `hostname` since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Names {
    #[default]
    Hostname,
    #[serde(rename = "hostname")]
    LowerHostname,
    #[serde(rename = "no-hostname")]
    NoHostname,
}

/// How a value is printed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Print {
    /// An integer: the reading times the factor.
    Integer(f64),
    /// Six decimals.
    Float,
    /// An integer, and what it means in two labels.
    Xid,
}

use Print::{Float, Integer, Xid};

const MIB: f64 = 1.0 / 1_048_576.0;

const fn of(name: &str) -> Option<u32> {
    Some(catalog::index(catalog::GPU, name))
}

/// Name, type, help, what is read (None: always 0), how it is printed.
const SET: [(&str, &str, &str, Option<u32>, Print); 25] = [
    ("DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", of("sm_clock_mhz"), Integer(1.0)),
    ("DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", of("memory_clock_mhz"), Integer(1.0)),
    ("DEV_MEMORY_TEMP", "gauge", "Memory temperature (in C).", of("memory_temperature_celsius"), Integer(1.0)),
    ("DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", of("temperature_celsius"), Integer(1.0)),
    ("DEV_POWER_USAGE", "gauge", "Power draw (in W).", of("power_average_watts"), Float),
    (
        "DEV_TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Total energy consumption since boot (in mJ).",
        of("energy_joules_total"),
        Integer(1e3),
    ),
    ("DEV_PCIE_REPLAY_COUNTER", "counter", "Total number of PCIe retries.", of("pcie_replays_total"), Integer(1.0)),
    ("DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", of("gpu_utilization_ratio"), Integer(100.0)),
    ("DEV_MEM_COPY_UTIL", "gauge", "Memory utilization (in %).", of("memory_utilization_ratio"), Integer(100.0)),
    ("DEV_ENC_UTIL", "gauge", "Encoder utilization (in %).", of("encoder_utilization_ratio"), Integer(100.0)),
    ("DEV_DEC_UTIL", "gauge", "Decoder utilization (in %).", of("decoder_utilization_ratio"), Integer(100.0)),
    ("DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered.", of("xid_last"), Xid),
    ("DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB).", of("hbm_free_bytes"), Integer(MIB)),
    ("DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", of("hbm_used_bytes"), Integer(MIB)),
    ("DEV_FB_RESERVED", "gauge", "Framebuffer memory reserved (in MiB).", of("hbm_reserved_bytes"), Integer(MIB)),
    (
        "DEV_NVLINK_BANDWIDTH_TOTAL",
        "counter",
        "Total number of NVLink bandwidth counters for all lanes.",
        of("nvlink_bytes_total"),
        Integer(MIB),
    ),
    ("DEV_VGPU_LICENSE_STATUS", "gauge", "vGPU License status", None, Integer(1.0)),
    (
        "DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "counter",
        "Number of remapped rows for uncorrectable errors",
        of("remapped_rows_uncorrected_total"),
        Integer(1.0),
    ),
    (
        "DEV_CORRECTABLE_REMAPPED_ROWS",
        "counter",
        "Number of remapped rows for correctable errors",
        of("remapped_rows_corrected_total"),
        Integer(1.0),
    ),
    ("DEV_ROW_REMAP_FAILURE", "gauge", "Whether remapping of rows has failed", of("remap_failed"), Integer(1.0)),
    ("PROF_GR_ENGINE_ACTIVE", "gauge", "Ratio of time the graphics engine is active.", of("engine_active_ratio"), Float),
    ("PROF_PIPE_TENSOR_ACTIVE", "gauge", "Ratio of cycles the tensor (HMMA) pipe is active.", of("tensor_active_ratio"), Float),
    (
        "PROF_DRAM_ACTIVE",
        "gauge",
        "Ratio of cycles the device memory interface is active sending or receiving data.",
        of("dram_active_ratio"),
        Float,
    ),
    (
        "PROF_PCIE_TX_BYTES",
        "gauge",
        "The rate of data transmitted over the PCIe bus - including both protocol headers and data payloads - in bytes per second.",
        of("pcie_sent_bytes_per_second"),
        Integer(1.0),
    ),
    (
        "PROF_PCIE_RX_BYTES",
        "gauge",
        "The rate of data received over the PCIe bus - including both protocol headers and data payloads - in bytes per second.",
        of("pcie_received_bytes_per_second"),
        Integer(1.0),
    ),
];

/// What NVIDIA's catalogue of XIDs calls those that are met in training.
const XIDS: [(i64, &str); 14] = [
    (0, "No Error"),
    (13, "Graphics Engine Exception"),
    (31, "GPU memory page fault"),
    (43, "GPU stopped processing"),
    (45, "Preemptive cleanup, due to previous errors"),
    (48, "Double Bit ECC Error"),
    (63, "ECC page retirement or row remapping recording event"),
    (64, "ECC page retirement or row remapper recording failure"),
    (74, "NVLINK Error"),
    (79, "GPU has fallen off the bus"),
    (92, "High single-bit ECC error rate"),
    (94, "Contained ECC error"),
    (95, "Uncontained ECC error"),
    (119, "GSP RPC Timeout"),
];

/// The series of all GPUs that answer.
pub(super) fn text(state: &State, names: Names, node: &str) -> String {
    let mut out = String::new();
    let gpus: Vec<(&Gpu, String)> = state
        .gpus
        .iter()
        .filter(|(_, gpu)| gpu.down.is_none())
        .map(|(index, gpu)| (gpu, labels(*index, gpu, state, names, node)))
        .collect();
    for (name, kind, help, metric, print) in SET {
        let mut head = false;
        for (gpu, labels) in &gpus {
            let Some((value, more)) = value(gpu, metric, print) else { continue };
            if !std::mem::replace(&mut head, true) {
                let _ = writeln!(out, "# HELP DCGM_FI_{name} {help}\n# TYPE DCGM_FI_{name} {kind}");
            }
            let _ = writeln!(out, "DCGM_FI_{name}{{{labels}{more}}} {value}");
        }
    }
    out
}

/// The value as it is printed, and further labels.
fn value(gpu: &Gpu, metric: Option<u32>, print: Print) -> Option<(String, String)> {
    let reading = match metric {
        // A GPU of which nothing was read yet has no series at all.
        None => gpu.values.values().next().map(|_| 0.0),
        Some(id) => gpu.values.get(&id).map(|&value| catalog::GPU[id as usize].value(value)),
    };
    match print {
        Integer(factor) => reading.map(|value| (format!("{:.0}", value * factor), String::new())),
        Float => reading.map(|value| (format!("{value:.6}"), String::new())),
        Xid => {
            gpu.values.values().next()?;
            let code = reading.unwrap_or(0.0) as i64;
            let text = XIDS.iter().find(|xid| xid.0 == code).map_or("Unknown Error", |xid| xid.1);
            Some((code.to_string(), format!(",err_code=\"{code}\",err_msg=\"{text}\"")))
        }
    }
}

fn labels(index: u32, gpu: &Gpu, state: &State, names: Names, node: &str) -> String {
    let mut out = format!(
        "gpu=\"{index}\",UUID=\"{}\",pci_bus_id=\"{}\",device=\"nvidia{index}\",modelName=\"{}\"",
        escaped(&gpu.uuid),
        escaped(&gpu.pci_bus_id),
        escaped(&gpu.model)
    );
    match names {
        Names::Hostname => out.push_str(&format!(",Hostname=\"{}\"", escaped(node))),
        Names::LowerHostname => out.push_str(&format!(",hostname=\"{}\"", escaped(node))),
        Names::NoHostname => {}
    }
    let _ = write!(out, ",DCGM_FI_DRIVER_VERSION=\"{}\"", escaped(&state.driver_version));
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
