//! The kinds of fleets that are judged, and the table of how well.

use crate::fleet::{Fleet, Group, NAMEPLATE, Shape, Wave};
use crate::random::Random;
use crate::score::{Score, Shares, Truth, quantile, score};
use gridstep_collector::judge::JudgeConfig;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Plan {
    pub(crate) seeds: u64,
    pub(crate) gpus: Vec<usize>,
    pub(crate) null_hours: f64,
    pub(crate) only: String,
    pub(crate) verbose: bool,
}

/// A kind of fleet: by seed and size, what it does and what should be found.
type Kind = fn(&mut Random, Fleet) -> (Fleet, Vec<Truth>);

struct Suite {
    name: &'static str,
    seconds: f64,
    kind: Kind,
    null: bool,
}

/// Limits: steps of 2 % of the nameplate, lines of 1 %.
fn config(gpus: usize) -> JudgeConfig {
    let mut config = JudgeConfig::default();
    let contract = gpus as f64 * NAMEPLATE;
    let limits = &mut config.power.limits;
    limits.contracted_watts = Some(contract);
    limits.step_1s_watts = Some(0.02 * contract);
    limits.step_10s_watts = Some(0.04 * contract);
    limits.step_60s_watts = Some(0.08 * contract);
    limits.oscillation_watts = Some(0.01 * contract);
    config
}

const SUITES: &[Suite] = &[
    Suite { name: "step, quiet", seconds: 150.0, kind: step_quiet, null: false },
    Suite { name: "step, quiet, 5 % of nodes silent", seconds: 150.0, kind: step_silent, null: false },
    Suite { name: "step, quiet, 5 % of nodes 2 s behind", seconds: 150.0, kind: step_behind, null: false },
    Suite { name: "step, quiet, 2 Hz staggered", seconds: 150.0, kind: step_two_hertz, null: false },
    Suite { name: "line, 2 Hz staggered", seconds: 330.0, kind: line_two_hertz, null: false },
    Suite { name: "step out of an oscillation", seconds: 240.0, kind: step_out_of_line, null: false },
    Suite { name: "step within an oscillation", seconds: 300.0, kind: step_in_line, null: false },
    Suite { name: "line, 0.05 to 2 Hz", seconds: 330.0, kind: line, null: false },
    Suite { name: "line, 2 to 4 Hz, stamps", seconds: 120.0, kind: line_fast, null: false },
    Suite { name: "null: independent, AR 0", seconds: 600.0, kind: null_white, null: true },
    Suite { name: "null: independent, AR 0.7", seconds: 600.0, kind: null_red, null: true },
    Suite { name: "null: independent, AR 0.95, drift", seconds: 600.0, kind: null_redder, null: true },
    Suite { name: "null: many jobs out of phase", seconds: 600.0, kind: null_jobs, null: true },
    Suite { name: "null: outages of up to 30 %", seconds: 600.0, kind: null_outages, null: true },
    Suite { name: "null: clock steps, dropouts", seconds: 600.0, kind: null_clocks, null: true },
];

fn contract(fleet: &Fleet) -> f64 {
    fleet.gpus as f64 * NAMEPLATE
}

fn group(nodes: std::ops::Range<usize>, job: &'static str, watts: f64) -> Group {
    Group { nodes, job: Some(job), watts, waves: Vec::new(), jitter: 0.02 }
}

/// Two jobs: the first holds `share` of the nodes. Gives also the boards of the first.
fn two_jobs(random: &mut Random, mut fleet: Fleet, share: f64) -> (Fleet, f64) {
    let nodes = fleet.nodes();
    let first = ((nodes as f64 * share).round() as usize).clamp(1, nodes);
    let level = random.within(380.0, 520.0);
    fleet.groups.push(group(0..first, "one", level));
    fleet.groups.push(group(first..nodes, "two", random.within(300.0, 500.0)));
    (fleet, (first * crate::fleet::PER_NODE) as f64)
}

fn sign(random: &mut Random) -> f64 {
    if random.chance(0.5) { 1.0 } else { -1.0 }
}

fn step_quiet(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    let contract = contract(&fleet);
    let share = random.within(0.3, 1.0);
    let (mut fleet, boards) = two_jobs(random, fleet, share);
    let watts = sign(random) * contract * random.log_within(0.026, 0.15).min(boards * 250.0 / contract);
    let at = random.within(60.0, 80.0);
    fleet.groups[0].waves.push(Wave::Step { at, watts: watts / boards, rise: random.log_within(0.05, 0.8) });
    (fleet, vec![Truth::Step { at, watts, within: 1.5 }])
}

fn step_silent(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    let (mut fleet, truths) = step_quiet(random, fleet);
    silence(random, &mut fleet, 0.05, 30.0);
    (fleet, truths)
}

fn step_behind(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    let (fleet, truths) = step_quiet(random, fleet);
    (Fleet { behind: (0.05, 2.0), ..fleet }, truths)
}

fn step_two_hertz(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    step_quiet(random, Fleet { period: 0.5, ..fleet })
}

/// Up to the claim limit of such a sampling, 0.8 Hz.
fn line_two_hertz(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    line_up_to(random, Fleet { period: 0.5, ..fleet }, 0.7)
}

fn silence(random: &mut Random, fleet: &mut Fleet, share: f64, from: f64) {
    let (nodes, end) = (fleet.nodes(), fleet.seconds);
    let silent = (0..nodes).filter(|_| random.chance(share)).collect::<Vec<_>>();
    fleet.silent.extend(silent.into_iter().map(|node| (node, from, end)));
}

fn a_line(random: &mut Random, fleet: &mut Fleet, boards: f64, at: f64, until: f64, hertz: f64, share: (f64, f64)) -> Truth {
    let contract = contract(fleet);
    let watts = contract * random.log_within(share.0, share.1);
    let shape = if random.chance(0.5) { Shape::Sine } else { Shape::Pulse(random.within(0.3, 0.8)) };
    fleet.groups[0].waves.push(Wave::Line { at, until, hertz, watts: watts / boards, shape });
    Truth::Line { at, until, hertz, watts }
}

fn step_out_of_line(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    let contract = contract(&fleet);
    let (mut fleet, boards) = two_jobs(random, fleet, 0.7);
    let hertz = random.log_within(0.1, 0.5);
    let line = a_line(random, &mut fleet, boards, 20.0, 1e9, hertz, (0.02, 0.05));
    let (at, watts) = (random.within(140.0, 150.0), sign(random) * random.within(0.15, 0.25) * contract);
    fleet.groups[0].waves.push(Wave::Step { at, watts: watts / boards, rise: random.log_within(0.05, 0.8) });
    (fleet, vec![line, Truth::Step { at, watts, within: 1.5 }])
}

fn step_in_line(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    let contract = contract(&fleet);
    let (mut fleet, boards) = two_jobs(random, fleet, 0.8);
    let hertz = random.log_within(0.08, 0.5);
    let line = a_line(random, &mut fleet, boards, 20.0, 1e9, hertz, (0.06, 0.12));
    let (at, watts) = (random.within(150.0, 170.0), sign(random) * random.within(0.03, 0.06) * contract);
    fleet.groups[0].waves.push(Wave::Step { at, watts: watts / boards, rise: random.log_within(0.05, 0.8) });
    (fleet, vec![line, Truth::Step { at, watts, within: 1.0 / hertz + 1.5 }])
}

fn line(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    line_up_to(random, fleet, 2.0)
}

fn line_up_to(random: &mut Random, fleet: Fleet, highest: f64) -> (Fleet, Vec<Truth>) {
    let share = random.within(0.35, 1.0);
    let (mut fleet, boards) = two_jobs(random, fleet, share);
    let hertz = random.log_within(0.05, highest);
    let at = random.within(40.0, 50.0);
    let until = at + (14.0 / hertz).max(20.0);
    let truth = a_line(random, &mut fleet, boards, at, until, hertz, (0.013, 0.08));
    fleet.seconds = fleet.seconds.min(until + 3.0);
    (fleet, vec![truth])
}

fn line_fast(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    let (mut fleet, boards) = two_jobs(random, fleet, 0.9);
    let hertz = random.within(2.0, 3.9);
    let truth = a_line(random, &mut fleet, boards, 45.0, 1e9, hertz, (0.03, 0.08));
    (fleet, vec![truth])
}

fn independent(random: &mut Random, mut fleet: Fleet, watts: f64, stays: f64) -> Fleet {
    let nodes = fleet.nodes();
    fleet.groups.push(group(0..nodes, "one", random.within(350.0, 500.0)));
    fleet.noise = (watts, stays);
    fleet
}

fn null_white(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    (independent(random, fleet, 60.0, 0.0), Vec::new())
}

fn null_red(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    (independent(random, fleet, 60.0, 0.7), Vec::new())
}

fn null_redder(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    let mut fleet = independent(random, fleet, 60.0, 0.95);
    let drift = Wave::Drift { period: random.within(1200.0, 86_400.0), watts: random.within(10.0, 60.0), phase: random.unit() };
    fleet.groups[0].waves.push(drift);
    (fleet, Vec::new())
}

/// Every node a job of its own, each with a step of its own.
fn null_jobs(random: &mut Random, mut fleet: Fleet) -> (Fleet, Vec<Truth>) {
    let jobs = fleet.nodes().min(256);
    for job in 0..jobs {
        let nodes = job * fleet.nodes() / jobs..(job + 1) * fleet.nodes() / jobs;
        let mut own = Group { job: None, ..group(nodes, "", random.within(350.0, 500.0)) };
        let (hertz, watts) = (random.log_within(0.08, 1.0), random.within(50.0, 200.0));
        // Small fleets of few jobs are no null: their sum swings.
        let watts = watts * (jobs as f64 / 256.0).min(1.0) * 0.5;
        let at = -random.within(0.0, 100.0);
        own.waves.push(Wave::Line { at, until: 1e9, hertz, watts, shape: Shape::Pulse(0.7) });
        fleet.groups.push(own);
    }
    (fleet, Vec::new())
}

fn null_outages(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    let mut fleet = independent(random, fleet, 30.0, 0.8);
    for _ in 0..4 {
        let (from, share) = (random.within(30.0, 550.0), random.within(0.02, 0.3));
        let (nodes, lasts) = (fleet.nodes(), random.log_within(2.0, 120.0));
        let first = (random.unit() * nodes as f64) as usize;
        let count = (share * nodes as f64) as usize;
        fleet.silent.extend((0..count).map(|node| ((first + node) % nodes, from, from + lasts)));
    }
    (fleet, Vec::new())
}

fn null_clocks(random: &mut Random, fleet: Fleet) -> (Fleet, Vec<Truth>) {
    let mut fleet = independent(random, fleet, 30.0, 0.8);
    fleet.dropout = 0.02;
    for _ in 0..6 {
        let node = (random.unit() * fleet.nodes() as f64) as usize;
        let by = sign(random) * random.log_within(0.2, 3600.0);
        fleet.clock_steps.push((node, random.within(30.0, 550.0), by));
    }
    (fleet, Vec::new())
}

/// Runs what is asked for, on two threads; gives the table.
pub(crate) fn run(plan: &Plan) -> String {
    let mut out = format!(
        "{:<36} {:>6} {:>6} {:>6} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>8} {:>8} {:>6}\n",
        "fleets",
        "GPUs",
        "truths",
        "found",
        "wrong",
        "delay p50",
        "delay p95",
        "ΔW p95",
        "Δf p95",
        "cycles95",
        "share p95",
        "poor",
        "sum p99",
        "1 s p99",
        "hours"
    );
    for suite in SUITES.iter().filter(|suite| suite.name.contains(&plan.only)) {
        for &gpus in &plan.gpus {
            let seeds = if suite.null { (plan.null_hours * 3600.0 / suite.seconds).ceil() as u64 } else { plan.seeds };
            let total = all(suite, gpus, seeds);
            row(&mut out, suite, gpus, &total);
            if plan.verbose {
                total.wrong.iter().for_each(|wrong| eprintln!("{} {gpus}: wrong {wrong}", suite.name));
                total.missed.iter().for_each(|missed| eprintln!("{} {gpus}: missed {missed}", suite.name));
                total.poor.iter().for_each(|poor| eprintln!("{} {gpus}: poor {poor}", suite.name));
            }
            eprintln!("{}", out.lines().last().unwrap_or_default());
        }
    }
    out
}

fn all(suite: &Suite, gpus: usize, seeds: u64) -> Score {
    let total = Mutex::new(Score::default());
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed) as u64;
            if seed >= seeds {
                return;
            }
            let seed = seed + 1000 * gpus as u64;
            let mut random = Random::new(seed ^ suite.name.len() as u64);
            let (fleet, truths) = (suite.kind)(&mut random, Fleet::new(seed, gpus, suite.seconds));
            let outcome = fleet.judge(config(gpus));
            let mut total = total.lock().expect("no thread panicked");
            let (wrong, missed, poor) = (total.wrong.len(), total.missed.len(), total.poor.len());
            score(&outcome, &truths, &shares(&fleet), &mut total);
            total.seconds += fleet.seconds;
            total.wrong.iter_mut().skip(wrong).for_each(|text| *text = format!("seed {seed}: {text}"));
            total.poor.iter_mut().skip(poor).for_each(|text| *text = format!("seed {seed}: {text}"));
            total.missed.iter_mut().skip(missed).for_each(|text| *text = format!("seed {seed}: {text}"));
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    total.into_inner().expect("no thread panicked")
}

/// All that happens is done by the first group.
fn shares(fleet: &Fleet) -> Shares {
    let Some(first) = fleet.groups.first().filter(|group| group.job.is_some()) else { return Vec::new() };
    let nodes = first.nodes.len() as f64;
    let feeder = |index: usize| first.nodes.clone().filter(|&node| fleet.feeder(node) == index).count() as f64 / nodes;
    let feeders = (0..crate::fleet::FEEDERS).map(|index| ("feeder", format!("feeder{index}"), feeder(index)));
    feeders.chain(first.job.map(|job| ("job", job.to_owned(), 1.0))).collect()
}

fn row(out: &mut String, suite: &Suite, gpus: usize, score: &Score) {
    let found = &score.found;
    let figure = |value: f64, digits: usize| if value.is_nan() { "-".into() } else { format!("{value:.digits$}") };
    let delay = |share| figure(quantile(found.iter().map(|found| found.delay), share), 2);
    let cycles = figure(quantile(found.iter().filter(|found| found.cycles > 0.0).map(|found| found.cycles), 0.95), 1);
    let percent = |value: f64| if value.is_nan() { "-".into() } else { format!("{:.2} %", 100.0 * value) };
    let hertz = percent(quantile(found.iter().filter(|found| found.cycles > 0.0).map(|found| found.hertz.abs()), 0.95));
    let watts = percent(quantile(found.iter().map(|found| found.watts.abs()), 0.95));
    let share = percent(quantile(found.iter().map(|found| found.share), 0.95));
    let (sum, second) = (percent(score.sum_errors.quantile(0.99)), percent(score.second_errors.quantile(0.99)));
    let _ = writeln!(
        out,
        "{:<36} {gpus:>6} {:>6} {:>6} {:>6} {:>9} {:>9} {watts:>9} {hertz:>9} {cycles:>9} {share:>9} {:>6} {sum:>8} {second:>8} {:>6.1}",
        suite.name,
        score.truths,
        found.len(),
        score.wrong.len(),
        delay(0.5),
        delay(0.95),
        score.poor.len(),
        score.seconds / 3600.0,
    );
}
