//! Clock and throttling of the CPUs: a file for each, so not every second.

use super::reading::{Reading, node};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub(super) fn read(sys: &Path, into: &mut Reading) {
    let cpus = sys.join("devices/system/cpu");
    let Ok(entries) = fs::read_dir(cpus) else { return };
    let (mut khz, mut counted) = (0, 0);
    // Every CPU of a package has the package's counter.
    let mut throttles = BTreeMap::new();
    for path in entries.flatten().filter(|entry| is_cpu(&entry.file_name())).map(|entry| entry.path()) {
        if let Some(clock) = integer(&path.join("cpufreq/scaling_cur_freq")) {
            khz += clock;
            counted += 1;
        }
        if let Some(package) = integer(&path.join("topology/physical_package_id"))
            && !throttles.contains_key(&package)
            && let Some(count) = integer(&path.join("thermal_throttle/package_throttle_count"))
        {
            throttles.insert(package, count);
        }
    }
    if counted > 0 {
        into.put(const { node("cpu_clock_mhz") }, khz / counted / 1000);
    }
    if !throttles.is_empty() {
        into.put(const { node("cpu_package_throttles_total") }, throttles.values().sum());
    }
}

fn is_cpu(name: &std::ffi::OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn integer(path: &Path) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::reading::Moment;
    use super::super::tree;
    use super::*;

    #[test]
    fn clocks_are_averaged_and_throttling_counted_once_a_package() {
        let cpu = "devices/system/cpu/cpu";
        let files: Vec<(String, String)> = (0..4)
            .flat_map(|number| {
                [
                    (format!("{cpu}{number}/cpufreq/scaling_cur_freq"), format!("{}\n", 2_000_000 + 200_000 * number)),
                    (format!("{cpu}{number}/topology/physical_package_id"), format!("{}\n", number / 2)),
                    (format!("{cpu}{number}/thermal_throttle/package_throttle_count"), format!("{}\n", 5 + number / 2)),
                ]
            })
            .collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let root = tree(&files);
        let mut reading = Reading::at(Moment::now());
        read(root.path(), &mut reading);
        assert_eq!(reading.values, [(node("cpu_clock_mhz"), 2300), (node("cpu_package_throttles_total"), 11)]);
    }
}
