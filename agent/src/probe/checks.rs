//! What a person wants to know first: whether all is well, and if not, what is not.

use super::{GpuReport, Report};
use gridstep_wire::catalog;
use gridstep_wire::pb::metric::Kind;
use gridstep_wire::reasons;
use serde::Serialize;

/// Time in the driver that the agent allows itself, a second and GPU.
const BUDGET_MS: f64 = 1.0;
/// Readings of power a second, where nothing is configured.
const POWER_HERTZ: f64 = 10.0;

/// States that differ between GPUs that are well.
const DIFFER: [&str; 3] = ["clocks_event_reasons", "xid_last", "xid_last_timestamp_seconds"];
/// What is not zero on a GPU that is unwell, and what it means.
const FAULTS: [(&str, &str); 4] = [
    ("ecc_uncorrected_total", "uncorrected memory errors"),
    ("remap_pending", "rows wait for a reset to be remapped"),
    ("remap_failed", "a row could not be remapped"),
    ("recovery_action", "the driver asks for a recovery action"),
];

#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    pub(super) text: String,
}

pub(super) fn checks(report: &Report, rounds: u32) -> Vec<Check> {
    let check = |name, (ok, text): (bool, String)| Check { name, ok, text };
    let answering: Vec<&GpuReport> = report.gpus.iter().filter(|gpu| gpu.fault.is_none()).collect();
    vec![
        check("driver", (true, format!("{}, NVML {}", report.driver_version, report.nvml_version))),
        check("GPUs", gpus(report)),
        check("activity", activity(&answering)),
        check("clocks", clocks(&answering)),
        check("alike", alike(&answering)),
        check("health", health(&answering)),
        check("cost", cost(report, answering.len(), rounds)),
        check("clock", clock(report)),
    ]
}

fn gpus(report: &Report) -> (bool, String) {
    let silent = |gpu: &GpuReport| Some(format!("GPU {}: {}", gpu.index, gpu.fault.as_ref()?));
    let silent: Vec<String> = report.gpus.iter().filter_map(silent).collect();
    let answering = report.gpus.len() - silent.len();
    let text = format!("{answering} of {} answer", report.gpus.len());
    (silent.is_empty() && answering > 0, [text].into_iter().chain(silent).collect::<Vec<_>>().join("; "))
}

fn activity(gpus: &[&GpuReport]) -> (bool, String) {
    match gpus.iter().find_map(|gpu| gpu.missing.get("sm_active_ratio")) {
        Some(why) => (false, format!("no SM and tensor activity: {why}")),
        None => (!gpus.is_empty(), "SMs, tensor cores and memory are measured (GPM)".into()),
    }
}

/// What holds clocks down now. A power cap is normal under load.
fn clocks(gpus: &[&GpuReport]) -> (bool, String) {
    let bits = |gpu: &GpuReport| gpu.metrics.get("clocks_event_reasons").map_or(0, |&bits| bits as u64);
    let held = |gpu: &&GpuReport| {
        let words = reasons::words(bits(gpu) & !reasons::GPU_IDLE);
        (!words.is_empty()).then(|| format!("GPU {}: {}", gpu.index, words.join(", ")))
    };
    let held: Vec<String> = gpus.iter().filter_map(held).collect();
    let grave = |gpu: &&GpuReport| bits(gpu) & !(reasons::GPU_IDLE | reasons::SW_POWER_CAP | reasons::APPLICATIONS_CLOCKS) != 0;
    let text = if held.is_empty() { "nothing holds them down".into() } else { held.join("; ") };
    (!gpus.iter().any(grave), text)
}

/// States in which one GPU is not like the others.
fn alike(gpus: &[&GpuReport]) -> (bool, String) {
    let told = |name: &str| DIFFER.contains(&name) || FAULTS.iter().any(|fault| fault.0 == name);
    let states = catalog::GPU.iter().filter(|metric| metric.kind == Kind::State && !told(metric.name));
    let mut odd = Vec::new();
    for metric in states {
        let values: Vec<(u32, f64)> = gpus.iter().filter_map(|gpu| Some((gpu.index, *gpu.metrics.get(metric.name)?))).collect();
        let mut sorted: Vec<f64> = values.iter().map(|value| value.1).collect();
        sorted.sort_by(f64::total_cmp);
        let Some(&usual) = sorted.get(sorted.len() / 2) else { continue };
        let differs = values.iter().filter(|value| value.1 != usual);
        odd.extend(differs.map(|(gpu, value)| format!("GPU {gpu} has {} {value}, others {usual}", metric.name)));
    }
    if odd.is_empty() { (true, "all GPUs have the same limits and links".into()) } else { (false, odd.join("; ")) }
}

fn health(gpus: &[&GpuReport]) -> (bool, String) {
    let found = |gpu: &&GpuReport| {
        let of = FAULTS.iter().filter(|(metric, _)| gpu.metrics.get(metric).is_some_and(|&value| value != 0.0));
        of.map(|(_, means)| format!("GPU {}: {means}", gpu.index)).collect::<Vec<_>>()
    };
    let found: Vec<String> = gpus.iter().flat_map(found).collect();
    if found.is_empty() { (true, "no uncorrected errors, nothing waits for a reset".into()) } else { (false, found.join("; ")) }
}

/// Time in the driver for each second and GPU at the default rates, from medians.
fn cost(report: &Report, gpus: usize, rounds: u32) -> (bool, String) {
    let each = f64::from(rounds) * gpus.max(1) as f64;
    let a_second = |call: &super::CallReport| {
        let hertz = if call.call.ends_with("(power)") { POWER_HERTZ } else { (call.count as f64 / each).round() };
        call.median_us * hertz / 1e3
    };
    let ms: f64 = report.calls.iter().map(a_second).sum();
    let text =
        format!("{ms:.2} ms in the driver for each second and GPU at 10 Hz power and 1 Hz all else, of {BUDGET_MS} ms allowed");
    (ms <= BUDGET_MS, text)
}

fn clock(report: &Report) -> (bool, String) {
    let error =
        report.node.get("clock_error_seconds").map_or_else(String::new, |error| format!(", within {:.1} ms", error * 1e3));
    match report.node.get("clock_synchronised") {
        Some(1.0) => (true, format!("synchronised{error}")),
        Some(_) => (false, "nothing keeps it synchronised: install chrony, or samples of nodes cannot be compared".into()),
        None => (false, "the kernel does not tell whether it is synchronised".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_not_well_is_named() {
        let gpu = |index, lanes: f64, pending| GpuReport {
            index,
            metrics: BTreeMap::from([("pcie_link_width", lanes), ("remap_pending", pending)]),
            ..GpuReport::default()
        };
        let report = Report { gpus: vec![gpu(0, 16.0, 0.0), gpu(1, 8.0, 0.0), gpu(2, 16.0, 1.0)], ..Report::default() };
        let checks = checks(&report, 1);
        let said = |name| checks.iter().find(|check| check.name == name).map(|check| (check.ok, check.text.as_str())).unwrap();
        assert!(said("alike").1.contains("GPU 1 has pcie_link_width 8, others 16"), "{checks:?}");
        assert!(said("health").1.contains("GPU 2: rows wait"), "{checks:?}");
        assert!(said("GPUs").0 && !said("clock").0, "{checks:?}");
    }
}
