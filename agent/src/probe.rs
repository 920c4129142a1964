//! `probe`: what this machine tells, why not more, and what asking costs. A [reader](crate::reader) asks the driver, so that a
//! call that hangs costs a GPU its rows, and not the probe its end.

mod checks;
mod groups;
mod paint;
mod table;

use crate::child;
use crate::clock::Clock;
use crate::host::Host;
use crate::reader::protocol::{Cost, Frame, Gpu, Hung, Inventory, Part};
use anyhow::{Context, bail};
use checks::Check;
use gridstep_wire::catalog::{self, Metric};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A call that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(2);
/// Opening many boards takes a driver this long at most, and so does reading one GPU whose calls all but hang.
const PATIENCE: Duration = Duration::from_secs(60);
/// The host's rates need two readings.
const APART: Duration = Duration::from_millis(200);

const POWER: u32 = catalog::index(catalog::GPU, "power_watts");
/// How often a reader reads everything when it measures.
const ROUNDS: u32 = 10;
/// Not the driver's to tell.
const OWN: [u32; 5] = [
    catalog::index(catalog::GPU, "up"),
    catalog::index(catalog::GPU, "job"),
    catalog::index(catalog::GPU, "xids_total"),
    catalog::index(catalog::GPU, "xid_last"),
    catalog::index(catalog::GPU, "xid_last_timestamp_seconds"),
];

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    driver_version: String,
    nvml_version: String,
    gpus: Vec<GpuReport>,
    /// What is well and what is not.
    checks: Vec<Check>,
    /// Of the node itself, by name.
    node: BTreeMap<&'static str, f64>,
    /// Of the node, by kind.
    parts: BTreeMap<&'static str, Parts>,
    calls: Vec<CallReport>,
}

/// Metrics of parts of one kind, by the part's name.
type Parts = BTreeMap<String, BTreeMap<&'static str, f64>>;

#[derive(Debug, Default, Serialize)]
struct GpuReport {
    index: u32,
    uuid: String,
    model: String,
    pci_bus_id: String,
    /// What is wrong with the GPU as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// In the catalog's units.
    metrics: BTreeMap<&'static str, f64>,
    /// Why there is no value.
    missing: BTreeMap<&'static str, String>,
    /// By kind: links.
    parts: BTreeMap<&'static str, Parts>,
}

/// Microseconds that a call took.
#[derive(Debug, Serialize)]
struct CallReport {
    call: String,
    count: usize,
    min_us: f64,
    median_us: f64,
    max_us: f64,
}

pub fn run(library: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(probe(library));
    runtime.shutdown_background();
    let report = report?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", table::text(&report, &paint::Paper::stdout()));
    }
    Ok(())
}

async fn probe(library: Option<&Path>) -> anyhow::Result<Report> {
    let mut host = Host::new(Path::new("/"), None);
    host.read(&Clock::read());
    tokio::time::sleep(APART).await;
    // What is read aside is there when the driver has been measured.
    host.finished();
    host.read_all(&Clock::read());
    let mut report = Report::default();
    let mut hung = BTreeMap::new();
    let mut known: BTreeMap<u32, Gpu> = BTreeMap::new();
    let frame = loop {
        let mut inventory = Inventory::default();
        let end = measure(library, hung.keys(), &mut inventory).await?;
        report.driver_version = inventory.driver_version;
        report.nvml_version = inventory.nvml_version;
        known.extend(inventory.gpus.into_iter().map(|gpu| (gpu.index, gpu)));
        match end {
            Ok(frame) => break frame,
            // Once more without it.
            Err(Hung { gpu: Some(gpu), call }) => drop(hung.insert(gpu, call)),
            Err(Hung { gpu: None, call }) => bail!("the driver hangs: {call} has not returned within {DEADLINE:?}"),
        }
    };
    for &gpu in hung.keys().chain(&frame.lost) {
        known.entry(gpu).or_insert_with(|| Gpu { index: gpu, ..Gpu::default() });
    }
    host.finished();
    report.node = node(&host);
    report.parts = parts(host.latest().flat_map(|reading| &reading.parts));
    report.gpus = known.into_values().map(|gpu| gpu_report(gpu, &frame, &hung)).collect();
    report.calls = frame.costs.into_iter().filter_map(call_report).collect();
    report.calls.sort_by(|a, b| b.median_us.total_cmp(&a.median_us));
    report.checks = checks::checks(&report, ROUNDS);
    Ok(report)
}

/// What a reader found in all GPUs but those to `skip`, or the call that hung.
async fn measure<'a>(
    library: Option<&Path>,
    skip: impl Iterator<Item = &'a u32>,
    inventory: &mut Inventory,
) -> anyhow::Result<Result<Frame, Hung>> {
    let mut command = child::command(library).context("starting a reader")?;
    command.arg("--measure").arg("--deadline-ms").arg(DEADLINE.as_millis().to_string());
    for gpu in skip {
        command.arg("--skip-gpu").arg(gpu.to_string());
    }
    // Dropped, it is killed and not waited for.
    let (_child, mut frames) = child::spawn(command).context("starting a reader")?;
    loop {
        let next = tokio::time::timeout(PATIENCE, frames.next()).await;
        let Ok(frame) = next else { bail!("the driver has not answered within {PATIENCE:?}") };
        let Some(frame) = frame.context("reading what the reader writes")? else { bail!("the reader ended early") };
        if !frame.waiting.is_empty() {
            bail!("no driver answers: {}", frame.waiting);
        }
        if let Some(hung) = frame.hung {
            return Ok(Err(hung));
        }
        if !frame.costs.is_empty() {
            return Ok(Ok(frame));
        }
        if let Some(found) = frame.inventory {
            *inventory = found;
        }
    }
}

fn node(host: &Host) -> BTreeMap<&'static str, f64> {
    let values = host.latest().flat_map(|reading| &reading.values);
    values.map(|(id, value)| named(&catalog::NODE[*id as usize], *value)).collect()
}

fn parts<'a>(read: impl IntoIterator<Item = &'a Part>) -> BTreeMap<&'static str, Parts> {
    let mut parts: BTreeMap<_, Parts> = BTreeMap::new();
    for part in read {
        let Some(subject) = part.subject() else { continue };
        let metrics = subject.metrics();
        let values =
            part.metrics.iter().zip(&part.values).filter_map(|(id, value)| Some(named(metrics.get(*id as usize)?, *value)));
        parts.entry(subject.name()).or_default().insert(part.name.clone(), values.collect());
    }
    parts
}

fn named(metric: &'static Metric, value: i64) -> (&'static str, f64) {
    (metric.name, metric.value(value))
}

fn gpu_report(gpu: Gpu, frame: &Frame, hung: &BTreeMap<u32, String>) -> GpuReport {
    let index = gpu.index;
    let lost = frame.lost.contains(&index).then(|| "the driver has lost it".to_owned());
    let fault = hung.get(&index).map(|call| format!("{call} has not returned within {DEADLINE:?}")).or(lost);
    let mut metrics = BTreeMap::new();
    let mut missing = BTreeMap::new();
    if let Some(power) = frame.power.iter().find(|power| power.gpu == index) {
        metrics.extend([named(&catalog::GPU[POWER as usize], i64::from(power.milliwatts))]);
    }
    if let Some(sweep) = frame.sweeps.iter().find(|sweep| sweep.gpu == index) {
        let values = sweep.metrics.iter().zip(&sweep.values).filter(|(id, _)| !OWN.contains(id));
        metrics.extend(values.map(|(id, value)| named(&catalog::GPU[*id as usize], *value)));
        missing.extend(sweep.missing.iter().map(|metric| (catalog::GPU[metric.metric as usize].name, metric.why.clone())));
    }
    let parts = frame.sweeps.iter().find(|sweep| sweep.gpu == index).map(|sweep| parts(&sweep.parts)).unwrap_or_default();
    GpuReport { index, uuid: gpu.uuid, model: gpu.model, pci_bus_id: gpu.pci_bus_id, fault, metrics, missing, parts }
}

fn call_report(cost: Cost) -> Option<CallReport> {
    let mut took = cost.microseconds;
    took.sort_by(f64::total_cmp);
    let (min_us, max_us) = (*took.first()?, *took.last()?);
    Some(CallReport { call: cost.call, count: took.len(), min_us, median_us: took[took.len() / 2], max_us })
}
