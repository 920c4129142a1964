//! nvtop (Debian) and nvitop-exporter (PyPI): they run over the simulated library, and read what the agent reads.

use super::{Steady, root};
use crate::PATIENCE;
use crate::node::{get, scenario_start};
use serde_json::Value;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Their name of it, the agent's metric, how many of the agent's units one of theirs is, and how far apart two looks may be (in theirs).
type Same = (&'static str, &'static str, f64, f64);

const MIB: f64 = 1_048_576.0;

const NVTOP: [Same; 5] = [
    ("gpu_clock", "sm_clock_mhz", 1.0, 15.0),
    ("mem_clock", "memory_clock_mhz", 1.0, 0.0),
    ("temp", "temperature_celsius", 1.0, 1.0),
    ("power_draw", "power_average_watts", 1.0, 8.0),
    ("gpu_util", "gpu_utilization_ratio", 0.01, 1.0),
];

const NVITOP: [Same; 14] = [
    ("gpu_utilization_Percentage", "gpu_utilization_ratio", 0.01, 1.0),
    ("gpu_memory_utilization_Percentage", "memory_utilization_ratio", 0.01, 1.0),
    ("gpu_encoder_utilization_Percentage", "encoder_utilization_ratio", 0.01, 0.0),
    ("gpu_decoder_utilization_Percentage", "decoder_utilization_ratio", 0.01, 0.0),
    ("gpu_memory_total_MiB", "hbm_total_bytes", MIB, 0.5),
    ("gpu_memory_used_MiB", "hbm_used_bytes", MIB, 0.5),
    ("gpu_memory_free_MiB", "hbm_free_bytes", MIB, 0.5),
    ("gpu_power_usage_W", "power_average_watts", 1.0, 8.0),
    ("gpu_power_limit_W", "power_limit_watts", 1.0, 0.01),
    ("gpu_clock_sm_MHz", "sm_clock_mhz", 1.0, 15.0),
    ("gpu_clock_memory_MHz", "memory_clock_mhz", 1.0, 0.0),
    ("gpu_temperature_C", "temperature_celsius", 1.0, 1.0),
    ("gpu_pcie_tx_throughput_MiBps", "pcie_sent_bytes_per_second", MIB, 64.0),
    ("gpu_pcie_rx_throughput_MiBps", "pcie_received_bytes_per_second", MIB, 64.0),
];

fn compare(agent: &[Value], same: &[Same], theirs: impl Fn(usize, &str) -> f64) {
    assert_eq!(agent.len(), 8);
    for (index, gpu) in agent.iter().enumerate() {
        for (name, metric, unit, near) in same {
            let ours = gpu["metrics"][metric].as_f64().unwrap_or_else(|| panic!("no {metric}: {gpu}")) / unit;
            let theirs = theirs(index, name);
            assert!((ours - theirs).abs() <= *near, "GPU {index}: {name} is {theirs}, {metric} is {ours}");
        }
    }
}

/// It comes from a Debian that may be newer than this one, and so brings its own C library.
#[test]
fn nvtop_reads_the_same_values() {
    let node = Steady::new();
    let there = root().join("target/nonfree/trixie/root/usr");
    let libraries = format!("{}:{}", there.join("lib/x86_64-linux-gnu").display(), node.folder.path().display());
    let program = there.join("bin/nvtop").display().to_string();
    let printed = node.run(&there.join("lib64/ld-linux-x86-64.so.2"), &["--library-path", &libraries, &program, "-s"]);
    let theirs: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    compare(&node.agent(), &NVTOP, |index, name| {
        let gpu = &theirs[index];
        assert_eq!(gpu["device_name"], "NVIDIA H100 80GB HBM3");
        let text = gpu[name].as_str().unwrap_or_else(|| panic!("no {name}: {gpu}"));
        text.trim_end_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap()
    });
}

#[test]
fn nvitop_exporter_reads_the_same_values() {
    let node = Steady::new();
    let exporter = Exporter::start(&node);
    let metrics = exporter.metrics();
    compare(&node.agent(), &NVITOP, |index, name| {
        let (head, gpu) = (format!("{name}{{"), format!("index=\"{index}\""));
        let line = metrics.lines().find(|line| line.starts_with(&head) && line.contains(&gpu));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {name} of GPU {index}: {metrics}"))
    });
}

struct Exporter {
    child: Child,
    address: String,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Exporter {
    fn start(node: &Steady) -> Self {
        // It cannot say which free port it took.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
        let program = root().join(".venv/bin/nvitop-exporter");
        assert!(Path::new(&program).exists(), "{} is missing: run `make deps`", program.display());
        let child = Command::new(program)
            .args(["--hostname", "node", "--port", &free.port().to_string(), "--interval", "0.5"])
            .env("LD_LIBRARY_PATH", node.folder.path())
            .env("GRIDSTEP_SIM_SCENARIO", node.folder.path().join("scenario.toml"))
            .env("GRIDSTEP_SIM_START", (scenario_start() - 1000.0).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address: free.to_string() }
    }

    /// What it serves once it has read all that is compared.
    fn metrics(&self) -> String {
        let begun = Instant::now();
        loop {
            if TcpStream::connect(&self.address).is_ok() {
                let metrics = get(&self.address, "/metrics");
                if NVITOP.iter().all(|same| metrics.matches(&format!("\n{}{{", same.0)).count() == 8) {
                    return metrics;
                }
            }
            assert!(begun.elapsed().as_secs_f64() < PATIENCE, "nvitop-exporter shows nothing at {}", self.address);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
