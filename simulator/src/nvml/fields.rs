//! Field values.

use nvml_wrapper_sys::bindings::{nvmlFieldValue_st, nvmlValue_st};

use super::power::{BLANK, DEFAULT_LIMIT_MW, MIN_LIMIT_MW, SHUTDOWN_MARGIN, SLOWDOWN_MARGIN, degrees, milli};
use super::state::{unix_us, with_gpu};
use super::{Code, Handle, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, health, link};
use crate::scenario::FaultKind;
use crate::world::{Channel, Gpu, reason};

/// A value with its type.
enum Value {
    U32(u32),
    U64(u64),
    I32(i32),
}

use Value::{I32, U32, U64};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetFieldValues(device: Handle, count: i32, values: *mut nvmlFieldValue_st) -> Code {
    with_gpu(device, |gpu, t| {
        if count <= 0 || values.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: by NVML's contract the array holds `count` entries.
        let values = unsafe { std::slice::from_raw_parts_mut(values, count as usize) };
        let timestamp = unix_us();
        for slot in values {
            slot.timestamp = timestamp;
            slot.latencyUsec = 1;
            slot.nvmlReturn = SUCCESS;
            match field(gpu, t, slot.fieldId, slot.scopeId) {
                Ok(value) => {
                    // Types 1, 3 and 5 of the header: unsigned int, unsigned long long, signed int.
                    (slot.valueType, slot.value) = match value {
                        U32(n) => (1, nvmlValue_st { ullVal: u64::from(n) }),
                        U64(n) => (3, nvmlValue_st { ullVal: n }),
                        I32(n) => (5, nvmlValue_st { siVal: n }),
                    };
                }
                Err(code) => slot.nvmlReturn = code,
            }
        }
        Ok(())
    })
}

/// What the ids from 251 to 273 mean: NVIDIA renumbered them twice.
enum Moved {
    Reason(u64),
    /// The place among the fields of power smoothing.
    Smoothing(u32),
}

/// The driver's version as far as fields depend on it.
fn version(gpu: &Gpu) -> (u32, u32) {
    let mut parts = gpu.scenario().driver_version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn moved(gpu: &Gpu, id: u32) -> Result<Moved, Code> {
    let (reasons, smoothing) = match version(gpu) {
        version if version >= (580, 82) => (Some(269), Some(251)),
        version if version >= (575, 0) => (Some(251), Some(256)),
        version if version >= (570, 0) => (None, Some(251)),
        _ => (None, None),
    };
    let place = |first: Option<u32>| first.and_then(|first| id.checked_sub(first));
    if let Some(place @ 0..=17) = place(smoothing) {
        return if gpu.scenario().power_smoothing { Ok(Moved::Smoothing(place)) } else { Err(NOT_SUPPORTED) };
    }
    match place(reasons) {
        Some(0) => Ok(Moved::Reason(reason::SW_THERMAL)),
        Some(1) => Ok(Moved::Reason(reason::HW_THERMAL)),
        Some(2) => Ok(Moved::Reason(reason::HW_POWER_BRAKE)),
        _ => Err(NOT_SUPPORTED),
    }
}

/// Power smoothing in its state of delivery: off, W of the ceiling, all of its life left, no profile; invented, for want of a board.
fn smoothing(place: u32) -> u32 {
    match place {
        3 => DEFAULT_LIMIT_MW / 1000,
        7 => 100,
        8 => 5,
        _ => 0,
    }
}

/// What sensors tell that have no value.
fn blank(id: u32) -> Option<Value> {
    Some(match id {
        82 | 185 | 186 => U32(BLANK),
        83 | 191 => U64(u64::MAX),
        _ => return None,
    })
}

fn field(gpu: &Gpu, t: f64, id: u32, scope: u32) -> Result<Value, Code> {
    let history = &gpu.history;
    if gpu.fault(FaultKind::Blank, t).is_some()
        && let Some(blank) = blank(id)
    {
        return Ok(blank);
    }
    Ok(match id {
        1 | 2 => U32(1),
        3 => U64(health::ecc(gpu, t, false, true)),
        4 => U64(health::ecc(gpu, t, true, true)),
        5 => U64(health::ecc(gpu, t, false, false)),
        6 => U64(health::ecc(gpu, t, true, false)),
        38 | 52 | 59 => U64(link::errors(gpu, t, id, None)),
        45 => U64(0),
        74 => U64(gpu.reason_ns(reason::SW_POWER_CAP, t)),
        75 => U64(gpu.reason_ns(reason::SW_THERMAL, t)),
        76..=81 => U64(0),
        82 => U32(degrees(gpu.memory_temperature(t))),
        83 | 191 => U64((gpu.energy_joules(t) * 1e3) as u64),
        90 => U32(link::SPEED_MBPS),
        91 => U32(link::LINKS),
        94 => U32(history.pcie_replays),
        95 => U32(0),
        138..=141 => U64(link::throughput_kib(gpu, t, id, scope)?),
        142 => U32(gpu.remapped_corrected(t)),
        143 => U32(history.remapped_uncorrected),
        144 => U32(u32::from(gpu.remap_pending(t))),
        145 | 147 => U32(0),
        161..=163 => U64(link::errors(gpu, t, id, Some(link::check(scope)?))),
        164 => link::check(scope).map(|_| U32(link::SPEED_MBPS))?,
        165 => link::check(scope).map(|_| U32(1))?,
        166 => link::check(scope).map(|_| U32(link::VERSION))?,
        169 | 173..=182 => U32(0),
        185 if scope == 0 => U32(milli(gpu.average_watts(t))),
        186 if scope == 0 => U32(milli(gpu.instant_watts(t))),
        187 if scope == 0 => U32(MIN_LIMIT_MW),
        188 | 189 if scope == 0 => U32(DEFAULT_LIMIT_MW),
        190 | 192 if scope == 0 => U32(gpu.limit_watts(t) * 1000),
        193 => I32(SHUTDOWN_MARGIN),
        194 => I32(SLOWDOWN_MARGIN),
        195 => I32(0),
        196 => I32(0),
        // GiB/s to bytes, in a counter that the driver wraps at 32 bits.
        197 | 198 => U64((gpu.integral(Channel::Pcie, t) * f64::from(1 << 30)) as u64 & u64::from(u32::MAX)),
        // 1 is a reset of the GPU.
        230 if version(gpu) >= (570, 0) => U32(u32::from(gpu.fault(FaultKind::Xid, t).is_some() || gpu.remap_pending(t))),
        251..=273 => match moved(gpu, id)? {
            Moved::Reason(bit) => U64(gpu.reason_ns(bit, t)),
            Moved::Smoothing(place) => U32(smoothing(place)),
        },
        _ => return Err(NOT_SUPPORTED),
    })
}
