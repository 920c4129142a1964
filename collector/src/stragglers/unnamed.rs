//! Whose GPUs work together, where nobody names their jobs: the nodes that began to compute together.
//!
//! The first collective holds all ranks of a job up until the last one has come, so they begin within seconds of each other; and a pause of one
//! is a pause of all. A node that has not computed for a minute and does so again *begins*; those that begin within half a minute are a cohort.
//! A cohort that is mostly one job's, of which nobody has gone on computing, is that job after a pause; any other is a new one. Nodes that
//! computed already when they were first heard are taken to be of the largest job there is. What is one by that and is not shows at the first
//! pause: of one job nobody computes for long while others do not. So jobs that were all running when the collector came are one until one of
//! them pauses: too coarse to page anybody who has no fact to show for it.

use super::occupancy;
use crate::align::seconds::Second;
use crate::fleet::{Fleet, JobSlot, NodeSlot};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Begin of such a job's name.
const PREFIX: &str = "unnamed-";
/// Share of a second from which on a GPU computes in it.
const COMPUTES: f64 = 0.05;
/// Seconds without computing after which a node begins anew, and after which it works for nobody.
const QUIET: u32 = 60;
const GONE: u32 = 600;
/// Seconds of computing that make a begin, and of quiet before it that show it to be one.
const BEGUN: u32 = 5;
const SEEN_QUIET: u32 = 10;
/// Seconds within which a cohort begins.
const TOGETHER: i64 = 30;
/// While some of a job did not compute for so many seconds, others who did in so many of them are of another one; fewer nodes than these may
/// have a fault.
const APART: u32 = 10;
const AT_WORK: u32 = 5;
const SEVERAL: usize = 2;
/// Share of a cohort and of a job's nodes that are the same when the job goes on.
const SAME: f64 = 0.5;

/// One node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Own {
    /// Seconds in which it computed since it last was quiet for long; seconds since the last one.
    computed: u32,
    quiet: u32,
    /// Seconds since it was last heard.
    silent: u32,
    /// Whether it computed in the last seconds, a bit for each, the last one lowest.
    lately: u16,
    /// It was heard while it did not compute, before it began.
    seen_quiet: bool,
    /// Slot of the job it works for.
    job: Option<u32>,
}

/// All nodes, by their slots.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Unnamed {
    nodes: Vec<Own>,
    /// Of those that begin now: the second of the first, and who.
    cohort: Option<(i64, Vec<u32>)>,
}

impl Unnamed {
    /// Takes a finished second. Gives each GPU's job, which is named after the first node of it that is known.
    pub fn take(&mut self, second: i64, gpus: &Second, fleet: &mut Fleet) -> Vec<Option<u32>> {
        self.nodes.resize_with(fleet.nodes().len(), Own::default);
        for (slot, own) in (0..).zip(&mut self.nodes) {
            let shares = fleet.gpus_of(NodeSlot(slot)).filter_map(|gpu| occupancy::of(gpus, gpu.0 as usize));
            if own.take(shares.reduce(f64::max).map(|most| most > COMPUTES)) {
                self.cohort.get_or_insert((second, Vec::new())).1.push(slot);
            }
        }
        if let Some((_, cohort)) = self.cohort.take_if(|(first, _)| second - *first >= TOGETHER) {
            self.place(cohort, fleet);
        }
        for apart in self.apart() {
            self.name(&apart, None, fleet);
        }
        fleet.gpus().iter().map(|gpu| self.nodes[gpu.node.0 as usize].job).collect()
    }

    fn place(&mut self, cohort: Vec<u32>, fleet: &mut Fleet) {
        let (late, mut begin): (Vec<u32>, Vec<u32>) = cohort.into_iter().partition(|&node| !self.nodes[node as usize].seen_quiet);
        let jobs = self.by_job();
        let largest = jobs.iter().max_by_key(|(_, nodes)| nodes.len()).map(|(&job, _)| job);
        match largest {
            Some(job) => late.iter().for_each(|&node| self.nodes[node as usize].job = Some(job)),
            // Nobody is older: what runs already and what begins just now cannot be told apart.
            None => begin.extend(late),
        }
        let set: BTreeSet<u32> = begin.iter().copied().collect();
        let goes_on = |nodes: &Vec<u32>| {
            let both = nodes.iter().filter(|node| set.contains(node)).count() as f64;
            let others_compute = nodes.iter().any(|node| !set.contains(node) && self.nodes[*node as usize].computes());
            both >= SAME * set.len() as f64 && both >= SAME * nodes.len() as f64 && !others_compute
        };
        let same = jobs.iter().find(|(_, nodes)| goes_on(nodes)).map(|(&job, _)| job);
        // Who does not come back with its job has left it.
        let came = |own: &&mut Own| same.is_some() && own.job == same;
        self.nodes.iter_mut().filter(came).for_each(|own| own.job = None);
        self.name(&begin, same, fleet);
    }

    /// These work for this job, or for a new one.
    fn name(&mut self, nodes: &[u32], job: Option<u32>, fleet: &mut Fleet) {
        let mut nodes = nodes.to_vec();
        nodes.sort_unstable();
        let Some(&first) = nodes.first() else { return };
        let job = job.unwrap_or_else(|| {
            let in_use = self.by_job();
            let of = |node: u32| format!("{PREFIX}{}", fleet.node_name(NodeSlot(node)));
            let is_free = |name: &String| !in_use.keys().any(|&job| fleet.job_name(JobSlot(job)) == name);
            // The one that a job was called after may have left it.
            let name = nodes.iter().map(|&node| of(node)).find(is_free);
            let name = name.unwrap_or_else(|| format!("{}-{}", of(first), fleet.jobs().len()));
            fleet.job(&name).0
        });
        nodes.iter().for_each(|&node| self.nodes[node as usize].job = Some(job));
    }

    fn by_job(&self) -> BTreeMap<u32, Vec<u32>> {
        let mut jobs: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (slot, own) in (0..).zip(&self.nodes) {
            own.job.into_iter().for_each(|job| jobs.entry(job).or_default().push(slot));
        }
        jobs
    }

    /// Parts of jobs that turn out to be jobs of their own: of each the smaller part, so that the larger one goes on.
    fn apart(&self) -> Vec<Vec<u32>> {
        let lately = |node: &u32| self.nodes[*node as usize].lately;
        let part = |nodes: Vec<u32>| {
            // Who has been still for longer is a spare, or has left.
            let heard = nodes.into_iter().filter(|node| self.nodes[*node as usize].silent == 0 && lately(node) != 0);
            let (still, at_work): (Vec<u32>, Vec<u32>) = heard.partition(|node| lately(node) & ((1 << APART) - 1) == 0);
            let clear = at_work.iter().all(|node| (lately(node) & ((1 << APART) - 1)).count_ones() >= AT_WORK);
            let smaller = if still.len() < at_work.len() { still } else { at_work };
            (clear && smaller.len() >= SEVERAL).then_some(smaller)
        };
        self.by_job().into_values().filter_map(part).collect()
    }
}

impl Own {
    fn computes(&self) -> bool {
        self.quiet < QUIET && self.silent < QUIET
    }

    /// Whether it computes; None: it was not heard. True: it has begun.
    fn take(&mut self, computes: Option<bool>) -> bool {
        let Some(computes) = computes else {
            self.silent = self.silent.saturating_add(1);
            return false;
        };
        self.silent = 0;
        self.lately = self.lately << 1 | u16::from(computes);
        if !computes {
            self.quiet = self.quiet.saturating_add(1);
            self.seen_quiet |= self.computed == 0 && self.quiet >= SEEN_QUIET;
            if self.quiet >= QUIET {
                (self.computed, self.seen_quiet) = (0, true);
            }
            if self.quiet >= GONE {
                self.job = None;
            }
            return false;
        }
        self.quiet = 0;
        self.computed = self.computed.saturating_add(1);
        self.computed == BEGUN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::seconds::{Merge, SecondGrid};
    use crate::fleet::GpuMetric;
    use gridstep_wire::Micros;

    /// One GPU a node; each computes in a second or not, or says nothing. Gives the names of the jobs after the last second.
    struct Site {
        unnamed: Unnamed,
        fleet: Fleet,
        grid: SecondGrid,
        second: i64,
        jobs: Vec<Option<u32>>,
    }

    impl Site {
        fn new(nodes: u32) -> Self {
            let mut fleet = Fleet::new(&[]);
            for node in 0..nodes {
                let node = fleet.node(&format!("n{node:02}"));
                fleet.gpu(node, 0);
            }
            let merges = vec![Merge::Mean; GpuMetric::COUNT + 1];
            Self { unnamed: Unnamed::default(), fleet, grid: SecondGrid::new(merges, 0), second: 0, jobs: Vec::new() }
        }

        fn run(&mut self, seconds: i64, computes: impl Fn(u32, i64) -> Option<bool>) {
            let end = self.second + seconds;
            while self.second < end {
                for gpu in 0..self.fleet.gpus().len() as u32 {
                    if let Some(computes) = computes(gpu, self.second) {
                        let (at, active) = (Micros(self.second * 1_000_000), if computes { 0.9 } else { 0.0 });
                        self.grid.put(gpu as usize, GpuMetric::SmActive as usize, at, active);
                    }
                }
                self.second += 1;
                let (unnamed, fleet, jobs) = (&mut self.unnamed, &mut self.fleet, &mut self.jobs);
                let at = Micros(self.second * 1_000_000);
                self.grid.finish(at, |second, columns| *jobs = unnamed.take(second, &columns, fleet));
            }
        }

        fn job(&self, gpu: usize) -> Option<&str> {
            self.jobs[gpu].map(|job| self.fleet.jobs()[job as usize].as_str())
        }

        fn of(&self, job: &str) -> Vec<usize> {
            (0..self.jobs.len()).filter(|&gpu| self.job(gpu) == Some(job)).collect()
        }
    }

    #[test]
    fn who_begins_together_works_together_and_goes_on_after_a_pause() {
        let mut site = Site::new(10);
        site.run(30, |_, _| Some(false));
        // A step in which nobody computes for long does not tear it.
        site.run(120, |node, second| Some((3..9).contains(&node) && second % 40 < 20));
        assert_eq!(site.of("unnamed-n03"), [3, 4, 5, 6, 7, 8]);
        site.run(200, |_, _| Some(false));
        // Back with one node exchanged.
        site.run(60, |node, second| Some([3, 4, 5, 6, 7, 9].contains(&node) && second % 2 == 0));
        assert_eq!(site.of("unnamed-n03"), [3, 4, 5, 6, 7, 9]);
        assert_eq!(site.job(8), None);
        site.run(700, |_, _| Some(false));
        assert!(site.jobs.iter().all(Option::is_none));
    }

    #[test]
    fn what_begins_at_another_time_is_another_job() {
        let mut site = Site::new(12);
        site.run(20, |_, _| Some(false));
        site.run(60, |node, _| Some(node < 6));
        site.run(60, |node, _| Some(node != 11));
        assert_eq!((site.of("unnamed-n00"), site.of("unnamed-n06")), (vec![0, 1, 2, 3, 4, 5], vec![6, 7, 8, 9, 10]));
        // One node of the first works for somebody else, while its job goes on without it.
        site.run(120, |node, _| Some(node != 11 && node != 2));
        site.run(60, |node, _| Some(node == 2 || node == 11 || node < 11));
        assert_eq!(site.of("unnamed-n02"), [2, 11]);
        assert_eq!(site.of("unnamed-n00"), [0, 1, 3, 4, 5]);
    }

    #[test]
    fn a_name_that_is_in_use_is_given_to_no_other() {
        let mut site = Site::new(7);
        site.run(20, |_, _| Some(false));
        site.run(60, |node, _| Some(node < 5));
        site.run(120, |node, _| Some((1..5).contains(&node)));
        site.run(60, |_, _| Some(true));
        assert_eq!((site.of("unnamed-n00"), site.of("unnamed-n05")), (vec![1, 2, 3, 4], vec![0, 5, 6]));
    }

    #[test]
    fn a_pause_of_a_part_tells_jobs_apart_and_no_step_does() {
        let mut site = Site::new(9);
        site.run(60, |node, second| Some(second % 16 < 8 || node < 4));
        site.run(14, |node, _| Some(node < 8));
        assert_eq!(site.of("unnamed-n00"), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        site.run(30, |_, _| Some(true));
        site.run(14, |node, _| Some(node < 6));
        assert_eq!((site.of("unnamed-n00"), site.of("unnamed-n06")), (vec![0, 1, 2, 3, 4, 5], vec![6, 7, 8]));
    }

    #[test]
    fn what_runs_already_is_one_until_it_pauses() {
        let mut site = Site::new(8);
        site.run(40, |node, _| (node < 7).then_some(true));
        // An agent that comes later, and one that is silent for a while.
        site.run(120, |node, _| (node != 2).then_some(true));
        site.run(60, |_, _| Some(true));
        assert_eq!(site.of("unnamed-n00"), [0, 1, 2, 3, 4, 5, 6, 7]);
        site.run(90, |node, _| Some(node < 5));
        site.run(60, |_, _| Some(true));
        assert_eq!((site.of("unnamed-n00"), site.of("unnamed-n05")), (vec![0, 1, 2, 3, 4], vec![5, 6, 7]));
    }
}
