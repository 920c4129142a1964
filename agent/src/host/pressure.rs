//! Pressure (PSI): the share of the time in which tasks waited for CPU, memory or disk.

use super::reading::{Moment, Reading, node};
use std::fs;
use std::path::Path;

/// File, line, metric. Every task waiting for a CPU is no state of a whole machine: the kernel writes zeros there.
const LINES: [(&str, &str, u32); 5] = [
    ("cpu", "some", node("cpu_pressure_ratio")),
    ("memory", "some", node("memory_pressure_ratio")),
    ("memory", "full", node("memory_pressure_full_ratio")),
    ("io", "some", node("io_pressure_ratio")),
    ("io", "full", node("io_pressure_full_ratio")),
];

/// Stall times so far, microseconds, in the order of [`LINES`].
#[derive(Debug, Default)]
pub(super) struct Pressure {
    before: [Option<u64>; LINES.len()],
}

impl Pressure {
    /// Shares of the time since the moment before; what cannot be read is absent.
    pub(super) fn read(&mut self, proc: &Path, seconds: f64, into: &mut Reading) {
        let mut text = String::new();
        let mut read = "";
        for ((file, line, metric), before) in LINES.into_iter().zip(&mut self.before) {
            if read != file {
                text = fs::read_to_string(proc.join("pressure").join(file)).unwrap_or_default();
                read = file;
            }
            let total = stall_micros(&text, line);
            if let (Some(before), Some(total)) = (std::mem::replace(before, total), total) {
                into.put_ratio(metric, total.saturating_sub(before) as f64 / 1e6 / seconds);
            }
        }
    }
}

impl Pressure {
    /// A moment to read, with nothing to compare to.
    pub(super) fn begin(&mut self, proc: &Path) {
        self.read(proc, 1.0, &mut Reading::at(Moment::now()));
    }
}

/// `total=` of a line of a pressure file, microseconds.
fn stall_micros(text: &str, line: &str) -> Option<u64> {
    let line = text.lines().find(|words| words.starts_with(line))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull total=9\n";
        assert_eq!(stall_micros(text, "some"), Some(1234));
        assert_eq!(stall_micros(text, "full"), Some(9));
    }

    #[test]
    fn stall_times_become_shares_and_what_is_missing_is_absent() {
        let root = tempfile::tempdir().unwrap();
        let write = |some: u64| {
            fs::create_dir_all(root.path().join("pressure")).unwrap();
            let text = format!("some avg10=0 avg60=0 avg300=0 total={some}\nfull avg10=0 avg60=0 avg300=0 total=500\n");
            fs::write(root.path().join("pressure/memory"), text).unwrap();
        };
        let mut pressure = Pressure::default();
        write(1000);
        pressure.begin(root.path());
        write(501_000);
        let mut reading = Reading::at(Moment::now());
        pressure.read(root.path(), 2.0, &mut reading);
        assert_eq!(reading.values, [(node("memory_pressure_ratio"), 2500), (node("memory_pressure_full_ratio"), 0)]);
    }
}
