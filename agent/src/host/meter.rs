//! Power of the whole node, from the meter that its firmware shows (ACPI, docs of the kernel: hwmon/acpi_power_meter.rst). A look may
//! take hundreds of milliseconds: the firmware asks the BMC.

use super::reading::{Moment, Reading, node};
use std::fs;
use std::path::{Path, PathBuf};

/// Looks without a meter between two searches for one.
const SEARCH_EVERY: u32 = 60;
/// What the meter averages over where it does not say.
const INTERVAL_MS: i64 = 1000;

#[derive(Debug, Default)]
pub(super) struct Meter {
    looks: u32,
    meters: Vec<PathBuf>,
}

impl Meter {
    pub(super) fn read(&mut self, sys: &Path) -> Vec<Reading> {
        if self.meters.is_empty() {
            if self.looks.is_multiple_of(SEARCH_EVERY) {
                self.meters = meters(sys);
            }
            self.looks = self.looks.wrapping_add(1);
        }
        if self.meters.is_empty() {
            return Vec::new();
        }
        let begun = Moment::now();
        let watts = self.meters.iter().map(|meter| microwatts(meter)).sum::<Option<i64>>();
        let Some(sum) = watts else {
            self.meters.clear();
            return Vec::new();
        };
        let interval_ms = integer(&self.meters[0], "power1_average_interval").filter(|ms| *ms > 0).unwrap_or(INTERVAL_MS);
        let mut reading = Reading::averaged(begun, Moment::now(), interval_ms.saturating_mul(1000));
        reading.put(node("power_watts"), sum / 1000);
        vec![reading]
    }
}

fn microwatts(meter: &Path) -> Option<i64> {
    integer(meter, "power1_average").or_else(|| integer(meter, "power1_input"))
}

fn integer(meter: &Path, file: &str) -> Option<i64> {
    fs::read_to_string(meter.join(file)).ok()?.trim().parse().ok()
}

/// ACPI meters that are not said to measure a part only (Grace has one a module, one a CPU, …: `power1_oem_info`).
fn meters(sys: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(sys.join("class/hwmon")) else { return Vec::new() };
    let text = |path: &Path, file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
    // The files are the device's, and in older kernels beside the class's own.
    let places = entries.flatten().flat_map(|entry| [entry.path(), entry.path().join("device")]);
    let of_node = places.filter(|path| {
        let named = text(path, "name");
        let whole = text(path, "power1_oem_info").trim().is_empty();
        named.trim() == "power_meter" && whole && microwatts(path).is_some()
    });
    of_node.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn the_meter_of_the_node_is_read_and_none_of_a_part() {
        let root = tree(&[
            ("class/hwmon/hwmon0/name", "coretemp\n"),
            ("class/hwmon/hwmon0/power1_average", "9\n"),
            ("class/hwmon/hwmon1/name", "power_meter\n"),
            ("class/hwmon/hwmon1/power1_average", "7654000000\n"),
            ("class/hwmon/hwmon1/power1_average_interval", "4000\n"),
            ("class/hwmon/hwmon2/name", "power_meter\n"),
            ("class/hwmon/hwmon2/power1_average", "5\n"),
            ("class/hwmon/hwmon2/power1_oem_info", "CPU Power Socket 0\n"),
        ]);
        let before = Moment::now();
        let reading = &Meter::default().read(root.path())[0];
        assert_eq!(reading.values, [(node("power_watts"), 7_654_000)]);
        assert!(reading.error_us >= 2_000_000 && reading.ts_us < Reading::at(before).ts_us - 1_500_000, "{reading:?}");
        assert!(Meter::default().read(Path::new("/nowhere")).is_empty());
    }
}
