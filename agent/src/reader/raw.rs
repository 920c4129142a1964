//! C calls that no safe wrapper makes: NVML's field values with scope and sign, its power samples in one call, its events as they come,
//! functions that are newer than the wrapper, and the kernel's view of the clocks. All of the agent's `unsafe` is here and in the modules
//! below.
//!
//! A function that the library does not have is an error of that call alone: the wrapper's own shortcuts panic.
#![allow(unsafe_code, reason = "C functions are called and their unions read; each place says why that is sound")]

mod board;
mod gpm;

pub(super) use board::{Processes, fabric, margin, reasons, spare_rows, temperature};
pub(super) use gpm::{Metrics, Samples};

use super::version::DriverVersion;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, EventSet, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlEventData_t, nvmlFieldValue_t, nvmlReturn_enum_NVML_ERROR_UNKNOWN, nvmlSample_t,
    nvmlSamplingType_enum_NVML_TOTAL_POWER_SAMPLES, nvmlValue_st, nvmlValueType_t,
};
use std::mem::ManuallyDrop;

/// A field id in the wrapper's numbering (that of CUDA 12.9), and what of the GPU it is about: a link, or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) id: u32,
    pub(super) scope: u32,
}

/// Fields that are read by one call. The wrapper's own `field_values_for` leaves out scopes and refuses signed values.
pub(super) struct Fields {
    requests: Vec<nvmlFieldValue_t>,
    values: Vec<nvmlFieldValue_t>,
}

impl Field {
    pub(super) const fn of_board(id: u32) -> Self {
        Self { id, scope: 0 }
    }

    /// The driver's own id. Those from 251 to 273 were renumbered twice (NVIDIA's headers of CUDA 12.8, 12.9 and 13.0 update 1): None,
    /// this driver does not have the field.
    fn id_of(self, driver: DriverVersion) -> Option<u32> {
        match self.id {
            251..=255 if driver >= DriverVersion::new(580, 82) => Some(self.id + 18),
            251..=255 if driver < DriverVersion::new(575, 0) => None,
            256..=273 if driver < DriverVersion::new(570, 0) => None,
            256..=273 if driver < DriverVersion::new(575, 0) || driver >= DriverVersion::new(580, 82) => Some(self.id - 5),
            id => Some(id),
        }
    }

    pub(super) fn known_to(self, driver: DriverVersion) -> bool {
        self.id_of(driver).is_some()
    }
}

impl Fields {
    /// Only of fields that the driver knows.
    pub(super) fn new(driver: DriverVersion, fields: impl IntoIterator<Item = Field>) -> Self {
        let request = |field: Field| nvmlFieldValue_t {
            fieldId: field.id_of(driver).unwrap_or(field.id),
            scopeId: field.scope,
            timestamp: 0,
            latencyUsec: 0,
            valueType: 0,
            // A field that the driver passes over is not taken for a zero.
            nvmlReturn: nvmlReturn_enum_NVML_ERROR_UNKNOWN,
            value: nvmlValue_st { ullVal: 0 },
        };
        let requests: Vec<_> = fields.into_iter().map(request).collect();
        Self { values: requests.clone(), requests }
    }

    /// The values in the order of the fields.
    pub(super) fn read(&mut self, device: &Device<'_>) -> Result<impl Iterator<Item = Result<i64, NvmlError>> + '_, NvmlError> {
        let read = nvml_sym(device.nvml().lib().nvmlDeviceGetFieldValues.as_ref())?;
        self.values.clone_from(&self.requests);
        let count = i32::try_from(self.values.len()).map_err(|_| NvmlError::InvalidArg)?;
        // SAFETY: the handle is one of this library's, and the array has `count` entries for as long as the call takes.
        nvml_try(unsafe { read(device.handle(), count, self.values.as_mut_ptr()) })?;
        Ok(self.values.iter().map(|value| nvml_try(value.nvmlReturn).and_then(|()| integer(value.valueType, value.value))))
    }
}

/// By `nvmlValueType_t`; a floating-point value is rounded, and what is beyond the largest integer ("not available") is that.
fn integer(kind: nvmlValueType_t, value: nvmlValue_st) -> Result<i64, NvmlError> {
    // SAFETY: every member is a plain number, for which all bits mean something, and the type says which one was written.
    unsafe {
        match kind {
            0 if value.dVal.is_finite() => Ok(value.dVal.round() as i64),
            1 => Ok(i64::from(value.uiVal)),
            2 => Ok(i64::try_from(value.ulVal).unwrap_or(i64::MAX)),
            3 => Ok(i64::try_from(value.ullVal).unwrap_or(i64::MAX)),
            4 => Ok(value.sllVal),
            5 => Ok(i64::from(value.siVal)),
            6 => Ok(i64::from(value.usVal)),
            kind => Err(NvmlError::UnexpectedVariant(kind)),
        }
    }
}

/// Samples of power that a GPU's buffer is believed to hold at most.
const MOST_SAMPLES: usize = 4096;

/// The driver's buffer of power samples. The wrapper asks for its size before each reading, which makes two calls of one.
#[derive(Default)]
pub(super) struct PowerSamples {
    buffer: Vec<nvmlSample_t>,
}

impl PowerSamples {
    /// How many samples the buffer of this GPU holds. Makes room for them.
    pub(super) fn depth(&mut self, device: &Device<'_>) -> Result<usize, NvmlError> {
        let read = nvml_sym(device.nvml().lib().nvmlDeviceGetSamples.as_ref())?;
        let (mut kind, mut count) = (0, 0);
        // SAFETY: the handle is one of this library's; without an array only the two numbers are written, which outlive the call.
        nvml_try(unsafe {
            read(
                device.handle(),
                nvmlSamplingType_enum_NVML_TOTAL_POWER_SAMPLES,
                0,
                &raw mut kind,
                &raw mut count,
                std::ptr::null_mut(),
            )
        })?;
        let depth = (count as usize).min(MOST_SAMPLES);
        self.buffer.resize(self.buffer.len().max(depth), nvmlSample_t { timeStamp: 0, sampleValue: nvmlValue_st { ullVal: 0 } });
        Ok(depth)
    }

    /// Stamps (microseconds, of a clock that the driver chooses) and milliwatts of what was sampled after `since`, the oldest first.
    pub(super) fn read(&mut self, device: &Device<'_>, since: u64) -> Result<impl Iterator<Item = (u64, u32)> + '_, NvmlError> {
        let read = nvml_sym(device.nvml().lib().nvmlDeviceGetSamples.as_ref())?;
        let mut kind = 0;
        let mut count = u32::try_from(self.buffer.len()).map_err(|_| NvmlError::InvalidArg)?;
        // SAFETY: the handle is one of this library's, and the array has `count` entries for as long as the call takes.
        let code = unsafe {
            let samples = self.buffer.as_mut_ptr();
            read(device.handle(), nvmlSamplingType_enum_NVML_TOTAL_POWER_SAMPLES, since, &raw mut kind, &raw mut count, samples)
        };
        match nvml_try(code) {
            Ok(()) => {}
            // Nothing is newer.
            Err(NvmlError::NotFound) => count = 0,
            Err(why) => return Err(why),
        }
        let fresh = self.buffer.iter().take(count as usize);
        Ok(fresh.filter_map(move |sample| {
            let milliwatts = integer(kind, sample.sampleValue).ok()?;
            Some((sample.timeStamp, u32::try_from(milliwatts).ok()?))
        }))
    }
}

/// `nvmlEventTypeXidCriticalError`; on Linux every XID.
pub(super) const XID: u64 = 0x8;

/// Hears XIDs and other events. The wrapper frees a set when a GPU cannot join it, drops kinds that it does not know, and asks a GPU that may
/// just have died for its index.
pub(super) struct Events<'nvml> {
    /// Ends with the process: its drop panics where the library cannot free it.
    set: ManuallyDrop<EventSet<'nvml>>,
}

/// What happened to a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) handle: Handle,
    /// One of the bits `nvmlEventType*`.
    pub(super) kind: u64,
    /// Of an XID its code.
    pub(super) data: u64,
}

impl<'nvml> Events<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml) -> Result<Self, NvmlError> {
        Ok(Self { set: ManuallyDrop::new(nvml.create_event_set()?) })
    }

    /// For XIDs, and for those of the other kinds (bits) that this GPU has.
    pub(super) fn listen(&self, device: &Device<'_>, others: u64) -> Result<(), NvmlError> {
        let lib = self.set.nvml.lib();
        let register = nvml_sym(lib.nvmlDeviceRegisterEvents.as_ref())?;
        let mut supported = 0;
        if let Ok(ask) = lib.nvmlDeviceGetSupportedEventTypes.as_ref() {
            // SAFETY: the handle is this library's, and the number outlives the call. An error leaves it 0.
            unsafe { ask(device.handle(), &raw mut supported) };
        }
        // SAFETY: handle and set are this library's, and live.
        nvml_try(unsafe { register(device.handle(), XID | others & supported, self.set.handle()) })
    }

    /// What has not been told; does not wait for it.
    pub(super) fn next(&self) -> Result<Option<Event>, NvmlError> {
        let wait = nvml_sym(self.set.nvml.lib().nvmlEventSetWait_v2.as_ref())?;
        let mut event =
            nvmlEventData_t { device: std::ptr::null_mut(), eventType: 0, eventData: 0, gpuInstanceId: 0, computeInstanceId: 0 };
        // SAFETY: the set is live, and the event outlives the call.
        match nvml_try(unsafe { wait(self.set.handle(), &raw mut event, 0) }) {
            Ok(()) => Ok(Some(Event { handle: Handle(event.device.addr()), kind: event.eventType, data: event.eventData })),
            Err(NvmlError::Timeout) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Names a GPU in events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle(usize);

impl Handle {
    pub(super) fn of(device: &Device<'_>) -> Self {
        // SAFETY: the handle is only compared.
        Self(unsafe { device.handle() }.addr())
    }
}

/// What the kernel knows of the clock (adjtimex(2), read only); None: it does not say.
pub(crate) fn adjtimex() -> Option<libc::timex> {
    // SAFETY: the struct is plain numbers, for which zeros are valid; `modes` 0 changes nothing; it outlives the call.
    unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex) >= 0).then_some(timex)
    }
}

/// Microseconds since the machine was booted (CLOCK_BOOTTIME), which no step of the clock changes.
pub(super) fn boot_us() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_ids_are_those_of_the_driver() {
        let moved = |major, minor| {
            let driver = DriverVersion::new(major, minor);
            [250, 251, 255, 256, 273, 274].map(|id| Field::of_board(id).id_of(driver))
        };
        let as_is = [250, 251, 255, 256, 273, 274].map(Some);
        assert_eq!(moved(535, 261), [Some(250), None, None, None, None, Some(274)]);
        assert_eq!(moved(570, 86), [Some(250), None, None, Some(251), Some(268), Some(274)]);
        assert_eq!(moved(575, 51), as_is);
        assert_eq!(moved(580, 65), as_is);
        assert_eq!(moved(580, 82), [250, 269, 273, 251, 268, 274].map(Some));
        assert_eq!(moved(590, 48), moved(580, 82));
    }

    #[test]
    fn values_are_read_by_their_type() {
        assert_eq!(integer(5, nvmlValue_st { siVal: -5 }).unwrap(), -5);
        assert_eq!(integer(1, nvmlValue_st { ullVal: 7 | 1 << 40 }).unwrap(), 7);
        assert_eq!(integer(3, nvmlValue_st { ullVal: 1 << 40 }).unwrap(), 1 << 40);
        assert_eq!(integer(3, nvmlValue_st { ullVal: u64::MAX }).unwrap(), i64::MAX);
        assert!(integer(0, nvmlValue_st { dVal: f64::NAN }).is_err());
        assert!(integer(99, nvmlValue_st { ullVal: 1 }).is_err());
    }
}
