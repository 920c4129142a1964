//! The library as its clients see it: nvml-wrapper, and tools that others wrote.

mod faults;
mod rings;
mod third_party;
mod world;
mod wrapper;

use std::path::{Path, PathBuf};

/// The simulated library that was built with this test.
fn library() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its executable");
    let deps = own.parent().expect("an executable is in a directory");
    let candidates = [deps.join("libgridstep_simulator.so"), deps.join("../libgridstep_simulator.so")];
    candidates.into_iter().find(|path| path.is_file()).expect("the library is built with the tests")
}

/// A scenario of the repository.
fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name)
}

/// Unix seconds at which scenario time 0 must be for it to be `elapsed` seconds now.
fn start(elapsed: f64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    format!("{}", now.as_secs_f64() - elapsed)
}
