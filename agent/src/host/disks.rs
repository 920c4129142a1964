//! Disks that have hardware: what a loop device, a RAM disk, LVM or a RAID carries is counted where it is stored.

use crate::reader::protocol::Part;
use gridstep_wire::catalog::{self, Subject};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Readings of the counters between two looks at which disks there are.
const LOOK_EVERY: u32 = 10;
/// A sector of /proc/diskstats, whatever the disk's own are.
const SECTOR_BYTES: i64 = 512;

const fn disk(name: &str) -> u32 {
    catalog::index(catalog::DISK, name)
}

#[derive(Debug, Default)]
pub(super) struct Disks {
    readings: u32,
    own: BTreeSet<String>,
}

impl Disks {
    pub(super) fn read(&mut self, proc: &Path, sys: &Path) -> Vec<Part> {
        if self.readings.is_multiple_of(LOOK_EVERY) {
            self.own = with_hardware(sys);
        }
        self.readings = self.readings.wrapping_add(1);
        if self.own.is_empty() {
            return Vec::new();
        }
        let text = fs::read_to_string(proc.join("diskstats")).unwrap_or_default();
        text.lines().filter_map(|line| part(line, &self.own)).collect()
    }
}

fn with_hardware(sys: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(sys.join("block")) else { return BTreeSet::new() };
    // A path of a multipath NVMe disk is hidden behind the disk.
    let hidden = |path: &Path| fs::read_to_string(path.join("hidden")).is_ok_and(|text| text.trim() == "1");
    let own = entries.flatten().filter(|entry| entry.path().join("device").exists() && !hidden(&entry.path()));
    own.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A line of /proc/diskstats: major, minor, name; then reads, merged, sectors, milliseconds; the same of writes; in flight,
/// milliseconds busy, … (Documentation/admin-guide/iostats.rst).
fn part(line: &str, own: &BTreeSet<String>) -> Option<Part> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let name = words.next().filter(|name| own.contains(*name))?;
    let mut columns = [0; 10];
    for column in &mut columns {
        *column = words.next()?.parse().ok()?;
    }
    let [reads, _, read_sectors, read_ms, writes, _, written_sectors, write_ms, _, busy_ms] = columns;
    let mut part = Part::new(Subject::Disk, name.into());
    part.put(const { disk("read_bytes_total") }, SECTOR_BYTES.saturating_mul(read_sectors));
    part.put(const { disk("written_bytes_total") }, SECTOR_BYTES.saturating_mul(written_sectors));
    part.put(const { disk("reads_total") }, reads);
    part.put(const { disk("writes_total") }, writes);
    part.put(const { disk("read_seconds_total") }, read_ms);
    part.put(const { disk("write_seconds_total") }, write_ms);
    part.put(const { disk("busy_seconds_total") }, busy_ms);
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn disks_with_hardware_are_counted_and_no_layer_above_them() {
        let stats = " 259 0 nvme0n1 100 5 800 30 200 6 1600 90 0 110 120 0 0 0 0 4 2\n 259 1 nvme0n1p1 1 0 8 0 0 0 0 0 0 0 0\n \
            7 0 loop0 9 0 9 9 0 0 0 0 0 9 9\n 253 0 dm-0 9 0 9 9 0 0 0 0 0 9 9\n";
        let root = tree(&[
            ("proc/diskstats", stats),
            ("sys/block/nvme0n1/device/model", "x"),
            ("sys/block/nvme0c0n1/device/model", "x"),
            ("sys/block/nvme0c0n1/hidden", "1\n"),
            ("sys/block/loop0/size", "1"),
            ("sys/block/dm-0/size", "1"),
        ]);
        let parts = Disks::default().read(&root.path().join("proc"), &root.path().join("sys"));
        assert_eq!(parts.len(), 1);
        assert_eq!((parts[0].name.as_str(), &parts[0].values[..]), ("nvme0n1", &[409_600, 819_200, 100, 200, 30, 90, 110][..]));
    }
}
