//! `probe`: one sweep of this machine for a person to read.

use crate::reader::sweep::{self, Driver, Reading};
use gridstep_wire::catalog;
use std::path::Path;
use std::time::{Duration, Instant};

/// Two sweeps a little apart: rates need two samples.
const APART: Duration = Duration::from_millis(250);

pub fn run(library: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let hint = "is the NVIDIA driver installed and loaded? --nvml-library names another library";
    let nvml = sweep::init(library).map_err(|error| anyhow::anyhow!("opening NVML: {error} ({hint})"))?;
    let mut driver = Driver::new(&nvml, &[], Default::default());
    let inventory = driver.inventory();
    let mut report = Vec::new();
    for gpu in 0..driver.count() {
        driver.read(gpu, true);
    }
    std::thread::sleep(APART);
    for gpu in &inventory.gpus {
        let started = Instant::now();
        let reading = driver.read(gpu.index, true);
        report.push((gpu, reading, started.elapsed()));
    }
    for (gpu, reading, cost) in report {
        let rows = rows(&reading);
        if json {
            let metrics: serde_json::Map<_, _> =
                rows.iter().map(|(name, value, _)| ((*name).into(), serde_json::json!(value))).collect();
            let line = serde_json::json!({ "gpu": gpu.index, "uuid": gpu.uuid, "model": gpu.model, "metrics": metrics, "cost_seconds": cost.as_secs_f64() });
            println!("{line}");
            continue;
        }
        println!(
            "GPU {} {} {} (driver {}), read in {:.1} ms",
            gpu.index,
            gpu.model,
            gpu.uuid,
            inventory.driver_version,
            cost.as_secs_f64() * 1e3
        );
        for (name, value, unit) in rows {
            match value {
                Some(value) => println!("  {name:<32} {value:>20} {unit}"),
                None => println!("  {name:<32} {:>20}", "not supported"),
            }
        }
    }
    Ok(())
}

fn rows(reading: &Reading) -> Vec<(&'static str, Option<f64>, &'static str)> {
    let (power, sweep) = match reading {
        Reading::Values { power, sweep } => (power.as_ref(), sweep.as_ref()),
        Reading::Lost | Reading::Skipped => (None, None),
    };
    let value = |index: usize, metric: &catalog::Metric| {
        if metric.name == "power_watts" {
            return power.map(|power| f64::from(power.milliwatts) / 1e3);
        }
        let sweep = sweep?;
        let place = sweep.metrics.iter().position(|&known| known as usize == index)?;
        Some(sweep.values[place] as f64 * 10f64.powi(metric.exponent))
    };
    let metrics = catalog::GPU.iter().enumerate().filter(|(_, metric)| metric.name != "job");
    metrics.map(|(index, metric)| (metric.name, value(index, metric), metric.unit)).collect()
}
