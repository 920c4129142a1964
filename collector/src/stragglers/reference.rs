//! What the rest of the job does at the instant at which a node was read.
//!
//! The GPUs of a node are read together, so the median of the node is the reference of each of them. Nodes are read at instants of
//! their own, and a job's activity changes within a step: a node is compared with what other nodes showed at its instant, drawn as a
//! line between one that was read before and one that was read after. Of three such lines the middle one counts, so one node that is
//! out of line does not bend the reference of its neighbours.

/// One node in one second: its number, when it was read (seconds, any origin), the median of its members.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    pub node: u32,
    pub at: f64,
    pub value: f64,
}

/// Lines that are drawn.
const LINES: usize = 3;

/// For each unit of `units` its value less that of the others at its instant; NaN: nobody to compare with. `around`: units of the
/// second before, of this and of the next one, in the order of their instants.
pub fn differences(units: &[Unit], around: &[Unit]) -> Vec<f64> {
    units.iter().map(|unit| difference(unit, around)).collect()
}

fn difference(unit: &Unit, around: &[Unit]) -> f64 {
    let place = around.partition_point(|other| other.at < unit.at);
    let other = |other: &&Unit| other.node != unit.node;
    let mut before = around[..place].iter().rev().filter(other);
    let mut after = around[place..].iter().filter(other);
    let mut lines: Vec<f64> = Vec::with_capacity(LINES);
    while lines.len() < LINES {
        match (before.next(), after.next()) {
            (Some(before), Some(after)) => {
                let span = after.at - before.at;
                let share = if span > 1e-9 { (unit.at - before.at) / span } else { 0.5 };
                lines.push(before.value + share * (after.value - before.value));
            }
            (Some(one), None) | (None, Some(one)) if lines.is_empty() => lines.push(one.value),
            _ => break,
        }
    }
    // Two lines have no middle that one could not bend: the nearest counts.
    if lines.len() == 2 {
        lines.pop();
    }
    unit.value - super::median(&mut lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_no_difference_and_one_that_is_off_does_not_bend_the_others() {
        let slope = |node: u32, second: f64| {
            let at = second + 0.1 * f64::from(node);
            Unit { node, at, value: 0.3 * at + if node == 4 { 0.5 } else { 0.0 } }
        };
        let around: Vec<Unit> = [-1.0, 0.0, 1.0].iter().flat_map(|&second| (0..9).map(move |node| slope(node, second))).collect();
        let now: Vec<Unit> = (0..9).map(|node| slope(node, 0.0)).collect();
        for (node, difference) in differences(&now, &around).into_iter().enumerate() {
            let expected = if node == 4 { 0.5 } else { 0.0 };
            assert!((difference - expected).abs() < 0.06, "{node} {difference}");
        }
    }
}
