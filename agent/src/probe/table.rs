//! A report for a person: a row for each metric, a column for each GPU.

use super::{GpuReport, OWN, Report};
use gridstep_wire::catalog::{self, Metric};
use std::collections::BTreeMap;
use std::fmt::Write;

pub(super) fn text(report: &Report) -> String {
    let mut out = format!("driver {}, NVML {}\n\n", report.driver_version, report.nvml_version);
    for gpu in &report.gpus {
        let line = format!("GPU {}  {}  {}  {}", gpu.index, gpu.model, gpu.uuid, gpu.pci_bus_id);
        let _ = writeln!(out, "{}", line.trim_end());
        if let Some(fault) = &gpu.fault {
            let _ = writeln!(out, "       does not answer: {fault}");
        }
    }
    if report.gpus.is_empty() {
        out.push_str("no GPU\n");
    }
    out.push('\n');
    out.push_str(&grid(&metrics(&report.gpus)));
    out.push_str(&missing(&report.gpus));
    out.push_str("\nnode\n");
    let node = catalog::NODE.iter().filter_map(|metric| Some(row(metric, [report.node.get(metric.name)?].map(Some))));
    out.push_str(&grid(&node.collect::<Vec<_>>()));
    let head = ["call", "count", "min µs", "median µs", "max µs"].map(String::from).to_vec();
    let calls = report.calls.iter().map(|call| {
        let [min, median, max] = [call.min_us, call.median_us, call.max_us].map(|value| format!("{value:.1}"));
        vec![call.call.clone(), call.count.to_string(), min, median, max]
    });
    out.push('\n');
    out.push_str(&grid(&[head].into_iter().chain(calls).collect::<Vec<_>>()));
    out
}

fn metrics(gpus: &[GpuReport]) -> Vec<Vec<String>> {
    let answering: Vec<&GpuReport> = gpus.iter().filter(|gpu| gpu.fault.is_none()).collect();
    let head = ["metric", "unit"].map(String::from).into_iter();
    let head = head.chain(answering.iter().map(|gpu| format!("GPU {}", gpu.index))).collect();
    let metrics = (0..).zip(catalog::GPU).filter(|(id, _)| !OWN.contains(id));
    let rows = metrics.map(|(_, metric)| row(metric, answering.iter().map(|gpu| gpu.metrics.get(metric.name))));
    [head].into_iter().chain(rows).collect()
}

fn row<'a>(metric: &Metric, values: impl IntoIterator<Item = Option<&'a f64>>) -> Vec<String> {
    let value = |value: Option<&f64>| value.map_or_else(|| "-".into(), |value| shown(metric, *value));
    [metric.name.to_owned(), unit(metric).to_owned()].into_iter().chain(values.into_iter().map(value)).collect()
}

/// Reasons, each with the metrics and GPUs that it holds for.
fn missing(gpus: &[GpuReport]) -> String {
    let mut reasons: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for gpu in gpus {
        for (metric, why) in &gpu.missing {
            reasons.entry((metric, why)).or_default().push(gpu.index.to_string());
        }
    }
    let mut out = String::new();
    for ((metric, why), indices) in &reasons {
        let _ = writeln!(out, "no {metric} on GPU {}: {why}", indices.join(", "));
    }
    out
}

fn unit(metric: &Metric) -> &'static str {
    match metric.unit {
        "By" => "GiB",
        "By/s" => "MiB/s",
        "Cel" => "°C",
        "1" => "",
        unit => unit,
    }
}

fn shown(metric: &Metric, value: f64) -> String {
    match metric.unit {
        "By" => format!("{:.2}", value / f64::from(1 << 30)),
        "By/s" => format!("{:.1}", value / f64::from(1 << 20)),
        _ if metric.name == "clocks_event_reasons" => format!("{:#x}", value as u64),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        // Errors of a clock are small.
        _ if metric.unit == "s" => format!("{value:.6}"),
        _ => format!("{value:.2}"),
    }
}

/// Columns as wide as they have to be: the first to the left, numbers to the right.
fn grid(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, &width))| if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
            .collect();
        let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_stand_beside_each_other_and_gaps_are_explained() {
        let gpu = |index, watts| GpuReport { index, metrics: BTreeMap::from([("power_watts", watts)]), ..GpuReport::default() };
        let mut second = gpu(1, 98.25);
        second.missing.insert("sm_clock_mhz", "not supported".into());
        let lost = GpuReport { index: 2, fault: Some("gone".into()), ..GpuReport::default() };
        let report = Report { gpus: vec![gpu(0, 700.0), second, lost], ..Report::default() };
        let text = text(&report);
        let row = text.lines().find(|line| line.contains("power_watts")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["power_watts", "W", "700", "98.25"]);
        assert!(text.contains("does not answer: gone"), "{text}");
        assert!(text.contains("no sm_clock_mhz on GPU 1: not supported"), "{text}");
        assert!(!text.contains("GPU 2  GPU"), "{text}");
    }
}
