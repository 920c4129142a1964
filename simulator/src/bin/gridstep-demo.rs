//! The demo: a real collector and sixteen real agents over the simulated driver, on this machine.
//!
//! It shows what is flagged as it is flagged, and at its end compares that with what the scenario made.

use anyhow::{Context, bail};
use gridstep_simulator::scenario::{FaultKind, Scenario};
use gridstep_simulator::world::World;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// First port of the agents' own /metrics.
const AGENT_PORT: u16 = 19_820;
const PAGE: &str = "http://127.0.0.1:19811/";
/// Between two looks at the incidents.
const LOOK: Duration = Duration::from_secs(1);
/// A collector that was killed is started again after this time.
const RESTART: Duration = Duration::from_secs(5);
/// Seconds within which straggler and swing must be flagged.
const PROMISED: f64 = 60.0;

/// What one run of the demo holds; whatever it started ends with it.
struct Demo {
    folder: PathBuf,
    programs: PathBuf,
    agents: Vec<Child>,
    /// None: killed, and not started again yet.
    collector: Option<Child>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        for child in self.agents.iter_mut().chain(&mut self.collector) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "job") {
        return print_job();
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `gridstep-demo job`: what the agents' `[jobs] command` prints.
fn print_job() -> ExitCode {
    let scenario = std::env::var("GRIDSTEP_SIM_SCENARIO").ok().and_then(|path| Scenario::load(Path::new(&path)).ok());
    let node = std::env::var("GRIDSTEP_SIM_NODE").ok().and_then(|node| node.parse().ok()).unwrap_or(0);
    let start: f64 = std::env::var("GRIDSTEP_SIM_START").ok().and_then(|start| start.parse().ok()).unwrap_or(0.0);
    let t = unix() - start;
    let Some(scenario) = scenario else { return ExitCode::FAILURE };
    if let Some(job) = World::new(scenario).job_at(node, t) {
        println!("{}", job.name);
    }
    ExitCode::SUCCESS
}

fn run() -> anyhow::Result<bool> {
    let seconds: Option<f64> = match std::env::var("DEMO_SECONDS") {
        Ok(text) => Some(text.parse().with_context(|| format!("DEMO_SECONDS = {text:?}: must be a number of seconds"))?),
        Err(_) => None,
    };
    let own = std::env::current_exe()?;
    let programs = own.parent().context("where the demo lies")?.to_owned();
    let scenario_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/demo.toml");
    let scenario = Scenario::load(&scenario_file).context("reading the demo's scenario")?;
    let folder = std::env::temp_dir().join(format!("gridstep-demo-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("state"))?;
    let mut demo = Demo { folder, programs, agents: Vec::new(), collector: None };
    let start = unix().ceil() + 1.0;
    demo.configure_collector(&scenario)?;
    demo.start_collector()?;
    for node in 0..scenario.nodes {
        demo.start_agent(node, &scenario_file, start)?;
    }
    let gpus = scenario.nodes * scenario.gpus_per_node;
    println!("gridstep demo: {} nodes, {gpus} simulated H100s, one collector", scenario.nodes);
    println!(
        "  page      {PAGE}\n  API       {PAGE}api/v1/incidents\n  metrics   {PAGE}metrics and http://127.0.0.1:{AGENT_PORT}/metrics"
    );
    println!("  folder    {}\n", demo.folder.display());
    let last = demo.watch(start, seconds)?;
    Ok(judge(&scenario, start, &last))
}

impl Demo {
    fn configure_collector(&self, scenario: &Scenario) -> anyhow::Result<()> {
        let mut topology = String::from("node,rack,feeder\n");
        for node in 0..scenario.nodes {
            topology += &format!("{},rack{:04},feeder{}\n", Scenario::node_name(node), node / 4, node / 8);
        }
        std::fs::write(self.folder.join("topology.csv"), topology)?;
        let folder = self.folder.display();
        let watts = f64::from(scenario.nodes * scenario.gpus_per_node) * 700.0;
        let config = format!(
            "state_dir = \"{folder}/state\"\ntopology = \"{folder}/topology.csv\"\n\n[power.limits]\ncontracted_watts = {watts:.1}\n"
        );
        Ok(std::fs::write(self.folder.join("collector.toml"), config)?)
    }

    fn start_collector(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(self.programs.join("gridstep-collector"));
        command.args(["run", "--config"]).arg(self.folder.join("collector.toml"));
        self.collector = Some(self.spawn(command, "collector")?);
        Ok(())
    }

    /// Does what a service manager would: a collector that was killed is started again, one that gave up ends the demo.
    fn keep_collector(&mut self, t: f64) -> anyhow::Result<()> {
        let Some(child) = &mut self.collector else { return Ok(()) };
        let Some(status) = child.try_wait()? else { return Ok(()) };
        if status.signal().is_none() {
            let log = std::fs::read_to_string(self.folder.join("collector.log")).unwrap_or_default();
            bail!("the collector ended ({status}):\n{log}");
        }
        println!("t={t:5.1} s  the collector was killed ({status}); it is started again in {} s", RESTART.as_secs());
        self.collector = None;
        std::thread::sleep(RESTART);
        // Unless somebody else has done so.
        if self.incidents().is_none() { self.start_collector() } else { Ok(()) }
    }

    fn start_agent(&mut self, node: u32, scenario: &Path, start: f64) -> anyhow::Result<()> {
        let name = Scenario::node_name(node);
        let library = ["libgridstep_simulator.so", "deps/libgridstep_simulator.so"].map(|file| self.programs.join(file));
        let library =
            library.into_iter().find(|path| path.exists()).context("the simulated driver is not built: run `make build`")?;
        let own = self.programs.join("gridstep-demo");
        let config = format!(
            "node = \"{name}\"\n[reader]\nnvml_library = \"{}\"\n[jobs]\ncommand = [\"{}\", \"job\"]\nperiod = \"2s\"\n[http]\nlisten = \"127.0.0.1:{}\"\n",
            library.display(),
            own.display(),
            AGENT_PORT + node as u16
        );
        let file = self.folder.join(format!("{name}.toml"));
        std::fs::write(&file, config)?;
        let mut command = Command::new(self.programs.join("gridstep-agent"));
        command.args(["run", "--config"]).arg(&file);
        command
            .env("GRIDSTEP_SIM_SCENARIO", scenario)
            .env("GRIDSTEP_SIM_NODE", node.to_string())
            .env("GRIDSTEP_SIM_START", start.to_string());
        let agent = self.spawn(command, &name)?;
        self.agents.push(agent);
        Ok(())
    }

    fn spawn(&self, mut command: Command, name: &str) -> anyhow::Result<Child> {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join(format!("{name}.log")))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let program = command.get_program().to_string_lossy().into_owned();
        child.with_context(|| format!("starting {program}"))
    }

    /// Prints what opens and how it is refined, until the time is over. Gives the incidents' last state, and when (scenario
    /// seconds) this demo saw each first.
    fn watch(&mut self, start: f64, seconds: Option<f64>) -> anyhow::Result<BTreeMap<String, (f64, Value)>> {
        let begun = Instant::now();
        let mut known: BTreeMap<String, (f64, Value)> = BTreeMap::new();
        while seconds.is_none_or(|seconds| begun.elapsed().as_secs_f64() < seconds) {
            self.keep_collector(unix() - start)?;
            for incident in self.incidents().unwrap_or_default() {
                let id = incident["id"].as_str().unwrap_or_default().to_owned();
                let now = unix() - start;
                let seen = known.get(&id);
                let news = seen.is_none_or(|(_, old)| old["cause"] != incident["cause"] || old["state"] != incident["state"]);
                if news {
                    let what = if seen.is_none() { "opened" } else { incident["state"].as_str().unwrap_or("revised") };
                    let field = |name: &str| incident[name].as_str().unwrap_or("").to_owned();
                    println!("t={now:5.1} s  {what:<7} {:<8} {:<11} {}", field("severity"), field("kind"), field("summary"));
                }
                let first = seen.map_or(now, |(first, _)| *first);
                known.insert(id, (first, incident));
            }
            std::thread::sleep(LOOK);
        }
        Ok(known)
    }

    /// As the collector's own command tells them; None: it does not answer.
    fn incidents(&self) -> Option<Vec<Value>> {
        let output =
            Command::new(self.programs.join("gridstep-collector")).args(["incidents", "--json"]).stderr(Stdio::null()).output();
        let output = output.ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout);
        Some(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// Compares with what the scenario made; false where something promised is missing.
fn judge(scenario: &Scenario, start: f64, incidents: &BTreeMap<String, (f64, Value)>) -> bool {
    println!();
    let mut good = true;
    let mut check = |holds: bool, text: String| {
        println!("{} {text}", if holds { "ok    " } else { "MISSED" });
        good &= holds;
    };
    for fault in scenario.faults.iter().filter(|fault| fault.kind == FaultKind::Thermal) {
        let node = Scenario::node_name(fault.node);
        let found = incidents.values().find(|(_, incident)| {
            incident["kind"] == "straggler"
                && incident["subject"]["node"] == node.as_str()
                && incident["subject"]["gpu"] == serde_json::json!(fault.gpu)
        });
        let cause = found.map_or("nothing".into(), |(_, incident)| incident["cause"].to_string());
        let after = found.map_or(f64::NAN, |(seen, _)| seen - fault.start);
        let gpu = fault.gpu.map_or_else(|| "(all GPUs)".to_owned(), |gpu| format!("GPU {gpu}"));
        let text = format!("straggler {node} {gpu}: made thermal, found {cause}, {after:.0} s after its onset");
        check(cause == "\"thermal\"" && after <= PROMISED, text);
    }
    if let Some(job) = scenario.jobs.first() {
        let period = job.step_seconds();
        let made = mean_watts(scenario, start, job.start + period, job.start + 2.0 * period)
            - mean_watts(scenario, start, job.start - period.min(job.start), job.start);
        let found = incidents.values().find(|(_, incident)| incident["cause"] == "step_up");
        let watts = found.and_then(|(_, incident)| incident["magnitude"]["delta_watts"].as_f64()).unwrap_or(f64::NAN);
        let off = 100.0 * (watts / made - 1.0);
        check(off.abs() <= 5.0, format!("power step: made {:.1} kW, found {:.1} kW ({off:+.1} %)", made / 1e3, watts / 1e3));
    }
    let strays =
        incidents.values().filter(|(_, incident)| incident["kind"] == "straggler").count().saturating_sub(scenario.faults.len());
    check(strays == 0, format!("{strays} stragglers that the scenario did not make"));
    good
}

/// Mean of all boards' power between two scenario times, watts.
fn mean_watts(scenario: &Scenario, _start: f64, from: f64, to: f64) -> f64 {
    let world = World::new(scenario.clone());
    let gpus = (0..scenario.nodes).flat_map(|node| world.node(node));
    gpus.map(|gpu| (gpu.energy_joules(to) - gpu.energy_joules(from)) / (to - from)).sum()
}

fn unix() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
