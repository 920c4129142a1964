//! Boards, nodes and links, as an agent samples them once a second, judged as it arrives.
//!
//! States and their figures: ../shared/facts/stragglers.md §2 (computing ~550 W, spinning ~150 W with 24 of 132 SMs, host busy ~142 W).

use super::fault::{Cause, Fault, Way};
use super::job::{Job, Layout, Phase, heavy};
use crate::random::Random;
use gridstep_collector::fleet::{GpuMetric, GpuSlot, JobSlot, NodeMetric, NodeSlot, Place};
use gridstep_collector::incidents::Incident;
use gridstep_collector::judge::{Judge, JudgeConfig};
use gridstep_wire::{Micros, reasons};

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

#[derive(Debug, Clone)]
struct Board {
    gain: f64,
    clock: f64,
    width: f64,
    limit: f64,
    temperature: f64,
    counters: [f64; 5],
    watts_noise: f64,
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

fn micros(t: f64) -> Micros {
    Micros(((EPOCH + t) * 1e6).round() as i64)
}

pub(crate) fn seconds(at: Micros) -> f64 {
    at.0 as f64 / 1e6 - EPOCH
}

struct World {
    random: Random,
    boards: Vec<Board>,
    jobs: Vec<Job>,
    job_of: Vec<Option<usize>>,
    network_errors: Vec<f64>,
    watts_computing: f64,
    watts_spinning: f64,
    spin: f64,
    busy: f64,
}

/// Shares of a stretch of time.
#[derive(Debug, Clone, Copy, Default)]
struct Shares {
    gap: f64,
    compute: f64,
    spin: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Doing {
    Nothing,
    Host,
    Compute,
    Spin,
}

impl World {
    fn new(setup: &Setup) -> Self {
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
    fn shares(&self, gpu: usize, from: f64, to: f64) -> Shares {
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

    fn doing(&self, gpu: usize, t: f64) -> Doing {
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
    fn clock(&self, setup: &Setup, gpu: usize, t: f64) -> f64 {
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

    fn watts(&mut self, setup: &Setup, gpu: usize, t: f64) -> f64 {
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

    #[allow(clippy::too_many_arguments)]
    fn sample(&self, world: &mut World, judge: &mut Judge, gpu: usize, at: f64, skew: f64, lost: bool, sums: &mut [f32; 5]) {
        let shares = world.shares(gpu, at - 1.0, at);
        let occupied = shares.gap + shares.compute + shares.spin;
        let active = shares.compute * world.busy + shares.spin * world.spin + 0.004 * world.random.normal();
        let active = if occupied > 0.0 { active.clamp(0.0, 1.0) } else { 0.0 };
        let utilization = shares.compute + shares.spin;
        let state = world.doing(gpu, at);
        let clock = match state {
            Doing::Nothing => 345.0,
            Doing::Host | Doing::Spin => self.free_clock(at),
            Doing::Compute => world.clock(self, gpu, at),
        };
        sums[0] += (shares.compute + shares.gap) as f32;
        sums[1] += utilization as f32;
        sums[3] += clock as f32;
        let bits = self.reasons(world, gpu, at, state);
        let heat = self.heat(gpu, at);
        let limit = self.limit(world, gpu, at);
        let (width, generation) = self.link(world, gpu, at, state);
        self.count(world, gpu, at);
        if lost {
            return;
        }
        let board = &world.boards[gpu];
        let loaded = if occupied > 0.5 { 0.0 } else { -25.0 };
        let temperature = board.temperature + loaded + heat + 0.5 * world.random.normal();
        let c = board.counters;
        let stamp = micros(at - 0.5 + skew);
        let slot = GpuSlot(gpu as u32);
        let mut put = |metric, value| judge.put_gpu(slot, metric, stamp, value);
        if self.gpm {
            put(GpuMetric::SmActive, active);
            put(GpuMetric::TensorActive, 0.45 * shares.compute);
        }
        put(GpuMetric::Utilization, utilization);
        put(GpuMetric::SmClock, clock);
        put(GpuMetric::Temperature, temperature.round());
        put(GpuMetric::MemoryTemperature, (temperature + 9.0).round());
        put(GpuMetric::EventReasons, bits as f64);
        put(GpuMetric::PowerLimit, limit);
        put(GpuMetric::PcieWidth, width);
        put(GpuMetric::PcieGeneration, generation);
        put(GpuMetric::PcieReplays, c[0]);
        put(GpuMetric::NvlinkErrors, c[1]);
        put(GpuMetric::EccCorrected, c[2]);
        put(GpuMetric::EccUncorrected, c[3]);
        put(GpuMetric::RemappedRows, c[4]);
        put(GpuMetric::NvlinkBytes, 8e10 * shares.compute);
        put(GpuMetric::Up, 1.0);
    }

    fn free_clock(&self, t: f64) -> f64 {
        let set = self.events.iter().find_map(|event| match *event {
            Event::Clocks(from, share) if t >= from => Some(share),
            _ => None,
        });
        1905.0 * set.unwrap_or(1.0)
    }

    fn faults_of(&self, gpu: usize, t: f64) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(move |fault| fault.strikes(gpu / 8, gpu % 8) && fault.on(t))
    }

    fn reasons(&self, world: &mut World, gpu: usize, t: f64, state: Doing) -> u64 {
        if state == Doing::Nothing {
            return reasons::GPU_IDLE;
        }
        let mut bits = 0;
        if state == Doing::Compute && (self.always_capped || world.random.chance(0.3)) {
            bits |= reasons::SW_POWER_CAP;
        }
        for fault in self.faults_of(gpu, t) {
            let shows = world.random.chance(fault.strength);
            match fault.cause {
                Cause::PowerBrake if shows => bits |= reasons::HW_POWER_BRAKE | reasons::HW_SLOWDOWN,
                Cause::PowerCap => bits |= reasons::SW_POWER_CAP,
                Cause::Thermal if shows => bits |= if fault.token < 4 { reasons::SW_THERMAL } else { reasons::HW_THERMAL },
                Cause::ClockLock => bits &= !reasons::SW_POWER_CAP,
                _ => {}
            }
        }
        for event in &self.events {
            if let Event::Flicker(own, at, seconds, mask) = *event
                && own == gpu
                && (at..at + seconds).contains(&t)
            {
                bits |= mask;
            }
        }
        bits
    }

    fn heat(&self, gpu: usize, t: f64) -> f64 {
        let faults: f64 = self
            .faults_of(gpu, t)
            .filter(|fault| fault.cause == Cause::Thermal)
            .map(|fault| 20.0 * ((t - fault.start) / 20.0).min(1.0))
            .sum();
        let events: f64 = self
            .events
            .iter()
            .map(|event| match *event {
                Event::Warmer(from, by) if t >= from => by,
                _ => 0.0,
            })
            .sum();
        faults + events
    }

    fn limit(&self, world: &World, gpu: usize, t: f64) -> f64 {
        let mut limit = world.boards[gpu].limit;
        if let Some(fault) = self.faults_of(gpu, t).find(|fault| fault.cause == Cause::PowerCap && fault.token < 4) {
            limit *= 1.0 - (0.15 + fault.slowdown).min(0.7);
        }
        for event in &self.events {
            if let Event::Limit(own, from, watts) = *event
                && own == gpu
                && t >= from
            {
                limit = watts;
            }
        }
        limit
    }

    fn link(&self, world: &World, gpu: usize, t: f64, state: Doing) -> (f64, f64) {
        let (mut width, mut generation) = (world.boards[gpu].width, if state == Doing::Nothing { 1.0 } else { 5.0 });
        for fault in self.faults_of(gpu, t).filter(|fault| fault.cause == Cause::PcieDegraded) {
            match fault.token {
                0 | 1 => width /= 4.0,
                2 | 3 => generation = f64::min(generation, 3.0),
                _ => {}
            }
        }
        (width, generation)
    }

    /// One second of errors.
    fn count(&self, world: &mut World, gpu: usize, t: f64) {
        let mut grown = [0.0; 5];
        for fault in self.faults_of(gpu, t) {
            let many = |random: &mut Random, rate: f64| (rate * random.within(0.5, 1.5)).round();
            match fault.cause {
                Cause::PcieDegraded if fault.token >= 4 => grown[0] += many(&mut world.random, 30.0 * fault.strength),
                Cause::NvlinkErrors => grown[1] += many(&mut world.random, 40.0 * fault.strength),
                Cause::HbmDegraded if fault.token < 3 => grown[2] += many(&mut world.random, 10.0 * fault.strength),
                Cause::HbmDegraded if fault.token < 5 && world.random.chance(0.1) => grown[4] += 1.0,
                Cause::HbmDegraded if fault.token == 5 && world.random.chance(0.1) => grown[3] += 1.0,
                _ => {}
            }
        }
        for event in &self.events {
            match *event {
                Event::Reload(node, at) if node == gpu / 8 && (at..at + 1.0).contains(&t) => {
                    world.boards[gpu].counters = [0.0; 5]
                }
                Event::Errors(own, rate) if own == gpu => grown[1] += (rate * world.random.within(0.5, 1.5)).round(),
                Event::Burst(own, at, which) if own == gpu && (at..at + 1.0).contains(&t) => grown[which as usize % 3] += 900.0,
                _ => {}
            }
        }
        // Now and then one error more, on anybody.
        if world.random.chance(2e-4) {
            grown[(world.random.unit() * 3.0) as usize] += 1.0;
        }
        world.boards[gpu].counters.iter_mut().zip(grown).for_each(|(counter, grown)| *counter += grown);
    }

    fn sample_node(&self, world: &mut World, judge: &mut Judge, node: usize, at: f64, skew: f64) {
        let faults: Vec<&Fault> =
            self.faults.iter().filter(|fault| fault.node == node && fault.gpu.is_none() && fault.on(at)).collect();
        let (mut cpu, mut pressure, mut link) = (0.2 + 0.01 * world.random.normal(), 0.002, 4e11);
        for event in &self.events {
            if let Event::Port(own, rate) = *event
                && own == node
            {
                link = rate;
            }
        }
        for fault in faults {
            match fault.cause {
                Cause::CpuContention => (cpu, pressure) = (0.5 + 0.4 * fault.strength, 0.3 + 0.4 * fault.strength),
                Cause::NetworkSlow if fault.token < 3 => link /= 4.0,
                Cause::NetworkSlow => world.network_errors[node] += (60.0 * fault.strength).round(),
                _ => {}
            }
        }
        if world.random.chance(1e-3) {
            world.network_errors[node] += 1.0;
        }
        let (slot, stamp) = (NodeSlot(node as u32), micros(at + skew));
        judge.put_node(slot, NodeMetric::CpuUtilization, stamp, cpu.clamp(0.0, 1.0));
        judge.put_node(slot, NodeMetric::CpuPressure, stamp, pressure);
        judge.put_node(slot, NodeMetric::NetworkLink, stamp, link);
        judge.put_node(slot, NodeMetric::NetworkErrors, stamp, world.network_errors[node]);
        judge.put_node(slot, NodeMetric::ClockError, stamp, 0.001);
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

    pub(crate) fn has_slow_stage(&self) -> bool {
        self.phase(|phase| matches!(phase, Phase::Stage(..))).is_some()
    }

    pub(crate) fn congested(&self) -> bool {
        let by_faults = self.faults.iter().any(|fault| fault.way == Way::Communication);
        by_faults || self.phase(|phase| matches!(phase, Phase::Congestion(_))).is_some()
    }
}
