//! The library's state and what every function does first.

use std::ffi::c_char;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

use super::meter::metered;
use super::{
    Code, DRIVER_NOT_LOADED, GPU_IS_LOST, Handle, INSUFFICIENT_SIZE, INVALID_ARGUMENT, SUCCESS, UNINITIALIZED, VERSION_MISMATCH,
};
use crate::scenario::{FaultKind, MAX_GPUS, NODE_ENV, SCENARIO_ENV, START_ENV, SampleClock, Scenario};
use crate::world::{Gpu, World};

/// The simulation that this process sees.
pub(super) struct Simulation {
    pub(super) gpus: Vec<Gpu>,
    pub(super) scenario: Scenario,
    /// Unix seconds of scenario time 0.
    start: f64,
    /// What to add to Unix microseconds to stamp a buffered sample.
    sample_offset_us: i64,
}

/// Calls of init without their shutdown.
static USERS: AtomicU64 = AtomicU64::new(0);
/// Scenario time of the first of them, as the bits of a number of seconds.
static OPENED: AtomicU64 = AtomicU64::new(0);
static SIMULATION: OnceLock<Result<Simulation, String>> = OnceLock::new();
/// A device handle is the address of one of these.
static HANDLES: [u64; MAX_GPUS as usize] = [0; MAX_GPUS as usize];

impl Simulation {
    fn from_environment() -> anyhow::Result<Self> {
        let scenario = match std::env::var_os(SCENARIO_ENV) {
            Some(path) => Scenario::load(Path::new(&path))?,
            None => Scenario::default(),
        };
        let node = match std::env::var(NODE_ENV) {
            Ok(text) => text.parse().with_context(|| format!("{NODE_ENV} is no number"))?,
            Err(_) => 0,
        };
        anyhow::ensure!(node < scenario.nodes, "{NODE_ENV} is {node}, but there are {} nodes", scenario.nodes);
        let start = match std::env::var(START_ENV) {
            Ok(text) => text.parse().with_context(|| format!("{START_ENV} is no number"))?,
            Err(_) => scenario.started_at.unwrap_or_else(|| (unix_seconds() / 3600.0).floor() * 3600.0),
        };
        let sample_offset_us = match scenario.sample_clock {
            SampleClock::Realtime => 0,
            SampleClock::Boottime => boot_offset_us(),
        };
        let gpus = World::new(scenario.clone()).node(node);
        Ok(Self { gpus, scenario, start, sample_offset_us })
    }

    /// Scenario time, s.
    pub(super) fn now(&self) -> f64 {
        unix_seconds() - self.start
    }

    /// Version of the driver that is loaded.
    pub(super) fn driver_version(&self) -> &str {
        self.gpus.first().map_or(&*self.scenario.driver_version, |gpu| gpu.driver_version(self.now()))
    }

    fn unloaded(&self) -> bool {
        self.gpus.first().is_some_and(|gpu| gpu.unloaded(self.now()))
    }

    /// Whether the driver was loaded anew since this process opened it: then the process has to do that again.
    fn is_another(&self) -> bool {
        let opened = f64::from_bits(OPENED.load(Ordering::SeqCst));
        self.gpus.first().is_some_and(|gpu| gpu.loaded_at(self.now()) > opened)
    }

    /// Unix microseconds of scenario time `t` (s).
    pub(super) fn unix_us_at(&self, t: f64) -> u64 {
        ((self.start + t) * 1e6).round().max(0.0) as u64
    }

    /// Stamp of a buffered sample that was taken at scenario time `t` (s), µs.
    pub(super) fn sample_stamp(&self, t: f64) -> u64 {
        (self.unix_us_at(t) as i64 + self.sample_offset_us).max(0) as u64
    }
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Microseconds since 1970.
pub(super) fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// What to add to Unix microseconds to have those since the machine booted: of a few tries the one that was least interrupted.
fn boot_offset_us() -> i64 {
    let attempt = |_| {
        let (before, unix, after) = (clock_us(ClockId::Boottime), unix_us(), clock_us(ClockId::Boottime));
        (after - before, before - unix)
    };
    (0..8).map(attempt).min().map_or(0, |(_, offset)| offset)
}

/// Microseconds by a clock of the kernel.
fn clock_us(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

/// The simulation, initialised or not.
pub(super) fn simulation() -> Result<&'static Simulation, &'static String> {
    SIMULATION.get_or_init(|| Simulation::from_environment().map_err(|error| format!("{error:#}"))).as_ref()
}

/// Starts the simulation, or counts one more user.
pub(super) fn start() -> Code {
    match simulation() {
        Ok(simulation) if simulation.unloaded() => DRIVER_NOT_LOADED,
        Ok(simulation) => {
            if USERS.fetch_add(1, Ordering::SeqCst) == 0 {
                OPENED.store(simulation.now().to_bits(), Ordering::SeqCst);
            }
            SUCCESS
        }
        Err(message) => {
            eprintln!("gridstep-simulator: {message}");
            super::UNKNOWN
        }
    }
}

/// Counts one user less. One too many succeeds: the documentation promises an error, but NVIDIA's libraries 535 to 555, tried
/// on a machine without a driver, return none.
pub(super) fn stop() -> Code {
    let _ = USERS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |users| users.checked_sub(1));
    SUCCESS
}

/// Calls `f` with the simulation if the library is initialised.
pub(super) fn with_simulation(f: impl FnOnce(&'static Simulation) -> Result<(), Code>) -> Code {
    if USERS.load(Ordering::SeqCst) == 0 {
        return UNINITIALIZED;
    }
    let Some(Ok(simulation)) = SIMULATION.get() else { return UNINITIALIZED };
    if simulation.unloaded() {
        return DRIVER_NOT_LOADED;
    }
    if simulation.is_another() {
        return UNINITIALIZED;
    }
    metered(|| {
        charge(simulation);
        f(simulation).err().unwrap_or(SUCCESS)
    })
}

/// Calls `f` with a GPU and the scenario time (s), after the GPU's faults took their toll on the call.
pub(super) fn with_gpu(device: Handle, f: impl FnOnce(&'static Gpu, f64) -> Result<(), Code>) -> Code {
    with_simulated_gpu(device, |_, gpu, t| f(gpu, t))
}

/// The same with the simulation.
pub(super) fn with_simulated_gpu(
    device: Handle,
    f: impl FnOnce(&'static Simulation, &'static Gpu, f64) -> Result<(), Code>,
) -> Code {
    with_simulation(|simulation| {
        let gpu = lookup(simulation, device)?;
        let t = simulation.now();
        if gpu.fault(FaultKind::LostGpu, t).is_some() {
            return Err(GPU_IS_LOST);
        }
        if gpu.fault(FaultKind::HungCall, t).is_some() {
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        if let Some(fault) = gpu.fault(FaultKind::SlowCall, t) {
            std::thread::sleep(Duration::from_secs_f64((fault.value / 1e3).max(0.0)));
            return f(simulation, gpu, simulation.now());
        }
        f(simulation, gpu, t)
    })
}

/// The GPU that a handle stands for.
pub(super) fn lookup(simulation: &'static Simulation, device: Handle) -> Result<&'static Gpu, Code> {
    HANDLES
        .iter()
        .position(|slot| std::ptr::eq(slot, device.cast::<u64>()))
        .and_then(|i| simulation.gpus.get(i))
        .ok_or(INVALID_ARGUMENT)
}

/// The handle of a GPU.
pub(super) fn handle(index: u32) -> Handle {
    (&raw const HANDLES[index as usize]).cast_mut().cast()
}

/// Makes the caller pay for a call.
fn charge(simulation: &Simulation) {
    let cost = simulation.scenario.cost;
    if cost.cpu_us > 0 {
        let end = clock_us(ClockId::ThreadCPUTime) + cost.cpu_us as i64;
        while clock_us(ClockId::ThreadCPUTime) <= end {
            std::hint::spin_loop();
        }
    }
    if cost.wall_us > 0 {
        std::thread::sleep(Duration::from_micros(cost.wall_us));
    }
}

/// Writes a result to where the caller wants it.
pub(super) fn put<T>(to: *mut T, value: T) -> Result<(), Code> {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: by NVML's contract a non-null pointer is valid for a write of this type.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// Reads what the caller passed by pointer.
pub(super) fn get<T: Copy>(from: *const T) -> Result<T, Code> {
    if from.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: by NVML's contract a non-null pointer is valid for a read of this type.
    Ok(unsafe { from.read_unaligned() })
}

/// Checks the version of a struct that starts with it.
pub(super) fn check_version<T>(of: *const T, expected: u32) -> Result<(), Code> {
    if get(of.cast::<u32>())? == expected { Ok(()) } else { Err(VERSION_MISMATCH) }
}

/// Writes text with its closing NUL into a buffer of `length` bytes.
pub(super) fn put_text(to: *mut c_char, length: u32, text: &str) -> Result<(), Code> {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= length as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: the caller's buffer holds `length` bytes, more than the text and its NUL.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
        to.add(text.len()).write(0);
    }
    Ok(())
}

/// Fills a caller's array of `*count` entries; with a null array or too little room only tells the number.
pub(super) fn put_list<T: Copy>(count: *mut u32, to: *mut T, values: &[T]) -> Result<(), Code> {
    let room = get(count)?;
    put(count, values.len() as u32)?;
    if values.is_empty() {
        return Ok(());
    }
    if to.is_null() || (room as usize) < values.len() {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: the caller's array holds `room` entries, at least as many as there are values.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len()) };
    Ok(())
}

/// Text as a fixed array with NULs behind it.
pub(super) fn text_array<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    for (slot, byte) in array.iter_mut().zip(text.bytes().take(N - 1)) {
        *slot = byte as c_char;
    }
    array
}
