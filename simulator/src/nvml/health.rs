//! ECC, remapped rows, retired pages.

use nvml_wrapper_sys::bindings::{nvmlEccErrorCounts_st, nvmlEccSramErrorStatus_v1_t, nvmlRowRemapperHistogramValues_st};

use super::state::{check_version, put, with_gpu};
use super::{Code, Handle, INVALID_ARGUMENT, NOT_SUPPORTED};
use crate::scenario::FaultKind;
use crate::world::Gpu;

/// Uncorrectable or correctable errors, since the driver was loaded (`volatile`) or ever.
pub(super) fn ecc(gpu: &Gpu, t: f64, uncorrected: bool, volatile: bool) -> u64 {
    let past = match (volatile, uncorrected) {
        (true, _) => 0,
        (false, true) => gpu.history.ecc_uncorrected,
        (false, false) => gpu.history.ecc_corrected,
    };
    past + if uncorrected { gpu.errors(FaultKind::EccUncorrected, t) } else { gpu.corrected_errors(t) }
}

/// The same by the header's numbers of error type and counter type.
fn numbered(gpu: &Gpu, t: f64, error: u32, counter: u32) -> Result<u64, Code> {
    if error > 1 || counter > 1 { Err(INVALID_ARGUMENT) } else { Ok(ecc(gpu, t, error == 1, counter == 0)) }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetEccMode(device: Handle, current: *mut u32, pending: *mut u32) -> Code {
    with_gpu(device, |_, _| put(current, 1).and_then(|()| put(pending, 1)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetDefaultEccMode(device: Handle, mode: *mut u32) -> Code {
    with_gpu(device, |_, _| put(mode, 1))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTotalEccErrors(device: Handle, error: u32, counter: u32, count: *mut u64) -> Code {
    with_gpu(device, |gpu, t| put(count, numbered(gpu, t, error, counter)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryErrorCounter(
    device: Handle,
    error: u32,
    counter: u32,
    location: u32,
    count: *mut u64,
) -> Code {
    with_gpu(device, |gpu, t| match location {
        // The memory (DRAM) has all of them, the SRAM none.
        2 => put(count, numbered(gpu, t, error, counter)?),
        7 => put(count, 0),
        _ => Err(NOT_SUPPORTED),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetDetailedEccErrors(
    device: Handle,
    error: u32,
    counter: u32,
    counts: *mut nvmlEccErrorCounts_st,
) -> Code {
    with_gpu(device, |gpu, t| {
        let deviceMemory = numbered(gpu, t, error, counter)?;
        put(counts, nvmlEccErrorCounts_st { l1Cache: 0, l2Cache: 0, deviceMemory, registerFile: 0 })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetSramEccErrorStatus(device: Handle, status: *mut nvmlEccSramErrorStatus_v1_t) -> Code {
    with_gpu(device, |_, _| {
        check_version(status, 0x0100_0068)?;
        // SAFETY: the struct consists of integers, for which zero is a value.
        let mut zero: nvmlEccSramErrorStatus_v1_t = unsafe { std::mem::zeroed() };
        zero.version = 0x0100_0068;
        put(status, zero)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetRemappedRows(
    device: Handle,
    corrected: *mut u32,
    uncorrected: *mut u32,
    pending: *mut u32,
    failed: *mut u32,
) -> Code {
    with_gpu(device, |gpu, t| {
        put(corrected, gpu.remapped_corrected(t))?;
        put(uncorrected, gpu.history.remapped_uncorrected)?;
        put(pending, u32::from(gpu.remap_pending(t)))?;
        put(failed, 0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetRowRemapperHistogram(device: Handle, values: *mut nvmlRowRemapperHistogramValues_st) -> Code {
    with_gpu(device, |gpu, t| {
        let used = gpu.remapped_corrected(t) + gpu.history.remapped_uncorrected;
        put(values, nvmlRowRemapperHistogramValues_st { max: 2560 - used, high: used, partial: 0, low: 0, none: 0 })
    })
}
