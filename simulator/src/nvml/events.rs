//! Event sets: XIDs, and ECC errors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{nvmlEventData_st, nvmlEventSet_st};

use super::state::{handle, put, with_gpu, with_simulation};
use super::{Code, Handle, INVALID_ARGUMENT, TIMEOUT};
use crate::scenario::FaultKind;

type Set = *mut nvmlEventSet_st;

/// The header's bit of a critical XID, and all that can be registered for.
const XID: u64 = 0x8;
const SUPPORTED: u64 = 0x1 | 0x2 | XID;
/// How often a waiting call looks.
const POLL: Duration = Duration::from_millis(10);

/// An event set.
#[derive(Default)]
struct Registered {
    /// By GPU index: the bits, and since when (s).
    gpus: BTreeMap<u32, (u64, f64)>,
    /// GPU index and number of the fault that were told.
    told: BTreeSet<(u32, usize)>,
}

static SETS: Mutex<(usize, BTreeMap<usize, Registered>)> = Mutex::new((0, BTreeMap::new()));

fn sets<T>(f: impl FnOnce(&mut (usize, BTreeMap<usize, Registered>)) -> T) -> T {
    f(&mut SETS.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetCreate(set: *mut Set) -> Code {
    with_simulation(|_| {
        let id = sets(|(last, map)| {
            *last += 16;
            map.insert(*last, Registered::default());
            *last
        });
        put(set, std::ptr::without_provenance_mut(id))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(set: Set) -> Code {
    with_simulation(|_| sets(|(_, map)| map.remove(&set.addr())).map(|_| ()).ok_or(INVALID_ARGUMENT))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetSupportedEventTypes(device: Handle, types: *mut u64) -> Code {
    with_gpu(device, |_, _| put(types, SUPPORTED))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(device: Handle, types: u64, set: Set) -> Code {
    with_gpu(device, |gpu, t| {
        sets(|(_, map)| {
            let set = map.get_mut(&set.addr()).ok_or(INVALID_ARGUMENT)?;
            set.gpus.entry(gpu.index).or_insert((0, t)).0 |= types;
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetWait(set: Set, data: *mut nvmlEventData_st, timeout_ms: u32) -> Code {
    nvmlEventSetWait_v2(set, data, timeout_ms)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetWait_v2(set: Set, data: *mut nvmlEventData_st, timeout_ms: u32) -> Code {
    with_simulation(|s| {
        let deadline = Instant::now() + Duration::from_millis(u64::from(timeout_ms));
        loop {
            let now = s.now();
            let next = sets(|(_, map)| -> Result<Option<(u32, u64)>, Code> {
                let set = map.get_mut(&set.addr()).ok_or(INVALID_ARGUMENT)?;
                for (index, (types, since)) in &set.gpus {
                    let faults = s.gpus[*index as usize].faults().iter().enumerate();
                    for (number, fault) in faults.filter(|(_, f)| f.kind == FaultKind::Xid && types & XID != 0) {
                        // An event is told once, to who was listening when it happened.
                        if (*since..=now).contains(&fault.start) && set.told.insert((*index, number)) {
                            return Ok(Some((*index, fault.value as u64)));
                        }
                    }
                }
                Ok(None)
            })?;
            if let Some((index, code)) = next {
                let event = nvmlEventData_st {
                    device: handle(index),
                    eventType: XID,
                    eventData: code,
                    gpuInstanceId: u32::MAX,
                    computeInstanceId: u32::MAX,
                };
                return put(data, event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TIMEOUT);
            }
            std::thread::sleep(left.min(POLL));
        }
    })
}
