//! How far the recorder is with each numbering, as the live side knows it.

use super::desk::NUMBERINGS;
use super::{MarkMap, Standing};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    spool: u64,
    /// Up to here everything was given to the recorder (or is lost).
    given: u64,
    /// Up to here everything is in the recording.
    kept: u64,
    /// What comes next of it was not given: the stream has to come again.
    behind: bool,
}

/// By node, the numbering that was joined last at the end.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    nodes: HashMap<String, Vec<Mark>>,
    epoch: u64,
    takes: bool,
}

impl Marks {
    pub(crate) fn new(standing: &Standing) -> Self {
        let mut marks = Self { epoch: standing.epoch, takes: standing.takes, ..Self::default() };
        marks.keep(&standing.marks);
        marks
    }

    /// A stream begins or goes on with a numbering. Gives up to where it is kept, and how many of its batches are lost.
    pub(crate) fn join(&mut self, node: &str, spool: u64, oldest: u64) -> (u64, u64) {
        let before = oldest.saturating_sub(1);
        let marks = self.nodes.entry(node.into()).or_default();
        let known = marks.iter().position(|mark| mark.spool == spool).map(|index| marks.remove(index));
        // What lies before a numbering that is not known here is not ours to miss.
        let mut mark = known.unwrap_or(Mark { spool, given: before, kept: before, behind: false });
        let lost = before.saturating_sub(mark.given);
        mark.given += lost;
        mark.behind = false;
        marks.push(mark);
        let surplus = marks.len().saturating_sub(NUMBERINGS);
        marks.drain(..surplus);
        (mark.kept, lost)
    }

    /// Whether the recorder lacks the batch, and can take it.
    pub(crate) fn wants(&mut self, node: &str, spool: u64, sequence: u64) -> Wanted {
        let takes = self.takes;
        let Some(mark) = self.of(node, spool) else { return Wanted::No };
        if sequence <= mark.given {
            return Wanted::No;
        }
        mark.behind |= !takes;
        if mark.behind { Wanted::Later } else { Wanted::Now }
    }

    pub(crate) fn given(&mut self, node: &str, spool: u64, sequence: u64) {
        if let Some(mark) = self.of(node, spool) {
            mark.given = sequence;
        }
    }

    /// The recorder had no room for it.
    pub(crate) fn fall_behind(&mut self, node: &str, spool: u64) {
        if let Some(mark) = self.of(node, spool) {
            mark.behind = true;
        }
    }

    /// Of a stream that has to come again.
    pub(crate) fn is_behind(&self, node: &str, spool: u64) -> bool {
        self.nodes.get(node).is_some_and(|marks| marks.iter().any(|mark| mark.spool == spool && mark.behind))
    }

    /// The recorder would take what it lacks.
    pub(crate) fn takes(&self) -> bool {
        self.takes
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn update(&mut self, standing: &Standing) {
        if self.epoch != standing.epoch {
            for mark in self.nodes.values_mut().flatten() {
                (mark.given, mark.behind) = (mark.kept, true);
            }
        }
        (self.epoch, self.takes) = (standing.epoch, standing.takes);
        self.keep(&standing.marks);
    }

    fn keep(&mut self, kept: &Arc<MarkMap>) {
        for (node, numberings) in kept.iter() {
            let marks = match self.nodes.get_mut(node) {
                Some(marks) => marks,
                None => self.nodes.entry(node.clone()).or_default(),
            };
            for &(spool, sequence) in numberings {
                let room = marks.len() < NUMBERINGS;
                match marks.iter_mut().find(|mark| mark.spool == spool) {
                    Some(mark) => (mark.kept, mark.given) = (mark.kept.max(sequence), mark.given.max(sequence)),
                    None if room => marks.push(Mark { spool, given: sequence, kept: sequence, behind: false }),
                    None => {}
                }
            }
        }
    }

    fn of(&mut self, node: &str, spool: u64) -> Option<&mut Mark> {
        self.nodes.get_mut(node)?.iter_mut().find(|mark| mark.spool == spool)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Now,
    /// When its stream comes again.
    Later,
    /// It has it.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(sequence: u64, epoch: u64, takes: bool) -> Standing {
        let marks = Arc::new(MarkMap::from([("n".to_owned(), vec![(5, sequence)])]));
        Standing { marks, epoch, takes }
    }

    #[test]
    fn what_was_given_and_lost_is_wanted_again_when_the_stream_comes_again() {
        let mut marks = Marks::new(&standing(3, 0, true));
        assert_eq!(marks.join("n", 5, 1), (3, 0));
        assert_eq!(marks.wants("n", 5, 3), Wanted::No);
        for sequence in 4..=6 {
            assert_eq!(marks.wants("n", 5, sequence), Wanted::Now);
            marks.given("n", 5, sequence);
        }
        // The disk is full; what was on its way when that was seen still succeeds.
        marks.update(&standing(3, 1, false));
        assert_eq!(marks.wants("n", 5, 7), Wanted::Later);
        marks.update(&standing(4, 1, true));
        assert_eq!(marks.wants("n", 5, 8), Wanted::Later);
        assert!(marks.is_behind("n", 5));
        assert_eq!(marks.join("n", 5, 4), (4, 0));
        assert_eq!(marks.wants("n", 5, 5), Wanted::Now);
    }

    #[test]
    fn what_the_agent_let_go_of_is_lost_once() {
        let mut marks = Marks::new(&standing(3, 0, true));
        assert_eq!(marks.join("n", 5, 6), (3, 2));
        assert_eq!(marks.join("n", 5, 6), (3, 0));
        assert_eq!(marks.wants("n", 5, 5), Wanted::No);
        assert_eq!(marks.join("n", 9, 100), (99, 0));
        marks.fall_behind("n", 9);
        assert_eq!(marks.wants("n", 9, 100), Wanted::Later);
    }
}
