//! A fleet of which the truth is known, judged as what its agents read arrives.

use super::fault::{Fault, Way};
use super::job::{Layout, Phase};
use super::world::World;
use gridstep_collector::fleet::{GpuSlot, JobSlot, NodeSlot, Place};
use gridstep_collector::incidents::{Incident, Subject};
use gridstep_collector::judge::{Judge, JudgeConfig};
use gridstep_wire::Micros;

const EPOCH: f64 = 1.77e9;
/// Seconds between two looks at what has arrived.
const TICK: f64 = 0.1;
/// Every so many seconds a row for the baselines.
pub(crate) const ROW: f64 = 10.0;

/// What befalls telemetry, counters and settings, and is nobody's fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Event {
    /// The node says nothing: from, to.
    Silent(usize, f64, f64),
    /// Its stamps are off: from, seconds.
    Skew(usize, f64, f64),
    /// Counters begin anew.
    Reload(usize, f64),
    /// An error counter of a GPU jumps: at, 0 PCIe, 1 NVLink, 2 ECC.
    Burst(usize, f64, u32),
    /// A bit of the event reasons is set for seconds: GPU, at, seconds, mask.
    Flicker(usize, f64, f64, u64),
    /// The limit of a GPU is set, W, without binding.
    Limit(usize, f64, f64),
    /// All application clocks are set to a share.
    Clocks(f64, f64),
    /// The node's port to the network runs at that rate, bits per second.
    Port(usize, f64),
    /// A GPU has so many NVLink errors a second, all along.
    Errors(usize, f64),
    /// The room becomes warmer: from, by so many degrees.
    Warmer(f64, f64),
}

#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) seconds: f64,
    pub(crate) jobs: Vec<Layout>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) events: Vec<Event>,
    /// Nodes of which the limit is lower from the start, and by which factor they compute longer.
    pub(crate) slower_nodes: Vec<(usize, f64)>,
    /// Nodes that draw less for good.
    pub(crate) efficient: Vec<usize>,
    pub(crate) always_capped: bool,
    pub(crate) gpm: bool,
    /// Seconds between samples of power.
    pub(crate) power_period: f64,
    pub(crate) dropout: f64,
}

/// An incident, when it was first seen (arrival), and each of its revisions.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at: f64,
    pub(crate) first: Incident,
    pub(crate) last: Incident,
}

/// Ten seconds of a GPU, for baselines: occupied share, utilisation, W, MHz.
pub(crate) type Row = [f32; 4];

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) incidents: Vec<Seen>,
    /// By ten seconds and GPU.
    pub(crate) rows: Vec<Vec<Row>>,
    pub(crate) judge_seconds: f64,
}

pub(super) fn micros(t: f64) -> Micros {
    Micros(((EPOCH + t) * 1e6).round() as i64)
}

pub(crate) fn seconds(at: Micros) -> f64 {
    at.0 as f64 / 1e6 - EPOCH
}

impl Setup {
    pub(crate) fn judge(&self, config: JudgeConfig) -> Outcome {
        let mut world = World::new(self);
        let mut judge = self.judge_of(config);
        let gpus = self.nodes * 8;
        let node_phase: Vec<f64> = (0..self.nodes).map(|_| world.random.unit()).collect();
        let latency: Vec<f64> = (0..self.nodes).map(|_| world.random.within(0.05, 0.4)).collect();
        let clock_error: Vec<f64> = (0..self.nodes).map(|_| 0.001 * world.random.normal()).collect();
        let mut next_second: Vec<f64> = node_phase.clone();
        let mut next_power: Vec<f64> = node_phase.clone();
        let mut out = Outcome::default();
        let mut sums = vec![[0.0f32; 5]; gpus];
        let mut row_at = ROW;
        let mut t = 0.0;
        while t < self.seconds {
            t += TICK;
            for job in &mut world.jobs {
                job.run(t, &self.faults, &mut world.random);
            }
            self.assign(&mut world, &mut judge, t);
            let begun = std::time::Instant::now();
            judge.advance(micros(t));
            out.judge_seconds += begun.elapsed().as_secs_f64();
            for node in 0..self.nodes {
                let skew = clock_error[node] + self.skew(node, t);
                let silent = self.is_silent(node, t);
                while next_power[node] <= t - latency[node] {
                    let at = next_power[node];
                    next_power[node] += self.power_period;
                    for (gpu, sum) in sums.iter_mut().enumerate().skip(node * 8).take(8) {
                        let watts = world.watts(self, gpu, at);
                        sum[2] += watts as f32;
                        sum[4] += 1.0;
                        if !silent {
                            judge.put_gpu_power(GpuSlot(gpu as u32), micros(at + skew), watts);
                        }
                    }
                }
                while next_second[node] <= t - latency[node] {
                    let at = next_second[node];
                    next_second[node] += 1.0;
                    let drop = world.random.chance(self.dropout);
                    for (gpu, sum) in sums.iter_mut().enumerate().skip(node * 8).take(8) {
                        self.sample(&mut world, &mut judge, gpu, at, skew, silent || drop, sum);
                    }
                    if !silent && !drop {
                        self.sample_node(&mut world, &mut judge, node, at, skew);
                    }
                }
            }
            if t >= row_at {
                row_at += ROW;
                let row = sums
                    .iter()
                    .map(|sum| [sum[0] / ROW as f32, sum[1] / ROW as f32, sum[2] / sum[4].max(1.0), sum[3] / ROW as f32]);
                out.rows.push(row.collect());
                sums.fill([0.0; 5]);
            }
            for incident in judge.take_revisions() {
                match out.incidents.iter_mut().find(|seen| seen.first.id == incident.id) {
                    Some(seen) => seen.last = incident,
                    None => out.incidents.push(Seen { at: t, first: incident.clone(), last: incident }),
                }
            }
        }
        out
    }

    fn judge_of(&self, config: JudgeConfig) -> Judge {
        let place = |node: usize| Place {
            node: format!("node{node:05}"),
            rack: format!("rack{:03}", node / 4),
            feeder: "feeder0".into(),
            in_service: true,
        };
        let topology: Vec<Place> = (0..self.nodes).map(place).collect();
        let mut judge = Judge::new(config, &topology);
        for (node, place) in topology.iter().enumerate() {
            let slot = judge.fleet_mut().node(&place.node);
            assert_eq!(slot, NodeSlot(node as u32));
            (0..8).for_each(|gpu| assert_eq!(judge.fleet_mut().gpu(slot, gpu), GpuSlot(node as u32 * 8 + u32::from(gpu))));
        }
        for layout in &self.jobs {
            judge.fleet_mut().job(layout.name);
        }
        judge
    }

    /// Who works for which job.
    fn assign(&self, world: &mut World, judge: &mut Judge, t: f64) {
        for (index, layout) in self.jobs.iter().enumerate() {
            for gpu in layout.nodes.start * 8..layout.nodes.end * 8 {
                let within = (layout.from..layout.until).contains(&t);
                let slot = GpuSlot(gpu as u32);
                if within && world.job_of[gpu] != Some(index) {
                    world.job_of[gpu] = Some(index);
                    let name = judge.fleet_mut().job(layout.name);
                    judge.put_gpu_job(slot, Some(JobSlot(name.0)));
                } else if !within && world.job_of[gpu] == Some(index) {
                    world.job_of[gpu] = None;
                    judge.put_gpu_job(slot, None);
                }
            }
        }
    }

    fn is_silent(&self, node: usize, t: f64) -> bool {
        self.events.iter().any(|event| matches!(*event, Event::Silent(n, from, to) if n == node && (from..to).contains(&t)))
    }

    fn skew(&self, node: usize, t: f64) -> f64 {
        let skew = |event: &Event| match *event {
            Event::Skew(n, from, by) if n == node && t >= from => by,
            _ => 0.0,
        };
        self.events.iter().map(skew).sum()
    }

    fn phase(&self, of: impl Fn(&Phase) -> bool) -> Option<Phase> {
        self.jobs.iter().flat_map(|job| &job.phases).map(|(_, _, phase)| *phase).find(of)
    }

    /// Who is missing, in a job that hangs: its GPU, beyond all where nobody is.
    pub(crate) fn hangs(&self) -> Option<usize> {
        self.phase(|phase| matches!(phase, Phase::Hang(_)))
            .map(|phase| if let Phase::Hang(missing) = phase { missing } else { 0 })
    }

    /// NVLink errors keep coming, and that may be told.
    pub(crate) fn has_errors(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Errors(..)))
    }

    /// Whether the clock of that node is indeed off.
    pub(crate) fn is_skewed(&self, subject: &Subject) -> bool {
        let name = |node: usize| Some(format!("node{node:05}"));
        self.events.iter().any(|event| matches!(*event, Event::Skew(node, ..) if name(node) == subject.node))
    }

    pub(crate) fn has_slow_stage(&self) -> bool {
        self.phase(|phase| matches!(phase, Phase::Stage(..))).is_some()
    }

    pub(crate) fn congested(&self) -> bool {
        let by_faults = self.faults.iter().any(|fault| fault.way == Way::Communication);
        by_faults || self.phase(|phase| matches!(phase, Phase::Congestion(_))).is_some()
    }
}
