//! Network interfaces that have hardware: what a bridge, a bond or a container's interface carries is counted where it leaves the node.
//! Where none has (a container's own network), all but loopback. And with them the ports through which RDMA goes, which no interface counts.

use super::ports::{Ports, Sums};
use super::reading::{Moment, Reading, node};
use crate::reader::protocol::Part;
use gridstep_wire::catalog::{self, Subject};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Readings of the counters between two looks at the links.
const LINKS_EVERY: u32 = 10;

/// Type of an interface that is IP over InfiniBand.
const ARPHRD_INFINIBAND: &str = "32";

const fn interface(name: &str) -> u32 {
    catalog::index(catalog::INTERFACE, name)
}

#[derive(Debug, Default)]
pub(super) struct Network {
    readings: u32,
    links: BTreeMap<String, Link>,
    ports: Ports,
    /// Bytes of all interfaces and ports, and when they were read.
    bytes: Option<(i64, Moment)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Link {
    up: bool,
    bits_per_second: Option<i64>,
    carrier_changes: Option<i64>,
    /// IP over InfiniBand: what it carries and how fast it is are the port's.
    infiniband: bool,
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
    /// Values of the node, its interfaces and its ports.
    pub(super) fn read(&mut self, proc: &Path, sys: &Path, now: Moment) -> Vec<Reading> {
        let look = self.readings.is_multiple_of(LINKS_EVERY);
        if look {
            (self.links, self.ports) = (links(sys), Ports::search(sys));
        }
        self.readings = self.readings.wrapping_add(1);
        let text = fs::read_to_string(proc.join("net/dev")).unwrap_or_default();
        let counted = text.lines().filter_map(counters);
        let own: Vec<_> = counted.filter_map(|(name, counters)| Some((name, counters, *self.links.get(name)?))).collect();
        let mut each = Reading::at(now);
        each.parts = own.iter().map(|(name, counters, link)| part(name, counters, *link)).collect();
        let mut rest = look.then(|| Reading::at(now).slow());
        if let Some(rest) = &mut rest {
            rest.parts = own.iter().filter_map(|(name, _, link)| changes(name, *link)).collect();
        }
        let ports = self.ports.read(&mut each, rest.as_mut());
        let over = self.sums(&own, &ports, now, &mut each);
        [Some(each), rest, over].into_iter().flatten().filter(|reading| !reading.is_empty()).collect()
    }

    /// Sums over interfaces and ports, and the rate since the reading before. The ports of a RoCE adapter count RDMA, its
    /// interface all else, so they add up; an interface of an InfiniBand adapter (IP over it) counts what its port counts too.
    fn sums(&mut self, own: &[(&str, Counters, Link)], ports: &Sums, now: Moment, each: &mut Reading) -> Option<Reading> {
        if own.is_empty() && self.ports.is_empty() {
            return None;
        }
        let added = || own.iter().filter(|(_, _, link)| !link.infiniband || ports.bytes.is_none());
        let errors: i64 = added().map(|(_, counters, _)| counters.receive_errors + counters.send_errors).sum();
        each.put(const { node("network_errors_total") }, errors.saturating_add(ports.errors));
        let rates = added().filter(|(_, _, link)| link.up).filter_map(|(_, _, link)| link.bits_per_second);
        if let Some(bits) = rates.chain(ports.bits_per_second).reduce(|a, b| a + b) {
            each.put(const { node("network_link_bits_per_second") }, bits);
        }
        let bytes: i64 = added().map(|(_, counters, _)| counters.received_bytes + counters.sent_bytes).sum();
        let bytes = bytes.saturating_add(ports.bytes.unwrap_or(0));
        let (before, at) = self.bytes.replace((bytes, now))?;
        let mut over = Reading::over(at, now);
        over.put(const { node("network_bytes_per_second") }, ((bytes - before).max(0) as f64 / now.seconds_since(at)) as i64);
        Some(over)
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

/// What is not worth a row each second.
fn changes(name: &str, link: Link) -> Option<Part> {
    let mut part = Part::new(Subject::Interface, name.into());
    part.put(const { interface("carrier_changes_total") }, link.carrier_changes?);
    Some(part)
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
        Link {
            up: text("operstate").trim() == "up",
            bits_per_second: speed.map(|speed| speed * 1_000_000),
            carrier_changes: text("carrier_changes").trim().parse().ok(),
            infiniband: text("type").trim() == ARPHRD_INFINIBAND,
        }
    };
    let (own, others): (Vec<_>, Vec<_>) =
        entries.flatten().filter(|entry| entry.file_name() != "lo").partition(|entry| entry.path().join("device").exists());
    let counted = if own.is_empty() { others } else { own };
    counted.iter().map(|entry| (entry.file_name().to_string_lossy().into_owned(), link(&entry.path()))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ports::tests::{INFINIBAND, ROCE};
    use super::super::tree;
    use super::*;
    use gridstep_wire::catalog::Rate;
    use std::time::Duration;

    const DEV: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0: 1000 9 2 3 0 0 0 0 500 8 1 4 0 0 0 0\n  docker0: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";

    fn files(dev: &str) -> Vec<(&str, &str)> {
        vec![
            ("proc/net/dev", dev),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth0/speed", "100000\n"),
            ("sys/class/net/eth0/carrier_changes", "2\n"),
            ("sys/class/net/eth0/device/vendor", "0x15b3\n"),
            ("sys/class/net/docker0/operstate", "up\n"),
        ]
    }

    #[test]
    fn interfaces_with_hardware_are_counted_one_by_one_and_together() {
        let root = tree(&files(DEV));
        let (proc, sys) = (root.path().join("proc"), root.path().join("sys"));
        let mut network = Network::default();
        let start = Moment::now();
        let first = network.read(&proc, &sys, start);
        let parts = &first[0].parts;
        assert_eq!(parts.len(), 1);
        assert_eq!((parts[0].name.as_str(), &parts[0].values[..]), ("eth0", &[1000, 500, 2, 1, 3, 4, 1, 100_000_000_000][..]));
        assert_eq!(first[0].values, [(node("network_errors_total"), 3), (node("network_link_bits_per_second"), 100_000_000_000)]);
        assert_eq!((first[1].rate, &first[1].parts[0].values[..]), (Rate::Slow, &[2][..]));
        fs::write(proc.join("net/dev"), DEV.replace("eth0: 1000", "eth0: 3000")).unwrap();
        let second = network.read(&proc, &sys, Moment { at: start.at + Duration::from_secs(2), ..start });
        assert_eq!(second.len(), 2);
        assert_eq!(second[1].values, [(node("network_bytes_per_second"), 1000)]);
    }

    /// 100 Gbit/s of Ethernet, which is the RoCE port's too, and 400 of InfiniBand, with IP over it beside.
    #[test]
    fn what_goes_by_rdma_is_added_and_nothing_twice() {
        let dev = format!("{DEV}  ib0: 70000 9 2 3 0 0 0 0 500 8 1 4 0 0 0 0\n");
        let ib0 = [
            ("sys/class/net/ib0/operstate", "up\n"),
            ("sys/class/net/ib0/speed", "400000\n"),
            ("sys/class/net/ib0/type", "32\n"),
            ("sys/class/net/ib0/device/vendor", "0x15b3\n"),
        ];
        let port = "sys/class/infiniband/mlx5_0/ports/1/counters/port_rcv_data";
        let root = tree(&files(&dev).into_iter().chain(ib0).chain(INFINIBAND).chain(ROCE).collect::<Vec<_>>());
        let (proc, sys) = (root.path().join("proc"), root.path().join("sys"));
        fs::write(root.path().join("sys/class/infiniband/mlx5_1/ports/1/counters/port_xmit_data"), "5000\n").unwrap();
        let mut network = Network::default();
        let start = Moment::now();
        let first = network.read(&proc, &sys, start);
        assert_eq!(
            first[0].values,
            [(node("network_errors_total"), 3 + 7), (node("network_link_bits_per_second"), 500_000_000_000)]
        );
        assert_eq!(first[0].parts.len(), 4);
        fs::write(proc.join("net/dev"), dev.replace("eth0: 1000", "eth0: 3000").replace("70000", "90000")).unwrap();
        fs::write(root.path().join(port), "3000\n").unwrap();
        let second = network.read(&proc, &sys, Moment { at: start.at + Duration::from_secs(2), ..start });
        assert_eq!(second.last().unwrap().values, [(node("network_bytes_per_second"), (2000 + 4 * 1000) / 2)]);
    }
}
