//! One job: who waits least, and whether that slows it down.

use super::cause::{self, Cause, Verdict};
use super::facts::{Fact, Gatherer, Row};
use super::pace::Pace;
use super::window::Window;
use super::{median, occupancy};
use crate::align::seconds::Second;
use crate::fleet::{Fleet, GpuMetric, GpuSlot, JobSlot, NodeSlot};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Below this share of computing (job's median) nobody computes in that second.
const QUIET: f64 = 0.2;
/// Blocks until a GPU's own offset is known.
const LEARN: u32 = 5;
/// Floor of the robust deviation of d.
const DEVIATION: f64 = 0.012;
/// CUSUM: z is clipped to this, reduced by this.
const CLIP: f64 = 6.0;
const SLACK: f64 = 1.5;
/// Alarm with a hard fact to show for it (two blocks at least), and without one.
const ALARM_FACT: f64 = 6.0;
const ALARM: f64 = 12.0;
/// CUSUM above which a GPU stands out.
const STANDS_OUT: f64 = 2.0 * SLACK;
/// Who differs by at least this share of the largest difference suffers from the same.
const ALIKE: f64 = 0.5;
/// Least peers for a median that one of them cannot move.
const PEERS: usize = 5;
/// What slows the job by less is no incident.
const LEAST_SLOWDOWN: f64 = 0.01;
/// A GPU's facts of the past follow with this time constant, blocks.
const FOLLOW: f64 = 30.0;

pub struct Input<'a> {
    pub second: i64,
    pub gpus: &'a Second,
    pub nodes: Option<&'a Second>,
    /// Mean power of the second, watts, by GPU; NaN: not known.
    pub power: &'a [f32],
    /// In the order of their slots.
    pub members: &'a [GpuSlot],
    pub fleet: &'a Fleet,
}

/// A suspect as of the end of a block.
#[derive(Debug, Clone)]
pub struct Finding {
    pub job: JobSlot,
    pub node: NodeSlot,
    /// None: the node as a whole.
    pub gpu: Option<GpuSlot>,
    pub since: Micros,
    pub at: Micros,
    /// Enough to open an incident; false: enough to keep one open.
    pub alarm: bool,
    /// 1 − speed with / speed without.
    pub slowdown_ratio: f64,
    /// Robust deviations by which it waits less than its peers.
    pub score: f64,
    pub verdict: Verdict,
    pub now: Row,
    pub peers: Row,
    pub peer_count: usize,
    /// Share of the job's GPUs that the block has data of.
    pub completeness: f64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Member {
    occupied: Window,
    facts: Gatherer,
    /// Remembered ln A − median, and the blocks that it rests on.
    offset: f64,
    blocks: u32,
    /// Facts while healthy.
    past: Option<Vec<f64>>,
    sum: f64,
    since: Option<Micros>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct JobJudge {
    members: BTreeMap<u32, Member>,
    /// Seconds of which it is not yet known whether they are communication or a pause: occupied share by GPU.
    held: Vec<Vec<(u32, f64)>>,
    paused: bool,
    pace: Pace,
    seconds: u32,
    /// Median ln A while healthy: the job's speed.
    speed: Option<f64>,
    speed_blocks: u32,
    /// Sum and number of the median ln A of the blocks since there is a suspect.
    slowed: (f64, u32),
    peers_past: Option<Vec<f64>>,
}

impl JobJudge {
    pub fn judge(&mut self, job: JobSlot, input: &Input<'_>) -> Vec<Finding> {
        if input.members.is_empty() {
            *self = Self::default();
            return Vec::new();
        }
        let column =
            |metric: GpuMetric, gpu: GpuSlot| input.gpus.column(metric as usize).get(gpu.0 as usize).copied().unwrap_or(f64::NAN);
        let mut busy = Vec::with_capacity(input.members.len());
        let mut occupied = Vec::with_capacity(input.members.len());
        for &gpu in input.members {
            let active = column(GpuMetric::SmActive, gpu);
            if active.is_nan() {
                continue;
            }
            let share = occupancy::busy(active);
            busy.push(share);
            occupied.push((gpu.0, occupancy::occupied(active, column(GpuMetric::Utilization, gpu))));
            let node = input.fleet.node_of(gpu).0 as usize;
            let watts = input.power.get(gpu.0 as usize).map_or(f64::NAN, |&watts| f64::from(watts));
            let member = self.members.entry(gpu.0).or_default();
            member.facts.take(
                input.second,
                input.gpus,
                gpu.0 as usize,
                input.nodes.map(|nodes| (nodes, node)),
                watts,
                share > 0.5,
            );
        }
        if busy.len() < PEERS {
            return Vec::new();
        }
        let busy = median(&mut busy);
        self.pace.take(busy);
        self.count(occupied, busy);
        if self.seconds < self.pace.block() {
            return Vec::new();
        }
        self.finish_block(job, input)
    }

    /// Counts a second in, unless nobody computes for longer than communication would take.
    fn count(&mut self, occupied: Vec<(u32, f64)>, busy: f64) {
        if busy < QUIET {
            if self.paused {
                return;
            }
            self.held.push(occupied);
            if self.held.len() >= self.pace.pause() {
                self.held.clear();
                self.paused = true;
            }
            return;
        }
        self.paused = false;
        let (held, block) = (std::mem::take(&mut self.held), self.pace.block());
        for second in held.into_iter().chain([occupied]) {
            for (gpu, share) in second {
                let member = self.members.entry(gpu).or_default();
                member.occupied.take(self.seconds, block, share);
            }
            self.seconds += 1;
        }
    }

    fn finish_block(&mut self, job: JobSlot, input: &Input<'_>) -> Vec<Finding> {
        let at = Micros((input.second + 1) * 1_000_000);
        let seconds = std::mem::take(&mut self.seconds);
        let block = self.pace.block();
        self.pace.look();
        self.members.retain(|&gpu, _| input.members.binary_search(&GpuSlot(gpu)).is_ok());
        let mut level: BTreeMap<u32, f64> = BTreeMap::new();
        let mut rows: BTreeMap<u32, Row> = BTreeMap::new();
        for (&gpu, member) in &mut self.members {
            rows.insert(gpu, member.facts.finish());
            if let Some(occupied) = member.occupied.finish(block) {
                level.insert(gpu, occupied.max(0.02).ln());
            }
        }
        if level.len() < PEERS {
            return Vec::new();
        }
        let middle = median(&mut level.values().copied().collect::<Vec<_>>());
        let difference: BTreeMap<u32, f64> =
            level.iter().map(|(&gpu, level)| (gpu, level - middle - self.members[&gpu].offset)).collect();
        let centre = median(&mut difference.values().copied().collect::<Vec<_>>());
        let spread = median(&mut difference.values().map(|d| (d - centre).abs()).collect::<Vec<_>>());
        let deviation = (1.4826 * spread).max(DEVIATION);
        for (gpu, d) in &difference {
            let member = self.members.get_mut(gpu).expect("a member for each level");
            let z = ((d - centre) / deviation).clamp(-CLIP, CLIP);
            member.sum = (member.sum + z - SLACK).max(0.0);
            if member.sum > 0.0 {
                member.since.get_or_insert(at - i64::from(seconds) * 1_000_000);
                member.sum = member.sum.min(3.0 * ALARM);
            } else {
                member.since = None;
            }
        }
        let peers = medians(rows.values());
        let suspects: Vec<u32> = difference.keys().copied().filter(|gpu| self.members[gpu].sum >= ALARM_FACT).collect();
        self.slowed = if suspects.is_empty() { (0.0, 0) } else { (self.slowed.0 + middle, self.slowed.1 + 1) };
        let block = Block { job, at, middle, deviation, difference: &difference, rows: &rows, peers: &peers };
        let finding = self.accuse(&suspects, &block, input);
        let role = self.is_role(&difference, input.fleet);
        self.learn(&level, &rows, &peers, middle, suspects.is_empty(), role);
        finding.into_iter().collect()
    }

    /// Names the suspect, if the suspects are one GPU or one node and the job is slower for it.
    fn accuse(&self, suspects: &[u32], block: &Block<'_>, input: &Input<'_>) -> Option<Finding> {
        let strongest = *suspects.iter().max_by(|a, b| block.difference[a].total_cmp(&block.difference[b]))?;
        let node = input.fleet.node_of(GpuSlot(strongest));
        let largest = block.difference[&strongest];
        // Who waits almost as little as the strongest suffers from the same cause.
        let alike = |gpu: &&u32| block.difference[gpu] > ALIKE * largest;
        let elsewhere = suspects.iter().filter(alike).filter(|&&gpu| input.fleet.node_of(GpuSlot(gpu)) != node).count();
        if elsewhere > 0 {
            return None;
        }
        let here: Vec<u32> =
            block.difference.keys().filter(alike).copied().filter(|&gpu| input.fleet.node_of(GpuSlot(gpu)) == node).collect();
        let whole_node = here.len() >= 3;
        let now = if whole_node { medians(here.iter().map(|gpu| &block.rows[gpu])) } else { block.rows[&strongest] };
        let member = &self.members[&strongest];
        let learned = member.blocks >= LEARN;
        let past: Option<Row> = match (&member.past, whole_node) {
            (Some(_), true) => {
                let rows: Vec<Row> = here.iter().filter_map(|gpu| row(self.members[gpu].past.as_ref())).collect();
                Some(medians(rows.iter()))
            }
            (past, _) => row(past.as_ref()),
        };
        let verdict = cause::explain(&now, past.as_ref(), block.peers, row(self.peers_past.as_ref()).as_ref());
        // Victims' waiting: what the culprit does longer than its peers is what they wait.
        let expected = (block.middle + member.offset).exp();
        let gap = (expected * largest.exp()).min(1.0) - expected;
        let slowdown = match self.speed {
            Some(speed) if self.speed_blocks >= LEARN => 1.0 - (self.slowed.0 / f64::from(self.slowed.1.max(1)) - speed).exp(),
            _ => gap,
        };
        let plausible = slowdown >= LEAST_SLOWDOWN && slowdown >= 0.25 * gap;
        let enough = if verdict.cause == Cause::Unknown || (verdict.cause == Cause::ClockLock && !learned) {
            learned && member.sum >= ALARM
        } else {
            member.sum >= ALARM_FACT
        };
        let since = here.iter().filter_map(|gpu| self.members[gpu].since).min().unwrap_or(block.at);
        Some(Finding {
            job: block.job,
            node,
            gpu: (!whole_node).then_some(GpuSlot(strongest)),
            since,
            at: block.at,
            alarm: plausible && enough && largest > 0.0,
            slowdown_ratio: slowdown.max(0.0),
            score: largest / block.deviation,
            verdict,
            now,
            peers: *block.peers,
            peer_count: block.difference.len() - here.len(),
            completeness: block.difference.len() as f64 / input.members.len() as f64,
        })
    }

    /// Whether members on more than one node stand out alike: what many show is their role, not a fault. One that barely
    /// stands out beside one that does so by far is noise.
    fn is_role(&self, difference: &BTreeMap<u32, f64>, fleet: &Fleet) -> bool {
        let outstanding = || difference.iter().filter(|(gpu, _)| self.members[gpu].sum > STANDS_OUT);
        let largest = outstanding().map(|(_, &d)| d).fold(f64::MIN, f64::max);
        let mut nodes = outstanding().filter(|(_, d)| **d > ALIKE * largest).map(|(&gpu, _)| fleet.node_of(GpuSlot(gpu)));
        let first = nodes.next();
        nodes.any(|node| Some(node) != first)
    }

    /// Remembers what healthy looks like; a suspect teaches nothing, a role is learned.
    fn learn(
        &mut self,
        level: &BTreeMap<u32, f64>,
        rows: &BTreeMap<u32, Row>,
        peers: &Row,
        middle: f64,
        healthy: bool,
        role: bool,
    ) {
        for (gpu, level) in level {
            let member = self.members.get_mut(gpu).expect("a member for each level");
            if member.sum > STANDS_OUT {
                if !role {
                    continue;
                }
                member.sum = 0.0;
            }
            member.blocks += 1;
            let weight = 1.0 / f64::from(member.blocks).min(FOLLOW);
            let change = (level - middle - member.offset).clamp(-0.3, 0.3);
            member.offset += weight * change;
            follow(&mut member.past, &rows[gpu], weight);
        }
        if healthy {
            self.speed_blocks += 1;
            let weight = 1.0 / f64::from(self.speed_blocks).min(FOLLOW);
            let speed = self.speed.get_or_insert(middle);
            *speed += weight * (middle - *speed);
            follow(&mut self.peers_past, peers, weight);
        }
    }
}

struct Block<'a> {
    job: JobSlot,
    at: Micros,
    middle: f64,
    deviation: f64,
    difference: &'a BTreeMap<u32, f64>,
    rows: &'a BTreeMap<u32, Row>,
    peers: &'a Row,
}

fn medians<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Row {
    let mut middle = [f64::NAN; Fact::COUNT];
    for (fact, value) in middle.iter_mut().enumerate() {
        *value = median(&mut rows.clone().map(|row| row[fact]).filter(|value| !value.is_nan()).collect::<Vec<_>>());
    }
    middle
}

fn row(past: Option<&Vec<f64>>) -> Option<Row> {
    past.and_then(|past| past.as_slice().try_into().ok())
}

fn follow(past: &mut Option<Vec<f64>>, now: &Row, weight: f64) {
    let past = past.get_or_insert_with(|| now.to_vec());
    for (past, &now) in past.iter_mut().zip(now) {
        if past.is_nan() {
            *past = now;
        } else if !now.is_nan() {
            *past += weight * (now - *past);
        }
    }
}
