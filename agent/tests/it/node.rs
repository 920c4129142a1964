//! One node: the agent's binary over the simulated driver.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Second 0 of the scenario: now.
pub(crate) fn scenario_start() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

pub(crate) struct Node {
    agent: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let test = std::env::current_exe().expect("this test's path");
        let deps = test.parent().expect("its folder");
        let name = "libgridstep_simulator.so";
        let places = [deps.join(name), deps.join("..").join(name)];
        places.into_iter().find(|path| path.exists()).expect("the simulated driver lies beside the tests")
    })
}

impl Node {
    /// Eight GPUs in training, with the given faults, streaming to the collector at `endpoint`.
    pub(crate) fn start(faults: &str, endpoint: &str) -> Self {
        Self::start_with(faults, endpoint, "")
    }

    /// The same with further lines in `[uplink]`.
    pub(crate) fn start_with(faults: &str, endpoint: &str, uplink: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let scenario = folder.path().join("scenario.toml");
        let job = "[[job]]\nname = \"job\"\nnode_count = 1\n\
            [[job.phase]]\nkind = \"compute\"\nseconds = 1.5\nwatts = 580\nsm_active = 0.92\n\
            [[job.phase]]\nkind = \"communicate\"\nseconds = 0.5\nwatts = 240\nsm_active = 0.2\n";
        std::fs::write(&scenario, format!("nodes = 1\n{job}{faults}")).expect("the scenario is written");
        let config = folder.path().join("agent.toml");
        let mut file = std::fs::File::create(&config).expect("the configuration is written");
        let library = library().display();
        write!(file, "node = \"testnode\"\n[reader]\nnvml_library = \"{library}\"\n[uplink]\nendpoint = \"{endpoint}\"\n{uplink}\n[http]\nlisten = \"127.0.0.1:0\"\n")
            .expect("the configuration is written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_gridstep-agent"));
        command.arg("run").arg("--config").arg(&config).stdin(Stdio::null());
        command.env("GRIDSTEP_SIM_SCENARIO", &scenario).env("GRIDSTEP_SIM_START", scenario_start().to_string());
        Self { agent: command.spawn().expect("the agent starts"), _folder: folder }
    }

    /// A signal (`kill`'s argument) for the agent's child.
    pub(crate) fn signal_reader(&self, signal: &str) {
        let children = format!("/proc/{0}/task/{0}/children", self.agent.id());
        let children = std::fs::read_to_string(children).expect("the agent's children");
        let reader = children.split_whitespace().next().expect("a reader");
        assert!(Command::new("kill").args([signal, reader]).status().expect("kill runs").success());
    }
}
