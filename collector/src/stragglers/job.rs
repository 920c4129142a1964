//! One job: who waits least, and whether that slows it down.

use super::accuse::Accused;
use super::convicted::Convicted;
use super::episodes::Episodes;
use super::member::Known;
use super::moment::{Moment, Work};
use super::noise::Noise;
use super::pace::Pace;
use super::roles::Roles;
use super::roster::Roster;
use super::speed::Speed;
use super::stall::Stall;
use super::trace::{KEEP, Lane};
use super::{Finding, JobFinding, Remembered, Without};
use crate::align::seconds::Second;
use crate::fleet::{Fleet, GpuSlot, JobSlot, NodeSlot};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Members of a job of medium size, and of a large one.
const MEDIUM: usize = 512;
pub(super) const LARGE: usize = 2048;
/// Least peers for a median that one of them cannot move.
pub(super) const PEERS: usize = 5;
/// Seconds, and steps, until offsets are known.
const LEARN: (usize, usize) = (60, 6);
/// Of them as many have to be whole to say how fast the job is.
const WHOLE_STEPS: f64 = 2.0;
/// Offsets follow with this time constant, seconds; what they learn from is that old.
const FOLLOW: f64 = 900.0;
pub(super) const LAG: usize = 40;
/// Seconds between two lessons, and two turns of the facts.
const LESSON: usize = 10;
const TURN: usize = 5;
/// A step that differs by this share is another one.
const ANOTHER: f64 = 0.15;
pub struct Input<'a> {
    pub second: i64,
    pub gpus: &'a Second,
    pub nodes: Option<&'a Second>,
    /// Watts by GPU; NaN: not known.
    pub power: &'a [f32],
    /// In the order of their slots.
    pub members: &'a [GpuSlot],
    pub fleet: &'a Fleet,
    pub without: Without,
    pub remembered: &'a Remembered,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct JobJudge {
    /// GPUs, each against its node.
    pub(super) members: Roster,
    /// By place of a member: what else is known of it, and the share of the last seconds in which it computed at all.
    pub(super) known: Vec<Known>,
    pub(super) busy: Vec<f32>,
    /// Nodes, each against the others.
    pub(super) nodes: Roster,
    #[serde(default)]
    pub(super) roles: Roles,
    /// GPU slots of each node's members.
    pub(super) node_members: BTreeMap<u32, Vec<u32>>,
    /// The second before, which waits for its successor to be compared with.
    pub(super) last: Option<Moment>,
    pub(super) before_last: Vec<(u32, f64, f64)>,
    /// Seconds of which it is not yet known whether they are communication or a pause.
    pub(super) held: Vec<Moment>,
    pub(super) paused: bool,
    /// Seconds that are not whole after a pause, and are yet to come.
    pub(super) unwhole: u8,
    /// Seconds in a row in which hardly anybody computed.
    #[serde(default)]
    pub(super) quiet: usize,
    pub(super) pace: Pace,
    /// The step that noise was learned for, seconds.
    noise_step: f64,
    /// Median occupied share, slowly.
    pub(super) level: f64,
    /// Counted seconds.
    pub(super) age: usize,
    /// The counted seconds' own times, the last ones.
    pub(super) times: VecDeque<i64>,
    pub(super) learned: bool,
    /// Counted second from which on offsets are learned.
    #[serde(default)]
    learns_from: usize,
    /// Counted second from which on communication is told from a pause: before, the job seems to be occupied for longer than it is.
    #[serde(default)]
    whole_since: usize,
    pub(super) gpu_noise: Vec<Noise>,
    pub(super) node_noise: Vec<Noise>,
    /// By the median share of time that is occupied.
    pub(super) speed: Speed,
    /// By what is done.
    #[serde(default)]
    pub(super) work: Speed,
    #[serde(default)]
    pub(super) work_now: Work,
    pub(super) stall: Stall,
    /// The node whose link was said to have slowed the job down.
    #[serde(default)]
    pub(super) blamed: Option<u32>,
    /// A link is suspected of always having slowed it down.
    #[serde(default)]
    pub(super) link_suspected: bool,
    /// Counted second of the last suspicion.
    pub(super) suspected: Option<usize>,
    #[serde(default)]
    pub(super) convicted: Convicted,
    #[serde(default)]
    pub(super) episodes: Episodes,
}

impl Input<'_> {
    /// Of the second.
    pub(super) fn end(&self) -> Micros {
        Micros((self.second + 1) * 1_000_000)
    }

    fn remembered(&self, job: JobSlot, gpu: GpuSlot) -> Option<f64> {
        let node = self.fleet.node_of(gpu);
        self.offset_before(job, node, Some(self.fleet.gpus()[gpu.0 as usize].index))
    }

    fn remembered_node(&self, job: JobSlot, node: NodeSlot) -> Option<f64> {
        self.offset_before(job, node, None)
    }

    fn offset_before(&self, job: JobSlot, node: NodeSlot, gpu: Option<u8>) -> Option<f64> {
        if self.remembered.is_empty() {
            return None;
        }
        let key = (self.fleet.job_name(job).to_owned(), self.fleet.node_name(node).to_owned(), gpu);
        self.remembered.get(&key).copied()
    }
}

impl JobJudge {
    /// Of GPUs and of nodes. None before they are known.
    pub(super) fn offsets(&self) -> (impl Iterator<Item = (GpuSlot, f64)>, impl Iterator<Item = (NodeSlot, f64)>) {
        let known = |of: &Roster| if self.learned { of.remembered().collect() } else { Vec::new() };
        let (gpus, nodes) = (known(&self.members).into_iter(), known(&self.nodes).into_iter());
        (gpus.map(|(gpu, offset)| (GpuSlot(gpu), offset)), nodes.map(|(node, offset)| (NodeSlot(node), offset)))
    }

    pub fn judge(&mut self, job: JobSlot, input: &Input<'_>) -> (Vec<Finding>, Option<JobFinding>) {
        if input.members.is_empty() {
            *self = Self::default();
            return Default::default();
        }
        let Some(moment) = self.look(input) else { return Default::default() };
        let stalled = self.stall.take(job, input, self.age, self.pace.unit(), moment.busy);
        self.pace.take(moment.busy);
        let Some(mut before) = self.last.replace(moment) else { return (Vec::new(), stalled) };
        self.compare(&mut before);
        let counted = self.count(before, !input.without.gate);
        if counted == 0 {
            return (Vec::new(), stalled);
        }
        let (found, slow) = self.evaluate(job, input, counted);
        (found, stalled.or(slow))
    }

    fn evaluate(&mut self, job: JobSlot, input: &Input<'_>, counted: usize) -> (Vec<Finding>, Option<JobFinding>) {
        let passed = |every: usize| self.age / every != (self.age - counted) / every;
        let (lesson, turn, look) = (passed(LESSON), passed(TURN), passed(self.seconds_between_looks()));
        if lesson {
            let pause = self.pace.pause();
            self.pace.look();
            if self.pace.pause() > pause {
                self.whole_since = self.age;
            }
            self.find_nodes(input);
            if (self.pace.step() - self.noise_step).abs() > ANOTHER * self.noise_step {
                let before = std::mem::replace(&mut self.noise_step, self.pace.step());
                self.carry_noise(before, self.noise_step);
            }
        }
        if !self.learned {
            self.finish_learning(job, input);
        }
        let found = if look { self.compare_members(job, input) } else { Default::default() };
        let since = self.suspected.map_or(usize::MAX, |at| self.age - at);
        if turn {
            self.take_episodes(input.second);
        }
        if turn && !input.without.memory {
            for ((known, slot), slow) in self.known.iter_mut().zip(self.members.slots()).zip(&self.members.from_the_start) {
                known.remember(*slow || self.members.suspects.contains(slot), since > 20);
            }
        }
        if lesson
            && (since > LESSON || !self.learned)
            && let Some(place) = self.slow_from_the_start(input)
        {
            (self.members.offsets[place], self.members.from_the_start[place]) = (0.0, true);
            self.known[place].forget();
        }
        if lesson && self.learned {
            if !input.without.memory {
                self.learn();
            }
            // In some jobs somebody always stands out, a stage or who has more to do: that is their usual speed.
            let healthy = since > 2 * LAG || self.convicted.is_nobody(self.age, 4 * LAG);
            self.speed.learn(healthy, LAG, LESSON, self.pace.step());
            self.work.learn(healthy, LAG, LESSON, self.pace.step());
        }
        found
    }

    /// Which members are on which node; those that have none are followed no longer.
    pub(super) fn find_nodes(&mut self, input: &Input<'_>) {
        self.node_members.clear();
        for &gpu in self.members.slots() {
            self.node_members.entry(input.fleet.node_of(GpuSlot(gpu)).0).or_default().push(gpu);
        }
        let still = |node: &u32| self.node_members.contains_key(node);
        if !self.nodes.slots().iter().all(still) {
            self.nodes.follow(self.nodes.slots().iter().copied().filter(still).collect());
        }
    }

    /// Large jobs are looked at less often: it costs more, and there are fewer of them.
    pub(super) fn seconds_between_looks(&self) -> usize {
        match self.members.len() {
            count if count <= MEDIUM => 1,
            count if count <= LARGE => 2,
            _ => 3,
        }
    }

    fn finish_learning(&mut self, job: JobSlot, input: &Input<'_>) {
        let without = input.without;
        let unit = self.pace.unit();
        let seconds = self.age - self.learns_from;
        if seconds < LEARN.0.max(LEARN.1 * unit).min(200) {
            return;
        }
        if !self.roles.is_settled() && self.roles.settle(self.level) {
            // What nodes showed against those of other roles is no offset.
            (self.learns_from, self.node_noise) = (self.age, Vec::new());
            self.nodes.begin_anew();
            return;
        }
        self.learned = true;
        let seconds = seconds.min(KEEP - 1);
        self.members.finish_learning(seconds, without.memory, |gpu| input.remembered(job, GpuSlot(gpu)));
        self.nodes.finish_learning(seconds, without.memory, |node| input.remembered_node(job, NodeSlot(node)));
        let slow = self.known.iter_mut().zip(&self.members.from_the_start).filter(|(_, slow)| **slow);
        slow.for_each(|(known, _)| known.forget());
        self.forget_noise();
        let steps = (seconds.min(self.age - self.whole_since) as f64 / self.pace.step()).floor();
        let healthy = self.convicted.is_nobody(self.age, 20) && steps >= WHOLE_STEPS;
        self.speed.begin(healthy, (steps * self.pace.step()) as usize);
        self.work.begin(healthy, (steps * self.pace.step()) as usize);
    }

    /// Offsets follow what healthy members showed a while ago.
    fn learn(&mut self) {
        let weight = LESSON as f64 / (self.age as f64).min(FOLLOW);
        // Who was slow from the start and no longer is, is learned as well.
        self.members.learn(LAG, LESSON, weight);
        self.nodes.learn(LAG, LESSON, weight);
    }

    pub(super) fn accused(&self, accused: &Accused) -> Lane<'_> {
        match accused.gpu {
            Some(gpu) => self.members.trace(gpu),
            None => self.nodes.trace(accused.node),
        }
    }

    /// What is known of a member.
    pub(super) fn known(&self, gpu: u32) -> &Known {
        &self.known[self.members.place(gpu).expect("it is a member")]
    }
}
