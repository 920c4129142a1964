//! GPU performance monitoring: means between two samples.

use std::collections::BTreeMap;
use std::sync::Mutex;

use nvml_wrapper_sys::bindings::{nvmlGpmMetric_t, nvmlGpmMetricsGet_t, nvmlGpmSample_st, nvmlGpmSupport_t};

use super::state::{get, put, with_gpu, with_simulation};
use super::{Code, Handle, IN_USE, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS};
use crate::scenario::FaultKind;
use crate::world::{Channel, Levels};

type Sample = *mut nvmlGpmSample_st;

/// The last handle given out, and for each live one a GPU's index and when (s), once taken.
type Taken = (usize, BTreeMap<usize, Option<(u32, f64)>>);

static SAMPLES: Mutex<Taken> = Mutex::new((0, BTreeMap::new()));

fn samples<T>(f: impl FnOnce(&mut Taken) -> T) -> T {
    f(&mut SAMPLES.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmQueryDeviceSupport(device: Handle, support: *mut nvmlGpmSupport_t) -> Code {
    with_gpu(device, |_, _| {
        let version = get(support.cast::<u32>())?;
        put(support, nvmlGpmSupport_t { version, isSupportedDevice: 1 })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmQueryIfStreamingEnabled(device: Handle, state: *mut u32) -> Code {
    with_gpu(device, |_, _| put(state, 1))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleAlloc(sample: *mut Sample) -> Code {
    with_simulation(|_| {
        let id = samples(|(last, map)| {
            // Multiples of 16 look like what an allocator gives.
            *last += 16;
            map.insert(*last, None);
            *last
        });
        put(sample, std::ptr::without_provenance_mut(id))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleFree(sample: Sample) -> Code {
    with_simulation(|_| samples(|(_, map)| map.remove(&sample.addr())).map(|_| ()).ok_or(INVALID_ARGUMENT))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleGet(device: Handle, sample: Sample) -> Code {
    with_gpu(device, |gpu, t| {
        // Which code a driver gives where another profiler holds it is not documented; this one fits by its name.
        if gpu.fault(FaultKind::GpmHeld, t).is_some() {
            return Err(IN_USE);
        }
        samples(|(_, map)| map.get_mut(&sample.addr()).map(|slot| *slot = Some((gpu.index, t)))).ok_or(INVALID_ARGUMENT)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmMetricsGet(request: *mut nvmlGpmMetricsGet_t) -> Code {
    with_simulation(|s| {
        if request.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: the head of the struct is the same in every version of the header.
        let (count, first, second) = unsafe { ((*request).numMetrics, (*request).sample1, (*request).sample2) };
        let taken = |sample: Sample| samples(|(_, map)| map.get(&sample.addr()).copied().flatten()).ok_or(INVALID_ARGUMENT);
        let ((gpu, from), (other, to)) = (taken(first)?, taken(second)?);
        if gpu != other || to < from {
            return Err(INVALID_ARGUMENT);
        }
        let mean = s.gpus[gpu as usize].track().mean(from, to);
        // The array's length differs by version of the header: only `count` entries are certain.
        // SAFETY: projects to a field without making a reference to the whole struct.
        let metrics = unsafe { (&raw mut (*request).metrics).cast::<nvmlGpmMetric_t>() };
        // SAFETY: the caller asks for `count` entries of its array.
        let asked = (0..count as usize).map(|i| unsafe { (*metrics.add(i)).metricId });
        if asked.into_iter().any(|id| s.scenario.gpm_unknown.contains(&id)) {
            return Err(INVALID_ARGUMENT);
        }
        for i in 0..count as usize {
            // SAFETY: the caller asks for `count` entries of its array.
            let metric = unsafe { &mut *metrics.add(i) };
            (metric.nvmlReturn, metric.value) = match value(&mean, metric.metricId) {
                Some(value) => (SUCCESS, value),
                None => (NOT_SUPPORTED, 0.0),
            };
        }
        Ok(())
    })
}

/// A metric: utilisations in percent, rates in MiB/s.
fn value(mean: &Levels, id: u32) -> Option<f64> {
    let percent = |channel: Channel| 100.0 * mean[channel as usize];
    let mib = |channel: Channel| 1024.0 * mean[channel as usize];
    Some(match id {
        1 => percent(Channel::Busy),
        2 => percent(Channel::Sm),
        3 => 0.45 * percent(Channel::Sm),
        4 => 0.10 * percent(Channel::Sm),
        5 | 7 => percent(Channel::Tensor),
        6 | 9 | 11 => 0.0,
        10 => percent(Channel::Dram),
        12 => 0.15 * percent(Channel::Sm),
        13 => 0.05 * percent(Channel::Sm),
        20 | 21 => mib(Channel::Pcie),
        60 | 61 => mib(Channel::Nvlink),
        _ => return None,
    })
}
