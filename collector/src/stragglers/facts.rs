//! What is known of a GPU and its node beside its waiting: clocks, limiters, links, errors, host. Blocks of seconds become
//! one row of facts; rows are compared with the GPU's own past and with its peers.

use crate::align::seconds::Second;
use crate::fleet::{GpuMetric, NodeMetric};
use serde::{Deserialize, Serialize};

macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident = $signal:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fact { $($(#[$doc])* $name,)* }

        impl Fact {
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            pub const COUNT: usize = Self::ALL.len();

            /// As in an incident's evidence, unit in the name.
            pub fn signal(self) -> &'static str {
                match self { $(Self::$name => $signal,)* }
            }
        }
    };
}

facts! {
    /// While it computes: spinning GPUs float to their highest clock. It is read at instants, and some of them are those of spinning: the
    /// mean of the lowest quarter counts.
    SmClock = "sm_clock_mhz",
    /// The highest that was read in a second of computing: nearly always that of spinning.
    SmClockHighest = "sm_clock_highest_mhz",
    Temperature = "temperature_celsius",
    MemoryTemperature = "memory_temperature_celsius",
    Power = "power_watts",
    SmActive = "sm_active_ratio",
    Utilization = "gpu_utilization_ratio",
    /// Share of seconds with a thermal reason set.
    ThermalDuty = "thermal_slowdown_ratio",
    PowerCapDuty = "power_cap_ratio",
    BrakeDuty = "power_brake_ratio",
    PowerLimit = "power_limit_watts",
    PcieWidth = "pcie_link_width",
    PcieGeneration = "pcie_link_generation",
    PcieReplays = "pcie_replays_per_second",
    NvlinkErrors = "nvlink_errors_per_second",
    EccCorrected = "ecc_corrected_per_second",
    EccUncorrected = "ecc_uncorrected_per_second",
    RemappedRows = "remapped_rows_per_second",
    CpuUtilization = "cpu_utilization_ratio",
    CpuPressure = "cpu_pressure_ratio",
    NetworkErrors = "network_errors_per_second",
    NetworkLink = "network_link_bits_per_second",
}

/// One value per [`Fact`]; NaN: not known.
pub type Row = [f64; Fact::COUNT];

/// Builds a row from seconds: of the last five to ten.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Gatherer {
    current: Sums,
    before: Sums,
    counters: [Seen; COUNTERS.len()],
}

/// A counter. Its growth is in runs: one with rests that errors that come now and then leave, and at the end of that perhaps one without.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Seen {
    value: f64,
    /// In which second it had that.
    second: i64,
    /// In which it last grew; before that, if ever, in none that is known.
    grew: Option<i64>,
    /// When the run began; before it grew at all: since when it is watched.
    since: i64,
    /// It has grown for as long as it is watched.
    always: bool,
    /// When the part without rests began; by how much it grew in it, and in the run before it.
    dense_since: i64,
    dense: f32,
    before: f32,
}

impl Default for Seen {
    fn default() -> Self {
        Self { value: f64::NAN, second: 0, grew: None, since: 0, always: false, dense_since: 0, dense: 0.0, before: 0.0 }
    }
}

impl Seen {
    fn grow(&mut self, by: f64) {
        let rested = self.second - self.grew.unwrap_or(self.since);
        if rested > REST {
            (self.since, self.always, self.before) = (self.second, false, 0.0);
        } else if self.grew.is_none() {
            self.always = true;
        }
        if rested > DENSE_REST || self.grew.is_none() {
            self.before += if rested > REST { 0.0 } else { self.dense };
            (self.dense_since, self.dense) = (self.second, 0.0);
        }
        self.dense += by as f32;
        self.grew = Some(self.second);
    }

    /// Since when it grows as it does. None: it does not, or has for as long as it is watched.
    fn grows_since(&self) -> Option<i64> {
        self.grew.filter(|grew| self.second - grew <= ENDED)?;
        let then = (self.second - self.dense_since).max(1) as f32;
        // That many would have come before.
        let as_now = self.dense / then * (self.dense_since - self.since) as f32;
        let is_another = then >= DENSE_LEAST && as_now >= ENOUGH && self.before < ANOTHER * as_now;
        if is_another { Some(self.dense_since) } else { Some(self.since).filter(|_| !self.always) }
    }
}

/// After more seconds without growth what comes is another run.
const REST: i64 = 30;
/// And another part of one, if that is so long at least and the rate was less than this share before.
const DENSE_REST: i64 = 3;
const DENSE_LEAST: f32 = 8.0;
const ANOTHER: f32 = 0.25;
const ENOUGH: f32 = 12.0;
/// It grows no longer after so many.
const ENDED: i64 = 10;

/// Facts that are the growth of a counter.
const COUNTERS: [Fact; 6] =
    [Fact::PcieReplays, Fact::NvlinkErrors, Fact::EccCorrected, Fact::EccUncorrected, Fact::RemappedRows, Fact::NetworkErrors];

/// Counters of which one count tells something.
const ONCE: [Fact; 2] = [Fact::EccUncorrected, Fact::RemappedRows];

/// Too short to tell a burst from what goes on, seconds.
const MOMENT: f32 = 4.0;

/// Growths that are no burst.
const KEEPS: u8 = 4;

/// Seconds that are gathered at most.
const LONGEST: u8 = 12;

/// Shares of a second: it computes; its links are under load. A board that waits for a longer stage may compute for half of each second: which of
/// them are a little more would say at what part of the step its clock is read.
const COMPUTES: f64 = 0.2;
const LOADED: f64 = 0.5;

/// Sum and number of each fact.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Sums {
    #[serde(with = "crate::packed")]
    sums: [f32; Fact::COUNT],
    #[serde(with = "crate::packed")]
    counts: [f32; Fact::COUNT],
    /// Counters: how often they were read, and found grown.
    looks: [u8; COUNTERS.len()],
    rises: [u8; COUNTERS.len()],
    taken: u8,
    /// SM clocks, MHz.
    clocks: Clocks,
}

/// What was read in seconds of computing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Clocks {
    megahertz: [u16; LONGEST as usize],
    count: u8,
}

impl Clocks {
    fn take(&mut self, megahertz: f64) {
        if let Some(next) = self.megahertz.get_mut(self.count as usize).filter(|_| megahertz > 0.0) {
            *next = megahertz as u16;
            self.count += 1;
        }
    }

    fn read(&self) -> &[u16] {
        &self.megahertz[..self.count as usize]
    }
}

const THERMAL: u64 = gridstep_wire::reasons::SW_THERMAL | gridstep_wire::reasons::HW_THERMAL;

impl Gatherer {
    /// Takes one second of a GPU (and of its node). `busy`: share of it that it computed.
    pub fn take(&mut self, second: i64, gpus: &Second, gpu: usize, node: Option<(&Second, usize)>, watts: f64, busy: f64) {
        // Nobody turns what is gathered in a pause.
        if self.current.taken >= LONGEST {
            self.turn();
        }
        self.current.taken += 1;
        let value = |metric: GpuMetric| gpus.column(metric as usize).get(gpu).copied().unwrap_or(f64::NAN);
        let reasons = value(GpuMetric::EventReasons);
        let set = |mask: u64| !reasons.is_nan() && reasons as u64 & mask != 0;
        // In the second in which a pause begins the clock may have been read in the pause.
        if busy > COMPUTES && !set(gridstep_wire::reasons::GPU_IDLE) {
            self.current.clocks.take(value(GpuMetric::SmClock));
        }
        self.mean(Fact::Temperature, value(GpuMetric::Temperature));
        self.mean(Fact::MemoryTemperature, value(GpuMetric::MemoryTemperature));
        self.mean(Fact::Power, watts);
        self.mean(Fact::SmActive, value(GpuMetric::SmActive));
        self.mean(Fact::Utilization, value(GpuMetric::Utilization));
        if !reasons.is_nan() {
            let duty = |mask: u64| f64::from(u8::from(set(mask)));
            self.mean(Fact::ThermalDuty, duty(THERMAL));
            self.mean(Fact::PowerCapDuty, duty(gridstep_wire::reasons::SW_POWER_CAP));
            self.mean(Fact::BrakeDuty, duty(gridstep_wire::reasons::HW_POWER_BRAKE));
        }
        self.mean(Fact::PowerLimit, value(GpuMetric::PowerLimit));
        // An idle link rests at a lower generation: only what it shows under load counts.
        if busy > LOADED {
            self.mean(Fact::PcieWidth, value(GpuMetric::PcieWidth));
            self.mean(Fact::PcieGeneration, value(GpuMetric::PcieGeneration));
        }
        self.rate(Fact::PcieReplays, second, value(GpuMetric::PcieReplays));
        self.rate(Fact::NvlinkErrors, second, value(GpuMetric::NvlinkErrors));
        self.rate(Fact::EccCorrected, second, value(GpuMetric::EccCorrected));
        self.rate(Fact::EccUncorrected, second, value(GpuMetric::EccUncorrected));
        self.rate(Fact::RemappedRows, second, value(GpuMetric::RemappedRows));
        if let Some((nodes, node)) = node {
            let value = |metric: NodeMetric| nodes.column(metric as usize).get(node).copied().unwrap_or(f64::NAN);
            self.mean(Fact::CpuUtilization, value(NodeMetric::CpuUtilization));
            self.mean(Fact::CpuPressure, value(NodeMetric::CpuPressure));
            self.rate(Fact::NetworkErrors, second, value(NodeMetric::NetworkErrors));
            self.mean(Fact::NetworkLink, value(NodeMetric::NetworkLink));
        }
    }

    fn mean(&mut self, fact: Fact, value: f64) {
        if !value.is_nan() {
            self.current.sums[fact as usize] += value as f32;
            self.current.counts[fact as usize] += 1.0;
        }
    }

    /// A counter's growth per second; a reset (or first sight) says nothing.
    fn rate(&mut self, fact: Fact, second: i64, value: f64) {
        if value.is_nan() {
            return;
        }
        let Some(counter) = COUNTERS.iter().position(|&counter| counter == fact) else { return };
        let seen = &mut self.counters[counter];
        let (before, at) = (std::mem::replace(&mut seen.value, value), std::mem::replace(&mut seen.second, second));
        if before.is_nan() {
            seen.since = second;
        }
        if value >= before && second > at {
            if value > before {
                seen.grow(value - before);
            }
            self.current.sums[fact as usize] += (value - before) as f32;
            self.current.counts[fact as usize] += (second - at) as f32;
            self.current.looks[counter] = self.current.looks[counter].saturating_add(1);
            let growths = &mut self.current.rises[counter];
            *growths = growths.saturating_add(u8::from(value > before));
        }
    }

    /// What was taken lately.
    pub fn row(&self) -> Row {
        let mut row = [f64::NAN; Fact::COUNT];
        for (index, value) in row.iter_mut().enumerate() {
            let count = self.current.counts[index] + self.before.counts[index];
            if count > 0.0 {
                *value = f64::from((self.current.sums[index] + self.before.sums[index]) / count);
            }
        }
        row[Fact::SmClock as usize] = self.clock();
        let highest = self.current.clocks.read().iter().chain(self.before.clocks.read()).max();
        row[Fact::SmClockHighest as usize] = highest.map_or(f64::NAN, |&megahertz| f64::from(megahertz));
        for (counter, fact) in COUNTERS.into_iter().enumerate() {
            let growths = self.current.rises[counter].saturating_add(self.before.rises[counter]);
            let reads = self.current.looks[counter].saturating_add(self.before.looks[counter]);
            let seconds = self.current.counts[fact as usize] + self.before.counts[fact as usize];
            // One burst is history, and one growth in a moment may be one. (Rows are not remapped by the second.)
            if growths == 1 && (reads > 2 || seconds < MOMENT) && !ONCE.contains(&fact) {
                row[fact as usize] = 0.0;
            }
        }
        row
    }

    fn clock(&self) -> f64 {
        let mut read = [0; 2 * LONGEST as usize];
        let (current, before) = (self.current.clocks.read(), self.before.clocks.read());
        let count = current.len() + before.len();
        read[..current.len()].copy_from_slice(current);
        read[current.len()..count].copy_from_slice(before);
        let read = &mut read[..count];
        read.sort_unstable();
        let lowest = &read[..count.div_ceil(4)];
        lowest.iter().map(|&megahertz| f64::from(megahertz)).sum::<f64>() / lowest.len() as f64
    }

    /// Whether a counter has grown in most of the seconds taken lately, and in no few: no burst, however large.
    pub fn keeps_growing(&self, fact: Fact) -> bool {
        let Some(counter) = COUNTERS.iter().position(|&counter| counter == fact) else { return false };
        let rises = self.current.rises[counter].saturating_add(self.before.rises[counter]);
        let looks = self.current.looks[counter].saturating_add(self.before.looks[counter]);
        rises >= KEEPS && 2 * u16::from(rises) >= u16::from(looks) || rises >= KEEPS - 1 && rises == looks
    }

    /// Since which second a counter grows as it does now. None: it does not, or has for as long as it is watched.
    pub fn grows_since(&self, fact: Fact) -> Option<i64> {
        self.counters[COUNTERS.iter().position(|&counter| counter == fact)?].grows_since()
    }

    /// The elder half of what was taken goes.
    pub fn turn(&mut self) {
        self.before = std::mem::take(&mut self.current);
    }
}

/// What is known of these facts, and nothing of the others.
#[cfg(test)]
pub(super) fn row(values: &[(Fact, f64)]) -> Row {
    let mut row = [f64::NAN; Fact::COUNT];
    values.iter().for_each(|&(fact, value)| row[fact as usize] = value);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_spinning_do_not_count_as_those_of_computing() {
        let mut gatherer = Gatherer::default();
        assert!(gatherer.clock().is_nan());
        [1845.0, 1905.0, 1845.0, 1905.0, 1860.0].into_iter().for_each(|read| gatherer.current.clocks.take(read));
        gatherer.turn();
        gatherer.current.clocks.take(1850.0);
        assert!((gatherer.clock() - 1845.0).abs() < 0.01, "{}", gatherer.clock());
    }

    #[test]
    fn a_history_has_no_onset_and_what_comes_upon_it_has() {
        let since = |rate: &dyn Fn(i64) -> f64| {
            let (mut gatherer, mut errors) = (Gatherer::default(), 1e3);
            for second in 0..200 {
                errors += rate(second);
                gatherer.rate(Fact::NvlinkErrors, second, errors);
            }
            gatherer.grows_since(Fact::NvlinkErrors)
        };
        let now_and_then = |second: i64| if [3, 9, 4].contains(&(second % 13)) { 1.0 } else { 0.0 };
        assert_eq!(since(&|_| 0.0), None);
        assert_eq!(since(&now_and_then), None);
        assert_eq!(since(&|second| if second >= 150 { 20.0 } else { 0.0 }), Some(150));
        // An error a while before, or all along.
        assert_eq!(since(&|second| if second >= 150 || second == 128 { 20.0 } else { 0.0 }), Some(150));
        assert_eq!(since(&|second| now_and_then(second) + if second >= 151 { 20.0 } else { 0.0 }), Some(151));
        assert_eq!(since(&|second| if (100..150).contains(&second) { 20.0 } else { 0.0 }), None, "it is over");
        assert_eq!(since(&|second| if second > 100 { now_and_then(second) } else { 0.0 }), Some(107), "it has come");
    }

    #[test]
    fn a_burst_of_two_seconds_is_none_that_keeps_growing() {
        let after = |grows: &dyn Fn(i64) -> bool| {
            let mut gatherer = Gatherer::default();
            let mut errors = 0.0;
            for second in 0..10 {
                errors += if grows(second) { 100.0 } else { 0.0 };
                gatherer.rate(Fact::NvlinkErrors, second, errors);
            }
            gatherer.keeps_growing(Fact::NvlinkErrors)
        };
        let mut moment = Gatherer::default();
        [0.0, 100.0].into_iter().zip(0..).for_each(|(errors, second)| moment.rate(Fact::NvlinkErrors, second, errors));
        assert_eq!(moment.row()[Fact::NvlinkErrors as usize], 0.0);
        moment.rate(Fact::NvlinkErrors, 2, 200.0);
        assert_eq!(moment.row()[Fact::NvlinkErrors as usize], 100.0);
        assert!(!after(&|second| second == 4 || second == 5));
        assert!(after(&|second| second >= 4));
    }
}
