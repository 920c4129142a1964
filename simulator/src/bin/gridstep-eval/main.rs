//! `gridstep-eval`: how well the collector judges labelled fleets of which the truth is known.
//!
//! The judging runs in this process, exactly as in the collector: samples in the order of their arrival. The fleets are made here, by
//! seed; none of the detectors' code is used to make or to score them.

mod cost;
mod fleet;
mod random;
mod score;
mod stragglers;
mod suite;

use clap::{Parser, ValueEnum};
use gridstep_collector::stragglers::Without;

#[derive(Parser)]
#[command(about = "Scores the detectors on simulated fleets of known truth")]
struct Arguments {
    /// Fleets of each kind and size.
    #[arg(long, default_value_t = 30)]
    seeds: u64,
    /// Fleet sizes, GPUs.
    #[arg(long, value_delimiter = ',', default_value = "64,512,4096,16384")]
    gpus: Vec<usize>,
    /// Hours of fleets in which nothing happens, for each kind of them.
    #[arg(long, default_value_t = 4.0)]
    null_hours: f64,
    /// Only the suites whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Fleets with a straggler, of each cause and slowdown; of each kind of healthy ones a quarter of that. 0: power alone.
    #[arg(long, default_value_t = 8)]
    stragglers: u64,
    /// The first seed of the fleets with stragglers.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Judge stragglers without a part: roles, memory, gate, corroboration.
    #[arg(long)]
    without: Vec<Part>,
    /// Fleets with stragglers that are judged at once.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Healthy jobs of 64 to 16,384 GPUs for so many GPU-days instead: who is blamed for nothing.
    #[arg(long)]
    healthy_gpu_days: Option<f64>,
    /// Of them only those of so many GPUs.
    #[arg(long)]
    healthy_size: Option<usize>,
    /// What align, sum and detect cost instead, for each of the sizes.
    #[arg(long)]
    cost: bool,
    /// Print each fleet that was judged wrong.
    #[arg(long)]
    verbose: bool,
}

/// Of the judging of stragglers.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Roles,
    Memory,
    Gate,
    Corroboration,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(gpu_days) = arguments.healthy_gpu_days {
        let Arguments { from, threads, healthy_size: only, .. } = arguments;
        return print!("{}", stragglers::healthy::run(&stragglers::healthy::Plan { gpu_days, from, threads, only }));
    }
    let Arguments { seeds, gpus, null_hours, only, stragglers, from, without, threads, cost, verbose, .. } = arguments;
    if cost {
        return print!("{}\n{}", cost::table(&gpus), stragglers::cost::table(&gpus));
    }
    let has = |part| without.contains(&part);
    let without = Without {
        roles: has(Part::Roles),
        memory: has(Part::Memory),
        gate: has(Part::Gate),
        corroboration: has(Part::Corroboration),
    };
    let fleets = stragglers::Plan { fleets: stragglers, only: only.clone(), verbose, from, without, threads };
    let plan = suite::Plan { seeds, gpus, null_hours, only, verbose };
    print!("{}", suite::run(&plan));
    if fleets.fleets > 0 {
        print!("{}", stragglers::run(&fleets));
    }
}
