//! A report for a person: what is to be known first, then a row for each metric with a column for each GPU.

use super::groups::groups;
use super::paint::{Cell, Paper, Tone};
use super::{GpuReport, Parts, Report};
use gridstep_wire::catalog::{self, Metric, Subject};
use gridstep_wire::pb::metric::Kind;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Letters that a metric's name may have where room is scarce.
const NAME: usize = 26;
const GIB: f64 = 1_073_741_824.0;
const MIB: f64 = 1_048_576.0;

pub(super) fn text(report: &Report, paper: &Paper) -> String {
    let mut out = String::new();
    let mut models: Vec<&str> = report.gpus.iter().map(|gpu| gpu.model.as_str()).filter(|model| !model.is_empty()).collect();
    models.dedup();
    if let [model] = models[..] {
        let _ = writeln!(out, "{}", paper.paint(model, Tone::Head));
    }
    for gpu in &report.gpus {
        let model = if models.len() > 1 { format!("{}  ", gpu.model) } else { String::new() };
        let line = format!("GPU {}  {model}{}  {}", gpu.index, gpu.uuid, gpu.pci_bus_id);
        let _ = writeln!(out, "{}", paper.wrapped(line.trim_end(), 7));
        if let Some(fault) = &gpu.fault {
            let _ = writeln!(out, "{}", paper.paint(&format!("       does not answer: {fault}"), Tone::Alarm));
        }
    }
    if report.gpus.is_empty() {
        out.push_str("no GPU\n");
    }
    out.push('\n');
    for check in &report.checks {
        let (mark, tone) = if check.ok { ("ok  ", Tone::Good) } else { ("look", Tone::Alarm) };
        let line = paper.wrapped(&format!("{mark} {:<10}{}", check.name, check.text), 15);
        let _ = writeln!(out, "{}{}", paper.paint(mark, tone), &line[mark.len()..]);
    }
    out.push('\n');
    out.push_str(&metrics(&report.gpus, paper));
    out.push_str(&missing(&report.gpus, paper));
    let node = catalog::NODE.iter().filter_map(|metric| Some(row(metric, false, [report.node.get(metric.name)?].map(Some))));
    let _ = write!(out, "\n{}\n{}", paper.paint("node", Tone::Head), paper.grid(&node.collect::<Vec<_>>()));
    for (kind, parts) in &report.parts {
        out.push_str(&parts_of_node(kind, parts, paper));
    }
    let head = ["call", "count", "min µs", "median µs", "max µs"].map(|title| Cell::new(title, Tone::Head)).to_vec();
    let calls = report.calls.iter().map(|call| {
        let took = [call.min_us, call.median_us, call.max_us].map(|value| format!("{value:.1}"));
        [call.call.clone(), call.count.to_string()].into_iter().chain(took).map(|text| Cell::new(text, Tone::Plain)).collect()
    });
    out.push('\n');
    out.push_str(&paper.grid(&[head].into_iter().chain(calls).collect::<Vec<_>>()));
    out
}

/// GPUs beside each other: with names and figures in full if there is room, else in short, and in as many tables as it takes.
fn metrics(gpus: &[GpuReport], paper: &Paper) -> String {
    let answering: Vec<&GpuReport> = gpus.iter().filter(|gpu| gpu.fault.is_none()).collect();
    let mut most = answering.len();
    loop {
        let tables = |short| answering.chunks(most.max(1)).map(|gpus| table(gpus, short)).collect::<Vec<_>>();
        for short in [false, true] {
            let tables = tables(short);
            if tables.iter().all(|table| paper.fits(table)) || short && most <= 1 {
                return tables.iter().map(|table| paper.grid(table)).collect::<Vec<_>>().join("\n");
            }
        }
        most = most.div_ceil(2);
    }
}

fn table(gpus: &[&GpuReport], short: bool) -> Vec<Vec<Cell>> {
    let head = |gpu: &&GpuReport| if short { gpu.index.to_string() } else { format!("GPU {}", gpu.index) };
    let titles = if short { ["GPU", ""] } else { ["metric", "unit"] };
    let titles = titles.map(String::from).into_iter().chain(gpus.iter().map(head));
    let mut rows = vec![titles.map(|title| Cell::new(title, Tone::Head)).collect()];
    for (group, metrics) in groups() {
        let told = metrics.into_iter().filter(|metric| gpus.iter().any(|gpu| gpu.metrics.contains_key(metric.name)));
        let mut of_group: Vec<Vec<Cell>> =
            told.map(|metric| row(metric, short, gpus.iter().map(|gpu| gpu.metrics.get(metric.name)))).collect();
        if group == "links" {
            of_group.extend(links(gpus, short));
        }
        if !of_group.is_empty() {
            rows.push(vec![Cell::new(group, Tone::Head)]);
            rows.extend(of_group);
        }
    }
    rows
}

/// All NVLinks of a GPU together: sums of counters and traffic, the smallest of everything else.
fn links(gpus: &[&GpuReport], short: bool) -> Vec<Vec<Cell>> {
    let kind = Subject::Nvlink.name();
    let summary = |gpu: &&GpuReport, metric: &Metric| {
        let values = gpu.parts.get(kind)?.values().filter_map(|link| link.get(metric.name).copied());
        match metric.kind {
            Kind::Counter => values.reduce(|sum, value| sum + value),
            _ if metric.unit.ends_with("/s") => values.reduce(|sum, value| sum + value),
            _ => values.reduce(f64::min),
        }
    };
    let row_of = |metric: &'static Metric| {
        let values: Vec<Option<f64>> = gpus.iter().map(|gpu| summary(gpu, metric)).collect();
        if values.iter().all(Option::is_none) {
            return None;
        }
        let mut cells = row(metric, short, values.iter().map(Option::as_ref));
        let name = format!("nvlinks: {}", cells[0].text);
        cells[0].text = if short { name.chars().take(NAME).collect() } else { name };
        Some(cells)
    };
    catalog::NVLINK.iter().filter_map(row_of).collect()
}

fn parts_of_node(kind: &str, parts: &Parts, paper: &Paper) -> String {
    let Some(subject) = Subject::ALL.into_iter().find(|subject| subject.name() == kind) else { return String::new() };
    let head = |names: &[&String]| {
        let titles = [kind.to_owned(), String::new()].into_iter().chain(names.iter().map(|name| (*name).clone()));
        titles.map(|title| Cell::new(title, Tone::Head)).collect::<Vec<_>>()
    };
    let names: Vec<&String> = parts.keys().collect();
    let mut out = String::new();
    for names in names.chunks(4) {
        let rows =
            subject.metrics().iter().map(|metric| row(metric, true, names.iter().map(|name| parts[*name].get(metric.name))));
        let table: Vec<_> = [head(names)].into_iter().chain(rows).collect();
        let _ = write!(out, "\n{}", paper.grid(&table));
    }
    out
}

fn row<'a>(metric: &Metric, short: bool, values: impl IntoIterator<Item = Option<&'a f64>>) -> Vec<Cell> {
    let cell = |value: Option<&f64>| match value {
        None => Cell::new("-", Tone::Dim),
        Some(&value) => Cell::new(if short { brief(metric, value) } else { shown(metric, value) }, tone(metric, value)),
    };
    let (name, unit) = if short { (label(metric), brief_unit(metric)) } else { (metric.name.to_owned(), unit(metric)) };
    let head = [Cell::new(name, Tone::Plain), Cell::new(unit, Tone::Dim)];
    head.into_iter().chain(values.into_iter().map(cell)).collect()
}

/// What should be zero and is not.
fn tone(metric: &Metric, value: f64) -> Tone {
    let faults = ["uncorrected", "remap_pending", "remap_failed", "recovery_action", "errors_total"];
    if value > 0.0 && faults.iter().any(|fault| metric.name.contains(fault)) { Tone::Alarm } else { Tone::Plain }
}

/// Reasons, each with the metrics and GPUs that it holds for.
fn missing(gpus: &[GpuReport], paper: &Paper) -> String {
    let mut of_metric: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for gpu in gpus {
        for (metric, why) in &gpu.missing {
            of_metric.entry((metric, why)).or_default().push(gpu.index.to_string());
        }
    }
    let mut together: BTreeMap<(Vec<String>, &str), Vec<&str>> = BTreeMap::new();
    for ((metric, why), indices) in of_metric {
        together.entry((indices, why)).or_default().push(metric);
    }
    let mut out = String::new();
    for ((indices, why), metrics) in &together {
        let line = format!("no {} on GPU {}: {why}", metrics.join(", "), indices.join(", "));
        let _ = writeln!(out, "{}", paper.wrapped(&line, 3));
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
        "By" => format!("{:.2}", value / GIB),
        "By/s" => format!("{:.1}", value / MIB),
        _ if metric.name == "clocks_event_reasons" => format!("{:#x}", value as u64),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        // Errors of a clock are small.
        _ if metric.unit == "s" => format!("{value:.6}"),
        _ => format!("{value:.2}"),
    }
}

/// The name without what the unit says too.
fn label(metric: &Metric) -> String {
    let name = metric.name.trim_end_matches("_total");
    let units =
        ["_bytes_per_second", "_bits_per_second", "_watts", "_celsius", "_bytes", "_ratio", "_mhz", "_joules", "_seconds"];
    let name = units.iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name);
    match name.chars().count() {
        0..=NAME => name.to_owned(),
        _ => name.chars().take(NAME - 1).chain(['…']).collect(),
    }
}

fn brief_unit(metric: &Metric) -> &'static str {
    match metric.unit {
        "1" if metric.name.ends_with("_ratio") => "%",
        "By/s" => "B/s",
        "By" if metric.kind == Kind::Counter => "B",
        "By" => "GiB",
        "bit/s" => "b/s",
        "Cel" => "°C",
        "1" => "",
        unit => unit,
    }
}

/// At most four letters, five with a sign.
fn brief(metric: &Metric, value: f64) -> String {
    if metric.name == "clocks_event_reasons" {
        return format!("{:x}h", value as u64);
    }
    if metric.name.ends_with("_ratio") {
        let digits = usize::from(value > 0.0 && value < 0.095);
        return format!("{:.digits$}", value * 100.0);
    }
    let value = if brief_unit(metric) == "GiB" { value / GIB } else { value };
    let (value, power) = match value.abs() {
        v if v >= 9.9995e11 => (value / 1e12, "T"),
        v if v >= 9.9995e8 => (value / 1e9, "G"),
        v if v >= 9.9995e5 => (value / 1e6, "M"),
        v if v >= 9999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        v if v.fract() == 0.0 && power.is_empty() || v >= 99.95 => 0,
        v if v >= 9.995 => usize::from(power.is_empty()),
        _ if power.is_empty() => 2,
        _ => 1,
    };
    format!("{value:.digits$}{power}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paper = Paper { width: None, colours: false };

    fn gpu(index: u32, watts: f64) -> GpuReport {
        GpuReport { index, metrics: BTreeMap::from([("power_watts", watts)]), ..GpuReport::default() }
    }

    #[test]
    fn gpus_stand_beside_each_other_and_gaps_are_explained() {
        let mut second = gpu(1, 98.25);
        second.missing.insert("sm_clock_mhz", "not supported".into());
        let lost = GpuReport { index: 2, fault: Some("gone".into()), ..GpuReport::default() };
        let report = Report { gpus: vec![gpu(0, 700.0), second, lost], ..Report::default() };
        let text = text(&report, &PLAIN);
        let row = text.lines().find(|line| line.contains("power_watts")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["power_watts", "W", "700", "98.25"]);
        assert!(text.contains("does not answer: gone"), "{text}");
        assert!(text.contains("no sm_clock_mhz on GPU 1: not supported"), "{text}");
        assert!(!text.contains("GPU 2  GPU"), "{text}");
    }

    #[test]
    fn eight_gpus_fit_eighty_columns() {
        let full = |index| {
            let value = |metric: &Metric| match metric.name {
                "clocks_event_reasons" => 256.0,
                name if name.ends_with("_ratio") => 0.5,
                _ => 123_456.789,
            };
            let values = catalog::GPU.iter().map(|metric| (metric.name, value(metric)));
            GpuReport { index, metrics: values.collect(), ..GpuReport::default() }
        };
        let report = Report { gpus: (0..8).map(full).collect(), ..Report::default() };
        let text = text(&report, &Paper { width: Some(80), colours: false });
        let wide = text.lines().find(|line| line.chars().count() > 80);
        assert!(wide.is_none(), "{wide:?}");
        assert_eq!(text.lines().filter(|line| line.trim_start().starts_with("energy ")).count(), 1, "one table: {text}");
    }

    #[test]
    fn figures_in_short_have_four_letters() {
        let watts = &catalog::GPU[catalog::index(catalog::GPU, "power_watts") as usize];
        let of = [0.0, 5.25, 71.26, 345.1, 1965.0, 12_345.6, 76_235_194_368.0, 999_960.0].map(|value| brief(watts, value));
        assert_eq!(of, ["0", "5.25", "71.3", "345", "1965", "12k", "76G", "1.0M"]);
        let of = |name, value| brief(&catalog::GPU[catalog::index(catalog::GPU, name) as usize], value);
        assert_eq!(of("hbm_used_bytes", 76_235_194_368.0), "71.0");
        assert_eq!([0.0, 0.0081, 0.18, 1.0].map(|share| of("sm_active_ratio", share)), ["0", "0.8", "18", "100"]);
    }
}
