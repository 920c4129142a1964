//! Nodes that were found slow of late: what they show is no noise, no role, and not the job's usual speed.

use super::Finding;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// By node slot: the counted second in which it was last found slow.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Convicted(BTreeMap<u32, usize>);

impl Convicted {
    /// Takes what was found in the counted second `age`; lets go of who was found more than `keep` seconds ago. A suspicion for the record is none.
    pub(super) fn take(&mut self, findings: &[Finding], age: usize, keep: usize) {
        self.0.retain(|_, found| age - *found <= keep);
        let slow = findings.iter().filter(|finding| finding.alarm && finding.communicates.is_none());
        self.0.extend(slow.map(|finding| (finding.node.0, age)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nobody has been found slow for so many seconds, of those that are kept.
    pub(super) fn is_nobody(&self, age: usize, seconds: usize) -> bool {
        self.0.values().all(|found| age - found > seconds)
    }

    /// Whom to set aside to see the others: all but one, for each where there are several, and then all.
    pub(super) fn asides(&self) -> Vec<BTreeSet<u32>> {
        let all: BTreeSet<u32> = self.0.keys().copied().collect();
        let but = |own: &u32| all.iter().copied().filter(|node| node != own).collect();
        let each = all.iter().filter(|_| all.len() > 1).map(but);
        each.chain((!all.is_empty()).then(|| all.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_seen_with_the_others_set_aside_and_everybody_else_without_all_of_them() {
        let asides = |nodes: &[u32]| Convicted(nodes.iter().map(|&node| (node, 7)).collect()).asides();
        assert!(asides(&[]).is_empty());
        assert_eq!(asides(&[3]), [BTreeSet::from([3])]);
        assert_eq!(asides(&[3, 5]), [BTreeSet::from([5]), BTreeSet::from([3]), BTreeSet::from([3, 5])]);
    }

    #[test]
    fn who_was_found_long_ago_is_let_go_of() {
        let mut convicted = Convicted([(3, 100), (5, 250)].into());
        assert!(convicted.is_nobody(300, 40) && !convicted.is_nobody(300, 60));
        convicted.take(&[], 301, 200);
        assert_eq!(convicted.asides(), [BTreeSet::from([5])]);
        convicted.take(&[], 451, 200);
        assert!(convicted.is_empty());
    }
}
