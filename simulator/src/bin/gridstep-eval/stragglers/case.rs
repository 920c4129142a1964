//! The labelled fleets: every cause, slowdown, course and begin; and what is nobody's fault, each by itself.

use super::fault::{Cause, Course, Fault};
use super::fleet::{Event, Setup};
use super::job::{Imbalance, Layout, Phase};
use crate::random::Random;
use gridstep_wire::reasons;

const NODES: usize = 8;
/// When the job begins.
const BEGIN: f64 = 20.0;

pub(crate) struct Case {
    pub(crate) group: String,
    pub(crate) setup: Setup,
}

fn layout(random: &mut Random, nodes: std::ops::Range<usize>, from: f64, until: f64) -> Layout {
    Layout {
        name: "job-a",
        nodes,
        from,
        until,
        step: random.log_within(0.3, 20.0),
        communication: random.within(0.1, 0.3),
        gap: random.within(0.02, 0.06),
        stages: vec![1.0],
        noise: random.within(0.003, 0.01),
        imbalance: Imbalance::None,
        phases: Vec::new(),
        idle: Vec::new(),
        drift: 0.0,
    }
}

fn setup(seed: u64, seconds: f64, random: &mut Random) -> Setup {
    Setup {
        seed,
        nodes: NODES,
        seconds,
        jobs: vec![layout(random, 0..NODES, BEGIN, seconds)],
        faults: Vec::new(),
        events: Vec::new(),
        slower_nodes: Vec::new(),
        efficient: Vec::new(),
        always_capped: false,
        gpm: true,
        power_period: 1.0,
        dropout: 0.001,
    }
}

/// Healthy histories that every fleet has some of.
fn live(setup: &mut Setup, random: &mut Random) {
    let gpus = setup.nodes * 8;
    let some = |random: &mut Random| (random.unit() * gpus as f64) as usize;
    let until = setup.seconds;
    for _ in 0..2 {
        let (gpu, at) = (some(random), random.within(60.0, until));
        setup.events.push(Event::Burst(gpu, at, (random.unit() * 3.0) as u32));
    }
    let (gpu, at) = (some(random), random.within(60.0, until));
    setup.events.push(Event::Flicker(gpu, at, 2.0, reasons::SW_THERMAL));
    let (gpu, at) = (some(random) / 8 * 8, random.within(60.0, until));
    (gpu..gpu + 8)
        .for_each(|gpu| setup.events.push(Event::Flicker(gpu, at, 1.0, reasons::HW_POWER_BRAKE | reasons::HW_SLOWDOWN)));
    let (gpu, at) = (some(random), random.within(60.0, until));
    setup.events.push(Event::Limit(gpu, at, 680.0));
}

/// Which layouts the faults are put into.
fn lay(setup: &mut Setup, random: &mut Random) {
    let kind = random.unit();
    if kind < 0.2 {
        setup.jobs[0].stages = vec![1.0, 1.0, 1.0, 1.0];
    } else if kind < 0.35 {
        // A pipeline that is slightly unequal.
        setup.jobs[0].stages = vec![0.97, 0.95, 0.96, 1.0];
    } else if kind < 0.5 {
        setup.jobs[0].nodes = 0..5;
        let mut other = layout(random, 5..8, BEGIN + 5.0, setup.seconds);
        other.name = "job-b";
        setup.jobs.push(other);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// GPM, power once a second.
    Gpm,
    /// Power ten times a second.
    Power10,
    /// Power once a second.
    Power1,
}

/// Fleet number `index` with a fault of `slowdown`.
pub(crate) fn faulty(index: u64, cause: Cause, slowdown: f64, sight: Sight) -> Case {
    let seed = 7_000_000 + index * 100 + cause as u64 * 10 + (slowdown * 100.0) as u64 * 1_000_003;
    let mut random = Random::new(seed);
    let random = &mut random;
    let course =
        [Course::Lasting(60.0), Course::Lasting(600.0), Course::Forever, Course::Intermittent(40.0, 80.0)][index as usize % 4];
    let before = index % 8 >= 6 || index % 8 == 2 && course == Course::Forever;
    let seconds = if slowdown < 0.03 { 900.0 } else { 660.0 };
    let mut setup = setup(seed, seconds, random);
    lay(&mut setup, random);
    live(&mut setup, random);
    setup.gpm = sight == Sight::Gpm;
    setup.power_period = if sight == Sight::Power10 { 0.1 } else { 1.0 };
    let nodes = setup.jobs[0].nodes.len();
    let start = if before { 0.0 } else { random.within(200.0, 360.0) };
    // What begins before the job lasts beyond its begin.
    let course = match course {
        Course::Lasting(seconds) if before => Course::Lasting(seconds.max(300.0)),
        course => course,
    };
    setup.faults.push(Fault::new(random, cause, nodes, slowdown, start, course));
    let when = if before { "before" } else { "after" };
    let course = match course {
        Course::Lasting(seconds) if seconds < 100.0 => "60 s",
        Course::Lasting(_) => "10 min",
        Course::Forever => "forever",
        Course::Intermittent(..) => "intermittent",
    };
    Case { group: format!("{course}, {when}"), setup }
}

type Make = fn(&mut Setup, &mut Random);

/// What is nobody's fault.
pub(crate) const NEGATIVES: [(&str, Make); 29] = [
    ("quiet", |_, _| ()),
    ("rank 0 writes checkpoints", |setup, random| pauses(setup, random, Phase::CheckpointByOne(0))),
    ("all write checkpoints", |setup, random| pauses(setup, random, Phase::CheckpointByAll)),
    ("slow last stage", |setup, random| {
        let load = random.within(0.5, 0.72);
        setup.jobs[0].stages = vec![load, load, load, 1.0];
    }),
    ("sequence lengths", |setup, random| setup.jobs[0].imbalance = Imbalance::Sequences(random.within(0.03, 0.12))),
    ("experts", |setup, random| setup.jobs[0].imbalance = Imbalance::Experts(random.within(0.02, 0.06), 0.9)),
    ("garbage collector", |setup, random| {
        setup.jobs[0].imbalance = Imbalance::Collector(random.within(60.0, 300.0), random.within(0.1, 0.4));
    }),
    ("data loader", |setup, random| {
        setup.jobs[0].imbalance = Imbalance::Loader(random.within(60.0, 240.0), random.within(2.0, 8.0));
    }),
    ("evaluation", |setup, random| pauses(setup, random, Phase::Evaluation)),
    ("start and stop", |setup, random| {
        let seconds = setup.seconds;
        setup.jobs[0].until = random.within(200.0, 300.0);
        let mut again = setup.jobs[0].clone();
        (again.name, again.from, again.until) = ("job-a2", random.within(310.0, 400.0), seconds - 60.0);
        again.step = random.log_within(0.3, 20.0);
        setup.jobs.push(again);
    }),
    ("idle ranks", |setup, _| setup.jobs[0].idle = vec![3, 17, 40]),
    ("mixed limits", |setup, random| {
        let slower = random.within(1.05, 1.2);
        setup.slower_nodes = (0..3).map(|node| (node, slower)).collect();
    }),
    ("efficient nodes", |setup, _| setup.efficient = vec![2, 5]),
    ("power cap at full load", |setup, _| setup.always_capped = true),
    ("a day", |setup, _| setup.jobs[0].drift = 0.02),
    ("congestion", |setup, random| {
        let factor = random.within(1.5, 2.5);
        pauses(setup, random, Phase::Congestion(factor));
    }),
    ("gaps", |setup, random| {
        for _ in 0..6 {
            let (node, at) = ((random.unit() * NODES as f64) as usize, random.within(60.0, setup.seconds));
            setup.events.push(Event::Silent(node, at, at + random.log_within(2.0, 20.0)));
        }
        setup.dropout = 0.02;
    }),
    ("skewed clocks", |setup, random| {
        setup.events.push(Event::Skew(1, 0.0, random.within(-0.8, 0.8)));
        setup.events.push(Event::Skew(4, random.within(100.0, 400.0), random.within(-0.5, 0.5)));
    }),
    ("driver reload", |setup, random| {
        (0..3).for_each(|node| setup.events.push(Event::Reload(node, random.within(100.0, setup.seconds))));
    }),
    ("error bursts", |setup, random| {
        for burst in 0..12 {
            setup.events.push(Event::Burst((random.unit() * 64.0) as usize, random.within(60.0, setup.seconds), burst % 3));
        }
    }),
    ("flickering thermal bits", |setup, random| {
        for _ in 0..12 {
            let gpu = (random.unit() * 64.0) as usize;
            setup.events.push(Event::Flicker(
                gpu,
                random.within(60.0, setup.seconds),
                random.within(1.0, 8.0),
                reasons::SW_THERMAL,
            ));
        }
    }),
    ("application clocks, fleet-wide", |setup, random| setup.events.push(Event::Clocks(random.within(200.0, 400.0), 0.95))),
    ("lower limits that do not bind", |setup, random| {
        (0..8).for_each(|gpu| setup.events.push(Event::Limit(gpu + 16, random.within(100.0, 400.0), 600.0)));
    }),
    ("warmer room", |setup, random| setup.events.push(Event::Warmer(random.within(100.0, 400.0), 8.0))),
    ("two jobs", |setup, random| {
        setup.jobs[0].nodes = 0..4;
        let mut other = layout(random, 4..8, 60.0, setup.seconds);
        other.name = "job-b";
        setup.jobs.push(other);
    }),
    ("long steps", |setup, random| setup.jobs[0].step = random.within(10.0, 30.0)),
    ("a narrow port that nobody waits for", |setup, random| {
        let node = (random.unit() * NODES as f64) as usize;
        setup.events.push(Event::Port(node, if random.chance(0.5) { 1e11 } else { 2e11 }));
    }),
    ("NVLink errors that nobody waits for", |setup, random| {
        let gpu = (random.unit() * 64.0) as usize;
        setup.events.push(Event::Errors(gpu, random.within(6.0, 60.0)));
    }),
    ("much communication", |setup, random| setup.jobs[0].communication = random.within(0.35, 0.5)),
];

/// Every few minutes the phase, for a while.
fn pauses(setup: &mut Setup, random: &mut Random, phase: Phase) {
    let every = random.within(100.0, 240.0);
    let lasts = random.within(8.0, 50.0);
    let mut at = BEGIN + random.within(30.0, every);
    while at < setup.seconds {
        setup.jobs[0].phases.push((at, at + lasts, phase));
        at += every;
    }
}

pub(crate) fn negative(index: u64, which: usize, sight: Sight) -> Case {
    let (name, make) = NEGATIVES[which];
    let seed = 9_000_000 + index * 1000 + which as u64;
    let mut random = Random::new(seed);
    let mut setup = setup(seed, 720.0, &mut random);
    live(&mut setup, &mut random);
    setup.gpm = sight == Sight::Gpm;
    setup.power_period = if sight == Sight::Power10 { 0.1 } else { 1.0 };
    make(&mut setup, &mut random);
    Case { group: name.into(), setup }
}

/// A collective that does not end, half of them with one that is missing on the host.
pub(crate) fn hang(index: u64) -> Case {
    let seed = 11_000_000 + index;
    let mut random = Random::new(seed);
    let mut setup = setup(seed, 480.0, &mut random);
    live(&mut setup, &mut random);
    let at = random.within(150.0, 300.0);
    let missing = if index.is_multiple_of(2) { (random.unit() * 64.0) as usize } else { usize::MAX };
    setup.jobs[0].phases.push((at, setup.seconds, Phase::Hang(missing)));
    Case { group: "hang".into(), setup }
}

/// One stage of a pipeline becomes slower: the job's, and no node's.
pub(crate) fn slow_stage(index: u64) -> Case {
    let seed = 12_000_000 + index;
    let mut random = Random::new(seed);
    let mut setup = setup(seed, 660.0, &mut random);
    live(&mut setup, &mut random);
    setup.jobs[0].stages = vec![1.0; 4];
    let at = random.within(200.0, 300.0);
    let (stage, factor) = ((random.unit() * 4.0) as usize, random.within(1.1, 1.4));
    setup.jobs[0].phases.push((at, setup.seconds, Phase::Stage(stage, factor)));
    Case { group: "slow stage".into(), setup }
}
