//! `cargo bench -p gridstep-collector`: the paths that every sample takes, by themselves. docs/performance.md has the result.
//!
//! A fleet of 2,048 nodes with eight GPUs, as over the wire: four batches a second of each node, with power at 10 Hz and, in one of the four,
//! thirty further metrics. An item is one value.

use divan::Bencher;
use divan::counter::ItemsCount;
use gridstep_collector::fleet::NodeSlot;
use gridstep_collector::ingest::{Declared, Decoded, decode, put_batch};
use gridstep_collector::judge::{Judge, JudgeConfig};
use gridstep_wire::Micros;
use gridstep_wire::block::BlockBuilder;
use gridstep_wire::catalog::{self, Rate};
use gridstep_wire::pb::{self, entity::What};
use prost::Message;
use std::cell::{Cell, RefCell};
use std::time::Duration;

const NODES: usize = 2048;
const GPUS: u32 = 8;
const METRICS: usize = 30;
const QUARTER_US: i64 = 250_000;
const BEGIN_US: i64 = 1_770_000_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

fn main() {
    divan::main();
}

fn declared() -> Declared {
    let gpu = |index| pb::Entity {
        id: index + 1,
        what: Some(What::Gpu(pb::Gpu { index, uuid: format!("GPU-{index}"), model: "H100".into(), ..Default::default() })),
    };
    let declare = pb::Declare {
        metrics: catalog::GPU.iter().zip(1..).map(|(metric, id)| metric.declare(id)).collect(),
        entities: (0..GPUS).map(gpu).collect(),
        ..Default::default()
    };
    let mut declared = Declared::default();
    declared.declare(declare).expect("it is well-formed");
    declared
}

/// A quarter of a second of a node: its batch, and how many values that is.
fn batch(quarter: usize, sequence: u64) -> (pb::Batch, usize) {
    let base_us = BEGIN_US;
    let (power, swept): (Vec<_>, Vec<_>) = catalog::GPU
        .iter()
        .zip(1u32..)
        .filter(|(metric, _)| metric.name != "job")
        .partition(|(metric, _)| metric.rate == Rate::Power);
    let mut block = BlockBuilder::new(base_us, &[power[0].1], 2_000);
    let readings = 2 + quarter as i64 % 2;
    for gpu in 1..=GPUS {
        for reading in 0..readings {
            block.push(gpu, base_us - QUARTER_US + reading * 100_000, [Some(500_000 + i64::from(gpu) * 37 + reading)]);
        }
    }
    let mut blocks = vec![block.finish()];
    let mut values = readings as usize * GPUS as usize;
    if quarter.is_multiple_of(4) {
        let columns: Vec<u32> = swept.iter().map(|(_, id)| *id).take(METRICS).collect();
        let mut block = BlockBuilder::new(base_us, &columns, 2_000);
        (1..=GPUS).for_each(|gpu| block.push(gpu, base_us - 100_000, columns.iter().map(|&id| Some(i64::from(id * 31 + gpu)))));
        blocks.push(block.finish());
        values += columns.len() * GPUS as usize;
    }
    (pb::Batch { sequence, base_us, blocks, ..Default::default() }, values)
}

/// Four quarters, one after the other, and the values of all.
fn second() -> (Vec<pb::Batch>, usize) {
    let (batches, values): (Vec<_>, Vec<_>) = (0..4).map(|quarter| batch(quarter, quarter as u64 + 1)).unzip();
    (batches, values.into_iter().sum())
}

fn judge() -> (Judge, Vec<NodeSlot>) {
    let mut judge = Judge::new(JudgeConfig::default(), &[]);
    let nodes = (0..NODES).map(|node| judge.fleet_mut().node(&format!("node{node:05}"))).collect();
    (judge, nodes)
}

/// Bytes of a batch to values of what is known, checked; of one stream.
#[divan::bench]
fn decoding(bencher: Bencher) {
    let (batches, values) = second();
    let encoded: Vec<Vec<u8>> = batches.iter().map(Message::encode_to_vec).collect();
    let declared = declared();
    let decode = |bytes: &Vec<u8>| decode(bytes, &declared, Micros(BEGIN_US), DAY).expect("it is well-formed");
    bencher.counter(ItemsCount::new(values)).bench_local(|| encoded.iter().map(decode).collect::<Vec<Decoded>>());
}

/// Bytes to the arrays of the whole fleet: second after second of 16,384 GPUs, each time to another place of the rings. What the judging makes of
/// them is not timed.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn decoding_into_the_arrays(bencher: Bencher) {
    let (mut batches, values) = second();
    let declared = declared();
    let (judge, nodes) = judge();
    let (judge, at) = (RefCell::new(judge), Cell::new(BEGIN_US));
    let mut take = || {
        let mut judge = judge.borrow_mut();
        for batch in &mut batches {
            at.set(at.get() + QUARTER_US);
            batch.base_us = at.get();
            let bytes = batch.encode_to_vec();
            for &node in &nodes {
                let decoded = decode(&bytes, &declared, Micros(at.get()), DAY).expect("it is well-formed");
                put_batch(&mut judge, node, &decoded);
            }
        }
    };
    let advance = || judge.borrow_mut().advance(Micros(at.get() + 50_000));
    // The arrays are there, and warm.
    (0..4).for_each(|_| {
        take();
        advance();
    });
    bencher.counter(ItemsCount::new(values * NODES)).with_inputs(advance).bench_local_values(|()| take());
}
