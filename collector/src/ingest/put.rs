//! A batch into the judging.

use super::decode::{Column, Decoded, GpuTarget, NodeTarget, Table};
use crate::fleet::{GpuSlot, NodeSlot};
use crate::judge::Judge;
use gridstep_wire::Micros;
use std::ops::Range;

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
    let mut first = 0;
    for &end in &table.runs {
        let rows = first..end as usize;
        first = end as usize;
        // All rows of a run are about the same.
        let Some((gpu, _)) = table.rows[rows.clone()].iter().find_map(|row| *row) else { continue };
        let gpu = gpu.map(|index| judge.fleet_mut().gpu(node, index));
        if let (Some(gpu), None, 2..) = (gpu, &table.jobs, rows.len()) {
            table.columns.iter().for_each(|column| put_gpu_run(judge, gpu, table, rows.clone(), column));
            continue;
        }
        // The job that a row says holds for what it says.
        for row in rows {
            put_row(judge, node, gpu, table, row);
        }
    }
}

fn put_gpu_run(judge: &mut Judge, gpu: GpuSlot, table: &Table, rows: Range<usize>, column: &Column) {
    let stamps = table.rows[rows.clone()].iter();
    let values = stamps.zip(&table.values(column)[rows]);
    let values = values.filter_map(|(row, &value)| Some(((*row)?.1, value)).filter(|(_, value)| !value.is_nan()));
    match column.gpu {
        Some(GpuTarget::Power) => judge.put_gpu_powers(gpu, values),
        Some(target) => values.for_each(|(ts, value)| put_gpu(judge, gpu, target, ts, value)),
        None => {}
    }
}

fn put_row(judge: &mut Judge, node: NodeSlot, gpu: Option<GpuSlot>, table: &Table, row: usize) {
    let Some((_, ts)) = table.rows[row] else { return };
    if let Some(job) = table.jobs.as_ref().and_then(|jobs| jobs[row].as_ref()) {
        let job = job.as_ref().map(|name| judge.fleet_mut().job(name));
        match gpu {
            Some(gpu) => judge.put_gpu_job(gpu, job),
            None => judge.put_node_job(node, job),
        }
    }
    let value = |column: &Column| table.values(column)[row];
    match gpu {
        Some(gpu) => put_gpu_row(judge, gpu, ts, table.columns.iter().filter_map(|column| Some((column.gpu?, value(column))))),
        None => {
            let known = table.columns.iter().filter_map(|column| Some((column.node?, value(column))));
            known.filter(|(_, value)| !value.is_nan()).for_each(|(target, value)| put_node(judge, node, target, ts, value));
        }
    }
}

/// All that is known of a GPU at one instant: a sweep's metrics go in at once.
fn put_gpu_row(judge: &mut Judge, gpu: GpuSlot, ts: Micros, values: impl Iterator<Item = (GpuTarget, f64)> + Clone) {
    let metric = |(target, value)| if let GpuTarget::Metric(metric) = target { Some((metric, value)) } else { None };
    judge.put_gpu_row(gpu, ts, values.clone().filter_map(metric));
    let powers = values.filter(|(target, watts)| *target == GpuTarget::Power && !watts.is_nan());
    powers.for_each(|(_, watts)| judge.put_gpu_power(gpu, ts, watts));
}

fn put_gpu(judge: &mut Judge, gpu: GpuSlot, target: GpuTarget, ts: Micros, value: f64) {
    match target {
        GpuTarget::Power => judge.put_gpu_power(gpu, ts, value),
        GpuTarget::Metric(metric) => judge.put_gpu(gpu, metric, ts, value),
        GpuTarget::Job => {}
    }
}

fn put_node(judge: &mut Judge, node: NodeSlot, target: NodeTarget, ts: Micros, value: f64) {
    match target {
        NodeTarget::Power => judge.put_node_power(node, ts, value),
        NodeTarget::Metric(metric) => judge.put_node(node, metric, ts, value),
        NodeTarget::Job => {}
    }
}
