//! Stragglers: fleets of which the culprit is known, and fleets that have none.

mod baseline;
mod case;
pub(crate) mod cost;
mod fault;
mod fleet;
pub(crate) mod healthy;
mod job;
mod readings;
mod score;
mod world;

use baseline::BASELINES;
use case::{Case, NEGATIVES, Sight};
use fault::Cause;
use gridstep_collector::judge::JudgeConfig;
use gridstep_collector::stragglers::Without;
use score::{Score, named, poisson_upper, quantile, wilson};
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Plan {
    /// Faults of each cause and slowdown; of each negative a quarter of it.
    pub(crate) fleets: u64,
    pub(crate) only: String,
    pub(crate) verbose: bool,
    /// Seeds begin here.
    pub(crate) from: u64,
    pub(crate) without: Without,
    pub(crate) threads: usize,
}

const SLOWDOWNS: [f64; 4] = [0.02, 0.05, 0.1, 0.2];
const SIGHTS: [(Sight, &str); 3] = [(Sight::Gpm, "GPM"), (Sight::Power10, "power at 10 Hz"), (Sight::Power1, "power at 1 Hz")];

type Make = Box<dyn Fn(u64) -> Case + Sync>;

pub(crate) fn run(plan: &Plan) -> String {
    let mut out = String::new();
    let mut suites: Vec<(String, u64, Make)> = Vec::new();
    for (sight, sees) in SIGHTS {
        for slowdown in SLOWDOWNS {
            for cause in Cause::ALL {
                let name = format!("stragglers, {sees}, {:.0} %, {}", 100.0 * slowdown, cause.name());
                suites.push((name, plan.fleets, Box::new(move |index| case::faulty(index, cause, slowdown, sight))));
            }
        }
        for (which, (kind, _)) in NEGATIVES.iter().enumerate() {
            let name = format!("stragglers, {sees}, null: {kind}");
            suites.push((name, plan.fleets.div_ceil(4), Box::new(move |index| case::negative(index, which, sight))));
        }
    }
    suites.push(("stragglers, hang".into(), plan.fleets, Box::new(case::hang)));
    suites.push(("stragglers, slow stage".into(), plan.fleets, Box::new(case::slow_stage)));
    let suites: Vec<_> = suites.into_iter().filter(|(name, ..)| plan.only.split('|').any(|only| name.contains(only))).collect();
    let mut classes: Vec<(String, Score)> = Vec::new();
    let mut compared: Vec<(String, Score)> = Vec::new();
    for (name, fleets, make) in &suites {
        let (total, others) = all(name, plan, *fleets, make.as_ref());
        if plan.verbose {
            total.wrong.iter().for_each(|wrong| eprintln!("  wrong  {wrong}"));
            total.late.iter().for_each(|late| eprintln!("  late   {late}"));
            total.missed.iter().for_each(|missed| eprintln!("  missed {missed}"));
        }
        let line = row(name, &total);
        eprintln!("{line}");
        let _ = writeln!(out, "{line}");
        // A slowdown over all causes; all nulls.
        let class = name.split(", ").take(3).map(|part| part.split(':').next().unwrap_or(part)).collect::<Vec<_>>().join(", ");
        for ((baseline, _), score) in BASELINES.iter().zip(others) {
            add(&mut compared, format!("{class}, {baseline}"), score);
        }
        add(&mut classes, class, total);
    }
    for (class, score) in &classes {
        let _ = writeln!(out, "{}", row(&format!("= {class}"), score));
    }
    for (class, score) in &compared {
        let _ = writeln!(out, "{}", row(&format!("~ {class}"), score));
    }
    classes.iter().for_each(|(class, score)| details(&mut out, class, score));
    out
}

fn add(classes: &mut Vec<(String, Score)>, class: String, score: Score) {
    match classes.iter_mut().find(|(known, _)| *known == class) {
        Some((_, known)) => known.add(score),
        None => classes.push((class, score)),
    }
}

/// Our score, and that of each baseline.
fn all(name: &str, plan: &Plan, fleets: u64, make: &(dyn Fn(u64) -> Case + Sync)) -> (Score, Vec<Score>) {
    let total = Mutex::new((Score::default(), vec![Score::default(); BASELINES.len()]));
    let next = AtomicUsize::new(0);
    let mut config = JudgeConfig::default();
    config.stragglers.without = plan.without;
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed) as u64;
            if index >= fleets {
                return;
            }
            let case = make(plan.from + index);
            let outcome = case.setup.judge(config.clone());
            let score = score::score(&case.setup, &named(&outcome), &outcome, &format!("{name}: {}", case.group));
            let nothing = fleet::Outcome::default();
            let others =
                BASELINES.map(|(_, rule)| score::score(&case.setup, &baseline::named(rule, &case.setup, &outcome), &nothing, ""));
            let mut total = total.lock().expect("no thread panicked");
            total.0.add(score);
            total.1.iter_mut().zip(others).for_each(|(total, other)| total.add(other));
        }
    };
    std::thread::scope(|scope| (0..plan.threads).for_each(|_| drop(scope.spawn(work))));
    total.into_inner().expect("no thread panicked")
}

fn row(name: &str, score: &Score) -> String {
    let (p50, p95) = (quantile(&score.delays, 0.5), quantile(&score.delays, 0.95));
    let right = score.causes_right();
    format!(
        "{name:<58} faults {:>4} found {:>4} dup {:>2} wrong {:>2}  P {:.3} R {:.3} F1 {:.3}  delay {p50:>5.1} {p95:>6.1}  cause {:.3} first {:.3}  raised {}/{}",
        score.faults,
        score.found,
        score.duplicates,
        score.wrong.len(),
        score.precision(),
        score.recall(),
        score.f1(),
        right as f64 / score.found.max(1) as f64,
        score.first_right as f64 / score.found.max(1) as f64,
        score.raised,
        score.fleets,
    )
}

fn details(out: &mut String, class: &str, score: &Score) {
    let interval = |right, of| {
        let (low, high) = wilson(right, of);
        format!("{low:.3} to {high:.3}")
    };
    let named = score.found + score.duplicates + score.wrong.len();
    let _ = writeln!(
        out,
        "{class}: precision {}, recall {}, cause {}, first {}; wrong on {:.2} GPU-days: {} (fewer than {:.1} at 95 %), {} of them pages",
        interval(score.found, named),
        interval(score.found, score.faults),
        interval(score.causes_right(), score.found),
        interval(score.first_right, score.found),
        score.gpu_days,
        score.wrong.len(),
        poisson_upper(score.wrong.len()),
        score.pages,
    );
    let mut meanwhile = score.delays.clone();
    for delay in &score.delays_before {
        meanwhile.iter().position(|other| other == delay).map(|place| meanwhile.swap_remove(place));
    }
    let told = |delays: &[f64]| (delays.len(), quantile(delays, 0.5), quantile(delays, 0.95));
    if !score.delays.is_empty() {
        let ((while_count, while_p50, while_p95), (before_count, p50, p95)) = (told(&meanwhile), told(&score.delays_before));
        let _ = writeln!(
            out,
            "    {while_count} that began while the job ran after {while_p50:.0} s (p50), {while_p95:.0} s (p95); {before_count} that were there before after {p50:.0} s, {p95:.0} s"
        );
    }
    for ((truth, said), count) in score.causes.iter().filter(|((truth, said), _)| truth != said) {
        let _ = writeln!(out, "    {truth} called {said}: {count}");
    }
    for (job, count) in &score.jobs {
        let _ = writeln!(out, "    {job}: {count}");
    }
    if !score.job_delays.is_empty() {
        let (p50, p95) = (quantile(&score.job_delays, 0.5), quantile(&score.job_delays, 0.95));
        let _ = writeln!(out, "    the job's told after {p50:.0} s (p50), {p95:.0} s (p95)");
    }
}
