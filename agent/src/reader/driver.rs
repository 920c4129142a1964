//! The driver and its GPUs: handles, who they are, which of them are left alone, and what happens to them.

use super::Arguments;
use super::protocol::{Gpu, Inventory, Missing, Power, Sweep, Xid};
use super::raw::{self, Events, Handle};
use super::sweep::{Before, Sweeper};
use super::watch::Watch;
use gridstep_wire::{Micros, catalog};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use std::path::Path;
use std::sync::Arc;

const UP: u32 = catalog::index(catalog::GPU, "up");
const GPM_STATE: u32 = catalog::index(catalog::GPU, "gpm_state");
const GPM_REFUSALS: u32 = catalog::index(catalog::GPU, "gpm_refusals_total");
/// One sweep in so many has what hardly ever changes; GPUs have their turns one after the other.
const SLOW: u64 = 10;

/// Events beside XIDs that are listened to where the driver has them: `nvmlEventType*`, and what they are called on the wire.
const EVENTS: [(u64, &str); 9] = [
    (0x2, "ecc_double_bit"),
    (0x80, "power_source_change"),
    (0x200, "ecc_single_bit_storm"),
    (0x400, "dram_retirement"),
    (0x800, "dram_retirement_failure"),
    (0x1000, "poison"),
    (0x2000, "poison_fatal"),
    (0x4000, "gpu_unavailable"),
    (0x8000, "gpu_recovery_action"),
];
/// XIDs taken in one tick; what is left waits for the next.
const MAX_XIDS: usize = 64;

/// Opens the library; the error says what to do.
pub(super) fn init(library: Option<&Path>) -> Result<Nvml, NvmlError> {
    match library {
        Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
        None => Nvml::init(),
    }
}

/// Calls into the driver for one GPU: whatever they give, they return.
pub(super) fn touch(library: Option<&Path>, gpu: u32) -> Result<(), NvmlError> {
    let nvml = init(library)?;
    if let Ok(device) = nvml.device_by_index(gpu) {
        let _ = Sweeper::new(&nvml, "", false, false).power(&device, gpu, &Watch::default());
    }
    Ok(())
}

/// What came of reading one GPU.
pub(super) enum Reading {
    Skipped,
    Lost,
    Values { power: Option<Power>, sweep: Option<Sweep> },
}

struct Slot<'nvml> {
    /// None: not to be touched, or the driver gives no handle.
    device: Option<Device<'nvml>>,
    skipped: bool,
    /// Its XIDs are heard, or it has none to tell.
    heard: bool,
    /// Sweeps since it was there.
    sweeps: u64,
    before: Before<'nvml>,
}

pub(super) struct Driver<'nvml> {
    nvml: &'nvml Nvml,
    slots: Vec<Slot<'nvml>>,
    sweeper: Sweeper<'nvml>,
    /// None: this driver has no events.
    events: Option<Events<'nvml>>,
    watch: Arc<Watch>,
    driver_version: String,
    /// Everything is read in every sweep, and explained.
    measures: bool,
}

impl<'nvml> Driver<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml, arguments: &Arguments, watch: Arc<Watch>) -> Self {
        let skip = &arguments.skip_gpu;
        watch.enter(None);
        let count = watch.call("nvmlDeviceGetCount_v2", || nvml.device_count()).unwrap_or(0);
        let driver_version = watch.call("nvmlSystemGetDriverVersion", || nvml.sys_driver_version()).unwrap_or_default();
        let events = watch.call("nvmlEventSetCreate", || Events::new(nvml)).ok();
        watch.leave();
        let slot = |gpu| Slot { device: None, skipped: skip.contains(&gpu), heard: false, sweeps: 0, before: Before::default() };
        let sweeper = Sweeper::new(nvml, &driver_version, !arguments.no_gpm, arguments.measure);
        let slots = (0..count).map(slot).collect();
        let mut driver = Self { nvml, slots, sweeper, events, watch, driver_version, measures: arguments.measure };
        for gpu in (0..count).filter(|gpu| !skip.contains(gpu)) {
            driver.watch.enter_opening(gpu);
            driver.get_handle(gpu);
            driver.watch.enter(Some(gpu));
            driver.listen(gpu);
            driver.watch.leave();
        }
        driver
    }

    pub(super) fn count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Where the driver has given none yet.
    fn get_handle(&mut self, gpu: u32) {
        let slot = &mut self.slots[gpu as usize];
        if slot.device.is_none() {
            slot.device = self.watch.call("nvmlDeviceGetHandleByIndex_v2", || self.nvml.device_by_index(gpu)).ok();
        }
    }

    /// For what happens to it, where that has not been done.
    fn listen(&mut self, gpu: u32) {
        let slot = &mut self.slots[gpu as usize];
        if let (false, Some(device), Some(events)) = (slot.heard, &slot.device, &self.events) {
            let others = EVENTS.iter().fold(0, |all, event| all | event.0);
            let listening = self.watch.call("nvmlDeviceRegisterEvents", || events.listen(device, others));
            slot.heard = !matches!(listening, Err(NvmlError::GpuLost));
        }
    }

    pub(super) fn inventory(&self) -> Inventory {
        let mut gpus = Vec::new();
        for (index, slot) in (0..).zip(&self.slots) {
            let Some(device) = &slot.device else { continue };
            let watch = &self.watch;
            watch.enter(Some(index));
            gpus.push(Gpu {
                index,
                uuid: watch.call("nvmlDeviceGetUUID", || device.uuid()).unwrap_or_default(),
                model: watch.call("nvmlDeviceGetName", || device.name()).unwrap_or_default(),
                pci_bus_id: watch
                    .call("nvmlDeviceGetPciInfo_v3", || device.pci_info())
                    .map(|info| info.bus_id)
                    .unwrap_or_default(),
                serial: watch.call("nvmlDeviceGetSerial", || device.serial()).unwrap_or_default(),
            });
            watch.leave();
        }
        let nvml_version = self.nvml.sys_nvml_version().unwrap_or_default();
        Inventory { driver_version: self.driver_version.clone(), nvml_version, gpus }
    }

    /// Reads a GPU's power, and everything else if `full`.
    pub(super) fn read(&mut self, gpu: u32, full: bool) -> Reading {
        if self.slots[gpu as usize].skipped {
            return Reading::Skipped;
        }
        self.watch.enter(Some(gpu));
        if full {
            self.get_handle(gpu);
            self.listen(gpu);
        }
        let reading = self.read_opened(gpu, full);
        if let Reading::Lost = reading {
            self.slots[gpu as usize].sweeps = 0;
        }
        self.watch.leave();
        reading
    }

    fn read_opened(&mut self, gpu: u32, full: bool) -> Reading {
        let slot = &mut self.slots[gpu as usize];
        let Some(device) = &slot.device else { return Reading::Lost };
        let (power, why) = match self.sweeper.power(device, gpu, &self.watch) {
            Ok(power) => (Some(power), None),
            Err(NvmlError::GpuLost) => return Reading::Lost,
            Err(why) => (None, Some(why)),
        };
        let slow = self.measures || slot.sweeps == 0 || (slot.sweeps + u64::from(gpu)).is_multiple_of(SLOW);
        let sweep = full.then(|| self.sweeper.sweep(device, gpu, why, slow, &mut slot.before, &self.watch));
        // A GPU of which nothing at all can be read is as good as lost, whatever the driver calls it.
        if power.is_none() && sweep.as_ref().is_some_and(|sweep| sweep.values.is_empty()) {
            return Reading::Lost;
        }
        slot.sweeps += u64::from(full);
        let power = power.filter(|power| slot.before.plausible.believes_power(power.milliwatts));
        Reading::Values { power, sweep: sweep.map(|sweep| finished(sweep, &mut slot.before)) }
    }

    /// What the driver has reported since the last time.
    pub(super) fn xids(&mut self) -> Vec<Xid> {
        let Some(events) = &self.events else { return Vec::new() };
        let mut out = Vec::new();
        self.watch.enter(None);
        for _ in 0..MAX_XIDS {
            let Ok(Some(event)) = self.watch.call("nvmlEventSetWait_v2", || events.next()) else { break };
            let kind = match EVENTS.iter().find(|known| event.kind & known.0 != 0) {
                Some((_, name)) => (*name).to_owned(),
                None if event.kind & raw::XID != 0 => String::new(),
                None => continue,
            };
            let of_event = |slot: &Slot| slot.device.as_ref().is_some_and(|device| Handle::of(device) == event.handle);
            if let Some(gpu) = self.slots.iter().position(of_event) {
                out.push(Xid { gpu: gpu as u32, ts_us: Micros::now().0, code: event.data, kind });
            }
        }
        self.watch.leave();
        out
    }
}

/// A sweep of a GPU that answers, with what the reader has to say of itself.
fn finished(mut sweep: Sweep, before: &mut Before<'_>) -> Sweep {
    sweep.put(UP, 1);
    sweep.put(GPM_STATE, before.gpm().state());
    if sweep.slow {
        sweep.put(GPM_REFUSALS, before.gpm().refusals());
    }
    sweep.missing.extend(before.gpm().refused().map(|why| Missing { metric: GPM_STATE, why: why.to_owned() }));
    sweep.implausible = before.plausible.take_dropped();
    sweep
}
