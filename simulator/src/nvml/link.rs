//! PCIe and NVLink.

use nvml_wrapper_sys::bindings::{nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v2_t, nvmlGpuFabricInfo_v3_t, nvmlPciInfo_st};

use super::state::{get, put, text_array, with_gpu};
use super::{Code, Handle, INVALID_ARGUMENT, VERSION_MISMATCH};
use crate::scenario::FaultKind;
use crate::world::{Channel, Gpu};

/// NVLinks of an H100, each to a switch.
pub(super) const LINKS: u32 = 18;
/// The header's number of NVLink 4.
pub(super) const VERSION: u32 = 6;
/// MB/s of a link.
pub(super) const SPEED_MBPS: u32 = 26_562;

/// Checks a link's number.
pub(super) fn check(link: u32) -> Result<u32, Code> {
    if link < LINKS { Ok(link) } else { Err(INVALID_ARGUMENT) }
}

/// Errors of one link or of all, for a field id: replays and CRC errors count, recoveries stay 0.
pub(super) fn errors(gpu: &Gpu, t: f64, field: u32, link: Option<u32>) -> u64 {
    if matches!(field, 59 | 162) {
        return 0;
    }
    // One bad cable: all errors are on one link.
    let bad = (gpu.identity(40) % u64::from(LINKS)) as u32;
    if link.is_some_and(|link| link != bad) { 0 } else { gpu.history.nvlink_errors + gpu.errors(FaultKind::NvlinkErrors, t) }
}

/// Cumulative KiB of a link, or of all for scope `u32::MAX`; raw counts include the protocol.
pub(super) fn throughput_kib(gpu: &Gpu, t: f64, field: u32, scope: u32) -> Result<u64, Code> {
    let share = if scope == u32::MAX { 1.0 } else { check(scope).map(|_| 1.0 / f64::from(LINKS))? };
    let overhead = if field >= 140 { 1.08 } else { 1.0 };
    Ok((gpu.integral(Channel::Nvlink, t) * f64::from(1 << 20) * share * overhead) as u64)
}

/// Lanes of the PCIe link.
fn width(gpu: &Gpu, t: f64) -> u32 {
    gpu.fault(FaultKind::PcieWidth, t).map_or(16, |fault| if fault.value >= 1.0 { fault.value as u32 } else { 8 })
}

/// Functions that write one number.
macro_rules! readings {
    ($(fn $name:ident => |$gpu:ident, $t:ident| $value:expr;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(device: Handle, value: *mut u32) -> Code {
            with_gpu(device, |$gpu, $t| put(value, $value))
        }
    )*};
}

readings! {
    fn nvmlDeviceGetCurrPcieLinkGeneration => |_gpu, _t| 5;
    fn nvmlDeviceGetMaxPcieLinkGeneration => |_gpu, _t| 5;
    fn nvmlDeviceGetGpuMaxPcieLinkGeneration => |_gpu, _t| 5;
    fn nvmlDeviceGetCurrPcieLinkWidth => |gpu, t| width(gpu, t);
    fn nvmlDeviceGetMaxPcieLinkWidth => |_gpu, _t| 16;
    fn nvmlDeviceGetPcieSpeed => |_gpu, _t| 32_000;
    // The header's number of 32 GT/s.
    fn nvmlDeviceGetPcieLinkMaxSpeed => |_gpu, _t| 5;
    fn nvmlDeviceGetPcieReplayCounter => |gpu, _t| gpu.history.pcie_replays;
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPcieThroughput(device: Handle, _direction: u32, kb_s: *mut u32) -> Code {
    with_gpu(device, |gpu, t| {
        // The driver counts over 20 ms.
        std::thread::sleep(std::time::Duration::from_millis(20));
        put(kb_s, (gpu.track().mean(t, t + 0.02)[Channel::Pcie as usize] * f64::from(1 << 20)) as u32)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetNvLinkState(device: Handle, link: u32, active: *mut u32) -> Code {
    with_gpu(device, |_, _| check(link).and_then(|_| put(active, 1)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetNvLinkVersion(device: Handle, link: u32, version: *mut u32) -> Code {
    with_gpu(device, |_, _| check(link).and_then(|_| put(version, VERSION)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetNvLinkCapability(device: Handle, link: u32, _capability: u32, has: *mut u32) -> Code {
    with_gpu(device, |_, _| check(link).and_then(|_| put(has, 1)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetNvLinkRemoteDeviceType(device: Handle, link: u32, kind: *mut u32) -> Code {
    // 2 is a switch.
    with_gpu(device, |_, _| check(link).and_then(|_| put(kind, 2)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(device: Handle, link: u32, info: *mut nvmlPciInfo_st) -> Code {
    with_gpu(device, |_, _| {
        let bus = 5 + check(link)? % 4;
        put(
            info,
            nvmlPciInfo_st {
                busIdLegacy: text_array(&format!("0000:{bus:02X}:00.0")),
                domain: 0,
                bus,
                device: 0,
                pciDeviceId: 0x22a3_10de,
                pciSubSystemId: 0,
                busId: text_array(&format!("00000000:{bus:02X}:00.0")),
            },
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetNvLinkErrorCounter(device: Handle, link: u32, counter: u32, value: *mut u64) -> Code {
    with_gpu(device, |gpu, t| {
        let field = match counter {
            0 => 161,
            1 => 162,
            2 => 163,
            3 | 4 => return check(link).and_then(|_| put(value, 0)),
            _ => return Err(INVALID_ARGUMENT),
        };
        put(value, errors(gpu, t, field, Some(check(link)?)))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuFabricInfo(device: Handle, info: *mut nvmlGpuFabricInfo_t) -> Code {
    // 3 is "completed".
    with_gpu(device, |_, _| put(info, nvmlGpuFabricInfo_t { clusterUuid: [0; 16], status: 0, cliqueId: 0, state: 3 }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuFabricInfoV(device: Handle, info: *mut nvmlGpuFabricInfo_v3_t) -> Code {
    with_gpu(device, |_, _| {
        let version = get(info.cast::<u32>())?;
        let common = nvmlGpuFabricInfo_v2_t { version, clusterUuid: [0; 16], status: 0, cliqueId: 0, state: 3, healthMask: 0 };
        match version {
            0x0200_0024 => put(info.cast(), common),
            0x0300_0028 => put(
                info,
                nvmlGpuFabricInfo_v3_t {
                    version,
                    clusterUuid: [0; 16],
                    status: 0,
                    cliqueId: 0,
                    state: 3,
                    healthMask: 0,
                    healthSummary: 1,
                },
            ),
            _ => Err(VERSION_MISMATCH),
        }
    })
}
