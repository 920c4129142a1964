//! Two simulated nodes with real agents, one GPU of which overheats; a real collector, Prometheus and Alertmanager: what we ship
//! for those is held against it.

use super::alertmanager::Alertmanager;
use super::prometheus::Prometheus;
use super::receiver::Receiver;
use super::{PATIENCE, dashboard};
use crate::collector::get_from;
use gridstep_collector::server::Server;
use gridstep_wire::Micros;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds of scenario time at which the GPU overheats.
const ONSET: f64 = 15.0;
const SCENARIO: &str = r#"
seed = 405
nodes = 2
# Fewer could not be told from chance: their common swing shows by its square root only.
gpus_per_node = 16

[[job]]
name = "llama3-405b"
node_count = 2
start = 4.0
[[job.phase]]
kind = "compute"
seconds = 2.25
watts = 580.0
sm_active = 0.92
[[job.phase]]
kind = "communicate"
seconds = 0.75
watts = 240.0
sm_active = 0.2

[[fault]]
kind = "thermal"
node = 1
gpu = 3
start = 15.0
depth = 0.2
"#;

pub(crate) struct Agents {
    http: Vec<SocketAddr>,
    children: Vec<Child>,
}

impl Drop for Agents {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What `make build` has built beside the collector.
fn built(names: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_gridstep-collector")).parent().unwrap();
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{}/{} is not there: run `make build`", folder.display(), names[0]))
}

impl Agents {
    pub(crate) fn start(folder: &Path, collector: SocketAddr, start: f64, text: &str) -> Self {
        let scenario = folder.join("scenario.toml");
        std::fs::write(&scenario, text).unwrap();
        let library = built(&["libgridstep_simulator.so", "deps/libgridstep_simulator.so"]);
        let mut agents = Self { http: Vec::new(), children: Vec::new() };
        for node in 0..2 {
            let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let config = format!(
                "node = \"node{node:05}\"\n[uplink]\nendpoint = \"http://{collector}\"\n[reader]\nnvml_library = \"{}\"\n\
                 [jobs]\ncommand = [\"{}\", \"job\"]\nperiod = \"1s\"\n[http]\nlisten = \"{http}\"\n",
                library.display(),
                built(&["gridstep-demo"]).display()
            );
            let file = folder.join(format!("agent{node}.toml"));
            std::fs::write(&file, config).unwrap();
            let log = std::fs::File::create(folder.join(format!("agent{node}.log"))).unwrap();
            let mut command = Command::new(built(&["gridstep-agent"]));
            command.args(["run", "--config"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            command.env("GRIDSTEP_SIM_SCENARIO", &scenario).env("GRIDSTEP_SIM_NODE", node.to_string());
            command.env("GRIDSTEP_SIM_START", start.to_string());
            agents.children.push(command.spawn().unwrap());
            agents.http.push(http);
        }
        agents
    }
}

#[tokio::test]
async fn what_we_ship_works_on_a_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let alertmanager = Alertmanager::start(&receiver.address.to_string(), &[]).await;
    let mut config = crate::collector::config(&folder.path().join("state"));
    config.edge.alerts.alertmanager =
        super::config(folder.path(), &[format!("http://{}", alertmanager.address)]).edge.alerts.alertmanager;
    let topology = folder.path().join("topology.csv");
    std::fs::write(&topology, "node,rack,feeder\nnode00000,r0,f0\nnode00001,r0,f0\n").unwrap();
    config.edge.topology = Some(topology);
    let server = Server::start(config).await.unwrap();
    let start = Micros::now().seconds() + 1.0;
    let agents = Agents::start(folder.path(), server.grpc, start, SCENARIO);
    let prometheus = Prometheus::start(server.http, &agents.http).await;

    let straggler =
        [("alertname", "GridstepStraggler"), ("node", "node00001"), ("gpu", "3"), ("job", "llama3-405b"), ("severity", "page")];
    let told = alertmanager.alerts_until(&straggler, |alerts| alerts.len() == 1).await;
    println!(
        "in Alertmanager {:.1} s after the onset: {}",
        Micros::now().seconds() - start - ONSET,
        told[0]["annotations"]["summary"]
    );

    check_expressions(&prometheus).await;
    check_names(&prometheus).await;
    check_rules(&prometheus).await;
    check_metrics("the collector's", &get_from(server.http, "/metrics").await);
    check_metrics("the agent's", &get_from(agents.http[0], "/metrics").await);
    server.stop().await.unwrap();
}

/// Every expression of the dashboard returns data.
async fn check_expressions(prometheus: &Prometheus) {
    let begun = Instant::now();
    for (panel, expression) in dashboard::expressions() {
        let mut count = 0;
        while count == 0 {
            count = prometheus.query(&expression).await.len();
            if dashboard::is_rare(&panel) {
                break;
            }
            assert!(count > 0 || begun.elapsed() < PATIENCE, "{panel}: no data from {expression}");
            if count == 0 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        println!("{count:3} series  {panel}: {expression}");
    }
}

/// Every metric that the rules and the dashboard name is there.
async fn check_names(prometheus: &Prometheus) {
    let names = prometheus.names().await;
    for name in dashboard::metrics() {
        assert!(names.contains(&name), "{name} is not exported: {names:#?}");
    }
}

/// Prometheus alerts of the straggler under the same name, once; and of nothing that is not so.
async fn check_rules(prometheus: &Prometheus) {
    let begun = Instant::now();
    let firing =
        "ALERTS{alertname=\"GridstepStraggler\", severity=\"page\", hpc_job=\"llama3-405b\", node=\"node00001\", gpu=\"3\"}";
    while prometheus.query(firing).await.len() != 1 {
        assert!(begun.elapsed() < PATIENCE, "{firing}: {:#?}", prometheus.query("ALERTS").await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let blind =
        prometheus.query("ALERTS{alertname!~\"GridstepStraggler|GridstepPowerSwing|GridstepJob\", alertstate=\"firing\"}").await;
    assert!(blind.is_empty(), "{blind:#?}");
}

/// As `promtool check metrics` wants them.
fn check_metrics(whose: &str, text: &str) {
    let mut child =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{whose}: {}", String::from_utf8_lossy(&output.stderr));
}
