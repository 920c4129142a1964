//! **host** ─▶ batcher: CPU, memory, network and pressure of this node, once a second.

mod network;

use crate::reader::protocol::Part;
use gridstep_wire::catalog;
use network::Network;
use std::path::Path;
use std::time::Instant;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

pub struct Host {
    /// None: this platform tells nothing.
    system: Option<System>,
    network: Network,
    /// Total stall time of the CPU pressure file, microseconds, and when it was read.
    pressure: Option<(u64, Instant)>,
}

impl Default for Host {
    fn default() -> Self {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Self { system: System::new_with_specifics(kinds).ok(), network: Network::default(), pressure: None }
    }
}

impl Host {
    /// For [`catalog::NODE`]: places and integers, and the node's parts; what cannot be read is absent.
    pub fn read(&mut self) -> (Vec<(u32, i64)>, Vec<Part>) {
        let mut values = Vec::new();
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            values.push((const { id("cpu_utilization_ratio") }, (f64::from(system.global_cpu_usage()) * 100.0).round() as i64));
            values.push((const { id("memory_used_bytes") }, system.used_memory() as i64));
        }
        let now = Instant::now();
        if let Some(total) = stall_micros(&std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default())
            && let Some((before, at)) = self.pressure.replace((total, now))
        {
            let share = total.saturating_sub(before) as f64 / 1e6 / now.duration_since(at).as_secs_f64().max(1e-3);
            values.push((const { id("cpu_pressure_ratio") }, (share.min(1.0) * 1e4).round() as i64));
        }
        let (network, interfaces) = self.network.read(Path::new("/proc"), Path::new("/sys"), now);
        values.extend(network);
        (values, interfaces)
    }
}

const fn id(name: &str) -> u32 {
    catalog::index(catalog::NODE, name)
}

/// `total=` of the `some` line of a pressure file, microseconds.
fn stall_micros(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some"))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        assert_eq!(stall_micros("some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull total=9\n"), Some(1234));
    }
}
