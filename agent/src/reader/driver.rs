//! The driver and its GPUs: handles, who they are, which of them are left alone, and what happens to them.

use super::protocol::{Gpu, Inventory, Power, Sweep, Xid};
use super::raw::{Handle, Xids};
use super::sweep::{Before, Sweeper};
use super::watch::Watch;
use gridstep_wire::{Micros, catalog};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use std::path::Path;
use std::sync::Arc;

const UP: u32 = catalog::index(catalog::GPU, "up");
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
        let _ = Sweeper::new(&nvml, "", false).power(&device, gpu, &Watch::default());
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
    before: Before<'nvml>,
}

pub(super) struct Driver<'nvml> {
    nvml: &'nvml Nvml,
    slots: Vec<Slot<'nvml>>,
    sweeper: Sweeper<'nvml>,
    /// None: this driver has no events.
    xids: Option<Xids<'nvml>>,
    watch: Arc<Watch>,
    driver_version: String,
}

impl<'nvml> Driver<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml, skip: &[u32], explain: bool, watch: Arc<Watch>) -> Self {
        watch.enter(None);
        let count = watch.call("nvmlDeviceGetCount_v2", || nvml.device_count()).unwrap_or(0);
        let driver_version = watch.call("nvmlSystemGetDriverVersion", || nvml.sys_driver_version()).unwrap_or_default();
        let xids = watch.call("nvmlEventSetCreate", || Xids::new(nvml)).ok();
        watch.leave();
        let slot = |gpu| Slot { device: None, skipped: skip.contains(&gpu), heard: false, before: Before::default() };
        let sweeper = Sweeper::new(nvml, &driver_version, explain);
        let mut driver = Self { nvml, slots: (0..count).map(slot).collect(), sweeper, xids, watch, driver_version };
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

    /// For its XIDs, where that has not been done.
    fn listen(&mut self, gpu: u32) {
        let slot = &mut self.slots[gpu as usize];
        if let (false, Some(device), Some(xids)) = (slot.heard, &slot.device, &self.xids) {
            let listening = self.watch.call("nvmlDeviceRegisterEvents", || xids.listen(device));
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
        let sweep = full.then(|| self.sweeper.sweep(device, gpu, why, &mut slot.before, &self.watch));
        // A GPU of which nothing at all can be read is as good as lost, whatever the driver calls it.
        if power.is_none() && sweep.as_ref().is_some_and(|sweep| sweep.values.is_empty()) {
            return Reading::Lost;
        }
        Reading::Values { power, sweep: sweep.map(up) }
    }

    /// What the driver has reported since the last time.
    pub(super) fn xids(&mut self) -> Vec<Xid> {
        let Some(xids) = &self.xids else { return Vec::new() };
        let mut out = Vec::new();
        self.watch.enter(None);
        for _ in 0..MAX_XIDS {
            let Ok(Some((handle, code))) = self.watch.call("nvmlEventSetWait_v2", || xids.next()) else { break };
            let of_event = |slot: &Slot| slot.device.as_ref().is_some_and(|device| Handle::of(device) == handle);
            if let Some(gpu) = self.slots.iter().position(of_event) {
                out.push(Xid { gpu: gpu as u32, ts_us: Micros::now().0, code });
            }
        }
        self.watch.leave();
        out
    }
}

/// A sweep of a GPU that answers.
fn up(mut sweep: Sweep) -> Sweep {
    sweep.put(UP, 1);
    sweep
}
