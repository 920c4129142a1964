//! The commands. Exit codes: 0 done, 1 failed, 64 wrong usage or configuration, 69 a needed service is not there.

mod incidents;
mod replay;
mod report;
mod run;
mod table;

use crate::config::{Config, ConfigError};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use table::table;

/// Judges a cluster of GPU nodes: which GPU slows the training step down, and how the sum of power swings.
#[derive(Debug, Parser)]
#[command(name = "gridstep-collector", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Replay(replay::Replay),
    Incidents(incidents::Incidents),
    Report(report::ReportOf),
    CheckConfig(CheckConfig),
}

/// Reads a configuration and names every fault in it, with its key.
#[derive(Debug, clap::Args)]
struct CheckConfig {
    /// The configuration, TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Why a command did not do what it should; each has its exit code.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
    #[error("{0:#}")]
    Usage(anyhow::Error),
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => 64,
            Self::Unavailable(_) => 69,
            Self::Failed(_) => 1,
        }
    }
}

/// Parses the arguments, runs the command, says what went wrong.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.code();
            eprintln!("error: {:#}", anyhow::Error::from(failure));
            ExitCode::from(code)
        }
    }
}

/// Whoever reads the file sees all of it or none.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    let aside = folder.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let write = || -> Result<()> {
        let mut file = std::fs::File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        Ok(())
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&aside)))
}

impl Cli {
    fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Run(run) => run.run(),
            Command::Replay(replay) => replay.run(),
            Command::Incidents(incidents) => incidents.run(),
            Command::Report(report) => report.run(),
            Command::CheckConfig(check) => {
                Config::read(&check.config)?;
                println!("{}: ok", check.config.display());
                Ok(())
            }
        }
    }
}
