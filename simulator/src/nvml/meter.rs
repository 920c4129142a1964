//! How many calls a process makes and how long they take, for benchmarks: two counters in a file that others can read at any time,
//! also when the process is killed.

use std::fs::File;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use rustix::mm::{MapFlags, ProtFlags, mmap};

/// Names a folder: each process counts in a file of it that is named by its process id. Absent: nothing is counted.
const CALLS_ENV: &str = "GRIDSTEP_SIM_CALLS";

/// The file: two integers in the machine's byte order.
#[repr(C)]
struct Meter {
    calls: AtomicU64,
    /// Wall time inside the calls, ns.
    nanoseconds: AtomicU64,
}

fn meter() -> Option<&'static Meter> {
    static METER: OnceLock<Option<&'static Meter>> = OnceLock::new();
    *METER.get_or_init(|| {
        open(Path::new(&std::env::var_os(CALLS_ENV)?)).inspect_err(|error| eprintln!("{CALLS_ENV}: {error}")).ok()
    })
}

fn open(folder: &Path) -> std::io::Result<&'static Meter> {
    let path = folder.join(std::process::id().to_string());
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(size_of::<Meter>() as u64)?;
    let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping of the whole file, which is as long as the struct, is page-aligned and is never unmapped; any bytes
    // are valid for the struct, which is only accessed atomically.
    unsafe {
        let at = mmap(std::ptr::null_mut(), size_of::<Meter>(), prot, flags, &file, 0)?;
        Ok(&*at.cast::<Meter>())
    }
}

/// Makes a call, and counts it if that is asked for.
pub(super) fn metered<T>(call: impl FnOnce() -> T) -> T {
    let Some(meter) = meter() else { return call() };
    let begun = Instant::now();
    let result = call();
    meter.calls.fetch_add(1, Relaxed);
    meter.nanoseconds.fetch_add(begun.elapsed().as_nanos() as u64, Relaxed);
    result
}
