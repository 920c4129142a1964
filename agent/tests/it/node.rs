//! One node: the agent's binary over the simulated driver.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Second 0 of the scenario: now.
pub(crate) fn scenario_start() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

pub(crate) struct Node {
    agent: Child,
    folder: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        // Shown where a test fails.
        print!("{}", self.log());
    }
}

pub(crate) fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let test = std::env::current_exe().expect("this test's path");
        let deps = test.parent().expect("its folder");
        let name = "libgridstep_simulator.so";
        let places = [deps.join(name), deps.join("..").join(name)];
        places.into_iter().find(|path| path.exists()).expect("the simulated driver lies beside the tests")
    })
}

/// Writes the scenario of eight GPUs in training, with these faults, and gives the agent's environment.
pub(crate) fn scenario(folder: &Path, faults: &str) -> [(&'static str, String); 2] {
    let path = folder.join("scenario.toml");
    let job = "[[job]]\nname = \"job\"\nnode_count = 1\n\
        [[job.phase]]\nkind = \"compute\"\nseconds = 1.5\nwatts = 580\nsm_active = 0.92\n\
        [[job.phase]]\nkind = \"communicate\"\nseconds = 0.5\nwatts = 240\nsm_active = 0.2\n";
    fs::write(&path, format!("nodes = 1\n{faults}\n{job}")).expect("the scenario is written");
    [("GRIDSTEP_SIM_SCENARIO", path.display().to_string()), ("GRIDSTEP_SIM_START", scenario_start().to_string())]
}

/// How a node is started.
pub(crate) struct Start<'a> {
    pub(crate) program: &'a [&'a str],
    pub(crate) faults: &'a str,
    pub(crate) endpoint: &'a str,
    pub(crate) uplink: &'a str,
    pub(crate) reader: &'a str,
    pub(crate) library: &'a Path,
    pub(crate) environment: &'a [(&'a str, String)],
}

impl<'a> Start<'a> {
    pub(crate) fn new(faults: &'a str, endpoint: &'a str) -> Self {
        Self { program: &[], faults, endpoint, uplink: "", reader: "", library: library(), environment: &[] }
    }
}

impl Node {
    /// Eight GPUs in training, with the given faults, streaming to the collector at `endpoint`.
    pub(crate) fn start(faults: &str, endpoint: &str) -> Self {
        Self::start_with(faults, endpoint, "")
    }

    /// The same with further lines in `[uplink]`, or sections behind it.
    pub(crate) fn start_with(faults: &str, endpoint: &str, uplink: &str) -> Self {
        Self::start_under(&[], faults, endpoint, uplink)
    }

    /// The same with further lines in `[reader]`.
    pub(crate) fn start_reading(faults: &str, endpoint: &str, reader: &str) -> Self {
        Self::start_of(&Start { reader, ..Start::new(faults, endpoint) })
    }

    /// The same by a program that is given the agent's command line.
    pub(crate) fn start_under(program: &[&str], faults: &str, endpoint: &str, uplink: &str) -> Self {
        Self::start_of(&Start { program, uplink, ..Start::new(faults, endpoint) })
    }

    pub(crate) fn start_of(start: &Start<'_>) -> Self {
        let &Start { program, faults, endpoint, uplink, reader, library, environment } = start;
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("agent.toml");
        let (library, control) = (library.display(), folder.path().join("control"));
        let text = format!(
            "node = \"testnode\"\n[reader]\nnvml_library = \"{library}\"\n{reader}\n\
            [control]\nsocket = \"{}\"\n\
            [uplink]\nendpoint = \"{endpoint}\"\n{uplink}\n[http]\nlisten = \"127.0.0.1:0\"\n",
            control.display()
        );
        fs::write(&config, text).expect("the configuration is written");
        let log = File::create(folder.path().join("log")).expect("the log");
        let mut words = program.iter().copied().chain([env!("CARGO_BIN_EXE_gridstep-agent")]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).arg("run").arg("--config").arg(&config).stdin(Stdio::null()).stderr(log);
        command.envs(scenario(folder.path(), faults));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Self { agent: command.spawn().expect("the agent starts"), folder }
    }

    /// What the agent has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where the agent says, after its last reload, that it serves `/metrics`.
    pub(crate) fn address(&self) -> Option<String> {
        Some(self.log().rsplit_once("metrics=")?.1.split_once('\n')?.0.trim().to_owned())
    }

    pub(crate) fn serves(&self) -> bool {
        self.address().is_some()
    }

    /// What `/metrics` shows, of an agent that serves.
    pub(crate) fn metrics(&self) -> String {
        get(&self.address().expect("an address"), "/metrics")
    }

    /// Waits until a series of `/metrics` has such a value.
    pub(crate) async fn shows(&self, series: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let begun = Instant::now();
        loop {
            let value = self.address().and_then(|_| crate::metrics::value(&self.metrics(), series));
            if let Some(value) = value.filter(|value| wanted(*value)) {
                return value;
            }
            assert!(begun.elapsed() < Duration::from_secs_f64(3.0 * crate::PATIENCE), "{series} stays {value:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the agent has logged it so often.
    pub(crate) async fn says(&self, words: &str, times: usize) {
        let begun = Instant::now();
        while self.log().matches(words).count() < times {
            assert!(begun.elapsed() < Duration::from_secs_f64(3.0 * crate::PATIENCE), "the agent does not say: {words}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A signal (`kill`'s argument) for the agent.
    pub(crate) fn signal(&self, signal: &str) {
        kill(signal, &self.agent.id().to_string());
    }

    /// How the agent ends, and after how many seconds.
    pub(crate) async fn ended(&mut self) -> (ExitStatus, f64) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.agent.try_wait().expect("the agent is a child") {
                return (status, begun.elapsed().as_secs_f64());
            }
            assert!(begun.elapsed() < Duration::from_secs_f64(crate::PATIENCE), "the agent does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where the agent's operator tells it what to do.
    pub(crate) fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// Replaces a line of the agent's configuration.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let path = self.folder.path().join("agent.toml");
        let text = fs::read_to_string(&path).expect("the configuration is there");
        assert!(text.contains(from), "{from} is not in: {text}");
        fs::write(&path, text.replace(from, to)).expect("the configuration is written");
    }

    /// Processes of the agent that have the driver's library loaded, or are about to.
    pub(crate) fn readers(&self) -> usize {
        let children = format!("/proc/{0}/task/{0}/children", self.agent.id());
        fs::read_to_string(children).unwrap_or_default().split_whitespace().count()
    }

    /// A signal (`kill`'s argument) for the agent's child.
    pub(crate) fn signal_reader(&self, signal: &str) {
        kill(signal, &self.reader());
    }

    fn reader(&self) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.agent.id());
        let children = fs::read_to_string(children).expect("the agent's children");
        children.split_whitespace().next().expect("a reader").to_owned()
    }
}

/// What a server answers.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split_once("\r\n\r\n").expect("a head and a body").1.to_owned()
}

fn kill(signal: &str, process: &str) {
    assert!(Command::new("kill").args([signal, process]).status().expect("kill runs").success());
}
