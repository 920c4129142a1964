//! A collective that is slow itself: everybody waits alike, so nobody waits least. What names somebody then is a fact of one node's links.

use super::Finding;
use super::accuse::Accused;
use super::cause::{self, Cause, Verdict};
use super::job::{Input, JobJudge};
use crate::fleet::{GpuSlot, JobSlot, NodeSlot};
use gridstep_wire::Micros;
use std::collections::BTreeMap;

impl JobJudge {
    /// Where the collective itself became slow, everybody waits alike and nobody waits least. Then one node with a fact that came up
    /// with it (a narrower link, errors that grow) is who it waits for.
    pub(super) fn accuse_by_fact(
        &self,
        job: JobSlot,
        at: Micros,
        length: usize,
        explained: f64,
        input: &Input<'_>,
    ) -> Option<Finding> {
        let (window, fall, score) = self.speed.fallen(self.pace.step(), &super::job::SCALES, length)?;
        if explained >= 0.5 * fall {
            return None;
        }
        let nobody = Accused { node: u32::MAX, gpu: None, effect: fall, score, rack: Vec::new() };
        let (peers, peers_past) = self.facts_of_peers(input, &nobody);
        let mut holders: BTreeMap<u32, Vec<(u32, Verdict)>> = BTreeMap::new();
        for (&gpu, member) in &self.members {
            let Some(past) = member.past() else { continue };
            let verdict = cause::explain(&member.facts.row(), Some(&past), &peers, peers_past.as_ref(), fall, true);
            if matches!(verdict.cause, Cause::NetworkSlow | Cause::NvlinkErrors | Cause::PcieDegraded) {
                holders.entry(input.fleet.node_of(GpuSlot(gpu)).0).or_default().push((gpu, verdict));
            }
        }
        if holders.len() != 1 {
            return None;
        }
        let (node, gpus) = holders.pop_first()?;
        let (gpu, verdict) = gpus.first().cloned()?;
        let single = gpus.len() == 1 && verdict.cause != Cause::NetworkSlow;
        let since = self.times.get(self.times.len().saturating_sub(window)).copied().unwrap_or(input.second);
        let accused = Accused { node, gpu: single.then_some(gpu), ..nobody };
        let (now, _) = self.facts_of(&accused);
        Some(Finding {
            job,
            node: NodeSlot(node),
            gpu: single.then_some(GpuSlot(gpu)),
            rack: None,
            since: Micros(since * 1_000_000),
            at,
            alarm: true,
            slowdown_ratio: fall,
            gap: fall,
            score,
            verdict,
            now,
            peers,
            peer_count: self.members.len() - self.node_members.get(&node).map_or(0, Vec::len),
            gpus: input.members.len(),
            completeness: 1.0,
        })
    }
}
