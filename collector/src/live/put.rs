//! A batch into the judging.

use crate::fleet::{GpuSlot, NodeSlot};
use crate::ingest::{Decoded, GpuTarget, NodeTarget, Table};
use crate::judge::Judge;
use gridstep_wire::Micros;

pub(super) fn batch(judge: &mut Judge, node: NodeSlot, batch: &Decoded) {
    for table in &batch.tables {
        put(judge, node, table);
    }
    for event in &batch.events {
        let gpu = event.gpu.map(|index| judge.fleet_mut().gpu(node, index));
        judge.put_event(node, gpu, event.at, &event.kind, event.code);
    }
}

fn put(judge: &mut Judge, node: NodeSlot, table: &Table) {
    for (row, place) in table.rows.iter().enumerate() {
        let Some((gpu, ts)) = *place else { continue };
        let gpu = gpu.map(|index| judge.fleet_mut().gpu(node, index));
        if let Some(job) = table.jobs.as_ref().and_then(|jobs| jobs[row].as_ref()) {
            let job = job.as_ref().map(|name| judge.fleet_mut().job(name));
            match gpu {
                Some(gpu) => judge.put_gpu_job(gpu, job),
                None => judge.put_node_job(node, job),
            }
        }
        for column in &table.columns {
            let Some(value) = column.values[row] else { continue };
            match (gpu, column.gpu, column.node) {
                (Some(gpu), Some(target), _) => put_gpu(judge, gpu, target, ts, value),
                (None, _, Some(target)) => put_node(judge, node, target, ts, value),
                _ => {}
            }
        }
    }
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
