//! Why a GPU or node is slow: what changed on it and not on its peers.
//!
//! A fact's *excess* is its change against the GPU's own past, less the change of its peers; without a past, its distance to
//! the peers. So a narrow link or an error total that a machine has had all along blames nothing.

use super::facts::{Fact, Row};
use super::median;
use serde::{Deserialize, Serialize};

/// Errors that come at a rate: machines have histories of them, and bursts.
pub(super) const RATES: [Fact; 4] = [Fact::PcieReplays, Fact::NvlinkErrors, Fact::EccCorrected, Fact::NetworkErrors];

/// In the order in which they are named where several hold (contracts/incidents.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
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
    const ALL: [Self; 10] = [
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

    /// Unknown, where it is no name of a cause.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|cause| cause.name() == name).unwrap_or(Self::Unknown)
    }

    /// It befalls a node, and none of its GPUs alone.
    pub(super) fn is_of_node(self) -> bool {
        matches!(self, Self::NetworkSlow | Self::PowerBrake | Self::CpuContention)
    }

    pub fn name(self) -> &'static str {
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
}

/// A cause with what speaks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub cause: Cause,
    /// Facts that show it.
    pub facts: Vec<usize>,
    /// Causes whose facts were there to be seen, and were not seen.
    pub ruled_out: Vec<Cause>,
}

impl Verdict {
    /// Whether all there is are a few seconds under a limiter.
    pub fn is_brief(&self, now: &Row) -> bool {
        let duty = match self.cause {
            Cause::Thermal => Fact::ThermalDuty,
            Cause::PowerBrake => Fact::BrakeDuty,
            _ => return false,
        };
        now[duty as usize] < BRIEF
    }

    /// The error rates it rests on, where there is nothing else.
    pub fn rates(&self) -> &[usize] {
        let is_rate = |&fact: &usize| RATES.into_iter().any(|rate| rate as usize == fact);
        if self.facts.iter().all(is_rate) { &self.facts } else { &[] }
    }

    /// Whether what shows it happens, and is no setting that a machine may have had all along.
    pub fn is_of_now(&self) -> bool {
        use Cause::{ClockLock, NetworkSlow, PcieDegraded, PowerCap, Unknown};
        match self.cause {
            PowerCap | PcieDegraded | ClockLock | Unknown => false,
            NetworkSlow => self.facts.contains(&(Fact::NetworkErrors as usize)),
            _ => true,
        }
    }
}

/// Of the last five to ten seconds: hardly more than a bit's flickering for two of them.
const BRIEF: f64 = 0.45;
/// Least share of seconds under a limiter beyond that of the peers.
const DUTY: f64 = 0.2;
/// Share of seconds under the power limit of who computes against it.
const CAPPED: f64 = 0.5;
/// Least relative loss of SM clock: the quantum is 15 MHz in 1845 (0.8 %), boards differ by 1.5 %.
const CLOCK: f64 = 0.02;
/// The same where the effect is small as well.
const CLOCK_LEAST: f64 = 0.012;
/// Least error rate, per second.
const ERRORS: f64 = 0.2;

/// What a job's other members show, and showed.
#[derive(Debug, Clone)]
pub struct Peers {
    /// Medians.
    pub now: Row,
    pub past: Option<Row>,
    clock: LowClock,
}

/// MHz, NaN: not known. A clock is read at instants. Of members that wait for the longest stage of a pipeline it is that of spinning for seconds
/// on end, as reads and steps beat against each other; the tenth with the lowest ones are read while they compute. So this is what the middle of all would be if
/// they were, and no more than it is.
#[derive(Debug, Clone, Copy)]
struct LowClock {
    now: f64,
    past: f64,
}

/// From the lowest tenth to the middle: 1.28 standard deviations of 0.7 %, by which boards differ for good.
const TO_THE_MIDDLE: f64 = 0.009;

impl Peers {
    pub fn of(now: &[Row], past: &[Row]) -> Self {
        let low = |rows: &[Row]| {
            let known = rows.iter().map(|row| row[Fact::SmClock as usize]).filter(|clock| !clock.is_nan());
            let mut clocks: Vec<f64> = known.collect();
            if clocks.is_empty() {
                return f64::NAN;
            }
            let tenth = clocks.len() / 10;
            let lowest = *clocks.select_nth_unstable_by(tenth, f64::total_cmp).1;
            median(&mut clocks).min((1.0 + TO_THE_MIDDLE) * lowest)
        };
        let clock = LowClock { now: low(now), past: low(past) };
        Self { now: medians(now), past: (!past.is_empty()).then(|| medians(past)), clock }
    }
}

pub(super) fn medians(rows: &[Row]) -> Row {
    let mut middle = [f64::NAN; Fact::COUNT];
    for (fact, value) in middle.iter_mut().enumerate() {
        *value = median(&mut rows.iter().map(|row| row[fact]).filter(|value| !value.is_nan()).collect::<Vec<_>>());
    }
    middle
}

/// `now`: the suspect's facts; `past`: its own before, if known; `peers`: its job. `effect`: by which share it is occupied longer, which a
/// slower clock has to explain. `of_node`: a node is suspected; what its host or its network shows says nothing of one GPU that is alone in
/// being slow.
pub fn explain(now: &Row, past: Option<&Row>, peers: &Peers, effect: f64, of_node: bool) -> Verdict {
    let host = |fact: Fact| matches!(fact, Fact::CpuUtilization | Fact::CpuPressure | Fact::NetworkErrors | Fact::NetworkLink);
    let known = |fact: Fact| !now[fact as usize].is_nan();
    let excess = |fact: Fact| {
        let index = fact as usize;
        let (theirs, theirs_past) = match fact {
            Fact::SmClock => (peers.clock.now, peers.clock.past),
            _ => (peers.now[index], peers.past.map_or(f64::NAN, |past| past[index])),
        };
        let own_past = past.map_or(f64::NAN, |past| past[index]);
        let before = own_past - theirs_past;
        let value = now[index] - theirs - if before.is_nan() { 0.0 } else { before };
        if value.is_nan() || host(fact) && !of_node { 0.0 } else { value }
    };
    let relative = |fact: Fact| excess(fact) / peers.now[fact as usize].abs().max(1e-9);
    // Where errors have always come, they have to come twice as often.
    let errors = |fact: Fact, least: f64| {
        let before = past.map_or(0.0, |past| past[fact as usize]);
        excess(fact) > if before > least { before } else { least }
    };
    // Its clock explains the half of it at least, and has itself become slower: where all others happen to be read while they spin, at their
    // highest clock, it has not.
    let stayed = past.is_some_and(|past| now[Fact::SmClock as usize] > (1.0 - CLOCK_LEAST) * past[Fact::SmClock as usize]);
    // A limiter slows a GPU by its clock and by nothing else: where that is known and has not fallen, a bit that flickers is a history.
    let limited = relative(Fact::SmClock) < -CLOCK_LEAST.max(0.25 * effect) || !known(Fact::SmClock);
    let lost = -relative(Fact::SmClock);
    // What takes so much longer for it.
    let longer = lost / (1.0 - lost).max(0.1);
    let slow_clock = !stayed && lost > CLOCK.min(CLOCK_LEAST.max(effect)) && longer > 0.5 * effect;
    // All others are at their power limit, and it is not: nothing limits it, and still it never runs as fast as they do while they spin. Its clock is
    // held.
    let duty = |fact: Fact| now[fact as usize];
    let free = duty(Fact::PowerCapDuty) < DUTY && duty(Fact::ThermalDuty) < DUTY && duty(Fact::BrakeDuty) < DUTY;
    let held = free
        && excess(Fact::PowerCapDuty) < -CAPPED
        && peers.now[Fact::PowerCapDuty as usize] > CAPPED
        && relative(Fact::SmClockHighest) < -CLOCK;
    let checks: [(Cause, Vec<(Fact, bool)>); 9] = [
        (Cause::PowerBrake, vec![(Fact::BrakeDuty, excess(Fact::BrakeDuty) > DUTY && limited)]),
        (
            Cause::PowerCap,
            vec![
                (Fact::PowerLimit, relative(Fact::PowerLimit) < -0.05 && limited),
                (Fact::PowerCapDuty, excess(Fact::PowerCapDuty) > DUTY && slow_clock && excess(Fact::ThermalDuty) <= DUTY),
            ],
        ),
        (Cause::Thermal, vec![(Fact::ThermalDuty, excess(Fact::ThermalDuty) > DUTY && limited)]),
        (
            Cause::HbmDegraded,
            vec![
                (Fact::EccUncorrected, excess(Fact::EccUncorrected) > 0.0),
                (Fact::RemappedRows, excess(Fact::RemappedRows) > 0.0),
                (Fact::EccCorrected, errors(Fact::EccCorrected, ERRORS)),
            ],
        ),
        (Cause::NvlinkErrors, vec![(Fact::NvlinkErrors, errors(Fact::NvlinkErrors, ERRORS))]),
        (
            Cause::PcieDegraded,
            vec![
                (Fact::PcieWidth, relative(Fact::PcieWidth) < -0.1),
                (Fact::PcieGeneration, excess(Fact::PcieGeneration) < -0.7),
                (Fact::PcieReplays, errors(Fact::PcieReplays, 5.0 * ERRORS)),
            ],
        ),
        (
            Cause::CpuContention,
            vec![
                (Fact::CpuUtilization, excess(Fact::CpuUtilization) > 0.15),
                (Fact::CpuPressure, excess(Fact::CpuPressure) > 0.1),
            ],
        ),
        (
            Cause::NetworkSlow,
            vec![
                (Fact::NetworkErrors, errors(Fact::NetworkErrors, 5.0 * ERRORS)),
                (Fact::NetworkLink, relative(Fact::NetworkLink) < -0.1),
            ],
        ),
        (Cause::ClockLock, vec![(Fact::SmClock, slow_clock), (Fact::SmClockHighest, held)]),
    ];
    let seen = |(_, facts): &&(Cause, Vec<(Fact, bool)>)| facts.iter().any(|&(_, holds)| holds);
    let ruled_out = |found: Cause| {
        let absent =
            checks.iter().filter(|check| !seen(check) && check.0 != found && check.1.iter().any(|&(fact, _)| known(fact)));
        absent.map(|check| check.0).collect()
    };
    match checks.iter().find(seen) {
        Some((cause, facts)) => {
            let mut shown: Vec<usize> = facts.iter().filter(|fact| fact.1).map(|fact| fact.0 as usize).collect();
            if slow_clock && *cause != Cause::ClockLock {
                shown.push(Fact::SmClock as usize);
            }
            if *cause == Cause::Thermal {
                shown.push(Fact::Temperature as usize);
            }
            Verdict { cause: *cause, facts: shown, ruled_out: ruled_out(*cause) }
        }
        None => Verdict { cause: Cause::Unknown, facts: Vec::new(), ruled_out: ruled_out(Cause::Unknown) },
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::row;
    use super::*;

    #[test]
    fn a_board_that_nothing_limits_and_that_lacks_the_boost_has_its_clock_held() {
        let shows = |clock: f64, highest: f64, capped: f64| {
            let limits = [(Fact::ThermalDuty, 0.0), (Fact::BrakeDuty, 0.0), (Fact::PowerCapDuty, capped)];
            row(&[&limits[..], &[(Fact::SmClock, clock), (Fact::SmClockHighest, highest)]].concat())
        };
        let peers = shows(1800.0, 1980.0, 0.9);
        let of = |now: Row, peers: Row| explain(&now, Some(&peers), &Peers::of(&[peers], &[peers]), 0.05, false);
        // Its clock while it computes is no lower than theirs.
        let held = of(shows(1815.0, 1815.0, 0.0), peers);
        assert_eq!((held.cause, &held.facts[..]), (Cause::ClockLock, &[Fact::SmClockHighest as usize][..]));
        // It floats as they do; or is limited as they are; or they are not limited.
        assert_eq!(of(shows(1815.0, 1980.0, 0.0), peers).cause, Cause::Unknown);
        assert_eq!(of(shows(1815.0, 1815.0, 0.9), peers).cause, Cause::Unknown);
        assert_eq!(of(shows(1815.0, 1815.0, 0.0), shows(1800.0, 1980.0, 0.1)).cause, Cause::Unknown);
    }

    #[test]
    fn a_history_blames_nothing_and_a_change_does() {
        let same = |row: Row| Peers::of(&[row], &[row]);
        let peers = row(&[(Fact::PcieWidth, 16.0), (Fact::SmClock, 1845.0), (Fact::ThermalDuty, 0.0)]);
        let past = row(&[(Fact::PcieWidth, 8.0), (Fact::SmClock, 1830.0), (Fact::ThermalDuty, 0.0)]);
        assert_eq!(explain(&past, Some(&past), &same(peers), 0.1, false).cause, Cause::Unknown);
        let hot = row(&[(Fact::PcieWidth, 8.0), (Fact::SmClock, 1500.0), (Fact::ThermalDuty, 1.0)]);
        let verdict = explain(&hot, Some(&past), &same(peers), 0.1, false);
        assert_eq!(verdict.cause, Cause::Thermal);
        assert!(verdict.ruled_out.contains(&Cause::PcieDegraded));
        // The others are read while they spin.
        let spinning = row(&[(Fact::PcieWidth, 16.0), (Fact::SmClock, 1905.0), (Fact::ThermalDuty, 0.0)]);
        assert_eq!(explain(&past, Some(&past), &Peers::of(&[spinning], &[peers]), 0.1, false).cause, Cause::Unknown);
        // Nine tenths of them are.
        let at = |clock: f64| row(&[(Fact::PcieWidth, 16.0), (Fact::SmClock, clock), (Fact::ThermalDuty, 0.0)]);
        let reads: Vec<Row> = (0..20).map(|peer| at(if peer < 3 { 1845.0 } else { 1905.0 })).collect();
        assert_eq!(explain(&peers, None, &Peers::of(&reads, &[]), 0.04, false).cause, Cause::Unknown);
        assert_eq!(explain(&at(1770.0), None, &Peers::of(&reads, &[]), 0.04, false).cause, Cause::ClockLock);
        // Errors that have always come, and a few more of them this minute.
        let rate = |errors: f64| row(&[(Fact::NvlinkErrors, errors)]);
        let cause = |now: f64| explain(&rate(now), Some(&rate(30.0)), &same(rate(0.0)), 0.1, false).cause;
        assert_eq!((cause(45.0), cause(70.0)), (Cause::Unknown, Cause::NvlinkErrors));
        let locked = row(&[(Fact::PcieWidth, 8.0), (Fact::SmClock, 1500.0), (Fact::ThermalDuty, 0.0)]);
        assert_eq!(explain(&locked, Some(&past), &same(peers), 0.1, false).cause, Cause::ClockLock);
    }
}
