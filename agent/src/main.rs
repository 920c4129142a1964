//! `gridstep-agent`: arguments, configuration, run, exit code.

use clap::{Parser, Subcommand};
use gridstep_agent::{config, control, probe, reader, service, top};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

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
    /// Look at this machine once: every metric with its value and unit, or why there is none, and what each call costs.
    ///
    /// Reads all GPUs ten times through NVML, which takes about two seconds. Needs neither a configuration
    /// nor a collector, and changes nothing.
    ///
    /// First stands what is well and what to look at. The first table has a column for each GPU that answers, so
    /// that one that differs from its neighbours stands out; where the terminal is narrow, names and figures are
    /// short. Below it stands what NVML said of each metric that is missing. NO_COLOR keeps it plain.
    ///
    /// The last table has the time that calls into the driver took, the most expensive first. While the agent
    /// runs, it asks for names and handles once, for power and events ten times a second, and for everything
    /// else once a second. A GPU for which a call takes longer than 2 s is named, with the call, and left alone.
    #[command(verbatim_doc_comment)]
    #[command(after_help = "Exit codes: 0 done, 69 no driver answers.\n\nExamples:\n  \
        gridstep-agent probe\n  \
        gridstep-agent probe --nvml-library /opt/driver/libnvidia-ml.so.1\n  \
        gridstep-agent probe --json | jq '.gpus[] | {index, missing}'")]
    Probe {
        /// Path or name of the NVML library; default libnvidia-ml.so.1.
        #[arg(long)]
        nvml_library: Option<PathBuf>,
        /// One JSON document: driver_version, nvml_version, checks, gpus (metrics in base units,
        /// missing with reasons, parts), node, parts, calls.
        #[arg(long)]
        json: bool,
    },
    /// Make the agent that runs on this node let go of the NVIDIA driver, or take it again.
    ///
    /// So the driver can be unloaded or upgraded without a stop of the agent, which goes on with the host's telemetry and
    /// says of the GPUs that they are released. It returns when no process of the agent has the driver open any more;
    /// when the time is over the agent takes the driver by itself. A reload of the agent changes nothing about it, a restart ends it.
    #[command(verbatim_doc_comment)]
    #[command(after_help = "Exit codes: 0 done, 1 the driver is still open or no permission, 69 no agent runs.\n\nExamples:\n  \
        gridstep-agent release --for 10m\n  \
        gridstep-agent release --end")]
    Release {
        /// How long, such as 10m or 1h; at most 24h.
        #[arg(long = "for", value_parser = control::parse_span, required_unless_present = "end", conflicts_with = "end")]
        span: Option<Duration>,
        /// Take the driver again now.
        #[arg(long)]
        end: bool,
        /// Control socket of the running agent (control.socket in its configuration).
        #[arg(long, default_value = control::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
    /// A live view of this node: each GPU's power, temperatures, clocks, activity, links, and what holds it back.
    ///
    /// Shows what the running agent tells at its HTTP endpoint, and does not touch the driver.
    #[command(after_help = "Exit codes: 0 done, 64 wrong usage, 69 no agent answers.\n\nExamples:\n  \
        gridstep-agent top\n  \
        gridstep-agent top --config /etc/gridstep/agent.toml\n  \
        ssh node00017 gridstep-agent top --once")]
    Top(top::Arguments),
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
        // Without --for there is --end.
        Ok(Arguments { command: Command::Release { span, end: _, socket } }) => match control::tell(&socket, span) {
            Ok(said) => {
                println!("{said}");
                ExitCode::SUCCESS
            }
            Err(error @ control::Failure::NoAgent(_)) => fail(&error.into(), UNAVAILABLE),
            Err(error) => fail(&error.into(), 1),
        },
        Ok(Arguments { command: Command::Top(arguments) }) => match top::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(top::Failure::Usage(error)) => fail(&error, USAGE),
            Err(top::Failure::Unavailable(error)) => fail(&error, UNAVAILABLE),
            Err(top::Failure::Failed(error)) => fail(&error, 1),
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
    let result = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Into::into).and_then(|runtime| {
        let result = runtime.block_on(service::run(config, path));
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("gridstep-agent: {error:#}");
    ExitCode::from(code)
}
