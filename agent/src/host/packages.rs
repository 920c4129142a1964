//! Power of the CPU packages, from their energy counters (RAPL). Since Linux 5.10 only root may read them: docs/host.md.

use super::reading::{Moment, Reading, node};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Looks without a package between two searches for one.
const SEARCH_EVERY: u32 = 60;

#[derive(Debug, Default)]
pub(super) struct Packages {
    looks: u32,
    zones: Vec<Zone>,
    before: Option<Moment>,
    said: bool,
}

#[derive(Debug)]
struct Zone {
    energy: PathBuf,
    /// The counter goes back to 0 after this, microjoules.
    range_uj: u64,
    before_uj: Option<u64>,
}

impl Packages {
    /// Their power since the look before.
    pub(super) fn read(&mut self, sys: &Path, now: Moment) -> Vec<Reading> {
        if self.zones.is_empty() {
            if self.looks.is_multiple_of(SEARCH_EVERY) {
                self.zones = zones(sys);
            }
            self.looks = self.looks.wrapping_add(1);
        }
        let joules = match self.zones.iter_mut().map(Zone::joules).collect::<Result<Vec<_>, _>>() {
            Ok(joules) => joules.into_iter().sum::<Option<f64>>(),
            Err(error) => {
                self.give_up(&error);
                return Vec::new();
            }
        };
        let before = self.before.replace(now);
        let (Some(joules), Some(before), false) = (joules, before, self.zones.is_empty()) else { return Vec::new() };
        let mut reading = Reading::over(before, now);
        reading.put(node("cpu_power_watts"), (joules / now.seconds_since(before) * 1e3).round() as i64);
        vec![reading]
    }

    /// Until the next search; said once.
    fn give_up(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.said, true) {
            let file = self.zones.first().map(|zone| zone.energy.display().to_string());
            tracing::info!(file, %error, "power of the CPUs is not read: the agent's user needs leave to read the file (docs/host.md)");
        }
        (self.zones, self.before, self.looks) = (Vec::new(), None, 1);
    }
}

impl Zone {
    /// Used since the time before; None: there was none.
    fn joules(&mut self) -> io::Result<Option<f64>> {
        let text = fs::read_to_string(&self.energy)?;
        let now: u64 = text.trim().parse().map_err(io::Error::other)?;
        let used = |before: u64| if now >= before { now - before } else { self.range_uj.saturating_sub(before) + now };
        let used = self.before_uj.map(used);
        self.before_uj = Some(now);
        Ok(used.map(|microjoules| microjoules as f64 / 1e6))
    }
}

/// The packages. Zones of a package (core, dram) are left out, as are those of the same packages over another path
/// (intel-rapl-mmio). AMD's processors have the same names.
fn zones(sys: &Path) -> Vec<Zone> {
    let Ok(entries) = fs::read_dir(sys.join("class/powercap")) else { return Vec::new() };
    let text = |path: &Path, file: &str| fs::read_to_string(path.join(file)).ok().map(|text| text.trim().to_owned());
    let zone = |path: PathBuf| {
        let top = path.file_name()?.to_str()?.strip_prefix("intel-rapl:")?;
        if top.contains(':') || !text(&path, "name")?.starts_with("package") {
            return None;
        }
        let range_uj = text(&path, "max_energy_range_uj")?.parse().ok()?;
        Some(Zone { energy: path.join("energy_uj"), range_uj, before_uj: None })
    };
    entries.flatten().filter_map(|entry| zone(entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;
    use std::time::Duration;

    #[test]
    fn energy_becomes_power_over_a_wrap_and_of_packages_only() {
        let root = tree(&[
            ("class/powercap/intel-rapl:0/name", "package-0\n"),
            ("class/powercap/intel-rapl:0/energy_uj", "1000000\n"),
            ("class/powercap/intel-rapl:0/max_energy_range_uj", "900000000\n"),
            ("class/powercap/intel-rapl:1/name", "package-1\n"),
            ("class/powercap/intel-rapl:1/energy_uj", "800000000\n"),
            ("class/powercap/intel-rapl:1/max_energy_range_uj", "900000000\n"),
            ("class/powercap/intel-rapl:0:0/name", "dram\n"),
            ("class/powercap/intel-rapl:2/name", "psys\n"),
            ("class/powercap/intel-rapl-mmio:0/name", "package-0\n"),
        ]);
        let mut packages = Packages::default();
        let start = Moment::now();
        assert!(packages.read(root.path(), start).is_empty());
        fs::write(root.path().join("class/powercap/intel-rapl:0/energy_uj"), "301000000\n").unwrap();
        fs::write(root.path().join("class/powercap/intel-rapl:1/energy_uj"), "100000000\n").unwrap();
        let later = Moment { at: start.at + Duration::from_secs(2), ..start };
        let readings = packages.read(root.path(), later);
        assert_eq!(readings[0].values, [(node("cpu_power_watts"), 250_000)]);
    }

    #[test]
    fn what_may_not_be_read_is_absent() {
        let root = tree(&[
            ("class/powercap/intel-rapl:0/name", "package-0\n"),
            ("class/powercap/intel-rapl:0/max_energy_range_uj", "900\n"),
        ]);
        let mut packages = Packages::default();
        assert!(packages.read(root.path(), Moment::now()).is_empty());
        assert!(packages.read(root.path(), Moment::now()).is_empty());
    }
}
