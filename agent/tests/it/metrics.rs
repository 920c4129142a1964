//! `/metrics` of the real agent.

use crate::collector::{Collector, Seen};
use crate::node::Node;
use crate::{PATIENCE, power_rows};

/// The value of a series, by its name and labels as shown.
pub(crate) fn value(metrics: &str, series: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

fn energy(metrics: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with("gridstep_gpu_energy_joules_total{gpu=\"0\""))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn counters_outlive_a_reader() {
    let collector = Collector::start().await;
    let node = Node::start("", &collector.address);
    let swept = |seen: &Seen| seen.values("energy_joules_total").count() >= 8;
    collector.wait(PATIENCE, |seen| swept(seen) && power_rows(seen) > 50).await;
    let before = energy(&node.metrics()).expect("energy is shown");
    node.signal_reader("-KILL");
    let seen = collector.wait(PATIENCE, |seen| seen.event("driver_back", 0).is_some()).await;
    let rows = seen.values("energy_joules_total").count();
    collector.wait(PATIENCE, |seen| seen.values("energy_joules_total").count() >= rows + 8).await;
    let metrics = node.metrics();
    assert!(energy(&metrics).expect("energy is shown again") > before);
    assert_eq!(value(&metrics, "gridstep_agent_reader_restarts_total"), Some(1.0));
}

/// Names end in `_total` where the type is counter, and only there; everything has a help text.
#[tokio::test]
async fn types_follow_names() {
    let collector = Collector::start().await;
    let node = Node::start("", &collector.address);
    let seen = |seen: &Seen| seen.values("sm_active_ratio").count() >= 8 && seen.values("network_bytes_per_second").count() > 0;
    collector.wait(PATIENCE, seen).await;
    let metrics = node.metrics();
    let types: Vec<(&str, &str)> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(types.len() > 40, "{metrics}");
    for (name, kind) in types {
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(metrics.lines().any(|line| line.starts_with(&format!("# HELP {name} "))), "{name} has no help");
    }
    assert!(value(&metrics, "gridstep_node_clock_error_seconds").is_some());
    let described = include_str!("../../../docs/metrics.md");
    for name in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(described.contains(&format!("`{name}`")), "docs/metrics.md does not have {name}");
    }
}
