//! C calls that no safe wrapper makes: NVML's field values with scope and sign, its power samples in one call, its events as they
//! come, and the kernel's view of the clocks. All of the agent's `unsafe` is here.
#![allow(unsafe_code, reason = "C functions are called and their unions read; each place says why that is sound")]

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, EventSet, FieldIdScheme, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlEventData_t, nvmlFieldValue_t, nvmlReturn_enum_NVML_ERROR_UNKNOWN, nvmlSample_t,
    nvmlSamplingType_enum_NVML_TOTAL_POWER_SAMPLES, nvmlValue_st, nvmlValueType_t,
};

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

impl Fields {
    pub(super) fn new(scheme: FieldIdScheme, fields: impl IntoIterator<Item = Field>) -> Self {
        let request = |field: Field| nvmlFieldValue_t {
            fieldId: driver_id(scheme, field.id),
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

/// The driver's own id: those from 251 to 273 moved with 580.82 (NVIDIA's "Known issues" of NVML).
fn driver_id(scheme: FieldIdScheme, id: u32) -> u32 {
    match (scheme, id) {
        (FieldIdScheme::V13Update1, 251..=255) => id + 18,
        (FieldIdScheme::V13Update1, 256..=273) => id - 5,
        _ => id,
    }
}

/// By `nvmlValueType_t`; a floating-point value is rounded.
fn integer(kind: nvmlValueType_t, value: nvmlValue_st) -> Result<i64, NvmlError> {
    // SAFETY: every member is a plain number, for which all bits mean something, and the type says which one was written.
    unsafe {
        match kind {
            0 if value.dVal.is_finite() => Ok(value.dVal.round() as i64),
            1 => Ok(i64::from(value.uiVal)),
            2 => i64::try_from(value.ulVal).map_err(|_| NvmlError::Unknown),
            3 => i64::try_from(value.ullVal).map_err(|_| NvmlError::Unknown),
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
const XID: u64 = 0x8;

/// Hears XIDs. The wrapper frees a set when a GPU cannot join it, and asks a GPU that may just have died for its index.
pub(super) struct Xids<'nvml> {
    set: EventSet<'nvml>,
}

impl<'nvml> Xids<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml) -> Result<Self, NvmlError> {
        Ok(Self { set: nvml.create_event_set()? })
    }

    pub(super) fn listen(&self, device: &Device<'_>) -> Result<(), NvmlError> {
        let register = nvml_sym(self.set.nvml.lib().nvmlDeviceRegisterEvents.as_ref())?;
        // SAFETY: handle and set are this library's, and live.
        nvml_try(unsafe { register(device.handle(), XID, self.set.handle()) })
    }

    /// Handle and code of an XID that has not been told; does not wait for one.
    pub(super) fn next(&self) -> Result<Option<(Handle, u64)>, NvmlError> {
        let wait = nvml_sym(self.set.nvml.lib().nvmlEventSetWait_v2.as_ref())?;
        let mut event =
            nvmlEventData_t { device: std::ptr::null_mut(), eventType: 0, eventData: 0, gpuInstanceId: 0, computeInstanceId: 0 };
        // SAFETY: the set is live, and the event outlives the call.
        match nvml_try(unsafe { wait(self.set.handle(), &raw mut event, 0) }) {
            Ok(()) => Ok((event.eventType & XID != 0).then(|| (Handle(event.device.addr()), event.eventData))),
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
    fn moved_ids_are_translated() {
        let moved = |id| driver_id(FieldIdScheme::V13Update1, id);
        assert_eq!([250, 251, 255, 256, 273, 274].map(moved), [250, 269, 273, 251, 268, 274]);
        assert_eq!(driver_id(FieldIdScheme::V12, 251), 251);
    }

    #[test]
    fn values_are_read_by_their_type() {
        assert_eq!(integer(5, nvmlValue_st { siVal: -5 }).unwrap(), -5);
        assert_eq!(integer(1, nvmlValue_st { ullVal: 7 | 1 << 40 }).unwrap(), 7);
        assert_eq!(integer(3, nvmlValue_st { ullVal: 1 << 40 }).unwrap(), 1 << 40);
        assert!(integer(3, nvmlValue_st { ullVal: u64::MAX }).is_err());
        assert!(integer(0, nvmlValue_st { dVal: f64::NAN }).is_err());
        assert!(integer(99, nvmlValue_st { ullVal: 1 }).is_err());
    }
}
