//! What boards do, and how that looks: clocks, watts.
//!
//! States and their figures: ../shared/facts/stragglers.md §2 (computing ~550 W, spinning ~150 W with 24 of 132 SMs, host busy ~142 W).

use super::fault::Cause;
use super::fleet::{Event, Setup};
use super::job::{Job, heavy};
use crate::random::Random;

#[derive(Debug, Clone)]
pub(super) struct Board {
    pub(super) gain: f64,
    pub(super) clock: f64,
    pub(super) width: f64,
    pub(super) limit: f64,
    pub(super) temperature: f64,
    pub(super) counters: [f64; 5],
    pub(super) watts_noise: f64,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) boards: Vec<Board>,
    pub(super) jobs: Vec<Job>,
    pub(super) job_of: Vec<Option<usize>>,
    pub(super) network_errors: Vec<f64>,
    pub(super) watts_computing: f64,
    pub(super) watts_spinning: f64,
    pub(super) spin: f64,
    pub(super) busy: f64,
}

/// Shares of a stretch of time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shares {
    pub(super) gap: f64,
    pub(super) compute: f64,
    pub(super) spin: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Doing {
    Nothing,
    Host,
    Compute,
    Spin,
}

impl World {
    pub(super) fn new(setup: &Setup) -> Self {
        let mut random = Random::new(setup.seed);
        let gpus = setup.nodes * 8;
        let mut own = Vec::new();
        let mut boards = Vec::new();
        for gpu in 0..gpus {
            // For good: sd 0.7 % of speed and power, clocks by the quantum of 15 MHz.
            let slower = setup.slower_nodes.iter().find(|(node, _)| *node == gpu / 8).map_or(1.0, |(_, factor)| *factor);
            own.push((1.0 + 0.006 * random.normal()).clamp(0.98, 1.02) * slower);
            let efficient = if setup.efficient.contains(&(gpu / 8)) { 0.975 } else { 1.0 };
            let lived = |random: &mut Random, share: f64, most: f64| {
                if random.chance(share) { random.log_within(1.0, most).floor() } else { 0.0 }
            };
            boards.push(Board {
                gain: efficient * (1.0 + 0.008 * random.normal()),
                clock: ((1845.0 * (1.0 + 0.006 * random.normal()) / slower) / 15.0).round() * 15.0,
                width: if random.chance(0.01) { 8.0 } else { 16.0 },
                limit: if slower > 1.0 { 500.0 } else { 700.0 },
                temperature: 58.0 + 3.0 * random.normal(),
                counters: [
                    lived(&mut random, 0.3, 500.0),
                    lived(&mut random, 0.2, 2000.0),
                    lived(&mut random, 0.2, 200.0),
                    0.0,
                    lived(&mut random, 0.02, 4.0),
                ],
                watts_noise: 0.0,
            });
        }
        let jobs: Vec<Job> = setup.jobs.iter().map(|layout| Job::new(layout.clone(), &own)).collect();
        let network_errors =
            (0..setup.nodes).map(|_| if random.chance(0.3) { random.log_within(1.0, 3000.0).floor() } else { 0.0 });
        let network_errors = network_errors.collect();
        Self {
            boards,
            jobs,
            job_of: vec![None; gpus],
            network_errors,
            watts_computing: random.within(520.0, 680.0),
            watts_spinning: random.within(140.0, 220.0),
            spin: random.within(0.15, 0.24),
            busy: random.within(0.86, 0.94),
            random,
        }
    }

    /// What the GPU did in `from..to`.
    pub(super) fn shares(&self, gpu: usize, from: f64, to: f64) -> Shares {
        let mut shares = Shares::default();
        let Some(job) = self.job_of[gpu] else { return shares };
        let job = &self.jobs[job];
        let overlap = |a: f64, b: f64| (b.min(to) - a.max(from)).max(0.0) / (to - from);
        for step in &job.steps {
            let end = step.start + step.length;
            if end <= from || step.start >= to {
                continue;
            }
            let (gap, compute) = step.work[gpu - job.first];
            let (works, done) = (step.start + f64::from(gap), step.start + f64::from(gap + compute));
            if gap == 0.0 && compute == 0.0 && job.layout.idle.contains(&(gpu - job.first)) {
                continue;
            }
            shares.gap += overlap(step.start, works.min(end));
            shares.compute += overlap(works, done.min(end));
            shares.spin += overlap(done, end);
        }
        shares
    }

    pub(super) fn doing(&self, gpu: usize, t: f64) -> Doing {
        let shares = self.shares(gpu, t - 1e-3, t + 1e-3);
        let (gap, compute, spin) = (shares.gap, shares.compute, shares.spin);
        if gap + compute + spin < 0.1 {
            return Doing::Nothing;
        }
        if compute >= gap && compute >= spin {
            return Doing::Compute;
        }
        if gap >= spin { Doing::Host } else { Doing::Spin }
    }

    /// SM clock while it computes.
    pub(super) fn clock(&self, setup: &Setup, gpu: usize, t: f64) -> f64 {
        let mut clock = self.boards[gpu].clock;
        for event in &setup.events {
            if let Event::Clocks(from, share) = *event
                && t >= from
            {
                clock *= share;
            }
        }
        for fault in setup.faults.iter().filter(|fault| fault.strikes(gpu / 8, gpu % 8) && fault.on(t)) {
            if matches!(fault.cause, Cause::PowerBrake | Cause::PowerCap | Cause::Thermal | Cause::ClockLock) {
                // The clock falls by as much as its compute takes longer, at least by what makes the others wait.
                clock *= 1.0 - (1.25 * fault.slowdown).min(0.7);
            }
        }
        (clock / 15.0).round() * 15.0
    }

    pub(super) fn watts(&mut self, setup: &Setup, gpu: usize, t: f64) -> f64 {
        let state = self.doing(gpu, t);
        let clock = self.clock(setup, gpu, t) / self.boards[gpu].clock;
        let level = match state {
            Doing::Nothing => 76.0,
            Doing::Host => 142.0,
            Doing::Compute => 120.0 + (self.watts_computing - 120.0) * clock.powf(1.8),
            Doing::Spin => self.watts_spinning,
        };
        let board = &mut self.boards[gpu];
        board.watts_noise = 0.7 * board.watts_noise + 0.7 * 8.0 * heavy(&mut self.random);
        (level * board.gain + board.watts_noise).max(50.0)
    }
}
