//! A batch into the judging.

use super::decode::{Column, Decoded, GpuTarget, NodeTarget, Table};
use crate::fleet::{GpuSlot, JobSlot, NodeSlot};
use crate::judge::Judge;
use gridstep_wire::Micros;
use std::ops::Range;
use std::sync::Arc;

/// Hands a batch of the node to the judging, in its order.
pub fn put_batch(judge: &mut Judge, node: NodeSlot, batch: &Decoded) {
    for table in &batch.tables {
        put(judge, node, table);
    }
    for event in &batch.events {
        let gpu = event.gpu.map(|index| judge.fleet_mut().gpu(node, index));
        judge.put_event(node, gpu, event.at, &event.kind, event.code);
    }
}

fn put(judge: &mut Judge, node: NodeSlot, table: &Table) {
    let has_metrics = table.columns.iter().any(|column| matches!(column.gpu, Some(GpuTarget::Metric(_))));
    let mut swept = Swept::default();
    let mut jobs = LastJob::default();
    let mut first = 0;
    for &end in &table.runs {
        let rows = first..end as usize;
        first = end as usize;
        // All rows of a run are about the same.
        let Some((gpu, _)) = table.rows[rows.clone()].iter().find_map(|row| *row) else { continue };
        let gpu = gpu.map(|index| judge.fleet_mut().gpu(node, index));
        if let Some(gpu) = gpu.filter(|_| has_metrics) {
            swept.add(judge, table, gpu, rows.clone());
        }
        if let (Some(gpu), None, 2..) = (gpu, &table.jobs, rows.len()) {
            put_powers(judge, gpu, table, rows);
            continue;
        }
        // The job that a row says holds for what it says.
        for row in rows {
            put_row(judge, node, gpu, table, row, &mut jobs);
        }
    }
    swept.put(judge, table);
}

/// Rows that say their job mostly say the same: it is not looked for again.
#[derive(Default)]
struct LastJob<'a>(Option<(&'a Arc<str>, JobSlot)>);

impl<'a> LastJob<'a> {
    fn slot(&mut self, name: &'a Arc<str>, judge: &mut Judge) -> JobSlot {
        if let Some((_, slot)) = self.0.filter(|(last, _)| Arc::ptr_eq(last, name)) {
            return slot;
        }
        let slot = judge.fleet_mut().job(name);
        self.0 = Some((name, slot));
        slot
    }
}

/// Rows of GPUs one after the other, whose metrics go in at once.
#[derive(Default)]
struct Swept {
    first: usize,
    rows: Vec<(usize, Micros)>,
}

impl Swept {
    fn add(&mut self, judge: &mut Judge, table: &Table, gpu: GpuSlot, rows: Range<usize>) {
        for row in rows {
            let Some((_, ts)) = table.rows[row] else { continue };
            if row != self.first + self.rows.len() {
                self.put(judge, table);
                self.first = row;
            }
            if self.rows.is_empty() {
                self.rows.reserve(table.rows.len() - row);
            }
            self.rows.push((gpu.0 as usize, ts));
        }
    }

    fn put(&mut self, judge: &mut Judge, table: &Table) {
        let rows = self.first..self.first + self.rows.len();
        let of = |column: &Column| if let Some(GpuTarget::Metric(metric)) = column.gpu { Some(metric) } else { None };
        let columns = table.columns.iter().filter_map(|column| Some((of(column)?, &table.values(column)[rows.clone()])));
        judge.put_gpu_rows(&self.rows, columns);
        self.rows.clear();
    }
}

fn put_powers(judge: &mut Judge, gpu: GpuSlot, table: &Table, rows: Range<usize>) {
    for column in table.columns.iter().filter(|column| column.gpu == Some(GpuTarget::Power)) {
        let stamps = table.rows[rows.clone()].iter();
        let values = stamps.zip(&table.values(column)[rows.clone()]);
        let values = values.filter_map(|(row, &value)| Some(((*row)?.1, value)).filter(|(_, value)| !value.is_nan()));
        judge.put_gpu_powers(gpu, values);
    }
}

/// All of a row but the metrics of a GPU.
fn put_row<'a>(judge: &mut Judge, node: NodeSlot, gpu: Option<GpuSlot>, table: &'a Table, row: usize, jobs: &mut LastJob<'a>) {
    let Some((_, ts)) = table.rows[row] else { return };
    if let Some(job) = table.jobs.as_ref().and_then(|jobs| jobs[row].as_ref()) {
        let job = job.as_ref().map(|name| jobs.slot(name, judge));
        match gpu {
            Some(gpu) => judge.put_gpu_job(gpu, job),
            None => judge.put_node_job(node, job),
        }
    }
    let value = |column: &Column| Some(table.values(column)[row]).filter(|value| !value.is_nan());
    match gpu {
        Some(gpu) => {
            let powers = table.columns.iter().filter(|column| column.gpu == Some(GpuTarget::Power)).filter_map(value);
            powers.for_each(|watts| judge.put_gpu_power(gpu, ts, watts));
        }
        None => {
            let known = table.columns.iter().filter_map(|column| Some((column.node?, value(column)?)));
            known.for_each(|(target, value)| put_node(judge, node, target, ts, value));
        }
    }
}

fn put_node(judge: &mut Judge, node: NodeSlot, target: NodeTarget, ts: Micros, value: f64) {
    match target {
        NodeTarget::Power => judge.put_node_power(node, ts, value),
        NodeTarget::Metric(metric) => judge.put_node(node, metric, ts, value),
        NodeTarget::Job => {}
    }
}
