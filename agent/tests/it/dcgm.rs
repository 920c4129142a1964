//! The series of dcgm-exporter: as text, and through a real Prometheus.

use crate::PATIENCE;
use crate::collector::{Collector, Seen};
use crate::node::{Node, get};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Names of dcgm-exporter's default set (etc/default-counters.csv of 4.8), without the one that is a label.
const NAMES: [&str; 25] = [
    "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_MEM_CLOCK",
    "DCGM_FI_DEV_MEMORY_TEMP",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_MEM_COPY_UTIL",
    "DCGM_FI_DEV_ENC_UTIL",
    "DCGM_FI_DEV_DEC_UTIL",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_RESERVED",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
    "DCGM_FI_DEV_VGPU_LICENSE_STATUS",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "DCGM_FI_PROF_DRAM_ACTIVE",
    "DCGM_FI_PROF_PCIE_TX_BYTES",
    "DCGM_FI_PROF_PCIE_RX_BYTES",
];

/// Expressions of Grafana's dashboard 12239, for one instance and all GPUs, and how many series each has.
const DASHBOARD: [(&str, usize); 8] = [
    ("DCGM_FI_DEV_GPU_TEMP{instance=~\"$instance\", gpu=~\".*\"}", 8),
    ("avg(DCGM_FI_DEV_GPU_TEMP{instance=~\"$instance\", gpu=~\".*\"})", 1),
    ("DCGM_FI_DEV_POWER_USAGE{instance=~\"$instance\", gpu=~\".*\"}", 8),
    ("sum(DCGM_FI_DEV_POWER_USAGE{instance=~\"$instance\", gpu=~\".*\"})", 1),
    ("DCGM_FI_DEV_SM_CLOCK{instance=~\"$instance\", gpu=~\".*\"} * 1000000", 8),
    ("DCGM_FI_DEV_GPU_UTIL{instance=~\"$instance\", gpu=~\".*\"}", 8),
    ("DCGM_FI_DEV_FB_USED{instance=~\"$instance\", gpu=~\".*\"}", 8),
    ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{instance=~\"$instance\", gpu=~\".*\"}", 8),
];

async fn node(collector: &Collector, faults: &str) -> Node {
    let node = Node::start(faults, &collector.address);
    collector.wait(PATIENCE, |seen: &Seen| seen.values("tensor_active_ratio").count() >= 16).await;
    node
}

fn dcgm(node: &Node) -> String {
    get(&node.address().expect("an address"), "/metrics/dcgm")
}

fn series<'a>(metrics: &'a str, name: &str) -> Vec<(&'a str, f64)> {
    let prefix = format!("{name}{{");
    let split = |line: &'a str| {
        let (labels, value) = line.strip_prefix(&prefix)?.split_once("} ")?;
        Some((labels, value.parse().ok()?))
    };
    metrics.lines().filter_map(split).collect()
}

#[tokio::test]
async fn the_default_set_is_there_with_its_labels_and_units() {
    let collector = Collector::start().await;
    let node = node(&collector, "[[fault]]\nkind = \"xid\"\nnode = 0\ngpu = 2\nvalue = 94\nstart = 1.0\n").await;
    let metrics = dcgm(&node);
    for name in NAMES {
        assert_eq!(series(&metrics, name).len(), 8, "{name}");
        assert!(metrics.contains(&format!("# HELP {name} ")) && metrics.contains(&format!("# TYPE {name} ")));
    }
    let (labels, watts) = series(&metrics, "DCGM_FI_DEV_POWER_USAGE")[2];
    let keys: Vec<&str> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
    assert_eq!(keys, ["gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "DCGM_FI_DRIVER_VERSION"]);
    for part in ["gpu=\"2\"", "device=\"nvidia2\"", "modelName=\"NVIDIA H100 80GB HBM3\"", "Hostname=\"testnode\""] {
        assert!(labels.contains(part), "{labels}");
    }
    assert!((100.0..700.0).contains(&watts));
    let own = series(&node.metrics(), "gridstep_gpu_energy_joules_total")[0].1;
    let joules = series(&metrics, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION")[0].1 / 1e3;
    assert!((own - joules).abs() < 1.0, "{own} {joules}");
    let of = |name| series(&metrics, name)[0].1;
    let all = of("DCGM_FI_DEV_FB_USED") + of("DCGM_FI_DEV_FB_FREE") + of("DCGM_FI_DEV_FB_RESERVED");
    assert!((all - 81_559.0).abs() <= 2.0, "{all}");
    let xids = series(&metrics, "DCGM_FI_DEV_XID_ERRORS");
    assert_eq!(xids.iter().map(|xid| xid.1).collect::<Vec<_>>(), [0.0, 0.0, 94.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert!(xids[2].0.ends_with("err_code=\"94\",err_msg=\"Contained ECC error\""), "{}", xids[2].0);
}

/// As with dcgm-exporter, a lost GPU has no series there; that it is lost stands under our own name.
#[tokio::test]
async fn a_lost_gpu_has_no_series_of_dcgm() {
    let collector = Collector::start().await;
    let node = node(&collector, "[[fault]]\nkind = \"lost_gpu\"\nnode = 0\ngpu = 5\nstart = 0.0\n").await;
    let metrics = dcgm(&node);
    let gpus: Vec<&str> = series(&metrics, "DCGM_FI_DEV_GPU_TEMP").iter().map(|row| &row.0[5..6]).collect();
    assert_eq!(gpus, ["0", "1", "2", "3", "4", "6", "7"]);
    assert!(node.metrics().lines().any(|line| line.starts_with("gridstep_gpu_up{gpu=\"5\"") && line.ends_with(" 0")));
}

/// A terminal dashboard over dcgm-exporter, of PyPI: its own parser of what that serves.
#[tokio::test]
async fn kempnerpulse_understands_it() {
    let collector = Collector::start().await;
    let node = node(&collector, "").await;
    let script = "import json, sys\nfrom kempnerpulse.reader.prometheus import load_source, parse_prometheus_records\n\
        records = parse_prometheus_records(load_source(sys.argv[1]))\nprint(json.dumps([record.fields for record in records]))";
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python");
    let url = format!("http://{}/metrics/dcgm", node.address().unwrap());
    let output = Command::new(python).args(["-c", script, &url]).output().expect("python: run `make deps`");
    let said = String::from_utf8_lossy(&output.stderr);
    let gpus: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(gpus.len(), 8);
    for gpu in &gpus {
        assert!(NAMES.iter().all(|name| gpu[name].is_number()), "{gpu}");
        assert!((100.0..700.0).contains(&gpu["DCGM_FI_DEV_POWER_USAGE"].as_f64().unwrap()), "{gpu}");
        assert_eq!(gpu["modelName"], "NVIDIA H100 80GB HBM3");
    }
}

#[tokio::test]
async fn grafanas_dashboard_12239_has_data() {
    let collector = Collector::start().await;
    let node = node(&collector, "").await;
    let agent = node.address().unwrap();
    let prometheus = Prometheus::start(&agent);
    let query = |expression: &str| prometheus.query(&expression.replace("$instance", &agent));
    let begun = Instant::now();
    while query(DASHBOARD[7].0).len() < 8 {
        assert!(begun.elapsed().as_secs_f64() < PATIENCE, "nothing is scraped");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (expression, count) in DASHBOARD {
        assert_eq!(query(expression).len(), count, "{expression}");
    }
    // Its variables: label_values(DCGM_FI_DEV_GPU_TEMP, instance) and (…, gpu).
    assert_eq!(prometheus.labels("instance"), [agent.as_str()]);
    assert_eq!(prometheus.labels("gpu"), ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

/// Debian's Prometheus, scraping one agent twice a second.
struct Prometheus {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(agent: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\nscrape_configs:\n\
            - {{ job_name: gpus, metrics_path: /metrics/dcgm, static_configs: [{{ targets: ['{agent}'] }}] }}\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg("--web.listen-address=127.0.0.1:0").stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let child = command.spawn().expect("prometheus: run deploy/test-deps.sh");
        let begun = Instant::now();
        let address = loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let line = text.lines().find(|line| line.contains("Listening on"));
            if let Some(address) = line.and_then(|line| line.rsplit("address=").next()).map(str::trim)
                && get(address, "/-/ready").contains("Ready")
            {
                break address.to_owned();
            }
            assert!(begun.elapsed().as_secs_f64() < PATIENCE, "{text}");
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { child, address, _folder: folder }
    }

    fn data(&self, path: &str) -> Value {
        let answer: Value = serde_json::from_str(&get(&self.address, path)).unwrap();
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    fn query(&self, expression: &str) -> Vec<Value> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.data(&format!("/api/v1/query?query={escaped}"))["result"].as_array().unwrap().clone()
    }

    fn labels(&self, name: &str) -> Vec<String> {
        serde_json::from_value(self.data(&format!("/api/v1/label/{name}/values?match[]=DCGM_FI_DEV_GPU_TEMP"))).unwrap()
    }
}
