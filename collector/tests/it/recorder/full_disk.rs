//! A full disk: nothing is durable, the judging goes on, and when there is room again agents bring what is missing.

use super::process::{Process, batch, configure};
use super::samples;
use crate::agent::Agent;
use crate::collector::{DEADLINE, get_from};
use gridstep_wire::pb::agent_message::Kind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The collector with a file system of its own at the directory. None: this user may not mount.
pub(crate) fn mounting(directory: &Path) -> Option<Vec<String>> {
    let mount = format!("mount -t tmpfs -o size=4m recording {} && exec \"$@\"", directory.display());
    let words = ["unshare", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"].map(str::to_owned);
    let can = std::process::Command::new(&words[0]).args(&words[1..]).arg("true").output().unwrap();
    if !can.status.success() {
        println!("not checked: this user may not mount");
        return None;
    }
    Some(words.into())
}

pub(crate) async fn until(process: &Process, line: &str) {
    let seen = async {
        while !process.metrics().await.contains(line) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, seen).await.is_err() {
        panic!("no {line} in {}", process.metrics().await);
    }
}

#[tokio::test]
async fn a_full_disk_stops_nothing_but_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let (file, recording) = (folder.path().join("c.toml"), folder.path().join("recording"));
    std::fs::create_dir(&recording).unwrap();
    configure(&file, &folder.path().join("state"), &recording);
    let Some(wrapper) = mounting(&recording) else { return };
    let process = Process::start(&file, &wrapper);
    // As the process sees it.
    let inside = PathBuf::from(format!("/proc/{}/root{}", process.child.id(), recording.display()));
    let (mut agent, _) = Agent::join(process.grpc, "node1", 1).await;
    let batches: Vec<_> = (1..=3).map(batch).collect();
    agent.send(Kind::Batch(batches[0].clone())).await;
    agent.ack_until(|ack| ack.durable == 1).await;

    let filler = inside.join("filler");
    // As much as there is room for.
    let _ = std::fs::write(&filler, vec![0; 5 << 20]);
    agent.send(Kind::Batch(batches[1].clone())).await;
    until(&process, "gridstep_recorder_failing 1\n").await;
    let said = async { while !get_from(process.http, "/readyz").await.contains("recording fails") {} };
    tokio::time::timeout(DEADLINE, said).await.unwrap();
    agent.send(Kind::Batch(batches[2].clone())).await;
    let ack = agent.ack_until(|ack| ack.received == 3).await;
    assert_eq!(ack.durable, 1);
    until(&process, "gridstep_collector_batches_total 3\n").await;

    std::fs::remove_file(&filler).unwrap();
    let status = agent.end().await.expect("the stream is ended");
    assert!(status.message().contains("the recorder lacks batches"), "{status}");
    until(&process, "gridstep_recorder_failing 0\n").await;
    let (mut agent, welcome) = Agent::join(process.grpc, "node1", 2).await;
    assert_eq!(welcome.durable, 1);
    for batch in &batches[1..] {
        agent.send(Kind::Batch(batch.clone())).await;
    }
    agent.ack_until(|ack| ack.durable == 3).await;
    let found = samples(&inside, "power-");
    assert_eq!(found.len(), 3 * 8);
    assert!(found.values().all(|count| *count == 1));
    let metrics = process.metrics().await;
    assert!(metrics.contains("gridstep_collector_duplicate_batches_total 2\n"), "{metrics}");
    assert!(metrics.contains("gridstep_recorder_lost_batches_total 0\n"), "{metrics}");
    process.kill();
}
