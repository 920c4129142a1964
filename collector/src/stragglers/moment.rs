//! One second of a job: what its members show, against each other at the same instant; and whether it counts.

use super::job::{Input, JobJudge, LARGE, PEERS};
use super::reference::{self, Unit};
use super::roster::rearranged;
use super::speed::Speed;
use super::trace::KEEP;
use super::{median, occupancy};
use crate::fleet::{GpuMetric, GpuSlot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::mem::discriminant;

/// Below this share of computing (job's median) nobody computes in that second.
const QUIET: f64 = 0.2;
/// And from this share on somebody does.
const COMPUTES: f64 = 0.5;

/// Seconds after a pause that are not whole.
const UNWHOLE: u8 = 2;

/// One second of all members, not yet counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Moment {
    second: i64,
    /// By GPU slot: occupied share less the node's median.
    gpus: Vec<(u32, f32)>,
    units: Vec<(u32, f64, f64)>,
    /// By node slot: that median less the other nodes'.
    nodes: Vec<(u32, f32)>,
    middle: f64,
    pub(super) busy: f64,
    /// Of who computes most.
    #[serde(default)]
    most: f64,
    #[serde(default)]
    work: Work,
}

/// What a job does in a second, the median of its members: no measure of time, but it falls as the job's speed does, whatever spinning looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum Work {
    #[default]
    Unknown,
    /// Share of time in which tensor cores are busy.
    Tensor(f64),
    /// Watts of a board, where nothing tells its activity.
    Power(f64),
}

impl Work {
    fn of(tensor: &mut [f64], watts: &mut [f64]) -> Self {
        match () {
            () if !tensor.is_empty() => Self::Tensor(median(tensor)),
            () if !watts.is_empty() => Self::Power(median(watts)),
            () => Self::Unknown,
        }
    }

    fn value(self) -> Option<f64> {
        match self {
            Self::Tensor(value) | Self::Power(value) => Some(value),
            Self::Unknown => None,
        }
    }
}

impl JobJudge {
    /// Takes what this second shows; None: of too few.
    pub(super) fn look(&mut self, input: &Input<'_>) -> Option<Moment> {
        let value =
            |metric: GpuMetric, gpu: GpuSlot| input.gpus.column(metric as usize).get(gpu.0 as usize).copied().unwrap_or(f64::NAN);
        let mut moment = Moment { second: input.second, ..Moment::default() };
        let (mut busy, mut occupied, mut here) = (Vec::new(), Vec::new(), Vec::new());
        let (mut tensor, mut power) = (Vec::new(), Vec::new());
        // One may have gone and another have come.
        if !self.members.slots().iter().eq(input.members.iter().map(|gpu| &gpu.0)) {
            let was = self.members.follow(input.members.iter().map(|gpu| gpu.0).collect());
            self.known = rearranged(std::mem::take(&mut self.known), &was);
            self.busy = rearranged(std::mem::take(&mut self.busy), &was);
            self.find_nodes(input);
        }
        let large = input.members.len() > LARGE;
        let mut place = 0;
        while place < input.members.len() {
            let node = input.fleet.node_of(input.members[place]);
            here.clear();
            let mut instant = f64::NAN;
            while place < input.members.len() && input.fleet.node_of(input.members[place]) == node {
                let gpu = input.members[place];
                let (known, computes) = (&mut self.known[place], &mut self.busy[place]);
                place += 1;
                let Some(share) = occupancy::of(input.gpus, gpu.0 as usize) else { continue };
                let taken = occupancy::with_gap(share, value(GpuMetric::Utilization, gpu));
                busy.push(share);
                occupied.push(taken);
                here.push((gpu.0, taken));
                // Power comes all through the second.
                instant = if value(GpuMetric::SmActive, gpu).is_nan() { 0.5 } else { input.gpus.instant(gpu.0 as usize) };
                *computes += (f32::from(u8::from(share > 0.05)) - *computes) / 30.0;
                if self.age > 30 && *computes < 0.02 {
                    // A spare: it never computes.
                    here.pop();
                    busy.pop();
                    occupied.pop();
                    continue;
                }
                let watts = input.power.get(gpu.0 as usize).map_or(f64::NAN, |&watts| f64::from(watts));
                let active = value(GpuMetric::TensorActive, gpu);
                match value(GpuMetric::SmActive, gpu).is_nan() {
                    false if !active.is_nan() => tensor.push(active),
                    true if !watts.is_nan() => power.push(watts),
                    _ => {}
                }
                // Of a large job each node's facts are taken every other second: it is enough, and half of the work.
                if large && (input.second + i64::from(node.0)) % 2 == 0 {
                    continue;
                }
                let node = input.nodes.map(|nodes| (nodes, node.0 as usize));
                known.facts.take(input.second, input.gpus, gpu.0 as usize, node, watts, share);
            }
            if here.is_empty() {
                continue;
            }
            let middle = median(&mut here.iter().map(|(_, taken)| *taken).collect::<Vec<_>>());
            moment.gpus.extend(here.iter().map(|&(gpu, taken)| (gpu, (taken - middle) as f32)));
            moment.units.push((node.0, input.second as f64 + instant, middle));
        }
        if busy.len() < PEERS {
            return None;
        }
        moment.work = Work::of(&mut tensor, &mut power);
        moment.most = busy.iter().copied().fold(0.0, f64::max);
        (moment.busy, moment.middle) = (median(&mut busy), median(&mut occupied));
        moment.units.sort_by(|a, b| a.1.total_cmp(&b.1));
        Some(moment)
    }

    /// Each node against the others at its instant: the seconds on both sides of it are known now.
    pub(super) fn compare(&mut self, moment: &mut Moment) {
        let unit = |&(node, at, value): &(u32, f64, f64)| Unit { node, at, value };
        let next = self.last.as_ref().map(|next| next.units.as_slice()).unwrap_or_default();
        // Who stands out is no measure of the others, who are few. Where many do, it is what they do.
        let few = 4 * self.nodes.suspects.len() <= self.nodes.len();
        let is_measure = |unit: &(u32, f64, f64)| !few || !self.nodes.suspects.contains(&unit.0);
        let around: Vec<&(u32, f64, f64)> =
            self.before_last.iter().chain(&moment.units).chain(next).filter(|unit| is_measure(unit)).collect();
        moment.nodes.clear();
        for cluster in self.roles.clusters() {
            let own: Vec<Unit> =
                moment.units.iter().filter(|(node, ..)| self.roles.is_held_to(*node, cluster)).map(unit).collect();
            let around: Vec<Unit> =
                around.iter().filter(|(node, ..)| self.roles.belongs(*node, cluster)).map(|&other| unit(other)).collect();
            let differences = reference::differences(&own, &around);
            let known = own.iter().zip(differences).filter(|(_, d)| !d.is_nan());
            moment.nodes.extend(known.map(|(unit, d)| (unit.node, d as f32)));
        }
        self.before_last = moment.units.clone();
    }

    /// Counts a second in, unless nobody computes for longer than communication would take. Gives how many were counted.
    pub(super) fn count(&mut self, moment: Moment, gate: bool) -> usize {
        let quiet = gate && moment.busy < QUIET;
        self.quiet = if quiet { self.quiet + 1 } else { 0 };
        let pause = self.quiet >= self.pace.pause();
        if quiet && (self.paused || pause || moment.most < COMPUTES) {
            self.held.push(moment);
            if self.paused || pause {
                self.held.clear();
                self.paused = true;
            }
            return 0;
        }
        // All others wait for one that computes yet: that is no pause. The second in which one ends is not whole, nor is the next: nodes are
        // read at instants of their own.
        if std::mem::take(&mut self.paused) {
            self.unwhole = UNWHOLE;
        }
        if self.unwhole > 0 {
            self.unwhole -= 1;
            self.held.clear();
            return 0;
        }
        let held = std::mem::take(&mut self.held);
        let counted = held.len() + 1;
        held.iter().chain([&moment]).for_each(|moment| self.push(moment));
        counted
    }

    fn push(&mut self, moment: &Moment) {
        self.age += 1;
        let memory = (self.age as f64).min(30.0f64.max(3.0 * self.pace.unit() as f64));
        self.level += (moment.middle - self.level) / memory;
        let level = self.level.max(0.05);
        let relative = |&(slot, difference): &(u32, f32)| (slot, (f64::from(difference) / level) as f32);
        self.members.push(moment.gpus.iter().map(relative));
        let mut nodes: Vec<(u32, f32)> = moment.nodes.iter().map(relative).collect();
        nodes.sort_unstable_by_key(|(node, _)| *node);
        if nodes.iter().any(|(node, _)| self.nodes.place(*node).is_none()) {
            let known = self.nodes.slots().iter().copied();
            let all: BTreeSet<u32> = known.chain(nodes.iter().map(|(node, _)| *node)).collect();
            self.nodes.follow(all.into_iter().collect());
        }
        self.nodes.push(nodes.into_iter());
        moment.units.iter().for_each(|&(node, _, value)| self.roles.take(node, value - moment.middle));
        self.speed.push(moment.middle);
        self.push_work(moment.work);
        if self.times.len() == KEEP {
            self.times.pop_front();
        }
        self.times.push_back(moment.second);
    }

    /// Another measure begins anew; without any the last value stands.
    fn push_work(&mut self, work: Work) {
        if work != Work::Unknown {
            if discriminant(&work) != discriminant(&self.work_now) {
                self.work = Speed::default();
            }
            self.work_now = work;
        }
        if let Some(value) = self.work_now.value() {
            self.work.push(value);
        }
    }
}
