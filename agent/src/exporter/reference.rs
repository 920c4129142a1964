//! docs/metrics.md is what the code has. Without `CI` in the environment a difference is also mended.

use super::{Metrics, readings};
use crate::reader::PowerSource;
use crate::reader::protocol::Pace;
use gridstep_wire::catalog::{Metric, Rate, Subject};
use gridstep_wire::pb::metric::Kind;
use std::fmt::Write;
use std::path::Path;

const HEAD: &str = "\
# Metrics

Every series at the agent's `/metrics`, by what it is about. The same metrics go to the collector, under their names without `gridstep_` and the
subject. This file is written by a test from what the code has (`wire/src/catalog/`, `agent/src/exporter.rs`); what it says of a GPU's metrics is
also what `gridstep-agent probe` shows of this machine, with a reason where there is no value.

* A metric that could not be read has no series: the driver does not have it, the board does not, or the GPU does not answer. A reading that no
  board can show is dropped and counted (`agent/src/reader/plausible.rs` has the bounds).
* **rate**: how often it is read and sent. Power 10 times a second (`reader.power_period`), a *sweep* once a second (`reader.sweep_period`), what
  is *slow* in every tenth sweep, GPUs one after the other; `/metrics` keeps the last value.
* **kind**: a *counter* only grows but for a reset; a *state* is an integer whose values have names, or a setting; a *gauge* is all else.
* Units are base units; a ratio is from 0 to 1 and has no unit.
* Field ids (`NVML_FI_…`) are read by one batched `nvmlDeviceGetFieldValues`, GPM (`NVML_GPM_…`) by one `nvmlGpmMetricsGet`. The names of
  dcgm-exporter are at `/metrics/dcgm` ([dcgm.md](dcgm.md)).
";

/// Heading of a subject, and labels of its series.
fn about(subject: Subject) -> (&'static str, &'static str) {
    match subject {
        Subject::Gpu => ("A GPU", "`gpu` (NVML's index), `uuid`; `gridstep_gpu_up` has the `reason` why it is down"),
        Subject::Node => ("The node", "none"),
        Subject::Nvlink => ("An NVLink of a GPU", "`gpu`, `uuid`, `nvlink` (its number)"),
        Subject::Port => ("An InfiniBand or RoCE port", "`port`"),
        Subject::Interface => ("A network interface", "`interface`"),
        Subject::Disk => ("A disk", "`disk`"),
    }
}

fn unit(metric: &Metric) -> &'static str {
    match metric.unit {
        "1" => "",
        "By" => "bytes",
        "By/s" => "bytes/s",
        "Cel" => "°C",
        unit => unit,
    }
}

fn row(out: &mut String, subject: Subject, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::State => "state",
        Kind::Gauge | Kind::Unspecified => "gauge",
    };
    let rate = match metric.rate {
        Rate::Power => "power",
        Rate::Sweep => "sweep",
        Rate::Slow => "slow",
    };
    let (name, unit, help) = (metric.name, unit(metric), metric.help.replace('|', "\\|"));
    let source = metric.source;
    let _ = writeln!(out, "| `gridstep_{}_{name}` | {unit} | {kind} | {rate} | {help} | {source} |", subject.name());
}

/// The agent's own series, with those that come with their first event.
fn own(out: &mut String) {
    let metrics = Metrics::new().expect("the metrics are sound");
    metrics.implausible(0);
    metrics.pace(&Pace { source: PowerSource::Field.name().into(), ..Pace::default() });
    metrics.spool.of("first");
    let text = metrics.text();
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').expect("a name and a help");
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect("a type");
        let series = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
        let labels = series.and_then(|series| series.split_once('{')?.1.split_once('}')).map_or("", |labels| labels.0);
        let labels: Vec<&str> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
        let _ = writeln!(out, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
}

fn document() -> String {
    let mut out = HEAD.to_owned();
    for subject in Subject::ALL.into_iter().filter(|subject| !subject.metrics().is_empty()) {
        let (title, labels) = about(subject);
        let _ = write!(
            out,
            "\n## {title}\n\nLabels: {labels}.\n\n| name | unit | kind | rate | what | from |\n|---|---|---|---|---|---|\n"
        );
        subject.metrics().iter().filter(|metric| metric.name != "job").for_each(|metric| row(&mut out, subject, metric));
        if subject == Subject::Gpu {
            let (name, help) = readings::XIDS;
            let _ = writeln!(
                out,
                "| `{name}` | | counter | sweep | {help} (label `xid`; beyond 32 codes of a GPU: `other`) | nvmlEventSetWait_v2 |"
            );
        }
    }
    out.push_str("\n## The agent itself\n\n| name | kind | labels | what |\n|---|---|---|---|\n");
    own(&mut out);
    out
}

#[test]
fn the_document_is_what_the_code_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let fresh = document();
    if std::fs::read_to_string(&path).unwrap_or_default() == fresh {
        return;
    }
    if std::env::var_os("CI").is_none() {
        std::fs::write(&path, fresh).expect("the document is written");
    }
    panic!("docs/metrics.md did not match the code; run `cargo test -p gridstep-agent --lib reference` and commit what it wrote");
}
