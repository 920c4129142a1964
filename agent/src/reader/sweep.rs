//! One GPU, read through nvml-wrapper.
//!
//! Values are matched by position, not by the field id that comes back: the wrapper translates ids between driver versions.

use super::protocol::{Gpu, Inventory, Power, Sweep};
use super::schedule::Watch;
use gridstep_wire::{Micros, catalog};
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::{GpmSample, gpm_metrics_get};
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// NVML_FI_DEV_POWER_INSTANT: mW over the sensor's last window (25 ms on H100).
const POWER_INSTANT: FieldId = FieldId(186);
/// Half of the sensor's window, microseconds.
const HALF_WINDOW_US: i64 = 12_500;
/// The value is from 0 to 100 ms old when it is read: on average half of that, with as much for a bound.
const HALF_PERIOD_US: i64 = 50_000;

/// Fields of a sweep: (id, catalog name, multiplier to the catalog's integer, needs driver ≥ 575).
/// Ids 251 to 253 are the wrapper's own numbering, which it translates for drivers from 580.82 on.
const FIELDS: &[(u32, &str, i64, bool)] = &[
    (185, "power_average_watts", 1, false),
    (82, "memory_temperature_celsius", 1, false),
    (74, "limited_power_seconds_total", 1, false),
    (251, "limited_thermal_seconds_total", 1, true),
    (252, "limited_thermal_seconds_total", 1, true),
    (253, "limited_brake_seconds_total", 1, true),
    (142, "remapped_rows_total", 1, false),
    (144, "remap_pending", 1, false),
    (52, "nvlink_errors_total", 1, false),
];

const GPM: &[(GpmMetricId, &str, f64)] = &[
    (GpmMetricId::SmUtil, "sm_active_ratio", 100.0),
    (GpmMetricId::AnyTensorUtil, "tensor_active_ratio", 100.0),
    (GpmMetricId::DramBwUtil, "dram_active_ratio", 100.0),
    (GpmMetricId::PcieTxPerSec, "pcie_bytes_per_second", MIB),
    (GpmMetricId::PcieRxPerSec, "pcie_bytes_per_second", MIB),
    (GpmMetricId::NvlinkTotalRxPerSec, "nvlink_bytes_per_second", MIB),
    (GpmMetricId::NvlinkTotalTxPerSec, "nvlink_bytes_per_second", MIB),
];

const MIB: f64 = 1_048_576.0;

/// Opens the library; the error says what to do.
pub fn init(library: Option<&Path>) -> Result<Nvml, NvmlError> {
    match library {
        Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
        None => Nvml::init(),
    }
}

/// Calls into the driver for one GPU: whatever they give, they return.
pub(super) fn touch(library: Option<&Path>, gpu: u32) -> Result<(), NvmlError> {
    let nvml = init(library)?;
    if let Ok(device) = nvml.device_by_index(gpu) {
        let _ = power(&device, gpu);
    }
    Ok(())
}

/// What came of reading one GPU.
pub enum Reading {
    Skipped,
    Lost,
    Values { power: Option<Power>, sweep: Option<Sweep> },
}

pub struct Driver<'nvml> {
    nvml: &'nvml Nvml,
    /// None: not to be touched, or the driver gives no handle.
    devices: Vec<Option<Device<'nvml>>>,
    skipped: Vec<u32>,
    /// The GPM sample before, by GPU.
    gpm: Vec<Option<GpmSample<'nvml>>>,
    fields: Vec<FieldId>,
    watch: Arc<Watch>,
    driver_us: u64,
    driver_version: String,
}

impl<'nvml> Driver<'nvml> {
    pub(crate) fn new(nvml: &'nvml Nvml, skip: &[u32], watch: Arc<Watch>) -> Self {
        let count = nvml.device_count().unwrap_or(0);
        let mut devices = Vec::new();
        for index in 0..count {
            if skip.contains(&index) {
                devices.push(None);
                continue;
            }
            watch.enter(index);
            devices.push(nvml.device_by_index(index).ok());
            watch.leave();
        }
        let driver_version = nvml.sys_driver_version().unwrap_or_default();
        let major: u32 = driver_version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        let usable = FIELDS.iter().filter(|field| !field.3 || major >= 575);
        let fields = usable.map(|field| FieldId(field.0)).collect();
        let gpm = devices.iter().map(|_| None).collect();
        Self { nvml, devices, skipped: skip.to_vec(), gpm, fields, watch, driver_us: 0, driver_version }
    }

    pub fn count(&self) -> u32 {
        self.devices.len() as u32
    }

    pub fn inventory(&mut self) -> Inventory {
        let mut gpus = Vec::new();
        for (index, device) in (0..).zip(&self.devices) {
            let Some(device) = device else { continue };
            self.watch.enter(index);
            gpus.push(Gpu {
                index,
                uuid: device.uuid().unwrap_or_default(),
                model: device.name().unwrap_or_default(),
                pci_bus_id: device.pci_info().map(|info| info.bus_id).unwrap_or_default(),
                serial: device.serial().unwrap_or_default(),
            });
            self.watch.leave();
        }
        let nvml_version = self.nvml.sys_nvml_version().unwrap_or_default();
        Inventory { driver_version: self.driver_version.clone(), nvml_version, gpus }
    }

    /// Wall time inside the driver since the last call, microseconds.
    pub fn take_driver_us(&mut self) -> u64 {
        std::mem::take(&mut self.driver_us)
    }

    /// Reads a GPU's power, and everything else if `full`.
    pub fn read(&mut self, gpu: u32, full: bool) -> Reading {
        if self.skipped.contains(&gpu) {
            return Reading::Skipped;
        }
        let entered = Instant::now();
        self.watch.enter(gpu);
        let reading = self.call(gpu, full);
        self.watch.leave();
        self.driver_us += entered.elapsed().as_micros() as u64;
        reading
    }

    fn call(&mut self, gpu: u32, full: bool) -> Reading {
        let slot = &mut self.devices[gpu as usize];
        if slot.is_none() && full {
            *slot = self.nvml.device_by_index(gpu).ok();
        }
        let Some(device) = slot.as_ref() else { return Reading::Lost };
        let power = match power(device, gpu) {
            Err(NvmlError::GpuLost) => return Reading::Lost,
            power => power.ok(),
        };
        let sweep = full.then(|| sweep(self.nvml, device, gpu, &self.fields, &mut self.gpm[gpu as usize]));
        // A GPU of which nothing at all can be read is as good as lost, whatever the driver calls it.
        let nothing = power.is_none() && sweep.as_ref().is_some_and(|sweep| sweep.values.is_empty());
        if nothing { Reading::Lost } else { Reading::Values { power, sweep: sweep.map(answered) } }
    }
}

/// A sweep of a GPU that answers.
fn answered(mut sweep: Sweep) -> Sweep {
    let mut up = Values::default();
    up.put("up", Some(1));
    sweep.metrics.extend(up.metrics);
    sweep.values.extend(up.values);
    sweep
}

fn power(device: &Device<'_>, gpu: u32) -> Result<Power, NvmlError> {
    let before = Micros::now().0;
    let values = device.field_values_for(&[POWER_INSTANT])?;
    let after = Micros::now().0;
    let milliwatts = match values.into_iter().next() {
        Some(Ok(sample)) => integer(&sample.value?).and_then(|value| u32::try_from(value).ok()).ok_or(NvmlError::NotSupported)?,
        Some(Err(error)) => return Err(error),
        None => return Err(NvmlError::NotSupported),
    };
    let half_call = (after - before) / 2;
    let error = HALF_PERIOD_US + half_call;
    let ts_us = before + half_call - HALF_WINDOW_US - HALF_PERIOD_US;
    Ok(Power { gpu, ts_us, milliwatts, error_us: u32::try_from(error).unwrap_or(u32::MAX) })
}

fn sweep<'nvml>(
    nvml: &'nvml Nvml,
    device: &Device<'nvml>,
    gpu: u32,
    fields: &[FieldId],
    gpm: &mut Option<GpmSample<'nvml>>,
) -> Sweep {
    let mut out = Values::default();
    out.put("temperature_celsius", device.temperature(TemperatureSensor::Gpu).ok().map(i64::from));
    if let Ok(memory) = device.memory_info() {
        out.put("hbm_used_bytes", i64::try_from(memory.used).ok());
        out.put("hbm_total_bytes", i64::try_from(memory.total).ok());
    }
    out.put("sm_clock_mhz", device.clock_info(Clock::SM).ok().map(i64::from));
    out.put("memory_clock_mhz", device.clock_info(Clock::Memory).ok().map(i64::from));
    out.put("gpu_utilization_ratio", device.utilization_rates().ok().map(|rates| i64::from(rates.gpu)));
    out.put("clocks_event_reasons", device.current_throttle_reasons().ok().map(|reasons| reasons.bits() as i64));
    out.put("power_limit_watts", device.enforced_power_limit().ok().map(i64::from));
    out.put("pcie_link_generation", device.current_pcie_link_gen().ok().map(i64::from));
    out.put("pcie_link_width", device.current_pcie_link_width().ok().map(i64::from));
    out.put("pcie_replays_total", device.pcie_replay_counter().ok().map(i64::from));
    out.put("energy_joules_total", device.total_energy_consumption().ok().and_then(|energy| i64::try_from(energy).ok()));
    let ecc = |kind| device.total_ecc_errors(kind, EccCounter::Aggregate).ok().and_then(|count| i64::try_from(count).ok());
    out.put("ecc_corrected_total", ecc(MemoryError::Corrected));
    out.put("ecc_uncorrected_total", ecc(MemoryError::Uncorrected));
    for link in 0..18 {
        if let Ok(active) = device.link_wrapper_for(link).is_active() {
            out.add("nvlink_links_up", i64::from(active));
        }
    }
    if let Ok(values) = device.field_values_for(fields) {
        for (field, value) in fields.iter().zip(values) {
            let Some(entry) = FIELDS.iter().find(|entry| entry.0 == field.0) else { continue };
            let value = value.ok().and_then(|sample| sample.value.ok()).and_then(|value| integer(&value));
            if let Some(value) = value {
                out.add(entry.1, value.saturating_mul(entry.2));
            }
        }
    }
    activity(nvml, device, gpm, &mut out);
    let pids =
        device.running_compute_processes().map(|list| list.iter().map(|process| process.pid).collect()).unwrap_or_default();
    Sweep { gpu, ts_us: Micros::now().0, metrics: out.metrics, values: out.values, pids }
}

/// GPM needs two samples: what happened since the sweep before.
fn activity<'nvml>(nvml: &'nvml Nvml, device: &Device<'nvml>, before: &mut Option<GpmSample<'nvml>>, out: &mut Values) {
    let Ok(now) = device.gpm_sample() else { return };
    if let Some(before) = before.as_ref() {
        let ids: Vec<GpmMetricId> = GPM.iter().map(|metric| metric.0).collect();
        if let Ok(results) = gpm_metrics_get(nvml, before, &now, &ids) {
            for (metric, result) in GPM.iter().zip(results) {
                if let Ok(result) = result
                    && result.value.is_finite()
                {
                    out.add(metric.1, (result.value * metric.2) as i64);
                }
            }
        }
    }
    *before = Some(now);
}

fn integer(value: &SampleValue) -> Option<i64> {
    match *value {
        SampleValue::F64(value) => value.is_finite().then_some(value as i64),
        SampleValue::U32(value) => Some(i64::from(value)),
        SampleValue::U64(value) => i64::try_from(value).ok(),
        SampleValue::I64(value) => Some(value),
    }
}

#[derive(Default)]
struct Values {
    metrics: Vec<u32>,
    values: Vec<i64>,
}

impl Values {
    fn put(&mut self, name: &str, value: Option<i64>) {
        let metric = catalog::GPU.iter().position(|metric| metric.name == name);
        if let (Some(metric), Some(value)) = (metric, value) {
            self.metrics.push(metric as u32);
            self.values.push(value);
        }
    }

    /// Adds to the metric's value, if it has one already (two directions of one link).
    fn add(&mut self, name: &str, value: i64) {
        let known = self.metrics.iter().position(|&metric| catalog::GPU[metric as usize].name == name);
        match known {
            Some(index) => self.values[index] += value,
            None => self.put(name, Some(value)),
        }
    }
}
