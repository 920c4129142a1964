//! What others do, on the same fleets: ten-second means of occupied share, utilisation, power and clock, GPU by GPU against its job.
//! Each flags a GPU that is out of line twice in a row; three of a node are the node.

use super::fleet::{Outcome, ROW, Row, Setup};
use super::score::Named;
use std::collections::BTreeMap;

/// Whether the GPU `own` is out of line among `all`.
type Rule = fn(&Row, &[Row]) -> bool;

pub(crate) const BASELINES: [(&str, Rule); 5] = [
    ("static threshold (utilisation .5, 1500 MHz)", |own, _| own[1] < 0.5 || own[3] < 1500.0),
    ("3 sigma", |own, all| (0..4).any(|channel| deviations(own, all, channel).abs() > 3.0)),
    ("Mahalanobis (p .001)", |own, all| distance(own, all) > 18.5),
    ("2 x median", |own, all| own[0] > 2.0 * median(all, 0)),
    ("ratio .75", |own, all| median(all, 0) / own[0].max(1e-3) < 0.75),
];

fn median(all: &[Row], channel: usize) -> f32 {
    let mut values: Vec<f32> = all.iter().map(|row| row[channel]).collect();
    values.sort_by(f32::total_cmp);
    values[values.len() / 2]
}

fn moments(all: &[Row], channel: usize) -> (f32, f32) {
    let mean = all.iter().map(|row| row[channel]).sum::<f32>() / all.len() as f32;
    let variance = all.iter().map(|row| (row[channel] - mean).powi(2)).sum::<f32>() / all.len() as f32;
    (mean, variance.sqrt().max(1e-6))
}

fn deviations(own: &Row, all: &[Row], channel: usize) -> f32 {
    let (mean, deviation) = moments(all, channel);
    (own[channel] - mean) / deviation
}

/// Squared, by Gaussian elimination of the covariance of all four.
fn distance(own: &Row, all: &[Row]) -> f32 {
    let means: Vec<f32> = (0..4).map(|channel| moments(all, channel).0).collect();
    let scale: Vec<f32> = (0..4).map(|channel| moments(all, channel).1).collect();
    let z = |row: &Row, channel: usize| (row[channel] - means[channel]) / scale[channel];
    let mut matrix = [[0.0f32; 5]; 4];
    for (i, line) in matrix.iter_mut().enumerate() {
        for (j, cell) in line.iter_mut().enumerate().take(4) {
            *cell = all.iter().map(|row| z(row, i) * z(row, j)).sum::<f32>() / all.len() as f32;
        }
        line[i] += 1e-3;
        line[4] = z(own, i);
    }
    for i in 0..4 {
        let pivot = matrix[i];
        for (j, line) in matrix.iter_mut().enumerate() {
            if i != j {
                let factor = line[i] / pivot[i];
                line.iter_mut().zip(pivot).for_each(|(cell, pivot)| *cell -= factor * pivot);
            }
        }
    }
    (0..4).map(|i| z(own, i) * matrix[i][4] / matrix[i][i]).sum()
}

/// Whom the rule names, once each.
pub(crate) fn named(rule: Rule, setup: &Setup, outcome: &Outcome) -> Vec<Named> {
    let mut before: Vec<bool> = vec![false; setup.nodes * 8];
    let mut told: BTreeMap<(usize, Option<usize>), Named> = BTreeMap::new();
    for (number, rows) in outcome.rows.iter().enumerate() {
        let at = (number + 1) as f64 * ROW;
        let mut now = vec![false; rows.len()];
        for job in setup.jobs.iter().filter(|job| at - ROW >= job.from + ROW && at <= job.until) {
            let members = job.nodes.start * 8..job.nodes.end * 8;
            let all = &rows[members.clone()];
            members.for_each(|gpu| now[gpu] = rule(&rows[gpu], all));
        }
        for node in 0..setup.nodes {
            let flagged: Vec<usize> = (0..8).filter(|gpu| now[node * 8 + gpu] && before[node * 8 + gpu]).collect();
            let whom: Vec<Option<usize>> = if flagged.len() >= 3 { vec![None] } else { flagged.into_iter().map(Some).collect() };
            for gpu in whom {
                told.entry((node, gpu)).or_insert_with(|| Named {
                    node,
                    gpu,
                    at,
                    opened: at,
                    cause: String::new(),
                    text: String::new(),
                    page: false,
                });
            }
        }
        before = now;
    }
    told.into_values().collect()
}
