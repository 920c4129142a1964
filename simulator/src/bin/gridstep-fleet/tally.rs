//! What was sent and what was said of it, of all nodes together.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connected: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) values: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) durable: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// Batches that a node made too late to keep its time: this machine is overloaded.
    pub(crate) behind: AtomicU64,
}

/// Batches but for values and bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    connected: u64,
    connects: u64,
    values: u64,
    bytes: u64,
    batches: u64,
    received: u64,
    durable: u64,
    lost: u64,
    behind: u64,
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Tally {
    pub(crate) fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connected: get(&self.connected),
            connects: get(&self.connects),
            values: get(&self.values),
            bytes: get(&self.bytes),
            batches: get(&self.batches),
            received: get(&self.received),
            durable: get(&self.durable),
            lost: get(&self.lost),
            behind: get(&self.behind),
        }
    }

    /// Says so often how it stands.
    pub(crate) async fn tell(&self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let now = self.counts();
            eprintln!(
                "{} streams, {:.1} M values and {:.1} MB sent, {} batches made, {} received, {} durable, {} lost, {} ticks late",
                now.connected,
                now.values as f64 / 1e6,
                now.bytes as f64 / 1e6,
                now.batches,
                now.received,
                now.durable,
                now.lost,
                now.behind
            );
        }
    }
}
