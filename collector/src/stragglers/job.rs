//! One job: who waits least, and whether that slows it down.

use super::accuse::{Accused, Scene, Suspects};
use super::convicted::Convicted;
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
/// Windows in which members are compared, in units of a step ([`Pace::unit`]).
pub(super) const SCALES: [usize; 10] = [1, 2, 3, 4, 6, 10, 16, 26, 45, 90];
/// Shorter ones show nothing, seconds.
const SHORTEST: usize = 4;
/// Longer ones are not looked at at all, seconds.
const LONGEST: usize = 200;
/// Longer ones are not looked at each time, seconds.
const OFTEN: usize = 24;
/// Least deviation, as a share of the occupied time, of a window of one second, and of any.
const DEVIATION: (f64, f64) = (0.02, 0.0025);
/// Seconds, and steps, until offsets are known.
const LEARN: (usize, usize) = (60, 6);
/// Offsets follow with this time constant, seconds; what they learn from is that old.
const FOLLOW: f64 = 900.0;
const LAG: usize = 40;
/// Seconds between two lessons, and two turns of the facts.
const LESSON: usize = 10;
const TURN: usize = 5;
/// Deviations from which on a member teaches nothing.
pub(super) const SUSPECT: f64 = 3.5;
/// A step that differs by this share is another one: what windows of it show is learned anew.
const ANOTHER: f64 = 0.15;
/// From which on the job is not taken to be healthy.
const SERIOUS: f64 = 5.0;

/// Who stands out most in a window, a GPU or a node, and by how many deviations.
struct Top {
    scale: usize,
    of_gpu: bool,
    slot: u32,
    score: f64,
}

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
    gpu_noise: Vec<Noise>,
    node_noise: Vec<Noise>,
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
    convicted: Convicted,
}

impl Input<'_> {
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
            self.pace.look();
            self.find_nodes(input);
            if (self.pace.step() - self.noise_step).abs() > ANOTHER * self.noise_step {
                self.noise_step = self.pace.step();
                (self.gpu_noise, self.node_noise) = Default::default();
                self.speed.forget_noise();
                self.work.forget_noise();
            }
        }
        if !self.learned {
            self.finish_learning(job, input);
        }
        let found = if look { self.compare_members(job, input) } else { Default::default() };
        let since = self.suspected.map_or(usize::MAX, |at| self.age - at);
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
    fn seconds_between_looks(&self) -> usize {
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
        (self.gpu_noise, self.node_noise) = Default::default();
        let healthy = self.convicted.is_nobody(self.age, 20);
        self.speed.begin(healthy, seconds);
        self.work.begin(healthy, seconds);
    }

    /// Offsets follow what healthy members showed a while ago.
    fn learn(&mut self) {
        let weight = LESSON as f64 / (self.age as f64).min(FOLLOW);
        // Who was slow from the start and no longer is, is learned as well.
        self.members.learn(LAG, LESSON, weight);
        self.nodes.learn(LAG, LESSON, weight);
    }

    fn compare_members(&mut self, job: JobSlot, input: &Input<'_>) -> (Vec<Finding>, Option<JobFinding>) {
        let step = self.pace.step();
        let at = Micros((input.second + 1) * 1_000_000);
        self.gpu_noise.resize_with(SCALES.len(), Noise::default);
        self.node_noise.resize_with(SCALES.len(), Noise::default);
        self.members.suspects.clear();
        self.nodes.suspects.clear();
        let length = self.members.traces.longest().min(self.age).min(LONGEST);
        let (mut findings, mut second): (Vec<Finding>, Vec<Finding>) = Default::default();
        let (mut staged, mut slow) = (false, None);
        let mut stood_out: Vec<Top> = Vec::new();
        let due: Vec<usize> = (0..SCALES.len()).filter(|&scale| self.is_due(span(scale, step), length)).collect();
        for scale in due {
            // Whole steps, which are no whole seconds.
            let (window, exact) = (span(scale, step), SCALES[scale] as f64 * step);
            let floor = (DEVIATION.0 / (window as f64).sqrt()).max(DEVIATION.1);
            let (gpu_middle, gpu_spread) = self.members.spread(exact);
            let (node_middle, node_spread) = if self.nodes.len() > 2 { self.nodes.spread(exact) } else { (0.0, f64::NAN) };
            // What is remembered is a mean as well.
            let unsure = if self.learned { (1.0 + window as f64 / (self.age as f64).min(FOLLOW)).sqrt() } else { 1.0 };
            let gpu_deviation = unsure * self.gpu_noise[scale].deviation(gpu_spread, self.members.len(), floor);
            let node_deviation = unsure * self.node_noise[scale].deviation(node_spread, self.nodes.len(), floor);
            let scene = Scene {
                job,
                at,
                window,
                steps: SCALES[scale],
                scale,
                gpu_deviation,
                node_deviation,
                gpus: self.members.above(exact, gpu_middle, SUSPECT * gpu_deviation),
                nodes: self.nodes.above(exact, node_middle, f64::NEG_INFINITY),
                members: self.members.len(),
                explained: false,
                input,
            };
            let suspects = scene.suspects();
            findings.extend(self.accuse_of(&scene, &suspects));
            // Who is slow already hides nobody else who is, nor makes a role of the two.
            let mut is_role = suspects.is_role;
            for aside in self.convicted.asides() {
                let rest = scene.beside(&aside);
                let suspects = rest.suspects();
                second.extend(self.accuse_of(&rest, &suspects).filter(|finding| finding.alarm));
                is_role = suspects.is_role;
            }
            staged |= is_role;
            for (suspects_of, slots) in
                [(&mut self.members.suspects, &suspects.gpus), (&mut self.nodes.suspects, &suspects.nodes)]
            {
                // Where many stand out, it is what they do.
                match is_role {
                    true => suspects_of.retain(|slot| !slots.contains(slot)),
                    false => suspects_of.extend(slots),
                }
            }
            slow = slow.or_else(|| self.slow_stage(&scene, &suspects));
            if self.learned {
                let top = |of_gpu: bool| move |(slot, score): (u32, f64)| Top { scale, of_gpu, slot, score };
                stood_out.extend(suspects.top_gpu.map(top(true)));
                stood_out.extend(suspects.top_node.map(top(false)));
            }
            // Where many stand out they differ by more than was thought: of few, who are no measure of themselves, that has to be learned.
            let weak = suspects.accused.as_ref().is_none_or(|accused| accused.score < SERIOUS);
            if weak {
                self.gpu_noise[scale].learn(gpu_spread);
                self.node_noise[scale].learn(node_spread);
            }
        }
        self.remember_who_stood_out(&findings, &stood_out, input);
        let serious = findings.iter().any(|finding| finding.alarm || finding.score >= SERIOUS);
        if serious || staged {
            self.suspected = Some(self.age);
        }
        if self.learned && !findings.iter().any(|finding| finding.alarm) {
            // What somebody's waiting least explains is no link's.
            let explained =
                findings.iter().filter(|finding| finding.score >= SERIOUS).map(|finding| finding.gap).fold(0.0, f64::max);
            match self.accuse_by_fact(job, at, length, explained, input) {
                Some(finding) => {
                    self.suspected = Some(self.age);
                    self.blamed = Some(finding.node.0);
                    findings.push(finding);
                }
                None if !serious && !staged => {
                    slow = self.slow_everywhere(job, at, input);
                    self.speed.watch(self.pace.step(), &SCALES, length);
                    self.work.watch(self.pace.step(), &SCALES, length);
                    findings.extend(self.suspect_a_link(job, at, input));
                }
                None => {}
            }
        }
        let mut findings = strongest(findings);
        second.sort_by(|a, b| b.score.total_cmp(&a.score));
        for finding in second {
            if findings.iter().all(|other| other.node != finding.node) {
                findings.push(finding);
            }
        }
        self.convicted.take(&findings, self.age, LONGEST);
        (findings, slow)
    }

    fn accuse_of(&mut self, scene: &Scene<'_>, suspects: &Suspects) -> Option<Finding> {
        // Its GPUs may be known longer than the node as such, which has to be comparable to others first.
        let known = |accused: &&Accused| accused.gpu.is_some() || self.nodes.place(accused.node).is_some();
        let accused = suspects.accused.as_ref().filter(known)?;
        let finding = self.accuse(scene, accused)?;
        if !self.learned && finding.alarm {
            self.slow_since_the_start(accused);
        }
        Some(finding)
    }

    /// Who stood out and was not found slow is noise: what it showed, others may.
    fn remember_who_stood_out(&mut self, findings: &[Finding], stood_out: &[Top], input: &Input<'_>) {
        let seconds = self.seconds_between_looks() as f64;
        self.gpu_noise.iter_mut().chain(&mut self.node_noise).for_each(|noise| noise.fade(seconds));
        if let Some(found) = findings.iter().find(|finding| finding.alarm) {
            let node = found.node;
            self.gpu_noise
                .iter_mut()
                .for_each(|noise| noise.pardon(|gpu| gpu != u32::MAX && input.fleet.node_of(GpuSlot(gpu)) == node));
            self.node_noise.iter_mut().for_each(|noise| noise.pardon(|own| own == node.0));
            return;
        }
        // What was found is in the windows for as long as they are.
        if !self.convicted.is_empty() {
            return;
        }
        for top in stood_out {
            let noise = if top.of_gpu { &mut self.gpu_noise } else { &mut self.node_noise };
            noise[top.scale].stands_out(top.slot, top.score);
        }
    }

    /// By how many deviations others than the accused have stood out of late, in windows of this length.
    pub(super) fn of_others(&self, scale: usize, accused: &Accused) -> f64 {
        let (noise, slot) = match accused.gpu {
            Some(gpu) => (&self.gpu_noise, gpu),
            None => (&self.node_noise, accused.node),
        };
        noise.get(scale).map_or(0.0, |noise| noise.of_others(slot))
    }

    /// Whether members are compared in this window now: `length` seconds are known of them.
    fn is_due(&self, window: usize, length: usize) -> bool {
        // Long windows change slowly.
        let often = window <= OFTEN || (self.age / 3).is_multiple_of(window / OFTEN);
        often && (SHORTEST..=length).contains(&window)
    }

    fn slow_since_the_start(&mut self, accused: &Accused) {
        let (roster, slot) = match accused.gpu {
            Some(gpu) => (&mut self.members, gpu),
            None => (&mut self.nodes, accused.node),
        };
        if let Some(place) = roster.place(slot) {
            roster.from_the_start[place] = true;
        }
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

/// The seconds of a window.
fn span(scale: usize, step: f64) -> usize {
    (SCALES[scale] as f64 * step).round() as usize
}

/// What alarms goes before what does not, the most telling first.
fn strongest(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| b.alarm.cmp(&a.alarm).then(b.score.total_cmp(&a.score)));
    findings.truncate(1);
    findings
}
