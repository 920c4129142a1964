//! Which metrics stand together. By name, so that a new metric finds its place.

use super::OWN;
use gridstep_wire::catalog::{self, Metric};

/// Heads in the order in which they are shown, and what names of their metrics contain. The first that fits has the metric.
const GROUPS: [(&str, &[&str]); 8] = [
    ("errors", &["error", "ecc", "remap", "replay", "xid", "recovery", "retired"]),
    ("temperature", &["celsius", "thermal_margin"]),
    ("clocks", &["clock", "limited"]),
    ("activity", &["utilization", "active", "occupancy"]),
    ("power", &["power", "watts", "joules"]),
    ("links", &["pcie", "nvlink", "fabric"]),
    ("memory", &["hbm", "memory", "bar1"]),
    ("other", &[""]),
];
const SHOWN: [&str; 8] = ["power", "temperature", "memory", "clocks", "activity", "links", "errors", "other"];

/// Metrics of a GPU that the driver has to tell, by group.
pub(super) fn groups() -> impl Iterator<Item = (&'static str, Vec<&'static Metric>)> {
    let told = || (0..).zip(catalog::GPU).filter(|(id, _)| !OWN.contains(id)).map(|(_, metric)| metric);
    SHOWN.into_iter().map(move |group| (group, told().filter(|metric| group_of(metric.name) == group).collect()))
}

fn group_of(name: &str) -> &'static str {
    let fits = |words: &[&str]| words.iter().any(|word| name.contains(word));
    GROUPS.iter().find(|(_, words)| fits(words)).map_or("other", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_one_place() {
        let all: usize = groups().map(|(_, metrics)| metrics.len()).sum();
        assert_eq!(all, catalog::GPU.len() - OWN.len());
        let of = ["memory_temperature_celsius", "limited_power_seconds_total", "memory_utilization_ratio", "hbm_used_bytes"];
        assert_eq!(of.map(group_of), ["temperature", "clocks", "activity", "memory"]);
    }
}
