//! Power bins → swings → incidents.
//!
//! The sum on the configured basis is judged ([`Domain`]), and that of each feeder with limits of its own; the other two of boards, nodes
//! and meters are summed beside it, and calibrated to each other.

mod clocks;
mod contributors;
mod figures;
mod leaving;
mod places;
mod recurring;
mod report;
mod second;

pub use figures::{FeederPower, Figure, LevelPower, Levels};
pub(super) use places::feeder_name;
pub(super) use report::object;

use super::Judge;
use crate::align::Sampling;
use crate::align::calibration::Calibrator;
use crate::align::clocks::{Arrivals, ClockView, ClockWatch, Off, Usual};
use crate::align::power::{Amended, Bin, News, total};
use crate::fleet::Fleet;
use crate::power::forecast::Score;
use crate::power::{Basis, Cycle, Domain, Finding, History, Input, Limits, Resolved, Units};
use gridstep_wire::Micros;
use places::Places;
use report::Told;
use second::Second;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Whose sum a finding is about: the fleet's, or that of the feeder with this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Fleet,
    /// Of those who take no part in the fleet's oscillation.
    Others,
    Feeder(usize),
}

/// A feeder with limits of its own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Feeder {
    name: String,
    domain: Domain,
    limits: Resolved,
    told: Told,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Swings {
    fleet: Domain,
    told: Told,
    second: Second,
    told_second: Told,
    feeders: Vec<Feeder>,
    pub(super) units: Units,
    pub(super) places: Places,
    /// Sums of what is not judged: of each basis but the one in force.
    beside: BTreeMap<Basis, History>,
    calibrator: Calibrator,
    pub(super) arrivals: Arrivals,
    pub(super) clocks: Vec<ClockView>,
    clock_watches: Vec<ClockWatch>,
    /// GPUs that were let go of and have not come back.
    gone: BTreeSet<u32>,
    let_go_due: Option<Micros>,
    /// How well forecasts have done so far.
    score: Score,
    /// The unit whose lag is looked at next, and when.
    audit_next: usize,
    audit_due: Option<Micros>,
    /// The node that each GPU is on.
    node_of: Vec<u32>,
    #[serde(skip)]
    scratch: Vec<f32>,
}

/// What a bin is judged under.
struct Judged<'a> {
    limits: &'a Resolved,
    limits_given: &'a Limits,
    sampling: Sampling,
    fleet: &'a Fleet,
    basis: Basis,
    /// Known sources ÷ those in service: what was never heard of is missing too.
    in_service: f64,
}

/// A finding, and the bin that it was found in.
struct Found {
    scope: Scope,
    at: Micros,
    completeness: f64,
    finding: Finding,
}

impl Swings {
    pub(super) fn history(&self) -> &History {
        &self.fleet.history
    }

    /// Feeders that have limits, as the configuration names them; what is known of one that stays is kept.
    pub(super) fn set_feeders(&mut self, limits: &Limits) {
        let mut before = std::mem::take(&mut self.feeders);
        let names = limits.feeder.keys();
        self.feeders = names
            .map(|name| match before.iter().position(|feeder| feeder.name == *name) {
                Some(place) => before.swap_remove(place),
                None => Feeder { name: name.clone(), ..Feeder::default() },
            })
            .collect();
        self.places.outdate();
    }

    /// `per_source`: watts that a source may draw, in place of a contract that is not given.
    fn resolve_feeders(&mut self, limits: &Limits, per_source: f64) {
        for ((feeder, own), members) in self.feeders.iter_mut().zip(limits.feeder.values()).zip(&self.places.members) {
            feeder.limits = own.resolve(per_source * members.len() as f64);
        }
    }

    fn take(&mut self, news: News<'_>, known: usize, judged: &Judged<'_>, found: &mut Vec<Found>) {
        match news {
            News::Joined(sources) => self.join(sources),
            News::Left(sources) => self.join(&negative(sources)),
            News::Amended(change) => self.amend(&change, known),
            News::Bin(bin) => self.judge(&bin, judged, found),
            News::Final(at) => self.finish(at, judged, found),
        }
    }

    fn join(&mut self, sources: &[(u32, f32)]) {
        self.fleet.join(sources);
        for &(source, watts) in sources {
            if let Some(&unit) = self.places.unit_of.get(source as usize) {
                self.units.add(unit as usize, watts);
            }
            if let Some((feeder, place)) = self.places.feeder_of.get(source as usize).copied().flatten() {
                self.feeders[usize::from(feeder)].domain.join(&[(place, watts)]);
            }
        }
    }

    pub(super) fn look_at_clocks(&mut self, usual: &Usual) -> Vec<Option<Off>> {
        self.clock_watches.resize(self.clocks.len(), ClockWatch::default());
        self.clock_watches.iter_mut().zip(&self.clocks).map(|(watch, clock)| watch.look(clock, usual)).collect()
    }

    /// Sources, in order, whose clocks are off by this many seconds at most.
    pub(super) fn leave_untimed(&mut self, sources: Vec<u32>, worst: f64) {
        for (index, feeder) in self.feeders.iter_mut().enumerate() {
            let places = sources.iter().filter_map(|&source| self.places.feeder_of.get(source as usize).copied().flatten());
            let own = places.filter(|(of, _)| usize::from(*of) == index).map(|(_, place)| place).collect();
            feeder.domain.untimed.set(own, worst);
        }
        self.fleet.untimed.set(sources, worst);
    }

    fn amend(&mut self, change: &Amended, known: usize) {
        let source = change.source as usize;
        self.fleet.amend(change, source, known);
        let Some(&unit) = self.places.unit_of.get(source) else { return };
        self.units.amend(change.at, unit as usize, change.watts - change.imputed);
        self.second.amend(change.at, unit as usize, change.imputed, change.watts, known);
        if let Some((feeder, place)) = self.places.feeder_of[source] {
            let sources = self.places.members[usize::from(feeder)].len();
            self.feeders[usize::from(feeder)].domain.amend(change, place as usize, sources);
        }
    }

    fn judge(&mut self, bin: &Bin<'_>, judged: &Judged<'_>, found: &mut Vec<Found>) {
        for &(source, watts) in bin.joined {
            if let Some(&unit) = self.places.unit_of.get(source as usize) {
                self.units.add(unit as usize, watts);
            }
        }
        self.units.push(bin.at, bin.watts, &self.places.runs, self.places.units.len());
        let input = Input {
            at: bin.at,
            watts: bin.watts,
            sum: bin.sum,
            imputed: bin.imputed,
            completeness: bin.completeness * judged.in_service,
            joined: bin.joined,
        };
        let tell = |scope, completeness| move |finding| Found { scope, at: bin.at, completeness, finding };
        let fleet = tell(Scope::Fleet, input.completeness);
        self.fleet.judge(&input, judged.limits, &judged.limits_given.band, judged.sampling, |finding| found.push(fleet(finding)));
        if let Some(line) = self.judge_second(bin.at, input.completeness, judged) {
            let finding = Finding::Oscillation(line);
            found.push(Found { scope: Scope::Others, at: bin.at, completeness: input.completeness, finding });
        }
        let second = self.second.running().map(|second| Cycle { period: 1.0 / second.frequency_hz });
        self.fleet.second_cycle = second;
        for index in 0..self.feeders.len() {
            self.judge_feeder(index, bin, judged, found);
        }
    }

    fn judge_feeder(&mut self, index: usize, bin: &Bin<'_>, judged: &Judged<'_>, found: &mut Vec<Found>) {
        let members = &self.places.members[index];
        let watts = &mut self.scratch;
        watts.clear();
        watts.extend(members.iter().map(|&source| bin.watts.get(source as usize).copied().unwrap_or(0.0)));
        let own = |source: u32| self.places.feeder_of[source as usize].filter(|(feeder, _)| usize::from(*feeder) == index);
        let missing = bin.missing.iter().filter(|&&source| own(source).is_some());
        let (count, imputed) =
            missing.fold((0, 0.0), |(count, sum), &source| (count + 1, sum + f64::from(bin.watts[source as usize])));
        let joined: Vec<(u32, f32)> =
            bin.joined.iter().filter_map(|&(source, watts)| own(source).map(|(_, place)| (place, watts))).collect();
        let completeness = 1.0 - f64::from(count) / members.len().max(1) as f64;
        let sum = total(watts);
        let input = Input { at: bin.at, watts, sum, imputed, completeness, joined: &joined };
        let Feeder { domain, limits, name, .. } = &mut self.feeders[index];
        let bands = judged.limits_given.feeder.get(name).map_or(&[][..], |own| own.band.as_slice());
        domain.judge(&input, limits, bands, judged.sampling, |finding| {
            found.push(Found { scope: Scope::Feeder(index), at: bin.at, completeness, finding });
        });
    }

    /// A bin of what is not judged.
    fn take_beside(&mut self, basis: Basis, news: News<'_>, known: usize) {
        let history = self.beside.entry(basis).or_default();
        match news {
            News::Joined(sources) => history.joined(sources.iter().map(|&(_, watts)| f64::from(watts)).sum()),
            News::Left(sources) => history.joined(-sources.iter().map(|&(_, watts)| f64::from(watts)).sum::<f64>()),
            News::Amended(change) => history.amend(change.at, f64::from(change.imputed), f64::from(change.watts), known),
            News::Bin(bin) => {
                let joined: f64 = bin.joined.iter().map(|&(_, watts)| f64::from(watts)).sum();
                if joined > 0.0 {
                    history.joined(joined);
                }
                history.push(bin.at, bin.sum, bin.imputed, bin.completeness);
            }
            News::Final(at) => history.finish(at),
        }
    }

    /// What is measured of a bin goes into the calibration; of nodes, as a whole.
    fn calibrate(&mut self, basis: Basis, bin: &Bin<'_>) {
        match basis {
            Basis::Gpu => self.calibrate_boards(bin),
            Basis::Node => {
                let mut missing = bin.missing.iter().peekable();
                for (node, &watts) in bin.watts.iter().enumerate() {
                    if missing.next_if(|&&source| source as usize == node).is_none() && watts > 0.0 {
                        self.calibrator.put_node(bin.at, node, f64::from(watts));
                    }
                }
            }
            Basis::Meter if bin.missing.is_empty() => self.calibrator.put_meter(bin.at, bin.sum),
            Basis::Meter => {}
        }
    }

    fn calibrate_boards(&mut self, bin: &Bin<'_>) {
        let mut by_node: Vec<f64> = Vec::new();
        let node_of = |source: usize| self.node_of.get(source).map_or(0, |&node| node as usize);
        for (source, &watts) in bin.watts.iter().enumerate() {
            let node = node_of(source);
            if by_node.len() <= node {
                by_node.resize(node + 1, 0.0);
            }
            by_node[node] += f64::from(watts);
        }
        bin.missing.iter().for_each(|&source| by_node[node_of(source as usize)] = f64::NAN);
        for (node, watts) in by_node.into_iter().enumerate().filter(|(_, watts)| *watts > 0.0) {
            self.calibrator.put_boards(bin.at, node, watts);
        }
    }

    fn finish(&mut self, at: Micros, judged: &Judged<'_>, found: &mut Vec<Found>) {
        self.units.finish(at);
        let fleet = self.fleet.finish(at, judged.limits).map(|over| (Scope::Fleet, over));
        found.extend(fleet.map(|(scope, over)| Found { scope, at, completeness: 1.0, finding: Finding::OverLimit(over) }));
        for (index, feeder) in self.feeders.iter_mut().enumerate() {
            if let Some(over) = feeder.domain.finish(at, &feeder.limits) {
                let scope = Scope::Feeder(index);
                found.push(Found { scope, at, completeness: 1.0, finding: Finding::OverLimit(over) });
            }
        }
    }
}

impl Judge {
    pub(super) fn judge_power(&mut self, now: Micros) {
        let basis = *self.basis.get_or_insert_with(|| {
            settle(&self.config.power.limits, [&self.gpu_power, &self.node_power, &self.meter_power].map(|grid| !grid.is_empty()))
        });
        self.swings.arrivals.advance(now);
        self.let_go(now);
        self.update_places(basis, now);
        let mut found = Vec::new();
        self.finish_grids(now, basis, &mut found);
        if self.swings.history().is_empty() {
            // Nothing judged yet: the basis is not settled.
            self.basis = None;
        }
        self.audit_clocks(now);
        for one in found {
            self.report(&one);
        }
        self.keep_powers();
        if let Some(at) = self.swings.history().last() {
            self.swings.score_forecast(at);
            self.close_recurring(at);
        }
    }

    fn update_places(&mut self, basis: Basis, now: Micros) {
        let job = if basis == Basis::Gpu { &self.gpu_job } else { &self.node_job };
        let given = &self.config.power.limits;
        self.swings.places.update(&self.fleet, basis, job, now, given.feeder.keys().map(String::as_str));
        if !given.feeder.is_empty() {
            let per_source = self.nameplate_watts() / self.known_sources(basis);
            self.swings.resolve_feeders(given, per_source);
        }
        let (known, gpus) = (self.swings.node_of.len(), self.fleet.gpus());
        self.swings.node_of.extend(gpus[known.min(gpus.len())..].iter().map(|gpu| gpu.node.0));
    }

    fn known_sources(&self, basis: Basis) -> f64 {
        let count = match basis {
            Basis::Gpu => self.fleet.gpus().len(),
            Basis::Node => self.fleet.nodes().len(),
            Basis::Meter => self.fleet.meters().len(),
        };
        count.max(1) as f64
    }

    fn finish_grids(&mut self, now: Micros, basis: Basis, found: &mut Vec<Found>) {
        let in_service = self.share_in_service(basis);
        let calibrates = !self.node_power.is_empty() || !self.meter_power.is_empty();
        let Self { gpu_power, node_power, meter_power, gpu_job, node_job, swings, limits, config, fleet, .. } = self;
        let grids: [(Basis, &mut _, &[Option<u32>]); 3] =
            [(Basis::Gpu, gpu_power, gpu_job), (Basis::Node, node_power, node_job), (Basis::Meter, meter_power, &[])];
        for (own, grid, jobs) in grids {
            if grid.is_empty() {
                continue;
            }
            let sampling = grid.sampling();
            let judged = Judged { limits, limits_given: &config.power.limits, sampling, fleet, basis: own, in_service };
            let known = grid.known();
            grid.finish(now, jobs, |news| {
                if calibrates && let News::Bin(bin) = &news {
                    swings.calibrate(own, bin);
                }
                match own == basis {
                    true => swings.take(news, known, &judged, found),
                    false => swings.take_beside(own, news, known),
                }
            });
        }
    }

    /// Known sources ÷ those that ought to be there, by the nodes in service.
    fn share_in_service(&self, basis: Basis) -> f64 {
        let places = &self.swings.places;
        let (known, absent) = match basis {
            Basis::Gpu => (self.gpu_power.known(), places.absent_sources + self.gone_in_service()),
            Basis::Node => (self.node_power.known(), places.in_service.saturating_sub(self.node_power.known()) as f64),
            Basis::Meter => return 1.0,
        };
        if known > 0 { known as f64 / (known as f64 + absent) } else { 1.0 }
    }
}

fn negative(sources: &[(u32, f32)]) -> Vec<(u32, f32)> {
    sources.iter().map(|&(source, watts)| (source, -watts)).collect()
}

/// What is judged: the basis that was asked for, or else the finest whole there is.
fn settle(limits: &Limits, has: [bool; 3]) -> Basis {
    let finest = [Basis::Gpu, Basis::Node, Basis::Meter];
    let there = |basis: &Basis| has[*basis as usize];
    Some(limits.basis).filter(there).or_else(|| finest.into_iter().find(there)).unwrap_or(limits.basis)
}
