//! Nodes of which nothing is known but their power: who draws less, or more, than it used to beside its peers.
//!
//! ```text
//! d = ln(own mean of ten seconds) − the peers' median of it − the node's own remembered offset,    z = d / deviation, within ±4
//! S = max(0, S + z − 0.75) for each sign; told when S ≥ 12 and the mean of the last minute is 2.5 % or more
//! ```
//!
//! Healthy nodes differ for good by 0.75 % (facts/stragglers.md §3.1), from ten seconds to ten seconds by 1.4 % with heavy tails, so the sum of
//! many windows has to say it. Power has no fixed sign: who is slow may draw less or more. It is one soft signal, so it is for the record and
//! nobody is paged by it ([`Drift`] names no cause and no slowdown).

use super::{median, noise};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Seconds of a window.
const WINDOW: i64 = 10;
const WINDOW_US: i64 = WINDOW * 1_000_000;
/// Windows that are open at once.
const OPEN: i64 = 12;
/// Windows until a node's offset is known.
const LEARN: u32 = 60;
/// Windows of a job that are not looked at: it starts.
const YOUNG: u32 = 12;
/// Offsets follow with this time constant, windows.
const FOLLOW: f64 = 360.0;
/// Windows of which the mean is told, and has to be large.
const RECENT: usize = 6;
const LEAST: f64 = 0.025;
/// Of the cumulated sums: slack, what they have to reach, and how high they can get.
const SLACK: f64 = 0.75;
const ENOUGH: f64 = 12.0;
const MOST: f64 = 3.0 * ENOUGH;
/// Largest |z| of one window, and least deviation of one.
const CLIP: f64 = 4.0;
const DEVIATION: f64 = 0.014;
/// The deviation follows with this time constant, windows.
const SPREAD_FOLLOW: f64 = 180.0;
/// A change of all of them by more, against the last minute, is a phase of the job.
const PHASE: f64 = 0.15;
/// Share of the members that has to be there, and how many make a median.
const PRESENT: f64 = 0.8;
const PEERS: usize = 8;
/// If more than this share drifts at once it is the work that differs, not the nodes.
const MANY: f64 = 0.1;

/// A node that drifts, as of now.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    pub node: usize,
    /// Seconds: begin of the drift, end of the last window.
    pub since: i64,
    pub at: i64,
    /// Relative, of the last minute; negative: less.
    pub by: f64,
    /// Of S.
    pub score: f64,
    pub watts: f64,
    pub peer_watts: f64,
    pub peers: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Node {
    offset: f64,
    lessons: u32,
    less: f64,
    more: f64,
    /// The last d.
    recent: VecDeque<f32>,
    /// Window in which the larger sum last left zero.
    since: i64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Group {
    windows: u32,
    spread: f64,
    /// Medians of the last windows, watts.
    levels: VecDeque<f64>,
}

/// All nodes, by their slots.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Draws {
    /// Open windows: sum and number of each node's samples.
    open: BTreeMap<i64, Vec<(f64, f64)>>,
    /// Windows before this one are over.
    next: Option<i64>,
    nodes: Vec<Node>,
    groups: BTreeMap<Option<u32>, Group>,
}

impl Draws {
    /// One sample. What belongs to a window that is over, or that is far ahead, is not used.
    pub fn put(&mut self, node: usize, ts: Micros, watts: f64) {
        let window = ts.0.div_euclid(WINDOW_US);
        let first = *self.next.get_or_insert(window);
        if !(first..first + OPEN).contains(&window) || watts.is_nan() || watts <= 0.0 {
            return;
        }
        let sums = self.open.entry(window).or_default();
        if sums.len() <= node {
            sums.resize(node + 1, (0.0, 0.0));
        }
        sums[node] = (sums[node].0 + watts, sums[node].1 + 1.0);
    }

    /// Who drifts, in the windows that end before `until`; None: no window has ended. `job` says of a node whether it is judged, and for which
    /// job it works.
    pub fn finish(&mut self, until: Micros, job: impl Fn(usize) -> Option<Option<u32>>) -> Option<Vec<Drift>> {
        let mut window = self.next?;
        let due = until.0.div_euclid(WINDOW_US);
        if window >= due {
            return None;
        }
        let mut found = Vec::new();
        while window < due {
            match self.open.remove(&window) {
                Some(sums) => found.extend(self.finish_window(window, &sums, &job)),
                // Nothing was heard for a while.
                None => window = self.open.keys().next().map_or(due, |&first| first.min(due)) - 1,
            }
            window += 1;
        }
        self.next = Some(window);
        Some(found)
    }

    fn finish_window(&mut self, window: i64, sums: &[(f64, f64)], job: &impl Fn(usize) -> Option<Option<u32>>) -> Vec<Drift> {
        let nodes = self.nodes.len().max(sums.len());
        self.nodes.resize_with(nodes, Node::default);
        let mut groups: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
        for node in 0..nodes {
            if let Some(job) = job(node) {
                groups.entry(job).or_default().push(node);
            }
        }
        // Where jobs are known, who has none idles.
        if groups.len() > 1 {
            groups.remove(&None);
        }
        self.groups.retain(|job, _| groups.contains_key(job));
        groups.iter().flat_map(|(&job, members)| self.judge(window, job, members, sums)).collect()
    }

    fn judge(&mut self, window: i64, job: Option<u32>, members: &[usize], sums: &[(f64, f64)]) -> Vec<Drift> {
        let group = self.groups.entry(job).or_default();
        let mean = |&node: &usize| sums.get(node).filter(|sum| sum.1 > 0.0).map(|sum| (node, sum.0 / sum.1));
        let means: Vec<(usize, f64)> = members.iter().filter_map(mean).collect();
        if means.len() < PEERS || (means.len() as f64) < PRESENT * members.len() as f64 {
            return Vec::new();
        }
        let level = median(&mut means.iter().map(|(_, mean)| *mean).collect::<Vec<_>>());
        let usual = median(&mut group.levels.iter().copied().collect::<Vec<_>>());
        if group.levels.len() == RECENT {
            group.levels.pop_front();
        }
        group.levels.push_back(level);
        group.windows += 1;
        if group.windows <= YOUNG || (level / usual - 1.0).abs() > PHASE {
            return Vec::new();
        }
        let differences: Vec<(usize, f64)> =
            means.iter().map(|&(node, mean)| (node, (mean / level).ln() - self.nodes[node].offset)).collect();
        let known =
            differences.iter().filter(|(node, _)| self.nodes[*node].lessons >= LEARN).map(|(_, d)| *d).collect::<Vec<_>>();
        let spread = noise::spread(&known).1;
        if !spread.is_nan() {
            let weight = 1.0 / f64::from(group.windows).min(SPREAD_FOLLOW);
            group.spread += weight * (spread - group.spread);
        }
        let deviation = group.spread.max(DEVIATION);
        let mut found = Vec::new();
        for ((node, d), (_, mean)) in differences.into_iter().zip(&means) {
            let own = &mut self.nodes[node];
            if let Some(by) = own.take(window, d, deviation) {
                let since = own.since * WINDOW;
                found.push(Drift {
                    node,
                    since,
                    at: (window + 1) * WINDOW,
                    by,
                    score: own.less.max(own.more),
                    watts: *mean,
                    peer_watts: level,
                    peers: means.len() - 1,
                });
            }
        }
        if found.len() as f64 > (MANY * means.len() as f64).max(1.0) { Vec::new() } else { found }
    }
}

impl Node {
    /// By how much it drifts, if it does.
    fn take(&mut self, window: i64, d: f64, deviation: f64) -> Option<f64> {
        if self.lessons < LEARN {
            self.lessons += 1;
            self.offset += d / f64::from(self.lessons);
            return None;
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(d as f32);
        let z = (d / deviation).clamp(-CLIP, CLIP);
        if self.less.max(self.more) <= 0.0 {
            self.since = window;
        }
        self.less = (self.less - z - SLACK).clamp(0.0, MOST);
        self.more = (self.more + z - SLACK).clamp(0.0, MOST);
        let by = self.recent.iter().map(|&d| f64::from(d)).sum::<f64>() / self.recent.len() as f64;
        let suspected = self.less.max(self.more) >= ENOUGH / 2.0;
        if suspected && by.abs() < LEAST / 2.0 && self.recent.len() == RECENT {
            (self.less, self.more) = (0.0, 0.0);
        }
        if !suspected {
            self.offset += d.clamp(-deviation, deviation) / FOLLOW;
        }
        let agrees = if by < 0.0 { self.less } else { self.more };
        (agrees >= ENOUGH && by.abs() >= LEAST).then_some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heavy tails, the same in each run.
    fn noise(index: u64) -> f64 {
        let unit = |salt: u64| {
            let mut z = (index * 4 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (z >> 40) as f64 / (1 << 24) as f64
        };
        (unit(0) + unit(1) + unit(2) + unit(3) - 2.0) * 0.02 * if unit(1) < 0.02 { 4.0 } else { 1.0 }
    }

    /// Windows until `node` is told, of 32 that differ for good and of which one draws `factor` from 1000 s on; who is told at all.
    fn run(node: usize, factor: f64) -> (Option<i64>, Vec<usize>) {
        let mut draws = Draws::default();
        let (mut delay, mut told) = (None, Vec::new());
        for second in 0..3000i64 {
            let all = if second % 600 < 14 { 0.8 } else { 1.0 };
            let watts = |own: usize| {
                let slow = if own == node && second >= 1000 { factor } else { 1.0 };
                7000.0 * all * slow * (1.0 + 0.002 * own as f64) * (1.0 + noise(second as u64 / 10 * 64 + own as u64))
            };
            (0..32).for_each(|own| draws.put(own, Micros(second * 1_000_000), watts(own)));
            for drift in draws.finish(Micros(second * 1_000_000), |_| Some(None)).into_iter().flatten() {
                delay.get_or_insert(second - 1000);
                told.push(drift.node);
            }
        }
        told.dedup();
        (delay, told)
    }

    #[test]
    fn a_drop_is_told_on_its_node_alone_and_none_where_there_is_none() {
        assert_eq!(run(5, 1.0), (None, vec![]));
        for (factor, within) in [(0.97, 240), (0.95, 120), (0.9, 70), (1.05, 120)] {
            let (delay, told) = run(5, factor);
            assert_eq!(told, vec![5], "{factor}");
            assert!((0..=within).contains(&delay.unwrap()), "{factor}: {delay:?} s");
        }
    }
}
