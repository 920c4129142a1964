//! The driver's sample buffers.

use nvml_wrapper_sys::bindings::{nvmlProcessUtilizationSample_st, nvmlSample_st, nvmlValue_st};

use super::power::milli;
use super::state::{get, put, put_list, with_simulated_gpu};
use super::{Code, Handle, INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED};
use crate::scenario::{FaultKind, Samples};
use crate::world::{Channel, Gpu};

/// Entries of the power buffer.
const POWER_CAPACITY: u32 = 120;
/// Entries of the other buffers, each this many seconds apart.
const OTHER_CAPACITY: u32 = 99;
const OTHER_PERIOD: f64 = 1.0 / 6.0;

/// A value at scenario time `t` (s), for a sampling type of the header.
fn sample(gpu: &Gpu, kind: u32, t: f64) -> Result<u32, Code> {
    let mean = |channel: Channel| gpu.track().mean(t - OTHER_PERIOD, t)[channel as usize];
    Ok(match kind {
        0 if gpu.scenario().sensor.samples == Samples::Average => milli(gpu.average_watts(t)),
        0 => milli(gpu.instant_watts(t)),
        1 => (mean(Channel::Busy) * 100.0).round() as u32,
        2 => (mean(Channel::Dram) * 100.0).round() as u32,
        3 | 4 => 0,
        5 => gpu.clock_mhz(t),
        6 => gpu.memory_clock_mhz(t),
        _ => return Err(NOT_SUPPORTED),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetSamples(
    device: Handle,
    kind: u32,
    last_seen_us: u64,
    value_type: *mut u32,
    count: *mut u32,
    samples: *mut nvmlSample_st,
) -> Code {
    with_simulated_gpu(device, |simulation, gpu, t| {
        sample(gpu, kind, t)?;
        put(value_type, 1)?;
        let (capacity, period) =
            if kind == 0 { (POWER_CAPACITY, gpu.scenario().sensor.period_ms / 1e3) } else { (OTHER_CAPACITY, OTHER_PERIOD) };
        if samples.is_null() {
            return put(count, capacity);
        }
        let t = gpu.fault(FaultKind::SamplesStop, t).map_or(t, |fault| fault.start);
        let newest = if kind == 0 { gpu.publication(t) } else { (t / period).floor() * period };
        let mut fresh = Vec::new();
        for at in (0..capacity).rev().map(|back| newest - f64::from(back) * period) {
            let timeStamp = simulation.sample_stamp(at);
            if timeStamp > last_seen_us {
                // Half a millisecond past a publication, so that rounding does not fall back to the one before.
                let sampleValue = nvmlValue_st { ullVal: u64::from(sample(gpu, kind, at + 5e-4)?) };
                fresh.push(nvmlSample_st { timeStamp, sampleValue });
            }
        }
        if fresh.is_empty() {
            return Err(NOT_FOUND);
        }
        fresh.truncate(get(count)? as usize);
        if fresh.is_empty() {
            return Err(INVALID_ARGUMENT);
        }
        put_list(count, samples, &fresh)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetProcessUtilization(
    device: Handle,
    samples: *mut nvmlProcessUtilizationSample_st,
    count: *mut u32,
    last_seen_us: u64,
) -> Code {
    with_simulated_gpu(device, |simulation, gpu, t| {
        let pids = &simulation.scenario.process_pids;
        if samples.is_null() {
            put(count, pids.len() as u32)?;
            return Err(INSUFFICIENT_SIZE);
        }
        let timeStamp = simulation.sample_stamp(t);
        if !gpu.working(t) || timeStamp <= last_seen_us {
            put(count, 0)?;
            return Err(NOT_FOUND);
        }
        let mean = gpu.track().mean(t - 1.0, t);
        let percent = |channel: Channel| (mean[channel as usize] * 100.0) as u32;
        let (smUtil, memUtil) = (percent(Channel::Busy), percent(Channel::Dram));
        let entry = |pid: &u32| nvmlProcessUtilizationSample_st { pid: *pid, timeStamp, smUtil, memUtil, encUtil: 0, decUtil: 0 };
        put_list(count, samples, &pids.iter().map(entry).collect::<Vec<_>>())
    })
}
