//! The flight recorder: what agents send is in closed files, once, whatever happens.

pub(crate) mod contract;
pub(crate) mod full_disk;
mod kill;
pub(crate) mod process;
mod readers;
mod replayed;
mod s3;
mod uploaded;

use crate::agent::{Agent, batch, metric};
use crate::collector::{DEADLINE, config, get};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, TimestampMicrosecondType, UInt8Type};
use gridstep_collector::config::Config;
use gridstep_collector::server::Server;
use gridstep_wire::block::BlockBuilder;
use gridstep_wire::pb::agent_message::Kind;
use gridstep_wire::{Micros, catalog, pb};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// (node, GPU, stamp).
type Sample = (String, u8, i64);

fn recording(state: &Path) -> Config {
    let mut config = config(state);
    config.edge.recorder.enabled = true;
    config.edge.recorder.roll_interval = Duration::from_millis(200);
    config
}

/// Board power of eight GPUs at five instants, all metrics of the GPUs, the node's power, and an event.
fn everything(sequence: u64, base_us: i64) -> pb::Batch {
    let mut power = BlockBuilder::new(base_us, &[metric("power_watts")], 500);
    for entity in 1..=8 {
        for tick in 0..5 {
            power.push(entity, base_us + tick * 10_000 + i64::from(entity), [Some(650_500)]);
        }
    }
    let ids: Vec<u32> = (1..=catalog::GPU.len() as u32).collect();
    let mut sweep = BlockBuilder::new(base_us, &ids, 20_000);
    for entity in 1..=8 {
        sweep.push(entity, base_us + 5_000, catalog::GPU.iter().map(|_| Some(1)));
    }
    let mut node = BlockBuilder::new(base_us, &[metric("power_watts")], 0);
    node.push(0, base_us, [Some(6_200_000)]);
    let event = pb::Event { dt_us: 7, entity: 3, kind: "xid".into(), code: 79, detail: "fell off the bus".into() };
    let blocks = vec![power.finish(), sweep.finish(), node.finish()];
    pb::Batch { sequence, base_us, blocks, events: vec![event], ..Default::default() }
}

/// Files of the kind, oldest first.
fn files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(prefix) && (name.ends_with(".parquet") || name.ends_with(".json"))
    };
    let mut files: Vec<PathBuf> = entries.filter(is_it).collect();
    files.sort();
    files
}

pub(crate) fn read(file: &Path) -> Vec<RecordBatch> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
    builder.build().unwrap().map(Result::unwrap).collect()
}

/// How often each row of the files about GPUs is there. Within a file they are in order.
fn samples(folder: &Path, prefix: &str) -> BTreeMap<Sample, usize> {
    let mut found = BTreeMap::new();
    for file in files(folder, prefix) {
        let mut last = i64::MIN;
        for batch in read(&file) {
            let ts = batch["ts"].as_primitive::<TimestampMicrosecondType>();
            let nodes = batch["node"].as_dictionary::<Int32Type>().downcast_dict::<arrow_array::StringArray>().unwrap();
            let gpus = batch["gpu"].as_primitive::<UInt8Type>();
            for (row, node) in nodes.into_iter().enumerate() {
                assert!(ts.value(row) >= last, "{} is in order", file.display());
                last = ts.value(row);
                *found.entry((node.unwrap().to_owned(), gpus.value(row), last)).or_default() += 1;
            }
        }
    }
    found
}

#[tokio::test]
async fn what_is_durable_is_in_closed_files() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("recording");
    let server = Server::start(recording(state.path())).await.unwrap();
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    let base_us = Micros::now().0;
    agent.send(Kind::Batch(everything(1, base_us))).await;
    agent.ack_until(|ack| ack.durable == 1).await;
    assert_eq!(samples(&folder, "power-").len(), 40);
    assert_eq!(samples(&folder, "gpu-").len(), 8);
    let [node] = &files(&folder, "node-")[..] else { panic!("one file of nodes") };
    assert_eq!(read(node)[0]["power_watts"].as_primitive::<Float32Type>().value(0), 6200.0);
    let [event] = &files(&folder, "event-")[..] else { panic!("one file of events") };
    let event = &read(event)[0];
    assert_eq!(event["gpu"].as_primitive::<UInt8Type>().value(0), 2);
    assert!(files(&folder, "late-").is_empty());
    let metrics = get(&server, "/metrics").await;
    assert!(metrics.contains("gridstep_recorder_rows_total 50\n"), "{metrics}");
    assert!(metrics.contains("gridstep_recorder_failing 0\n"), "{metrics}");
    server.stop().await.unwrap();
}

/// How many have been written.
async fn checkpoints(server: &Server) -> u64 {
    let metrics = get(server, "/metrics").await;
    let count = metrics.lines().find_map(|line| line.strip_prefix("gridstep_collector_checkpoint_seconds_count "));
    count.unwrap().parse().unwrap()
}

/// A stop closes what there is; the next one goes on behind it.
#[tokio::test]
async fn a_stop_closes_the_last_files() {
    let state = tempfile::tempdir().unwrap();
    let mut config = recording(state.path());
    config.edge.recorder.roll_interval = Duration::from_secs(50);
    let server = Server::start(config.clone()).await.unwrap();
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    agent.send_batch(1).await;
    agent.ack_until(|ack| ack.received == 1).await;
    server.stop().await.unwrap();
    assert_eq!(samples(&state.path().join("recording"), "gpu-").len(), 8);

    let server = Server::start(config).await.unwrap();
    let (_agent, welcome) = Agent::join(server.grpc, "node1", 1).await;
    assert_eq!(welcome.durable, 1);
    server.stop().await.unwrap();
}

/// The judging has a batch in its checkpoint, the recorder has not: it alone takes it again.
#[tokio::test]
async fn what_only_the_recorder_lacks_only_it_takes() {
    let state = tempfile::tempdir().unwrap();
    let mut rare = recording(state.path());
    rare.edge.recorder.roll_interval = Duration::from_secs(50);
    let server = Server::start(rare).await.unwrap();
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    let first = batch(1);
    agent.send(Kind::Batch(first.clone())).await;
    let ack = agent.ack_until(|ack| ack.received == 1).await;
    assert_eq!(ack.durable, 0);
    // The next one may have begun before the batch came, the one after it has not.
    let before = checkpoints(&server).await;
    let written = async { while checkpoints(&server).await < before + 2 {} };
    tokio::time::timeout(DEADLINE, written).await.unwrap();
    server.kill().await;

    let server = Server::start(recording(state.path())).await.unwrap();
    let (mut agent, welcome) = Agent::join(server.grpc, "node1", 1).await;
    assert_eq!(welcome.durable, 0);
    agent.send(Kind::Batch(first)).await;
    agent.ack_until(|ack| ack.durable == 1).await;
    let metrics = get(&server, "/metrics").await;
    assert!(metrics.contains("gridstep_collector_duplicate_batches_total 1\n"), "{metrics}");
    assert!(metrics.contains("gridstep_recorder_rows_total 8\n"), "{metrics}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_backlog_is_late() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("recording");
    let server = Server::start(recording(state.path())).await.unwrap();
    let (mut agent, _) = Agent::join_backlog(server.grpc, "node1", 33, 40).await;
    let hour_ago = Micros::now().0 - 3_600_000_000;
    agent.send(Kind::Batch(everything(41, hour_ago + 10))).await;
    agent.send(Kind::Batch(everything(40 + 2, hour_ago))).await;
    agent.ack_until(|ack| ack.durable == 42).await;
    assert_eq!(samples(&folder, "late-power-").len(), 80);
    assert_eq!(samples(&folder, "late-gpu-").len(), 16);
    let rows = read(&files(&folder, "late-gpu-")[0]);
    assert_eq!(rows[0]["backlog"].as_boolean().true_count(), rows[0].num_rows());
    for kind in ["gpu-", "power-", "node-", "event-"] {
        assert!(files(&folder, kind).is_empty(), "{kind}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_too_old_goes() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("recording");
    fs::create_dir_all(&folder).unwrap();
    let (old, foreign) = (folder.join("power-1000-0.parquet"), folder.join("power-000.parquet"));
    fs::write(&old, "of 1970").unwrap();
    fs::write(&foreign, "not the recorder's").unwrap();
    let server = Server::start(recording(state.path())).await.unwrap();
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    agent.send_batch(1).await;
    agent.ack_until(|ack| ack.durable == 1).await;
    assert!(!old.exists() && foreign.exists());
    let metrics = get(&server, "/metrics").await;
    assert!(metrics.contains("gridstep_recorder_removed_files_total 1\n"), "{metrics}");
    server.stop().await.unwrap();
}
