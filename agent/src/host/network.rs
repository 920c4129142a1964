//! Network interfaces that have hardware: what a bridge, a bond or a container's interface carries is counted where it leaves the node.
//! Where none has (a container's own network), all but loopback.

use crate::reader::protocol::Part;
use gridstep_wire::catalog::{self, Subject};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Readings of the counters between two looks at the links.
const LINKS_EVERY: u32 = 10;

const fn interface(name: &str) -> u32 {
    catalog::index(catalog::INTERFACE, name)
}

const fn node(name: &str) -> u32 {
    catalog::index(catalog::NODE, name)
}

#[derive(Debug, Default)]
pub(super) struct Network {
    readings: u32,
    links: BTreeMap<String, Link>,
    /// Bytes of all interfaces, and when they were read.
    bytes: Option<(i64, Instant)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Link {
    up: bool,
    bits_per_second: Option<i64>,
}

/// Counters of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    received_bytes: i64,
    receive_errors: i64,
    receive_drops: i64,
    sent_bytes: i64,
    send_errors: i64,
    send_drops: i64,
}

impl Network {
    /// Values of the node, and its interfaces.
    pub(super) fn read(&mut self, proc: &Path, sys: &Path, now: Instant) -> (Vec<(u32, i64)>, Vec<Part>) {
        if self.readings.is_multiple_of(LINKS_EVERY) {
            self.links = links(sys);
        }
        self.readings = self.readings.wrapping_add(1);
        let text = fs::read_to_string(proc.join("net/dev")).unwrap_or_default();
        let counted: Vec<(&str, Counters)> = text.lines().filter_map(counters).collect();
        let own =
            counted.into_iter().filter_map(|(name, counters)| Some((name, counters, *self.links.get(name)?))).collect::<Vec<_>>();
        (self.sums(&own, now), own.iter().map(|(name, counters, link)| part(name, counters, *link)).collect())
    }

    fn sums(&mut self, own: &[(&str, Counters, Link)], now: Instant) -> Vec<(u32, i64)> {
        let mut values = Vec::new();
        if own.is_empty() {
            return values;
        }
        let bytes = own.iter().map(|(_, counters, _)| counters.received_bytes + counters.sent_bytes).sum();
        if let Some((before, at)) = self.bytes.replace((bytes, now)) {
            let rate = (bytes - before).max(0) as f64 / now.duration_since(at).as_secs_f64().max(1e-3);
            values.push((const { node("network_bytes_per_second") }, rate as i64));
        }
        let errors = own.iter().map(|(_, counters, _)| counters.receive_errors + counters.send_errors).sum();
        values.push((const { node("network_errors_total") }, errors));
        let rates = own.iter().filter(|(_, _, link)| link.up).filter_map(|(_, _, link)| link.bits_per_second);
        if let Some(bits) = rates.reduce(|a, b| a + b) {
            values.push((const { node("network_link_bits_per_second") }, bits));
        }
        values
    }
}

fn part(name: &str, counters: &Counters, link: Link) -> Part {
    let mut part = Part::new(Subject::Interface, name.into());
    part.put(const { interface("received_bytes_total") }, counters.received_bytes);
    part.put(const { interface("sent_bytes_total") }, counters.sent_bytes);
    part.put(const { interface("receive_errors_total") }, counters.receive_errors);
    part.put(const { interface("send_errors_total") }, counters.send_errors);
    part.put(const { interface("receive_drops_total") }, counters.receive_drops);
    part.put(const { interface("send_drops_total") }, counters.send_drops);
    part.put(const { interface("up") }, i64::from(link.up));
    if let Some(bits) = link.bits_per_second {
        part.put(const { interface("link_bits_per_second") }, bits);
    }
    part
}

/// A line of /proc/net/dev: name, then eight columns received and eight sent (bytes, packets, errors, drops, …).
fn counters(line: &str) -> Option<(&str, Counters)> {
    let (name, rest) = line.split_once(':')?;
    let columns: Vec<i64> = rest.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let &[received_bytes, _, receive_errors, receive_drops, _, _, _, _, sent_bytes, _, send_errors, send_drops, ..] =
        &columns[..]
    else {
        return None;
    };
    Some((name.trim(), Counters { received_bytes, receive_errors, receive_drops, sent_bytes, send_errors, send_drops }))
}

/// Those with a device behind them.
fn links(sys: &Path) -> BTreeMap<String, Link> {
    let Ok(entries) = fs::read_dir(sys.join("class/net")) else { return BTreeMap::new() };
    let link = |path: &Path| {
        let text = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
        // Mbit/s; −1, or no answer, where there is no link.
        let speed = text("speed").trim().parse::<i64>().ok().filter(|&speed| speed > 0);
        Link { up: text("operstate").trim() == "up", bits_per_second: speed.map(|speed| speed * 1_000_000) }
    };
    let (own, others): (Vec<_>, Vec<_>) =
        entries.flatten().filter(|entry| entry.file_name() != "lo").partition(|entry| entry.path().join("device").exists());
    let counted = if own.is_empty() { others } else { own };
    counted.iter().map(|entry| (entry.file_name().to_string_lossy().into_owned(), link(&entry.path()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DEV: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0: 1000 9 2 3 0 0 0 0 500 8 1 4 0 0 0 0\n  docker0: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";

    fn tree(dev: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("proc/net/dev", dev),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth0/speed", "100000\n"),
            ("sys/class/net/eth0/device/vendor", "0x15b3\n"),
            ("sys/class/net/docker0/operstate", "up\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn interfaces_with_hardware_are_counted_one_by_one_and_together() {
        let root = tree(DEV);
        let (proc, sys) = (root.path().join("proc"), root.path().join("sys"));
        let mut network = Network::default();
        let start = Instant::now();
        let (first, parts) = network.read(&proc, &sys, start);
        assert_eq!(parts.len(), 1);
        assert_eq!((parts[0].name.as_str(), &parts[0].values[..]), ("eth0", &[1000, 500, 2, 1, 3, 4, 1, 100_000_000_000][..]));
        assert_eq!(first, [(node("network_errors_total"), 3), (node("network_link_bits_per_second"), 100_000_000_000)]);
        fs::write(proc.join("net/dev"), DEV.replace("eth0: 1000", "eth0: 3000")).unwrap();
        let (second, _) = network.read(&proc, &sys, start + Duration::from_secs(2));
        assert_eq!(second[0], (node("network_bytes_per_second"), 1000));
    }
}
