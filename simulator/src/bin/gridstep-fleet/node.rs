//! What a node measures, and its batches.

use crate::Arguments;
use gridstep_wire::block::BlockBuilder;
use gridstep_wire::catalog::{self, Rate};
use gridstep_wire::pb;
use std::f64::consts::TAU;

const STAMP_ERROR_US: u32 = 2_000;

/// Small, quick, and not good: SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The metrics that are sent once a second: id and what a GPU has of it, as an integer on the wire.
fn swept(count: usize) -> Vec<(u32, i64)> {
    let usual = |name: &str| match name {
        "job" => 1,
        "up" => 1,
        "temperature_celsius" => 62,
        "memory_temperature_celsius" => 78,
        "power_average_watts" | "power_limit_watts" => 700_000,
        "sm_clock_mhz" => 1_755,
        "memory_clock_mhz" => 2_619,
        "gpu_utilization_ratio" => 100,
        "sm_active_ratio" => 8_600,
        "tensor_active_ratio" => 5_400,
        "dram_active_ratio" => 3_100,
        "hbm_used_bytes" => 74 << 30,
        "pcie_link_generation" => 5,
        "pcie_link_width" => 16,
        "nvlink_links_up" => 18,
        name if name.ends_with("bytes_per_second") => 42_000_000_000,
        name if name.ends_with("joules_total") => 1_000_000_000,
        _ => 0,
    };
    // Its job and whether it is up are always told.
    let (told, others): (Vec<_>, Vec<_>) =
        catalog::GPU.iter().zip(1..).partition(|(metric, _)| matches!(metric.name, "job" | "up"));
    let swept = others.into_iter().filter(|(metric, _)| metric.rate != Rate::Power);
    told.into_iter().chain(swept).take(count).map(|(metric, id)| (id, usual(metric.name))).collect()
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) gpus: u32,
    /// Microseconds between readings of power.
    power_us: i64,
    step_every: f64,
    swept: Vec<(u32, i64)>,
    columns: Vec<u32>,
    random: Random,
    pub(crate) sequence: u64,
    /// Instants that were sent last.
    power_at: i64,
    swept_at: i64,
    values: Vec<i64>,
}

impl Node {
    pub(crate) fn new(index: u32, arguments: &Arguments, now: i64) -> Self {
        let mut random = Random::new(u64::from(index) + 1);
        let swept = swept(arguments.metrics);
        let power_us = 1_000_000 / i64::from(arguments.power_hertz.max(1));
        Self {
            name: format!("node{index:05}"),
            gpus: arguments.gpus,
            power_us,
            step_every: arguments.step_every,
            columns: swept.iter().map(|metric| metric.0).collect(),
            values: swept.iter().map(|metric| metric.1).collect(),
            swept,
            sequence: 0,
            // Nodes do not read at the same instants.
            power_at: now + (random.unit() * power_us as f64) as i64,
            swept_at: now + (random.unit() * 1e6) as i64,
            random,
        }
    }

    pub(crate) fn declare(&self) -> pb::Declare {
        let uuid = |index: u32| format!("GPU-{}-{index}", self.name);
        let gpu = |index| pb::Gpu { index, uuid: uuid(index), model: "NVIDIA H100 80GB HBM3".into(), ..Default::default() };
        pb::Declare {
            metrics: catalog::GPU.iter().zip(1..).map(|(metric, id)| metric.declare(id)).collect(),
            entities: (0..self.gpus)
                .map(|index| pb::Entity { id: index + 1, what: Some(pb::entity::What::Gpu(gpu(index))) })
                .collect(),
            jobs: vec![pb::Job { id: 1, name: "pretrain".into(), ..Default::default() }],
        }
    }

    /// Everything that was read up to now, and how many values that is.
    pub(crate) fn batch(&mut self, now: i64) -> (pb::Batch, u64) {
        self.sequence += 1;
        let (power, readings) = self.power(now);
        let mut blocks = vec![power];
        let mut values = readings;
        if self.swept_at + 1_000_000 <= now {
            self.swept_at += 1_000_000;
            blocks.push(self.sweep(now));
            values += u64::from(self.gpus) * self.columns.len() as u64;
        }
        (pb::Batch { sequence: self.sequence, base_us: now, blocks, ..Default::default() }, values)
    }

    fn power(&mut self, now: i64) -> (pb::Block, u64) {
        let mut block = BlockBuilder::new(now, &[1], STAMP_ERROR_US);
        let first = self.power_at;
        let count = (now - first).div_euclid(self.power_us).max(0);
        for gpu in 1..=self.gpus {
            for reading in 1..=count {
                let at = first + reading * self.power_us;
                block.push(gpu, at, [Some(self.milliwatts(at))]);
            }
        }
        self.power_at += count * self.power_us;
        (block.finish(), u64::from(self.gpus) * count as u64)
    }

    fn milliwatts(&mut self, at: i64) -> i64 {
        let t = at as f64 / 1e6;
        let level = match self.step_every {
            every if every > 0.0 => 400.0 + 250.0 * Random::new((t / every) as u64).unit(),
            _ => 500.0,
        };
        ((level + 4.0 * (TAU * 0.3 * t).sin() + 30.0 * (self.random.unit() - 0.5)) * 1000.0) as i64
    }

    fn sweep(&mut self, now: i64) -> pb::Block {
        let mut block = BlockBuilder::new(now, &self.columns, STAMP_ERROR_US);
        for gpu in 1..=self.gpus {
            for (value, (_, usual)) in self.values.iter_mut().zip(&self.swept) {
                // A percent of it, for what is more than a state.
                let reach = (usual / 100) as f64;
                *value = usual + (reach * (self.random.unit() - 0.5)) as i64;
            }
            block.push(gpu, self.swept_at, self.values.iter().map(|&value| Some(value)));
        }
        block.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use gridstep_wire::block;

    #[test]
    fn a_second_holds_ten_readings_and_one_sweep_of_each_gpu() {
        let arguments = Arguments::parse_from(["gridstep-fleet"]);
        let mut node = Node::new(3, &arguments, 0);
        let (mut values, mut rows) = (0, 0);
        for tick in 0..400 {
            let (batch, count) = node.batch(tick * 250_000);
            values += count;
            for table in &batch.blocks {
                block::validate(table).unwrap();
                rows += table.dt_us.len();
            }
        }
        // The first and the last second are not whole.
        let seconds = 99..=100;
        assert!(seconds.contains(&(values / (8 * 40))), "{values}");
        assert!(seconds.contains(&(rows as u64 / (8 * 11))), "{rows}");
    }
}
