//! **replay** (Parquet) ─▶ align
//!
//! Judges a recording as fast as it can be read: rows of all files in the order of their arrival, through the very
//! judging that runs live. One thread reads ([`reader`]), another judges ([`feed`]). Files are read in chunks; a file that begins later is
//! not opened before its time.

mod chunk;
mod feed;
mod files;
mod numbers;
mod page;
mod reader;
mod source;
mod states;

use crate::incidents::Incident;
use crate::judge::{Judge, JudgeConfig};
use crate::report::{Facts, Recorder, Report};
use crate::topology;
use feed::Feed;
use gridstep_wire::Micros;
use reader::Reader;
use states::States;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

/// Pages that are read and not judged.
const PAGES_AHEAD: usize = 4;
/// The judging forgets what was closed so long ago.
const BOOK_SECONDS: f64 = 86_400.0;

/// Why a recording cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("read recording {path}")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("recording {0} holds no gpu-*, power-*, node-*, meter-* or late-* file")]
    NoFiles(PathBuf),
    #[error("recording {0} holds no rows")]
    NoRows(PathBuf),
    #[error("open {path}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("read {path}")]
    Parquet { path: PathBuf, source: parquet::errors::ParquetError },
    #[error("read {path}")]
    Rows { path: PathBuf, source: arrow_schema::ArrowError },
    #[error("{path}: column {column} is missing")]
    Missing { path: PathBuf, column: &'static str },
    #[error("{path}: column {column} is of type {found}, not {expected}")]
    Type { path: PathBuf, column: String, found: String, expected: &'static str },
    #[error("{path}: row {row} has no {column}")]
    Null { path: PathBuf, column: &'static str, row: u64 },
    #[error("read {path}")]
    State { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Topology(#[from] topology::TopologyError),
}

/// How far a replay is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub rows: u64,
    pub rows_total: u64,
    /// Time of arrival of the row that comes next.
    pub at: Micros,
}

/// What a replay gives.
#[derive(Debug)]
pub struct Replayed {
    /// The last revision of each, in the order of their opening.
    pub incidents: Vec<Incident>,
    pub rows: u64,
    pub late_samples: u64,
    /// Time of arrival of the first and last row.
    pub span: (Micros, Micros),
    /// It began with what the live judging had learned by then; what arrived before is left out.
    pub learned_at: Option<Micros>,
}

/// Judges the recording in the folder, up to what had arrived at `until` if that is given. `progress` is called again and again.
pub fn replay(
    folder: &Path,
    config: JudgeConfig,
    until: Option<Micros>,
    progress: impl FnMut(Progress),
) -> Result<Replayed, ReplayError> {
    Ok(run(folder, config, until, &mut None, progress)?.0)
}

/// Judges all of the recording, and reports of its power.
pub fn replay_with_report(
    folder: &Path,
    config: JudgeConfig,
    progress: impl FnMut(Progress),
) -> Result<(Replayed, Report), ReplayError> {
    let mut recorder = Some(Recorder::default());
    let (replayed, mut judge) = run(folder, config, None, &mut recorder, progress)?;
    let mut recorder = recorder.unwrap_or_default();
    recorder.look(&mut judge);
    let name = folder.canonicalize().ok().and_then(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()));
    let source = format!("recording {}", name.unwrap_or_else(|| folder.display().to_string()));
    let mut report = recorder.report(source, replayed.span, Facts::of(&judge), replayed.incidents.clone());
    report.late_samples = replayed.late_samples;
    Ok((replayed, report))
}

fn run(
    folder: &Path,
    config: JudgeConfig,
    until: Option<Micros>,
    report: &mut Option<Recorder>,
    mut progress: impl FnMut(Progress),
) -> Result<(Replayed, Judge), ReplayError> {
    let mut recording = files::find(folder)?;
    let places = recording.topology.as_deref().map(topology::read).transpose()?.unwrap_or_default();
    let mut last = LastRevisions::default();
    let mut states = States::find(std::mem::take(&mut recording.states))?;
    let first = states.first()?;
    let learned_at = first.as_ref().map(|(_, learned)| learned.at);
    let mut judge = match first {
        None => Judge::new(config, &places),
        Some((file, learned)) => {
            recording.begin_with(&file);
            let mut judge = learned.judge;
            if learned.config != config {
                judge.reconfigure(config, &places);
                // They are of another judging.
                states = States::default();
            }
            last.begin_anew(&judge, learned.at);
            judge
        }
    };
    states.keep_anew();
    let reader = Reader::open(recording.files, learned_at.map_or(i64::MIN, |at| at.0))?;
    let (rows_total, fed, slots) = (reader.rows_total(), Default::default(), Default::default());
    let mut feed = Feed { judge: &mut judge, last: &mut last, report, until, rows_total, fed, slots, later: states };
    std::thread::scope(|scope| {
        let (sender, pages) = sync_channel(PAGES_AHEAD);
        let reading = std::thread::Builder::new().name("replay-reader".into()).spawn_scoped(scope, move || reader.run(&sender));
        reading.map_err(|source| ReplayError::Folder { path: folder.into(), source })?;
        for page in pages {
            if !feed.page(page?, &mut progress)? {
                break;
            }
        }
        Ok::<(), ReplayError>(())
    })?;
    let fed = feed.fed;
    let span = fed.span.ok_or_else(|| ReplayError::NoRows(folder.into()))?;
    // What is not final yet stays unjudged: a cut is no silence.
    last.take(&mut judge);
    Ok((Replayed { incidents: last.incidents, rows: fed.rows, late_samples: judge.late_samples(), span, learned_at }, judge))
}

/// The last revision of each incident, in the order of their first.
#[derive(Debug, Default)]
struct LastRevisions {
    incidents: Vec<Incident>,
    by_id: HashMap<String, usize>,
}

impl LastRevisions {
    /// Goes on with what the judge knows in place of what it had come to; what that has forgotten stays.
    fn begin_anew(&mut self, judge: &Judge, at: Micros) {
        let forgotten = |incident: &Incident| incident.closed_at.is_some_and(|closed| at.since(closed) > BOOK_SECONDS);
        self.incidents.retain(|incident| forgotten(incident) && judge.incidents().all(|known| known.id != incident.id));
        self.incidents.extend(judge.incidents().cloned());
        self.by_id = self.incidents.iter().enumerate().map(|(index, incident)| (incident.id.clone(), index)).collect();
    }

    fn take(&mut self, judge: &mut Judge) {
        for incident in judge.take_revisions() {
            match self.by_id.get(&incident.id) {
                Some(&index) => self.incidents[index] = incident,
                None => {
                    self.by_id.insert(incident.id.clone(), self.incidents.len());
                    self.incidents.push(incident);
                }
            }
        }
    }
}
