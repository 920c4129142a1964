//! A healthy job of any size: T = max(C + o) + M, as in [`super::super::job`], from tables.

use super::tables::{Table, place};
use crate::random::Random;
use std::collections::VecDeque;

pub(super) const PER_NODE: usize = 8;

/// What is done in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Doing {
    Training,
    /// Forward passes alone.
    Evaluating,
    /// Communication takes so many times as long.
    Congested(f32),
    /// One member writes and all others spin for it; beyond all members: everybody writes.
    Writing(usize),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) start: f64,
    pub(super) length: f64,
    number: u32,
    compute: f32,
    gap: f32,
    doing: Doing,
}

/// What lasts for a while, and when it comes again.
struct Recurring {
    every: f64,
    lasts: f64,
    first: f64,
    next: f64,
    doing: Doing,
}

pub(super) struct Job {
    pub(super) gpus: usize,
    step: f64,
    communication: f64,
    gap: f64,
    stages: Vec<f32>,
    /// By member: C relative to others for good, and from where it reads.
    own: Vec<f32>,
    places: Vec<u32>,
    compute: Table,
    experts: f64,
    drift: Table,
    nodes: Option<Table>,
    late: Option<Table>,
    host: Table,
    phases: Vec<Recurring>,
    /// How much the day lengthens its steps at most.
    day: f64,
    number: u32,
    next: f64,
    pub(super) steps: VecDeque<Step>,
}

impl Job {
    pub(super) fn new(gpus: usize, random: &mut Random) -> Self {
        let much = random.chance(0.15);
        let stages = match random.unit() {
            kind if kind < 0.5 => vec![1.0],
            kind if kind < 0.7 => vec![1.0; 4],
            kind if kind < 0.85 => vec![0.97, 0.95, 0.96, 1.0],
            _ => {
                let load = random.within(0.5, 0.72) as f32;
                vec![load, load, load, 1.0]
            }
        };
        let step = random.log_within(0.3, 20.0);
        let imbalance = random.unit();
        let noise = random.within(0.003, 0.01);
        // Experts that move slowly, sequences of each node's own, collectors of garbage.
        let experts = if imbalance < 0.15 { random.within(0.02, 0.06) } else { 0.0 };
        let unequal = random.within(0.03, 0.1);
        let nodes = (0.15..0.3).contains(&imbalance).then(|| Table::normal(random, unequal, 0.0));
        let late = (0.3..0.45).contains(&imbalance).then(|| {
            let (every, size) = (random.within(60.0, 300.0), random.within(0.1, 0.4));
            Table::rare(random, (step / every).min(0.2), size)
        });
        let mut phases = Vec::new();
        let mut recurring = |every: f64, lasts: f64, doing: Doing, random: &mut Random| {
            let first = random.within(0.3, 1.0) * every;
            phases.push(Recurring { every, lasts, first, next: first, doing });
        };
        let writer = if random.chance(0.5) { 0 } else { usize::MAX };
        recurring(random.within(600.0, 3600.0), random.within(8.0, 50.0), Doing::Writing(writer), random);
        if random.chance(0.5) {
            recurring(random.within(1200.0, 5400.0), random.within(8.0, 90.0), Doing::Evaluating, random);
        }
        if random.chance(0.3) {
            let factor = random.within(1.2, 2.5) as f32;
            recurring(random.within(1800.0, 10_800.0), random.within(8.0, 120.0), Doing::Congested(factor), random);
        }
        Self {
            gpus,
            step,
            communication: if much { random.within(0.35, 0.5) } else { random.within(0.1, 0.3) },
            gap: random.within(0.02, 0.06),
            stages,
            own: (0..gpus).map(|_| (1.0 + 0.006 * random.normal()).clamp(0.98, 1.02) as f32).collect(),
            places: (0..gpus).map(|gpu| place(gpu, 1)).collect(),
            compute: Table::heavy(random, noise, 0.4),
            experts,
            drift: Table::normal(random, experts.max(0.001), 0.9),
            nodes,
            late,
            host: Table::normal(random, 0.1, 0.0),
            phases,
            day: random.within(0.0, 0.02),
            number: 0,
            next: 0.0,
            steps: VecDeque::new(),
        }
    }

    /// What is not plain training around `t`, for those who look into a false alarm.
    pub(super) fn phases(&self, t: f64) -> String {
        let near = |phase: &&Recurring| {
            let into = (t - phase.first).rem_euclid(phase.every);
            t > phase.first && into < phase.lasts + 300.0
        };
        let told = |phase: &Recurring| {
            format!("{:?} {:.0} s ago for {:.0} s", phase.doing, (t - phase.first).rem_euclid(phase.every), phase.lasts)
        };
        self.phases.iter().filter(near).map(told).collect::<Vec<_>>().join(", ")
    }

    /// Whether it communicates for more than a third of its time, whoever its members are.
    pub(super) fn communicates_much(&self) -> bool {
        self.communication > 0.3
    }

    /// Makes steps until `t`, and forgets those that ended before `t − 3 s`.
    pub(super) fn run(&mut self, t: f64) {
        while self.next <= t {
            let step = self.make();
            self.next += step.length;
            self.number = self.number.wrapping_add(1);
            self.steps.push_back(step);
        }
        while self.steps.front().is_some_and(|step| step.start + step.length < t - 3.0) {
            self.steps.pop_front();
        }
    }

    fn make(&mut self) -> Step {
        let start = self.next;
        let mut doing = Doing::Training;
        let mut left = f64::INFINITY;
        for phase in &mut self.phases {
            if start >= phase.next + phase.lasts {
                phase.next += phase.every;
            }
            if doing == Doing::Training && start >= phase.next {
                (doing, left) = (phase.doing, phase.next + phase.lasts - start);
            }
        }
        let day = 1.0 + self.day * (std::f64::consts::PI * start / 43_200.0).sin().powi(2);
        let compute = self.step * (1.0 - self.communication - self.gap) * day;
        let (compute, communication) = match doing {
            Doing::Evaluating => (compute * 0.35, self.step * self.communication * 0.3),
            Doing::Congested(factor) => (compute, self.step * self.communication * f64::from(factor)),
            _ => (compute, self.step * self.communication),
        };
        let gap = (self.step * self.gap) as f32;
        let mut step = Step { start, length: 0.0, number: self.number, compute: compute as f32, gap, doing };
        step.length = match doing {
            Doing::Writing(_) => left.clamp(0.05, 5.0),
            _ => {
                let works = (0..self.gpus).map(|gpu| self.work(&step, gpu)).map(|(gap, compute)| gap + compute);
                f64::from(works.fold(0.0f32, f32::max)) + communication
            }
        };
        step
    }

    /// Host gap and compute of a member in a step, seconds; the rest of it is communication and waiting.
    pub(super) fn work(&self, step: &Step, gpu: usize) -> (f32, f32) {
        if let Doing::Writing(writer) = step.doing {
            return if writer == gpu || writer >= self.gpus { (step.length as f32, 0.0) } else { (0.0, 0.0) };
        }
        let (place, node) = (self.places[gpu], gpu / PER_NODE);
        let stage = node * self.stages.len() * PER_NODE / self.gpus;
        let mut factor = 1.0 + self.compute.at(place, step.number) + self.drift.at(place >> 3, step.number);
        if let Some(nodes) = &self.nodes {
            factor *= (1.0 + nodes.at(self.places[node * PER_NODE] >> 5, step.number)).max(0.3);
        }
        let late = self.late.as_ref().map_or(0.0, |late| late.at(place >> 7, step.number));
        let gap = step.gap * (1.0 + self.host.at(place >> 5, step.number)).max(0.0) + late;
        (gap, step.compute * self.stages[stage] * self.own[gpu] * factor.max(0.3))
    }
}

impl std::fmt::Display for Job {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unbalanced = match (&self.nodes, &self.late) {
            (Some(_), _) => ", nodes unbalanced",
            (_, Some(_)) => ", late now and then",
            _ => "",
        };
        let (step, communicates, stages) = (self.step, self.communication, &self.stages);
        write!(to, "steps of {step:.2} s, communicates {communicates:.2}, stages {stages:?}{unbalanced}")?;
        if self.experts > 0.0 { write!(to, ", experts {:.3}", self.experts) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_sets_the_step_and_all_wait_for_it() {
        let mut job = Job::new(64, &mut Random::new(5));
        job.run(100.0);
        let step = job.steps.iter().find(|step| step.doing == Doing::Training).copied().unwrap();
        let longest = (0..64).map(|gpu| job.work(&step, gpu)).map(|(gap, c)| f64::from(gap + c)).fold(0.0, f64::max);
        assert!(longest < step.length && longest > 0.4 * step.length, "{longest} of {}", step.length);
        assert!(job.steps.iter().zip(job.steps.iter().skip(1)).all(|(a, b)| (a.start + a.length - b.start).abs() < 1e-9));
    }
}
