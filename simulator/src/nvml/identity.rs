//! What a GPU is: names, numbers, modes that never change.

use std::ffi::{c_char, c_ulong};

use nvml_wrapper_sys::bindings::{nvmlFBCStats_st, nvmlPciInfo_st, nvmlPciInfoExt_v1_t};

use super::features::MIG_DEVICES;
use super::state::{check_version, lookup, put, put_list, put_text, text_array, with_gpu, with_simulation};
use super::{Code, Handle, INVALID_ARGUMENT, NOT_SUPPORTED};
use crate::world::Gpu;

/// PCI bus numbers of the eight GPUs of a DGX-like node.
const BUSES: [u32; 8] = [0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf];
/// H100 SXM5, and NVIDIA's subsystem.
const PCI_DEVICE: u32 = 0x2330_10de;
const PCI_SUBSYSTEM: u32 = 0x16c1_10de;

fn bus(gpu: &Gpu) -> u32 {
    BUSES.get(gpu.index as usize).copied().unwrap_or(gpu.index + 1)
}

/// Two sockets, each with half of the GPUs.
pub(super) fn numa_node(gpu: &Gpu) -> u32 {
    gpu.index / gpu.scenario().gpus_per_node.div_ceil(2)
}

pub(super) fn bus_id(gpu: &Gpu) -> String {
    format!("00000000:{:02X}:00.0", bus(gpu))
}

pub(super) fn uuid(gpu: &Gpu) -> String {
    let (a, b) = (gpu.identity(30), gpu.identity(31));
    format!("GPU-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xffff, b >> 48, b & 0xffff_ffff_ffff)
}

pub(super) fn serial(gpu: &Gpu) -> String {
    format!("165{:010}", gpu.identity(32) % 10_000_000_000)
}

fn pci(gpu: &Gpu) -> nvmlPciInfo_st {
    nvmlPciInfo_st {
        busIdLegacy: text_array(&format!("0000:{:02X}:00.0", bus(gpu))),
        domain: 0,
        bus: bus(gpu),
        device: 0,
        pciDeviceId: PCI_DEVICE,
        pciSubSystemId: PCI_SUBSYSTEM,
        busId: text_array(&bus_id(gpu)),
    }
}

/// Functions that write one text.
macro_rules! texts {
    ($($(#[$doc:meta])* fn $name:ident => |$gpu:ident| $text:expr;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(device: Handle, text: *mut c_char, length: u32) -> Code {
            with_gpu(device, |$gpu, _| put_text(text, length, &$text))
        }
    )*};
}

texts! {
    fn nvmlDeviceGetName => |_gpu| "NVIDIA H100 80GB HBM3";
    fn nvmlDeviceGetUUID => |gpu| uuid(gpu);
    fn nvmlDeviceGetSerial => |gpu| serial(gpu);
    fn nvmlDeviceGetVbiosVersion => |_gpu| "96.00.99.00.01";
    fn nvmlDeviceGetBoardPartNumber => |_gpu| "692-2G520-0200-000";
    fn nvmlDeviceGetInforomImageVersion => |_gpu| "G520.0200.00.05";
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGspFirmwareVersion(device: Handle, text: *mut c_char) -> Code {
    // The header gives the buffer 64 bytes.
    with_gpu(device, |gpu, t| put_text(text, 64, gpu.driver_version(t)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetInforomVersion(device: Handle, object: u32, text: *mut c_char, length: u32) -> Code {
    with_gpu(device, |_, _| put_text(text, length, ["2.1", "7.16", "N/A"].get(object as usize).ok_or(INVALID_ARGUMENT)?))
}

/// Functions that write one number which never changes.
macro_rules! constants {
    ($(fn $name:ident: $type:ty => |$gpu:ident| $value:expr;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(device: Handle, value: *mut $type) -> Code {
            with_gpu(device, |$gpu, _| put(value, $value))
        }
    )*};
}

constants! {
    fn nvmlDeviceGetIndex: u32 => |gpu| gpu.index;
    fn nvmlDeviceGetMinorNumber: u32 => |gpu| gpu.index;
    fn nvmlDeviceGetModuleId: u32 => |gpu| gpu.index + 1;
    fn nvmlDeviceGetBoardId: u32 => |gpu| bus(gpu) << 8;
    fn nvmlDeviceGetMultiGpuBoard: u32 => |_gpu| 0;
    fn nvmlDeviceGetIrqNum: u32 => |gpu| 200 + gpu.index;
    fn nvmlDeviceGetNumaNodeId: u32 => |gpu| numa_node(gpu);
    fn nvmlDeviceGetArchitecture: u32 => |_gpu| 9;
    fn nvmlDeviceGetBrand: u32 => |_gpu| 14;
    fn nvmlDeviceGetPersistenceMode: u32 => |_gpu| 1;
    fn nvmlDeviceGetComputeMode: u32 => |_gpu| 0;
    fn nvmlDeviceGetDisplayMode: u32 => |_gpu| 1;
    fn nvmlDeviceGetDisplayActive: u32 => |_gpu| 0;
    fn nvmlDeviceGetAccountingMode: u32 => |_gpu| 0;
    fn nvmlDeviceGetAccountingBufferSize: u32 => |_gpu| 4000;
    fn nvmlDeviceGetVirtualizationMode: u32 => |_gpu| 0;
    fn nvmlDeviceGetMaxMigDeviceCount: u32 => |_gpu| MIG_DEVICES;
    fn nvmlDeviceIsMigDeviceHandle: u32 => |_gpu| 0;
    fn nvmlDeviceGetMemoryBusWidth: u32 => |_gpu| 5120;
    fn nvmlDeviceGetNumGpuCores: u32 => |_gpu| 16_896;
    fn nvmlDeviceGetNumFans: u32 => |_gpu| 0;
    fn nvmlDeviceGetBusType: u32 => |_gpu| 2;
    fn nvmlDeviceGetPowerSource: u32 => |_gpu| 0;
    fn nvmlDeviceGetPerformanceState: u32 => |_gpu| 0;
    fn nvmlDeviceGetPowerState: u32 => |_gpu| 0;
    fn nvmlDeviceGetInforomConfigurationChecksum: u32 => |_gpu| 0x7a5e;
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCudaComputeCapability(device: Handle, major: *mut i32, minor: *mut i32) -> Code {
    with_gpu(device, |_, _| put(major, 9).and_then(|()| put(minor, 0)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigMode(device: Handle, current: *mut u32, pending: *mut u32) -> Code {
    with_gpu(device, |_, _| put(current, 0).and_then(|()| put(pending, 0)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGspFirmwareMode(device: Handle, enabled: *mut u32, default: *mut u32) -> Code {
    with_gpu(device, |_, _| put(enabled, 1).and_then(|()| put(default, 1)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo(device: Handle, info: *mut nvmlPciInfo_st) -> Code {
    with_gpu(device, |gpu, _| put(info, pci(gpu)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v2(device: Handle, info: *mut nvmlPciInfo_st) -> Code {
    nvmlDeviceGetPciInfo(device, info)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v3(device: Handle, info: *mut nvmlPciInfo_st) -> Code {
    nvmlDeviceGetPciInfo(device, info)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfoExt(device: Handle, info: *mut nvmlPciInfoExt_v1_t) -> Code {
    with_gpu(device, |gpu, _| {
        let version = 0x0100_0000 | size_of::<nvmlPciInfoExt_v1_t>() as u32;
        check_version(info, version)?;
        put(
            info,
            nvmlPciInfoExt_v1_t {
                version,
                domain: 0,
                bus: bus(gpu),
                device: 0,
                pciDeviceId: PCI_DEVICE,
                pciSubSystemId: PCI_SUBSYSTEM,
                baseClass: 3,
                subClass: 2,
                busId: text_array(&bus_id(gpu)),
            },
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCpuAffinity(device: Handle, size: u32, set: *mut c_ulong) -> Code {
    with_gpu(device, |_, _| {
        let mut room = size;
        let mut words = vec![0; size as usize];
        *words.first_mut().ok_or(INVALID_ARGUMENT)? = c_ulong::from(u32::MAX);
        put_list(&raw mut room, set, &words)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTopologyCommonAncestor(one: Handle, other: Handle, level: *mut u32) -> Code {
    with_simulation(|s| {
        let (one, other) = (lookup(s, one)?, lookup(s, other)?);
        // Same device, same NUMA node, or across the sockets.
        put(
            level,
            if one.index == other.index {
                0
            } else if numa_node(one) == numa_node(other) {
                40
            } else {
                50
            },
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceOnSameBoard(_one: Handle, _other: Handle, same: *mut i32) -> Code {
    with_simulation(|_| put(same, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetEncoderStats(device: Handle, sessions: *mut u32, fps: *mut u32, latency: *mut u32) -> Code {
    with_gpu(device, |_, _| put(sessions, 0).and_then(|()| put(fps, 0)).and_then(|()| put(latency, 0)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetFBCStats(device: Handle, stats: *mut nvmlFBCStats_st) -> Code {
    with_gpu(device, |_, _| put(stats, nvmlFBCStats_st { sessionsCount: 0, averageFPS: 0, averageLatency: 0 }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetSupportedMemoryClocks(device: Handle, count: *mut u32, clocks: *mut u32) -> Code {
    with_gpu(device, |_, _| put_list(count, clocks, &[2619, 1593]))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetSupportedGraphicsClocks(device: Handle, memory: u32, count: *mut u32, clocks: *mut u32) -> Code {
    with_gpu(device, |_, _| {
        if memory != 2619 && memory != 1593 {
            return Err(NOT_SUPPORTED);
        }
        let steps: Vec<u32> = (23..=132).rev().map(|step| step * 15).collect();
        put_list(count, clocks, &steps)
    })
}
