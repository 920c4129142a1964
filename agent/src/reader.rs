//! **reader** ─▶ supervisor
//!
//! The child process that talks to the driver, and nothing else: no socket, no state, no tokio. It writes [`protocol`] frames
//! to its standard output and ends when nobody reads them. A second thread watches the first: a call that outlasts its
//! deadline is reported with the GPU that it was made for, and the process is given up.

mod activity;
mod driver;
mod fields;
mod getters;
mod links;
mod opening;
mod pace;
mod plausible;
mod power;
pub mod protocol;
pub(crate) mod raw;
mod ring;
mod schedule;
mod slow;
mod sweep;
mod values;
mod version;
mod watch;
mod wrapping;

pub(crate) use driver::STILL_LOST;
pub use power::PowerSource;

use protocol::Frame;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// `[reader]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Path or name of the NVML library. None: libnvidia-ml.so.1, as the dynamic linker finds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvml_library: Option<PathBuf>,
    /// Between two readings of a board's power, where the budget allows that.
    #[serde(with = "humantime_serde")]
    pub power_period: Duration,
    /// Between two readings of everything else, where the budget allows that.
    #[serde(with = "humantime_serde")]
    pub sweep_period: Duration,
    /// A call into the driver that takes longer hangs.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// What may be spent inside the driver for each GPU, of each second; when calls cost more, they get rarer.
    #[serde(with = "humantime_serde")]
    pub budget: Duration,
    /// Where the instantaneous power comes from.
    pub power_source: PowerSource,
    /// Performance monitoring (GPM) is read, where the driver lets it.
    pub gpm: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nvml_library: None,
            power_period: Duration::from_millis(100),
            sweep_period: Duration::from_secs(1),
            deadline: Duration::from_secs(2),
            budget: Duration::from_millis(1),
            power_source: PowerSource::Auto,
            gpm: true,
        }
    }
}

impl Config {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |key: &str, value: Duration, least: u64, most: u64| {
            if value < Duration::from_millis(least) || value > Duration::from_millis(most) {
                faults.push(format!("reader.{key} = \"{value:?}\": must be between {least}ms and {most}ms"));
            }
        };
        within("power_period", self.power_period, 20, 10_000);
        within("sweep_period", self.sweep_period, 200, 60_000);
        within("deadline", self.deadline, 200, 4_000);
        if self.budget < Duration::from_micros(10) || self.budget > Duration::from_secs(1) {
            faults.push(format!("reader.budget = \"{:?}\": must be between 10us and 1s", self.budget));
        }
        faults
    }
}

/// What the supervisor tells its child.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[arg(long)]
    pub nvml_library: Option<PathBuf>,
    #[arg(long, default_value_t = 100)]
    pub power_period_ms: u64,
    #[arg(long, default_value_t = 1000)]
    pub sweep_period_ms: u64,
    #[arg(long, default_value_t = 2000)]
    pub deadline_ms: u64,
    #[arg(long, default_value_t = 1000)]
    pub budget_us: u64,
    #[arg(long, default_value = "auto")]
    pub power_source: PowerSource,
    /// Name of this node: nodes read at different moments.
    #[arg(long, default_value = "")]
    pub node: String,
    /// GPUs to leave alone: calls for them hang.
    #[arg(long)]
    pub skip_gpu: Vec<u32>,
    /// Only try whether calls for this GPU return, and whether it is there.
    #[arg(long)]
    pub try_gpu: Option<u32>,
    /// Leave performance monitoring (GPM) to others.
    #[arg(long)]
    pub no_gpm: bool,
    /// Read everything a few times, say what it gave and cost, and end.
    #[arg(long)]
    pub measure: bool,
}

/// The child's whole life.
pub fn run(arguments: &Arguments) -> ExitCode {
    if let Some(gpu) = arguments.try_gpu {
        return match driver::touch(arguments.nvml_library.as_deref(), gpu) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(STILL_LOST),
            Err(_) => ExitCode::FAILURE,
        };
    }
    match schedule::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The supervisor logs it; nobody reads this process' own log.
            let _ = protocol::write(&Frame { waiting: format!("{error:#}"), ..Frame::default() });
            ExitCode::FAILURE
        }
    }
}
