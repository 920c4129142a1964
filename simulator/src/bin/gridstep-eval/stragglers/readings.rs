//! What an agent reads of a board and of its node, once a second.

use super::fault::{Cause, Fault};
use super::fleet::{Event, Setup, micros};
use super::world::{Doing, World};
use crate::random::Random;
use gridstep_collector::fleet::{GpuMetric, GpuSlot, NodeMetric, NodeSlot};
use gridstep_collector::judge::Judge;
use gridstep_wire::reasons;

impl Setup {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn sample(
        &self,
        world: &mut World,
        judge: &mut Judge,
        gpu: usize,
        at: f64,
        skew: f64,
        lost: bool,
        sums: &mut [f32; 5],
    ) {
        let shares = world.shares(gpu, at - 1.0, at);
        let occupied = shares.gap + shares.compute + shares.spin;
        let active = shares.compute * world.busy + shares.spin * world.spin + 0.004 * world.random.normal();
        let active = if occupied > 0.0 { active.clamp(0.0, 1.0) } else { 0.0 };
        let utilization = shares.compute + shares.spin;
        let state = world.doing(gpu, at);
        let clock = match state {
            Doing::Nothing => 345.0,
            Doing::Host | Doing::Spin => self.free_clock(at),
            Doing::Compute => world.clock(self, gpu, at),
        };
        sums[0] += (shares.compute + shares.gap) as f32;
        sums[1] += utilization as f32;
        sums[3] += clock as f32;
        let bits = self.reasons(world, gpu, at, state);
        let heat = self.heat(gpu, at);
        let limit = self.limit(world, gpu, at);
        let (width, generation) = self.link(world, gpu, at, state);
        self.count(world, gpu, at);
        if lost {
            return;
        }
        let board = &world.boards[gpu];
        let loaded = if occupied > 0.5 { 0.0 } else { -25.0 };
        let temperature = board.temperature + loaded + heat + 0.5 * world.random.normal();
        let c = board.counters;
        let stamp = micros(at - 0.5 + skew);
        let slot = GpuSlot(gpu as u32);
        let mut put = |metric, value| judge.put_gpu(slot, metric, stamp, value);
        if self.gpm {
            put(GpuMetric::SmActive, active);
            put(GpuMetric::TensorActive, 0.45 * shares.compute);
        }
        put(GpuMetric::Utilization, utilization);
        put(GpuMetric::SmClock, clock);
        put(GpuMetric::Temperature, temperature.round());
        put(GpuMetric::MemoryTemperature, (temperature + 9.0).round());
        put(GpuMetric::EventReasons, bits as f64);
        put(GpuMetric::PowerLimit, limit);
        put(GpuMetric::PcieWidth, width);
        put(GpuMetric::PcieGeneration, generation);
        put(GpuMetric::PcieReplays, c[0]);
        put(GpuMetric::NvlinkErrors, c[1]);
        put(GpuMetric::EccCorrected, c[2]);
        put(GpuMetric::EccUncorrected, c[3]);
        put(GpuMetric::RemappedRows, c[4]);
        put(GpuMetric::NvlinkBytes, 8e10 * shares.compute);
        put(GpuMetric::Up, 1.0);
    }

    fn free_clock(&self, t: f64) -> f64 {
        let set = self.events.iter().find_map(|event| match *event {
            Event::Clocks(from, share) if t >= from => Some(share),
            _ => None,
        });
        1905.0 * set.unwrap_or(1.0)
    }

    fn faults_of(&self, gpu: usize, t: f64) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(move |fault| fault.strikes(gpu / 8, gpu % 8) && fault.on(t))
    }

    fn reasons(&self, world: &mut World, gpu: usize, t: f64, state: Doing) -> u64 {
        if state == Doing::Nothing {
            return reasons::GPU_IDLE;
        }
        let mut bits = 0;
        if state == Doing::Compute && (self.always_capped || world.random.chance(0.3)) {
            bits |= reasons::SW_POWER_CAP;
        }
        for fault in self.faults_of(gpu, t) {
            let shows = world.random.chance(fault.strength);
            match fault.cause {
                Cause::PowerBrake if shows => bits |= reasons::HW_POWER_BRAKE | reasons::HW_SLOWDOWN,
                Cause::PowerCap => bits |= reasons::SW_POWER_CAP,
                Cause::Thermal if shows => bits |= if fault.token < 4 { reasons::SW_THERMAL } else { reasons::HW_THERMAL },
                Cause::ClockLock => bits &= !reasons::SW_POWER_CAP,
                _ => {}
            }
        }
        for event in &self.events {
            if let Event::Flicker(own, at, seconds, mask) = *event
                && own == gpu
                && (at..at + seconds).contains(&t)
            {
                bits |= mask;
            }
        }
        bits
    }

    fn heat(&self, gpu: usize, t: f64) -> f64 {
        let faults: f64 = self
            .faults_of(gpu, t)
            .filter(|fault| fault.cause == Cause::Thermal)
            .map(|fault| 20.0 * ((t - fault.start) / 20.0).min(1.0))
            .sum();
        let events: f64 = self
            .events
            .iter()
            .map(|event| match *event {
                Event::Warmer(from, by) if t >= from => by,
                _ => 0.0,
            })
            .sum();
        faults + events
    }

    fn limit(&self, world: &World, gpu: usize, t: f64) -> f64 {
        let mut limit = world.boards[gpu].limit;
        if let Some(fault) = self.faults_of(gpu, t).find(|fault| fault.cause == Cause::PowerCap && fault.token < 4) {
            limit *= 1.0 - (0.15 + fault.slowdown).min(0.7);
        }
        for event in &self.events {
            if let Event::Limit(own, from, watts) = *event
                && own == gpu
                && t >= from
            {
                limit = watts;
            }
        }
        limit
    }

    fn link(&self, world: &World, gpu: usize, t: f64, state: Doing) -> (f64, f64) {
        let (mut width, mut generation) = (world.boards[gpu].width, if state == Doing::Nothing { 1.0 } else { 5.0 });
        for fault in self.faults_of(gpu, t).filter(|fault| fault.cause == Cause::PcieDegraded) {
            match fault.token {
                0 | 1 => width /= 4.0,
                2 | 3 => generation = f64::min(generation, 3.0),
                _ => {}
            }
        }
        (width, generation)
    }

    /// One second of errors.
    fn count(&self, world: &mut World, gpu: usize, t: f64) {
        let mut grown = [0.0; 5];
        for fault in self.faults_of(gpu, t) {
            let many = |random: &mut Random, rate: f64| (rate * random.within(0.5, 1.5)).round();
            match fault.cause {
                Cause::PcieDegraded if fault.token >= 4 => grown[0] += many(&mut world.random, 30.0 * fault.strength),
                Cause::NvlinkErrors => grown[1] += many(&mut world.random, 40.0 * fault.strength),
                Cause::HbmDegraded if fault.token < 3 => grown[2] += many(&mut world.random, 10.0 * fault.strength),
                Cause::HbmDegraded if fault.token < 5 && world.random.chance(0.1) => grown[4] += 1.0,
                Cause::HbmDegraded if fault.token == 5 && world.random.chance(0.1) => grown[3] += 1.0,
                _ => {}
            }
        }
        for event in &self.events {
            match *event {
                Event::Reload(node, at) if node == gpu / 8 && (at..at + 1.0).contains(&t) => {
                    world.boards[gpu].counters = [0.0; 5]
                }
                Event::Errors(own, rate) if own == gpu => grown[1] += (rate * world.random.within(0.5, 1.5)).round(),
                Event::Burst(own, at, which) if own == gpu && (at..at + 1.0).contains(&t) => grown[which as usize % 3] += 900.0,
                _ => {}
            }
        }
        // Now and then one error more, on anybody.
        if world.random.chance(2e-4) {
            grown[(world.random.unit() * 3.0) as usize] += 1.0;
        }
        world.boards[gpu].counters.iter_mut().zip(grown).for_each(|(counter, grown)| *counter += grown);
    }

    pub(super) fn sample_node(&self, world: &mut World, judge: &mut Judge, node: usize, at: f64, skew: f64) {
        let faults: Vec<&Fault> =
            self.faults.iter().filter(|fault| fault.node == node && fault.gpu.is_none() && fault.on(at)).collect();
        let (mut cpu, mut pressure, mut link) = (0.2 + 0.01 * world.random.normal(), 0.002, 4e11);
        for event in &self.events {
            if let Event::Port(own, rate) = *event
                && own == node
            {
                link = rate;
            }
        }
        for fault in faults {
            match fault.cause {
                Cause::CpuContention => (cpu, pressure) = (0.5 + 0.4 * fault.strength, 0.3 + 0.4 * fault.strength),
                Cause::NetworkSlow if fault.token < 3 => link /= 4.0,
                Cause::NetworkSlow => world.network_errors[node] += (60.0 * fault.strength).round(),
                _ => {}
            }
        }
        if world.random.chance(1e-3) {
            world.network_errors[node] += 1.0;
        }
        let (slot, stamp) = (NodeSlot(node as u32), micros(at + skew));
        judge.put_node(slot, NodeMetric::CpuUtilization, stamp, cpu.clamp(0.0, 1.0));
        judge.put_node(slot, NodeMetric::CpuPressure, stamp, pressure);
        judge.put_node(slot, NodeMetric::NetworkLink, stamp, link);
        judge.put_node(slot, NodeMetric::NetworkErrors, stamp, world.network_errors[node]);
        judge.put_node(slot, NodeMetric::ClockError, stamp, 0.001);
    }
}
