//! Reads the files of a recording ahead of the judging, in a thread of its own, and puts their rows in the order of their arrival.

use super::ReplayError;
use super::files::Kind;
use super::numbers::Numbers;
use super::page::{Gpus, Page, Part, Run};
use super::source::{Source, Waiting};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

/// So many rows make a page, before the last one.
const PAGE_ROWS: usize = 65_536;

pub(super) struct Reader {
    sources: Vec<Source>,
    nodes: Numbers,
    jobs: Numbers,
}

impl Reader {
    /// Rows that arrived up to `since` are left out; those that arrive at the same instant are judged in the order of the files.
    pub(super) fn open(files: Vec<(Kind, PathBuf)>, since: i64) -> Result<Self, ReplayError> {
        let sources = files.into_iter().map(|(kind, path)| Source::new(kind, path, since)).collect::<Result<_, _>>()?;
        Ok(Self { sources, nodes: Numbers::default(), jobs: Numbers::default() })
    }

    pub(super) fn rows_total(&self) -> u64 {
        self.sources.iter().map(|source| source.rows_total).sum()
    }

    /// To the end, or until nobody takes a page any more.
    pub(super) fn run(mut self, pages: &SyncSender<Result<Page, ReplayError>>) {
        while let Some(page) = self.next().transpose() {
            let is_last = page.is_err();
            if pages.send(page).is_err() || is_last {
                return;
            }
        }
    }

    fn next(&mut self) -> Result<Option<Page>, ReplayError> {
        self.sources.retain(|source| !source.is_over());
        loop {
            let bounds = self.sources.iter().enumerate().filter_map(|(index, source)| Some((source.bound()?, index)));
            let (bound, slowest) = bounds.min().unwrap_or((i64::MAX, usize::MAX));
            let due: usize = self.sources.iter().map(|source| source.due(bound)).sum();
            if due >= PAGE_ROWS || bound == i64::MAX && due > 0 {
                return Ok(Some(self.page(bound)));
            }
            let Some(source) = self.sources.get_mut(slowest) else { return Ok(None) };
            source.load(&mut self.nodes, &mut self.jobs)?;
        }
    }

    fn page(&mut self, until: i64) -> Page {
        let mut page = Page { nodes: self.nodes.take_new(), jobs: self.jobs.take_new(), ..Page::default() };
        let mut rows = Vec::new();
        for source in &mut self.sources {
            let due = source.take(until);
            if due.is_empty() {
                continue;
            }
            let places = source.places(&due);
            page.parts.push(match source.kind {
                Kind::Gpu | Kind::Power => Part::Gpus(Gpus::gather(places)),
                _ => Part::Others(places),
            });
            rows.push(due);
        }
        page.runs = merge(&rows);
        page
    }
}

/// By arrival; `parts` are in that order each.
fn merge(parts: &[Vec<Waiting>]) -> Vec<Run> {
    let head = |part: usize, row: usize| parts[part].get(row).map(|head| Reverse((head.arrival, part, row)));
    let mut heads: BinaryHeap<_> = (0..parts.len()).filter_map(|part| head(part, 0)).collect();
    let mut runs = Vec::new();
    while let Some(Reverse((arrival, part, row))) = heads.pop() {
        let rows = parts[part][row..].iter().take_while(|other| other.arrival == arrival).count();
        runs.push(Run { arrival, part: part as u32, rows: rows as u32 });
        heads.extend(head(part, row + rows));
    }
    runs
}
