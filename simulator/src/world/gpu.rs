//! One GPU as its driver sees it.

use std::sync::Arc;

use super::heat::Heat;
use super::{Channel, Levels, MEMORY_CLOCK, Track, random};
use crate::scenario::{Fault, FaultKind, Scenario};

/// Bits of the clocks' event reasons, as in `nvml.h`.
pub mod reason {
    pub const IDLE: u64 = 0x1;
    pub const SW_POWER_CAP: u64 = 0x4;
    pub const HW_SLOWDOWN: u64 = 0x8;
    pub const SW_THERMAL: u64 = 0x20;
    pub const HW_THERMAL: u64 = 0x40;
    pub const HW_POWER_BRAKE: u64 = 0x80;
}

/// Step of the clocks that the driver tells, MHz.
const CLOCK_STEP: f64 = 15.0;

/// What happened to a GPU before the scenario began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// Lifetime ECC errors.
    pub ecc_corrected: u64,
    pub ecc_uncorrected: u64,
    /// Memory rows remapped after correctable and uncorrectable errors.
    pub remapped_corrected: u32,
    pub remapped_uncorrected: u32,
    pub pcie_replays: u32,
    /// Over all links.
    pub nvlink_errors: u64,
    /// Power limit, W.
    pub limit_watts: u32,
    /// Whether the software power cap is reported at full load.
    pub capped: bool,
}

/// A GPU. All times are seconds of scenario time.
#[derive(Debug, Clone)]
pub struct Gpu {
    pub node: u32,
    pub index: u32,
    pub history: History,
    scenario: Arc<Scenario>,
    track: Track,
    faults: Vec<Fault>,
    /// Relative factor of the power sensor.
    sensor_gain: f64,
    heat: Heat,
    /// From when to when (s) a job's processes are there.
    working: Vec<(f64, f64)>,
}

impl Gpu {
    pub(super) fn new(scenario: Arc<Scenario>, node: u32, index: u32, track: Track, working: Vec<(f64, f64)>) -> Self {
        let key = |what: u64| [what, u64::from(node), u64::from(index)];
        let roll = |what: u64| random::unit(scenario.seed, &key(what));
        let number = scenario.gpus_per_node * node + index;
        let own = scenario.gpus.iter().find(|spec| spec.node == node && spec.gpu == index).map(|spec| spec.power_limit_watts);
        let history = History {
            ecc_corrected: if roll(10) < 0.2 { (roll(11) * 40.0) as u64 + 1 } else { 0 },
            ecc_uncorrected: u64::from(roll(12) < 0.03),
            remapped_corrected: u32::from(roll(13) < 0.05),
            remapped_uncorrected: u32::from(roll(12) < 0.03),
            pcie_replays: if roll(14) < 0.15 { (roll(15) * 12.0) as u32 + 1 } else { 0 },
            nvlink_errors: if roll(16) < 0.1 { (roll(17) * 30.0) as u64 + 1 } else { 0 },
            // One operator's forgotten limit, which binds nobody.
            limit_watts: own.unwrap_or(if number == scenario.gpus_per_node / 2 { 680 } else { 700 }),
            capped: roll(18) < 0.1,
        };
        let sensor_gain = 1.0 + scenario.sensor.gain * random::signed(scenario.seed, &key(19));
        let faults: Vec<Fault> = scenario.faults.iter().filter(|f| f.hits(node, index)).cloned().collect();
        let heat = Heat::new(&scenario, node, index, &track, &faults);
        Self { node, index, history, scenario, track, faults, sensor_gain, heat, working }
    }

    /// The course of the GPU's true quantities.
    pub fn track(&self) -> &Track {
        &self.track
    }

    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// A fault of this kind that is on.
    pub fn fault(&self, kind: FaultKind, t: f64) -> Option<&Fault> {
        self.faults.iter().find(|f| f.kind == kind && f.active(t))
    }

    /// Whether its driver is unloaded.
    pub fn unloaded(&self, t: f64) -> bool {
        self.fault(FaultKind::Unloaded, t).is_some()
    }

    /// The last time by `t` that its driver was loaded anew, and the version from then on.
    fn loaded(&self, t: f64) -> Option<&Fault> {
        let over = self.faults.iter().filter(|f| f.kind == FaultKind::Unloaded && f.end_or_forever() <= t);
        over.max_by(|a, b| a.end_or_forever().total_cmp(&b.end_or_forever()))
    }

    /// When its driver was loaded; minus infinity: before the scenario began.
    pub fn loaded_at(&self, t: f64) -> f64 {
        self.loaded(t).map_or(f64::NEG_INFINITY, Fault::end_or_forever)
    }

    /// Version of the driver that is loaded.
    pub fn driver_version(&self, t: f64) -> &str {
        self.loaded(t).and_then(|f| f.driver_version.as_deref()).unwrap_or(&self.scenario.driver_version)
    }

    /// All faults that this GPU ever has.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// A number that is this GPU's own, for identities.
    pub fn identity(&self, what: u64) -> u64 {
        random::hash(self.scenario.seed, &[what, u64::from(self.node), u64::from(self.index)])
    }

    /// Whether a job uses the GPU.
    pub fn working(&self, t: f64) -> bool {
        self.working.iter().any(|(from, to)| *from <= t && t < *to)
    }

    /// Levels at a moment.
    pub fn at(&self, t: f64) -> Levels {
        self.track.at(t)
    }

    /// The sensor's last publication at or before `t`.
    pub fn publication(&self, t: f64) -> f64 {
        let period = self.scenario.sensor.period_ms / 1e3;
        let phase = period * random::unit(self.scenario.seed, &[20, u64::from(self.node), u64::from(self.index)]);
        ((t - phase) / period).floor() * period + phase
    }

    /// Watts that the sensor published last: the mean of the window that ended then.
    pub fn instant_watts(&self, t: f64) -> f64 {
        let end = self.publication(t);
        self.sensed(end - self.scenario.sensor.window_ms / 1e3, end)
    }

    /// Watts averaged over the second before the sensor's last publication.
    pub fn average_watts(&self, t: f64) -> f64 {
        let end = self.publication(t);
        self.sensed(end - 1.0, end)
    }

    fn sensed(&self, from: f64, to: f64) -> f64 {
        let key = (to * 1000.0).round() as i64 as u64;
        let noise = random::signed(self.scenario.seed, &[21, u64::from(self.node), u64::from(self.index), key]);
        self.track.mean(from, to)[Channel::Watts as usize] * self.sensor_gain * (1.0 + 0.004 * noise)
    }

    /// Joules since the driver was loaded, as the sensor sees them.
    pub fn energy_joules(&self, t: f64) -> f64 {
        self.integral(Channel::Watts, t) * self.sensor_gain
    }

    /// Integral of a channel since the driver was loaded, in the channel's unit times seconds.
    pub fn integral(&self, channel: Channel, t: f64) -> f64 {
        let resets = self.faults.iter().filter(|f| f.kind == FaultKind::CounterReset && f.start <= t).map(|f| f.start);
        let begun = resets.fold(self.loaded_at(t), f64::max);
        let before = if begun.is_finite() { self.track.integral(begun)[channel as usize] } else { 0.0 };
        self.track.integral(t)[channel as usize] - before
    }

    /// Power limit in force, W.
    pub fn limit_watts(&self, t: f64) -> u32 {
        let normal = self.history.limit_watts;
        match self.fault(FaultKind::PowerCap, t) {
            Some(fault) if fault.value > 0.0 => fault.value as u32,
            Some(fault) => (f64::from(normal) * (1.0 - fault.depth).powf(1.5)) as u32,
            None => normal,
        }
    }

    /// MHz of the streaming multiprocessors, in the driver's steps: between two of them it tells now one, now the other.
    pub fn clock_mhz(&self, t: f64) -> u32 {
        let moment = (t * 100.0).floor() as i64 as u64;
        let between = random::unit(self.scenario.seed, &[22, u64::from(self.node), u64::from(self.index), moment]);
        let steps = self.at(t)[Channel::Clock as usize] / CLOCK_STEP;
        ((steps + between).floor() * CLOCK_STEP) as u32
    }

    /// MHz of the memory.
    pub fn memory_clock_mhz(&self, t: f64) -> u32 {
        self.fault(FaultKind::Hbm, t).map_or(MEMORY_CLOCK, |fault| {
            fault.memory_mhz.unwrap_or((f64::from(MEMORY_CLOCK) * (1.0 - fault.depth)).round() as u32)
        })
    }

    /// Rows remapped after correctable errors: those of the past, and one for each fault of the memory.
    pub fn remapped_corrected(&self, t: f64) -> u32 {
        let faults = self.faults.iter().filter(|f| f.kind == FaultKind::Hbm && f.start <= t).count();
        self.history.remapped_corrected + faults as u32
    }

    /// Whether a remapped row waits for the GPU's reset; a fault of the memory ends with that.
    pub fn remap_pending(&self, t: f64) -> bool {
        self.fault(FaultKind::Hbm, t).is_some()
    }

    /// Corrected ECC errors that faults have caused so far.
    pub fn corrected_errors(&self, t: f64) -> u64 {
        self.errors(FaultKind::Ecc, t) + self.errors(FaultKind::Hbm, t)
    }

    /// Reasons for the present clocks, bits of [`reason`].
    pub fn reasons(&self, t: f64) -> u64 {
        let mut bits = 0;
        for fault in self.faults.iter().filter(|f| f.active(t)) {
            bits |= reason_of(fault.kind);
        }
        if self.history.capped && self.at(t)[Channel::Full as usize] > 0.0 {
            bits |= reason::SW_POWER_CAP;
        }
        if bits == 0 && !self.working(t) {
            bits = reason::IDLE;
        }
        bits
    }

    /// Nanoseconds for which a reason has been given since the driver was loaded.
    pub fn reason_ns(&self, bit: u64, t: f64) -> u64 {
        let mut seconds: f64 = self.faults.iter().filter(|f| reason_of(f.kind) & bit != 0).map(|f| f.elapsed(t)).sum();
        if bit == reason::SW_POWER_CAP && self.history.capped {
            seconds += self.integral(Channel::Full, t);
        }
        (seconds * 1e9) as u64
    }

    /// Errors that faults of this kind have caused so far.
    pub fn errors(&self, kind: FaultKind, t: f64) -> u64 {
        self.faults.iter().filter(|f| f.kind == kind).map(|f| (f.value * f.elapsed(t)) as u64).sum()
    }

    /// °C of the GPU.
    pub fn temperature(&self, t: f64) -> f64 {
        self.heat.celsius(t)
    }

    /// °C of the memory.
    pub fn memory_temperature(&self, t: f64) -> f64 {
        self.temperature(t) + 6.0
    }
}

fn reason_of(kind: FaultKind) -> u64 {
    match kind {
        FaultKind::Thermal => reason::SW_THERMAL,
        FaultKind::PowerCap => reason::SW_POWER_CAP,
        FaultKind::PowerBrake => reason::HW_POWER_BRAKE | reason::HW_SLOWDOWN,
        _ => 0,
    }
}
