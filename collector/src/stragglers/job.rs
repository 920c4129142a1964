//! One job: who waits least, and whether that slows it down.

use super::accuse::{Accused, Scene};
use super::member::{Member, NodeTrace};
use super::moment::Moment;
use super::noise::{Noise, spread};
use super::pace::Pace;
use super::speed::Speed;
use super::stall::Stall;
use super::trace::{KEEP, Trace};
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
/// From which on the job is not taken to be healthy.
const SERIOUS: f64 = 5.0;

/// Which of [`SCALES`], and every member's mean, by slot.
type Window = (usize, Vec<(u32, f64)>);

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
    pub(super) members: BTreeMap<u32, Member>,
    pub(super) nodes: BTreeMap<u32, NodeTrace>,
    /// GPU slots of each node's members.
    pub(super) node_members: BTreeMap<u32, Vec<u32>>,
    /// The second before, which waits for its successor to be compared with.
    pub(super) last: Option<Moment>,
    pub(super) before_last: Vec<(u32, f64, f64)>,
    /// Seconds of which it is not yet known whether they are communication or a pause.
    pub(super) held: Vec<Moment>,
    pub(super) paused: bool,
    /// Seconds in a row in which hardly anybody computed.
    #[serde(default)]
    pub(super) quiet: usize,
    pub(super) pace: Pace,
    pub(super) unit: usize,
    /// Median occupied share, slowly.
    pub(super) level: f64,
    /// Counted seconds.
    pub(super) age: usize,
    /// The counted seconds' own times, the last ones.
    pub(super) times: VecDeque<i64>,
    pub(super) learned: bool,
    gpu_noise: Vec<Noise>,
    node_noise: Vec<Noise>,
    pub(super) speed: Speed,
    pub(super) stall: Stall,
    /// The node whose link was said to have slowed the job down.
    #[serde(default)]
    pub(super) blamed: Option<u32>,
    /// Counted second of the last suspicion.
    pub(super) suspected: Option<usize>,
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
    pub(super) fn offsets(&self) -> (impl Iterator<Item = (GpuSlot, f64)> + '_, impl Iterator<Item = (NodeSlot, f64)> + '_) {
        let gpus = self.members.iter().filter(|(_, member)| self.learned && !member.from_the_start);
        let nodes = self.nodes.iter().filter(|(_, node)| self.learned && !node.from_the_start);
        (gpus.map(|(&gpu, member)| (GpuSlot(gpu), member.offset)), nodes.map(|(&node, trace)| (NodeSlot(node), trace.offset)))
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
            self.node_members.clear();
            for &gpu in self.members.keys() {
                self.node_members.entry(input.fleet.node_of(GpuSlot(gpu)).0).or_default().push(gpu);
            }
            let node_members = &self.node_members;
            self.nodes.retain(|node, _| node_members.contains_key(node));
            if self.unit != self.pace.unit() {
                self.unit = self.pace.unit();
                (self.gpu_noise, self.node_noise) = Default::default();
                self.speed.forget_noise();
            }
        }
        if !self.learned {
            self.finish_learning(job, input);
        }
        let found = if look { self.compare_members(job, input) } else { Default::default() };
        let since = self.suspected.map_or(usize::MAX, |at| self.age - at);
        if turn && !input.without.memory {
            self.members.values_mut().for_each(|member| member.remember(since > 20));
        }
        if lesson
            && (since > LESSON || !self.learned)
            && let Some(gpu) = self.slow_from_the_start(input)
            && let Some(member) = self.members.get_mut(&gpu)
        {
            (member.offset, member.from_the_start, member.past, member.turns) = (0.0, true, None, 0);
        }
        if lesson && self.learned {
            if !input.without.memory {
                self.learn();
            }
            self.speed.learn(since > 2 * LAG, LAG, LESSON, self.pace.step());
        }
        found
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
        if self.age < LEARN.0.max(LEARN.1 * unit).min(200) {
            return;
        }
        self.learned = true;
        let seconds = self.age.min(KEEP - 1);
        for (&gpu, member) in &mut self.members {
            let mean = || input.remembered(job, GpuSlot(gpu)).unwrap_or_else(|| member.trace.mean(seconds));
            // A culprit is held to its peers.
            member.offset = if member.from_the_start || without.memory { 0.0 } else { mean() };
            if member.from_the_start {
                (member.past, member.turns) = (None, 0);
            } else {
                member.trace.clear();
            }
        }
        for (&slot, node) in &mut self.nodes {
            let mean = || input.remembered_node(job, NodeSlot(slot)).unwrap_or_else(|| node.trace.mean(seconds));
            node.offset = if node.from_the_start || without.memory { 0.0 } else { mean() };
            if !node.from_the_start {
                node.trace.clear();
            }
        }
        (self.gpu_noise, self.node_noise) = Default::default();
        self.speed.begin(self.suspected.is_none_or(|at| self.age - at > 20), seconds);
    }

    /// Offsets follow what healthy members showed a while ago.
    fn learn(&mut self) {
        let weight = LESSON as f64 / (self.age as f64).min(FOLLOW);
        // Who was slow from the start and no longer is, is learned as well.
        let lesson = |trace: &Trace, offset: &mut f64, suspect: bool| {
            if !suspect && trace.len() > LAG + LESSON {
                *offset += weight * (trace.sum(LAG + LESSON, LAG) / LESSON as f64).clamp(-0.1, 0.1);
            }
        };
        self.members.values_mut().for_each(|member| lesson(&member.trace, &mut member.offset, member.suspect));
        self.nodes.values_mut().for_each(|node| lesson(&node.trace, &mut node.offset, node.suspect));
    }

    fn compare_members(&mut self, job: JobSlot, input: &Input<'_>) -> (Vec<Finding>, Option<JobFinding>) {
        let unit = self.pace.unit();
        let at = Micros((input.second + 1) * 1_000_000);
        self.gpu_noise.resize_with(SCALES.len(), Noise::default);
        self.node_noise.resize_with(SCALES.len(), Noise::default);
        self.nodes.values_mut().for_each(|node| node.suspect = false);
        let (length, windows) = self.means();
        let mut findings: Vec<Finding> = Vec::new();
        let (mut staged, mut slow) = (false, None);
        for (scale, gpus) in windows {
            let window = SCALES[scale] * unit;
            let floor = (DEVIATION.0 / (window as f64).sqrt()).max(DEVIATION.1);
            let nodes: Vec<(u32, f64)> = self.nodes.iter().map(|(&node, trace)| (node, trace.trace.mean(window))).collect();
            let values = |of: &[(u32, f64)]| of.iter().map(|(_, value)| *value).collect::<Vec<f64>>();
            let (gpu_middle, gpu_spread) = spread(&values(&gpus));
            let (node_middle, node_spread) = if nodes.len() > 2 { spread(&values(&nodes)) } else { (0.0, f64::NAN) };
            // What is remembered is a mean as well.
            let unsure = if self.learned { (1.0 + window as f64 / (self.age as f64).min(FOLLOW)).sqrt() } else { 1.0 };
            let scene = Scene {
                job,
                at,
                window,
                unit,
                gpu_deviation: unsure * self.gpu_noise[scale].deviation(gpu_spread, gpus.len(), floor),
                node_deviation: unsure * self.node_noise[scale].deviation(node_spread, nodes.len(), floor),
                gpus: gpus.iter().map(|&(gpu, value)| (gpu, value - gpu_middle)).collect(),
                nodes: nodes.iter().map(|&(node, value)| (node, value - node_middle)).collect(),
                input,
            };
            let suspects = scene.suspects();
            staged |= suspects.is_role;
            for &gpu in &suspects.gpus {
                self.members.get_mut(&gpu).expect("a member for each value").suspect = !suspects.is_role;
            }
            for &node in &suspects.nodes {
                self.nodes.get_mut(&node).expect("a node for each value").suspect = !suspects.is_role;
            }
            slow = slow.or_else(|| self.slow_stage(&scene, &suspects));
            // Its GPUs may be known longer than the node as such, which has to be comparable to others first.
            let known = |accused: &&Accused| accused.gpu.is_some() || self.nodes.contains_key(&accused.node);
            if let Some(accused) = suspects.accused.as_ref().filter(known) {
                let finding = self.accuse(&scene, accused);
                if !self.learned && finding.as_ref().is_some_and(|finding| finding.alarm) {
                    self.slow_since_the_start(accused);
                }
                findings.extend(finding);
            }
            let weak = suspects.accused.as_ref().is_none_or(|accused| accused.score < SERIOUS);
            if weak && !suspects.is_role {
                self.gpu_noise[scale].learn(gpu_spread);
                self.node_noise[scale].learn(node_spread);
            }
        }
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
                    findings.extend(self.suspect_a_link(job, at, input));
                }
                None => {}
            }
        }
        (strongest(findings), slow)
    }

    /// The longest window that can be looked at; and of each that is due now, which of [`SCALES`] it is and every member's mean. One walk over the
    /// members, for they are large. Nobody is suspected yet.
    fn means(&mut self) -> (usize, Vec<Window>) {
        let unit = self.pace.unit();
        // Long windows change slowly.
        let due = |window: usize| {
            window >= SHORTEST
                && (window <= OFTEN || (self.age / 3).is_multiple_of(window / OFTEN))
                && window <= self.age.min(LONGEST)
        };
        let count = self.members.len();
        let scales = (0..SCALES.len()).filter(|&scale| due(SCALES[scale] * unit));
        let mut windows: Vec<Window> = scales.map(|scale| (scale, Vec::with_capacity(count))).collect();
        let mut length = 0;
        for (&gpu, member) in &mut self.members {
            member.suspect = false;
            length = length.max(member.trace.len());
            for (scale, means) in &mut windows {
                means.push((gpu, member.trace.mean(SCALES[*scale] * unit)));
            }
        }
        let length = length.min(self.age).min(LONGEST);
        windows.retain(|(scale, _)| SCALES[*scale] * unit <= length);
        (length, windows)
    }

    fn slow_since_the_start(&mut self, accused: &Accused) {
        match accused.gpu {
            Some(gpu) => self.members.get_mut(&gpu).expect("a member for each value").from_the_start = true,
            None => self.nodes.get_mut(&accused.node).expect("a node for each value").from_the_start = true,
        }
    }

    pub(super) fn accused(&self, accused: &Accused) -> &Trace {
        match accused.gpu {
            Some(gpu) => &self.members[&gpu].trace,
            None => &self.nodes[&accused.node].trace,
        }
    }
}

/// Which of [`SCALES`] a window is.
pub(super) fn scale_of(window: usize, unit: usize) -> usize {
    SCALES.iter().position(|multiple| multiple * unit == window).unwrap_or(0)
}

/// What alarms goes before what does not, the most telling first.
fn strongest(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| b.alarm.cmp(&a.alarm).then(b.score.total_cmp(&a.score)));
    findings.truncate(1);
    findings
}
