//! The audit of the nodes' clocks, a few nodes a second ([`crate::align::clocks`]).

use super::super::Judge;
use super::places::Unit;
use crate::align::clocks::{ClockView, lag};
use crate::fleet::{NodeMetric, NodeSlot};
use crate::power::Basis;
use gridstep_wire::Micros;
use std::collections::{BTreeMap, VecDeque};

/// Every node's lag is looked at once in so many seconds.
const ROUND: usize = 120;
/// Seconds between two looks.
const PERIOD_US: i64 = 1_000_000;

fn column(row: &[f32], unit: usize) -> f64 {
    row.get(unit).copied().map_or(0.0, f64::from)
}

/// By job: some forty of its units, and what they do together.
#[derive(Default)]
struct Common(BTreeMap<u32, (Vec<usize>, Vec<f64>)>);

impl Common {
    fn of(&mut self, job: u32, units: &[Unit], rows: &VecDeque<Vec<f32>>) -> &(Vec<usize>, Vec<f64>) {
        self.0.entry(job).or_insert_with(|| {
            let all: Vec<usize> = (0..units.len()).filter(|&unit| units[unit].job == Some(job)).collect();
            let some: Vec<usize> = all.iter().copied().step_by(all.len().div_ceil(40).max(1)).collect();
            let whole = rows.iter().map(|row| some.iter().map(|&unit| column(row, unit)).sum()).collect();
            (some, whole)
        })
    }
}

impl Judge {
    pub(super) fn audit_clocks(&mut self, now: Micros) {
        if self.swings.audit_due.is_some_and(|due| now < due) {
            return;
        }
        self.swings.audit_due = Some(now + PERIOD_US);
        let nodes = self.fleet.nodes().len();
        self.swings.clocks.resize(nodes, ClockView::default());
        let second = now.0.div_euclid(PERIOD_US);
        if second.rem_euclid(5) == 0 {
            self.audit_arrivals(nodes);
        }
        let basis = self.basis.unwrap_or_default();
        if basis == Basis::Gpu && self.gpu_power.sampling().slowest <= 0.25 {
            self.audit_lags();
        }
        let at = self.swings.history().last().unwrap_or(now);
        self.watch_clocks(at);
        if second.rem_euclid(10) == 0 {
            let error = self.clock_error();
            self.gpu_power.set_clock_error(error);
        }
    }

    fn audit_arrivals(&mut self, nodes: usize) {
        let swings = &mut self.swings;
        let node_of = &swings.node_of;
        let offsets = swings.arrivals.offsets(nodes, |source| node_of.get(source).map_or(usize::MAX, |&node| node as usize));
        let stated = self.latest_node.as_ref().map(|second| second.column(NodeMetric::ClockError as usize));
        for (node, (view, offset)) in swings.clocks.iter_mut().zip(offsets).enumerate() {
            view.arrival_offset_seconds = offset;
            let stated = stated.and_then(|stated| stated.get(node).copied()).filter(|error| !error.is_nan());
            view.stated_error_seconds = stated.or(view.stated_error_seconds);
        }
    }

    fn audit_lags(&mut self) {
        let swings = &mut self.swings;
        let units = &swings.places.units;
        if units.is_empty() {
            return;
        }
        let mut common = Common::default();
        for _ in 0..units.len().div_ceil(ROUND) {
            let unit = swings.audit_next % units.len();
            swings.audit_next = unit + 1;
            let Some(job) = units[unit].job else { continue };
            let rows = swings.units.bins();
            let own: Vec<f64> = rows.iter().map(|row| column(row, unit)).collect();
            let (others, whole) = common.of(job, units, rows);
            // Less what is its own.
            let is_part = others.contains(&unit);
            let whole: Vec<f64> = whole.iter().zip(&own).map(|(whole, own)| if is_part { whole - own } else { *whole }).collect();
            let alone = others.len() == usize::from(is_part);
            let node = units[unit].node as usize;
            if let Some(view) = swings.clocks.get_mut(node)
                && !alone
            {
                // What cannot be told now may have been told before.
                view.lag_seconds = lag(&own, &whole).map(|bins| bins * 0.1).or(view.lag_seconds);
            }
        }
    }

    /// Standard deviation of the lags, by their median (a node whose clock is altogether wrong says nothing of the others), as far as it is
    /// more than a tenth of a bin: they are not known better.
    fn clock_error(&self) -> f64 {
        let mut lags: Vec<f64> = self.swings.clocks.iter().filter_map(|view| view.lag_seconds.map(f64::abs)).collect();
        if lags.len() < 4 {
            return 0.0;
        }
        lags.sort_by(f64::total_cmp);
        let deviation = 1.48 * lags[lags.len() / 2];
        (deviation * deviation - 1e-4).max(0.0).sqrt()
    }

    /// What is known of a node's clock.
    pub fn clock(&self, node: NodeSlot) -> ClockView {
        self.swings.clocks.get(node.0 as usize).copied().unwrap_or_default()
    }
}
