//! The driver and its GPUs: handles, who they are, which of them are left alone, and what happens to them.

use super::opening;
use super::pace::Finest;
use super::power::{Board, PowerReader, PowerSource};
use super::protocol::{Frame, Gpu, Inventory, Missing, Pace, Power, Sweep, Xid};
use super::raw::{self, Events, Handle};
use super::sweep::{Before, Sweeper};
use super::watch::Watch;
use gridstep_wire::{Micros, catalog};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
/// Events are taken for so long in one tick; what is left waits for the next.
const EVENTS_AT_A_TIME: Duration = Duration::from_millis(25);
/// What a GPU is once it was found lost or hanging, seen by a process of its own: an exit code beside success.
pub(crate) const STILL_LOST: u8 = 3;

/// Opens the library.
pub(super) fn init(library: Option<&Path>) -> Result<Nvml, NvmlError> {
    match library {
        Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
        None => Nvml::init(),
    }
}

/// Calls into the driver for one GPU. Whatever they give, they return; true: the GPU is there.
pub(super) fn touch(library: Option<&Path>, gpu: u32) -> Result<bool, NvmlError> {
    let nvml = init(library)?;
    let Ok(device) = nvml.device_by_index(gpu) else { return Ok(false) };
    let (mut board, mut out) = (Board::new(Duration::MAX, Finest::default()), Vec::new());
    let mut power = PowerReader::new("", PowerSource::Field);
    let read = power.read(&device, gpu, &mut board, false, &Watch::default(), &mut out);
    Ok(!matches!(read, Err(NvmlError::GpuLost)))
}

/// What came of reading one GPU.
pub(super) enum Reading {
    Skipped,
    Lost,
    /// It is not the GPU: no call is of any use any more.
    DriverGone(NvmlError),
    Values {
        power: Vec<Power>,
        sweep: Option<Sweep>,
    },
}

/// What of a GPU is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) power: bool,
    pub(super) sweep: bool,
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
    board: Board,
    /// What was told of its pace.
    told: Option<Pace>,
}

/// How GPUs are to be read.
pub(super) struct Options<'a> {
    /// GPUs to leave alone.
    pub(super) skip: &'a [u32],
    /// Everything is read in every sweep, and why metrics are missing is noted.
    pub(super) explain: bool,
    /// Performance monitoring is read.
    pub(super) gpm: bool,
    pub(super) source: PowerSource,
    /// Time in the driver for each GPU, of each second.
    pub(super) budget: Duration,
    pub(super) finest: Finest,
}

pub(super) struct Driver<'nvml> {
    nvml: &'nvml Nvml,
    slots: Vec<Slot<'nvml>>,
    sweeper: Sweeper<'nvml>,
    power: PowerReader,
    /// None: this driver has no events.
    events: Option<Events<'nvml>>,
    watch: Arc<Watch>,
    driver_version: String,
    /// Everything is read in every sweep, and explained.
    measures: bool,
}

impl<'nvml> Driver<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml, options: &Options<'_>, watch: Arc<Watch>) -> Self {
        let &Options { skip, explain, gpm, source, budget, finest } = options;
        watch.enter(None);
        let count = watch.call("nvmlDeviceGetCount_v2", || nvml.device_count()).unwrap_or(0);
        let driver_version = watch.call("nvmlSystemGetDriverVersion", || nvml.sys_driver_version()).unwrap_or_default();
        let events = watch.call("nvmlEventSetCreate", || Events::new(nvml)).ok();
        watch.leave();
        let slot = |gpu| Slot {
            device: None,
            skipped: skip.contains(&gpu),
            heard: false,
            sweeps: 0,
            before: Before::default(),
            board: Board::new(budget, finest),
            told: None,
        };
        let sweeper = Sweeper::new(nvml, &driver_version, gpm, explain);
        let power = PowerReader::new(&driver_version, source);
        let slots = (0..count).map(slot).collect();
        let mut driver = Self { nvml, slots, sweeper, power, events, watch, driver_version, measures: explain };
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

    /// Reads of a GPU what is due. `may_look`: see [`PowerReader::read`]; it is false after that has taken place.
    pub(super) fn read(&mut self, gpu: u32, due: Due, may_look: &mut bool) -> Reading {
        if self.slots[gpu as usize].skipped {
            return Reading::Skipped;
        }
        self.watch.enter(Some(gpu));
        if due.sweep {
            self.get_handle(gpu);
            self.listen(gpu);
        }
        let reading = self.read_opened(gpu, due, may_look);
        if let Reading::Lost = reading {
            self.slots[gpu as usize].sweeps = 0;
        }
        self.watch.leave();
        reading
    }

    fn read_opened(&mut self, gpu: u32, due: Due, may_look: &mut bool) -> Reading {
        let slot = &mut self.slots[gpu as usize];
        let Some(device) = &slot.device else { return Reading::Lost };
        let (mut power, mut why) = (Vec::new(), None);
        if due.power {
            match self.power.read(device, gpu, &mut slot.board, *may_look, &self.watch, &mut power) {
                Ok(looked) => *may_look &= !looked,
                Err(NvmlError::GpuLost) => return Reading::Lost,
                Err(gone) if opening::is_gone(&gone) => return Reading::DriverGone(gone),
                Err(other) => why = Some(other),
            }
        }
        power.retain(|power| slot.before.plausible.believes_power(power.milliwatts));
        if !due.sweep {
            return Reading::Values { power, sweep: None };
        }
        let before = self.watch.spent();
        let slow = self.measures || slot.sweeps == 0 || (slot.sweeps + u64::from(gpu)).is_multiple_of(SLOW);
        let sweep = self.sweeper.sweep(device, gpu, why, slow, &mut slot.before, &self.watch);
        slot.board.pace.sweep_took(self.watch.spent() - before);
        // A GPU of which nothing at all can be read is as good as lost, whatever the driver calls it; unless it is the driver that is gone.
        if power.is_empty() && sweep.values.is_empty() {
            return match self.watch.call("nvmlDeviceGetCount_v2", || self.nvml.device_count()) {
                Err(gone) if opening::is_gone(&gone) => Reading::DriverGone(gone),
                _ => Reading::Lost,
            };
        }
        slot.sweeps += 1;
        Reading::Values { power, sweep: Some(finished(sweep, &mut slot.before)) }
    }

    /// Whether the frame says of every GPU that is not left alone that it is lost, or nothing else is known.
    pub(super) fn all_lost(&self, frame: &Frame) -> bool {
        let mut read = (0..).zip(&self.slots).filter(|(_, slot)| !slot.skipped).map(|(gpu, _)| gpu).peekable();
        read.peek().is_some() && read.all(|gpu| frame.lost.contains(&gpu))
    }

    /// When a GPU is to be read again: ticks between two readings of power, and sweep periods between two sweeps.
    pub(super) fn periods(&self, gpu: u32, tick: Duration) -> (u64, u64) {
        let board = &self.slots[gpu as usize].board;
        let ticks = board.period().as_micros() / tick.as_micros().max(1);
        (u64::try_from(ticks).unwrap_or(1).max(1), u64::from(board.pace.sweep_factor()))
    }

    /// Adapts how often GPUs are read; what has not been told of it.
    pub(super) fn adapt(&mut self, since_start: Duration) -> Vec<Pace> {
        let mut news = Vec::new();
        for (gpu, slot) in (0..).zip(&mut self.slots).filter(|(_, slot)| !slot.skipped) {
            slot.board.pace.decide(since_start);
            let pace = slot.board.told_as(gpu);
            if slot.told.as_ref().is_none_or(|told| !told.same(&pace)) {
                slot.told = Some(pace.clone());
                news.push(pace);
            }
        }
        news
    }

    /// What the driver has reported since the last time.
    pub(super) fn xids(&mut self) -> Vec<Xid> {
        let Some(events) = &self.events else { return Vec::new() };
        let mut out: Vec<Xid> = Vec::new();
        self.watch.enter(None);
        let begun = Instant::now();
        while begun.elapsed() < EVENTS_AT_A_TIME {
            let Ok(Some(event)) = self.watch.call("nvmlEventSetWait_v2", || events.next()) else { break };
            let kind = match EVENTS.iter().find(|known| event.kind & known.0 != 0) {
                Some((_, name)) => *name,
                None if event.kind & raw::XID != 0 => "",
                None => continue,
            };
            let of_event = |slot: &Slot| slot.device.as_ref().is_some_and(|device| Handle::of(device) == event.handle);
            let Some(gpu) = self.slots.iter().position(of_event) else { continue };
            let (gpu, code, ts_us) = (gpu as u32, event.data, Micros::now().0);
            // A storm is one code of one GPU, time and again.
            match out.iter_mut().find(|xid| (xid.gpu, xid.code, xid.kind.as_str()) == (gpu, code, kind)) {
                Some(known) => (known.count, known.ts_us) = (known.count + 1, ts_us),
                None => out.push(Xid { gpu, ts_us, code, kind: kind.to_owned(), count: 1 }),
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
