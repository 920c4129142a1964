//! `gridstep-agent`: arguments, configuration, run, exit code.

use clap::{Parser, Subcommand};
use gridstep_agent::{config, probe, reader, service};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Wrong usage or configuration (sysexits EX_USAGE).
const USAGE: u8 = 64;
/// A needed service is not there (sysexits EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;

/// Reads the GPUs and the host of this node and streams them to the gridstep collector.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent until SIGTERM; SIGHUP reloads the configuration.
    Run {
        /// Configuration file; without one the defaults hold.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Read the configuration, name every fault in it, and exit.
    CheckConfig {
        #[arg(long)]
        config: PathBuf,
    },
    /// One sweep of this machine: every metric with its value and unit, or why there is none, and what it cost.
    Probe {
        /// Path or name of the NVML library; default libnvidia-ml.so.1.
        #[arg(long)]
        nvml_library: Option<PathBuf>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// The child process that talks to the driver.
    #[command(hide = true)]
    Reader(reader::Arguments),
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(Arguments { command: Command::Reader(arguments) }) => reader::run(&arguments),
        Ok(Arguments { command: Command::Probe { nvml_library, json } }) => match probe::run(nvml_library.as_deref(), json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, UNAVAILABLE),
        },
        Ok(Arguments { command: Command::CheckConfig { config: path } }) => match config::load(Some(&path)) {
            Ok(_) => {
                println!("{}: no fault found", path.display());
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error.into(), USAGE),
        },
        Ok(Arguments { command: Command::Run { config: path } }) => match config::load(path.as_deref()) {
            Ok(config) => serve(config, path.as_deref()),
            Err(error) => fail(&error.into(), USAGE),
        },
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

fn serve(config: config::Config, path: Option<&Path>) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(service::run(config, path)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("gridstep-agent: {error:#}");
    ExitCode::from(code)
}
