//! What others read through the same library: NVIDIA's own `nvidia-smi`, and clients of PyPI. They see what the agent sees.

mod peers;

use crate::node::library;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The suites of Debian that have nvidia-smi 535 and 550 (`deploy/nonfree.sh`).
const SUITES: [&str; 2] = ["bookworm", "trixie"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn nvidia_smi(suite: &str) -> PathBuf {
    root().join("target/nonfree").join(suite).join("root/usr/lib/nvidia/current/nvidia-smi")
}

/// A node whose GPUs do the same all the time: whoever looks later sees the same, but for the sensors' noise.
struct Steady {
    folder: tempfile::TempDir,
}

impl Steady {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scenario = "nodes = 1\n[[job]]\nname = \"job\"\nnode_count = 1\n[[job.phase]]\nkind = \"compute\"\nseconds = 1e6\n\
            watts = 520\nsm_active = 0.9\ntensor_active = 0.5\ndram_active = 0.4\n\
            [[fault]]\nkind = \"ecc\"\nnode = 0\ngpu = 2\nvalue = 1\nstart = 0\nend = 50\n\
            [[fault]]\nkind = \"ecc_uncorrected\"\nnode = 0\ngpu = 4\nvalue = 1\nstart = 0\nend = 3\n\
            [[fault]]\nkind = \"nvlink_errors\"\nnode = 0\ngpu = 6\nvalue = 2\nstart = 0\nend = 50\n\
            [[fault]]\nkind = \"pcie_width\"\nnode = 0\ngpu = 5\nvalue = 8\nstart = 0\n";
        std::fs::write(folder.path().join("scenario.toml"), scenario).unwrap();
        std::os::unix::fs::symlink(library(), folder.path().join("libnvidia-ml.so.1")).unwrap();
        Self { folder }
    }

    /// What a program prints that must succeed.
    fn run(&self, program: &Path, arguments: &[&str]) -> String {
        assert!(program.exists(), "{} is missing: run `make deps`", program.display());
        let start = crate::node::scenario_start() - 1000.0;
        let output = Command::new(program)
            .args(arguments)
            .env("LD_LIBRARY_PATH", self.folder.path())
            .env("GRIDSTEP_SIM_SCENARIO", self.folder.path().join("scenario.toml"))
            .env("GRIDSTEP_SIM_START", start.to_string())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {arguments:?}: {printed}\n{said}", program.display());
        printed
    }

    /// What the agent reads, by GPU and metric.
    fn agent(&self) -> Vec<Value> {
        let text = self.run(Path::new(env!("CARGO_BIN_EXE_gridstep-agent")), &["probe", "--json"]);
        let report: Value = serde_json::from_str(&text).unwrap();
        report["gpus"].as_array().unwrap().clone()
    }
}

/// As `--query-gpu` calls it, the agent's metric, what one of its units is there, and how far apart two looks may be.
const QUERIES: [(&str, &str, f64, f64); 14] = [
    ("power.draw.instant", "power_watts", 1.0, 8.0),
    ("power.draw.average", "power_average_watts", 1.0, 8.0),
    ("power.limit", "power_limit_watts", 1.0, 0.01),
    ("temperature.gpu", "temperature_celsius", 1.0, 1.0),
    ("temperature.memory", "memory_temperature_celsius", 1.0, 1.0),
    ("memory.used", "hbm_used_bytes", 1_048_576.0, 0.5),
    ("memory.total", "hbm_total_bytes", 1_048_576.0, 0.5),
    ("clocks.sm", "sm_clock_mhz", 1.0, 15.0),
    ("clocks.mem", "memory_clock_mhz", 1.0, 0.0),
    ("utilization.gpu", "gpu_utilization_ratio", 0.01, 1.0),
    ("pcie.link.gen.current", "pcie_link_generation", 1.0, 0.0),
    ("pcie.link.width.current", "pcie_link_width", 1.0, 0.0),
    ("ecc.errors.corrected.aggregate.total", "ecc_corrected_total", 1.0, 0.0),
    ("ecc.errors.uncorrected.aggregate.total", "ecc_uncorrected_total", 1.0, 0.0),
];

#[test]
fn nvidia_smi_reads_the_same_values() {
    let node = Steady::new();
    let agent = node.agent();
    for suite in SUITES {
        let names: Vec<&str> = QUERIES.iter().map(|query| query.0).collect();
        let query = format!("--query-gpu=index,uuid,name,pci.bus_id,{}", names.join(","));
        let printed = node.run(&nvidia_smi(suite), &[&query, "--format=csv,noheader,nounits"]);
        let rows: Vec<Vec<&str>> = printed.lines().map(|line| line.split(", ").collect()).collect();
        assert_eq!(rows.len(), agent.len(), "{printed}");
        for (row, gpu) in rows.iter().zip(&agent) {
            assert_eq!(row[0], gpu["index"].to_string());
            for (theirs, ours) in row[1..4].iter().zip(["uuid", "model", "pci_bus_id"]) {
                assert_eq!(Some(*theirs), gpu[ours].as_str());
            }
            for ((name, metric, unit, near), theirs) in QUERIES.iter().zip(&row[4..]) {
                let ours = gpu["metrics"][metric].as_f64().unwrap_or_else(|| panic!("no {metric}: {gpu}")) / unit;
                let theirs: f64 = theirs.parse().unwrap_or_else(|_| panic!("{name} of {suite}: {theirs}"));
                assert!((ours - theirs).abs() <= *near, "GPU {} {name} of {suite}: {theirs}, {metric}: {ours}", row[0]);
            }
        }
        let of = |gpu: usize, metric: &str| agent[gpu]["metrics"][metric].as_f64();
        assert!(of(2, "ecc_corrected_total") >= Some(50.0) && of(5, "pcie_link_width") == Some(8.0));
    }
}

/// As `-q -x` names it within its parents, the agent's metric, what one of its units is there, and how far apart two looks may be.
const ELEMENTS: [(&str, &str, f64, f64); 41] = [
    ("gpu_power_readings/current_power_limit", "power_limit_watts", 1.0, 0.01),
    ("gpu_power_readings/requested_power_limit", "power_limit_requested_watts", 1.0, 0.01),
    ("gpu_power_readings/default_power_limit", "power_limit_default_watts", 1.0, 0.01),
    ("gpu_power_readings/min_power_limit", "power_limit_min_watts", 1.0, 0.01),
    ("gpu_power_readings/max_power_limit", "power_limit_max_watts", 1.0, 0.01),
    ("temperature/gpu_temp_max_threshold", "temperature_shutdown_celsius", 1.0, 0.0),
    ("temperature/gpu_temp_slow_threshold", "temperature_slowdown_celsius", 1.0, 0.0),
    ("temperature/gpu_temp_max_gpu_threshold", "temperature_max_celsius", 1.0, 0.0),
    ("temperature/gpu_temp_max_mem_threshold", "memory_temperature_max_celsius", 1.0, 0.0),
    ("clocks/graphics_clock", "graphics_clock_mhz", 1.0, 15.0),
    ("clocks/video_clock", "video_clock_mhz", 1.0, 15.0),
    ("max_clocks/sm_clock", "sm_clock_max_mhz", 1.0, 0.0),
    ("max_clocks/mem_clock", "memory_clock_max_mhz", 1.0, 0.0),
    ("max_clocks/graphics_clock", "graphics_clock_max_mhz", 1.0, 0.0),
    ("max_clocks/video_clock", "video_clock_max_mhz", 1.0, 0.0),
    ("performance_state", "performance_state", 1.0, 0.0),
    ("mig_mode/current_mig", "mig_enabled", 1.0, 0.0),
    ("ecc_mode/current_ecc", "ecc_enabled", 1.0, 0.0),
    ("ecc_errors/volatile/sram_correctable", "ecc_volatile_sram_corrected_total", 1.0, 0.0),
    ("ecc_errors/volatile/dram_correctable", "ecc_volatile_dram_corrected_total", 1.0, 0.0),
    ("ecc_errors/volatile/dram_uncorrectable", "ecc_volatile_dram_uncorrected_total", 1.0, 0.0),
    ("ecc_errors/aggregate/sram_correctable", "ecc_sram_corrected_total", 1.0, 0.0),
    ("ecc_errors/aggregate/dram_correctable", "ecc_dram_corrected_total", 1.0, 0.0),
    ("ecc_errors/aggregate/dram_uncorrectable", "ecc_dram_uncorrected_total", 1.0, 0.0),
    ("remapped_rows/remapped_row_corr", "remapped_rows_corrected_total", 1.0, 0.0),
    ("remapped_rows/remapped_row_unc", "remapped_rows_uncorrected_total", 1.0, 0.0),
    ("remapped_rows/remapped_row_pending", "remap_pending", 1.0, 0.0),
    ("remapped_rows/remapped_row_failure", "remap_failed", 1.0, 0.0),
    ("row_remapper_histogram/row_remapper_histogram_max", "remap_banks_max", 1.0, 0.0),
    ("row_remapper_histogram/row_remapper_histogram_high", "remap_banks_high", 1.0, 0.0),
    ("row_remapper_histogram/row_remapper_histogram_partial", "remap_banks_partial", 1.0, 0.0),
    ("row_remapper_histogram/row_remapper_histogram_low", "remap_banks_low", 1.0, 0.0),
    ("row_remapper_histogram/row_remapper_histogram_none", "remap_banks_none", 1.0, 0.0),
    ("pcie_gen/max_link_gen", "pcie_link_generation_max", 1.0, 0.0),
    ("link_widths/max_link_width", "pcie_link_width_max", 1.0, 0.0),
    ("pci/replay_counter", "pcie_replays_total", 1.0, 0.0),
    ("pci/replay_rollover_counter", "pcie_replay_rollovers_total", 1.0, 0.0),
    ("fb_memory_usage/reserved", "hbm_reserved_bytes", 1_048_576.0, 0.5),
    ("fb_memory_usage/free", "hbm_free_bytes", 1_048_576.0, 0.5),
    ("fabric/state", "fabric_state", 1.0, 0.0),
    ("fabric/status", "fabric_status", 1.0, 0.0),
];

/// What an element holds, by its path.
fn element<'a>(xml: &'a str, path: &str) -> Option<&'a str> {
    let mut rest = xml;
    for name in path.split('/') {
        rest = rest.split_once(&format!("<{name}>"))?.1;
    }
    rest.split_once('<').map(|(text, _)| text)
}

/// A number with its unit, or what a word stands for.
fn read(text: &str) -> Option<f64> {
    let words = [("Enabled", 1.0), ("Disabled", 0.0), ("Yes", 1.0), ("No", 0.0), ("Completed", 3.0), ("Success", 0.0)];
    let word = words.iter().find(|word| word.0 == text).map(|word| word.1);
    let digits = text.trim_start_matches('P');
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    word.or_else(|| digits[..end].parse().ok())
}

#[test]
fn nvidia_smi_knows_the_same_of_a_board() {
    let node = Steady::new();
    let agent = node.agent();
    for suite in SUITES {
        let whole = node.run(&nvidia_smi(suite), &["-q", "-x"]);
        let boards: Vec<&str> = whole.split("<gpu id=").skip(1).collect();
        assert_eq!(boards.len(), agent.len());
        for (index, (board, gpu)) in boards.iter().zip(&agent).enumerate() {
            for (path, metric, unit, near) in ELEMENTS {
                let ours = gpu["metrics"][metric].as_f64().unwrap_or_else(|| panic!("no {metric}: {gpu}")) / unit;
                let text = element(board, path).unwrap_or_else(|| panic!("{path} is not in what nvidia-smi of {suite} prints"));
                let theirs = read(text).unwrap_or_else(|| panic!("{path} of {suite}: {text}"));
                assert!((ours - theirs).abs() <= near, "GPU {index} {path} of {suite}: {text}, {metric}: {ours}");
            }
        }
    }
    let of = |gpu: usize, metric: &str| agent[gpu]["metrics"][metric].as_f64();
    assert!(of(2, "ecc_dram_corrected_total") >= Some(50.0) && of(4, "ecc_volatile_dram_uncorrected_total") == Some(3.0));
}

/// Reads by nvidia-ml-py what no tool prints.
const ML: &str = r#"
import json
from pynvml import *
nvmlInit()
def fields(device, wanted):
    values = nvmlDeviceGetFieldValues(device, wanted)
    return [v.value.siVal if v.valueType == 5 else v.value.ullVal if v.valueType == 3 else v.value.uiVal for v in values]
gpus = []
for index in range(nvmlDeviceGetCount()):
    gpu = nvmlDeviceGetHandleByIndex(index)
    fabric = c_nvmlGpuFabricInfo_v3_t()
    fabric.version = nvmlGpuFabricInfo_v3
    nvmlDeviceGetGpuFabricInfoV(gpu, byref(fabric))
    shutdown, slowdown, memory, core = fields(gpu, [193, 194, 195, 196])
    processes = nvmlDeviceGetComputeRunningProcesses(gpu)
    gpus.append({
        "temperature_margin_celsius": nvmlDeviceGetMarginTemperature(gpu),
        "temperature_shutdown_margin_celsius": shutdown,
        "temperature_slowdown_margin_celsius": slowdown,
        "memory_temperature_max_margin_celsius": memory,
        "temperature_max_margin_celsius": core,
        "fabric_state": fabric.state,
        "fabric_health": fabric.healthSummary,
        "clocks_event_reasons": nvmlDeviceGetCurrentClocksEventReasons(gpu),
        "processes": len(processes),
        "process_memory_bytes": sum(process.usedGpuMemory for process in processes),
        "nvlink_errors_total": sum(sum(fields(gpu, [(161, link), (162, link)])) for link in range(18)),
        "nvlink_links_up": sum(fields(gpu, [(165, link)])[0] in (1, 2) for link in range(18)),
        "pcie_correctable_errors_total": fields(gpu, [173])[0],
    })
print(json.dumps(gpus))
"#;

#[test]
fn the_python_binding_reads_the_same_values() {
    let node = Steady::new();
    let agent = node.agent();
    let theirs: Value = serde_json::from_str(&node.run(&root().join(".venv/bin/python"), &["-c", ML])).unwrap();
    for (index, gpu) in agent.iter().enumerate() {
        for (metric, value) in theirs[index].as_object().unwrap() {
            let (value, ours) = (value.as_f64().unwrap(), gpu["metrics"][metric].as_f64());
            let near = if metric == "temperature_margin_celsius" { 1.0 } else { 0.0 };
            assert!(ours.is_some_and(|ours| (ours - value).abs() <= near), "GPU {index}: {metric} is {value}, ours {ours:?}");
        }
    }
    assert!(agent[6]["metrics"]["nvlink_errors_total"].as_f64() >= Some(100.0));
}

#[test]
fn nvidia_smi_shows_whole_boards() {
    let node = Steady::new();
    for suite in SUITES {
        let program = nvidia_smi(suite);
        let whole = node.run(&program, &["-q", "-x"]);
        assert_eq!(whole.matches("<gpu id=").count(), 8);
        assert!(whole.trim_end().ends_with("</nvidia_smi_log>"));
        for broken in ["ERR!", "Unknown Error", "Function Not Found", "GPU is lost"] {
            assert!(!whole.contains(broken), "{broken} in what nvidia-smi of {suite} prints");
        }
        let links = node.run(&program, &["nvlink", "-s"]);
        assert_eq!(links.matches(" GB/s").count(), 8 * 18, "{links}");
        assert_eq!(node.run(&program, &["-L"]).lines().count(), 8);
        let table = node.run(&program, &[]);
        assert_eq!(table.matches("NVIDIA H100 80GB HBM3").count(), 8, "{table}");
        let processes = node.run(&program, &["--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader"]);
        assert_eq!(processes.matches(", 4242, 71200 MiB").count(), 8, "{processes}");
    }
}

/// gpustat and nvitop read by nvidia-ml-py.
#[test]
fn python_clients_read_the_same_values() {
    let node = Steady::new();
    let agent = node.agent();
    let printed = node.run(&root().join(".venv/bin/gpustat"), &["--json"]);
    let theirs: Value = serde_json::from_str(&printed).unwrap();
    let device = "import json\nfrom nvitop import Device\nprint(json.dumps([[d.uuid(), d.power_usage() / 1000, d.temperature(), \
        d.memory_used(), d.gpu_utilization(), d.sm_clock(), d.power_limit() / 1000] for d in Device.all()]))";
    let nvitop: Value = serde_json::from_str(&node.run(&root().join(".venv/bin/python"), &["-c", device])).unwrap();
    for (index, gpu) in agent.iter().enumerate() {
        let ours = |metric: &str| gpu["metrics"][metric].as_f64().unwrap_or_else(|| panic!("no {metric}: {gpu}"));
        let gpustat = &theirs["gpus"][index];
        let read: BTreeMap<&str, [f64; 2]> = BTreeMap::from([
            ("power_average_watts", [gpustat["power.draw"].as_f64().unwrap(), nvitop[index][1].as_f64().unwrap()]),
            ("temperature_celsius", [gpustat["temperature.gpu"].as_f64().unwrap(), nvitop[index][2].as_f64().unwrap()]),
            ("power_limit_watts", [gpustat["enforced.power.limit"].as_f64().unwrap(), nvitop[index][6].as_f64().unwrap()]),
        ]);
        for (metric, values) in read {
            for value in values {
                assert!((value - ours(metric)).abs() <= 8.0, "GPU {index}: {metric} is {value}, ours {}", ours(metric));
            }
        }
        assert_eq!([&gpustat["uuid"], &nvitop[index][0]], [&gpu["uuid"]; 2]);
        assert_eq!(nvitop[index][3].as_f64(), Some(ours("hbm_used_bytes")));
        assert_eq!(nvitop[index][4].as_f64(), Some(ours("gpu_utilization_ratio") * 100.0));
    }
}
