//! What the live judging had learned at instants of the recording.

use super::ReplayError;
use crate::recorder::{Head, Learned};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// The states of a recording, oldest first. They are large: each is read when its time has come.
#[derive(Debug, Default)]
pub(super) struct States {
    states: VecDeque<(Head, PathBuf)>,
}

impl States {
    pub(super) fn find(files: Vec<PathBuf>) -> Result<Self, ReplayError> {
        let head = |path: PathBuf| match Head::read(&path) {
            Ok(head) => Ok((head, path)),
            Err(source) => Err(ReplayError::State { path, source }),
        };
        let mut states = files.into_iter().map(head).collect::<Result<Vec<_>, _>>()?;
        states.sort_by_key(|(head, _)| head.at_us);
        Ok(Self { states: states.into() })
    }

    /// The oldest one, taken out.
    pub(super) fn first(&mut self) -> Result<Option<(PathBuf, Learned)>, ReplayError> {
        let Some((_, path)) = self.states.pop_front() else { return Ok(None) };
        let learned = read(&path)?;
        Ok(Some((path, learned)))
    }

    /// Leaves those that rows lead to: nothing new is in them.
    pub(super) fn keep_anew(&mut self) {
        self.states.retain(|(head, _)| head.anew);
    }

    pub(super) fn is_due(&self, arrival: i64) -> bool {
        self.states.front().is_some_and(|(head, _)| head.at_us < arrival)
    }

    /// The last one that is due; those before it go with it.
    pub(super) fn take(&mut self, arrival: i64) -> Result<Option<Learned>, ReplayError> {
        let due = self.states.partition_point(|(head, _)| head.at_us < arrival);
        self.states.drain(..due).next_back().map(|(_, path)| read(&path)).transpose()
    }
}

fn read(path: &Path) -> Result<Learned, ReplayError> {
    Learned::read(path).map_err(|source| ReplayError::State { path: path.into(), source })
}
