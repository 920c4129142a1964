//! The agent from outside: the real binary over the simulated driver, and a collector that the tests script.

mod certificates;
mod collector;
mod dcgm;
mod driver;
mod faults;
mod fidelity;
mod jobs;
mod metrics;
mod node;
mod old_driver;
mod opening;
mod pace;
mod probe;
mod release;
mod signals;
mod spool;
mod stopping;
mod top;

use collector::{Collector, Seen};
use node::Node;
use prost::Message;

/// An agent says within this time that something is wrong with a GPU, seconds.
const SAID: f64 = 5.0;
/// Patience for everything else, seconds.
const PATIENCE: f64 = 20.0;

fn power_rows(seen: &Seen) -> usize {
    seen.values("power_watts").count()
}

#[tokio::test]
async fn streams_what_the_driver_tells() {
    let collector = Collector::start().await;
    let _node = Node::start("", &collector.address);
    let seen = collector.wait(PATIENCE, |seen| power_rows(seen) >= 8 * 20 && seen.values("sm_active_ratio").count() >= 16).await;
    let hello = seen.hello.as_ref().unwrap();
    assert_eq!(hello.node, "testnode");
    assert!(!hello.boot.is_empty());
    assert_eq!(seen.gpus(), 8);
    assert!(seen.values("power_watts").all(|(entity, _, milliwatts)| entity >= 1 && (20_000..800_000).contains(&milliwatts)));
    for name in
        ["temperature_celsius", "memory_temperature_celsius", "hbm_used_bytes", "sm_clock_mhz", "energy_joules_total", "up"]
    {
        assert!(seen.values(name).count() >= 8, "{name} was not sent");
    }
    // Stamps of one GPU's power are 100 ms apart, give or take what a busy machine does.
    let mut stamps: Vec<i64> = seen.values("power_watts").filter(|row| row.0 == 1).map(|row| row.1).collect();
    stamps.dedup();
    let mut gaps: Vec<i64> = stamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    assert!((50_000..200_000).contains(&gaps[gaps.len() / 2]), "{gaps:?}");
}

#[tokio::test]
async fn a_broken_stream_loses_nothing() {
    let collector = Collector::start().await;
    let _node = Node::start("", &collector.address);
    collector.wait(PATIENCE, |seen| seen.sequences.len() >= 8).await;
    collector.drop_streams();
    collector.wait(PATIENCE, |seen| seen.streams >= 2 && seen.sequences.iter().max() >= Some(&30)).await;
    let seen = collector.seen();
    let mut got = seen.sequences.clone();
    got.sort_unstable();
    got.dedup();
    let whole: Vec<u64> = (1..=*got.last().unwrap()).collect();
    assert_eq!(got, whole);
}

/// What is too large for the collector is dropped and counted; the rest goes on.
#[tokio::test]
async fn no_message_is_larger_than_the_collector_takes() {
    const MOST: usize = 300;
    let collector = Collector::start_narrow(MOST as u32).await;
    let node = Node::start("", &collector.address);
    let gap = |seen: &Seen| seen.sequences.windows(2).any(|pair| pair[1] > pair[0] + 1);
    let seen = collector.wait(PATIENCE, |seen| gap(seen) && power_rows(seen) >= 8 * 10).await;
    assert!(seen.batches().iter().all(|batch| batch.encoded_len() <= MOST));
    assert_eq!(seen.streams, 1);
    let dropped = "gridstep_agent_batches_dropped_total{collector=\"first\",reason=\"too_large\"}";
    assert!(metrics::value(&node.metrics(), dropped) > Some(0.0));
}

#[tokio::test]
async fn a_batch_that_is_refused_holds_up_no_other() {
    let collector = Collector::start().await;
    collector.refuse(6);
    let _node = Node::start("", &collector.address);
    let seen = collector.wait(PATIENCE, |seen| seen.sequences.iter().max() >= Some(&20)).await;
    assert_eq!(seen.refusals, 2);
    let got: std::collections::BTreeSet<u64> = seen.sequences.iter().copied().collect();
    let rest: Vec<u64> = (1..=20).filter(|sequence| !got.contains(sequence)).collect();
    assert_eq!(rest, [6]);
}

/// What was never read has no identity, and yet a place that is spoken of.
#[tokio::test]
async fn gpus_that_hang_from_the_start_are_said() {
    let collector = Collector::start().await;
    let fault = |gpu| format!("[[fault]]\nkind = \"hung_call\"\nnode = 0\ngpu = {gpu}\nstart = 0.0\n");
    let _node = Node::start(&(0..8).map(fault).collect::<String>(), &collector.address);
    let seen = collector.wait(PATIENCE, |seen| seen.values("up").any(|row| row.2 == 0)).await;
    assert_eq!(seen.refusals, 0);
}

#[tokio::test]
async fn a_lost_gpu_is_said_and_the_others_go_on() {
    let collector = Collector::start().await;
    let _node = Node::start("[[fault]]\nkind = \"lost_gpu\"\nnode = 0\ngpu = 2\nstart = 3.0\n", &collector.address);
    let seen = collector.wait(PATIENCE, |seen| seen.event("gpu_lost", 3).is_some()).await;
    assert!(seen.event("gpu_lost", 3).unwrap() < 3.0 + SAID);
    let before = power_rows(&seen);
    collector
        .wait(PATIENCE, |seen| power_rows(seen) > before + 7 * 10 && seen.values("up").any(|row| row.0 == 3 && row.2 == 0))
        .await;
}

#[tokio::test]
async fn a_hanging_call_is_said_and_the_others_come_back() {
    let collector = Collector::start().await;
    let _node = Node::start("[[fault]]\nkind = \"hung_call\"\nnode = 0\ngpu = 5\nstart = 3.0\n", &collector.address);
    let seen = collector.wait(PATIENCE, |seen| seen.event("driver_hung", 6).is_some()).await;
    assert!(seen.event("driver_hung", 6).unwrap() < 3.0 + SAID);
    let before = power_rows(&seen);
    collector
        .wait(PATIENCE, |seen| power_rows(seen) > before + 7 * 10 && seen.values("up").any(|row| row.0 == 6 && row.2 == 0))
        .await;
}

/// Readers hang one after the other: the node says so, and not only one GPU after the other.
#[tokio::test]
async fn a_driver_that_hangs_for_all_gpus_is_said() {
    let collector = Collector::start().await;
    let fault = |gpu| format!("[[fault]]\nkind = \"hung_call\"\nnode = 0\ngpu = {gpu}\nstart = 3.0\n");
    let _node = Node::start(&(0..8).map(fault).collect::<String>(), &collector.address);
    let down = |seen: &Seen| (1..=8).all(|entity| seen.values("up").any(|row| row.0 == entity && row.2 == 0));
    let seen = collector.wait(PATIENCE, |seen| seen.event("driver_hung", 0).is_some() && down(seen)).await;
    assert!(seen.event("driver_hung", 0).unwrap() < 3.0 + SAID);
}

/// Calls return again after 20 s; the GPU is tried 30 s after it hung.
#[tokio::test]
async fn a_gpu_that_hung_is_tried_again() {
    let collector = Collector::start().await;
    let _node = Node::start("[[fault]]\nkind = \"hung_call\"\nnode = 0\ngpu = 5\nstart = 1.0\nend = 20.0\n", &collector.address);
    collector.wait(PATIENCE, |seen| seen.event("driver_hung", 6).is_some()).await;
    let up = |seen: &Seen| seen.values("up").filter(|row| row.0 == 6).last().is_some_and(|row| row.2 == 1);
    collector.wait(3.0 * PATIENCE, |seen| seen.event("driver_back", 6).is_some() && up(seen)).await;
}

#[tokio::test]
async fn a_gpu_that_is_lost_from_the_start_is_said() {
    let collector = Collector::start().await;
    let _node = Node::start("[[fault]]\nkind = \"lost_gpu\"\nnode = 0\ngpu = 0\nstart = 0.0\n", &collector.address);
    collector.wait(PATIENCE, |seen| seen.event("gpu_lost", 1).is_some() && power_rows(seen) > 7 * 10).await;
}

#[tokio::test]
async fn streams_over_mutual_tls_and_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let own = certificates::Authority::new();
    let collector = Collector::start_mutual_tls(own.server()).await;
    let other = certificates::Authority::new();
    let _refused = Node::start_with("", &collector.address, &own.uplink_with_identity_of(&other, folder.path()));
    let _node = Node::start_with("", &collector.address, &own.uplink_with_identity_of(&own, folder.path()));
    let seen = collector.wait(PATIENCE, |seen| power_rows(seen) > 50).await;
    assert_eq!(seen.streams, 1);
}

#[test]
fn insecure_addresses_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, "[uplink]\nendpoint = \"http://10.0.0.1:19812\"\n[http]\nlisten = \"0.0.0.0:19810\"\n").unwrap();
    for command in ["run", "check-config"] {
        let agent = std::process::Command::new(env!("CARGO_BIN_EXE_gridstep-agent"));
        let output = { agent }.arg(command).arg("--config").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64));
        assert!(said.contains("uplink.endpoint") && said.contains("http.listen"), "{said}");
    }
}

#[tokio::test]
async fn a_silent_reader_is_said_and_replaced() {
    let collector = Collector::start().await;
    let node = Node::start("", &collector.address);
    collector.wait(PATIENCE, |seen| power_rows(seen) > 50).await;
    let stopped = node::scenario_start();
    node.signal_reader("-STOP");
    // None of its GPUs is known to be up any more.
    let down = |seen: &Seen| (1..=8).all(|entity| seen.values("up").any(|row| row.0 == entity && row.2 == 0));
    let seen = collector.wait(PATIENCE, |seen| seen.event("driver_hung", 0).is_some() && down(seen)).await;
    assert!(seen.event("driver_hung", 0).unwrap() + seen.start() < stopped + SAID);
    let before = power_rows(&seen);
    collector.wait(PATIENCE, |seen| seen.event("driver_back", 0).is_some() && power_rows(seen) > before + 50).await;
}

#[tokio::test]
async fn a_killed_reader_is_replaced() {
    let collector = Collector::start().await;
    let node = Node::start("", &collector.address);
    collector.wait(PATIENCE, |seen| power_rows(seen) > 50).await;
    node.signal_reader("-KILL");
    let seen = collector.wait(PATIENCE, |seen| seen.event("driver_hung", 0).is_some()).await;
    let before = power_rows(&seen);
    collector.wait(PATIENCE, |seen| seen.event("driver_back", 0).is_some() && power_rows(seen) > before + 50).await;
}
