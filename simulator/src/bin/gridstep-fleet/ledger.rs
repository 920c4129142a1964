//! What a collector has called durable, as the fleet heard it: whoever kills both holds the recording against that (deploy/bench/kill.py).

use anyhow::Context;
use gridstep_wire::block;
use gridstep_wire::pb::Batch;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

/// A line for each batch: node, GPUs, then the stamps of their power. A line that is written outlives this process.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<File>);

impl Ledger {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self(Mutex::new(file.with_context(|| format!("open ledger {}", path.display()))?)))
    }

    pub(crate) fn durable(&self, node: &str, gpus: u32, batch: &Batch) {
        let Some(power) = batch.blocks.first() else { return };
        let stamps = block::rows(power, batch.base_us).filter(|row| row.0 == 1).map(|row| row.1);
        let stamps: Vec<String> = stamps.map(|stamp| stamp.to_string()).collect();
        if stamps.is_empty() {
            return;
        }
        let line = format!("{node} {gpus} {}\n", stamps.join(" "));
        let written = self.0.lock().map(|mut file| file.write_all(line.as_bytes()));
        if !matches!(written, Ok(Ok(()))) {
            eprintln!("ledger: a line is missing");
        }
    }
}
