//! **host** ─▶ batcher: CPU, memory, pressure, disks, network and power of this node, once a second; every ten seconds what hardly changes.
//!
//! What the kernel answers from its own memory (/proc) is read in place. What may wait for firmware, for a lock of the network or for a
//! server is read aside, each kind in a thread of its own ([`crate::aside`]): what hangs there is missing, and stalls nothing else.

mod disks;
mod filesystems;
mod meter;
mod network;
mod packages;
mod ports;
mod pressure;
mod processors;
mod reading;

pub use reading::Reading;

use crate::aside::Aside;
use crate::clock::Clock;
use disks::Disks;
use gridstep_wire::catalog::Rate;
use pressure::Pressure;
use reading::{Moment, node};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

const SECOND: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_secs(10);
/// Asked by a clock that is not exact, what is due in less than this is due.
const SLACK: Duration = Duration::from_millis(100);

pub struct Host {
    proc: PathBuf,
    sys: PathBuf,
    /// None: this platform tells nothing.
    system: Option<System>,
    pressure: Pressure,
    disks: Disks,
    before: Moment,
    aside: Vec<Source>,
    latest: Vec<Reading>,
}

/// What is read aside.
struct Source {
    aside: Aside<(), Vec<Reading>>,
    period: Duration,
    asked: Option<Instant>,
    latest: Vec<Reading>,
}

impl Host {
    /// A node whose file systems begin at `root` (`/`; tests have others); `state`: where the agent keeps what it must.
    pub fn new(root: &Path, state: Option<PathBuf>) -> Self {
        let kinds =
            RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_usage()).with_memory(MemoryRefreshKind::everything());
        let (proc, sys) = (root.join("proc"), root.join("sys"));
        let mut pressure = Pressure::default();
        pressure.begin(&proc);
        Self {
            aside: sources(root, &proc, &sys, state),
            proc,
            sys,
            system: System::new_with_specifics(kinds).ok(),
            pressure,
            disks: Disks::default(),
            before: Moment::now(),
            latest: Vec::new(),
        }
    }

    /// Reads what is at hand, of which the clock has been already, and has the rest read.
    pub fn read(&mut self, clock: &Clock) -> Vec<Reading> {
        let now = Moment::now();
        for source in &mut self.aside {
            source.ask(now.at);
        }
        let before = std::mem::replace(&mut self.before, now);
        let (mut at, mut over) = (Reading::at(now), Reading::over(before, now));
        if let Some(system) = &mut self.system {
            processor_and_memory(system, &mut at, &mut over);
        }
        self.pressure.read(&self.proc, now.seconds_since(before), &mut over);
        at.values.extend(clock.values());
        at.parts = self.disks.read(&self.proc, &self.sys);
        self.latest = [at, over].into_iter().filter(|reading| !reading.is_empty()).collect();
        self.latest.clone()
    }

    /// The same, and what is not due yet is read too.
    pub fn read_all(&mut self, clock: &Clock) -> Vec<Reading> {
        self.aside.iter_mut().for_each(|source| source.asked = None);
        self.read(clock)
    }

    /// What has been read aside since the last call.
    pub fn finished(&mut self) -> Vec<Reading> {
        self.aside.iter_mut().flat_map(Source::take).collect()
    }

    /// Everything as it was read last, but for what cannot be read any more.
    pub fn latest(&self) -> impl Iterator<Item = &Reading> {
        self.latest.iter().chain(self.aside.iter().flat_map(|source| &source.latest))
    }
}

fn processor_and_memory(system: &mut System, at: &mut Reading, over: &mut Reading) {
    system.refresh_cpu_usage();
    system.refresh_memory_specifics(MemoryRefreshKind::everything());
    over.put_ratio(const { node("cpu_utilization_ratio") }, f64::from(system.global_cpu_usage()) / 100.0);
    at.put(const { node("memory_used_bytes") }, system.used_memory() as i64);
    at.put(const { node("memory_total_bytes") }, system.total_memory() as i64);
    at.put(const { node("memory_available_bytes") }, system.available_memory() as i64);
    at.put(const { node("swap_total_bytes") }, system.total_swap() as i64);
    at.put(const { node("swap_used_bytes") }, system.used_swap() as i64);
    let Ok(load) = System::load_average() else { return };
    let hundredths = |load: f64| (load * 100.0).round() as i64;
    at.put(const { node("load_1m") }, hundredths(load.one));
    at.put(const { node("load_5m") }, hundredths(load.five));
    at.put(const { node("load_15m") }, hundredths(load.fifteen));
}

fn sources(root: &Path, proc: &Path, sys: &Path, state: Option<PathBuf>) -> Vec<Source> {
    let (proc, root) = (proc.to_owned(), root.to_owned());
    let sys = || sys.to_owned();
    let mut network = network::Network::default();
    let mut packages = packages::Packages::default();
    let mut meter = meter::Meter::default();
    let of = sys();
    let of_network = Source::new("network", SECOND, move || network.read(&proc, &of, Moment::now()));
    let of = sys();
    let of_packages = Source::new("power of the CPUs", SECOND, move || packages.read(&of, Moment::now()));
    let of = sys();
    let of_meter = Source::new("power of the node", SECOND, move || meter.read(&of));
    let of = sys();
    let of_processors = Source::new("clock of the CPUs", SLOW, move || slow(|reading| processors::read(&of, reading)));
    let of_file_systems =
        Source::new("file systems", SLOW, move || slow(|reading| filesystems::read(&root, state.as_deref(), reading)));
    [of_network, of_packages, of_meter, of_processors, of_file_systems].into_iter().flatten().collect()
}

fn slow(read: impl FnOnce(&mut Reading)) -> Vec<Reading> {
    let mut reading = Reading::at(Moment::now()).slow();
    read(&mut reading);
    if reading.is_empty() { Vec::new() } else { vec![reading] }
}

impl Source {
    /// None: there is no thread for it.
    fn new(subject: &'static str, period: Duration, mut read: impl FnMut() -> Vec<Reading> + Send + 'static) -> Option<Self> {
        let aside = Aside::new(subject, move |()| read());
        let aside =
            aside.inspect_err(|error| tracing::warn!(subject, %error, "not read: a thread for it cannot be started")).ok()?;
        Some(Self { aside, period, asked: None, latest: Vec::new() })
    }

    fn ask(&mut self, now: Instant) {
        if self.aside.hangs(now) {
            self.latest.clear();
        }
        let due = self.asked.is_none_or(|asked| now.duration_since(asked) + SLACK >= self.period);
        if due && self.aside.is_free() {
            self.asked = Some(now);
            self.aside.ask((), now);
        }
    }

    fn take(&mut self) -> Vec<Reading> {
        let Some(readings) = self.aside.answer() else { return Vec::new() };
        let read_slow = readings.is_empty() || readings.iter().any(|reading| reading.rate == Rate::Slow);
        self.latest.retain(|known| known.rate == Rate::Slow && !read_slow);
        self.latest.extend(readings.iter().cloned());
        readings
    }
}

/// Files of a node that a test makes up.
#[cfg(test)]
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::protocol::Part;
    use std::collections::BTreeSet;

    const METER: [(&str, &str); 2] =
        [("sys/class/hwmon/hwmon1/name", "power_meter\n"), ("sys/class/hwmon/hwmon1/power1_average", "7654000000\n")];
    const NETWORK: [(&str, &str); 4] = [
        ("proc/net/dev", "eth0: 1000 9 2 3 0 0 0 0 500 8 1 4 0 0 0 0\n"),
        ("sys/class/net/eth0/operstate", "up\n"),
        ("sys/class/net/eth0/carrier_changes", "2\n"),
        ("sys/class/net/eth0/device/vendor", "0x15b3\n"),
    ];

    /// Metrics and kinds of parts that the host knows, once such a one is among them.
    fn wait_for(host: &mut Host, metric: &str) -> BTreeSet<u32> {
        let begun = Instant::now();
        loop {
            host.read(&Clock::read());
            host.finished();
            let known: BTreeSet<u32> = host.latest().flat_map(|reading| &reading.values).map(|value| value.0).collect();
            if known.contains(&node(metric)) {
                return known;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no {metric}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_there_is_comes_together() {
        let disk = [("proc/diskstats", " 8 0 sda 1 0 1 1 1 0 1 1 0 1 1\n"), ("sys/block/sda/device/model", "x")];
        let root = tree(&METER.into_iter().chain(NETWORK).chain(disk).collect::<Vec<_>>());
        let mut host = Host::new(root.path(), None);
        for metric in ["power_watts", "network_errors_total", "memory_used_bytes", "load_1m", "root_filesystem_size_bytes"] {
            wait_for(&mut host, metric);
        }
        let subjects: BTreeSet<_> = host.latest().flat_map(|reading| &reading.parts).filter_map(Part::subject).collect();
        assert_eq!(subjects.len(), 2, "an interface and a disk");
        assert!(!wait_for(&mut host, "power_watts").contains(&node("cpu_power_watts")), "there is none");
    }

    /// The meter's file is a pipe that nobody writes to: whoever opens it waits for ever.
    #[test]
    fn a_file_that_hangs_costs_nothing_but_its_own_values() {
        let root = tree(&METER.into_iter().chain(NETWORK).collect::<Vec<_>>());
        let meter = root.path().join("sys/class/hwmon/hwmon1/power1_average");
        std::fs::remove_file(&meter).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&meter).status().unwrap().success());
        let mut host = Host::new(root.path(), None);
        let known = wait_for(&mut host, "network_errors_total");
        assert!(!known.contains(&node("power_watts")));
        assert!(known.contains(&node("memory_used_bytes")));
        // Whoever waits for the pipe is let go.
        std::fs::write(&meter, "1000000\n").unwrap();
    }

    #[test]
    fn what_is_read_every_ten_seconds_holds_until_then_and_ends_when_it_hangs() {
        let reading = |rate| Reading { rate, values: vec![(rate as u32, 1)], ..Reading::at(Moment::now()) };
        let mut answers = vec![vec![reading(Rate::Sweep)], vec![reading(Rate::Sweep), reading(Rate::Slow)]];
        let mut source = Source::new("a test", SECOND, move || answers.pop().unwrap_or_default()).unwrap();
        let start = Instant::now();
        let round = |source: &mut Source, second: u64| {
            source.ask(start + Duration::from_secs(second));
            let begun = Instant::now();
            while !source.aside.is_free() && begun.elapsed() < Duration::from_secs(20) {
                source.take();
            }
            source.latest.len()
        };
        assert_eq!(round(&mut source, 0), 2);
        assert_eq!(round(&mut source, 1), 2);
        assert_eq!(round(&mut source, 2), 0, "nothing is read any more");
    }
}
