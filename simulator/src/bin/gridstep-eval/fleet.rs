//! A fleet whose every board draws what a formula says, sampled as agents sample it, and judged as it arrives.

use crate::random::Random;
use gridstep_collector::fleet::{GpuSlot, Place};
use gridstep_collector::incidents::Incident;
use gridstep_collector::judge::{Judge, JudgeConfig};
use gridstep_wire::Micros;
use std::collections::HashMap;
use std::f64::consts::TAU;

pub(crate) const PER_NODE: usize = 8;
pub(crate) const FEEDERS: usize = 4;
/// What a board may draw, W.
pub(crate) const NAMEPLATE: f64 = 700.0;
/// Unix seconds of second 0.
const EPOCH: f64 = 1.76e9;
/// Sensor: window and publication period, s.
const WINDOW: f64 = 0.025;
const PUBLICATION: f64 = 0.1;
/// A batch leaves a node this often, s; data are let into the judging on this grid of arrival times.
const BATCH: f64 = 0.25;
const ARRIVAL: f64 = 0.05;

/// How a group of boards draws power over time, relative to its steady level.
#[derive(Debug, Clone)]
pub(crate) enum Wave {
    /// A change of level by `watts` a board that begins at `at` and takes `rise` seconds.
    Step { at: f64, watts: f64, rise: f64 },
    /// From `at` to `until`: a repetition of which the fundamental swings by `watts` a board, peak to peak.
    Line { at: f64, until: f64, hertz: f64, watts: f64, shape: Shape },
    /// A slow drift: a sine of `watts` a board, peak to peak.
    Drift { period: f64, watts: f64, phase: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Sine,
    /// High for this share of the cycle.
    Pulse(f64),
}

impl Wave {
    fn at(&self, t: f64) -> f64 {
        match *self {
            Self::Step { at, watts, rise } => watts * ((t - at) / rise.max(1e-3)).clamp(0.0, 1.0),
            Self::Line { at, until, hertz, watts, shape } if (at..until).contains(&t) => match shape {
                Shape::Sine => watts / 2.0 * (TAU * hertz * (t - at)).sin(),
                // The fundamental of a pulse of height h and share d swings by 4 h sin(πd) / π.
                Shape::Pulse(share) => {
                    let height = watts * std::f64::consts::PI / (4.0 * (std::f64::consts::PI * share).sin());
                    if (hertz * (t - at)).fract() < share { height * (1.0 - share) } else { -height * share }
                }
            },
            Self::Line { .. } => 0.0,
            Self::Drift { period, watts, phase } => watts / 2.0 * (TAU * (t / period + phase)).sin(),
        }
    }
}

/// Boards that do the same.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Nodes `from..to`.
    pub(crate) nodes: std::ops::Range<usize>,
    pub(crate) job: Option<&'static str>,
    pub(crate) watts: f64,
    pub(crate) waves: Vec<Wave>,
    /// Each node is off the others by up to this, s.
    pub(crate) jitter: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    pub(crate) seed: u64,
    pub(crate) gpus: usize,
    pub(crate) seconds: f64,
    pub(crate) groups: Vec<Group>,
    /// Each board's own noise: W, and how much of it stays after 100 ms.
    pub(crate) noise: (f64, f64),
    /// Between samples of a board, s.
    pub(crate) period: f64,
    /// Standard error of the nodes' clocks, s.
    pub(crate) clock: f64,
    /// Nodes that are silent from one second to another.
    pub(crate) silent: Vec<(usize, f64, f64)>,
    /// Single samples that never come.
    pub(crate) dropout: f64,
    /// Nodes whose clock jumps: node, when, by how much (s).
    pub(crate) clock_steps: Vec<(usize, f64, f64)>,
    /// This share of the nodes is always behind by so many seconds.
    pub(crate) behind: (f64, f64),
}

/// An incident with the arrival time (s of the fleet's time) at which it was first seen.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at: f64,
    pub(crate) first: Incident,
    pub(crate) last: Incident,
}

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) incidents: Vec<Seen>,
    /// Share of the true sum that the judged one was off by, bin by bin, as it was when it was final.
    pub(crate) sum_errors: Vec<f64>,
    /// The same of means over a second.
    pub(crate) second_errors: Vec<f64>,
}

struct Board {
    node: usize,
    group: Option<usize>,
    gain: f64,
    idle: f64,
    sensor_phase: f64,
    delay: f64,
    noise: f64,
    next: f64,
}

pub(crate) fn seconds(at: Micros) -> f64 {
    at.0 as f64 / 1e6 - EPOCH
}

fn tenth(t: f64) -> i64 {
    (t * 10.0).floor() as i64
}

fn micros(t: f64) -> Micros {
    Micros(((EPOCH + t) * 1e6).round() as i64)
}

impl Fleet {
    pub(crate) fn new(seed: u64, gpus: usize, seconds: f64) -> Self {
        Self {
            seed,
            gpus,
            seconds,
            groups: Vec::new(),
            noise: (15.0, 0.8),
            period: 0.1,
            clock: 1e-3,
            silent: Vec::new(),
            dropout: 0.0,
            clock_steps: Vec::new(),
            behind: (0.0, 0.0),
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.gpus.div_ceil(PER_NODE)
    }

    pub(crate) fn feeder(&self, node: usize) -> usize {
        node * FEEDERS / self.nodes().max(1)
    }

    /// The fleet's true power without noise, W.
    pub(crate) fn truth(&self, t: f64) -> f64 {
        self.groups
            .iter()
            .map(|group| {
                let boards = (group.nodes.len() * PER_NODE) as f64;
                boards * (group.watts + group.waves.iter().map(|wave| wave.at(t)).sum::<f64>())
            })
            .sum()
    }

    pub(crate) fn judge(&self, config: JudgeConfig) -> Outcome {
        let mut random = Random::new(self.seed);
        let nodes = self.nodes();
        let place = |node: usize| Place {
            node: format!("node{node:05}"),
            rack: format!("rack{:03}", node / 4),
            feeder: format!("feeder{}", self.feeder(node)),
            in_service: true,
        };
        let topology: Vec<Place> = (0..nodes).map(place).collect();
        let mut judge = Judge::new(config, &topology);
        let group_of = |node: usize| self.groups.iter().position(|group| group.nodes.contains(&node));
        let mut boards = Vec::new();
        for gpu in 0..self.gpus {
            let node = gpu / PER_NODE;
            let slot = judge.fleet_mut().node(&topology[node].node);
            let slot = judge.fleet_mut().gpu(slot, (gpu % PER_NODE) as u8);
            assert_eq!(slot, GpuSlot(gpu as u32));
            let group = group_of(node);
            boards.push(Board {
                node,
                group,
                gain: 1.0 + random.normal() * 0.02,
                idle: 70.0,
                sensor_phase: random.within(0.0, PUBLICATION),
                delay: 0.0,
                noise: 0.0,
                next: random.within(0.0, self.period),
            });
            if let Some(job) = group.and_then(|group| self.groups[group].job) {
                let job = judge.fleet_mut().job(job);
                judge.put_gpu_job(slot, Some(job));
            }
        }
        let node_delay: Vec<f64> =
            (0..nodes).map(|node| group_of(node).map_or(0.0, |g| random.within(0.0, self.groups[g].jitter))).collect();
        boards.iter_mut().for_each(|board| board.delay = node_delay[board.node]);
        let clock: Vec<f64> = (0..nodes).map(|_| random.normal() * self.clock).collect();
        let batch_phase: Vec<f64> = (0..nodes).map(|_| random.within(0.0, BATCH)).collect();
        let mut latency: Vec<f64> = (0..nodes).map(|_| random.within(0.005, 0.08)).collect();
        latency.iter_mut().filter(|_| self.behind.0 > 0.0 && random.chance(self.behind.0)).for_each(|way| *way += self.behind.1);
        let (level, stays) = self.noise;
        let fresh = level * (1.0 - stays * stays).sqrt();
        let mut out = Outcome::default();
        let mut seen: Vec<Seen> = Vec::new();
        let mut last_point = f64::MIN;
        let mut second = (0.0, 0.0, 0);
        // What the boards' own noise adds to the sum, by tenth of a second.
        let mut noise: HashMap<i64, (f64, u32)> = HashMap::new();
        let mut arrival = 0.0;
        while arrival < self.seconds {
            arrival += ARRIVAL;
            judge.advance(micros(arrival));
            for node in 0..nodes {
                // The node's newest batch that has arrived.
                let sent = ((arrival - latency[node] - batch_phase[node]) / BATCH).floor() * BATCH + batch_phase[node];
                let silent = self.silent.iter().any(|&(n, from, to)| n == node && (from..to).contains(&arrival));
                let jump: f64 =
                    self.clock_steps.iter().filter(|step| step.0 == node && arrival >= step.1).map(|step| step.2).sum();
                let first = node * PER_NODE;
                for (gpu, board) in boards.iter_mut().enumerate().take((first + PER_NODE).min(self.gpus)).skip(first) {
                    while board.next <= sent {
                        let read = board.next;
                        board.next += self.period;
                        board.noise = stays * board.noise + fresh * random.normal();
                        let own = noise.entry(tenth(read)).or_default();
                        *own = (own.0 + board.noise, own.1 + 1);
                        if silent || self.dropout > 0.0 && random.chance(self.dropout) {
                            continue;
                        }
                        // What the sensor published last: the mean of the window before.
                        let published = ((read - board.sensor_phase) / PUBLICATION).floor() * PUBLICATION + board.sensor_phase;
                        let centre = published - WINDOW / 2.0;
                        let watts = match board.group {
                            Some(group) => {
                                let group = &self.groups[group];
                                let t = centre - board.delay;
                                group.watts + group.waves.iter().map(|wave| wave.at(t)).sum::<f64>()
                            }
                            None => board.idle,
                        };
                        let watts = ((watts + board.noise) * board.gain).max(20.0);
                        // The agent does not see when the sensor published: the middle of what may be.
                        let stamp = read - WINDOW / 2.0 - PUBLICATION / 2.0 + clock[node] + jump;
                        judge.put_gpu_power(GpuSlot(gpu as u32), micros(stamp), watts);
                    }
                }
            }
            for incident in judge.take_revisions() {
                match seen.iter_mut().find(|seen| seen.first.id == incident.id) {
                    Some(seen) => seen.last = incident,
                    None => seen.push(Seen { at: arrival, first: incident.clone(), last: incident }),
                }
            }
            let until = judge.power_final_until().map_or(f64::MIN, seconds);
            let points = judge.power_history().rev().map(|point| (seconds(point.at), point.watts));
            let mut points: Vec<(f64, f64)> =
                points.skip_while(|point| point.0 > until).take_while(|point| point.0 > last_point.max(20.0)).collect();
            points.reverse();
            for (t, watts) in points {
                let around: Vec<(f64, u32)> = (-1..=1).filter_map(|by| noise.get(&(tenth(t) + by)).copied()).collect();
                let (sum, count) = around.iter().fold((0.0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
                // A slow sampling has not all of the boards in three tenths.
                let truth = self.truth(t) + if count > 0 { sum / f64::from(count) * self.gpus as f64 } else { 0.0 };
                out.sum_errors.push(watts / truth - 1.0);
                second = (second.0 + watts, second.1 + truth, second.2 + 1);
                if second.2 == 10 {
                    out.second_errors.push(second.0 / second.1 - 1.0);
                    second = (0.0, 0.0, 0);
                }
                last_point = t;
                noise.remove(&(tenth(t) - 20));
            }
        }
        out.incidents = seen;
        out
    }
}
