//! Worlds. The library takes its scenario from the environment, so each world lives in a process of its own: a test starts this
//! executable again for the one hidden test that it needs.

use std::process::Command;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;

use crate::{library, scenario, start};

/// Patience for what must come, far beyond when it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One node on which a kernel computes without end.
pub(crate) const COMPUTING: &str = "[[job]]\nname = \"j\"\nnode_count = 1\n[[job.phase]]\nkind = \"compute\"\nseconds = 2.0\n\
    watts = 580.0\nsm_active = 0.9\ntensor_active = 0.5\ndram_active = 0.4\n";

pub(crate) fn nvml() -> Nvml {
    Nvml::builder().lib_path(library().as_os_str()).init().expect("the library initialises")
}

/// The text of a scenario of the repository.
pub(crate) fn of_file(name: &str) -> String {
    std::fs::read_to_string(scenario(name)).expect("the scenario can be read")
}

/// Runs a hidden test, `module::name`, in the world of a scenario `elapsed` seconds after its time 0.
pub(crate) fn run(scenario: &str, elapsed: f64, test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    std::fs::write(&file, scenario).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("GRIDSTEP_SIM_SCENARIO", file)
        .env("GRIDSTEP_SIM_START", start(elapsed))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("1 passed"), "{printed}");
}

/// Looks until there is an answer.
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "nothing came");
        std::thread::yield_now();
    }
}
