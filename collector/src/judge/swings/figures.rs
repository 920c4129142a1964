//! What the judging of power knows, for pages, metrics and reports: nothing here changes a verdict.

use super::super::{Judge, PowerPoint};
use super::places::feeder_name;
use super::{Scope, Swings, report};
use crate::align::calibration::Calibration;
use crate::fleet::NodeSlot;
use crate::power::claim::{self, Claim};
use crate::power::forecast::Scored;
use crate::power::spectrum::Floor;
use crate::power::{
    BandPower, Basis, Coincidence, Dips, Domain, Forecast, History, Oscillation, PowerSecond, Quarter, Ramp, Resolved, forecast,
    oscillation,
};
use gridstep_wire::Micros;
use serde::Serialize;
use std::collections::BTreeMap;

/// One of the three sums: boards, whole nodes, or meters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    pub basis: Basis,
    /// Centre of its newest bin.
    #[serde(skip)]
    pub at: Micros,
    pub watts: f64,
    pub completeness: f64,
    /// The limits are about this one.
    pub is_judged: bool,
}

/// Watts of one rack, feeder, job or node: the mean of the last whole second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelPower {
    pub name: String,
    pub watts: f64,
}

/// The last whole second by level, each in the order of its names. What has no name is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Levels {
    /// End of the second.
    #[serde(skip)]
    pub at: Option<Micros>,
    pub jobs: Vec<LevelPower>,
    pub racks: Vec<LevelPower>,
    pub feeders: Vec<LevelPower>,
    pub nodes: Vec<LevelPower>,
}

/// A feeder that has limits of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeederPower {
    pub name: String,
    pub watts: f64,
    pub completeness: f64,
    pub limits: Resolved,
    pub ramps: [Ramp; 4],
    pub demand: Option<Quarter>,
}

impl Swings {
    /// Holds the forecast against what came, once a second.
    pub(super) fn score_forecast(&mut self, at: Micros) {
        let Some(line) = self.fleet.oscillation.running() else {
            self.score.end();
            return;
        };
        if self.score.is_due(at) {
            self.score.look(&self.fleet.history, line.frequency_hz, at);
        }
    }
}

impl Judge {
    pub(super) fn domain(&self, scope: Scope) -> &Domain {
        match scope {
            Scope::Fleet | Scope::Others => &self.swings.fleet,
            Scope::Feeder(index) => &self.swings.feeders[index].domain,
        }
    }

    /// Bins of [`Self::power_history`] up to this instant no longer change.
    pub fn power_final_until(&self) -> Option<Micros> {
        self.swings.history().last_final()
    }

    /// Final seconds of the fleet's sum since the last call, with their ramps: of the last hour at most.
    pub fn take_power_seconds(&mut self) -> Vec<PowerSecond> {
        self.swings.fleet.take_seconds()
    }

    /// What the limits are about. None: nothing has been judged yet.
    pub fn basis(&self) -> Option<Basis> {
        self.basis
    }

    /// Boards, nodes and meters, as far as they are known: three figures, never one.
    pub fn figures(&self) -> Vec<Figure> {
        let all = [Basis::Gpu, Basis::Node, Basis::Meter];
        let figure = |basis: Basis| {
            let history = self.history_of(basis)?;
            let (watts, at) = (history.back(0)?, history.last()?);
            let completeness = history.completeness(1);
            Some(Figure { basis, at, watts, completeness, is_judged: self.basis == Some(basis) })
        };
        all.into_iter().filter_map(figure).collect()
    }

    fn history_of(&self, basis: Basis) -> Option<&History> {
        if self.basis == Some(basis) { Some(self.swings.history()) } else { self.swings.beside.get(&basis) }
    }

    /// The last 15 minutes of one of the three sums, oldest first; empty where it is not known.
    pub fn power_history_of(&self, basis: Basis) -> impl DoubleEndedIterator<Item = PowerPoint> + '_ {
        let history = self.history_of(basis).into_iter();
        history.flat_map(|history| history.points().map(|(at, watts, completeness)| PowerPoint { at, watts, completeness }))
    }

    /// How far the fleet's sum has moved within 1, 10, 60 and 600 s.
    pub fn ramps(&self) -> [Ramp; 4] {
        self.swings.fleet.ramps()
    }

    /// What the fleet's sum does in each band of frequencies.
    pub fn bands(&self) -> Vec<BandPower> {
        self.swings.fleet.bands.powers().collect()
    }

    /// Spectrum of the fleet's sum over the last 102 s, beside what independent sources would show.
    pub fn spectrum(&self) -> Option<Floor> {
        self.swings.fleet.spectrum()
    }

    /// A line is told from independent sources where it is so many times its floor (amplitudes).
    pub fn spectrum_threshold_ratio(&self) -> f64 {
        oscillation::synchrony_threshold(oscillation::CHANCE, self.swings.fleet.signed.sources()).sqrt()
    }

    /// Nothing is claimed above this frequency, hertz.
    pub fn claim_limit_hz(&self) -> f64 {
        claim::claim_limit(self.sampling())
    }

    /// The same, and why not above a higher one.
    pub fn claim(&self) -> Claim {
        claim::claim(self.sampling())
    }

    /// Above it, nodes whose clocks are off are left out of lines, hertz. None: no clock is off.
    pub fn untimed_from_hz(&self) -> Option<f64> {
        self.swings.fleet.untimed.from_hz()
    }

    /// What sensor, sampling and clocks leave of an amplitude at this frequency.
    pub fn gain(&self, hertz: f64) -> f64 {
        claim::gain(hertz, self.sampling())
    }

    /// How finely what is judged is sampled.
    pub fn sampling(&self) -> crate::align::Sampling {
        match self.basis.unwrap_or_default() {
            Basis::Gpu => self.gpu_power.sampling(),
            Basis::Node => self.node_power.sampling(),
            Basis::Meter => self.meter_power.sampling(),
        }
    }

    /// The oscillation that goes on, if there is one.
    pub fn running_oscillation(&self) -> Option<&Oscillation> {
        self.swings.fleet.oscillation.running()
    }

    /// Another one that goes on meanwhile, of those who take no part in that.
    pub fn second_oscillation(&self) -> Option<&Oscillation> {
        self.swings.second.running()
    }

    /// How well the forecasts of this oscillation have done so far. None: they are too few.
    pub fn forecast_score(&self) -> Option<Scored> {
        self.swings.score.scored()
    }

    /// The next crest and trough of the oscillation that goes on.
    pub fn forecast(&self) -> Option<Forecast> {
        forecast::forecast(self.swings.history(), self.running_oscillation()?.frequency_hz)
    }

    /// The next of the dips that recur (a checkpoint, an evaluation).
    pub fn dips(&self) -> Option<Dips> {
        let cycle = self.running_oscillation().map(|line| 1.0 / line.frequency_hz);
        forecast::dips(self.swings.history(), cycle)
    }

    /// The running quarter of an hour, and the finished ones of the last day, oldest first.
    pub fn demand(&self) -> (Option<Quarter>, Vec<Quarter>) {
        let demand = &self.swings.fleet.demand;
        (demand.running(), demand.finished().copied().collect())
    }

    /// How the peaks of the nodes fall together, over the last three minutes.
    pub fn coincidence(&self) -> Option<Coincidence> {
        self.swings.units.coincidence()
    }

    /// The last whole second of every job, rack, feeder and node.
    pub fn levels(&self) -> Levels {
        let Some((at, row)) = self.swings.units.latest() else { return Levels::default() };
        let basis = self.basis.unwrap_or_default();
        let units = &self.swings.places.units;
        let group = |name: &dyn Fn(usize) -> Option<String>| {
            let mut groups: BTreeMap<String, f64> = BTreeMap::new();
            for (unit, &watts) in row.iter().enumerate().take(units.len()) {
                if let Some(name) = name(unit) {
                    *groups.entry(name).or_default() += f64::from(watts);
                }
            }
            groups.into_iter().map(|(name, watts)| LevelPower { name, watts }).collect()
        };
        let node = |unit: usize| self.fleet.nodes().get(units[unit].node as usize).filter(|_| basis != Basis::Meter);
        Levels {
            at: Some(at + 500_000),
            jobs: group(&|unit| units[unit].job.map(|job| self.fleet.jobs()[job as usize].clone())),
            racks: group(&|unit| node(unit)?.place.as_ref().map(|place| place.rack.clone())),
            feeders: group(&|unit| feeder_name(&self.fleet, basis, units[unit].node as usize).map(str::to_owned)),
            nodes: group(&|unit| node(unit).map(|node| node.name.clone())),
        }
    }

    /// The last three minutes of one job, in seconds, oldest first; watts.
    pub fn job_power(&self, job: &str) -> Vec<(Micros, f64)> {
        let Some(job) = self.fleet.jobs().iter().position(|name| name == job) else { return Vec::new() };
        let units = &self.swings.places.units;
        self.swings.units.series(|unit| units.get(unit).is_some_and(|unit| unit.job == Some(job as u32)))
    }

    /// The last three minutes of one feeder, in seconds, oldest first; watts.
    pub fn feeder_power(&self, feeder: &str) -> Vec<(Micros, f64)> {
        let basis = self.basis.unwrap_or_default();
        let units = &self.swings.places.units;
        let is_in =
            |unit: usize| units.get(unit).is_some_and(|unit| feeder_name(&self.fleet, basis, unit.node as usize) == Some(feeder));
        self.swings.units.series(is_in)
    }

    /// Every feeder that has limits of its own.
    pub fn feeders(&self) -> Vec<FeederPower> {
        let power = |feeder: &super::Feeder| FeederPower {
            name: feeder.name.clone(),
            watts: feeder.domain.history.back(0).unwrap_or(0.0),
            completeness: feeder.domain.history.completeness(1),
            limits: feeder.limits,
            ramps: feeder.domain.ramps(),
            demand: feeder.domain.demand.running(),
        };
        self.swings.feeders.iter().map(power).collect()
    }

    /// From the watts of a node's boards to those of the node. None: the node is not measured as a whole.
    pub fn node_calibration(&self, node: NodeSlot) -> Option<Calibration> {
        self.swings.calibrator.node(node.0 as usize)
    }

    /// From the sum of the nodes to that of the site's meters.
    pub fn meter_calibration(&self) -> Option<Calibration> {
        self.swings.calibrator.meter()
    }

    /// What the nodes draw as a whole by the boards' last second and the calibration; never «grid power». None: no node has been measured
    /// as a whole, or boards are not what is judged.
    pub fn estimated_nodes_watts(&self) -> Option<f64> {
        let (_, row) = self.swings.units.latest()?;
        if self.basis != Some(Basis::Gpu) || self.swings.calibrator.nodes() == 0 {
            return None;
        }
        let mut by_node: BTreeMap<u32, f64> = BTreeMap::new();
        for (unit, &watts) in self.swings.places.units.iter().zip(row) {
            *by_node.entry(unit.node).or_default() += f64::from(watts);
        }
        Some(by_node.into_iter().map(|(node, watts)| self.swings.calibrator.estimate(node as usize, watts)).sum())
    }

    /// Ratio to its limit from which a swing pages.
    pub fn critical_ratio(&self) -> f64 {
        report::CRITICAL_RATIO
    }
}
