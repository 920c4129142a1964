//! What the board has and this node does not use: MIG, confidential computing, the link to a CPU; and its infoROM.
//!
//! As in an `nvidia-smi -q` of such a board with driver 560.35.03 that somebody published.

use std::ffi::c_ulong;

use nvml_wrapper_sys::bindings::{nvmlC2cModeInfo_v1_t, nvmlConfComputeMemSizeInfo_st, nvmlMemory_st};

use super::identity::numa_node;
use super::power::memory;
use super::state::{put, put_list, with_gpu, with_simulated_gpu};
use super::{Code, Handle, INVALID_ARGUMENT, NOT_FOUND};

/// MIG devices that an H100 can be split into.
pub(super) const MIG_DEVICES: u32 = 7;

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(device: Handle, index: u32, mig: *mut Handle) -> Code {
    with_gpu(device, |_, _| if index >= MIG_DEVICES || mig.is_null() { Err(INVALID_ARGUMENT) } else { Err(NOT_FOUND) })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetC2cModeInfoV(device: Handle, info: *mut nvmlC2cModeInfo_v1_t) -> Code {
    with_gpu(device, |_, _| put(info, nvmlC2cModeInfo_v1_t { isC2cEnabled: 0 }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetConfComputeMemSizeInfo(device: Handle, info: *mut nvmlConfComputeMemSizeInfo_st) -> Code {
    with_gpu(device, |gpu, t| {
        let unprotectedMemSizeKib = memory(gpu, t).0 >> 10;
        put(info, nvmlConfComputeMemSizeInfo_st { protectedMemSizeKib: 0, unprotectedMemSizeKib })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetConfComputeProtectedMemoryUsage(device: Handle, info: *mut nvmlMemory_st) -> Code {
    with_gpu(device, |_, _| put(info, nvmlMemory_st { total: 0, free: 0, used: 0 }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceValidateInforom(device: Handle) -> Code {
    with_gpu(device, |_, _| Ok(()))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetLastBBXFlushTime(device: Handle, timestamp_us: *mut u64, duration_us: *mut c_ulong) -> Code {
    with_simulated_gpu(device, |simulation, gpu, _| {
        // Some time in the hour before the scenario began.
        let ago = (gpu.identity(33) % 3600) as f64;
        put(timestamp_us, simulation.unix_us_at(-ago))?;
        put(duration_us, 90_000 + (gpu.identity(34) % 40_000) as c_ulong)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryAffinity(device: Handle, size: u32, nodes: *mut c_ulong, scope: u32) -> Code {
    with_gpu(device, |gpu, _| {
        // Scopes of the header: NUMA node and socket, which are the same here.
        if scope > 1 {
            return Err(INVALID_ARGUMENT);
        }
        let mut room = size;
        let mut words: Vec<c_ulong> = vec![0; size as usize];
        *words.first_mut().ok_or(INVALID_ARGUMENT)? = 1 << numa_node(gpu);
        put_list(&raw mut room, nodes, &words)
    })
}
