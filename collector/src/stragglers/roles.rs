//! Which nodes of a job do the same work, where that shows.
//!
//! A node is held to others at its instant ([`super::reference`]). The last stage of a pipeline computes while the others wait, so its nodes say
//! nothing of what the others do at an instant. While offsets are learned, each node's mean occupied share is taken; where these fall apart into
//! clusters, with gaps that are wider than any member's fault and than what the members of one differ by, each cluster is a role. The largest one is
//! the measure of all who are too few to be their own.

use super::noise::spread;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A gap between two roles is at least this share of the job's occupied time, and so many robust deviations of those within the largest one.
const GAP: f64 = 0.1;
const GAP_DEVIATIONS: f64 = 5.0;
/// Fewer nodes than these are no measure of each other; and one alone may be a slow one, which bends nobody's reference.
const PEERS: usize = 4;
const SEVERAL: usize = 2;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Roles {
    /// By node, as long as roles are not settled: sum of its share less the job's, and seconds.
    shown: BTreeMap<u32, (f64, u32)>,
    settled: bool,
    /// Of nodes that are not of the largest cluster.
    others: BTreeMap<u32, Role>,
    /// Besides the largest.
    clusters: usize,
}

/// The cluster that a node belongs to, and the one it is held to; 0: the largest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Role {
    own: usize,
    peers: usize,
}

impl Roles {
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Clusters that have nodes to be held to them.
    pub(super) fn clusters(&self) -> std::ops::RangeInclusive<usize> {
        0..=self.clusters
    }

    pub(super) fn belongs(&self, node: u32, cluster: usize) -> bool {
        self.others.get(&node).copied().unwrap_or_default().own == cluster
    }

    pub(super) fn is_held_to(&self, node: u32, cluster: usize) -> bool {
        self.others.get(&node).copied().unwrap_or_default().peers == cluster
    }

    /// What a second shows of a node, less what the job's median shows.
    pub(super) fn take(&mut self, node: u32, difference: f64) {
        if !self.settled {
            let (sum, seconds) = self.shown.entry(node).or_default();
            (*sum, *seconds) = (*sum + difference, *seconds + 1);
        }
    }

    /// Finds the roles; `level`: the job's occupied share. True: there are several.
    pub(super) fn settle(&mut self, level: f64) -> bool {
        self.settled = true;
        let shown = std::mem::take(&mut self.shown);
        let mut means: Vec<(f64, u32)> =
            shown.into_iter().map(|(node, (sum, seconds))| (sum / f64::from(seconds) / level.max(0.05), node)).collect();
        means.sort_by(|a, b| a.0.total_cmp(&b.0));
        let clusters = clusters(&means);
        let Some(largest) = clusters.iter().max_by_key(|cluster| cluster.len()) else { return false };
        for cluster in clusters.iter().filter(|cluster| *cluster != largest && cluster.len() >= SEVERAL) {
            self.clusters += 1;
            let peers = if cluster.len() >= PEERS { self.clusters } else { 0 };
            self.others.extend(means[cluster.clone()].iter().map(|&(_, node)| (node, Role { own: self.clusters, peers })));
        }
        !self.others.is_empty()
    }
}

/// The stretches of `means` (in order) between wide gaps.
fn clusters(means: &[(f64, u32)]) -> Vec<std::ops::Range<usize>> {
    let cut = |gap: f64| {
        let mut cuts: Vec<usize> = (1..means.len()).filter(|&place| means[place].0 - means[place - 1].0 >= gap).collect();
        cuts.insert(0, 0);
        cuts.push(means.len());
        cuts.windows(2).map(|pair| pair[0]..pair[1]).collect::<Vec<_>>()
    };
    let rough = cut(GAP);
    let Some(largest) = rough.iter().max_by_key(|cluster| cluster.len()) else { return rough };
    let within: Vec<f64> = means[largest.clone()].iter().map(|(mean, _)| *mean).collect();
    cut(GAP.max(GAP_DEVIATIONS * spread(&within).1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(means: impl Fn(u32) -> f64, nodes: u32) -> Roles {
        let mut roles = Roles::default();
        (0..60).for_each(|_| (0..nodes).for_each(|node| roles.take(node, 0.5 * means(node))));
        roles.settle(0.5);
        roles
    }

    #[test]
    fn the_stage_that_computes_while_others_wait_is_a_role_of_its_own() {
        let own = |node: u32| 0.01 * f64::from(node % 3);
        let roles = settled(|node| own(node) + if node >= 24 { 0.5 } else { 0.0 }, 32);
        assert_eq!(roles.clusters(), 0..=1);
        assert!(roles.is_held_to(30, 1) && roles.belongs(30, 1) && !roles.belongs(30, 0) && roles.is_held_to(3, 0));
        // Two nodes are no measure of each other, but neither of the rest.
        let roles = settled(|node| own(node) + if node >= 6 { 0.5 } else { 0.0 }, 8);
        assert!(roles.is_held_to(7, 0) && !roles.belongs(7, 0) && roles.belongs(5, 0));
    }

    #[test]
    fn slightly_unequal_stages_and_what_scatters_are_one_role() {
        let stages = [0.97, 0.95, 0.96, 1.0];
        let roles = settled(|node| stages[node as usize / 8], 32);
        assert_eq!(roles.clusters(), 0..=0);
        // One that has been slow since the job began.
        let roles = settled(|node| if node == 9 { 0.2 } else { 0.0 }, 32);
        assert!(roles.clusters() == (0..=0) && roles.belongs(9, 0));
        let roles = settled(|node| 0.06 * f64::from(node % 5) + if node == 9 { 0.15 } else { 0.0 }, 32);
        assert_eq!(roles.clusters(), 0..=0);
        assert!(roles.is_settled() && roles.belongs(77, 0));
    }
}
