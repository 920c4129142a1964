//! What the judging of stragglers costs: CPU time of this thread for ten seconds of one job of the whole fleet, of which one GPU is slow.

use crate::cost::cpu_seconds;
use gridstep_collector::fleet::{GpuMetric, GpuSlot, NodeMetric, NodeSlot};
use gridstep_collector::judge::{Judge, JudgeConfig};
use gridstep_collector::stragglers::Footprint;
use gridstep_wire::Micros;
use std::fmt::Write;

const PER_NODE: usize = 8;
const EPOCH: i64 = 1_760_000_000;
/// Seconds that are let pass first, after which the GPU becomes slow, and those that are measured.
const BEFORE: i64 = 250;
const SLOW: i64 = 270;
const MEASURED: i64 = 60;

/// CPU milliseconds of ten seconds of fleets of these sizes: the mean of those that were measured, the worst second, and a GPU's memory.
pub(crate) fn table(sizes: &[usize]) -> String {
    let Footprint { history, beside } = Footprint::of_a_gpu();
    let mut out = format!("{:>8} {:>14} {:>18} {:>20}\n", "GPUs", "put, ms/10 s", "judge, ms/10 s", "worst second, ms");
    for &gpus in sizes {
        let (put, judged, worst) = cost(gpus);
        let _ = writeln!(out, "{gpus:>8} {put:>14.1} {judged:>18.1} {worst:>20.1}");
    }
    let _ = writeln!(out, "each GPU: {history} bytes of history, {beside} beside it");
    out
}

fn cost(gpus: usize) -> (f64, f64, f64) {
    let mut judge = Judge::new(JudgeConfig::default(), &[]);
    let job = judge.fleet_mut().job("one");
    for gpu in 0..gpus {
        let node = judge.fleet_mut().node(&format!("node{:05}", gpu / PER_NODE));
        let slot = judge.fleet_mut().gpu(node, (gpu % PER_NODE) as u8);
        judge.put_gpu_job(slot, Some(job));
    }
    let noise = |second: i64, gpu: usize| {
        let mixed = (second as usize * 7919 + gpu * 104_729).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (mixed % 1000) as f64 / 1000.0 * 0.01 - 0.005
    };
    let (mut put, mut judged, mut worst) = (0.0, 0.0, 0.0f64);
    for second in 0..BEFORE + MEASURED {
        let is_slow = second >= SLOW;
        let begun = cpu_seconds();
        for gpu in 0..gpus {
            let factor = if is_slow && gpu == 77 { 1.1 } else { 1.0 };
            let share = 0.7 * factor * (1.0 + noise(second, gpu)) / (0.7 * if is_slow { 1.1 } else { 1.0 } + 0.3);
            let ts = Micros((EPOCH + second) * 1_000_000 + (gpu / PER_NODE) as i64 * 7919 % 900_000);
            let slot = GpuSlot(gpu as u32);
            let mut value = |metric, value| judge.put_gpu(slot, metric, ts, value);
            value(GpuMetric::SmActive, 0.18 + 0.74 * share);
            value(GpuMetric::Utilization, 1.0);
            value(GpuMetric::SmClock, 1845.0 / factor);
            value(GpuMetric::Temperature, 60.0);
            value(GpuMetric::MemoryTemperature, 70.0);
            value(GpuMetric::EventReasons, 0.0);
            value(GpuMetric::PowerLimit, 700.0);
            value(GpuMetric::PcieWidth, 16.0);
            value(GpuMetric::PcieGeneration, 5.0);
            value(GpuMetric::PcieReplays, 3.0);
            value(GpuMetric::NvlinkErrors, 0.0);
            value(GpuMetric::EccCorrected, 0.0);
            value(GpuMetric::EccUncorrected, 0.0);
            value(GpuMetric::RemappedRows, 0.0);
            if gpu % PER_NODE == 0 {
                let node = NodeSlot((gpu / PER_NODE) as u32);
                judge.put_node(node, NodeMetric::CpuUtilization, ts, 0.2);
                judge.put_node(node, NodeMetric::NetworkLink, ts, 4e11);
                judge.put_node(node, NodeMetric::NetworkErrors, ts, 0.0);
            }
        }
        let middle = cpu_seconds();
        judge.advance(Micros((EPOCH + second + 1) * 1_000_000));
        judge.take_revisions();
        let spent = cpu_seconds() - middle;
        if second >= BEFORE {
            (put, judged, worst) = (put + middle - begun, judged + spent, worst.max(spent));
        }
    }
    let scale = 1e4 / MEASURED as f64;
    (put * scale, judged * scale, worst * 1e3)
}
