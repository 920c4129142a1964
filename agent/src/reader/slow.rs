//! What hardly ever changes and has a call of its own: read in every tenth sweep.

use super::raw;
use super::values::{Absent, Values};
use super::watch::Watch;
use gridstep_wire::catalog;
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, MemoryLocation, PerformanceState, TemperatureThreshold,
};

const fn id(name: &str) -> u32 {
    catalog::index(catalog::GPU, name)
}

const THRESHOLDS: [(u32, TemperatureThreshold); 4] = [
    (id("temperature_shutdown_celsius"), TemperatureThreshold::Shutdown),
    (id("temperature_slowdown_celsius"), TemperatureThreshold::Slowdown),
    (id("temperature_max_celsius"), TemperatureThreshold::GpuMax),
    (id("memory_temperature_max_celsius"), TemperatureThreshold::MemoryMax),
];

const CLOCKS: [(u32, Clock); 2] = [(id("graphics_clock_mhz"), Clock::Graphics), (id("video_clock_mhz"), Clock::Video)];

const MAX_CLOCKS: [(u32, Clock); 4] = [
    (id("sm_clock_max_mhz"), Clock::SM),
    (id("memory_clock_max_mhz"), Clock::Memory),
    (id("graphics_clock_max_mhz"), Clock::Graphics),
    (id("video_clock_max_mhz"), Clock::Video),
];

/// Places of ECC errors; the wrapper's `Device` is the header's other name of the DRAM.
const SRAM: MemoryLocation = MemoryLocation::SRAM;
const DRAM: MemoryLocation = MemoryLocation::Device;
const ECC: [(u32, MemoryError, EccCounter, MemoryLocation); 8] = [
    (id("ecc_sram_corrected_total"), MemoryError::Corrected, EccCounter::Aggregate, SRAM),
    (id("ecc_sram_uncorrected_total"), MemoryError::Uncorrected, EccCounter::Aggregate, SRAM),
    (id("ecc_dram_corrected_total"), MemoryError::Corrected, EccCounter::Aggregate, DRAM),
    (id("ecc_dram_uncorrected_total"), MemoryError::Uncorrected, EccCounter::Aggregate, DRAM),
    (id("ecc_volatile_sram_corrected_total"), MemoryError::Corrected, EccCounter::Volatile, SRAM),
    (id("ecc_volatile_sram_uncorrected_total"), MemoryError::Uncorrected, EccCounter::Volatile, SRAM),
    (id("ecc_volatile_dram_corrected_total"), MemoryError::Corrected, EccCounter::Volatile, DRAM),
    (id("ecc_volatile_dram_uncorrected_total"), MemoryError::Uncorrected, EccCounter::Volatile, DRAM),
];

const BANKS: [u32; 5] =
    [id("remap_banks_max"), id("remap_banks_high"), id("remap_banks_partial"), id("remap_banks_low"), id("remap_banks_none")];

pub(super) fn read(device: &Device<'_>, out: &mut Values, watch: &Watch) {
    for (metric, threshold) in THRESHOLDS {
        out.put(metric, watch.call("nvmlDeviceGetTemperatureThreshold", || device.temperature_threshold(threshold)));
    }
    for (metric, clock) in CLOCKS {
        out.put(metric, watch.call("nvmlDeviceGetClockInfo", || device.clock_info(clock)));
    }
    for (metric, clock) in MAX_CLOCKS {
        out.put(metric, watch.call("nvmlDeviceGetMaxClockInfo", || device.max_clock_info(clock)));
    }
    let state = watch.call("nvmlDeviceGetPerformanceState", || device.performance_state());
    out.put(const { id("performance_state") }, state.map(number));
    for (metric, error, counter, place) in ECC {
        let count = watch.call("nvmlDeviceGetMemoryErrorCounter", || device.memory_error_counter(error, counter, place));
        out.put(metric, count);
    }
    match watch.call("nvmlDeviceGetRowRemapperHistogram", || raw::spare_rows(device)) {
        Ok(banks) => BANKS.into_iter().zip(banks).for_each(|(metric, count)| out.put(metric, Ok::<_, Absent>(count))),
        Err(why) => out.refuse(BANKS, why),
    }
    let generation = watch.call("nvmlDeviceGetMaxPcieLinkGeneration", || device.max_pcie_link_gen());
    out.put(const { id("pcie_link_generation_max") }, generation);
    out.put(const { id("pcie_link_width_max") }, watch.call("nvmlDeviceGetMaxPcieLinkWidth", || device.max_pcie_link_width()));
    let mig = watch.call("nvmlDeviceGetMigMode", || device.mig_mode());
    out.put(const { id("mig_enabled") }, mig.map(|mode| mode.current));
    engines(device, out, watch);
    fabric(device, out, watch);
}

/// Video engines: training leaves them idle.
fn engines(device: &Device<'_>, out: &mut Values, watch: &Watch) {
    let used = watch.call("nvmlDeviceGetEncoderUtilization", || device.encoder_utilization());
    out.put(const { id("encoder_utilization_ratio") }, used.map(|used| used.utilization));
    let used = watch.call("nvmlDeviceGetDecoderUtilization", || device.decoder_utilization());
    out.put(const { id("decoder_utilization_ratio") }, used.map(|used| used.utilization));
}

fn fabric(device: &Device<'_>, out: &mut Values, watch: &Watch) {
    let metrics =
        const { [id("fabric_state"), id("fabric_status"), id("fabric_clique"), id("fabric_health_mask"), id("fabric_health")] };
    match watch.call("nvmlDeviceGetGpuFabricInfoV", || raw::fabric(device)) {
        Ok(fabric) => {
            let values = [Some(fabric.state), Some(fabric.status), Some(fabric.clique), fabric.health_mask, fabric.health];
            for (metric, value) in metrics.into_iter().zip(values) {
                out.put(metric, value.ok_or(nvml_wrapper::error::NvmlError::NotSupported));
            }
        }
        Err(why) => out.refuse(metrics, why),
    }
}

/// As nvml.h numbers it.
fn number(state: PerformanceState) -> u32 {
    state.as_c()
}
