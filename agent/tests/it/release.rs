//! `gridstep-agent release`: the running agent lets go of the driver, and takes it again.

use crate::collector::{Collector, Seen};
use crate::node::Node;
use crate::{PATIENCE, metrics, power_rows};
use std::path::Path;
use std::process::{Command, Output};

fn release(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridstep-agent"));
    command.arg("release").args(arguments).arg("--socket").arg(socket).output().unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

fn told(seen: &Seen, kind: &str) -> usize {
    seen.batches().iter().flat_map(|batch| &batch.events).filter(|event| event.kind == kind).count()
}

#[tokio::test]
async fn the_driver_is_free_until_it_is_taken_again() {
    let collector = Collector::start().await;
    let node = Node::start("", &collector.address);
    collector.wait(PATIENCE, |seen| power_rows(seen) > 8 * 10 && seen.gpus() == 8).await;
    assert!(node.readers() > 0);
    let output = release(&node.control(), &["--for", "10m"]);
    assert!(output.status.success() && said(&output).contains("the driver is free for 10m"), "{}", said(&output));
    assert_eq!(node.readers(), 0);
    node.shows("gridstep_agent_driver_released", |released| released == 1.0).await;
    let down = |seen: &Seen| (1..=8).all(|entity| seen.values("up").any(|row| row.0 == entity && row.2 == 0));
    let seen = collector.wait(PATIENCE, |seen| told(seen, "driver_released") == 1 && down(seen)).await;
    assert!(node.metrics().lines().any(|line| line.starts_with("gridstep_gpu_up{") && line.contains("driver_released")));
    // A reload changes nothing about it; the node's own telemetry goes on.
    node.signal("-HUP");
    collector.wait(PATIENCE, |seen| told(seen, "driver_released") == 2).await;
    assert_eq!(node.readers(), 0);
    let rows = seen.values("memory_used_bytes").count();
    let seen = collector.wait(PATIENCE, |seen| seen.values("memory_used_bytes").count() > rows + 2).await;
    assert_eq!(told(&seen, "driver_hung"), 0, "announced, it is no fault");
    let before = power_rows(&seen);
    node.shows("gridstep_agent_driver_released", |released| released == 1.0).await;
    let output = release(&node.control(), &["--end"]);
    assert!(output.status.success(), "{}", said(&output));
    let back = |seen: &Seen| told(seen, "driver_back") > 0 && power_rows(seen) > before + 8 * 10;
    collector.wait(PATIENCE, back).await;
    assert_eq!(metrics::value(&node.metrics(), "gridstep_agent_driver_released"), Some(0.0));
    assert_eq!(metrics::value(&node.metrics(), "gridstep_agent_reader_up"), Some(1.0));
}

#[tokio::test]
async fn a_release_that_is_forgotten_ends() {
    let collector = Collector::start().await;
    let node = Node::start("", &collector.address);
    collector.wait(PATIENCE, |seen| power_rows(seen) > 8 * 10).await;
    assert!(release(&node.control(), &["--for", "2s"]).status.success());
    let before = power_rows(&collector.seen());
    collector.wait(PATIENCE, |seen| told(seen, "driver_retaken") == 1 && power_rows(seen) > before + 8 * 10).await;
}

/// A reader that hangs in a call for each GPU is killed all the same.
#[tokio::test]
async fn a_hanging_call_is_let_go_of() {
    let collector = Collector::start().await;
    let node = Node::start("[[fault]]\nkind = \"hung_call\"\nnode = 0\nstart = 2.0\n", &collector.address);
    collector.wait(PATIENCE, |seen| told(seen, "driver_hung") > 0).await;
    let output = release(&node.control(), &["--for", "1m"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(node.readers(), 0);
}

#[test]
fn without_an_agent_or_sense_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control");
    let output = release(&socket, &["--end"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(said(&output).contains("no agent runs here"), "{}", said(&output));
    for arguments in [&[][..], &["--for", "soon"], &["--for", "1m", "--end"]] {
        assert_eq!(release(&socket, arguments).status.code(), Some(64), "{arguments:?}");
    }
}

#[tokio::test]
async fn another_user_is_refused() {
    let collector = Collector::start().await;
    let node = Node::start("", &collector.address);
    collector.wait(PATIENCE, |seen| power_rows(seen) > 8 * 10).await;
    // Only root can be another user.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_gridstep-agent"), "release", "--end"]);
    let output = command.arg("--socket").arg(node.control()).output().unwrap();
    if said(&output).contains("setpriv: ") {
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("no permission"), "{}", said(&output));
}
