//! What the reader reads of a GPU, and what it does not believe.

use crate::PATIENCE;
use crate::collector::{Collector, Seen};
use crate::metrics::value;
use crate::node::{Node, library, scenario};
use gridstep_agent::reader::protocol::{Frame, Sweep};
use gridstep_wire::catalog::{self, Subject};
use prost::Message;
use std::path::Path;
use std::process::Command;

/// What a reader finds in a world, over a library: its last frame has everything. Links are busy.
pub(crate) fn measured(library: &Path, faults: &str, arguments: &[&str]) -> Frame {
    let folder = tempfile::tempdir().unwrap();
    let environment = scenario(folder.path(), faults);
    let world = std::fs::read_to_string(&environment[0].1).unwrap();
    let world = world.replace("sm_active = 0.92\n", "sm_active = 0.92\nnvlink_gib_s = 100\npcie_gib_s = 60\n");
    std::fs::write(&environment[0].1, world).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridstep-agent"));
    command.args(["reader", "--measure", "--nvml-library"]).arg(library).args(arguments);
    let output = command.envs(environment).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut rest = output.stdout.as_slice();
    let mut last = Frame::default();
    while !rest.is_empty() {
        last = Frame::decode_length_delimited(&mut rest).expect("frames");
    }
    last
}

/// A metric of a sweep, in its unit.
pub(crate) fn read(sweep: &Sweep, name: &str) -> Option<f64> {
    let id = catalog::index(catalog::GPU, name);
    let place = sweep.metrics.iter().position(|metric| *metric == id)?;
    Some(catalog::GPU[id as usize].value(sweep.values[place]))
}

/// Why a sweep has no value of a metric.
pub(crate) fn missing<'a>(sweep: &'a Sweep, name: &str) -> Option<&'a str> {
    let id = catalog::index(catalog::GPU, name);
    sweep.missing.iter().find(|missing| missing.metric == id).map(|missing| missing.why.as_str())
}

#[test]
fn each_link_is_read_by_itself() {
    let fault = "[[fault]]\nkind = \"nvlink_errors\"\nnode = 0\ngpu = 1\nvalue = 1e5\nstart = 0.0\n";
    let frame = measured(library(), fault, &[]);
    for sweep in &frame.sweeps {
        let links: Vec<_> = sweep.parts.iter().filter(|part| part.subject == Subject::Nvlink as u32).collect();
        assert_eq!(links.len(), 18);
        let of = |name: &str| {
            let id = catalog::index(catalog::NVLINK, name);
            links
                .iter()
                .map(|part| part.values[part.metrics.iter().position(|metric| *metric == id).unwrap()])
                .collect::<Vec<_>>()
        };
        assert!(of("up").iter().all(|up| *up == 1) && of("speed_bytes_per_second").iter().all(|speed| *speed == 26_562));
        assert!(of("sent_bytes_total").iter().all(|bytes| *bytes > 0));
        // One cable is bad.
        assert_eq!(of("replays_total").iter().filter(|replays| **replays > 10_000).count(), usize::from(sweep.gpu == 1));
        assert_eq!(of("replays_total").iter().sum::<i64>() as f64, read(sweep, "nvlink_errors_total").unwrap());
        assert_eq!(of("recoveries_total").iter().sum::<i64>(), 0);
    }
}

/// The driver counts PCIe bytes to 4 GiB, which is less than goes over the bus between two readings.
#[test]
fn counters_that_wrap_count_on() {
    const GIB: f64 = (1u64 << 30) as f64;
    let frame = measured(library(), "gpus_per_node = 1\n", &[]);
    // Nine times between ten readings, each of at least 150 ms.
    for name in ["pcie_sent_bytes_total", "pcie_received_bytes_total"] {
        let bytes = read(&frame.sweeps[0], name).unwrap();
        assert!(bytes > 9.0 * 4.0 * GIB, "{name} is {} GiB", bytes / GIB);
    }
}

/// NVIDIA renumbered the fields of power smoothing and of the reasons twice; an H100 has no power smoothing.
#[test]
fn renumbered_fields_are_those_of_the_driver() {
    let thermal = "[[fault]]\nkind = \"thermal\"\nnode = 0\ndepth = 0.1\nstart = 0.0\n";
    for (driver, reasons) in [("570.86.15", false), ("575.51.03", true), ("580.65.06", true), ("580.95.05", true)] {
        let world = format!("driver_version = \"{driver}\"\npower_smoothing = true\ngpus_per_node = 1\n{thermal}");
        let frame = measured(library(), &world, &[]);
        let sweep = &frame.sweeps[0];
        assert_eq!(read(sweep, "power_smoothing_ceiling_watts"), Some(700.0), "{driver}");
        assert_eq!(read(sweep, "power_smoothing_lifetime_ratio"), Some(1.0), "{driver}");
        assert_eq!(read(sweep, "power_smoothing_enabled"), Some(0.0), "{driver}");
        assert_eq!(read(sweep, "limited_thermal_seconds_total").is_some_and(|seconds| seconds > 1.0), reasons, "{driver}");
        assert_eq!(read(sweep, "limited_brake_seconds_total"), reasons.then_some(0.0), "{driver}");
    }
}

#[test]
fn a_metric_that_the_driver_does_not_know_costs_no_other() {
    let frame = measured(library(), "gpm_unknown = [12, 61]\n", &[]);
    for sweep in &frame.sweeps {
        assert_eq!(read(sweep, "gpm_state"), Some(1.0));
        assert_eq!(read(sweep, "fp32_active_ratio"), None);
        assert_eq!(read(sweep, "nvlink_sent_bytes_per_second"), None);
        for name in ["sm_active_ratio", "fp64_active_ratio", "fp16_active_ratio", "nvlink_received_bytes_per_second"] {
            assert!(read(sweep, name).is_some(), "{name} is missing");
        }
    }
}

#[test]
fn performance_monitoring_can_be_left_to_others() {
    let frame = measured(library(), "", &["--no-gpm"]);
    assert!(frame.costs.iter().all(|cost| !cost.call.starts_with("nvmlGpm")));
    for sweep in &frame.sweeps {
        assert_eq!(read(sweep, "gpm_state"), Some(0.0));
        assert!(missing(sweep, "sm_active_ratio").unwrap().contains("reader.gpm"));
        assert!(read(sweep, "temperature_celsius").is_some());
    }
}

#[tokio::test]
async fn refused_performance_monitoring_is_said_and_comes_back() {
    let collector = Collector::start().await;
    let node = Node::start("[[fault]]\nkind = \"gpm_held\"\nnode = 0\ngpu = 2\nstart = 0.0\nend = 6.0\n", &collector.address);
    node.says("refuses performance monitoring", 1).await;
    collector.wait(PATIENCE, |seen| seen.values("sm_active_ratio").count() >= 7).await;
    let metrics = node.metrics();
    let of = |metrics: &str, name: &str, gpu: u32| {
        let start = format!("gridstep_gpu_{name}{{gpu=\"{gpu}\"");
        metrics.lines().find(|line| line.starts_with(&start))?.rsplit(' ').next()?.parse::<f64>().ok()
    };
    assert_eq!([1, 2].map(|gpu| of(&metrics, "gpm_state", gpu)), [Some(1.0), Some(2.0)]);
    assert_eq!([1, 2].map(|gpu| of(&metrics, "sm_active_ratio", gpu).is_some()), [true, false]);
    assert_eq!([1, 2].map(|gpu| of(&metrics, "gpm_refusals_total", gpu)), [Some(0.0), Some(1.0)]);
    // It is tried again in every tenth sweep.
    collector.wait(2.0 * PATIENCE, |seen| seen.values("sm_active_ratio").any(|row| row.0 == 3)).await;
    node.says("performance monitoring is back", 1).await;
}

#[tokio::test]
async fn what_no_board_can_show_is_dropped_and_counted() {
    let collector = Collector::start().await;
    let node = Node::start("[[fault]]\nkind = \"blank\"\nnode = 0\ngpu = 1\nstart = 2.0\nend = 6.0\n", &collector.address);
    for metric in
        ["power_watts", "power_average_watts", "temperature_celsius", "memory_temperature_celsius", "energy_joules_total"]
    {
        let series = format!("gridstep_agent_implausible_readings_total{{metric=\"{metric}\"}}");
        node.shows(&series, |count| count >= 1.0).await;
    }
    let after = |seen: &Seen, name: &str| {
        let end = ((seen.start() + 6.5) * 1e6) as i64;
        seen.values(name).any(|row| row.0 == 2 && row.1 > end)
    };
    let seen = collector.wait(PATIENCE, |seen| after(seen, "power_watts") && after(seen, "energy_joules_total")).await;
    assert!(seen.values("power_watts").all(|row| row.2 < 2_100_000));
    assert!(seen.values("temperature_celsius").all(|row| row.2 < 150));
    assert!(seen.event("gpu_lost", 2).is_none());
}

#[tokio::test]
async fn a_counter_that_begins_anew_is_believed() {
    let collector = Collector::start().await;
    let node = Node::start("[[fault]]\nkind = \"counter_reset\"\nnode = 0\ngpu = 1\nstart = 4.0\n", &collector.address);
    let energy = |seen: &Seen| seen.values("energy_joules_total").filter(|row| row.0 == 2).map(|row| row.2).collect::<Vec<_>>();
    let fell = |seen: &Seen| energy(seen).windows(2).position(|pair| pair[1] < pair[0]);
    let seen = collector.wait(PATIENCE, |seen| fell(seen).is_some_and(|at| energy(seen).len() > at + 3)).await;
    let rows = energy(&seen);
    assert!(rows[fell(&seen).unwrap() + 1..].windows(2).all(|pair| pair[1] > pair[0]), "{rows:?}");
    let series = "gridstep_agent_implausible_readings_total{metric=\"energy_joules_total\"}";
    assert_eq!(value(&node.metrics(), series), None);
}

#[tokio::test]
async fn what_hardly_changes_is_sent_when_it_is_read() {
    let collector = Collector::start().await;
    let node = Node::start("", &collector.address);
    let rows = |seen: &Seen, name: &str| seen.values(name).filter(|row| row.0 == 1).count();
    let seen = collector.wait(2.0 * PATIENCE, |seen| rows(seen, "temperature_celsius") >= 13).await;
    let slow = rows(&seen, "power_limit_max_watts");
    assert!((2..=3).contains(&slow), "{slow} of {}", rows(&seen, "temperature_celsius"));
    // It stays at /metrics in between.
    let metrics = node.metrics();
    assert_eq!(metrics.lines().filter(|line| line.starts_with("gridstep_gpu_power_limit_max_watts{")).count(), 8);
    assert_eq!(metrics.lines().filter(|line| line.starts_with("gridstep_nvlink_up{")).count(), 8 * 18);
}

#[tokio::test]
async fn events_beside_xids_are_told() {
    let collector = Collector::start().await;
    let faults = "[[fault]]\nkind = \"ecc_uncorrected\"\nnode = 0\ngpu = 3\nvalue = 1\nstart = 3.0\nend = 5.0\n\
        [[fault]]\nkind = \"xid\"\nnode = 0\ngpu = 3\nvalue = 48\nstart = 3.0\nend = 9.0\n";
    let node = Node::start(faults, &collector.address);
    collector.wait(PATIENCE, |seen| seen.event("ecc_double_bit", 4).is_some() && seen.event("xid", 4).is_some()).await;
    let shown = |line: &&str| line.starts_with("gridstep_gpu_xids_by_code_total{gpu=\"3\"") && line.ends_with("xid=\"48\"} 1");
    assert_eq!(node.metrics().lines().filter(shown).count(), 1, "{}", node.metrics());
}
