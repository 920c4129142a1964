//! Temperature: a first-order approach to what air, cooler and watts make of it.

use super::{Channel, Track, random};
use crate::scenario::{Fault, FaultKind, Scenario};

/// Time constant, s.
const TAU: f64 = 12.0;
/// Temperature that a thermal fault drives the GPU to, °C.
const HOT: f64 = 87.0;
/// °C of the air before the first GPU of a node.
const INLET: f64 = 28.0;
/// °C per watt of a GPU's cooler.
const RESISTANCE: f64 = 0.045;

/// The course of a GPU's temperature.
#[derive(Debug, Clone)]
pub(super) struct Heat {
    /// From when (s), towards which temperature, beginning at which (°C).
    course: Vec<(f64, f64, f64)>,
}

impl Heat {
    pub(super) fn new(scenario: &Scenario, node: u32, index: u32, track: &Track, faults: &[Fault]) -> Self {
        let variety = scenario.variety;
        let cooler = random::signed(scenario.seed, &[5, u64::from(node), u64::from(index)]);
        let resistance = RESISTANCE * (1.0 + variety.thermal_resistance * cooler);
        // Air reaches the GPUs one row after the other.
        let position = f64::from(index) / f64::from((scenario.gpus_per_node - 1).max(1));
        let room = variety.node_inlet_celsius * random::signed(scenario.seed, &[6, u64::from(node)]);
        let inlet = INLET + room + variety.inlet_celsius * position;

        let thermal: Vec<&Fault> = faults.iter().filter(|f| f.kind == FaultKind::Thermal).collect();
        let means: Vec<(f64, f64)> = track.epochs().map(|(from, mean)| (from, mean[Channel::Watts as usize])).collect();
        let mut edges: Vec<f64> = means.iter().map(|(from, _)| *from).collect();
        edges.extend(thermal.iter().flat_map(|f| [f.start, f.end_or_forever()]).filter(|edge| edge.is_finite()));
        edges.sort_by(f64::total_cmp);

        let mut heat = Self { course: Vec::with_capacity(edges.len()) };
        for from in edges {
            let after = means.partition_point(|(begin, _)| *begin <= from);
            let watts = means[after.saturating_sub(1)].1;
            let target = if thermal.iter().any(|f| f.active(from)) { HOT } else { inlet + resistance * watts };
            let begin = if heat.course.is_empty() { target } else { heat.celsius(from) };
            heat.course.push((from, target, begin));
        }
        heat
    }

    /// °C at time `t` (s).
    pub(super) fn celsius(&self, t: f64) -> f64 {
        let after = self.course.partition_point(|(from, _, _)| *from <= t);
        let (from, target, begin) = self.course[after.saturating_sub(1)];
        target + (begin - target) * (-(t - from).max(0.0) / TAU).exp()
    }
}
