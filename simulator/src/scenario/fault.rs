//! What goes wrong.

use serde::{Deserialize, Serialize};

/// Something wrong with one GPU, or all of a node, from `start` to `end`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: FaultKind,
    pub node: u32,
    /// Absent: every GPU of the node.
    pub gpu: Option<u32>,
    pub start: f64,
    /// Absent: for ever.
    pub end: Option<f64>,
    /// Share of the compute speed that is lost, 0 to below 1.
    #[serde(default)]
    pub depth: f64,
    /// By kind: `power_cap` watts, `slow_call` milliseconds, `xid` the code, `ecc`, `ecc_uncorrected`, `hbm` and `nvlink_errors` errors a second,
    /// `xid_storm` XIDs a second, `pcie_width` lanes.
    #[serde(default)]
    pub value: f64,
    /// MHz of the memory under `hbm`; absent: the full clock less `depth`.
    pub memory_mhz: Option<u32>,
    /// Version of the driver that is loaded at the end of `unloaded`; absent: the one before.
    pub driver_version: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    Thermal,
    ClockLock,
    PowerCap,
    PowerBrake,
    /// Degraded memory: a lower memory clock, corrected errors, a row that waits to be remapped.
    Hbm,
    /// The host has no time to feed the GPU: nothing in NVML says why it starves.
    Cpu,
    LostGpu,
    HungCall,
    SlowCall,
    Xid,
    XidStorm,
    Ecc,
    PcieWidth,
    NvlinkErrors,
    EccUncorrected,
    /// Another profiler holds performance monitoring.
    GpmHeld,
    /// Sensors tell values that stand for none.
    Blank,
    /// Counters since the driver was loaded begin anew.
    CounterReset,
    /// The buffer of power samples gets no new ones.
    SamplesStop,
    /// The driver is unloaded, on the whole node: calls fail, and those of who had it open go on failing after it is loaded again.
    Unloaded,
}

/// How a fault slows a GPU's compute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hindrance {
    pub how: How,
    /// Factor by which compute takes longer; at least 1.
    pub stretch: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The multiprocessors' clock is lower.
    Clock,
    /// Multiprocessors wait for the GPU's own memory.
    Memory,
    /// The GPU waits for work or data from its host.
    Starved,
}

impl Fault {
    /// Whether the fault is on a GPU.
    pub fn hits(&self, node: u32, gpu: u32) -> bool {
        self.node == node && self.gpu.is_none_or(|own| own == gpu)
    }

    /// Whether the fault is on at scenario time `t` (s).
    pub fn active(&self, t: f64) -> bool {
        self.start <= t && t < self.end_or_forever()
    }

    /// End of the fault in seconds, infinite if it has none.
    pub fn end_or_forever(&self) -> f64 {
        self.end.unwrap_or(f64::INFINITY)
    }

    /// Seconds that the fault has been on by scenario time `t` (s).
    pub fn elapsed(&self, t: f64) -> f64 {
        (t.min(self.end_or_forever()) - self.start).max(0.0)
    }

    /// How the fault slows compute, if it does.
    pub fn hindrance(&self) -> Option<Hindrance> {
        let how = self.kind.how()?;
        (self.depth > 0.0).then(|| Hindrance { how, stretch: 1.0 / (1.0 - self.depth) })
    }
}

impl FaultKind {
    /// How a fault of this kind slows compute, if it can.
    pub fn how(self) -> Option<How> {
        match self {
            Self::Thermal | Self::ClockLock | Self::PowerCap | Self::PowerBrake => Some(How::Clock),
            Self::Hbm => Some(How::Memory),
            Self::Cpu | Self::PcieWidth => Some(How::Starved),
            _ => None,
        }
    }

    /// Whether `value` says something about a fault of this kind.
    pub(super) fn has_value(self) -> bool {
        use FaultKind::{Ecc, EccUncorrected, Hbm, NvlinkErrors, PcieWidth, PowerCap, SlowCall, Xid, XidStorm};
        matches!(self, PowerCap | SlowCall | Xid | XidStorm | Ecc | EccUncorrected | Hbm | NvlinkErrors | PcieWidth)
    }

    /// The cause by which an incident names it; one that slows nobody keeps its own name.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Thermal => "thermal",
            Self::ClockLock => "clock_lock",
            Self::PowerCap => "power_cap",
            Self::PowerBrake => "power_brake",
            Self::Hbm => "hbm_degraded",
            Self::Cpu => "cpu_contention",
            Self::LostGpu => "lost_gpu",
            Self::HungCall => "hung_call",
            Self::SlowCall => "slow_call",
            Self::Xid => "xid",
            Self::XidStorm => "xid_storm",
            Self::SamplesStop => "samples_stop",
            Self::Unloaded => "unloaded",
            Self::Ecc => "ecc",
            Self::PcieWidth => "pcie_degraded",
            Self::NvlinkErrors => "nvlink_errors",
            Self::EccUncorrected => "ecc_uncorrected",
            Self::GpmHeld => "gpm_held",
            Self::Blank => "blank",
            Self::CounterReset => "counter_reset",
        }
    }
}
