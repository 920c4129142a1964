//! A collector in a process of its own, that can be killed.

use crate::collector::get_from;
use gridstep_wire::Micros;
use gridstep_wire::block::BlockBuilder;
use gridstep_wire::pb;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    /// Line by line.
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// `wrapper`: what runs the program.
    pub(crate) fn start(config: &Path, wrapper: &[String]) -> Self {
        let program = env!("CARGO_BIN_EXE_gridstep-collector").to_owned();
        let words: Vec<String> = wrapper.iter().cloned().chain([program, "run".into(), "--config".into()]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(config).env_remove("RUST_LOG").stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let listens = log.by_ref().map_while(Result::ok).find(|line| {
            said.push(line.clone());
            line.contains("collector listens")
        });
        let listens = listens.unwrap_or_else(|| panic!("{said:#?}"));
        // Read on, or it would wait for the pipe.
        let lines = Arc::new(Mutex::new(said.clone()));
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in log.map_while(Result::ok) {
                println!("{line}");
                kept.lock().unwrap().push(line);
            }
        });
        let address = |key: &str| listens.split(key).nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
        Self { child, grpc: address("grpc="), http: address("http="), log: lines }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub(crate) async fn metrics(&self) -> String {
        get_from(self.http, "/metrics").await
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(mut self) {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For a process that listens on free ports; the recorder rolls five times a second.
pub(crate) fn configure(file: &Path, state: &Path, recording: &Path) {
    let text = format!(
        "state_dir = {state:?}\ncheckpoint_interval = '150ms'\n[grpc]\nlisten = '127.0.0.1:0'\n[http]\nlisten = '127.0.0.1:0'\n\
         [recorder]\nenabled = true\nroll_interval = '200ms'\ndirectory = {recording:?}\n"
    );
    std::fs::write(file, text).unwrap();
}

/// Power of eight GPUs, and of the first one more than that; no two batches of a node have the same stamps.
pub(crate) fn batch(sequence: u64) -> pb::Batch {
    let base_us = Micros::now().0;
    let mut power = BlockBuilder::new(base_us, &[crate::agent::metric("power_watts")], 500);
    for entity in 1..=8 {
        power.push(entity, base_us, [Some(600_000)]);
    }
    let mut sweep = BlockBuilder::new(base_us, &[crate::agent::metric("temperature_celsius")], 500);
    sweep.push(1, base_us, [Some(60)]);
    pb::Batch { sequence, base_us, blocks: vec![power.finish(), sweep.finish()], ..Default::default() }
}
