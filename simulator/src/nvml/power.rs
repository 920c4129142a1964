//! Power, temperature, clocks, utilisation, memory.

use nvml_wrapper_sys::bindings::{
    nvmlBAR1Memory_st, nvmlMarginTemperature_v1_t, nvmlMemory_st, nvmlMemory_v2_st, nvmlTemperature_v1_t, nvmlUtilization_st,
    nvmlViolationTime_st,
};

use super::state::{check_version, put, unix_us, with_gpu};
use super::{Code, Handle, INVALID_ARGUMENT, NOT_SUPPORTED};
use crate::scenario::FaultKind;
use crate::world::{Channel, Gpu, IDLE_CLOCK, MAX_CLOCK, MEMORY_CLOCK, reason};

/// Lowest and factory power limit, mW.
pub(super) const MIN_LIMIT_MW: u32 = 200_000;
pub(super) const DEFAULT_LIMIT_MW: u32 = 700_000;
/// °C of the highest operating temperature, to which margins count; and how much less is left at slowdown and shutdown
/// (`nvidia-smi -q` of an H100 SXM5 with driver 560.35.03).
const MAX_OPERATING: i32 = 87;
pub(super) const SLOWDOWN_MARGIN: i32 = -2;
pub(super) const SHUTDOWN_MARGIN: i32 = -8;
/// What stands for no value where one is told all the same (as `DCGM_INT32_BLANK`).
pub(super) const BLANK: u32 = 0x7fff_fff0;
/// MHz of the video engines, without a process and at full clock (the same).
const VIDEO: (u32, u32) = (765, 1545);

/// Watts as milliwatts.
pub(super) fn milli(watts: f64) -> u32 {
    (watts * 1e3).round().max(0.0) as u32
}

/// Functions that write one number.
macro_rules! readings {
    ($(fn $name:ident: $type:ty => |$gpu:ident, $t:ident| $value:expr;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(device: Handle, value: *mut $type) -> Code {
            with_gpu(device, |$gpu, $t| put(value, $value))
        }
    )*};
}

readings! {
    fn nvmlDeviceGetPowerUsage: u32 => |gpu, t| milli(gpu.average_watts(t));
    fn nvmlDeviceGetTotalEnergyConsumption: u64 => |gpu, t| (gpu.energy_joules(t) * 1e3) as u64;
    fn nvmlDeviceGetEnforcedPowerLimit: u32 => |gpu, t| gpu.limit_watts(t) * 1000;
    fn nvmlDeviceGetPowerManagementLimit: u32 => |gpu, t| gpu.limit_watts(t) * 1000;
    fn nvmlDeviceGetPowerManagementDefaultLimit: u32 => |_gpu, _t| DEFAULT_LIMIT_MW;
    fn nvmlDeviceGetPowerManagementMode: u32 => |_gpu, _t| 1;
    fn nvmlDeviceGetCurrentClocksThrottleReasons: u64 => |gpu, t| gpu.reasons(t);
    fn nvmlDeviceGetCurrentClocksEventReasons: u64 => |gpu, t| gpu.reasons(t);
    fn nvmlDeviceGetSupportedClocksThrottleReasons: u64 => |_gpu, _t| 0x1ff;
    fn nvmlDeviceGetSupportedClocksEventReasons: u64 => |_gpu, _t| 0x1ff;
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerManagementLimitConstraints(device: Handle, min: *mut u32, max: *mut u32) -> Code {
    with_gpu(device, |_, _| put(min, MIN_LIMIT_MW).and_then(|()| put(max, DEFAULT_LIMIT_MW)))
}

/// °C as whole degrees.
pub(super) fn degrees(temperature: f64) -> u32 {
    temperature.round().max(0.0) as u32
}

/// °C of the core as the driver tells it.
fn core_degrees(gpu: &Gpu, t: f64) -> u32 {
    if gpu.fault(FaultKind::Blank, t).is_some() { BLANK } else { degrees(gpu.temperature(t)) }
}

/// °C left to the highest operating temperature.
fn margin(gpu: &Gpu, t: f64) -> i32 {
    MAX_OPERATING - degrees(gpu.temperature(t)) as i32
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTemperature(device: Handle, sensor: u32, value: *mut u32) -> Code {
    with_gpu(device, |gpu, t| if sensor == 0 { put(value, core_degrees(gpu, t)) } else { Err(INVALID_ARGUMENT) })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTemperatureV(device: Handle, info: *mut nvmlTemperature_v1_t) -> Code {
    with_gpu(device, |gpu, t| {
        check_version(info, 0x0100_000c)?;
        // SAFETY: the check read through the pointer already.
        let info = unsafe { &mut *info };
        if info.sensorType != 0 {
            return Err(INVALID_ARGUMENT);
        }
        info.temperature = core_degrees(gpu, t) as i32;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMarginTemperature(device: Handle, info: *mut nvmlMarginTemperature_v1_t) -> Code {
    with_gpu(device, |gpu, t| {
        check_version(info, 0x0100_0008)?;
        put(info, nvmlMarginTemperature_v1_t { version: 0x0100_0008, marginTemperature: margin(gpu, t) })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTemperatureThreshold(device: Handle, kind: u32, value: *mut u32) -> Code {
    with_gpu(device, |_, _| match kind {
        0 => put(value, (MAX_OPERATING - SHUTDOWN_MARGIN) as u32),
        1 => put(value, (MAX_OPERATING - SLOWDOWN_MARGIN) as u32),
        2 => put(value, 95),
        3 => put(value, MAX_OPERATING as u32),
        _ => Err(NOT_SUPPORTED),
    })
}

/// MHz of a clock domain: graphics, streaming multiprocessors, memory, video.
fn clock(gpu: &Gpu, domain: u32, t: f64) -> Result<u32, Code> {
    match domain {
        0 | 1 => Ok(gpu.clock_mhz(t)),
        2 => Ok(gpu.memory_clock_mhz(t)),
        3 => {
            let (idle, full) = VIDEO;
            let share = (f64::from(gpu.clock_mhz(t)) - IDLE_CLOCK) / (MAX_CLOCK - IDLE_CLOCK);
            Ok(idle + (f64::from(full - idle) * share.max(0.0)) as u32)
        }
        _ => Err(INVALID_ARGUMENT),
    }
}

fn max_clock(domain: u32) -> Result<u32, Code> {
    match domain {
        0 | 1 => Ok(MAX_CLOCK as u32),
        2 => Ok(MEMORY_CLOCK),
        3 => Ok(VIDEO.1),
        _ => Err(INVALID_ARGUMENT),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetClockInfo(device: Handle, domain: u32, mhz: *mut u32) -> Code {
    with_gpu(device, |gpu, t| put(mhz, clock(gpu, domain, t)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMaxClockInfo(device: Handle, domain: u32, mhz: *mut u32) -> Code {
    with_gpu(device, |_, _| put(mhz, max_clock(domain)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMaxCustomerBoostClock(device: Handle, domain: u32, mhz: *mut u32) -> Code {
    nvmlDeviceGetMaxClockInfo(device, domain, mhz)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetApplicationsClock(device: Handle, domain: u32, mhz: *mut u32) -> Code {
    nvmlDeviceGetMaxClockInfo(device, domain, mhz)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetDefaultApplicationsClock(device: Handle, domain: u32, mhz: *mut u32) -> Code {
    nvmlDeviceGetMaxClockInfo(device, domain, mhz)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetClock(device: Handle, domain: u32, which: u32, mhz: *mut u32) -> Code {
    // 0 is the present clock; the others are targets and limits.
    if which == 0 { nvmlDeviceGetClockInfo(device, domain, mhz) } else { nvmlDeviceGetMaxClockInfo(device, domain, mhz) }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUtilizationRates(device: Handle, rates: *mut nvmlUtilization_st) -> Code {
    with_gpu(device, |gpu, t| {
        let mean = gpu.track().mean(t - 1.0 / 6.0, t);
        let percent = |channel: Channel| (mean[channel as usize] * 100.0).round() as u32;
        put(rates, nvmlUtilization_st { gpu: percent(Channel::Busy), memory: percent(Channel::Dram) })
    })
}

/// Functions for engines that training leaves idle.
macro_rules! idle_engines {
    ($(fn $name:ident;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(device: Handle, percent: *mut u32, period_us: *mut u32) -> Code {
            with_gpu(device, |_, _| put(percent, 0).and_then(|()| put(period_us, 167_000)))
        }
    )*};
}

idle_engines! {
    fn nvmlDeviceGetEncoderUtilization;
    fn nvmlDeviceGetDecoderUtilization;
    fn nvmlDeviceGetJpgUtilization;
    fn nvmlDeviceGetOfaUtilization;
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetViolationStatus(device: Handle, policy: u32, time: *mut nvmlViolationTime_st) -> Code {
    with_gpu(device, |gpu, t| {
        let violationTime = match policy {
            0 => gpu.reason_ns(reason::SW_POWER_CAP, t),
            1 => gpu.reason_ns(reason::SW_THERMAL, t),
            2..=5 | 10 | 11 => 0,
            _ => return Err(INVALID_ARGUMENT),
        };
        put(time, nvmlViolationTime_st { referenceTime: unix_us() as u64, violationTime })
    })
}

/// Bytes of memory: total, reserved by the driver, used by processes.
pub(super) fn memory(gpu: &Gpu, t: f64) -> (u64, u64, u64) {
    const MIB: u64 = 1 << 20;
    (81_559 * MIB, 450 * MIB, if gpu.working(t) { 71_200 * MIB } else { MIB })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo(device: Handle, info: *mut nvmlMemory_st) -> Code {
    with_gpu(device, |gpu, t| {
        let (total, reserved, used) = memory(gpu, t);
        put(info, nvmlMemory_st { total, free: total - reserved - used, used: reserved + used })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, info: *mut nvmlMemory_v2_st) -> Code {
    with_gpu(device, |gpu, t| {
        check_version(info, 0x0200_0028)?;
        let (total, reserved, used) = memory(gpu, t);
        put(info, nvmlMemory_v2_st { version: 0x0200_0028, total, reserved, free: total - reserved - used, used })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetBAR1MemoryInfo(device: Handle, info: *mut nvmlBAR1Memory_st) -> Code {
    with_gpu(device, |_, _| {
        let (bar1Total, bar1Used) = (131_072 << 20, 2 << 20);
        put(info, nvmlBAR1Memory_st { bar1Total, bar1Free: bar1Total - bar1Used, bar1Used })
    })
}
