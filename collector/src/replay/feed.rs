//! Rows into the judging, in the order of their arrival.

use super::chunk::Chunk;
use super::page::{Gpus, IDLE, NOT_SAID, Page, Part, Places};
use super::states::States;
use super::{LastRevisions, Progress, ReplayError};
use crate::fleet::{GpuSlot, JobSlot, NodeSlot};
use crate::judge::Judge;
use crate::report::Recorder;
use arrow_array::Array;
use gridstep_wire::Micros;
use std::ops::Range;
use std::sync::Arc;

const SECOND_US: i64 = 1_000_000;

/// What is fed, and what comes of it.
pub(super) struct Feed<'a> {
    pub(super) judge: &'a mut Judge,
    pub(super) last: &'a mut LastRevisions,
    pub(super) report: &'a mut Option<Recorder>,
    pub(super) until: Option<Micros>,
    pub(super) rows_total: u64,
    pub(super) fed: Fed,
    pub(super) slots: Slots,
    /// What the judging became at these instants without what came before.
    pub(super) later: States,
}

#[derive(Debug, Default)]
pub(super) struct Fed {
    pub(super) rows: u64,
    pub(super) span: Option<(Micros, Micros)>,
}

impl Feed<'_> {
    /// False: what follows has arrived after the end.
    pub(super) fn page(&mut self, page: Page, progress: &mut impl FnMut(Progress)) -> Result<bool, ReplayError> {
        let mut next = vec![0; page.parts.len()];
        self.slots.learn(&page);
        for run in &page.runs {
            let at = Micros(run.arrival);
            if self.until.is_some_and(|until| at > until) {
                self.slots.put_swept(&page, self.judge);
                return Ok(false);
            }
            let is_due = self.later.is_due(run.arrival);
            if is_due || self.judge.is_due(at) {
                self.slots.put_swept(&page, self.judge);
            }
            if is_due {
                self.begin_anew(run.arrival)?;
            }
            self.advance(at);
            let rows = next[run.part as usize]..next[run.part as usize] + run.rows as usize;
            next[run.part as usize] = rows.end;
            self.fed.rows += rows.len() as u64;
            self.slots.turn_to(run.part, &page, self.judge);
            match &page.parts[run.part as usize] {
                Part::Gpus(gpus) => self.slots.put_gpus(gpus, rows, self.judge),
                Part::Others(others) => rows.for_each(|row| self.slots.put_other(others, row, self.judge)),
            }
        }
        self.slots.put_swept(&page, self.judge);
        self.last.take(self.judge);
        if let Some((_, at)) = self.fed.span {
            progress(Progress { rows: self.fed.rows, rows_total: self.rows_total, at });
        }
        Ok(true)
    }

    fn begin_anew(&mut self, arrival: i64) -> Result<(), ReplayError> {
        self.last.take(self.judge);
        if let Some(learned) = self.later.take(arrival)? {
            *self.judge = learned.judge;
            self.last.begin_anew(self.judge, learned.at);
            self.slots.forget();
        }
        Ok(())
    }

    fn advance(&mut self, at: Micros) {
        self.judge.advance(at);
        let is_next_second = self.fed.span.is_none_or(|(_, last)| at.0 / SECOND_US != last.0 / SECOND_US);
        if let Some(report) = self.report.as_mut().filter(|_| is_next_second) {
            report.look(self.judge);
        }
        self.fed.span = Some((self.fed.span.map_or(at, |(first, _)| first), at));
    }
}

/// The reader's numbers as slots of the fleet, which are given when a row first has them.
#[derive(Debug, Default)]
pub(super) struct Slots {
    node_names: Vec<Arc<str>>,
    job_names: Vec<Arc<str>>,
    nodes: Vec<Option<NodeSlot>>,
    /// By number of the node × 256 + index.
    gpus: Vec<Option<GpuSlot>>,
    jobs: Vec<Option<JobSlot>>,
    /// By slot of a GPU: whether its UUID and model are known.
    identified: Vec<bool>,
    /// Slots and stamps of the rows, from the first on of a part, whose metrics are to be put: much at once, as nobody looks at them before time passes.
    swept: Vec<(usize, Micros)>,
    first: usize,
    /// That they are of.
    part: u32,
}

impl Slots {
    fn learn(&mut self, page: &Page) {
        self.node_names.extend_from_slice(&page.nodes);
        self.job_names.extend_from_slice(&page.jobs);
        self.nodes.resize(self.node_names.len(), None);
        self.gpus.resize(self.node_names.len() << 8, None);
        self.jobs.resize(self.job_names.len(), None);
    }

    /// They are another judge's.
    fn forget(&mut self) {
        self.nodes.fill(None);
        self.gpus.fill(None);
        self.jobs.fill(None);
        self.identified.clear();
    }

    fn node(&mut self, number: u32, judge: &mut Judge) -> NodeSlot {
        let name = &self.node_names[number as usize];
        *self.nodes[number as usize].get_or_insert_with(|| judge.fleet_mut().node(name))
    }

    #[inline]
    fn gpu(&mut self, number: u32, judge: &mut Judge) -> GpuSlot {
        match self.gpus[number as usize] {
            Some(slot) => slot,
            None => self.new_gpu(number, judge),
        }
    }

    #[cold]
    fn new_gpu(&mut self, number: u32, judge: &mut Judge) -> GpuSlot {
        let node = self.node(number >> 8, judge);
        let slot = judge.fleet_mut().gpu(node, number as u8);
        self.gpus[number as usize] = Some(slot);
        slot
    }

    /// The job, Some(None) for idle; None where nothing is said.
    fn job(&mut self, number: u32, judge: &mut Judge) -> Option<Option<JobSlot>> {
        match number {
            NOT_SAID => None,
            IDLE => Some(None),
            number => {
                let name = &self.job_names[number as usize];
                Some(Some(*self.jobs[number as usize].get_or_insert_with(|| judge.fleet_mut().job(name))))
            }
        }
    }

    fn put_gpus(&mut self, gpus: &Gpus, rows: Range<usize>, judge: &mut Judge) {
        if self.swept.is_empty() {
            self.first = rows.start;
        }
        for row in rows {
            let (gpu, ts) = (self.gpu(gpus.gpus[row], judge), Micros(gpus.ts[row]));
            if let Some(names) = gpus.names.as_ref().filter(|_| self.identified.get(gpu.0 as usize) != Some(&true)) {
                let (chunk, row) = names.get(row);
                self.identify(chunk, row, gpu, judge);
            }
            if let Some(&job) = gpus.jobs.get(row)
                && let Some(job) = self.job(job, judge)
            {
                judge.put_gpu_job(gpu, job);
            }
            if let Some(&watts) = gpus.power.get(row) {
                judge.put_gpu_power(gpu, ts, watts);
            }
            if !gpus.metrics.is_empty() {
                self.swept.push((gpu.0 as usize, ts));
            }
        }
    }

    /// What comes next is of this part; what came before it goes before it.
    fn turn_to(&mut self, part: u32, page: &Page, judge: &mut Judge) {
        if part != self.part {
            self.put_swept(page, judge);
            self.part = part;
        }
    }

    fn put_swept(&mut self, page: &Page, judge: &mut Judge) {
        if let Some(Part::Gpus(gpus)) = page.parts.get(self.part as usize).filter(|_| !self.swept.is_empty()) {
            let rows = self.first..self.first + self.swept.len();
            judge.put_gpu_rows(&self.swept, gpus.metrics.iter().map(|(metric, values)| (*metric, &values[rows.clone()])));
        }
        self.swept.clear();
    }

    fn put_other(&mut self, others: &Places, row: usize, judge: &mut Judge) {
        let (chunk, row) = others.get(row);
        if chunk.is_of_meters() {
            put_meter(chunk, row, judge);
            return;
        }
        let node = self.node(chunk.node_number(row), judge);
        let ts = Micros(chunk.ts.value(row));
        let gpu = chunk.gpu_index(row).map(|index| judge.fleet_mut().gpu(node, index));
        if let Some(kind) = chunk.event(row) {
            let code = chunk.code.as_ref().filter(|codes| codes.is_valid(row)).map_or(0, |codes| codes.value(row));
            judge.put_event(node, gpu, ts, kind, code);
        } else if let Some(gpu) = gpu {
            self.put_gpu(chunk, row, gpu, ts, judge);
        } else if !chunk.is_of_events() {
            self.put_node(chunk, row, node, ts, judge);
        }
    }

    fn put_gpu(&mut self, chunk: &Chunk, row: usize, gpu: GpuSlot, ts: Micros, judge: &mut Judge) {
        self.identify(chunk, row, gpu, judge);
        if let Some(job) = self.job(chunk.job_number(row), judge) {
            judge.put_gpu_job(gpu, job);
        }
        if let Some(power) = chunk.power.as_ref().filter(|power| power.is_valid(row)) {
            judge.put_gpu_power(gpu, ts, power.value(row));
        }
        for (metric, column) in chunk.gpu_metrics.iter().filter(|(_, column)| column.is_valid(row)) {
            judge.put_gpu(gpu, *metric, ts, column.value(row));
        }
    }

    fn put_node(&mut self, chunk: &Chunk, row: usize, node: NodeSlot, ts: Micros, judge: &mut Judge) {
        if let Some(job) = self.job(chunk.job_number(row), judge) {
            judge.put_node_job(node, job);
        }
        if let Some(power) = chunk.power.as_ref().filter(|power| power.is_valid(row)) {
            judge.put_node_power(node, ts, power.value(row));
        }
        for (metric, column) in chunk.node_metrics.iter().filter(|(_, column)| column.is_valid(row)) {
            judge.put_node(node, *metric, ts, column.value(row));
        }
    }

    fn identify(&mut self, chunk: &Chunk, row: usize, gpu: GpuSlot, judge: &mut Judge) {
        let index = gpu.0 as usize;
        if self.identified.get(index) == Some(&true) {
            return;
        }
        let (uuid, model) = (chunk.uuid(row), chunk.model(row));
        if uuid.is_none() && model.is_none() {
            return;
        }
        judge.fleet_mut().identify(gpu, uuid.unwrap_or_default(), model.unwrap_or_default());
        self.identified.resize(self.identified.len().max(index + 1), false);
        self.identified[index] = true;
    }
}

fn put_meter(chunk: &Chunk, row: usize, judge: &mut Judge) {
    let Some(power) = chunk.power.as_ref().filter(|power| power.is_valid(row)) else { return };
    let meter = judge.fleet_mut().meter(chunk.who(row), chunk.feeder(row));
    judge.put_meter(meter, Micros(chunk.ts.value(row)), power.value(row));
}
