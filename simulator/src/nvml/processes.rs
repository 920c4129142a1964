//! Processes on a GPU.

use nvml_wrapper_sys::bindings::{
    nvmlProcessDetail_v1_t, nvmlProcessDetailList_v1_t, nvmlProcessInfo_v1_st, nvmlProcessInfo_v2_st,
};

use super::state::{check_version, put_list, with_gpu};
use super::{Code, Handle, INVALID_ARGUMENT};
use crate::world::Gpu;

/// Bytes that all processes of a GPU use together.
const USED: u64 = 71_200 << 20;
/// What "no MIG instance" reads as.
const NO_INSTANCE: u32 = u32::MAX;

fn pids(gpu: &Gpu, t: f64) -> &[u32] {
    if gpu.working(t) { &gpu.scenario().process_pids } else { &[] }
}

fn v1(gpu: &Gpu, t: f64) -> Vec<nvmlProcessInfo_v1_st> {
    let pids = pids(gpu, t);
    pids.iter().map(|pid| nvmlProcessInfo_v1_st { pid: *pid, usedGpuMemory: USED / pids.len() as u64 }).collect()
}

fn v2(gpu: &Gpu, t: f64) -> Vec<nvmlProcessInfo_v2_st> {
    let widen = |p: nvmlProcessInfo_v1_st| nvmlProcessInfo_v2_st {
        pid: p.pid,
        usedGpuMemory: p.usedGpuMemory,
        gpuInstanceId: NO_INSTANCE,
        computeInstanceId: NO_INSTANCE,
    };
    v1(gpu, t).into_iter().map(widen).collect()
}

/// Functions that list processes; graphics and MPS lists are always empty.
macro_rules! lists {
    ($(fn $name:ident: $type:ty => |$gpu:ident, $t:ident| $list:expr;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(device: Handle, count: *mut u32, infos: *mut $type) -> Code {
            with_gpu(device, |$gpu, $t| put_list(count, infos, &$list))
        }
    )*};
}

lists! {
    fn nvmlDeviceGetComputeRunningProcesses: nvmlProcessInfo_v1_st => |gpu, t| v1(gpu, t);
    fn nvmlDeviceGetComputeRunningProcesses_v2: nvmlProcessInfo_v2_st => |gpu, t| v2(gpu, t);
    fn nvmlDeviceGetComputeRunningProcesses_v3: nvmlProcessInfo_v2_st => |gpu, t| v2(gpu, t);
    fn nvmlDeviceGetGraphicsRunningProcesses: nvmlProcessInfo_v1_st => |_gpu, _t| [];
    fn nvmlDeviceGetGraphicsRunningProcesses_v2: nvmlProcessInfo_v2_st => |_gpu, _t| [];
    fn nvmlDeviceGetGraphicsRunningProcesses_v3: nvmlProcessInfo_v2_st => |_gpu, _t| [];
    fn nvmlDeviceGetMPSComputeRunningProcesses: nvmlProcessInfo_v1_st => |_gpu, _t| [];
    fn nvmlDeviceGetMPSComputeRunningProcesses_v2: nvmlProcessInfo_v2_st => |_gpu, _t| [];
    fn nvmlDeviceGetMPSComputeRunningProcesses_v3: nvmlProcessInfo_v2_st => |_gpu, _t| [];
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetRunningProcessDetailList(device: Handle, list: *mut nvmlProcessDetailList_v1_t) -> Code {
    with_gpu(device, |gpu, t| {
        check_version(list, 0x0100_0000 | size_of::<nvmlProcessDetailList_v1_t>() as u32)?;
        // SAFETY: the check read through the pointer already.
        let list = unsafe { &mut *list };
        let found = match list.mode {
            0 => v1(gpu, t),
            // Graphics and MPS.
            1 | 2 => Vec::new(),
            _ => return Err(INVALID_ARGUMENT),
        };
        let detail = |p: nvmlProcessInfo_v1_st| nvmlProcessDetail_v1_t {
            pid: p.pid,
            usedGpuMemory: p.usedGpuMemory,
            gpuInstanceId: NO_INSTANCE,
            computeInstanceId: NO_INSTANCE,
            usedGpuCcProtectedMemory: 0,
        };
        let details: Vec<nvmlProcessDetail_v1_t> = found.into_iter().map(detail).collect();
        put_list(&raw mut list.numProcArrayEntries, list.procArray, &details)
    })
}
