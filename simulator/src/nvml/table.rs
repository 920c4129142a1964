//! The private table of functions that `nvidia-smi` asks for before it works at all.
//!
//! NVIDIA documents none of it. Which slots are called and how was found by running nvidia-smi 535 and 550 over tables that
//! answer differently, and is as NVIDIA's own simulated library (k8s-test-infra, pkg/gpu/mocknvml) has it for 580. What is not
//! modelled says "not supported": `nvidia-smi dmon` and `pmon` need more.

use std::ffi::{c_char, c_void};

use super::processes::nvmlDeviceGetComputeRunningProcesses_v3;
use super::state::{get, put, put_text, with_gpu};
use super::system::nvmlDeviceGetHandleByIndex_v2;
use super::{Code, Handle, INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, SUCCESS};
use nvml_wrapper_sys::bindings::nvmlProcessInfo_v2_st;

/// The table's name.
const ID: [u8; 16] = [0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e, 0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4];
const SLOTS: usize = 512;

/// Its size in bytes, then functions.
#[repr(C)]
struct Table {
    bytes: usize,
    functions: [*const c_void; SLOTS - 1],
}

// SAFETY: the pointers are to functions, and nothing is ever written.
unsafe impl Sync for Table {}

static TABLE: Table = {
    let mut functions = [not_modelled as *const c_void; SLOTS - 1];
    functions[26 - 1] = accepted as *const c_void;
    functions[81 - 1] = handle_by_index as *const c_void;
    functions[213 - 1] = processes as *const c_void;
    functions[214 - 1] = no_processes as *const c_void;
    functions[215 - 1] = no_processes as *const c_void;
    functions[230 - 1] = host_link_generation as *const c_void;
    Table { bytes: size_of::<Table>(), functions }
};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInternalGetExportTable(table: *mut *const c_void, id: *const [u8; 16]) -> Code {
    let find = || {
        if get(id)? != ID {
            return Err(NOT_FOUND);
        }
        put(table, (&raw const TABLE).cast())
    };
    find().err().unwrap_or(SUCCESS)
}

extern "C" fn not_modelled() -> Code {
    NOT_SUPPORTED
}

extern "C" fn accepted() -> Code {
    SUCCESS
}

/// The third argument tells what the handle is for.
extern "C" fn handle_by_index(index: u32, device: *mut Handle, _purpose: u32) -> Code {
    nvmlDeviceGetHandleByIndex_v2(index, device)
}

extern "C" fn host_link_generation(device: Handle, generation: *mut u32) -> Code {
    with_gpu(device, |_, _| put(generation, 5))
}

/// A process as nvidia-smi lists it.
#[repr(C)]
struct Process {
    pid: u32,
    _unused: u32,
    memory_bytes: u64,
    gpu_instance: u32,
    compute_instance: u32,
    protected_bytes: u64,
    name: [c_char; 4096],
}

/// Compute processes; more than there is room for are not told.
extern "C" fn processes(device: Handle, count: *mut u32, to: *mut Process) -> Code {
    let mut found = [nvmlProcessInfo_v2_st { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 }; 64];
    let mut number = found.len() as u32;
    let code = nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut number, found.as_mut_ptr());
    let found = found.iter().take(number as usize);
    let fill = || {
        let room = get(count)?;
        put(count, number)?;
        if to.is_null() && number > 0 {
            return Err(INSUFFICIENT_SIZE);
        }
        for (index, process) in found.take(room as usize).enumerate() {
            // SAFETY: the caller's array holds `room` entries, each of its fields is written before it is read.
            unsafe {
                let entry = to.add(index);
                (*entry).pid = process.pid;
                (*entry).memory_bytes = process.usedGpuMemory;
                (*entry).gpu_instance = process.gpuInstanceId;
                (*entry).compute_instance = process.computeInstanceId;
                (*entry).protected_bytes = 0;
                put_text((&raw mut (*entry).name).cast(), 4096, "python")?;
            }
        }
        Ok::<(), Code>(())
    };
    if code == SUCCESS { fill().err().unwrap_or(SUCCESS) } else { code }
}

/// Graphics and MPS: none.
extern "C" fn no_processes(device: Handle, count: *mut u32, _to: *mut Process) -> Code {
    with_gpu(device, |_, _| if count.is_null() { Err(INVALID_ARGUMENT) } else { put(count, 0) })
}
