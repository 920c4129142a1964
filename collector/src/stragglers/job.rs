//! One job: who waits least, and whether that slows it down.

use super::accuse::{Accused, Scene};
use super::facts::{Gatherer, Row};
use super::noise::{Noise, spread};
use super::pace::Pace;
use super::reference::{self, Unit};
use super::speed::Speed;
use super::stall::Stall;
use super::trace::{KEEP, Trace};
use super::{Finding, JobFinding, median, occupancy};
use crate::align::seconds::Second;
use crate::fleet::{Fleet, GpuMetric, GpuSlot, JobSlot};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Below this share of computing (job's median) nobody computes in that second.
const QUIET: f64 = 0.2;
/// Members of a large job.
const LARGE: usize = 2048;
/// Least peers for a median that one of them cannot move.
const PEERS: usize = 5;
/// Windows in which members are compared, in units of a step ([`Pace::unit`]).
pub(super) const SCALES: [usize; 10] = [1, 2, 3, 4, 6, 10, 16, 26, 45, 90];
/// Shorter ones show nothing, seconds.
const SHORTEST: usize = 4;
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

pub struct Input<'a> {
    pub second: i64,
    pub gpus: &'a Second,
    pub nodes: Option<&'a Second>,
    /// Watts by GPU; NaN: not known.
    pub power: &'a [f32],
    /// In the order of their slots.
    pub members: &'a [GpuSlot],
    pub fleet: &'a Fleet,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) trace: Trace,
    pub(super) facts: Gatherer,
    /// Remembered share by which it is occupied longer than its node's median.
    pub(super) offset: f64,
    /// Facts while healthy.
    pub(super) past: Option<Vec<f32>>,
    turns: u32,
    suspect: bool,
    /// It was slow already when the job began.
    pub(super) from_the_start: bool,
    /// Share of the last seconds in which it computed at all.
    busy: f32,
}

/// A node, against the other nodes of the job.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct NodeTrace {
    pub(super) trace: Trace,
    pub(super) offset: f64,
    suspect: bool,
    pub(super) from_the_start: bool,
}

/// One second of all members, not yet counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Moment {
    second: i64,
    /// By GPU slot: occupied share less the node's median.
    gpus: Vec<(u32, f32)>,
    units: Vec<(u32, f64, f64)>,
    /// By node slot: that median less the other nodes'.
    nodes: Vec<(u32, f32)>,
    middle: f64,
    busy: f64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct JobJudge {
    pub(super) members: BTreeMap<u32, Member>,
    pub(super) nodes: BTreeMap<u32, NodeTrace>,
    /// GPU slots of each node's members.
    pub(super) node_members: BTreeMap<u32, Vec<u32>>,
    /// The second before, which waits for its successor to be compared with.
    last: Option<Moment>,
    before_last: Vec<(u32, f64, f64)>,
    /// Seconds of which it is not yet known whether they are communication or a pause.
    held: Vec<Moment>,
    paused: bool,
    pub(super) pace: Pace,
    unit: usize,
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
    stall: Stall,
    /// Counted second of the last suspicion.
    suspected: Option<usize>,
}

impl JobJudge {
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
        let counted = self.count(before);
        if counted == 0 {
            return (Vec::new(), stalled);
        }
        let (found, slow) = self.evaluate(job, input, counted);
        (found, stalled.or(slow))
    }

    /// Takes what this second shows; None: of too few.
    fn look(&mut self, input: &Input<'_>) -> Option<Moment> {
        let value =
            |metric: GpuMetric, gpu: GpuSlot| input.gpus.column(metric as usize).get(gpu.0 as usize).copied().unwrap_or(f64::NAN);
        let mut moment = Moment { second: input.second, ..Moment::default() };
        let (mut busy, mut occupied, mut here) = (Vec::new(), Vec::new(), Vec::new());
        if self.members.len() != input.members.len() {
            for gpu in input.members {
                self.members.entry(gpu.0).or_default();
            }
            self.members.retain(|&gpu, _| input.members.binary_search(&GpuSlot(gpu)).is_ok());
        }
        let large = input.members.len() > LARGE;
        let mut place = 0;
        let mut members = self.members.iter_mut();
        while place < input.members.len() {
            let node = input.fleet.node_of(input.members[place]);
            here.clear();
            let mut instant = f64::NAN;
            while place < input.members.len() && input.fleet.node_of(input.members[place]) == node {
                let gpu = input.members[place];
                place += 1;
                // Both are in the order of their slots.
                let Some((_, member)) = members.find(|(slot, _)| **slot == gpu.0) else { break };
                let Some(share) = occupancy::of(input.gpus, gpu.0 as usize) else { continue };
                let taken = occupancy::with_gap(share, value(GpuMetric::Utilization, gpu));
                busy.push(share);
                occupied.push(taken);
                here.push((gpu.0, taken));
                // Power comes all through the second.
                instant = if value(GpuMetric::SmActive, gpu).is_nan() { 0.5 } else { input.gpus.instant(gpu.0 as usize) };
                member.busy += (f32::from(u8::from(share > 0.05)) - member.busy) / 30.0;
                if self.age > 30 && member.busy < 0.02 {
                    // A spare: it never computes.
                    here.pop();
                    busy.pop();
                    occupied.pop();
                    continue;
                }
                // Of a large job each node's facts are taken every other second: it is enough, and half of the work.
                if large && (input.second + i64::from(node.0)) % 2 == 0 {
                    continue;
                }
                let watts = input.power.get(gpu.0 as usize).map_or(f64::NAN, |&watts| f64::from(watts));
                let node = input.nodes.map(|nodes| (nodes, node.0 as usize));
                member.facts.take(input.second, input.gpus, gpu.0 as usize, node, watts, share > 0.5);
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
        (moment.busy, moment.middle) = (median(&mut busy), median(&mut occupied));
        moment.units.sort_by(|a, b| a.1.total_cmp(&b.1));
        Some(moment)
    }

    /// Each node against the others at its instant: the seconds on both sides of it are known now.
    fn compare(&mut self, moment: &mut Moment) {
        let unit = |&(node, at, value): &(u32, f64, f64)| Unit { node, at, value };
        let next = self.last.as_ref().map(|next| next.units.as_slice()).unwrap_or_default();
        let own: Vec<Unit> = moment.units.iter().map(unit).collect();
        let around: Vec<Unit> = self.before_last.iter().chain(&moment.units).chain(next).map(unit).collect();
        let differences = reference::differences(&own, &around);
        moment.nodes = own.iter().zip(differences).filter(|(_, d)| !d.is_nan()).map(|(unit, d)| (unit.node, d as f32)).collect();
        self.before_last = moment.units.clone();
    }

    /// Counts a second in, unless nobody computes for longer than communication would take. Gives how many were counted.
    fn count(&mut self, moment: Moment) -> usize {
        if moment.busy < QUIET {
            if self.paused {
                return 0;
            }
            self.held.push(moment);
            if self.held.len() >= self.pace.pause() {
                self.held.clear();
                self.paused = true;
            }
            return 0;
        }
        // The second in which a pause ends is not whole.
        if std::mem::take(&mut self.paused) {
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
        for node in self.nodes.values_mut() {
            node.trace.hold();
        }
        // Both are in the order of their slots.
        let mut seen = moment.gpus.iter().peekable();
        for (&gpu, member) in &mut self.members {
            member.trace.hold();
            while seen.next_if(|seen| seen.0 < gpu).is_some() {}
            if let Some(&(_, difference)) = seen.next_if(|seen| seen.0 == gpu) {
                member.trace.put(f64::from(difference) / level - member.offset);
            }
        }
        for &(node, difference) in &moment.nodes {
            let node = self.nodes.entry(node).or_default();
            if node.trace.is_empty() {
                node.trace.hold();
            }
            node.trace.put(f64::from(difference) / level - node.offset);
        }
        self.speed.push(moment.middle);
        if self.times.len() == KEEP {
            self.times.pop_front();
        }
        self.times.push_back(moment.second);
    }

    fn evaluate(&mut self, job: JobSlot, input: &Input<'_>, counted: usize) -> (Vec<Finding>, Option<JobFinding>) {
        let passed = |every: usize| self.age / every != (self.age - counted) / every;
        let (lesson, turn, look) = (passed(LESSON), passed(TURN), passed(if self.members.len() > LARGE { 3 } else { 2 }));
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
            self.finish_learning();
        }
        let found = if look { self.compare_members(job, input) } else { Default::default() };
        let since = self.suspected.map_or(usize::MAX, |at| self.age - at);
        if turn {
            self.members.values_mut().for_each(|member| member.remember(since > 20));
        }
        if lesson && self.learned {
            if since > LESSON
                && let Some(gpu) = self.slow_from_the_start(input)
                && let Some(member) = self.members.get_mut(&gpu)
            {
                (member.offset, member.from_the_start, member.past, member.turns) = (0.0, true, None, 0);
            }
            self.learn();
            self.speed.learn(since > 2 * LAG, LAG, LESSON, self.pace.step());
        }
        found
    }

    fn finish_learning(&mut self) {
        let unit = self.pace.unit();
        if self.age < LEARN.0.max(LEARN.1 * unit).min(200) {
            return;
        }
        self.learned = true;
        let seconds = self.age.min(KEEP - 1);
        for member in self.members.values_mut() {
            // A culprit is held to its peers.
            member.offset = if member.from_the_start { 0.0 } else { member.trace.mean(seconds) };
            if member.from_the_start {
                (member.past, member.turns) = (None, 0);
            } else {
                member.trace.clear();
            }
        }
        for node in self.nodes.values_mut() {
            node.offset = if node.from_the_start { 0.0 } else { node.trace.mean(seconds) };
            if !node.from_the_start {
                node.trace.clear();
            }
        }
        (self.gpu_noise, self.node_noise) = Default::default();
        self.speed.begin(self.suspected.is_none(), seconds);
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
        self.members.values_mut().for_each(|member| member.suspect = false);
        self.nodes.values_mut().for_each(|node| node.suspect = false);
        let length = self.age.min(self.members.values().map(|member| member.trace.len()).max().unwrap_or(0)).min(200);
        let mut findings: Vec<Finding> = Vec::new();
        let mut outstanding = false;
        for (scale, multiple) in SCALES.into_iter().enumerate() {
            let window = multiple * unit;
            if window > length {
                break;
            }
            // Long windows change slowly.
            if window < SHORTEST || window > OFTEN && !(self.age / 3).is_multiple_of(window / OFTEN) {
                continue;
            }
            let floor = (DEVIATION.0 / (window as f64).sqrt()).max(DEVIATION.1);
            let gpus: Vec<(u32, f64)> = self.members.iter().map(|(&gpu, member)| (gpu, member.trace.mean(window))).collect();
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
            outstanding |= suspects.any;
            for &gpu in &suspects.gpus {
                self.members.get_mut(&gpu).expect("a member for each value").suspect = !suspects.is_role;
            }
            for &node in &suspects.nodes {
                self.nodes.get_mut(&node).expect("a node for each value").suspect = !suspects.is_role;
            }
            if let Some(accused) = suspects.accused {
                let finding = self.accuse(&scene, &accused);
                if !self.learned && finding.as_ref().is_some_and(|finding| finding.alarm) {
                    self.slow_since_the_start(&accused);
                }
                findings.extend(finding);
            }
            if !suspects.any {
                self.gpu_noise[scale].learn(gpu_spread);
                self.node_noise[scale].learn(node_spread);
            }
        }
        if outstanding {
            self.suspected = Some(self.age);
        }
        let mut slow = None;
        if !outstanding && self.learned {
            match self.accuse_by_fact(job, at, length, input) {
                Some(finding) => {
                    self.suspected = Some(self.age);
                    findings.push(finding);
                }
                None => slow = self.slow_everywhere(job, at, input),
            }
            self.speed.watch(self.pace.step(), &SCALES, length);
        }
        (strongest(findings), slow)
    }

    fn slow_since_the_start(&mut self, accused: &Accused) {
        match accused.gpu {
            Some(gpu) => self.members.get_mut(&gpu).expect("a member for each value").from_the_start = true,
            None => self.nodes.get_mut(&accused.node).expect("a node for each value").from_the_start = true,
        }
    }

    fn slow_everywhere(&self, job: JobSlot, at: Micros, input: &Input<'_>) -> Option<JobFinding> {
        let (slowdown, seconds) = self.speed.slow_for_long(self.pace.step())?;
        // Somebody was slow meanwhile.
        if self.suspected.is_some_and(|suspected| self.age - suspected < seconds) {
            return None;
        }
        Some(JobFinding {
            job,
            cause: "slow_everywhere",
            since: Micros((input.second - seconds as i64) * 1_000_000),
            at,
            slowdown_ratio: slowdown,
            missing: Vec::new(),
            gpus: input.members.len(),
        })
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

impl Member {
    /// Facts follow what was seen while nobody was suspected.
    fn remember(&mut self, healthy: bool) {
        let row = self.facts.row();
        self.facts.turn();
        if self.suspect || self.from_the_start || !healthy && self.turns >= 6 {
            return;
        }
        self.turns += 1;
        let weight = 1.0 / (self.turns as f32).min(60.0);
        let past = self.past.get_or_insert_with(|| row.iter().map(|&value| value as f32).collect());
        for (past, now) in past.iter_mut().zip(row) {
            if past.is_nan() {
                *past = now as f32;
            } else if !now.is_nan() {
                *past += weight * (now as f32 - *past);
            }
        }
    }

    pub(super) fn past(&self) -> Option<Row> {
        let past = self.past.as_ref().filter(|_| self.turns >= 6)?;
        let mut row = [f64::NAN; super::facts::Fact::COUNT];
        row.iter_mut().zip(past).for_each(|(row, &past)| *row = f64::from(past));
        Some(row)
    }
}
