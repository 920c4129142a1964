//! Whom a job's fall is blamed on where nobody can be seen to wait least: the one node that changed as the job fell.
//!
//! A collective that is slow itself makes everybody wait alike. The job became slower, and at the same time one node, alone, showed a link that is worse than it
//! was ([`JobJudge::accuse_by_fact`]). Or the job does less than before, by its tensor cores or its power, and its members are occupied as long as ever: its
//! spinning looks like computing, or nothing but its power is known. Then one node, alone, that is limited or short of host or memory since then is named (same
//! function).
//!
//! Or the job has communicated for more than a third of its time ever since it began, and one node, alone, has had a port all along that runs at half of the
//! others' rate or less ([`JobJudge::suspect_a_link`]): a collective is as slow as its slowest link, but by how much it would be faster cannot be seen, so no
//! slowdown is claimed, and it is for the record. Errors that have come all along say nothing there: healthy machines have them
//! (`eval/scenarios/healthy-pipeline`).

use super::Finding;
use super::accuse::Accused;
use super::cause::{self, Cause, Peers, RATES, Verdict};
use super::facts::{Fact, Row};
use super::job::{Input, JobJudge};
use super::speed::Speed;
use super::windows::SCALES;
use crate::fleet::{GpuSlot, JobSlot, NodeSlot};
use gridstep_wire::Micros;
use std::collections::BTreeMap;

/// The job's share of time without computing from which on its links are looked at though it never was faster.
const COMMUNICATES: f64 = 1.0 / 3.0;
/// Over so long, seconds and steps.
const LONG: (usize, usize) = (45, 6);
/// Once a link is suspected, down to this share of it: what is near the threshold is told once.
const STAYS: f64 = 0.8;
/// A link is far below the others at this share of their rate, all along.
const NARROW: f64 = 0.5;
/// Errors that come with a slower job, at least so many a second.
const ERRORS: f64 = 2.0;
/// An error counter and what it slows begin within a step and so many seconds of each other.
const SLACK: usize = 5;
/// The job has to be slower in the mean of so long a time by then, seconds and steps.
const LASTS: (usize, usize) = (20, 6);
/// So many nodes of a job are few.
const FEW_NODES: usize = 16;
/// A job that lost more than this has come to a stop.
const STANDS: f64 = 0.6;
/// Of what a job lost by what it does, the least share that its members' waiting shows where that can be seen.
const SEEN: f64 = 0.5;
/// Who waits longer than the others of its node by this share of what the job lost is not who is waited for.
const WAITS: f64 = 0.5;

/// Who has what nobody else has: one node, and one GPU of it where it is that one's own.
struct Holder {
    node: u32,
    gpu: Option<u32>,
    verdict: Verdict,
}

impl JobJudge {
    /// The job became slower, and one node's links became worse with it (a narrower link, errors that grow).
    pub(super) fn accuse_by_fact(
        &self,
        job: JobSlot,
        at: Micros,
        length: usize,
        explained: f64,
        input: &Input<'_>,
    ) -> Option<Finding> {
        // Errors take longer to tell: bursts come and go.
        let lasts = LASTS.0.max((LASTS.1 as f64 * self.pace.step()) as usize);
        [&self.speed, &self.work].into_iter().find_map(|speed| {
            [0, lasts].into_iter().find_map(|least| {
                let found = speed.fallen(self.pace.step(), &SCALES, length, least)?;
                self.blame(job, at, speed, found, explained, input)
            })
        })
    }

    /// Whose errors go on now.
    pub(super) fn take_episodes(&mut self, now: i64) {
        let first = self.times.front().copied().unwrap_or(now);
        for (known, &gpu) in self.known.iter().zip(self.members.slots()) {
            for rate in RATES.into_iter().filter(|&rate| known.facts.keeps_growing(rate)) {
                if known.facts.row()[rate as usize] >= ERRORS {
                    self.episodes.take(gpu, rate as usize, known.facts.grows_since(rate).unwrap_or(first), now);
                }
            }
        }
        self.episodes.forget(first);
    }

    /// One node's errors come and go, and the job is slower whenever they come.
    pub(super) fn accuse_by_episodes(&self, job: JobSlot, at: Micros, explained: f64, input: &Input<'_>) -> Option<Finding> {
        let place = |second: i64| self.times.len() - self.times.partition_point(|&at| at < second);
        let mean = |from: i64, to: i64| {
            let (from, to) = (place(from), place(to));
            (from > to && from < super::trace::KEEP).then(|| self.speed.mean_between(from, to))
        };
        let shown = self.episodes.shown(input.second, self.pace.unit(), &mean);
        let strongest = shown.iter().map(|(_, _, shown)| *shown).max_by(|a, b| a.score.total_cmp(&b.score))?;
        if explained >= 0.5 * strongest.fall || strongest.fall > STANDS {
            return None;
        }
        let peers = self.facts_of_peers(input, &nobody());
        let holder = self.only_holder(input, |gpu| {
            let own = shown.iter().filter(|of| of.0 == gpu).map(|of| of.1);
            let row = self.known(gpu).facts.row();
            let verdict = cause::explain(&row, None, &peers, strongest.fall, true);
            let facts: Vec<usize> = own.filter(|fact| verdict.facts.contains(fact)).collect();
            (!facts.is_empty() && verdict.cause != Cause::Unknown).then_some(Verdict { facts, ..verdict })
        })?;
        let mut finding = self.of_holder(job, at, input, holder, peers.now);
        (finding.slowdown_ratio, finding.gap, finding.score) = (strongest.fall, strongest.fall, strongest.score);
        finding.since = Micros(strongest.since * 1_000_000);
        Some(finding)
    }

    fn blame(
        &self,
        job: JobSlot,
        at: Micros,
        speed: &Speed,
        (window, fall, score): (usize, f64, f64),
        explained: f64,
        input: &Input<'_>,
    ) -> Option<Finding> {
        if explained >= 0.5 * fall || fall > STANDS {
            return None;
        }
        let peers = self.facts_of_peers(input, &nobody());
        // Of few nodes each is much of what it is held to.
        let few: Option<BTreeMap<u32, Peers>> = (self.node_members.len() <= FEW_NODES).then(|| {
            let of = |&node: &u32| (node, self.facts_of_peers(input, &Accused { node, ..nobody() }));
            self.node_members.keys().map(of).collect()
        });
        let slower_for = speed.onset(window);
        // Its members do less than before and are occupied as long: spinning cannot be told from computing.
        let blind = self.speed.fall(window as f64) < SEEN * fall;
        let holder = self.only_holder(input, |gpu| {
            let member = self.known(gpu);
            let node = input.fleet.node_of(GpuSlot(gpu)).0;
            let peers = few.as_ref().and_then(|few| few.get(&node)).unwrap_or(&peers);
            let verdict = cause::explain(&member.facts.row(), Some(&member.past()?), peers, fall, true);
            let of_links = matches!(verdict.cause, Cause::NetworkSlow | Cause::NvlinkErrors | Cause::PcieDegraded);
            let lasts = window >= LASTS.0.max((LASTS.1 as f64 * self.pace.step()) as usize);
            let own = !verdict.is_brief(&member.facts.row()) && self.may_be_waited_for(gpu, window, fall);
            let clear = !matches!(verdict.cause, Cause::ClockLock | Cause::Unknown);
            let told = of_links || lasts && clear && own && blind;
            let with_it = |since| self.counted_since(since).abs_diff(slower_for) <= self.pace.unit() + SLACK;
            let keeps = |rate| lasts && member.facts.keeps_growing(rate) && member.facts.grows_since(rate).is_some_and(with_it);
            (told && tells(&verdict, &member.facts.row(), keeps)).then_some(verdict)
        })?;
        // Both at the same time: who was blamed for it then is so for as long as it lasts.
        if self.blamed != Some(holder.node) && !speed.was_healthy_before(window, fall) {
            return None;
        }
        let mut finding = self.of_holder(job, at, input, holder, peers.now);
        (finding.slowdown_ratio, finding.gap, finding.score) = (fall, fall, score);
        let since = self.times.get(self.times.len().saturating_sub(window)).copied().unwrap_or(input.second);
        finding.since = Micros(since * 1_000_000);
        Some(finding)
    }

    /// False: it has been seen to wait for others. (By power a board that is held below the others would seem to.)
    fn may_be_waited_for(&self, gpu: u32, window: usize, fall: f64) -> bool {
        let by_power = self.known(gpu).facts.row()[Fact::SmActive as usize].is_nan();
        by_power || self.members.trace(gpu).mean(window) > -WAITS * fall
    }

    /// Counted seconds since that one.
    fn counted_since(&self, second: i64) -> usize {
        self.times.iter().rev().take_while(|&&at| at >= second).count()
    }

    /// The job has always communicated for much of its time, and one node has always had a bad link.
    pub(super) fn suspect_a_link(&mut self, job: JobSlot, at: Micros, input: &Input<'_>) -> Option<Finding> {
        let long = LONG.0.max(LONG.1 * self.pace.unit());
        // What others wait for is no communication: who waits least for good shows how much of that there is.
        let busiest = self.nodes.most_for_good(long);
        let communicates = 1.0 - self.speed.usual(long)? * (1.0 + busiest);
        if self.age < long || communicates < COMMUNICATES * if self.link_suspected { STAYS } else { 1.0 } {
            self.link_suspected = false;
            return None;
        }
        let peers = self.facts_of_peers(input, &nobody()).now;
        let holder = self.only_holder(input, |gpu| bad_link(&self.known(gpu).facts.row(), &self.known(gpu).past()?, &peers))?;
        self.link_suspected = true;
        let mut finding = self.of_holder(job, at, input, holder, peers);
        finding.communicates = Some(communicates);
        Some(finding)
    }

    /// The node that has something, if it is the only one.
    fn only_holder(&self, input: &Input<'_>, has: impl Fn(u32) -> Option<Verdict>) -> Option<Holder> {
        let mut holders: BTreeMap<u32, Vec<(u32, Verdict)>> = BTreeMap::new();
        for &gpu in self.members.slots() {
            if let Some(verdict) = has(gpu) {
                holders.entry(input.fleet.node_of(GpuSlot(gpu)).0).or_default().push((gpu, verdict));
            }
        }
        if holders.len() != 1 {
            return None;
        }
        let (node, gpus) = holders.pop_first()?;
        let (gpu, verdict) = gpus.first().cloned()?;
        let single = gpus.len() == 1 && !verdict.cause.is_of_node();
        Some(Holder { node, gpu: single.then_some(gpu), verdict })
    }

    fn of_holder(&self, job: JobSlot, at: Micros, input: &Input<'_>, holder: Holder, peers: Row) -> Finding {
        let Holder { node, gpu, verdict } = holder;
        let (now, _) = self.facts_of(&Accused { node, gpu, ..nobody() });
        Finding {
            job,
            node: NodeSlot(node),
            gpu: gpu.map(GpuSlot),
            rack: None,
            since: Micros(self.times.front().copied().unwrap_or(input.second) * 1_000_000),
            at,
            alarm: true,
            by_power: now[Fact::SmActive as usize].is_nan(),
            slowdown_ratio: 0.0,
            gap: 0.0,
            communicates: None,
            score: 0.0,
            verdict,
            now,
            peers,
            peer_count: self.members.len() - self.node_members.get(&node).map_or(0, Vec::len),
            gpus: input.members.len(),
            completeness: 1.0,
        }
    }
}

/// An error now and then, or a burst, holds nobody up for seconds on end.
fn tells(verdict: &Verdict, now: &Row, keeps: impl Fn(Fact) -> bool) -> bool {
    let rate = |fact: usize| RATES.into_iter().find(|&rate| rate as usize == fact);
    verdict.facts.iter().any(|&fact| rate(fact).is_none_or(|rate| now[fact] >= ERRORS && keeps(rate)))
}

fn nobody() -> Accused {
    Accused { node: u32::MAX, gpu: None, effect: 0.0, score: 0.0, rack: Vec::new() }
}

/// Far below the peers' now, and as far as is remembered.
fn bad_link(now: &Row, past: &Row, peers: &Row) -> Option<Verdict> {
    let rate = Fact::NetworkLink as usize;
    let narrow = |own: f64| own <= NARROW * peers[rate];
    let verdict = Verdict { cause: Cause::NetworkSlow, facts: vec![rate], ruled_out: Vec::new() };
    (narrow(now[rate]) && narrow(past[rate])).then_some(verdict)
}

#[cfg(test)]
mod tests {
    use super::super::facts::row;
    use super::*;

    #[test]
    fn an_error_now_and_then_tells_nothing() {
        let verdict = |fact: Fact| Verdict { cause: Cause::NvlinkErrors, facts: vec![fact as usize], ruled_out: Vec::new() };
        let told = |errors: f64, keeps| tells(&verdict(Fact::NvlinkErrors), &row(&[(Fact::NvlinkErrors, errors)]), |_| keeps);
        assert_eq!((told(0.3, true), told(80.0, false), told(8.0, true)), (false, false, true));
        assert!(tells(&verdict(Fact::PcieWidth), &row(&[(Fact::PcieWidth, 4.0)]), |_| false));
    }

    #[test]
    fn a_bad_link_is_a_port_that_has_been_far_below_the_others_all_along() {
        let rate = |rate: f64| row(&[(Fact::NetworkLink, rate)]);
        let is_bad = |now: f64, past: f64| bad_link(&rate(now), &rate(past), &rate(4e11)).is_some();
        assert!(is_bad(1e11, 1e11));
        // It has become so, or no longer is; or all are, or nothing is known.
        assert!(!is_bad(1e11, 4e11) && !is_bad(4e11, 1e11) && !is_bad(4e11, 4e11) && !is_bad(f64::NAN, f64::NAN));
        // Errors that have always come are a history.
        let errors = row(&[(Fact::NetworkLink, 4e11), (Fact::NetworkErrors, 20.0), (Fact::NvlinkErrors, 20.0)]);
        assert!(bad_link(&errors, &errors, &rate(4e11)).is_none());
    }
}
