//! Long runs of healthy jobs of 64 to 16,384 GPUs, once a second, made cheaply: how often is somebody blamed who did nothing?
//!
//! What a fleet of [`super::case`] costs to make is more than what it costs to judge. Here a job's noise comes from tables that were drawn
//! once ([`tables`]), so a thousand GPU-days take a minute or so.

mod job;
mod machines;
mod tables;

use super::score::poisson_upper;
use crate::random::Random;
use gridstep_collector::fleet::{GpuMetric, GpuSlot, JobSlot, NodeMetric, NodeSlot, Place};
use gridstep_collector::incidents::{Incident, Kind, Severity};
use gridstep_collector::judge::{Judge, JudgeConfig};
use gridstep_wire::{Micros, reasons};
use job::{Job, PER_NODE};
use machines::Machines;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use tables::{Table, place};

const EPOCH: f64 = 1.77e9;
/// Jobs, and how long each of them runs, hours; of each size as many GPU-days.
const SIZES: [(usize, f64); 5] = [(64, 24.0), (256, 24.0), (1024, 12.0), (4096, 6.0), (16_384, 2.0)];
/// SMs of a GPU that computes and that spins, as shares.
const BUSY: f32 = 0.9;
const SPINS: f32 = 0.18;

pub(crate) struct Plan {
    pub(crate) gpu_days: f64,
    pub(crate) from: u64,
    pub(crate) threads: usize,
    pub(crate) only: Option<usize>,
}

/// What came of jobs of one size.
#[derive(Debug, Default, Clone)]
struct Tally {
    gpu_days: f64,
    jobs: usize,
    /// Warnings and above that blame somebody, and those of them that page.
    warnings: usize,
    pages: usize,
    /// For the record alone, and of whole jobs.
    records: usize,
    others: BTreeMap<String, usize>,
}

struct Work {
    tallies: [Tally; SIZES.len()],
    /// GPU-days that are done or begun.
    begun: [f64; SIZES.len()],
    next: u64,
}

/// Runs until so many GPU-days have been judged; gives the table, and says on stderr what has come so far.
pub(crate) fn run(plan: &Plan) -> String {
    let work = Mutex::new(Work { tallies: Default::default(), begun: [0.0; SIZES.len()], next: plan.from });
    let share = plan.gpu_days / if plan.only.is_some() { 1.0 } else { SIZES.len() as f64 };
    let one = || {
        loop {
            let (size, seed) = {
                let mut work = work.lock().expect("no thread panicked");
                let asked = |size: &usize| plan.only.is_none_or(|only| only == SIZES[*size].0);
                let behind = (0..SIZES.len()).filter(asked).min_by(|&a, &b| work.begun[a].total_cmp(&work.begun[b])).unwrap_or(0);
                if work.begun[behind] >= share {
                    return;
                }
                work.begun[behind] += SIZES[behind].0 as f64 * SIZES[behind].1 / 24.0;
                work.next += 1;
                (behind, work.next - 1)
            };
            let (gpus, hours) = SIZES[size];
            let (incidents, job) = judge(seed, gpus, hours * 3600.0);
            let mut work = work.lock().expect("no thread panicked");
            let tally = &mut work.tallies[size];
            tally.jobs += 1;
            tally.gpu_days += gpus as f64 * hours / 24.0;
            for incident in &incidents {
                let t = incident.opened_at.0 as f64 / 1e6 - EPOCH;
                tally.take(incident, &format!("seed {seed}, {gpus} GPUs, {job} [{}], {t:.0} s", job.phases(t)));
            }
            eprintln!("{}", table(&work.tallies).lines().last().unwrap_or_default());
        }
    };
    std::thread::scope(|scope| (0..plan.threads).for_each(|_| drop(scope.spawn(one))));
    let work = work.into_inner().expect("no thread panicked");
    table(&work.tallies)
}

impl Tally {
    fn take(&mut self, incident: &Incident, of: &str) {
        *self.others.entry(format!("{:?} {}", incident.kind, incident.cause)).or_default() += 1;
        if incident.kind != Kind::Straggler {
            return;
        }
        eprintln!("  {:?} {of}: {}", incident.severity, incident.summary);
        match incident.severity {
            Severity::Info => self.records += 1,
            Severity::Warning => self.warnings += 1,
            Severity::Critical => (self.warnings, self.pages) = (self.warnings + 1, self.pages + 1),
        }
    }

    fn add(&mut self, other: &Tally) {
        self.gpu_days += other.gpu_days;
        self.jobs += other.jobs;
        self.warnings += other.warnings;
        self.pages += other.pages;
        self.records += other.records;
        other.others.iter().for_each(|(name, count)| *self.others.entry(name.clone()).or_default() += count);
    }
}

fn table(tallies: &[Tally]) -> String {
    let mut out = String::new();
    let mut total = Tally::default();
    for ((gpus, _), tally) in SIZES.iter().zip(tallies) {
        total.add(tally);
        let _ = writeln!(out, "jobs of {gpus:>6}: {}", row(tally));
    }
    let others: Vec<String> = total.others.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let _ = writeln!(out, "told: {}", others.join(", "));
    let _ = writeln!(out, "all           : {}", row(&total));
    out
}

fn row(tally: &Tally) -> String {
    let each = |count: usize| poisson_upper(count) / tally.gpu_days.max(1e-9) * 16_384.0;
    format!(
        "{:>4} jobs, {:>9.1} GPU-days, warnings {} (fewer than {:.2} per 16,384 GPU-days at 95 %), pages {} (fewer than {:.2}), for the record {}",
        tally.jobs,
        tally.gpu_days,
        tally.warnings,
        each(tally.warnings),
        tally.pages,
        each(tally.pages),
        tally.records,
    )
}

fn micros(t: f64) -> Micros {
    Micros(((EPOCH + t) * 1e6).round() as i64)
}

/// One job from its begin: what was said of it, and which job it was.
fn judge(seed: u64, gpus: usize, seconds: f64) -> (Vec<Incident>, Job) {
    let mut random = Random::new(seed ^ 0x6865_616c_7468);
    let mut judge = judge_of(gpus);
    let mut job = Job::new(gpus, &mut random);
    let mut machines = Machines::new(gpus, !job.communicates_much(), &mut random);
    let nodes = gpus / PER_NODE;
    let phases: Vec<f64> = (0..nodes).map(|_| random.unit()).collect();
    let noise = Table::normal(&mut random, 0.004, 0.0);
    let host = Table::normal(&mut random, 0.01, 0.0);
    let mut told: BTreeMap<String, Incident> = BTreeMap::new();
    for second in 1..seconds as u32 {
        let t = f64::from(second);
        job.run(t + 1.0);
        machines.live(t, &mut random);
        for (node, phase) in phases.iter().enumerate() {
            // One batch in ten thousand never comes.
            if random.chance(1e-4) {
                continue;
            }
            let at = t + phase;
            let from = job.steps.partition_point(|step| step.start + step.length <= at - 1.0);
            for gpu in node * PER_NODE..(node + 1) * PER_NODE {
                let shown = show(&job, from, gpu, at);
                put(&mut judge, &machines, gpu, at, shown, noise.at(place(gpu, 2), second));
            }
            let (slot, stamp) = (NodeSlot(node as u32), micros(at));
            judge.put_node(slot, NodeMetric::CpuUtilization, stamp, f64::from(0.2 + host.at(place(node, 3), second)));
            judge.put_node(slot, NodeMetric::CpuPressure, stamp, 0.002);
            judge.put_node(slot, NodeMetric::NetworkLink, stamp, machines.hosts[node].link);
            judge.put_node(slot, NodeMetric::NetworkErrors, stamp, machines.hosts[node].errors);
        }
        judge.advance(micros(t + 1.3));
        for incident in judge.take_revisions() {
            told.insert(incident.id.clone(), incident);
        }
    }
    (told.into_values().collect(), job)
}

fn judge_of(gpus: usize) -> Judge {
    let place = |node: usize| Place {
        node: format!("node{node:05}"),
        rack: format!("rack{:03}", node / 4),
        feeder: "feeder0".into(),
        in_service: true,
    };
    let topology: Vec<Place> = (0..gpus / PER_NODE).map(place).collect();
    let mut judge = Judge::new(JudgeConfig::default(), &topology);
    let job = judge.fleet_mut().job("job");
    for gpu in 0..gpus {
        let node = judge.fleet_mut().node(&topology[gpu / PER_NODE].node);
        let slot = judge.fleet_mut().gpu(node, (gpu % PER_NODE) as u8);
        judge.put_gpu_job(slot, Some(JobSlot(job.0)));
    }
    judge
}

/// Shares of a second.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    compute: f32,
    spin: f32,
    /// At its end.
    computes: bool,
}

/// What a GPU did in the second before `at`; `from`: the first step that reaches into it.
fn show(job: &Job, from: usize, gpu: usize, at: f64) -> Shown {
    let mut shown = Shown::default();
    for step in job.steps.iter().skip(from) {
        // Seconds after the second's begin.
        let start = (step.start - (at - 1.0)) as f32;
        if start >= 1.0 {
            break;
        }
        let (gap, compute) = job.work(step, gpu);
        let end = start + step.length as f32;
        let (works, done) = (start + gap, (start + gap + compute).min(end));
        let overlap = |a: f32, b: f32| (b.min(1.0) - a.max(0.0)).max(0.0);
        shown.compute += overlap(works, done);
        shown.spin += overlap(done, end);
        shown.computes = works < 1.0 && done >= 1.0;
    }
    shown
}

fn put(judge: &mut Judge, machines: &Machines, gpu: usize, at: f64, shown: Shown, noise: f32) {
    let board = &machines.boards[gpu];
    let (slot, stamp) = (GpuSlot(gpu as u32), micros(at - 0.5));
    let active = (shown.compute * BUSY + shown.spin * SPINS + noise).clamp(0.0, 1.0);
    // Every third second under full load is one under the power cap.
    let capped = shown.computes && (at as u64).wrapping_mul(2_654_435_761).wrapping_add(gpu as u64 * 40_503) % 10 < 3;
    let bits = board.bits(at) | if capped { reasons::SW_POWER_CAP } else { 0 };
    let mut put = |metric, value| judge.put_gpu(slot, metric, stamp, value);
    put(GpuMetric::SmActive, f64::from(active));
    put(GpuMetric::Utilization, f64::from(shown.compute + shown.spin).min(1.0));
    put(GpuMetric::SmClock, if shown.computes { board.clock } else { 1905.0 });
    put(GpuMetric::Temperature, board.temperature);
    put(GpuMetric::EventReasons, bits as f64);
    put(GpuMetric::PowerLimit, board.limit);
    put(GpuMetric::PcieWidth, board.width);
    put(GpuMetric::PcieGeneration, 5.0);
    put(GpuMetric::PcieReplays, board.counters[0]);
    put(GpuMetric::NvlinkErrors, board.counters[1]);
    put(GpuMetric::EccCorrected, board.counters[2]);
    put(GpuMetric::EccUncorrected, 0.0);
    put(GpuMetric::RemappedRows, 0.0);
}
