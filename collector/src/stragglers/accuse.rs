//! Who stands out in one window, whether it is one GPU, one node or one rack, and whether that suffices.
//!
//! Several things have to come together: it is occupied longer than the others and than it used to be, in most parts of the window
//! (one late step is nobody's fault), nobody elsewhere shows half as much, the job became slower by as much as that explains, and, if
//! it is to go fast, a fact that says why.

use super::Finding;
use super::cause::{self, Cause, Peers, medians};
use super::facts::{Fact, Row};
use super::job::{Input, JobJudge};
use super::windows::SUSPECT;
use crate::fleet::{GpuSlot, JobSlot, NodeSlot};
use gridstep_wire::Micros;
use std::collections::{BTreeMap, BTreeSet};

/// Who differs by at least this share of the largest difference suffers from the same.
const ALIKE: f64 = 0.5;
/// Deviations that suffice with a fact to show for it, and without.
const ALARM_FACT: f64 = 5.0;
const ALARM: f64 = 7.0;
/// And of what only power shows.
const ALARM_POWER: f64 = 12.0;
/// Without a fact, times the deviations by which others have stood out of late.
const BEYOND: f64 = 1.5;
/// With a fact, by one step alone; and the least difference that one step shows.
const ALARM_STEP: f64 = 6.0;
const LEAST_STEP: f64 = 0.03;
/// The same of a node: a job has few of them, their noise is known less well, and all GPUs of one are read at the same instants, which beat against the
/// steps: deviations, seconds and steps.
const ALARM_NODE: (f64, usize, usize) = (14.0, 60, 20);
/// Without a fact a window is at least so long, seconds and steps.
const LONG: (usize, usize) = (20, 6);
/// The same of what is so many times as striking as it has to be.
const STRIKING: f64 = 2.0;
const LESS_LONG: (usize, usize) = (12, 4);
/// Without a fact a job is at least so old, seconds and steps.
const OLD: (usize, usize) = (150, 20);
/// The same of one that has been far from all others since the job began.
const YOUNG: (usize, usize) = (45, 8);
/// What slows the job by less is no incident.
const LEAST_SLOWDOWN: f64 = 0.01;
/// Before offsets are known: least difference, and how long (seconds, steps) the job has run.
const LEAST_LEVEL: f64 = 0.02;
const AGE: usize = 11;
const SURE: (usize, usize) = (10, 3);
/// Deviations from which on a step less will do.
const CLEAR: f64 = 10.0;
/// The same with a fact that happens now, seconds: no setting that the machine may have had all along.
const SOON: (usize, usize) = (9, 6);
/// The same where the fact may be a history of the machine: age and window, seconds, and steps.
const HISTORY: (usize, usize, usize) = (45, 26, 8);
/// What an accused is occupied longer accounts for this share of what the job lost, at least.
const ACCOUNTS: f64 = 0.4;
/// One GPU without a fact whose kernels come late for this share of what it is occupied longer does not compute longer.
const LATE: f64 = 0.5;
/// Slow from the start without a fact: least difference, in a job of that many at least.
const FROM_THE_START: f64 = 0.04;
const MANY: usize = 16;
/// Members that a median of facts is made of, at most.
const SAMPLE: usize = 256;

/// One window of all members.
#[derive(Clone)]
pub(super) struct Scene<'a> {
    pub(super) job: JobSlot,
    pub(super) at: Micros,
    pub(super) window: usize,
    /// That it holds, and which of the lengths it is.
    pub(super) steps: usize,
    pub(super) scale: usize,
    pub(super) gpu_deviation: f64,
    pub(super) node_deviation: f64,
    /// By slot, in order: how much longer it is occupied than the others of its node, of those that stand out; and its node than the other
    /// nodes, of all.
    pub(super) gpus: Vec<(u32, f64)>,
    pub(super) nodes: Vec<(u32, f64)>,
    /// GPUs that are compared.
    pub(super) members: usize,
    /// Somebody is set aside who explains what the job lost: that is evidence against nobody else.
    pub(super) explained: bool,
    pub(super) input: &'a Input<'a>,
}

#[derive(Debug, Clone)]
pub(super) struct Accused {
    pub(super) node: u32,
    /// None: the node.
    pub(super) gpu: Option<u32>,
    pub(super) effect: f64,
    pub(super) score: f64,
    /// Nodes of one rack that suffer alike; the accused among them.
    pub(super) rack: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Suspects {
    pub(super) gpus: Vec<u32>,
    pub(super) nodes: Vec<u32>,
    /// Several nodes stand out alike: what many show is their role, not a fault.
    pub(super) is_role: bool,
    /// Those nodes, where they stand out as wholes; and by how much.
    pub(super) stage: Vec<u32>,
    pub(super) stage_effect: f64,
    pub(super) accused: Option<Accused>,
    /// Who stands out most, and by how many deviations.
    pub(super) top_gpu: Option<(u32, f64)>,
    pub(super) top_node: Option<(u32, f64)>,
}

impl Scene<'_> {
    fn node_of(&self, gpu: u32) -> u32 {
        self.input.fleet.node_of(GpuSlot(gpu)).0
    }

    /// The same without those nodes.
    pub(super) fn beside(&self, aside: &BTreeSet<u32>) -> Self {
        let mut scene = Self { explained: true, ..self.clone() };
        scene.gpus.retain(|&(gpu, _)| !aside.contains(&self.node_of(gpu)));
        scene.nodes.retain(|&(node, _)| !aside.contains(&node));
        scene
    }

    pub(super) fn suspects(&self) -> Suspects {
        let by_node: BTreeMap<u32, f64> = self.nodes.iter().copied().collect();
        let of_node = |node: u32| by_node.get(&node).copied().unwrap_or(0.0);
        // A GPU waits least where its node does not wait more than others.
        let total = |gpu: u32, value: f64| value + of_node(self.node_of(gpu)).min(0.0);
        let gpus: Vec<(u32, f64)> = self
            .gpus
            .iter()
            .filter(|(_, value)| *value >= SUSPECT * self.gpu_deviation)
            .map(|&(gpu, value)| (gpu, total(gpu, value)))
            .filter(|(_, value)| *value >= SUSPECT * self.gpu_deviation)
            .collect();
        let nodes: Vec<(u32, f64)> =
            self.nodes.iter().copied().filter(|(_, value)| *value >= SUSPECT * self.node_deviation).collect();
        let best = |of: &[(u32, f64)]| of.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
        let mut suspects = Suspects {
            gpus: gpus.iter().map(|(gpu, _)| *gpu).collect(),
            nodes: nodes.iter().map(|(node, _)| *node).collect(),
            ..Suspects::default()
        };
        let (gpu, node) = (best(&gpus), best(&nodes));
        suspects.top_gpu = gpu.map(|(gpu, value)| (gpu, value / self.gpu_deviation));
        suspects.top_node = node.map(|(node, value)| (node, value / self.node_deviation));
        let effect = f64::max(gpu.map_or(0.0, |gpu| gpu.1), node.map_or(0.0, |node| node.1));
        if effect <= 0.0 {
            return suspects;
        }
        let alike_gpus: Vec<u32> = gpus.iter().filter(|(_, value)| *value > ALIKE * effect).map(|(gpu, _)| *gpu).collect();
        let alike_nodes: BTreeSet<u32> =
            nodes.iter().filter(|(_, value)| *value > ALIKE * effect).map(|(node, _)| *node).collect();
        let mut concerned: BTreeSet<u32> = alike_gpus.iter().map(|&gpu| self.node_of(gpu)).collect();
        concerned.extend(&alike_nodes);
        let whole =
            |node: u32| alike_nodes.contains(&node) || alike_gpus.iter().filter(|&&gpu| self.node_of(gpu) == node).count() >= 3;
        let leader = match (gpu, node) {
            (Some(gpu), Some(node)) if gpu.1 >= node.1 => self.node_of(gpu.0),
            (Some(gpu), None) => self.node_of(gpu.0),
            (_, Some(node)) => node.0,
            (None, None) => return suspects,
        };
        let rack = if concerned.len() > 1 { self.common_rack(&concerned) } else { Vec::new() };
        if concerned.len() > 1 && rack.is_empty() {
            suspects.is_role = true;
            if concerned == alike_nodes {
                (suspects.stage, suspects.stage_effect) = (concerned.into_iter().collect(), effect);
            }
            return suspects;
        }
        let gpu = match gpu {
            Some((gpu, _)) if !whole(leader) && self.node_of(gpu) == leader => Some(gpu),
            _ => None,
        };
        let score = f64::max(
            gpus.iter().map(|gpu| gpu.1).fold(0.0, f64::max) / self.gpu_deviation,
            nodes.iter().map(|node| node.1).fold(0.0, f64::max) / self.node_deviation,
        );
        suspects.accused = Some(Accused { node: leader, gpu, effect, score, rack });
        suspects
    }

    /// The nodes, if there are three or more, all of one rack, and the job has as many elsewhere.
    fn common_rack(&self, nodes: &BTreeSet<u32>) -> Vec<u32> {
        let fleet = self.input.fleet;
        let rack = |node: u32| fleet.nodes()[node as usize].place.as_ref().map(|place| place.rack.clone());
        let first = nodes.first().and_then(|&node| rack(node));
        let one = first.is_some() && nodes.iter().all(|&node| rack(node) == first);
        if one && nodes.len() >= 3 && self.nodes.len() >= 2 * nodes.len() { nodes.iter().copied().collect() } else { Vec::new() }
    }
}

impl JobJudge {
    pub(super) fn accuse(&self, scene: &Scene<'_>, accused: &Accused) -> Option<Finding> {
        let learned = self.learned && self.is_remembered(accused);
        let (now, past) = self.facts_of(accused);
        let past = past.filter(|_| learned);
        let peers = self.facts_of_peers(scene.input, accused);
        let verdict = cause::explain(&now, past.as_ref(), &peers, accused.effect, accused.gpu.is_none());
        let trace = self.accused(accused);
        let one_step = scene.steps == 1;
        let parts = scene.steps.clamp(if one_step { 1 } else { 2 }, 6);
        // And it still is.
        let recent = trace.mean((scene.window / parts).max(2 * self.pace.unit()).min(scene.window));
        let steady = 4 * trace.steady(scene.window, parts) >= 3 * parts && recent >= 0.4 * accused.effect;
        let known = verdict.cause != Cause::Unknown;
        // An error rate is often a history or a burst; one that has been there ever since it is watched most of all.
        let is_rate = !verdict.rates().is_empty();
        let is_history = is_rate && verdict.rates().iter().all(|&fact| self.grows_since(accused, Fact::ALL[fact]).is_none());
        // Power is a rough measure of computing.
        let by_power = now[Fact::SmActive as usize].is_nan();
        let alarm = if by_power { ALARM_POWER } else { ALARM };
        let others = self.of_others(scene.scale, accused);
        // A fact beside what anybody may show is a coincidence; without one it takes much more than that.
        let beyond = accused.score >= others * if known { 1.0 } else { BEYOND };
        let late = peers.now[Fact::Utilization as usize] - now[Fact::Utilization as usize];
        let enough = match (known, learned) {
            _ if learned && !beyond => false,
            _ if scene.explained && !(known && learned) => false,
            (true, true) if one_step => accused.score >= ALARM_STEP && accused.effect >= LEAST_STEP,
            // A limiter's bit that has been on for a moment is not much of a fact yet.
            (true, true) if by_power || is_rate || verdict.is_brief(&now) => accused.score >= ALARM,
            (true, true) => accused.score >= if accused.gpu.is_none() { ALARM } else { ALARM_FACT },
            // Members differ for good, by their role say, while nothing is remembered.
            (true, false) => {
                accused.score >= if verdict.is_of_now() && !is_history && !verdict.is_brief(&now) { SUSPECT } else { ALARM_STEP }
            }
            // It writes a checkpoint, or waits for data: all that it is occupied longer is its host's.
            (false, _) if accused.gpu.is_some() && late >= LATE * accused.effect * self.level => false,
            (false, _) if accused.gpu.is_none() && !self.is_striking_node(scene, accused) => false,
            (false, _) => {
                let (age, steps) = if self.is_remembered(accused) { OLD } else { YOUNG };
                let striking = accused.score >= STRIKING * alarm;
                let (seconds, in_steps) = if striking { LESS_LONG } else { LONG };
                // A few steps may be late by chance, one after another hardly.
                let all = !striking || scene.steps >= LONG.1 || trace.steady(scene.window, parts) == parts;
                accused.score >= alarm
                    && all
                    && scene.window >= seconds
                    && scene.steps >= in_steps
                    && self.age >= age.max(steps * self.pace.unit())
            }
        };
        let lenient = scene.input.without.corroboration;
        let enough = if lenient { accused.score >= ALARM_FACT } else { enough };
        let gap = accused.effect * self.level / (1.0 + accused.effect * self.level);
        let onset = trace.onset(scene.window).max(scene.window);
        let (slowdown, plausible) = if learned && self.speed.is_known() {
            let step = self.pace.step();
            let noise = self.speed.deviation(scene.scale, scene.window as f64);
            let seconds = onset.min(scene.window.max(30)) as f64;
            // A second more or less of the job's communication is much of two steps.
            let fall = self.speed.fall((seconds / step).round().max(3.0) * step);
            let least = LEAST_SLOWDOWN.max(0.25 * gap);
            let least = if known { least - (2.0 * noise).min(0.5 * gap) } else { least + noise };
            // What it does beyond its peers has to account for what the job lost.
            let own = trace.mean(seconds as usize).max(accused.effect) * self.level;
            let accounts = own / (1.0 + own) >= ACCOUNTS * (fall - 2.0 * noise);
            (fall, fall >= least.max(0.002) && gap >= LEAST_SLOWDOWN && accounts)
        } else if learned {
            (gap, gap >= LEAST_SLOWDOWN)
        } else {
            let now = verdict.is_of_now();
            let clear = accused.score >= if now { ALARM_STEP } else { CLEAR };
            let (age, window) = if now { SOON } else { (AGE, SURE.0) };
            let steps = SURE.1 - usize::from(clear);
            let (age, window, steps) = if is_history { HISTORY } else { (age, window, steps) };
            let old = self.age >= age.max(steps * self.pace.unit()) && scene.window >= window && scene.steps >= steps;
            let least = 1.5 * LEAST_LEVEL;
            // Without a fact: who was found by itself to have been far from all others.
            (
                gap,
                if known {
                    old && accused.effect >= least
                } else {
                    !self.is_remembered(accused) && accused.effect >= 0.8 * FROM_THE_START
                },
            )
        };
        let seconds = self.times.len();
        // A rack that has always been slower was set up so; and by power alone neither racks nor what has always been are told.
        let by_itself = if by_power { learned && accused.rack.is_empty() } else { learned || accused.rack.is_empty() };
        let since = self.times.get(seconds.saturating_sub(onset)).copied().unwrap_or(scene.input.second);
        Some(Finding {
            job: scene.job,
            node: NodeSlot(accused.node),
            gpu: accused.gpu.map(GpuSlot),
            rack: (!accused.rack.is_empty()).then(|| self.rack_of(scene.input, accused.node)).flatten(),
            since: Micros(since * 1_000_000),
            at: scene.at,
            alarm: enough && (plausible && steady || lenient) && by_itself,
            by_power,
            slowdown_ratio: slowdown.max(0.0),
            gap,
            communicates: None,
            score: accused.score,
            verdict,
            now,
            peers: peers.now,
            peer_count: scene.members - if accused.gpu.is_some() { 1 } else { 8.min(scene.members) },
            gpus: scene.input.members.len(),
            completeness: (scene.members as f64 / scene.input.members.len().max(1) as f64).min(1.0),
        })
    }

    /// A node that has no fact to show.
    fn is_striking_node(&self, scene: &Scene<'_>, accused: &Accused) -> bool {
        let (score, seconds, steps) = ALARM_NODE;
        let long = scene.window >= seconds && scene.steps >= steps;
        long && accused.score >= score && accused.effect >= LEAST_LEVEL
    }

    fn rack_of(&self, input: &Input<'_>, node: u32) -> Option<String> {
        input.fleet.nodes()[node as usize].place.as_ref().map(|place| place.rack.clone())
    }

    /// False: it has been slow since the job began, as far as is known.
    fn is_remembered(&self, accused: &Accused) -> bool {
        match accused.gpu {
            Some(gpu) => !self.members.was_slow_from_the_start(gpu),
            None => !self.nodes.was_slow_from_the_start(accused.node),
        }
    }

    /// One GPU that has been slower than all others since the job began, with nothing to show for it: what is remembered of it is the
    /// fault itself. It must be far from the next, and compute: a rank that does more on its host is no fault.
    pub(super) fn slow_from_the_start(&self, input: &Input<'_>) -> Option<usize> {
        let window = 40.max(4 * self.pace.unit());
        if self.members.len() < MANY || self.age < window {
            return None;
        }
        let mean = |place: usize, offset: f32| {
            let trace = self.members.traces.lane(place);
            f64::from(offset) + trace.mean(window.min(trace.len()))
        };
        let raw: Vec<f64> = self.members.offsets.iter().enumerate().map(|(place, &offset)| mean(place, offset)).collect();
        let largest = |but: usize| (0..raw.len()).filter(|&place| place != but).max_by(|&a, &b| raw[a].total_cmp(&raw[b]));
        let place = largest(usize::MAX)?;
        let second = raw[largest(place)?];
        let (middle, spread) = super::noise::spread(&raw);
        let (first, second, gpu) = (raw[place] - middle, second - middle, self.members.slots()[place]);
        let accused =
            Accused { node: input.fleet.node_of(GpuSlot(gpu)).0, gpu: Some(gpu), effect: first, score: 0.0, rack: Vec::new() };
        let of_node = self.nodes.place(accused.node).map_or(0.0, |node| f64::from(self.nodes.offsets[node]));
        let far = first >= FROM_THE_START && second <= ALIKE * first && first >= 8.0 * spread && of_node > -ALIKE * first;
        if !far || self.members.from_the_start[place] {
            return None;
        }
        let peers = self.facts_of_peers(input, &accused).now;
        let own = self.known[place].facts.row();
        let late = peers[Fact::Utilization as usize] - own[Fact::Utilization as usize];
        (late.is_nan() || late < 0.03).then_some(place)
    }

    /// What the accused shows, and showed.
    pub(super) fn facts_of(&self, accused: &Accused) -> (Row, Option<Row>) {
        match accused.gpu {
            Some(gpu) => (self.known(gpu).facts.row(), self.known(gpu).past()),
            None => {
                let here = self.node_members.get(&accused.node).map_or(&[][..], Vec::as_slice);
                let now: Vec<Row> = here.iter().map(|&gpu| self.known(gpu).facts.row()).collect();
                let past: Vec<Row> = here.iter().filter_map(|&gpu| self.known(gpu).past()).collect();
                (medians(&now), (!past.is_empty()).then(|| medians(&past)))
            }
        }
    }

    /// Since which second an error counter of the accused has grown; see [`super::facts::Gatherer::grows_since`].
    fn grows_since(&self, accused: &Accused, fact: Fact) -> Option<i64> {
        let here = self.node_members.get(&accused.node).map_or(&[][..], Vec::as_slice);
        let gpus = accused.gpu.as_ref().map_or(here, std::slice::from_ref);
        gpus.iter().filter_map(|&gpu| self.known(gpu).facts.grows_since(fact)).min()
    }

    pub(super) fn facts_of_peers(&self, input: &Input<'_>, accused: &Accused) -> Peers {
        let stride = self.members.len().div_ceil(SAMPLE).max(1);
        let all = || self.members.slots().iter().copied().zip(&self.known);
        let elsewhere = |gpu: u32| input.fleet.node_of(GpuSlot(gpu)).0 != accused.node;
        let mut peers: Vec<_> = all().step_by(stride).filter(|(gpu, _)| elsewhere(*gpu)).map(|(_, known)| known).collect();
        // All of the job on one node: its other GPUs.
        if peers.is_empty() {
            peers = all().filter(|(gpu, _)| Some(*gpu) != accused.gpu).map(|(_, known)| known).collect();
        }
        let now: Vec<Row> = peers.iter().map(|member| member.facts.row()).collect();
        let past: Vec<Row> = peers.iter().filter_map(|member| member.past()).collect();
        Peers::of(&now, &past)
    }
}
