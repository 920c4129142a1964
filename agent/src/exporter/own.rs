//! The agent itself: which one it is, and what it and its readers cost, looked up when somebody scrapes.

use super::readings::{Readings, family, label, number};
use gridstep_wire::Micros;
use gridstep_wire::pb::metric::Kind;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, MetricFamily};
use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, OnceLock};

/// The kernel tells CPU time in these units, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

const INFO: (&str, &str) = ("gridstep_agent_info", "always 1: which node this is, and what reads it");
const INFO_LABELS: [&str; 3] = ["node", "version", "driver_version"];
const CPU: (&str, &str) = ("gridstep_agent_cpu_seconds_total", "CPU time of the agent and all its readers");
const STARTED: (&str, &str) = ("gridstep_agent_start_timestamp_seconds", "when the agent's process started, Unix time");
const RESIDENT: (&str, &str) =
    ("gridstep_agent_resident_bytes", "memory of the agent and its reader that is resident; what they share counts twice");

#[derive(Clone)]
pub(super) struct Own {
    descs: Arc<[Desc]>,
    node: Arc<OnceLock<String>>,
    readings: Readings,
}

impl Own {
    pub(super) fn new(readings: Readings) -> prometheus::Result<Self> {
        let desc = |(name, help): (&str, &str), labels: &[&str]| {
            Desc::new(name.into(), help.into(), labels.iter().map(|&label| label.into()).collect(), HashMap::new())
        };
        let descs = Arc::new([desc(INFO, &INFO_LABELS)?, desc(CPU, &[])?, desc(RESIDENT, &[])?, desc(STARTED, &[])?]);
        started();
        Ok(Self { descs, node: Arc::default(), readings })
    }

    /// The node's name, as the site uses it.
    pub(super) fn name(&self, node: &str) {
        let _ = self.node.set(node.into());
    }
}

impl Collector for Own {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let node = self.node.get().cloned().unwrap_or_default();
        let values = [node, env!("CARGO_PKG_VERSION").into(), self.readings.lock().driver_version.clone()];
        let labels = INFO_LABELS.into_iter().zip(values).map(|(name, value)| label(name, value)).collect();
        let mut families = vec![one(INFO, Kind::Gauge, labels, 1.0), one(STARTED, Kind::Gauge, Vec::new(), started())];
        if let Some(usage) = Usage::now() {
            families.push(one(CPU, Kind::Counter, Vec::new(), usage.ticks as f64 / TICKS_PER_SECOND));
            families.push(one(RESIDENT, Kind::Gauge, Vec::new(), usage.resident_bytes as f64));
        }
        families
    }
}

/// Unix seconds of when this was asked for first in this process, which a reload does not end.
fn started() -> f64 {
    static STARTED: OnceLock<f64> = OnceLock::new();
    *STARTED.get_or_init(|| Micros::now().0 as f64 / 1e6)
}

fn one((name, help): (&str, &str), kind: Kind, labels: Vec<LabelPair>, value: f64) -> MetricFamily {
    family(name, help, kind, vec![number(kind, labels, value)])
}

#[derive(Debug, Default)]
struct Usage {
    ticks: u64,
    resident_bytes: u64,
}

impl Usage {
    /// Of this process and its children; CPU time of those that have ended too.
    fn now() -> Option<Self> {
        let (own, reaped) = ticks("self")?;
        let mut usage = Self { ticks: own + reaped, resident_bytes: resident_bytes("self")? };
        for child in children() {
            usage.ticks += ticks(&child).map_or(0, |ticks| ticks.0);
            usage.resident_bytes += resident_bytes(&child).unwrap_or(0);
        }
        Some(usage)
    }
}

/// Process ids of this process' children.
fn children() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(String::from).collect::<Vec<_>>()).collect()
}

/// CPU time of a process, and of its children that have ended (proc_pid_stat(5)).
fn ticks(process: &str) -> Option<(u64, u64)> {
    ticks_in(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

fn ticks_in(stat: &str) -> Option<(u64, u64)> {
    // The name in parentheses may have any characters; the first field behind it is the third.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(14 - 3);
    let mut pair = || Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?);
    Some((pair()?, pair()?))
}

fn resident_bytes(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_anything_in_it() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 99 0 0 0 50 25 3 4 20 0 1 0 100 1000000 12 18446744073709551615";
        assert_eq!(ticks_in(stat), Some((75, 7)));
        assert!(resident_bytes("self") > Some(100_000));
    }

    #[test]
    fn a_child_is_counted_while_it_runs() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        assert!(children().contains(&child.id().to_string()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children().contains(&child.id().to_string()));
    }
}
