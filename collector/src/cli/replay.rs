//! `replay`: judges a recording.

use super::{Failure, write_whole};
use crate::config::Config;
use crate::incidents::{Incident, Severity, rfc3339};
use crate::replay::{Progress, Replayed, replay, replay_with_report};
use crate::report::page;
use anyhow::{Context, Result};
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Judges a recording as fast as it can be read, with the very code that runs live, and prints what it found.
///
/// The exit code is 0 also where there are incidents.
#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// The configuration to judge by, as of a running collector. Only what bears on the judging is used.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also writes the incidents, one JSON object a line, each in its last revision.
    #[arg(long, value_name = "FILE")]
    incidents: Option<PathBuf>,
    /// Also writes a report of the recording's power for the utility: one HTML page.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The recording's folder: gpu-*.parquet, power-*.parquet, node-*.parquet …, topology.csv.
    recording: PathBuf,
}

impl Replay {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
        let mut bar = Bar::new();
        let began = Instant::now();
        let replayed = match &self.report {
            None => replay(&self.recording, config.judge, None, |progress| bar.show(progress)).map(|replayed| (replayed, None)),
            Some(_) => replay_with_report(&self.recording, config.judge, |progress| bar.show(progress))
                .map(|(replayed, report)| (replayed, Some(report))),
        };
        bar.clear();
        let (replayed, report) = replayed.map_err(anyhow::Error::from)?;
        if let Some((path, report)) = self.report.as_deref().zip(report) {
            write_whole(path, page(&report).as_bytes()).with_context(|| format!("write report to {}", path.display()))?;
        }
        if let Some(path) = &self.incidents {
            write_lines(path, &replayed.incidents)?;
        }
        match print(&replayed, began.elapsed()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(anyhow::Error::from(error).context("print incidents").into())
            }
            _ => Ok(()),
        }
    }
}

/// Progress on standard error, where a person looks at it.
struct Bar {
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    /// Nothing is shown of what is done sooner.
    const PERIOD: Duration = Duration::from_millis(300);

    fn new() -> Self {
        Self { shown: Some(Instant::now()), terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, progress: Progress) {
        if !self.terminal || self.shown.is_some_and(|shown| shown.elapsed() < Self::PERIOD) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = progress.rows * 100 / progress.rows_total.max(1);
        eprint!("\r{percent:3} %  {}  {} rows ", rfc3339(progress.at), progress.rows);
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn write_lines(path: &Path, incidents: &[Incident]) -> Result<()> {
    let lines = incidents.iter().map(|incident| Ok(serde_json::to_string(incident)? + "\n")).collect::<Result<String>>();
    lines.and_then(|lines| write_whole(path, lines.as_bytes())).with_context(|| format!("write incidents to {}", path.display()))
}

fn print(replayed: &Replayed, took: Duration) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    super::table(&mut out, &replayed.incidents)?;
    let critical = replayed.incidents.iter().filter(|incident| incident.severity == Severity::Critical).count();
    let (first, last) = replayed.span;
    if let Some(at) = replayed.learned_at {
        writeln!(out, "begins with what the collector had learned by {}", rfc3339(at))?;
    }
    let seconds = last.since(first);
    writeln!(
        out,
        "{} incidents ({critical} critical) in {seconds:.0} s of recording from {}; {} rows in {:.2} s, {} late samples",
        replayed.incidents.len(),
        rfc3339(first),
        replayed.rows,
        took.as_secs_f64(),
        replayed.late_samples
    )
}
