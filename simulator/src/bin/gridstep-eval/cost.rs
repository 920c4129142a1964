//! What the judging of power costs: CPU time of this thread for a second of a fleet.

use gridstep_collector::fleet::{GpuSlot, Place};
use gridstep_collector::judge::{Judge, JudgeConfig};
use gridstep_wire::Micros;
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Write;

const PER_NODE: usize = 8;
const EPOCH_US: i64 = 1_760_000_000_000_000;
/// Seconds that are let pass first, and those that are measured.
const BEFORE: i64 = 140;
const MEASURED: i64 = 30;

pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU milliseconds for each second of fleets of these sizes, at 10 Hz: taking the samples, and all that follows from them. In fleets without
/// jobs that is the power alone; where there are jobs, stragglers are looked for too, by the power as nothing else is told.
pub(crate) fn table(sizes: &[usize]) -> String {
    let mut out = format!("{:>8} {:>6} {:>12} {:>12} {:>12}\n", "GPUs", "jobs", "put, ms/s", "judge, ms/s", "all, ms/s");
    for (&gpus, jobs) in sizes.iter().flat_map(|gpus| [(gpus, 0), (gpus, 2)]) {
        let (put, judged) = cost(gpus, jobs);
        let _ = writeln!(out, "{gpus:>8} {jobs:>6} {put:>12.2} {judged:>12.2} {:>12.2}", put + judged);
    }
    out
}

fn cost(gpus: usize, jobs: usize) -> (f64, f64) {
    let place = |node: usize| Place {
        node: format!("node{node:05}"),
        rack: format!("rack{:04}", node / 4),
        feeder: format!("feeder{}", node % 4),
        in_service: true,
    };
    let places: Vec<Place> = (0..gpus.div_ceil(PER_NODE)).map(place).collect();
    let mut judge = Judge::new(JudgeConfig::default(), &places);
    for gpu in 0..gpus {
        let node = judge.fleet_mut().node(&places[gpu / PER_NODE].node);
        let slot = judge.fleet_mut().gpu(node, (gpu % PER_NODE) as u8);
        if jobs > 0 {
            let job = judge.fleet_mut().job(&format!("job{}", gpu / PER_NODE % jobs));
            judge.put_gpu_job(slot, Some(job));
        }
    }
    let noise: Vec<f32> = (0..4096u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 20) as f32 / 40.0).collect();
    let (mut put, mut judged) = (0.0, 0.0);
    // What the nodes send every 250 ms; all of it arrives within those.
    let mut readings: Vec<(Micros, f64)> = Vec::with_capacity(3 * gpus);
    for quarter in 0..4 * (BEFORE + MEASURED) {
        readings.clear();
        for gpu in 0..gpus {
            let phase = (gpu / PER_NODE) as i64 * 7919 % 100_000;
            for reading in quarter * 5 / 2..(quarter + 1) * 5 / 2 {
                let t = reading as f64 * 0.1;
                let watts = 500.0 + 30.0 * (0.7 * t).sin() + f64::from(noise[(gpu * 31 + reading as usize * 17) % noise.len()]);
                readings.push((Micros(EPOCH_US + reading * 100_000 + phase - 300_000), watts));
            }
        }
        let begun = cpu_seconds();
        // A GPU's samples of a batch are one run on the wire.
        for (gpu, run) in (0..).zip(readings.chunks_exact(readings.len() / gpus)) {
            judge.put_gpu_powers(GpuSlot(gpu), run.iter().copied());
        }
        let middle = cpu_seconds();
        judge.advance(Micros(EPOCH_US + (quarter + 1) * 250_000));
        judge.take_revisions();
        if quarter >= 4 * BEFORE {
            put += middle - begun;
            judged += cpu_seconds() - middle;
        }
    }
    let scale = 1e3 / MEASURED as f64;
    (put * scale, judged * scale)
}
