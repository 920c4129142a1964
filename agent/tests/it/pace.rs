//! The budget for time in the driver, and where power comes from.

use crate::collector::{Collector, Seen};
use crate::node::Node;
use crate::{PATIENCE, power_rows};

/// Microseconds between stamps of the first GPU's power, half of the time, of rows that came after so many.
fn spacing(seen: &Seen, after: usize) -> i64 {
    let stamps: Vec<i64> = seen.values("power_watts").skip(after).filter(|row| row.0 == 1).map(|row| row.1).collect();
    let mut gaps: Vec<i64> = stamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().unwrap_or_default()
}

/// Bound on the error of stamps in the last batch with power, less that of the clock.
fn stamp_error(seen: &Seen) -> i64 {
    let clock = seen.values("clock_error_seconds").last().map_or(0, |row| row.2);
    let of = |batch: &&gridstep_wire::pb::Batch| !seen.values_of(batch, "power_watts").is_empty();
    let batch = seen.batches().iter().rev().find(of).expect("a batch with power");
    let errors = batch.blocks.iter().filter(|block| block.columns.len() == 1).map(|block| i64::from(block.stamp_error_us));
    errors.min().expect("a block of power alone") - clock
}

fn period(gpu: u32, source: &str) -> String {
    format!("gridstep_agent_power_period_seconds{{gpu=\"{gpu}\",source=\"{source}\"}}")
}

/// Calls that take 100 µs: 10 of power and a sweep's twenty a second are beyond 1 ms; 2 a second, and rarer sweeps, are not.
#[tokio::test]
async fn slow_calls_are_made_less_often() {
    let collector = Collector::start().await;
    let node = Node::start_reading("[cost]\ncpu_us = 100\n", &collector.address, "power_source = \"field\"");
    node.shows(&period(7, "field"), |period| period == 0.5).await;
    node.shows("gridstep_agent_sweep_period_seconds{gpu=\"7\"}", |period| period > 1.0).await;
    node.says("power every 500 ms from the field", 1).await;
    let before = power_rows(&collector.seen());
    let seen = collector.wait(2.0 * PATIENCE, |seen| power_rows(seen) >= before + 8 * 8).await;
    let spacing = spacing(&seen, before);
    assert!((400_000..700_000).contains(&spacing), "{spacing} µs");
    // GPUs take turns: not all in one tick.
    let last: Vec<i64> = (1..=8).map(|gpu| seen.values("power_watts").filter(|row| row.0 == gpu).last().unwrap().1).collect();
    let (first, last) = (last.iter().min().unwrap(), last.iter().max().unwrap());
    assert!(last - first > 150_000, "all within {} µs", last - first);
}

#[tokio::test]
async fn cheap_calls_are_made_as_often_as_configured() {
    let collector = Collector::start().await;
    let node = Node::start_reading("", &collector.address, "power_source = \"field\"");
    node.shows("gridstep_agent_sweep_period_seconds{gpu=\"0\"}", |period| period == 1.0).await;
    let metrics = node.metrics();
    assert_eq!(crate::metrics::value(&metrics, &period(0, "field")), Some(0.1), "{metrics}");
}

#[tokio::test]
async fn a_reload_takes_up_what_the_file_says() {
    let collector = Collector::start().await;
    let node = Node::start_reading("", &collector.address, "power_source = \"field\"");
    node.shows(&period(0, "field"), |period| period == 0.1).await;
    node.reconfigure("power_source = \"field\"", "power_source = \"field\"\npower_period = \"200ms\"");
    node.signal("-HUP");
    node.says("agent starts", 2).await;
    node.shows(&period(0, "field"), |period| period == 0.2).await;
}

/// The samples of the simulation are the publications, with their stamps: they are taken up, by whatever clock stamps them.
async fn samples_are_taken_up(scenario: &str) {
    let collector = Collector::start().await;
    let node = Node::start(scenario, &collector.address);
    node.shows(&period(0, "samples"), |period| (0.095..0.105).contains(&period)).await;
    let before = power_rows(&collector.seen());
    let seen = collector.wait(PATIENCE, |seen| power_rows(seen) >= before + 8 * 40).await;
    let spacing = spacing(&seen, before);
    assert!((95_000..105_000).contains(&spacing), "{spacing} µs");
    // No publication is missing or told twice.
    let rows: Vec<i64> = seen.values("power_watts").filter(|row| row.0 == 1).map(|row| row.1).collect();
    let own = &rows[rows.len() - 30..];
    assert!(own.windows(2).all(|pair| (90_000..110_000).contains(&(pair[1] - pair[0]))), "{own:?}");
    let error = stamp_error(&seen);
    assert!(error < 50_000, "{error} µs is no better than polling");
    let age = crate::node::scenario_start() * 1e6 - *rows.last().unwrap() as f64;
    assert!(age < 2e6, "{age} µs old");
}

#[tokio::test]
async fn samples_of_the_real_clock_are_taken_up() {
    samples_are_taken_up("sample_clock = \"realtime\"").await;
}

#[tokio::test]
async fn samples_of_the_time_since_boot_are_taken_up() {
    samples_are_taken_up("sample_clock = \"boottime\"").await;
}

#[tokio::test]
async fn averages_are_not_taken_for_power() {
    let collector = Collector::start().await;
    let node = Node::start("[sensor]\nsamples = \"average\"", &collector.address);
    node.says("the driver's samples are not the instantaneous power", 1).await;
    assert_eq!(crate::metrics::value(&node.metrics(), &period(0, "field")), Some(0.1));
    assert!(!node.metrics().contains("source=\"samples\""));
}

#[tokio::test]
async fn samples_that_stop_are_left_for_the_field() {
    let collector = Collector::start().await;
    let fault = "[[fault]]\nkind = \"samples_stop\"\nnode = 0\nstart = 15.0\n";
    let node = Node::start(fault, &collector.address);
    node.shows(&period(0, "samples"), |period| period > 0.0).await;
    node.says("the driver's samples have stopped", 1).await;
    node.shows(&period(0, "field"), |period| period == 0.1).await;
    let before = power_rows(&collector.seen());
    collector.wait(PATIENCE, |seen| power_rows(seen) >= before + 8 * 10).await;
}
