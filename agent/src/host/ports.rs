//! InfiniBand and RoCE ports. Their counters are the driver's: a look at one may be a question to the adapter's firmware.
//!
//! Files stay open between looks, so that a second's look is one system call a counter.

use super::reading::Reading;
use crate::reader::protocol::Part;
use gridstep_wire::catalog::{self, Metric, Rate, Subject};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

const fn port(name: &str) -> u32 {
    catalog::index(catalog::PORT, name)
}

/// Counters, and what one of the file is on the wire. What an adapter does not have is absent.
const COUNTERS: [(&str, u32, i64); 22] = [
    // Words of four bytes, whatever the width of the link.
    ("counters/port_xmit_data", port("sent_bytes_total"), 4),
    ("counters/port_rcv_data", port("received_bytes_total"), 4),
    ("counters/port_xmit_wait", port("send_waits_total"), 1),
    ("counters/port_rcv_errors", port("receive_errors_total"), 1),
    ("counters/port_xmit_discards", port("send_discards_total"), 1),
    ("hw_counters/packet_seq_err", port("sequence_errors_total"), 1),
    ("hw_counters/local_ack_timeout_err", port("ack_timeouts_total"), 1),
    ("counters/port_xmit_packets", port("sent_packets_total"), 1),
    ("counters/port_rcv_packets", port("received_packets_total"), 1),
    ("counters/symbol_error", port("symbol_errors_total"), 1),
    ("counters/link_error_recovery", port("link_recoveries_total"), 1),
    ("counters/link_downed", port("link_downs_total"), 1),
    ("counters/local_link_integrity_errors", port("link_integrity_errors_total"), 1),
    ("counters/excessive_buffer_overrun_errors", port("buffer_overruns_total"), 1),
    ("hw_counters/out_of_sequence", port("out_of_sequence_total"), 1),
    ("hw_counters/out_of_buffer", port("out_of_buffer_total"), 1),
    ("hw_counters/rnr_nak_retry_err", port("receiver_not_ready_total"), 1),
    ("hw_counters/np_ecn_marked_roce_packets", port("congestion_marks_total"), 1),
    ("hw_counters/np_cnp_sent", port("congestion_notices_sent_total"), 1),
    ("hw_counters/rp_cnp_handled", port("congestion_notices_handled_total"), 1),
    ("hw_counters/roce_slow_restart", port("slow_restarts_total"), 1),
    ("hw_counters/roce_adp_retrans", port("adaptive_retransmissions_total"), 1),
];

const BYTES: [u32; 2] = [port("sent_bytes_total"), port("received_bytes_total")];
/// What counts as an error of the node's network.
const ERRORS: [u32; 4] =
    [port("receive_errors_total"), port("send_discards_total"), port("sequence_errors_total"), port("ack_timeouts_total")];
/// Of the states that the kernel names "4: ACTIVE".
const ACTIVE: i64 = 4;

/// The node's ports, as found at the last search.
#[derive(Debug, Default)]
pub(super) struct Ports(Vec<Port>);

#[derive(Debug)]
struct Port {
    name: String,
    state: Option<i64>,
    physical_state: Option<i64>,
    ethernet: bool,
    bits_per_second: Option<i64>,
    counters: Vec<Counter>,
}

#[derive(Debug)]
struct Counter {
    file: File,
    metric: u32,
    factor: i64,
}

/// What the ports carry together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// None: no port counts them.
    pub(super) bytes: Option<i64>,
    pub(super) errors: i64,
    /// Of InfiniBand links that are up. A RoCE link is a network interface's, and counted there.
    pub(super) bits_per_second: Option<i64>,
}

impl Ports {
    pub(super) fn search(sys: &Path) -> Self {
        let adapters = fs::read_dir(sys.join("class/infiniband")).into_iter().flatten().flatten();
        let mut ports: Vec<Port> = adapters
            .flat_map(|adapter| {
                let ports = fs::read_dir(adapter.path().join("ports")).into_iter().flatten().flatten();
                let adapter = adapter.file_name().to_string_lossy().into_owned();
                ports.map(move |port| Port::open(format!("{adapter}/{}", port.file_name().to_string_lossy()), &port.path()))
            })
            .collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        Self(ports)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is read each second and, if it is time, the rest.
    pub(super) fn read(&self, each: &mut Reading, rest: Option<&mut Reading>) -> Sums {
        let mut sums = Sums::default();
        for port in &self.0 {
            let part = port.read(Rate::Sweep);
            let of = |metrics: &[u32]| {
                let known = part.metrics.iter().zip(&part.values).filter(|(metric, _)| metrics.contains(metric));
                known.map(|(_, value)| *value).reduce(i64::saturating_add)
            };
            sums.bytes = [sums.bytes, of(&BYTES)].into_iter().flatten().reduce(i64::saturating_add);
            sums.errors += of(&ERRORS).unwrap_or(0);
            if let Some(bits) = port.bits_per_second.filter(|_| !port.ethernet && port.is_up()) {
                sums.bits_per_second = Some(sums.bits_per_second.unwrap_or(0) + bits);
            }
            each.parts.push(part);
        }
        if let Some(rest) = rest {
            rest.parts.extend(self.0.iter().map(|port| port.read(Rate::Slow)));
        }
        sums
    }
}

impl Port {
    fn open(name: String, path: &Path) -> Self {
        let text = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
        let counters = COUNTERS.iter().filter_map(|&(file, metric, factor)| {
            let file = File::open(path.join(file)).ok()?;
            Some(Counter { file, metric, factor })
        });
        Self {
            name,
            state: number(&text("state")),
            physical_state: number(&text("phys_state")),
            ethernet: text("link_layer").trim() == "Ethernet",
            bits_per_second: bits_per_second(&text("rate")),
            counters: counters.collect(),
        }
    }

    fn is_up(&self) -> bool {
        self.state == Some(ACTIVE)
    }

    fn read(&self, rate: Rate) -> Part {
        let mut part = Part::new(Subject::Port, self.name.clone());
        let of_rate = |metric: u32| metric_of(metric).rate == rate;
        for counter in self.counters.iter().filter(|counter| of_rate(counter.metric)) {
            if let Some(value) = counter.read() {
                part.put(counter.metric, value);
            }
        }
        let states = [
            (const { port("up") }, self.state.map(|_| i64::from(self.is_up()))),
            (const { port("state") }, self.state),
            (const { port("physical_state") }, self.physical_state),
            (const { port("ethernet") }, Some(i64::from(self.ethernet))),
            (const { port("link_bits_per_second") }, self.bits_per_second),
        ];
        for (metric, value) in states.into_iter().filter(|state| of_rate(state.0)) {
            if let Some(value) = value {
                part.put(metric, value);
            }
        }
        part
    }
}

fn metric_of(metric: u32) -> &'static Metric {
    &catalog::PORT[metric as usize]
}

impl Counter {
    /// None: the adapter has gone, or does not answer.
    fn read(&self) -> Option<i64> {
        let mut text = [0; 32];
        let length = self.file.read_at(&mut text, 0).ok()?;
        let count: u64 = std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()?;
        Some(i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(self.factor))
    }
}

/// "4: ACTIVE"
fn number(text: &str) -> Option<i64> {
    text.split(':').next()?.trim().parse().ok()
}

/// "400 Gb/sec (4X NDR)"
fn bits_per_second(text: &str) -> Option<i64> {
    let gigabits: f64 = text.split_once("Gb/sec")?.0.trim().parse().ok()?;
    (gigabits > 0.0).then_some((gigabits * 1e9) as i64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::reading::Moment;
    use super::super::tree;
    use super::*;

    pub(in super::super) const INFINIBAND: [(&str, &str); 8] = [
        ("sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/phys_state", "5: LinkUp\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/link_layer", "InfiniBand\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/rate", "400 Gb/sec (4X NDR)\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/counters/port_xmit_data", "1000\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/counters/port_rcv_data", "2000\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/counters/port_rcv_errors", "3\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/hw_counters/packet_seq_err", "4\n"),
    ];
    pub(in super::super) const ROCE: [(&str, &str); 5] = [
        ("sys/class/infiniband/mlx5_1/ports/1/state", "4: ACTIVE\n"),
        ("sys/class/infiniband/mlx5_1/ports/1/link_layer", "Ethernet\n"),
        ("sys/class/infiniband/mlx5_1/ports/1/rate", "200 Gb/sec (4X HDR)\n"),
        ("sys/class/infiniband/mlx5_1/ports/1/counters/port_xmit_data", "18446744073709551615\n"),
        ("sys/class/infiniband/mlx5_1/ports/1/hw_counters/np_cnp_sent", "77\n"),
    ];

    #[test]
    fn ports_are_read_one_by_one_and_together() {
        let root = tree(&INFINIBAND.into_iter().chain(ROCE).collect::<Vec<_>>());
        let ports = Ports::search(&root.path().join("sys"));
        let (mut each, mut rest) = (Reading::at(Moment::now()), Reading::at(Moment::now()));
        let sums = ports.read(&mut each, Some(&mut rest));
        let value = |reading: &Reading, part: usize, name: &str| {
            let part: &Part = &reading.parts[part];
            part.metrics.iter().position(|metric| *metric == port(name)).map(|at| part.values[at])
        };
        assert_eq!(each.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["mlx5_0/1", "mlx5_1/1"]);
        assert_eq!(value(&each, 0, "sent_bytes_total"), Some(4000));
        assert_eq!(value(&each, 0, "received_bytes_total"), Some(8000));
        assert_eq!(value(&each, 0, "up"), Some(1));
        assert_eq!(value(&each, 0, "send_waits_total"), None);
        assert_eq!(value(&rest, 0, "link_bits_per_second"), Some(400_000_000_000));
        assert_eq!((value(&rest, 0, "state"), value(&rest, 0, "physical_state")), (Some(4), Some(5)));
        assert_eq!((value(&rest, 0, "ethernet"), value(&rest, 1, "ethernet")), (Some(0), Some(1)));
        assert_eq!(value(&rest, 1, "congestion_notices_sent_total"), Some(77));
        assert_eq!(sums, Sums { bytes: Some(i64::MAX), errors: 7, bits_per_second: Some(400_000_000_000) });
    }

    #[test]
    fn a_counter_is_read_again_from_the_open_file_and_an_adapter_that_went_is_absent() {
        let root = tree(&INFINIBAND);
        let sys = root.path().join("sys");
        let ports = Ports::search(&sys);
        fs::write(sys.join("class/infiniband/mlx5_0/ports/1/counters/port_rcv_data"), "2500\n").unwrap();
        assert_eq!(ports.read(&mut Reading::at(Moment::now()), None).bytes, Some(14_000));
        fs::remove_dir_all(sys.join("class/infiniband/mlx5_0")).unwrap();
        assert!(Ports::search(&sys).is_empty());
    }

    #[test]
    fn rates_are_understood() {
        assert_eq!(bits_per_second("2.5 Gb/sec (1X SDR)\n"), Some(2_500_000_000));
        assert_eq!(bits_per_second("0 Gb/sec (4X)"), None);
        assert_eq!(bits_per_second("fast"), None);
    }
}
