//! Why a GPU or node is slow: what changed on it and not on its peers.
//!
//! A fact's *excess* is its change against the GPU's own past, less the change of its peers; without a past, its distance to
//! the peers. So a narrow link or an error total that a machine has had all along blames nothing.

use super::facts::{Fact, Row};
use serde::{Deserialize, Serialize};

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
const BRIEF: f64 = 0.35;
/// Least share of seconds under a limiter beyond that of the peers.
const DUTY: f64 = 0.2;
/// Least relative loss of SM clock: the quantum is 15 MHz in 1845 (0.8 %), boards differ by 1.5 %.
const CLOCK: f64 = 0.02;
/// The same where the effect is small as well.
const CLOCK_LEAST: f64 = 0.012;
/// Least error rate, per second.
const ERRORS: f64 = 0.2;

/// `now`: the suspect's facts; `past`: its own before, if known; `peers`, `peers_past`: medians of its job. `effect`: by which share it
/// is occupied longer, which a slower clock has to explain. `of_node`: a node is suspected; what its host or its network shows says nothing
/// of one GPU that is alone in being slow.
pub fn explain(now: &Row, past: Option<&Row>, peers: &Row, peers_past: Option<&Row>, effect: f64, of_node: bool) -> Verdict {
    let host = |fact: Fact| matches!(fact, Fact::CpuUtilization | Fact::CpuPressure | Fact::NetworkErrors | Fact::NetworkLink);
    let known = |fact: Fact| !now[fact as usize].is_nan();
    let excess = |fact: Fact| {
        let index = fact as usize;
        let own = past.map(|past| past[index]).filter(|value| !value.is_nan());
        let theirs = peers_past.map(|past| past[index]).filter(|value| !value.is_nan());
        let value = match (own, theirs) {
            (Some(own), Some(theirs)) => (now[index] - own) - (peers[index] - theirs),
            _ => now[index] - peers[index],
        };
        if value.is_nan() || host(fact) && !of_node { 0.0 } else { value }
    };
    let relative = |fact: Fact| excess(fact) / peers[fact as usize].abs().max(1e-9);
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
    let checks: [(Cause, Vec<(Fact, bool)>); 9] = [
        (Cause::PowerBrake, vec![(Fact::BrakeDuty, excess(Fact::BrakeDuty) > DUTY && limited)]),
        (
            Cause::PowerCap,
            vec![
                (Fact::PowerLimit, relative(Fact::PowerLimit) < -0.05),
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
        (Cause::ClockLock, vec![(Fact::SmClock, slow_clock)]),
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
    fn a_history_blames_nothing_and_a_change_does() {
        let peers = row(&[(Fact::PcieWidth, 16.0), (Fact::SmClock, 1845.0), (Fact::ThermalDuty, 0.0)]);
        let past = row(&[(Fact::PcieWidth, 8.0), (Fact::SmClock, 1830.0), (Fact::ThermalDuty, 0.0)]);
        assert_eq!(explain(&past, Some(&past), &peers, Some(&peers), 0.1, false).cause, Cause::Unknown);
        let hot = row(&[(Fact::PcieWidth, 8.0), (Fact::SmClock, 1500.0), (Fact::ThermalDuty, 1.0)]);
        let verdict = explain(&hot, Some(&past), &peers, Some(&peers), 0.1, false);
        assert_eq!(verdict.cause, Cause::Thermal);
        assert!(verdict.ruled_out.contains(&Cause::PcieDegraded));
        // The others are read while they spin.
        let spinning = row(&[(Fact::PcieWidth, 16.0), (Fact::SmClock, 1905.0), (Fact::ThermalDuty, 0.0)]);
        assert_eq!(explain(&past, Some(&past), &spinning, Some(&peers), 0.1, false).cause, Cause::Unknown);
        // Errors that have always come, and a few more of them this minute.
        let rate = |errors: f64| row(&[(Fact::NvlinkErrors, errors)]);
        let cause = |now: f64| explain(&rate(now), Some(&rate(30.0)), &rate(0.0), Some(&rate(0.0)), 0.1, false).cause;
        assert_eq!((cause(45.0), cause(70.0)), (Cause::Unknown, Cause::NvlinkErrors));
        let locked = row(&[(Fact::PcieWidth, 8.0), (Fact::SmClock, 1500.0), (Fact::ThermalDuty, 0.0)]);
        assert_eq!(explain(&locked, Some(&past), &peers, Some(&peers), 0.1, false).cause, Cause::ClockLock);
    }
}
