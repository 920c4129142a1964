//! Installs the simulated library, and tells the truth about a scenario.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use gridstep_simulator::scenario::Scenario;
use gridstep_simulator::truth::{Truth, truth};

/// A simulated libnvidia-ml.so.1 of H100s in training.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put the library into a directory as libnvidia-ml.so.1, for LD_LIBRARY_PATH.
    InstallLibrary {
        #[arg(long)]
        dir: PathBuf,
    },
    /// Tell what an observer of a scenario should find.
    Truth {
        #[arg(long)]
        scenario: PathBuf,
        #[arg(long)]
        json: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::InstallLibrary { dir } => install(&dir),
        Command::Truth { scenario, json } => {
            let truth = truth(&Scenario::load(&scenario)?);
            if json {
                println!("{}", serde_json::to_string_pretty(&truth)?);
            } else {
                print_truth(&truth);
            }
            Ok(())
        }
    }
}

/// Copies the library that was built with this executable.
fn install(dir: &Path) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("cannot tell where this executable is")?;
    let beside = own.parent().context("this executable is in no directory")?;
    let name = "libgridstep_simulator.so";
    let candidates =
        [beside.join(name), beside.join("deps").join(name), beside.join("../deps").join(name), beside.join("../lib").join(name)];
    let library = candidates.iter().find(|path| path.is_file());
    ensure!(library.is_some(), "no {name} beside {} or in deps", own.display());
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let target = dir.join("libnvidia-ml.so.1");
    // A process that runs with the old library keeps it: the new one comes in by rename.
    let fresh = dir.join(format!(".libnvidia-ml.so.1.{}", std::process::id()));
    std::fs::copy(library.unwrap_or(&target), &fresh).with_context(|| format!("cannot write {}", fresh.display()))?;
    std::fs::rename(&fresh, &target).with_context(|| format!("cannot write {}", target.display()))?;
    println!("{}", target.display());
    Ok(())
}

fn print_truth(truth: &Truth) {
    let moment = |t: Option<f64>| t.map_or_else(|| "for ever".to_owned(), |t| format!("{t:.1} s"));
    for job in &truth.jobs {
        println!("{}: {} GPUs, {:.1} s to {}", job.name, job.gpus, job.start, moment(job.end));
        if let Some(watts) = job.start_delta_watts {
            println!("  start {:+.1} kW", watts / 1e3);
        }
        if let Some(watts) = job.end_delta_watts {
            println!("  end {:+.1} kW", watts / 1e3);
        }
        for s in &job.segments {
            let (hz, swing, mean) = (s.iteration_hz, s.fundamental_watts / 1e3, s.mean_watts / 1e3);
            println!(
                "  {:.1} s to {}: {hz:.4} Hz, fundamental {swing:.1} kW peak to peak, mean {mean:.1} kW",
                s.from,
                moment(s.to)
            );
        }
        for s in &job.stalls {
            println!("  {:.1} s to {}: stalled, mean {:.1} kW", s.from, moment(s.to), s.mean_watts / 1e3);
        }
    }
    for f in &truth.faults {
        let gpu = f.gpu.map_or_else(|| "all GPUs".to_owned(), |gpu| format!("gpu {gpu}"));
        println!("{} {gpu}: {} {:.1} s to {}, steps x{:.3}", f.node, f.cause, f.start, moment(f.end), f.slowdown);
    }
}
