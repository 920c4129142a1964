//! Boards, nodes, meter: three figures for the same watts, and how they hang together.
//!
//! A node draws more than its boards (CPUs, network, fans, losses): P_node = a + b · P_boards, fitted by node where whole nodes are measured;
//! where they are not, the fleet's line stands in. The site's meters read P_meter = A + B · ΣP_node. Both are least squares over means of
//! ten seconds, older ones forgotten with an hour's time constant. A slope that the data do not show (a node that draws the same all
//! the time) is drawn towards that of all nodes together.

use super::BIN_US;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Means are over so long, microseconds.
const BLOCK_US: i64 = 10_000_000;
/// What stays of older blocks: e⁻¹ after an hour.
const STAYS: f64 = 1.0 - 10.0 / 3600.0;
/// Slope of a node of which nothing is known (facts/power-swings.md §4: eight boards of 600 W in a node of 7 to 8 kW).
const USUAL_GAIN: f64 = 1.1;
/// A slope is taken as the data say where they vary by so much of their mean.
const VARIED: f64 = 0.02;
/// Blocks that a calibration rests on at least.
const LEAST: f64 = 3.0;
/// Open blocks: power comes to the grids at most so many blocks apart.
const OPEN: usize = 8;

/// What was fitted: y = offset + gain · x.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub offset_watts: f64,
    pub gain: f64,
    /// Root mean square of what the line leaves ÷ the mean of y.
    pub error_ratio: f64,
    /// What it rests on, seconds (older ones count less).
    pub seconds: f64,
}

impl Calibration {
    pub fn apply(&self, watts: f64) -> f64 {
        self.offset_watts + self.gain * watts
    }
}

/// Means and moments about them, of the blocks so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Moments {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Moments {
    fn push(&mut self, x: f64, y: f64) {
        for moment in [&mut self.weight, &mut self.xx, &mut self.xy, &mut self.yy] {
            *moment *= STAYS;
        }
        self.weight += 1.0;
        let (dx, dy) = (x - self.x, y - self.y);
        self.x += dx / self.weight;
        self.y += dy / self.weight;
        self.xx += dx * (x - self.x);
        self.xy += dx * (y - self.y);
        self.yy += dy * (y - self.y);
    }

    /// The line, its slope drawn towards `usual` as far as x has not varied.
    fn line(&self, usual: f64) -> Option<Calibration> {
        if self.weight < LEAST || self.y <= 0.0 {
            return None;
        }
        let pull = self.weight * (VARIED * self.x).powi(2) / 10.0;
        let gain = (self.xy + pull * usual) / (self.xx + pull).max(1e-9);
        let residual = (self.yy - 2.0 * gain * self.xy + gain * gain * self.xx).max(0.0) / self.weight;
        let seconds = self.weight * BLOCK_US as f64 / 1e6;
        Some(Calibration { offset_watts: self.y - gain * self.x, gain, error_ratio: residual.sqrt() / self.y, seconds })
    }
}

/// Sums of one block, by node: (boards, whole node), watts · bins and bins.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Block {
    number: i64,
    boards: Vec<(f64, u16)>,
    nodes: Vec<(f64, u16)>,
    meter: (f64, u16),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Calibrator {
    by_node: Vec<Moments>,
    meter: Moments,
    open: VecDeque<Block>,
    /// Slope of all nodes together.
    common_gain: Option<f64>,
    common_offset: f64,
}

fn add(cells: &mut Vec<(f64, u16)>, node: usize, watts: f64) {
    if cells.len() <= node {
        cells.resize(node + 1, (0.0, 0));
    }
    cells[node] = (cells[node].0 + watts, cells[node].1.saturating_add(1));
}

fn mean(cell: (f64, u16)) -> Option<f64> {
    // Half of a block is not the block.
    (i64::from(cell.1) * 2 >= BLOCK_US / BIN_US).then(|| cell.0 / f64::from(cell.1))
}

impl Calibrator {
    /// Watts of a node's boards in a bin, all of them measured.
    pub fn put_boards(&mut self, at: Micros, node: usize, watts: f64) {
        if let Some(block) = self.block(at) {
            add(&mut block.boards, node, watts);
        }
    }

    /// Watts of a whole node in a bin.
    pub fn put_node(&mut self, at: Micros, node: usize, watts: f64) {
        if let Some(block) = self.block(at) {
            add(&mut block.nodes, node, watts);
        }
    }

    /// Watts of all meters together in a bin.
    pub fn put_meter(&mut self, at: Micros, watts: f64) {
        if let Some(block) = self.block(at) {
            block.meter = (block.meter.0 + watts, block.meter.1 + 1);
        }
    }

    fn block(&mut self, at: Micros) -> Option<&mut Block> {
        let number = at.0.div_euclid(BLOCK_US);
        if self.open.back().is_none_or(|newest| newest.number < number) {
            self.open.push_back(Block { number, ..Block::default() });
            if self.open.len() > OPEN {
                let oldest = self.open.pop_front()?;
                self.learn(&oldest);
            }
        }
        self.open.iter_mut().rev().find(|block| block.number == number)
    }

    fn learn(&mut self, block: &Block) {
        let nodes = block.boards.len().max(block.nodes.len());
        self.by_node.resize(nodes.max(self.by_node.len()), Moments::default());
        let cell = |cells: &[(f64, u16)], node: usize| cells.get(node).copied().and_then(mean);
        for (node, moments) in self.by_node.iter_mut().enumerate() {
            if let (Some(boards), Some(whole)) = (cell(&block.boards, node), cell(&block.nodes, node)) {
                moments.push(boards, whole);
            }
        }
        let own = |moment: fn(&Moments) -> f64| self.by_node.iter().map(moment).sum::<f64>();
        let (xx, xy) = (own(|moments| moments.xx), own(|moments| moments.xy));
        let varied = own(|moments| moments.weight * (VARIED * moments.x).powi(2));
        self.common_gain = (xx + varied > 0.0).then(|| (xy + varied * USUAL_GAIN) / (xx + varied));
        let measured: Vec<Moments> = self.by_node.iter().filter(|moments| moments.weight >= LEAST).copied().collect();
        let gain = self.common_gain.unwrap_or(USUAL_GAIN);
        self.common_offset =
            measured.iter().map(|moments| moments.y - gain * moments.x).sum::<f64>() / measured.len().max(1) as f64;
        if let Some(meter) = mean(block.meter) {
            let whole = (0..nodes).map(|node| match (cell(&block.nodes, node), cell(&block.boards, node)) {
                (Some(whole), _) => whole,
                (None, Some(boards)) => self.estimate(node, boards),
                (None, None) => 0.0,
            });
            let nodes: f64 = whole.sum();
            // Before any node is known, what the others draw is a guess that would stay.
            if nodes > 0.0 && (block.nodes.is_empty() || !measured.is_empty()) {
                self.meter.push(nodes, meter);
            }
        }
    }

    /// From the watts of a node's boards to those of the node. None: neither has been measured together.
    pub fn node(&self, node: usize) -> Option<Calibration> {
        self.by_node.get(node)?.line(self.common_gain.unwrap_or(USUAL_GAIN))
    }

    /// Watts of a node whose boards draw this much: by its own line, or else by that of all nodes.
    pub fn estimate(&self, node: usize, boards_watts: f64) -> f64 {
        match self.node(node) {
            Some(own) => own.apply(boards_watts),
            None => self.common_offset + self.common_gain.unwrap_or(USUAL_GAIN) * boards_watts,
        }
    }

    /// From the sum of the nodes to that of the meters.
    pub fn meter(&self) -> Option<Calibration> {
        self.meter.line(1.0)
    }

    /// Nodes that have been measured beside their boards.
    pub fn nodes(&self) -> usize {
        self.by_node.iter().filter(|moments| moments.weight >= LEAST).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_meter_are_found_again() {
        let mut calibrator = Calibrator::default();
        for bin in 0..6000i64 {
            let at = Micros(bin * BIN_US + BIN_US / 2);
            let swing = if bin / 300 % 2 == 0 { 0.0 } else { 1500.0 };
            let boards = |node: usize| 3000.0 + 100.0 * node as f64 + if node == 3 { 0.0 } else { swing };
            let whole = |node: usize| 900.0 + 50.0 * node as f64 + 1.2 * boards(node);
            for node in 0..5 {
                calibrator.put_boards(at, node, boards(node));
                // The last one has no meter of its own.
                if node < 4 {
                    calibrator.put_node(at, node, whole(node));
                }
            }
            calibrator.put_meter(at, 2000.0 + 1.05 * (0..5).map(whole).sum::<f64>());
        }
        let first = calibrator.node(0).unwrap();
        assert!((first.gain - 1.2).abs() < 0.01 && (first.offset_watts - 900.0).abs() < 30.0, "{first:?}");
        // One that never varies has its level right, and the slope of the others.
        let steady = calibrator.node(3).unwrap();
        assert!((steady.gain - 1.2).abs() < 0.02 && (steady.apply(3300.0) - 5010.0).abs() < 1.0, "{steady:?}");
        assert!((calibrator.estimate(4, 3400.0) / 5180.0 - 1.0).abs() < 0.03);
        let meter = calibrator.meter().unwrap();
        assert!((meter.gain - 1.05).abs() < 0.02 && meter.error_ratio < 0.01, "{meter:?}");
        assert_eq!((calibrator.nodes(), calibrator.node(4)), (4, None));
    }
}
