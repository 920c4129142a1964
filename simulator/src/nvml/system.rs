//! Initialisation, versions, counting and finding devices.

use std::ffi::{CStr, c_char};

use super::state::{Simulation, handle, put, put_text, simulation, start, stop, with_simulation};
use super::{Code, GPU_IS_LOST, Handle, INVALID_ARGUMENT, NOT_FOUND, SUCCESS, UNKNOWN, identity};
use crate::scenario::FaultKind;
use crate::world::Gpu;

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit() -> Code {
    start()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Code {
    start()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: u32) -> Code {
    start()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Code {
    stop()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(code: Code) -> *const c_char {
    let text: &CStr = match code {
        0 => c"Success",
        1 => c"Uninitialized",
        2 => c"Invalid Argument",
        3 => c"Not Supported",
        4 => c"Insufficient Permissions",
        5 => c"Already Initialized",
        6 => c"Not Found",
        7 => c"Insufficient Size",
        8 => c"Insufficient External Power",
        9 => c"Driver Not Loaded",
        10 => c"Timeout",
        11 => c"Interrupt Request Issue",
        12 => c"NVML Shared Library Not Found",
        13 => c"Function Not Found",
        14 => c"Corrupted infoROM",
        15 => c"GPU is lost",
        16 => c"GPU requires reset",
        17 => c"GPU access blocked by the operating system",
        18 => c"Driver/library version mismatch",
        19 => c"In use by another client",
        20 => c"Insufficient Memory",
        21 => c"No data",
        22 => c"vGPU ECC not supported",
        23 => c"Insufficient Resources",
        24 => c"Invalid Frequency",
        25 => c"Argument version mismatch",
        26 => c"Requested functionality has been deprecated",
        27 => c"System is not in ready state",
        28 => c"No supported GPUs were found",
        29 => c"Resource not in correct state to perform requested operation",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: u32) -> Code {
    with_simulation(|s| put_text(version, length, s.driver_version()))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: u32) -> Code {
    // The one getter that NVIDIA's libraries answer before they are initialised.
    let Ok(simulation) = simulation() else { return UNKNOWN };
    put_text(version, length, &format!("13.{}", simulation.driver_version())).err().unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetCudaDriverVersion(version: *mut i32) -> Code {
    with_simulation(|_| put(version, 13_000))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut i32) -> Code {
    with_simulation(|_| put(version, 13_000))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetProcessName(pid: u32, name: *mut c_char, length: u32) -> Code {
    with_simulation(|s| {
        if !s.scenario.process_pids.contains(&pid) {
            return Err(NOT_FOUND);
        }
        put_text(name, length, "/usr/bin/python3")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlUnitGetCount(count: *mut u32) -> Code {
    with_simulation(|_| put(count, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGetExcludedDeviceCount(count: *mut u32) -> Code {
    with_simulation(|_| put(count, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount(count: *mut u32) -> Code {
    with_simulation(|s| put(count, s.gpus.len() as u32))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: *mut u32) -> Code {
    nvmlDeviceGetCount(count)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex(index: u32, device: *mut Handle) -> Code {
    with_simulation(|s| attach(s, s.gpus.get(index as usize).ok_or(INVALID_ARGUMENT)?, device))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: u32, device: *mut Handle) -> Code {
    nvmlDeviceGetHandleByIndex(index, device)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Handle) -> Code {
    find(uuid, device, identity::uuid)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleBySerial(serial: *const c_char, device: *mut Handle) -> Code {
    find(serial, device, identity::serial)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByPciBusId(id: *const c_char, device: *mut Handle) -> Code {
    find(id, device, identity::bus_id)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(id: *const c_char, device: *mut Handle) -> Code {
    find(id, device, identity::bus_id)
}

/// Finds the device of which `name` gives the wanted text; a bus id may lack the leading zeros of its domain.
fn find(wanted: *const c_char, device: *mut Handle, name: impl Fn(&Gpu) -> String) -> Code {
    with_simulation(|s| {
        if wanted.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: by NVML's contract this is a C string.
        let wanted = unsafe { CStr::from_ptr(wanted) }.to_string_lossy();
        let fits = |gpu: &&Gpu| {
            let own = name(gpu);
            own.eq_ignore_ascii_case(&wanted) || own.strip_prefix("0000").is_some_and(|short| short.eq_ignore_ascii_case(&wanted))
        };
        attach(s, s.gpus.iter().find(fits).ok_or(NOT_FOUND)?, device)
    })
}

/// Gives a GPU's handle; `nvidia-smi` says that it is "unable to determine the device handle" of one that is lost.
fn attach(simulation: &Simulation, gpu: &Gpu, device: *mut Handle) -> Result<(), Code> {
    if gpu.fault(FaultKind::LostGpu, simulation.now()).is_some() {
        return Err(GPU_IS_LOST);
    }
    put(device, handle(gpu.index))
}
