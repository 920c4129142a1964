//! What is wrong with whom, when, and how it shows.

use crate::random::Random;

/// As in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    PowerBrake,
    PowerCap,
    Thermal,
    HbmDegraded,
    NvlinkErrors,
    PcieDegraded,
    CpuContention,
    NetworkSlow,
    ClockLock,
    Unknown,
}

impl Cause {
    pub(crate) const ALL: [Self; 10] = [
        Self::PowerBrake,
        Self::PowerCap,
        Self::Thermal,
        Self::HbmDegraded,
        Self::NvlinkErrors,
        Self::PcieDegraded,
        Self::CpuContention,
        Self::NetworkSlow,
        Self::ClockLock,
        Self::Unknown,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PowerBrake => "power_brake",
            Self::PowerCap => "power_cap",
            Self::Thermal => "thermal",
            Self::HbmDegraded => "hbm_degraded",
            Self::NvlinkErrors => "nvlink_errors",
            Self::PcieDegraded => "pcie_degraded",
            Self::CpuContention => "cpu_contention",
            Self::NetworkSlow => "network_slow",
            Self::ClockLock => "clock_lock",
            Self::Unknown => "unknown",
        }
    }

    /// The node suffers as a whole.
    fn of_node(self) -> bool {
        matches!(self, Self::PowerBrake | Self::CpuContention | Self::NetworkSlow)
    }

    /// Where the time goes that the culprit takes longer.
    fn ways(self) -> &'static [Way] {
        match self {
            Self::PcieDegraded => &[Way::Compute, Way::Gap],
            Self::CpuContention => &[Way::Gap],
            Self::NetworkSlow => &[Way::Communication],
            Self::NvlinkErrors => &[Way::Compute, Way::Communication],
            _ => &[Way::Compute],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its kernels take longer.
    Compute,
    /// It has no kernel: host or copies are late.
    Gap,
    /// The collective lasts longer, for everybody.
    Communication,
}

/// When it is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Course {
    /// Seconds.
    Lasting(f64),
    Forever,
    /// Seconds on, seconds off.
    Intermittent(f64, f64),
}

#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) cause: Cause,
    pub(crate) way: Way,
    pub(crate) node: usize,
    /// None: the node.
    pub(crate) gpu: Option<usize>,
    pub(crate) start: f64,
    pub(crate) course: Course,
    /// 1 − speed with / speed without.
    pub(crate) slowdown: f64,
    /// Which of several tokens of the cause is shown.
    pub(crate) token: u32,
    /// Share of the time, or rate per second, at which the token shows.
    pub(crate) strength: f64,
}

impl Fault {
    pub(crate) fn new(random: &mut Random, cause: Cause, nodes: usize, slowdown: f64, start: f64, course: Course) -> Self {
        let pick = |random: &mut Random, count: usize| ((random.unit() * count as f64) as usize).min(count - 1);
        let (node, gpu) = (pick(random, nodes), pick(random, 8));
        let ways = cause.ways();
        Self {
            cause,
            way: ways[pick(random, ways.len())],
            node,
            gpu: (!cause.of_node()).then_some(gpu),
            start,
            course,
            slowdown,
            token: pick(random, 6) as u32,
            strength: random.within(0.4, 1.0),
        }
    }

    /// Whether it works at `t`.
    pub(crate) fn on(&self, t: f64) -> bool {
        let since = t - self.start;
        since >= 0.0
            && match self.course {
                Course::Lasting(seconds) => since < seconds,
                Course::Forever => true,
                Course::Intermittent(on, off) => since % (on + off) < on,
            }
    }

    pub(crate) fn strikes(&self, node: usize, gpu: usize) -> bool {
        self.node == node && self.gpu.is_none_or(|own| own == gpu)
    }

    /// When it ends; `until`: of the whole fleet.
    pub(crate) fn end(&self, until: f64) -> f64 {
        match self.course {
            Course::Lasting(seconds) => self.start + seconds,
            _ => until,
        }
    }
}
