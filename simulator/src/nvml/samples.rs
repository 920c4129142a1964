//! The driver's sample buffers.

use nvml_wrapper_sys::bindings::{nvmlProcessUtilizationSample_st, nvmlSample_st, nvmlValue_st};

use super::power::milli;
use super::state::{get, put, with_gpu, with_simulation};
use super::{Code, Handle, INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED};
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
    let mut wanted = Vec::new();
    let code = with_gpu(device, |gpu, t| {
        sample(gpu, kind, t)?;
        put(value_type, 1)?;
        let capacity = if kind == 0 { POWER_CAPACITY } else { OTHER_CAPACITY };
        if samples.is_null() {
            return put(count, capacity);
        }
        let period = if kind == 0 { gpu.scenario().sensor.period_ms / 1e3 } else { OTHER_PERIOD };
        // Half a millisecond past a publication, so that rounding does not fall back to the one before.
        let newest = if kind == 0 { gpu.publication(t) } else { (t / period).floor() * period };
        for back in (0..capacity).rev() {
            let at = newest - f64::from(back) * period;
            wanted.push((at, sample(gpu, kind, at + 5e-4)?));
        }
        Ok(())
    });
    if code != 0 || samples.is_null() {
        return code;
    }
    with_simulation(|s| {
        let fresh: Vec<(u64, u32)> =
            wanted.iter().map(|(t, v)| (s.sample_stamp(*t), *v)).filter(|(stamp, _)| *stamp > last_seen_us).collect();
        if fresh.is_empty() {
            return Err(NOT_FOUND);
        }
        let room = get(count)? as usize;
        let taken = fresh.len().min(room);
        if taken == 0 {
            return Err(INVALID_ARGUMENT);
        }
        for (i, (stamp, value)) in fresh[..taken].iter().enumerate() {
            let entry = nvmlSample_st { timeStamp: *stamp, sampleValue: nvmlValue_st { ullVal: u64::from(*value) } };
            // SAFETY: the caller's array holds `room` entries.
            unsafe { samples.add(i).write(entry) };
        }
        put(count, taken as u32)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetProcessUtilization(
    device: Handle,
    samples: *mut nvmlProcessUtilizationSample_st,
    count: *mut u32,
    last_seen_us: u64,
) -> Code {
    let mut found = Vec::new();
    let code = with_gpu(device, |gpu, t| {
        if gpu.working(t) {
            let mean = gpu.track().mean(t - 1.0, t);
            found.push(((mean[Channel::Busy as usize] * 100.0) as u32, (mean[Channel::Dram as usize] * 100.0) as u32, t));
        }
        Ok(())
    });
    if code != 0 {
        return code;
    }
    with_simulation(|s| {
        let entries: Vec<nvmlProcessUtilizationSample_st> = found
            .iter()
            .flat_map(|(sm, mem, t)| {
                s.scenario.process_pids.iter().map(|pid| nvmlProcessUtilizationSample_st {
                    pid: *pid,
                    timeStamp: s.sample_stamp(*t),
                    smUtil: *sm,
                    memUtil: *mem,
                    encUtil: 0,
                    decUtil: 0,
                })
            })
            .filter(|entry| entry.timeStamp > last_seen_us)
            .collect();
        if samples.is_null() {
            put(count, s.scenario.process_pids.len() as u32)?;
            return Err(INSUFFICIENT_SIZE);
        }
        if entries.is_empty() {
            put(count, 0)?;
            return Err(NOT_FOUND);
        }
        super::state::put_list(count, samples, &entries)
    })
}
