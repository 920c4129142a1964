//! What recording costs: `cargo test … recorder::measure -- --ignored --nocapture`.

use super::desk::Desk;
use super::{Given, MarkMap};
use crate::fleet::GpuMetric;
use crate::ingest::{Decoded, GpuTarget, Identity, Table};
use gridstep_wire::Micros;
use std::time::Duration;

const NODES: usize = 2048;
const SECONDS: i64 = 8;
const T0: i64 = 1_760_000_000_000_000;

/// On a processor, of this thread.
fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

/// The last digits of a reading.
fn noise(seed: usize) -> f64 {
    (((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % 1000) as f64
}

/// Eight GPUs, ten times a second.
fn power(node: usize, second: i64) -> Table {
    let rows = (0..80).map(|row| {
        (row % 8, T0 + second * 1_000_000 + (row as i64 / 8) * 100_000 + (node as i64 * 131) % 100_000 + noise(row + node) as i64)
    });
    let rows: Vec<_> = rows.collect();
    let watts = rows.iter().map(|(gpu, ts)| 550.0 + (node % 90) as f64 + noise(node * 8 + gpu + *ts as usize) / 100.0);
    let mut table = Table::new(rows.iter().map(|&(gpu, ts)| (Some(gpu as u8), Micros(ts))).collect());
    table.push(Some(GpuTarget::Power), None, watts);
    table.stamp_error_us = 20_000;
    table
}

/// All else, once a second: a third of it moves, a third counts up, a third stays.
fn sweep(node: usize, second: i64) -> Table {
    let ts = T0 + second * 1_000_000 + (node as i64 * 131) % 100_000;
    let mut table = Table::new((0..8).map(|gpu| (Some(gpu), Micros(ts))).collect());
    for &metric in GpuMetric::ALL {
        let value = |gpu: usize| {
            let seed = node * 8 + gpu + metric as usize;
            match metric as usize % 3 {
                0 => (noise(seed + second as usize) / 10.0).round(),
                1 => seed as f64 * 1000.0 + second as f64 * noise(seed),
                _ => 16.0,
            }
        };
        table.push(Some(GpuTarget::Metric(metric)), None, (0..8).map(value));
    }
    table.jobs = Some(vec![Some(Some(format!("job{}", node / 64).as_str().into())); 8]);
    table.stamp_error_us = 20_000;
    table
}

fn run(what: &str, table: fn(usize, i64) -> Table) {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(folder.path(), &MarkMap::new());
    for node in 0..NODES {
        let gpu = |index| Identity { index, uuid: format!("GPU-{node}-{index}"), model: "NVIDIA H100 80GB HBM3".into() };
        desk.identify(&format!("node{node}"), false, &(0..8).map(gpu).collect::<Vec<_>>());
    }
    let (mut took, mut values, mut rows) = (Duration::ZERO, 0, 0);
    for second in 0..SECONDS {
        let given = (0..NODES).map(|node| {
            let batch = Decoded { sequence: second as u64 + 1, tables: vec![table(node, second)], ..Decoded::default() };
            Given::new(format!("node{node}"), 1, false, Micros(T0 + (second + 1) * 1_000_000 + 300_000), batch)
        });
        let given: Vec<Given> = given.collect();
        rows += given.iter().map(|given| given.batch.tables[0].rows.len()).sum::<usize>();
        values += given.iter().map(|given| given.batch.tables[0].rows.len() * given.batch.tables[0].columns.len()).sum::<usize>();
        let begun = spent();
        given.iter().for_each(|given| desk.put(given));
        if second % 2 == 1 {
            desk.drain(1).unwrap();
        }
        took += spent() - begun;
    }
    let begun = spent();
    let (lanes, names) = desk.lanes();
    let bytes: u64 = lanes
        .map(|lane| {
            lane.close(1, names).unwrap();
            lane.take().iter().map(|aside| aside.file.metadata().unwrap().len()).sum::<u64>()
        })
        .sum();
    took += spent() - begun;
    let per = |of: usize| bytes as f64 / of as f64;
    println!(
        "{what}: {rows} rows, {values} values, {bytes} bytes: {:.2} bytes a row, {:.2} a value; {:.0} ns of CPU a value, {:.3} s a second",
        per(rows),
        per(values),
        took.as_nanos() as f64 / values as f64,
        took.as_secs_f64() / SECONDS as f64
    );
}

#[test]
#[ignore = "a measurement"]
fn sixteen_thousand_gpus() {
    run("power-*", power);
    run("gpu-*", sweep);
}
