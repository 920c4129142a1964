//! Event sets: XIDs, and corrected ECC errors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{nvmlEventData_st, nvmlEventSet_st};

use super::state::{handle, put, with_gpu, with_simulation};
use super::{Code, Handle, INVALID_ARGUMENT, NOT_SUPPORTED, TIMEOUT};
use crate::scenario::FaultKind;
use crate::world::Gpu;

type Set = *mut nvmlEventSet_st;

/// The header's bits of a corrected ECC error, an uncorrected one and an XID.
const SINGLE_BIT_ECC: u64 = 0x1;
const DOUBLE_BIT_ECC: u64 = 0x2;
const XID: u64 = 0x8;
const SUPPORTED: u64 = SINGLE_BIT_ECC | DOUBLE_BIT_ECC | XID;
/// "GPU has fallen off the bus".
const XID_OFF_THE_BUS: u64 = 79;
/// "Graphics engine exception": what a broken application floods the log with.
const XID_OF_STORM: u64 = 13;
/// How often a waiting call looks.
const POLL: Duration = Duration::from_millis(10);

/// What a set waits for on one GPU.
struct Registration {
    types: u64,
    /// Scenario time, s.
    since: f64,
    /// Number of the faults that were told.
    told: BTreeSet<usize>,
    /// XIDs of storms that were told.
    stormed: u64,
    /// Corrected and uncorrected errors that were told.
    errors: [u64; 2],
}

impl Registration {
    /// What happened since and was not told yet: its bit and data. It is told once, to who was listening when it happened.
    fn next(&mut self, gpu: &Gpu, now: f64) -> Option<(u64, u64)> {
        if self.types & XID != 0 {
            for (number, fault) in gpu.faults().iter().enumerate() {
                let code = match fault.kind {
                    FaultKind::Xid => fault.value as u64,
                    FaultKind::LostGpu => XID_OFF_THE_BUS,
                    _ => continue,
                };
                if (self.since..=now).contains(&fault.start) && self.told.insert(number) {
                    return Some((XID, code));
                }
            }
        }
        if self.types & XID != 0 && gpu.errors(FaultKind::XidStorm, now) > self.stormed {
            self.stormed += 1;
            return Some((XID, XID_OF_STORM));
        }
        let kinds = [SINGLE_BIT_ECC, DOUBLE_BIT_ECC].into_iter().zip(errors(gpu, now)).zip(&mut self.errors);
        for ((kind, errors), told) in kinds.filter(|((kind, _), _)| self.types & kind != 0) {
            if errors > std::mem::replace(told, errors) {
                return Some((kind, 0));
            }
        }
        None
    }
}

/// Corrected and uncorrected errors so far.
fn errors(gpu: &Gpu, t: f64) -> [u64; 2] {
    [gpu.corrected_errors(t), gpu.errors(FaultKind::EccUncorrected, t)]
}

/// An event set, by GPU index.
type Registered = BTreeMap<u32, Registration>;

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
        if types & !SUPPORTED != 0 {
            return Err(NOT_SUPPORTED);
        }
        sets(|(_, map)| {
            let set = map.get_mut(&set.addr()).ok_or(INVALID_ARGUMENT)?;
            let stormed = gpu.errors(FaultKind::XidStorm, t);
            let fresh = || Registration { types: 0, since: t, told: BTreeSet::new(), stormed, errors: errors(gpu, t) };
            set.entry(gpu.index).or_insert_with(fresh).types |= types;
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
            let next = sets(|(_, map)| -> Result<_, Code> {
                let set = map.get_mut(&set.addr()).ok_or(INVALID_ARGUMENT)?;
                Ok(set.iter_mut().find_map(|(index, own)| Some((*index, own.next(&s.gpus[*index as usize], now)?))))
            })?;
            if let Some((index, (eventType, eventData))) = next {
                let (gpuInstanceId, computeInstanceId) = (u32::MAX, u32::MAX);
                let event = nvmlEventData_st { device: handle(index), eventType, eventData, gpuInstanceId, computeInstanceId };
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
