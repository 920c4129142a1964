//! What has a call of its own in each sweep.

use super::raw;
use super::values::{Absent, Values};
use super::watch::Watch;
use gridstep_wire::catalog;
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::error::NvmlError;

const fn id(name: &str) -> u32 {
    catalog::index(catalog::GPU, name)
}

/// `NVML_ERROR_ARGUMENT_VERSION_MISMATCH` and `NVML_ERROR_DEPRECATED`, which the wrapper has no names for.
const VERSION_MISMATCH: u32 = 25;
const DEPRECATED: u32 = 26;

pub(super) fn often(device: &Device<'_>, out: &mut Values, watch: &Watch) {
    memory(device, out, watch);
    out.put(const { id("temperature_celsius") }, temperature(device, watch));
    let margin = watch.call("nvmlDeviceGetMarginTemperature", || raw::margin(device));
    out.put(const { id("temperature_margin_celsius") }, margin);
    out.put(const { id("sm_clock_mhz") }, watch.call("nvmlDeviceGetClockInfo", || device.clock_info(Clock::SM)));
    out.put(const { id("memory_clock_mhz") }, watch.call("nvmlDeviceGetClockInfo", || device.clock_info(Clock::Memory)));
    match watch.call("nvmlDeviceGetUtilizationRates", || device.utilization_rates()) {
        Ok(rates) => {
            out.put(const { id("gpu_utilization_ratio") }, Ok::<_, Absent>(rates.gpu));
            out.put(const { id("memory_utilization_ratio") }, Ok::<_, Absent>(rates.memory));
        }
        Err(why) => out.refuse(const { [id("gpu_utilization_ratio"), id("memory_utilization_ratio")] }, why),
    }
    let reasons = watch.call("nvmlDeviceGetCurrentClocksEventReasons", || raw::reasons(device));
    out.put(const { id("clocks_event_reasons") }, reasons);
    let generation = watch.call("nvmlDeviceGetCurrPcieLinkGeneration", || device.current_pcie_link_gen());
    out.put(const { id("pcie_link_generation") }, generation);
    let width = watch.call("nvmlDeviceGetCurrPcieLinkWidth", || device.current_pcie_link_width());
    out.put(const { id("pcie_link_width") }, width);
}

fn memory(device: &Device<'_>, out: &mut Values, watch: &Watch) {
    let metrics = const { [id("hbm_used_bytes"), id("hbm_total_bytes"), id("hbm_free_bytes"), id("hbm_reserved_bytes")] };
    match watch.call("nvmlDeviceGetMemoryInfo_v2", || device.memory_info()) {
        Ok(memory) => {
            let values = [memory.used, memory.total, memory.free, memory.reserved];
            metrics.into_iter().zip(values).for_each(|(metric, value)| out.put(metric, Ok::<_, Absent>(value)));
        }
        Err(why) => out.refuse(metrics, why),
    }
}

/// The older function is to be removed with CUDA 14.
fn temperature(device: &Device<'_>, watch: &Watch) -> Result<i64, NvmlError> {
    if device.nvml().lib().nvmlDeviceGetTemperatureV.is_ok() {
        match watch.call("nvmlDeviceGetTemperatureV", || raw::temperature(device)) {
            Err(why) if is_passed_over(&why) => {}
            temperature => return temperature.map(i64::from),
        }
    }
    watch.call("nvmlDeviceGetTemperature", || device.temperature(TemperatureSensor::Gpu)).map(i64::from)
}

/// Whether another function may have what this one has not.
fn is_passed_over(why: &NvmlError) -> bool {
    matches!(why, NvmlError::NotSupported | NvmlError::FunctionNotFound)
        || matches!(why, NvmlError::UnexpectedVariant(VERSION_MISMATCH | DEPRECATED))
}

/// What the driver has no field for, or does not tell by it.
pub(super) fn instead_of_fields(device: &Device<'_>, out: &mut Values, watch: &Watch) {
    let missing = |out: &Values, metric: u32| out.get(metric).is_none();
    let metric = const { id("power_limit_watts") };
    if missing(out, metric) {
        out.put(metric, watch.call("nvmlDeviceGetEnforcedPowerLimit", || device.enforced_power_limit()));
    }
    let metric = const { id("energy_joules_total") };
    if missing(out, metric) {
        out.put(metric, watch.call("nvmlDeviceGetTotalEnergyConsumption", || device.total_energy_consumption()));
    }
    let metric = const { id("pcie_replays_total") };
    if missing(out, metric) {
        out.put(metric, watch.call("nvmlDeviceGetPcieReplayCounter", || device.pcie_replay_counter()));
    }
    for (metric, kind) in [
        (const { id("ecc_corrected_total") }, MemoryError::Corrected),
        (const { id("ecc_uncorrected_total") }, MemoryError::Uncorrected),
    ] {
        if missing(out, metric) {
            let count = watch.call("nvmlDeviceGetTotalEccErrors", || device.total_ecc_errors(kind, EccCounter::Aggregate));
            out.put(metric, count);
        }
    }
}
