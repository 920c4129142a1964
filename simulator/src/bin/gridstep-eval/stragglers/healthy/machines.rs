//! What healthy machines have been through, and go through: totals of errors, bursts, bits that flicker, narrow links, limits.

use crate::random::Random;
use gridstep_wire::reasons;

const DAY: f64 = 86_400.0;
/// Of each GPU, a day: bursts of errors, flickering thermal bits, limits set that do not bind. Of each node: flickering power brakes.
const BURSTS: f64 = 2.0;
const FLICKERS: f64 = 4.0;
const LIMITS: f64 = 0.2;
const BRAKES: f64 = 2.0;
/// Single errors of a GPU, and of a node's network, each second.
const ERRORS: f64 = 2e-4;
const NETWORK_ERRORS: f64 = 1e-3;

pub(super) struct Board {
    pub(super) clock: f64,
    pub(super) width: f64,
    pub(super) limit: f64,
    pub(super) temperature: f64,
    /// PCIe, NVLink, corrected memory errors.
    pub(super) counters: [f64; 3],
    /// NVLink errors each second that nobody waits for.
    rate: f64,
    /// Bits that are set until then.
    flicker: (u64, f64),
}

impl Board {
    pub(super) fn bits(&self, t: f64) -> u64 {
        if t < self.flicker.1 { self.flicker.0 } else { 0 }
    }
}

pub(super) struct Host {
    pub(super) link: f64,
    pub(super) errors: f64,
}

pub(super) struct Machines {
    pub(super) boards: Vec<Board>,
    pub(super) hosts: Vec<Host>,
    noisy: Vec<usize>,
}

impl Machines {
    /// `narrow`: some ports are. Where a job communicates much, it waits for those, and they are no false alarm.
    pub(super) fn new(gpus: usize, narrow: bool, random: &mut Random) -> Self {
        let board = |random: &mut Random| {
            let lived = |random: &mut Random, share: f64, most: f64| {
                if random.chance(share) { random.log_within(1.0, most).floor() } else { 0.0 }
            };
            Board {
                clock: (1845.0 * (1.0 + 0.006 * random.normal()) / 15.0).round() * 15.0,
                width: if random.chance(0.01) { 8.0 } else { 16.0 },
                limit: 700.0,
                temperature: 58.0 + 3.0 * random.normal(),
                counters: [lived(random, 0.3, 500.0), lived(random, 0.2, 2000.0), lived(random, 0.2, 200.0)],
                rate: if random.chance(0.002) { random.within(1.0, 60.0) } else { 0.0 },
                flicker: (0, 0.0),
            }
        };
        let boards: Vec<Board> = (0..gpus).map(|_| board(random)).collect();
        let noisy = (0..gpus).filter(|&gpu| boards[gpu].rate > 0.0).collect();
        let host = |_| Host {
            link: if narrow && random.chance(0.01) { 2e11 } else { 4e11 },
            errors: if random.chance(0.3) { random.log_within(1.0, 3000.0).floor() } else { 0.0 },
        };
        let hosts = (0..gpus / 8).map(host).collect();
        Self { boards, hosts, noisy }
    }

    /// One second of it.
    pub(super) fn live(&mut self, t: f64, random: &mut Random) {
        let (gpus, hosts) = (self.boards.len(), self.hosts.len());
        let some = |random: &mut Random, count: usize| (random.unit() * count as f64) as usize;
        for _ in 0..how_many(random, ERRORS * gpus as f64) {
            let (gpu, which) = (some(random, gpus), some(random, 3));
            self.boards[gpu].counters[which] += 1.0;
        }
        for _ in 0..how_many(random, BURSTS / DAY * gpus as f64) {
            let (gpu, which) = (some(random, gpus), some(random, 3));
            self.boards[gpu].counters[which] += random.log_within(10.0, 2000.0).floor();
        }
        for _ in 0..how_many(random, FLICKERS / DAY * gpus as f64) {
            let (gpu, until) = (some(random, gpus), t + random.within(1.0, 8.0));
            self.boards[gpu].flicker = (reasons::SW_THERMAL, until);
        }
        for _ in 0..how_many(random, LIMITS / DAY * gpus as f64) {
            let gpu = some(random, gpus);
            self.boards[gpu].limit = if random.chance(0.5) { 680.0 } else { 700.0 };
        }
        for _ in 0..how_many(random, BRAKES / DAY * hosts as f64) {
            let (host, until) = (some(random, hosts), t + random.within(1.0, 2.0));
            let bits = reasons::HW_POWER_BRAKE | reasons::HW_SLOWDOWN;
            self.boards[host * 8..host * 8 + 8].iter_mut().for_each(|board| board.flicker = (bits, until));
        }
        for _ in 0..how_many(random, NETWORK_ERRORS * hosts as f64) {
            let host = some(random, hosts);
            self.hosts[host].errors += 1.0;
        }
        for &gpu in &self.noisy {
            let board = &mut self.boards[gpu];
            board.counters[1] += (board.rate * random.within(0.5, 1.5)).round();
        }
    }
}

/// A Poisson number, by waiting times.
fn how_many(random: &mut Random, mean: f64) -> usize {
    let mut count = 0;
    let mut waited = -random.unit().max(1e-12).ln();
    while waited < mean {
        count += 1;
        waited -= random.unit().max(1e-12).ln();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_many_as_they_should_be() {
        let mut random = Random::new(1);
        let total: usize = (0..10_000).map(|_| how_many(&mut random, 0.7)).sum();
        assert!((6700..7300).contains(&total), "{total}");
    }
}
