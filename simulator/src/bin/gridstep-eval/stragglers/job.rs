//! A synchronous job, step by step: T = max(C + o) + M, with compute C, host gaps o, communication M. Who is done earlier spins.

use super::fault::{Fault, Way};
use crate::random::Random;
use std::collections::VecDeque;

/// What lasts for a while and is no fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Phase {
    /// One rank writes, all others spin for it.
    CheckpointByOne(usize),
    /// Everybody writes.
    CheckpointByAll,
    /// Forward passes alone: shorter steps, less communication.
    Evaluation,
    /// Communication lasts so many times as long.
    Congestion(f64),
    /// A collective that does not end.
    Hang(usize),
    /// One pipeline stage computes so many times as long.
    Stage(usize, f64),
}

/// Steps' variation that is nobody's fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Imbalance {
    /// Own noise alone.
    None,
    /// Each node's share of the batch is another one in each step: standard deviation.
    Sequences(f64),
    /// The same, slowly changing: standard deviation, what stays from step to step.
    Experts(f64, f64),
    /// Each rank stops for a moment now and then: seconds between stops of a rank, seconds of one.
    Collector(f64, f64),
    /// At the begin of an epoch one rank, another one each time, comes late: seconds of an epoch, seconds late.
    Loader(f64, f64),
}

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    /// Nodes `from..to`.
    pub(crate) nodes: std::ops::Range<usize>,
    pub(crate) from: f64,
    pub(crate) until: f64,
    /// Seconds of a step of which nobody is late, and the share of it that is communication, and host gaps.
    pub(crate) step: f64,
    pub(crate) communication: f64,
    pub(crate) gap: f64,
    /// Compute of each pipeline stage, the largest 1; nodes are split evenly among them.
    pub(crate) stages: Vec<f64>,
    /// Deviation of C from step to step.
    pub(crate) noise: f64,
    pub(crate) imbalance: Imbalance,
    pub(crate) phases: Vec<(f64, f64, Phase)>,
    /// GPUs of the job that do nothing.
    pub(crate) idle: Vec<usize>,
    /// All steps become longer by this share until the end, and return: a day.
    pub(crate) drift: f64,
}

/// One step of all members.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) start: f64,
    pub(crate) length: f64,
    /// By member: host gap first, then compute, seconds; the rest is communication and waiting.
    pub(crate) work: Vec<(f32, f32)>,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) layout: Layout,
    /// Members' GPUs in the fleet.
    pub(crate) first: usize,
    members: usize,
    /// C relative to that of its stage, for good.
    own: Vec<f64>,
    noise: Vec<f64>,
    imbalance: Vec<f64>,
    pub(crate) steps: VecDeque<Step>,
    next: f64,
}

impl Job {
    /// `own`: by GPU of the fleet, how much longer it computes for good.
    pub(crate) fn new(layout: Layout, own: &[f64]) -> Self {
        let first = layout.nodes.start * 8;
        let members = layout.nodes.len() * 8;
        let own = own[first..first + members].to_vec();
        let next = layout.from;
        Self {
            layout,
            first,
            members,
            own,
            noise: vec![0.0; members],
            imbalance: vec![0.0; members],
            steps: VecDeque::new(),
            next,
        }
    }

    fn stage(&self, member: usize) -> usize {
        (member / 8) * self.layout.stages.len() / self.layout.nodes.len()
    }

    /// Makes steps until `t`, and forgets those that ended before `t − 3 s`.
    pub(crate) fn run(&mut self, t: f64, faults: &[Fault], random: &mut Random) {
        while self.next <= t && self.next < self.layout.until {
            let step = self.step(faults, random);
            self.next += step.length;
            self.steps.push_back(step);
        }
        while self.steps.front().is_some_and(|step| step.start + step.length < t - 3.0) {
            self.steps.pop_front();
        }
    }

    fn step(&mut self, faults: &[Fault], random: &mut Random) -> Step {
        let start = self.next;
        let layout = &self.layout;
        let phase = layout.phases.iter().find(|(from, until, _)| (*from..*until).contains(&start)).copied();
        match phase {
            Some((_, until, Phase::CheckpointByOne(writer))) => return self.pause(start, until, |member| member == writer),
            Some((_, until, Phase::CheckpointByAll)) => return self.pause(start, until, |_| true),
            Some((_, until, Phase::Hang(missing))) => return self.pause(start, until, |member| member == missing),
            _ => {}
        }
        let (mut compute, mut communication) =
            (layout.step * (1.0 - layout.communication - layout.gap), layout.step * layout.communication);
        match phase {
            Some((_, _, Phase::Evaluation)) => (compute, communication) = (compute * 0.35, communication * 0.3),
            Some((_, _, Phase::Congestion(factor))) => communication *= factor,
            _ => {}
        }
        let drift = 1.0 + layout.drift * (std::f64::consts::PI * (start - layout.from) / 1800.0).sin().powi(2);
        compute *= drift;
        let gap = layout.step * layout.gap;
        let mut work = Vec::with_capacity(self.members);
        for member in 0..self.members {
            let noise = 0.4 * self.noise[member] + 0.9165 * self.layout.noise * heavy(random);
            self.noise[member] = noise;
            let stage = self.stage(member);
            let slowed = match phase {
                Some((_, _, Phase::Stage(slow, factor))) if slow == stage => factor,
                _ => 1.0,
            };
            let c = compute * self.layout.stages[stage] * slowed * self.own[member] * (1.0 + noise);
            work.push(((gap * (1.0 + 0.1 * random.normal())) as f32, c as f32));
        }
        self.unbalance(start, &mut work, random);
        for &idle in &self.layout.idle {
            work[idle] = (0.0, 0.0);
        }
        let slowest = |work: &[(f32, f32)]| work.iter().map(|(gap, c)| f64::from(gap + c)).fold(0.0, f64::max);
        let mut length = slowest(&work) + communication;
        for fault in faults.iter().filter(|fault| fault.on(start)) {
            let wanted = length / (1.0 - fault.slowdown);
            self.strike(fault, wanted, communication, &mut work, &mut length);
        }
        length = length.max(slowest(&work) + communication);
        Step { start, length, work }
    }

    /// Everybody but those that work (on the host, no kernel) spins until the end.
    fn pause(&self, start: f64, until: f64, works: impl Fn(usize) -> bool) -> Step {
        let length = (until - start).clamp(0.05, 5.0);
        let work = (0..self.members).map(|member| if works(member) { (length as f32, 0.0) } else { (0.0, 0.0) }).collect();
        Step { start, length, work }
    }

    /// Makes the culprit take so long that the step lasts `wanted`.
    fn strike(&self, fault: &Fault, wanted: f64, communication: f64, work: &mut [(f32, f32)], length: &mut f64) {
        let mut hit = false;
        for (member, work) in work.iter_mut().enumerate() {
            let gpu = self.first + member;
            if !fault.strikes(gpu / 8, gpu % 8) {
                continue;
            }
            hit = true;
            let lacking = (wanted - communication - f64::from(work.0 + work.1)).max(0.0) as f32;
            match fault.way {
                Way::Compute => work.1 += lacking,
                Way::Gap => work.0 += lacking,
                Way::Communication => {}
            }
        }
        if hit && fault.way == Way::Communication {
            *length = wanted;
        }
    }

    fn unbalance(&mut self, start: f64, work: &mut [(f32, f32)], random: &mut Random) {
        match self.layout.imbalance {
            Imbalance::None => {}
            Imbalance::Sequences(deviation) => {
                for node in work.chunks_mut(8) {
                    let factor = (1.0 + deviation * random.normal()).max(0.3) as f32;
                    node.iter_mut().for_each(|work| work.1 *= factor);
                }
            }
            Imbalance::Experts(deviation, stays) => {
                for (work, imbalance) in work.iter_mut().zip(&mut self.imbalance) {
                    *imbalance = stays * *imbalance + (1.0 - stays * stays).sqrt() * deviation * random.normal();
                    work.1 *= (1.0 + *imbalance).max(0.3) as f32;
                }
            }
            Imbalance::Collector(every, seconds) => {
                let chance = self.layout.step / every;
                for work in work.iter_mut() {
                    if random.chance(chance) {
                        work.0 += (seconds * random.within(0.5, 1.5)) as f32;
                    }
                }
            }
            Imbalance::Loader(epoch, late) => {
                let into = (start - self.layout.from) % epoch;
                if into < self.layout.step {
                    let member = (random.unit() * self.members as f64) as usize;
                    work[member].0 += late as f32;
                }
            }
        }
    }
}

/// Student's t of four degrees of freedom, of unit variance.
pub(crate) fn heavy(random: &mut Random) -> f64 {
    let squares: f64 = (0..4).map(|_| random.normal().powi(2)).sum();
    random.normal() / (squares / 4.0).max(1e-3).sqrt() / std::f64::consts::SQRT_2
}
