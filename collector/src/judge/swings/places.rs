//! Which unit, and which feeder with limits of its own, each source of the judged sum belongs to.

use crate::fleet::Fleet;
use crate::power::Basis;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// What moves together: see [`crate::power::units`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::judge) struct Unit {
    /// Of a meter: its index.
    pub(in crate::judge) node: u32,
    pub(in crate::judge) job: Option<u32>,
    /// The job before, and until when.
    #[serde(default)]
    worked: Option<(u32, Micros)>,
}

impl Unit {
    /// The job that a change since then is one of: a fall is that of who worked before it, anything else of who works now; if there is none, of
    /// the other. A job that ends takes its name away in the very second in which it falls.
    pub(in crate::judge) fn job_of_change(&self, since: Micros, falls: bool) -> Option<u32> {
        let worked = self.worked.filter(|(_, until)| *until >= since).map(|(job, _)| job);
        if falls { worked.or(self.job) } else { self.job.or(worked) }
    }

    fn works_for(&mut self, job: Option<u32>, now: Micros) {
        if let Some(before) = self.job.filter(|_| self.job != job) {
            self.worked = Some((before, now));
        }
        self.job = job;
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::judge) struct Places {
    pub(in crate::judge) unit_of: Vec<u32>,
    pub(in crate::judge) units: Vec<Unit>,
    /// Of `unit_of`: a unit, and how many sources in a row belong to it. A node's boards stand side by side.
    #[serde(skip)]
    pub(in crate::judge) runs: Vec<(u32, u32)>,
    /// By node: its units, one for each job that shared it at once so far.
    of_node: Vec<Vec<u32>>,
    /// By feeder with limits: its sources.
    pub(in crate::judge) members: Vec<Vec<u32>>,
    /// By source: such a feeder, and the source's place in it.
    pub(in crate::judge) feeder_of: Vec<Option<(u16, u32)>>,
    /// Nodes in service, and sources of those of them that were never heard of, as far as others tell how many a node has.
    pub(in crate::judge) in_service: usize,
    pub(in crate::judge) absent_sources: f64,
    stale: bool,
}

impl Places {
    /// Jobs or the topology have changed.
    pub(in crate::judge) fn outdate(&mut self) {
        self.stale = true;
    }

    /// Looks everything up anew if anything has changed. `feeders`: the names of those with limits.
    pub(in crate::judge) fn update<'a>(
        &mut self,
        fleet: &Fleet,
        basis: Basis,
        job: &[Option<u32>],
        now: Micros,
        feeders: impl ExactSizeIterator<Item = &'a str> + Clone,
    ) {
        let sources = match basis {
            Basis::Gpu => fleet.gpus().len(),
            Basis::Node => fleet.nodes().len(),
            Basis::Meter => fleet.meters().len(),
        };
        let is_whole = self.unit_of.len() == sources && self.runs.is_empty() == (sources == 0);
        if !self.stale && is_whole && self.members.len() == feeders.len() {
            return;
        }
        self.stale = false;
        self.count_absent(fleet);
        self.unit_of.clear();
        self.feeder_of.clear();
        self.members.clear();
        self.members.resize(feeders.len(), Vec::new());
        // By node, the jobs that have been given a unit in this look.
        let mut taken: Vec<Vec<Option<u32>>> = Vec::new();
        for source in 0..sources {
            let node = match basis {
                Basis::Gpu => fleet.gpus()[source].node.0 as usize,
                _ => source,
            };
            if taken.len() <= node {
                taken.resize(node + 1, Vec::new());
            }
            let job = if basis == Basis::Meter { None } else { job.get(source).copied().flatten() };
            let nth = taken[node].iter().position(|taken| *taken == job).unwrap_or_else(|| {
                taken[node].push(job);
                taken[node].len() - 1
            });
            let unit = self.unit(node, nth);
            self.units[unit as usize].works_for(job, now);
            self.unit_of.push(unit);
            let feeder = feeder_name(fleet, basis, node).and_then(|name| feeders.clone().position(|feeder| feeder == name));
            self.feeder_of.push(feeder.map(|feeder| {
                self.members[feeder].push(source as u32);
                (feeder as u16, self.members[feeder].len() as u32 - 1)
            }));
        }
        let runs = self.unit_of.chunk_by(|a, b| a == b);
        self.runs = runs.map(|run| (run[0], run.len() as u32)).collect();
    }

    fn count_absent(&mut self, fleet: &Fleet) {
        let in_service = |node: &&crate::fleet::Node| node.place.as_ref().is_some_and(|place| place.in_service);
        self.in_service = fleet.nodes().iter().filter(in_service).count();
        let with_gpus = fleet.nodes().iter().filter(|node| node.has_gpus()).count();
        let absent = fleet.nodes().iter().filter(in_service).filter(|node| !node.has_gpus()).count();
        self.absent_sources = absent as f64 * fleet.gpus().len() as f64 / with_gpus.max(1) as f64;
    }

    /// The node's nth unit. A node that goes to another job as a whole keeps its unit, and so its past.
    fn unit(&mut self, node: usize, nth: usize) -> u32 {
        if self.of_node.len() <= node {
            self.of_node.resize(node + 1, Vec::new());
        }
        let own = &mut self.of_node[node];
        while own.len() <= nth {
            own.push(self.units.len() as u32);
            self.units.push(Unit { node: node as u32, job: None, worked: None });
        }
        own[nth]
    }
}

/// The feeder that a node (or meter) hangs on.
pub(in crate::judge) fn feeder_name(fleet: &Fleet, basis: Basis, node: usize) -> Option<&str> {
    match basis {
        Basis::Meter => fleet.meters().get(node)?.feeder.as_deref(),
        _ => fleet.nodes().get(node)?.place.as_ref().map(|place| place.feeder.as_str()),
    }
}
