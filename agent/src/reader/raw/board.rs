//! Functions of one GPU that the wrapper does not have, or cuts short.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v3_t, nvmlMarginTemperature_v1_t, nvmlProcessInfo_t, nvmlRowRemapperHistogramValues_t,
    nvmlTemperature_v1_t,
};

/// The version that nvml.h gives a struct: its size, and which of its layouts it is.
const fn version<T>(layout: u32) -> u32 {
    size_of::<T>() as u32 | layout << 24
}

/// °C of the core, by the function that follows `nvmlDeviceGetTemperature`.
pub(in super::super) fn temperature(device: &Device<'_>) -> Result<i32, NvmlError> {
    let read = nvml_sym(device.nvml().lib().nvmlDeviceGetTemperatureV.as_ref())?;
    let mut info = nvmlTemperature_v1_t { version: version::<nvmlTemperature_v1_t>(1), sensorType: 0, temperature: 0 };
    // SAFETY: the handle is this library's, and the struct, of the layout that it says, outlives the call.
    nvml_try(unsafe { read(device.handle(), &raw mut info) })?;
    Ok(info.temperature)
}

/// °C left until the clocks are slowed down.
pub(in super::super) fn margin(device: &Device<'_>) -> Result<i32, NvmlError> {
    let read = nvml_sym(device.nvml().lib().nvmlDeviceGetMarginTemperature.as_ref())?;
    let mut info = nvmlMarginTemperature_v1_t { version: version::<nvmlMarginTemperature_v1_t>(1), marginTemperature: 0 };
    // SAFETY: as above.
    nvml_try(unsafe { read(device.handle(), &raw mut info) })?;
    Ok(info.marginTemperature)
}

/// What holds the clocks down, every bit of it: the wrapper leaves out those that it has no name for.
pub(in super::super) fn reasons(device: &Device<'_>) -> Result<u64, NvmlError> {
    let lib = device.nvml().lib();
    let mut bits = 0;
    // The older function is to be removed with CUDA 14.
    let read = match lib.nvmlDeviceGetCurrentClocksEventReasons.as_ref() {
        Ok(read) => *read,
        Err(_) => *nvml_sym(lib.nvmlDeviceGetCurrentClocksThrottleReasons.as_ref())?,
    };
    // SAFETY: the handle is this library's, and the number outlives the call.
    nvml_try(unsafe { read(device.handle(), &raw mut bits) })?;
    Ok(bits)
}

/// Banks of the HBM by the spare rows that they have left: all, most, some, few, none.
pub(in super::super) fn spare_rows(device: &Device<'_>) -> Result<[u32; 5], NvmlError> {
    let read = nvml_sym(device.nvml().lib().nvmlDeviceGetRowRemapperHistogram.as_ref())?;
    let mut banks = nvmlRowRemapperHistogramValues_t { max: 0, high: 0, partial: 0, low: 0, none: 0 };
    // SAFETY: the handle is this library's, and the struct outlives the call.
    nvml_try(unsafe { read(device.handle(), &raw mut banks) })?;
    Ok([banks.max, banks.high, banks.partial, banks.low, banks.none])
}

/// The GPU's place in the NVLink fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Fabric {
    pub(in super::super) state: u32,
    pub(in super::super) status: u32,
    pub(in super::super) clique: u32,
    pub(in super::super) health_mask: Option<u32>,
    pub(in super::super) health: Option<u32>,
}

/// By the newest layout that the driver takes.
pub(in super::super) fn fabric(device: &Device<'_>) -> Result<Fabric, NvmlError> {
    /// Of layout 2, which lacks the last member of layout 3 (its size as of nvml.h 12.4).
    const VERSION_2: u32 = 0x0200_0024;
    let Ok(read) = device.nvml().lib().nvmlDeviceGetGpuFabricInfoV.as_ref() else { return old_fabric(device) };
    for (layout, version) in [(3, version::<nvmlGpuFabricInfo_v3_t>(3)), (2, VERSION_2)] {
        let mut info = nvmlGpuFabricInfo_v3_t {
            version,
            clusterUuid: [0; 16],
            status: 0,
            cliqueId: 0,
            state: 0,
            healthMask: 0,
            healthSummary: 0,
        };
        // SAFETY: the handle is this library's; the struct outlives the call and has room for both layouts.
        if nvml_try(unsafe { read(device.handle(), &raw mut info) }).is_ok() {
            return Ok(Fabric {
                state: u32::from(info.state),
                status: info.status,
                clique: info.cliqueId,
                health_mask: Some(info.healthMask),
                health: (layout == 3).then_some(u32::from(info.healthSummary)),
            });
        }
    }
    old_fabric(device)
}

fn old_fabric(device: &Device<'_>) -> Result<Fabric, NvmlError> {
    let read = nvml_sym(device.nvml().lib().nvmlDeviceGetGpuFabricInfo.as_ref())?;
    let mut info = nvmlGpuFabricInfo_t { clusterUuid: [0; 16], status: 0, cliqueId: 0, state: 0 };
    // SAFETY: the handle is this library's, and the struct outlives the call.
    nvml_try(unsafe { read(device.handle(), &raw mut info) })?;
    let state = u32::from(info.state);
    Ok(Fabric { state, status: info.status, clique: info.cliqueId, health_mask: None, health: None })
}

/// Compute processes of a GPU, read by one call: the wrapper makes two.
pub(in super::super) struct Processes {
    room: Vec<nvmlProcessInfo_t>,
}

/// More than a GPU of a training node has.
const PROCESSES: usize = 32;
/// Memory of a process that the driver cannot tell (`NVML_VALUE_NOT_AVAILABLE`).
const NOT_AVAILABLE: u64 = u64::MAX;

impl Default for Processes {
    fn default() -> Self {
        Self { room: vec![nvmlProcessInfo_t { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 }; PROCESSES] }
    }
}

impl Processes {
    /// Process ids, and the bytes that all of them have, as far as the driver can tell.
    pub(in super::super) fn read(&mut self, device: &Device<'_>) -> Result<(Vec<u32>, u64), NvmlError> {
        let found = match self.list(device) {
            Err(NvmlError::InsufficientSize(Some(needed))) => {
                // With room for those that start meanwhile.
                self.room.resize(needed + PROCESSES, self.room[0]);
                self.list(device)?
            }
            found => found?,
        };
        let known = found.iter().filter(|process| process.usedGpuMemory != NOT_AVAILABLE);
        let bytes = known.fold(0, |sum: u64, process| sum.saturating_add(process.usedGpuMemory));
        Ok((found.iter().map(|process| process.pid).collect(), bytes))
    }

    fn list(&mut self, device: &Device<'_>) -> Result<&[nvmlProcessInfo_t], NvmlError> {
        let nvml: &Nvml = device.nvml();
        let read = nvml_sym(nvml.lib().nvmlDeviceGetComputeRunningProcesses_v3.as_ref())?;
        let mut count = self.room.len() as u32;
        // SAFETY: the handle is this library's, and the array has `count` entries for as long as the call takes.
        match nvml_try(unsafe { read(device.handle(), &raw mut count, self.room.as_mut_ptr()) }) {
            Err(NvmlError::InsufficientSize(_)) => Err(NvmlError::InsufficientSize(Some(count as usize))),
            Err(error) => Err(error),
            Ok(()) => Ok(&self.room[..self.room.len().min(count as usize)]),
        }
    }
}
