//! The audit of the nodes' clocks, a few nodes a second ([`crate::align::clocks`]).

use super::super::Judge;
use crate::align::clocks::{ClockView, lag};
use crate::fleet::{NodeMetric, NodeSlot};
use crate::power::Basis;
use gridstep_wire::Micros;

/// Every node's lag is looked at once in so many seconds.
const ROUND: usize = 60;
/// Seconds between two looks.
const PERIOD_US: i64 = 1_000_000;

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
        for _ in 0..units.len().div_ceil(ROUND) {
            let unit = swings.audit_next % units.len();
            swings.audit_next = unit + 1;
            let Some(job) = units[unit].job else { continue };
            let rows = swings.units.bins();
            let column = |row: &Vec<f32>, unit: usize| row.get(unit).copied().map_or(0.0, f64::from);
            let own: Vec<f64> = rows.iter().map(|row| column(row, unit)).collect();
            // Some forty others of its job tell what that does.
            let others: Vec<usize> = (0..units.len()).filter(|&other| other != unit && units[other].job == Some(job)).collect();
            let stride = others.len().div_ceil(40).max(1);
            let whole: Vec<f64> =
                rows.iter().map(|row| others.iter().step_by(stride).map(|&other| column(row, other)).sum()).collect();
            let node = units[unit].node as usize;
            if let Some(view) = swings.clocks.get_mut(node)
                && !others.is_empty()
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
