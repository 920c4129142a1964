//! What recording costs, and a recording to measure replays with: `cargo test … recorder::measure -- --ignored --nocapture`.

use super::desk::Desk;
use super::{Given, MarkMap};
use crate::fleet::GpuMetric;
use crate::ingest::{Decoded, GpuTarget, Identity, Table};
use gridstep_wire::Micros;
use std::path::Path;
use std::time::Duration;

const NODES: usize = 2048;
const T0: i64 = 1_760_000_000_000_000;
/// Batches of a node in a second.
const BATCHES: i64 = 4;
const BATCH_US: i64 = 1_000_000 / BATCHES;
/// All GPUs change their power so often, seconds.
const STEP_SECONDS: i64 = 20;

/// On a processor, of this thread.
fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

/// 0 to 1: the last digits of a reading.
fn noise(seed: i64) -> f64 {
    let mixed = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as f64 / (1u64 << 24) as f64
}

/// Nodes do not read at the same instants.
fn phase(node: usize) -> i64 {
    (node as i64 * 48_271) % 100_000
}

/// Eight GPUs, what was read of their power in a quarter of a second.
fn power(node: usize, batch: i64) -> Table {
    let (from, to) = (T0 + batch * BATCH_US, T0 + (batch + 1) * BATCH_US);
    let first = (from - phase(node)).div_euclid(100_000) + 1;
    let instants: Vec<i64> = (first..).map(|tick| tick * 100_000 + phase(node)).take_while(|ts| *ts <= to).collect();
    let rows: Vec<(u8, i64)> = (0..8).flat_map(|gpu| instants.iter().map(move |ts| (gpu, *ts))).collect();
    let watts = rows.iter().map(|&(gpu, ts)| {
        let level = 400.0 + 250.0 * noise(ts.div_euclid(STEP_SECONDS * 1_000_000));
        let own = (node % 90) as f64 / 10.0 + 30.0 * noise((node as i64 * 8 + i64::from(gpu)) ^ ts);
        ((level + own) * 1000.0).round() / 1000.0
    });
    let mut table = Table::new(rows.iter().map(|&(gpu, ts)| (Some(gpu), Micros(ts))).collect());
    table.push(Some(GpuTarget::Power), None, watts);
    table.stamp_error_us = 20_000;
    table
}

/// All else, once a second.
fn sweep(node: usize, second: i64) -> Table {
    let ts = T0 + second * 1_000_000 + phase(node) * 3;
    let mut table = Table::new((0..8).map(|gpu| (Some(gpu), Micros(ts))).collect());
    for &metric in GpuMetric::ALL.iter().filter(|metric| **metric != GpuMetric::Xid) {
        let value = |gpu: i64| value(metric, noise((node as i64 * 8 + gpu) << 32 ^ second << 8 ^ metric as i64), second);
        table.push(Some(GpuTarget::Metric(metric)), None, (0..8).map(value));
    }
    table.jobs = Some(vec![Some(Some(format!("job{}", node / 64).as_str().into())); 8]);
    table.stamp_error_us = 20_000;
    table
}

/// As the wire has it.
fn value(metric: GpuMetric, noise: f64, second: i64) -> f64 {
    use GpuMetric::*;
    let near = |usual: f64, unit: f64| (usual * (0.995 + 0.01 * noise) / unit).round() * unit;
    match metric {
        PowerAverage => near(540.0, 0.001),
        Energy => (second as f64 * 540e3 + noise * 1e5).round() * 1e-3,
        Temperature => near(62.0, 1.0),
        MemoryTemperature => near(78.0, 1.0),
        HbmUsed => (74u64 << 30) as f64,
        SmClock => near(1755.0, 15.0),
        MemoryClock => 2619.0,
        Utilization | Up => 1.0,
        SmActive => near(0.86, 1e-4),
        TensorActive => near(0.54, 1e-4),
        DramActive => near(0.31, 1e-4),
        LimitedPower => (second as f64 * 1e3 * noise).round() * 1e-3,
        PowerLimit => 700.0,
        PcieGeneration => 5.0,
        PcieWidth => 16.0,
        PcieBytes | NvlinkBytes => near(42e9, 1000.0),
        NvlinkLinksUp => 18.0,
        _ => 0.0,
    }
}

fn desk(folder: &Path) -> Desk {
    let mut desk = Desk::new(folder, &MarkMap::new());
    for node in 0..NODES {
        let gpu = |index| Identity { index, uuid: format!("GPU-{node}-{index}"), model: "NVIDIA H100 80GB HBM3".into() };
        desk.identify(&format!("node{node}"), false, &(0..8).map(gpu).collect::<Vec<_>>());
    }
    desk
}

/// What arrives in a quarter of a second.
fn given(batch: i64, tables: impl Fn(usize, i64) -> Vec<Table>) -> Vec<Given> {
    let one = |node: usize| {
        let decoded = Decoded { sequence: batch as u64 + 1, tables: tables(node, batch), ..Decoded::default() };
        // Each a little after the one before: time of arrival passes.
        let arrival = T0 + (batch + 1) * BATCH_US + 20_000 + node as i64 * 110;
        Given::new(format!("node{node}").into(), 1, false, Micros(arrival), decoded)
    };
    (0..NODES).map(one).collect()
}

fn both(node: usize, batch: i64) -> Vec<Table> {
    let mut tables = Vec::new();
    if batch % BATCHES == BATCHES - 1 {
        tables.push(sweep(node, batch / BATCHES));
    }
    tables.push(power(node, batch));
    tables
}

/// Closes the files of the lanes, and gives their size.
fn close(desk: &mut Desk, stamp: i64, folder: Option<&Path>) -> u64 {
    let (lanes, names) = desk.lanes();
    let close = |lane: &mut super::lane::Lane| {
        lane.close(stamp, names).unwrap();
        let files = lane.take();
        if let Some(folder) = folder {
            files.iter().for_each(|aside| {
                std::fs::rename(folder.join(format!("{}{}", aside.name, super::lane::ASIDE)), folder.join(&aside.name)).unwrap();
            });
        }
        files.iter().map(|aside| aside.file.metadata().unwrap().len()).sum::<u64>()
    };
    lanes.map(close).sum()
}

fn run(what: &str, seconds: i64, folder: &Path, keep: bool, tables: fn(usize, i64) -> Vec<Table>) {
    let mut desk = desk(folder);
    let (mut took, mut values, mut rows, mut bytes) = (Duration::ZERO, 0, 0, 0);
    for batch in 0..seconds * BATCHES {
        let given = given(batch, tables);
        let tables = || given.iter().flat_map(|given| &given.batch.tables);
        rows += tables().map(|table| table.rows.len()).sum::<usize>();
        values += tables().map(|table| table.rows.len() * table.columns.len()).sum::<usize>();
        let begun = spent();
        given.iter().for_each(|given| desk.put(given));
        let set = T0 + batch / 120;
        if batch % 8 == 7 {
            desk.drain(set).unwrap();
        }
        if batch % 120 == 119 {
            bytes += close(&mut desk, set, keep.then_some(folder));
        }
        took += spent() - begun;
    }
    let begun = spent();
    bytes += close(&mut desk, T0 + seconds * BATCHES / 120, keep.then_some(folder));
    took += spent() - begun;
    let per = |of: usize| bytes as f64 / of as f64;
    println!(
        "{what}: {rows} rows, {values} values, {bytes} bytes: {:.2} bytes a row, {:.2} a value; {:.0} ns of CPU a value, {:.3} s a second",
        per(rows),
        per(values),
        took.as_nanos() as f64 / values as f64,
        took.as_secs_f64() / seconds as f64
    );
}

#[test]
#[ignore = "a measurement"]
fn sixteen_thousand_gpus() {
    let folder = tempfile::tempdir().unwrap();
    run("power-*", 8, folder.path(), false, |node, batch| vec![power(node, batch)]);
    run("gpu-*", 8, folder.path(), false, |node, batch| {
        both(node, batch).drain(..).filter(|table| table.jobs.is_some()).collect()
    });
}

/// Into the folder RECORDING, so many SECONDS (120).
#[test]
#[ignore = "for measurements of replays"]
fn a_recording_of_sixteen_thousand_gpus() {
    let folder = std::env::var("RECORDING").expect("RECORDING: the folder to write to");
    let seconds = std::env::var("SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(120);
    std::fs::create_dir_all(&folder).unwrap();
    run("both", seconds, Path::new(&folder), true, both);
}
