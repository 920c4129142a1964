//! When what is read.
//!
//! Time runs in ticks of the power period, or a part of it where that is long. A GPU is due for power every so many of them, and for everything else every so many sweep
//! periods, as its [`pace`](super::pace) says. GPUs of a node take turns, and nodes tick at different moments, by their names: so a fleet
//! that reads power twice a second samples its sum ten times a second, and longer series never beat with each other.

use super::Arguments;
use super::driver::{self, Driver, Due, Options, Reading};
use super::opening;
use super::pace::Finest;
use super::power::PowerSource;
use super::protocol::{self, Frame};
use super::watch::Watch;
use anyhow::{Context, bail};
use gridstep_wire::Micros;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two attempts to reach the driver.
const RETRY: Duration = Duration::from_secs(1);
/// Rounds of a measurement, and the time between them: activity needs two samples.
const ROUNDS: u32 = 10;
const APART: Duration = Duration::from_millis(150);
/// Between two looks whether GPUs are read often enough, or too often.
const ADAPT: Duration = Duration::from_secs(1);
/// A frame leaves at least this often, and XIDs are heard, also where nothing is due.
const LONGEST_SILENCE: Duration = Duration::from_millis(500);
/// A driver that has lost all GPUs for so long is opened anew.
const ALL_LOST: Duration = Duration::from_secs(30);

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let library = arguments.nvml_library.as_deref();
    let watch = Arc::new(if arguments.measure { Watch::measuring() } else { Watch::default() });
    watch.clone().spawn(Duration::from_millis(arguments.deadline_ms)).context("starting the watching thread")?;
    // Opening is not watched: with many boards it takes a driver several seconds.
    let nvml = match driver::init(library) {
        Err(error) if arguments.measure => bail!(opening::advice(library, &error)),
        Err(error) => wait_for_driver(library, error)?,
        Ok(nvml) => nvml,
    };
    let finest = Finest {
        power: Duration::from_millis(arguments.power_period_ms),
        sweep: Duration::from_millis(arguments.sweep_period_ms),
    };
    let options = Options {
        skip: &arguments.skip_gpu,
        explain: arguments.measure,
        gpm: !arguments.no_gpm,
        source: if arguments.measure { PowerSource::Field } else { arguments.power_source },
        budget: Duration::from_micros(arguments.budget_us),
        finest,
    };
    let mut driver = Driver::new(&nvml, &options, watch.clone());
    protocol::write(&Frame { inventory: Some(driver.inventory()), ..Frame::default() })?;
    if arguments.measure { measure(&mut driver, &watch) } else { stream(&mut driver, &watch, finest, &arguments.node) }
}

fn wait_for_driver(library: Option<&Path>, mut error: NvmlError) -> anyhow::Result<Nvml> {
    loop {
        let why = opening::advice(library, &error);
        if opening::needs_fresh_process(&error) {
            bail!(why);
        }
        protocol::write(&Frame { waiting: why, ..Frame::default() })?;
        std::thread::sleep(RETRY);
        match driver::init(library) {
            Ok(nvml) => return Ok(nvml),
            Err(again) => error = again,
        }
    }
}

/// Places a node among others: the same for the same name (FNV-1a).
fn place(node: &str) -> u64 {
    node.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Ticks, counted so that nodes whose clocks agree tick at moments of their own.
struct Ticks {
    tick: Duration,
    start: Instant,
    /// Number of the tick at `start`, and what had passed of it.
    first: u64,
    passed: Duration,
}

impl Ticks {
    fn new(tick: Duration, node: &str) -> Self {
        let tick_us = tick.as_micros().max(1) as u64;
        let place = place(node);
        // Half of the bits say when within a tick, half in which tick.
        let now = (Micros::now().0.max(0) as u64).wrapping_add((place >> 32) % tick_us);
        let first = now / tick_us + (place & 0xffff_ffff);
        Self { tick, start: Instant::now(), first, passed: Duration::from_micros(now % tick_us) }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The tick that is now.
    fn now(&self) -> u64 {
        self.first + ((self.elapsed() + self.passed).as_micros() / self.tick.as_micros().max(1)) as u64
    }

    fn sleep_until(&self, tick: u64) {
        let at = Duration::from_micros((tick - self.first) * self.tick.as_micros() as u64).saturating_sub(self.passed);
        std::thread::sleep(at.saturating_sub(self.elapsed()));
    }
}

/// The first tick after `now` whose number is `turn` in rounds of so many.
fn next(now: u64, round: u64, turn: u64) -> u64 {
    let round = round.max(1);
    let late = (now + round - turn % round) % round;
    now + round - late
}

/// Reads as long as somebody listens and the driver is there.
fn stream(driver: &mut Driver, watch: &Watch, finest: Finest, node: &str) -> anyhow::Result<()> {
    let tick = finest.power / finest.power.as_millis().div_ceil(LONGEST_SILENCE.as_millis()).max(1) as u32;
    let ticks = Ticks::new(tick, node);
    let ticks_in = |period: Duration| (period.as_micros() / tick.as_micros().max(1)).max(1) as u64;
    let (sweep_ticks, adapt_ticks) = (ticks_in(finest.sweep), ticks_in(ADAPT));
    let mut now = ticks.now();
    let mut adapt = now;
    // All at once for a start; from then on each in its turn.
    let mut due: Vec<(u64, u64)> = (0..u64::from(driver.count())).map(|gpu| (now, now + gpu % sweep_ticks)).collect();
    let mut all_lost_since = None;
    loop {
        let mut frame = Frame::default();
        let mut may_look = true;
        for (gpu, (power, sweep)) in (0..).zip(&mut due) {
            let is = Due { power: now >= *power, sweep: now >= *sweep };
            if !is.power && !is.sweep {
                continue;
            }
            if let Err(gone) = take(driver, gpu, is, &mut may_look, &mut frame) {
                return leave(format!("the driver that was open has gone: {gone}"));
            }
            let (every, sweeps) = driver.periods(gpu, tick);
            // Ticks that a slow call has cost are left out, not caught up with. Where power is due in every tick, or every other, it is
            // for all GPUs at once, and sweeps are in those ticks too: as few wake-ups as can be.
            let (turn, sweep_turn) = if every > 2 { (u64::from(gpu), u64::from(gpu)) } else { (0, every * u64::from(gpu)) };
            if is.power {
                *power = next(now, every, turn);
            }
            if is.sweep {
                *sweep = next(now, sweep_ticks * sweeps, sweep_turn);
            }
        }
        frame.xids = driver.xids();
        if now >= adapt {
            adapt = now + adapt_ticks;
            frame.paces = driver.adapt(ticks.elapsed());
        }
        frame.driver_us = watch.take_driver_us();
        protocol::write(&frame).context("writing to the agent")?;
        if driver.all_lost(&frame) {
            let since = *all_lost_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= ALL_LOST {
                return leave("the driver has lost all gpus, opening it anew".into());
            }
        } else if !frame.sweeps.is_empty() {
            all_lost_since = None;
        }
        let first = due.iter().map(|(power, sweep)| *power.min(sweep)).min().unwrap_or(u64::MAX);
        let earliest = ticks.now() + 1;
        ticks.sleep_until(first.min(now + ticks_in(LONGEST_SILENCE)).max(earliest));
        now = ticks.now();
    }
}

/// The driver that was there has gone: what this process has loaded is of no use to the next one.
fn leave(why: String) -> anyhow::Result<()> {
    protocol::write(&Frame { gone: why, ..Frame::default() }).context("writing to the agent")
}

/// Reads everything a few times; the last frame has what the last round gave, and what all calls cost.
fn measure(driver: &mut Driver, watch: &Watch) -> anyhow::Result<()> {
    let mut frame = Frame::default();
    for _ in 0..ROUNDS {
        frame = Frame::default();
        for gpu in 0..driver.count() {
            take(driver, gpu, Due { power: true, sweep: true }, &mut false, &mut frame)?;
            // A sign of life.
            protocol::write(&Frame::default()).context("writing to the agent")?;
        }
        frame.xids = driver.xids();
        std::thread::sleep(APART);
    }
    frame.costs = watch.take_costs();
    protocol::write(&frame).context("writing to the agent")
}

/// Reads what is due; the error is that the driver has gone.
fn take(driver: &mut Driver, gpu: u32, due: Due, may_look: &mut bool, frame: &mut Frame) -> Result<(), NvmlError> {
    match driver.read(gpu, due, may_look) {
        Reading::Skipped => {}
        Reading::Lost => frame.lost.push(gpu),
        Reading::DriverGone(why) => return Err(why),
        Reading::Values { power, sweep } => {
            frame.power.extend(power);
            frame.sweeps.extend(sweep);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_round() {
        assert_eq!((10..16).map(|now| next(now, 5, 2)).collect::<Vec<_>>(), [12, 12, 17, 17, 17, 17]);
        assert_eq!(next(7, 1, 3), 8);
        // Eight GPUs at 2 Hz: in each of five ticks one or two.
        let ticks: Vec<u64> = (0..8).map(|gpu| next(100, 5, gpu)).collect();
        assert_eq!(ticks, [105, 101, 102, 103, 104, 105, 101, 102]);
    }

    #[test]
    fn nodes_tick_at_moments_of_their_own() {
        let tick = Duration::from_millis(100);
        let phase = |node: &str| {
            let ticks = Ticks::new(tick, node);
            // When a round of five begins, against the clock.
            let to_next = (tick - ticks.passed) + tick * (4 - (ticks.first % 5) as u32);
            (Micros::now().0 + to_next.as_micros() as i64).rem_euclid(500_000)
        };
        let mut phases: Vec<i64> = (0..200).map(|node| phase(&format!("node{node:05}"))).collect();
        phases.sort_unstable();
        let widest = phases.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        // By chance alone about 13 ms between two of 200.
        assert!(widest < 60_000, "{widest} µs without a node");
        let again = (phase("node00007") - phase("node00007")).abs();
        assert!(again.min(500_000 - again) < 50_000, "{again} µs apart");
    }
}
