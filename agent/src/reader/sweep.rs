//! One GPU's values: which call gives which metric.

use super::protocol::Sweep;
use super::raw::{Field, Fields};
use super::values::{Absent, Value, Values};
use super::watch::Watch;
use gridstep_wire::{Micros, catalog};
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::{GpmSample, gpm_metrics_get};
use nvml_wrapper::{Device, FieldIdScheme, Nvml};

const fn id(name: &str) -> u32 {
    catalog::index(catalog::GPU, name)
}

const POWER: u32 = id("power_watts");
const NVLINK_BYTES: u32 = id("nvlink_bytes_total");
const NVLINK_LINKS_UP: u32 = id("nvlink_links_up");
const NVLINK_ERRORS: u32 = id("nvlink_errors_total");

/// All links of a GPU, as the scope of a field.
const ALL_LINKS: u32 = u32::MAX;

/// Fields of a sweep: id, metric, first driver that has it (0: any). Ids are in the numbering of CUDA 12.9.
const FIELDS: &[(u32, u32, u32)] = &[
    (185, id("power_average_watts"), 0),
    (82, id("memory_temperature_celsius"), 0),
    (74, id("limited_power_seconds_total"), 0),
    // Before 575 these ids were those of power smoothing.
    (251, id("limited_thermal_seconds_total"), 575),
    (252, id("limited_thermal_seconds_total"), 575),
    (253, id("limited_brake_seconds_total"), 575),
    // After corrected and after uncorrected errors.
    (142, id("remapped_rows_total"), 0),
    (143, id("remapped_rows_total"), 0),
    (144, id("remap_pending"), 0),
    (142, id("remapped_rows_corrected_total"), 0),
    (143, id("remapped_rows_uncorrected_total"), 0),
    (145, id("remap_failed"), 0),
    // CUDA 12.8.
    (230, id("recovery_action"), 570),
];

/// NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX and …_RX, KiB.
const LINK_BYTES: [u32; 2] = [138, 139];

/// NVLinks that a GPU has at most.
const LINKS: u32 = 18;
/// NVML_FI_DEV_NVLINK_GET_STATE of a link.
const LINK_STATE: u32 = 165;
/// Its values for a link that is up: active, asleep.
const LINK_UP: [i64; 2] = [1, 2];
/// NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY and …_RECOVERY of a link.
const LINK_ERRORS: [u32; 2] = [161, 162];

const MIB: f64 = 1_048_576.0;

const GPM: &[(GpmMetricId, u32, f64)] = &[
    (GpmMetricId::GraphicsUtil, id("engine_active_ratio"), 100.0),
    (GpmMetricId::SmOccupancy, id("sm_occupancy_ratio"), 100.0),
    (GpmMetricId::PcieTxPerSec, id("pcie_sent_bytes_per_second"), MIB),
    (GpmMetricId::PcieRxPerSec, id("pcie_received_bytes_per_second"), MIB),
    (GpmMetricId::SmUtil, id("sm_active_ratio"), 100.0),
    (GpmMetricId::AnyTensorUtil, id("tensor_active_ratio"), 100.0),
    (GpmMetricId::DramBwUtil, id("dram_active_ratio"), 100.0),
    (GpmMetricId::PcieTxPerSec, id("pcie_bytes_per_second"), MIB),
    (GpmMetricId::PcieRxPerSec, id("pcie_bytes_per_second"), MIB),
    (GpmMetricId::NvlinkTotalRxPerSec, id("nvlink_bytes_per_second"), MIB),
    (GpmMetricId::NvlinkTotalTxPerSec, id("nvlink_bytes_per_second"), MIB),
];

/// What reading a GPU leaves for its next reading.
#[derive(Default)]
pub(super) struct Before<'nvml> {
    gpm: Option<GpmSample<'nvml>>,
    /// Replays and recoveries by link: one that cannot be read keeps what it had, lest the sum fall.
    link_errors: Vec<i64>,
}

/// Reads GPUs, one at a time.
pub(super) struct Sweeper<'nvml> {
    nvml: &'nvml Nvml,
    fields: Fields,
    gpm: Vec<GpmMetricId>,
    /// Before the dot of the driver's version.
    driver: u32,
    explain: bool,
}

impl<'nvml> Sweeper<'nvml> {
    /// `explain`: why metrics are missing is noted.
    pub(super) fn new(nvml: &'nvml Nvml, driver_version: &str, explain: bool) -> Self {
        let driver = driver_version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        let scheme: FieldIdScheme = nvml.field_id_scheme();
        let board = FIELDS.iter().filter(|field| field.2 <= driver).map(|field| Field { id: field.0, scope: 0 });
        let bytes = LINK_BYTES.map(|id| Field { id, scope: ALL_LINKS });
        let links = [LINK_STATE].into_iter().chain(LINK_ERRORS).flat_map(|id| (0..LINKS).map(move |scope| Field { id, scope }));
        Self {
            nvml,
            fields: Fields::new(scheme, board.chain(bytes).chain(links)),
            gpm: GPM.iter().map(|metric| metric.0).collect(),
            driver,
            explain,
        }
    }

    /// Everything else; `power` only explains where there is none.
    pub(super) fn sweep(
        &mut self,
        device: &Device<'nvml>,
        gpu: u32,
        power: Option<NvmlError>,
        before: &mut Before<'nvml>,
        watch: &Watch,
    ) -> Sweep {
        let mut out = Values::default();
        if let Some(why) = power {
            out.refuse([POWER], why);
        }
        getters(device, &mut out, watch);
        self.read_fields(device, before, &mut out, watch);
        self.activity(device, before, &mut out, watch);
        let processes = watch.call("nvmlDeviceGetComputeRunningProcesses_v3", || device.running_compute_processes());
        let pids = processes.map(|list| list.iter().map(|process| process.pid).collect()).unwrap_or_default();
        let (metrics, values, missing) = out.split(self.explain);
        Sweep { gpu, ts_us: Micros::now().0, metrics, values, pids, missing, ..Sweep::default() }
    }

    fn read_fields(&mut self, device: &Device<'_>, before: &mut Before<'_>, out: &mut Values, watch: &Watch) {
        let mut values = match watch.call("nvmlDeviceGetFieldValues (sweep)", || self.fields.read(device)) {
            Ok(values) => values,
            Err(why) => {
                return out.refuse(FIELDS.iter().map(|field| field.1).chain([NVLINK_BYTES, NVLINK_LINKS_UP, NVLINK_ERRORS]), why);
            }
        };
        let mut next = || values.next().unwrap_or(Err(NvmlError::NotSupported));
        for &(_, metric, since) in FIELDS {
            out.add(metric, if since <= self.driver { next().map_err(Absent::from) } else { Err(Absent::OldDriver) });
        }
        for _ in LINK_BYTES {
            out.add(NVLINK_BYTES, next().map(|kib| kib.saturating_mul(1024)).map_err(Absent::from));
        }
        for _ in 0..LINKS {
            out.add(NVLINK_LINKS_UP, next().map(|state| i64::from(LINK_UP.contains(&state))).map_err(Absent::from));
        }
        let errors: Vec<_> = values.collect();
        if errors.iter().any(Result::is_ok) {
            before.link_errors.resize(errors.len(), 0);
            before.link_errors.iter_mut().zip(errors).for_each(|(known, errors)| *known = errors.unwrap_or(*known));
            out.put(NVLINK_ERRORS, Ok::<_, Absent>(before.link_errors.iter().sum::<i64>()));
        } else if let Some(Err(why)) = errors.into_iter().next() {
            out.refuse([NVLINK_ERRORS], why);
        }
    }

    /// GPM needs two samples: what happened since the sweep before.
    fn activity(&self, device: &Device<'nvml>, before: &mut Before<'nvml>, out: &mut Values, watch: &Watch) {
        let now = match watch.call("nvmlGpmSampleGet", || device.gpm_sample()) {
            Ok(now) => now,
            Err(why) => return out.refuse(GPM.iter().map(|metric| metric.1), why),
        };
        if let Some(earlier) = &before.gpm {
            match watch.call("nvmlGpmMetricsGet", || gpm_metrics_get(self.nvml, earlier, &now, &self.gpm)) {
                Ok(results) => {
                    for (&(_, metric, factor), result) in GPM.iter().zip(results) {
                        out.add(metric, result.map_err(Absent::from).and_then(|result| scaled(result.value, factor)));
                    }
                }
                Err(why) => out.refuse(GPM.iter().map(|metric| metric.1), why),
            }
        }
        before.gpm = Some(now);
    }
}

fn scaled(value: f64, factor: f64) -> Value {
    if value.is_finite() { Ok((value * factor) as i64) } else { Err(Absent::Range) }
}

/// What has a call of its own.
fn getters(device: &Device<'_>, out: &mut Values, watch: &Watch) {
    let memory = watch.call("nvmlDeviceGetMemoryInfo_v2", || device.memory_info());
    match memory {
        Ok(memory) => {
            out.put(const { id("hbm_used_bytes") }, Ok::<_, Absent>(memory.used));
            out.put(const { id("hbm_total_bytes") }, Ok::<_, Absent>(memory.total));
            out.put(const { id("hbm_free_bytes") }, Ok::<_, Absent>(memory.free));
            out.put(const { id("hbm_reserved_bytes") }, Ok::<_, Absent>(memory.reserved));
        }
        Err(why) => out
            .refuse(const { [id("hbm_used_bytes"), id("hbm_total_bytes"), id("hbm_free_bytes"), id("hbm_reserved_bytes")] }, why),
    }
    let value = watch.call("nvmlDeviceGetTemperature", || device.temperature(TemperatureSensor::Gpu));
    out.put(const { id("temperature_celsius") }, value);
    out.put(const { id("sm_clock_mhz") }, watch.call("nvmlDeviceGetClockInfo", || device.clock_info(Clock::SM)));
    out.put(const { id("memory_clock_mhz") }, watch.call("nvmlDeviceGetClockInfo", || device.clock_info(Clock::Memory)));
    match watch.call("nvmlDeviceGetUtilizationRates", || device.utilization_rates()) {
        Ok(rates) => {
            out.put(const { id("gpu_utilization_ratio") }, Ok::<_, Absent>(rates.gpu));
            out.put(const { id("memory_utilization_ratio") }, Ok::<_, Absent>(rates.memory));
        }
        Err(why) => out.refuse(const { [id("gpu_utilization_ratio"), id("memory_utilization_ratio")] }, why),
    }
    let value = watch.call("nvmlDeviceGetEncoderUtilization", || device.encoder_utilization());
    out.put(const { id("encoder_utilization_ratio") }, value.map(|used| used.utilization));
    let value = watch.call("nvmlDeviceGetDecoderUtilization", || device.decoder_utilization());
    out.put(const { id("decoder_utilization_ratio") }, value.map(|used| used.utilization));
    let value = watch.call("nvmlDeviceGetCurrentClocksThrottleReasons", || device.current_throttle_reasons());
    out.put(const { id("clocks_event_reasons") }, value.map(|reasons| reasons.bits()));
    let value = watch.call("nvmlDeviceGetEnforcedPowerLimit", || device.enforced_power_limit());
    out.put(const { id("power_limit_watts") }, value);
    let value = watch.call("nvmlDeviceGetCurrPcieLinkGeneration", || device.current_pcie_link_gen());
    out.put(const { id("pcie_link_generation") }, value);
    let value = watch.call("nvmlDeviceGetCurrPcieLinkWidth", || device.current_pcie_link_width());
    out.put(const { id("pcie_link_width") }, value);
    let value = watch.call("nvmlDeviceGetPcieReplayCounter", || device.pcie_replay_counter());
    out.put(const { id("pcie_replays_total") }, value);
    let value = watch.call("nvmlDeviceGetTotalEnergyConsumption", || device.total_energy_consumption());
    out.put(const { id("energy_joules_total") }, value);
    for (metric, kind) in [
        (const { id("ecc_corrected_total") }, MemoryError::Corrected),
        (const { id("ecc_uncorrected_total") }, MemoryError::Uncorrected),
    ] {
        let count = watch.call("nvmlDeviceGetTotalEccErrors", || device.total_ecc_errors(kind, EccCounter::Aggregate));
        out.put(metric, count);
    }
}
