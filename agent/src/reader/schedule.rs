//! When what is read: power every tick, everything else once a sweep period.

use super::Arguments;
use super::driver::{self, Driver, Reading};
use super::protocol::{self, Frame};
use super::watch::Watch;
use anyhow::Context;
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

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let library = arguments.nvml_library.as_deref();
    if let Some(gpu) = arguments.try_gpu {
        return driver::touch(library, gpu).context("opening the driver");
    }
    let watch = Arc::new(if arguments.measure { Watch::measuring() } else { Watch::default() });
    watch.clone().spawn(Duration::from_millis(arguments.deadline_ms)).context("starting the watching thread")?;
    // Opening is not watched: with many boards it takes a driver several seconds.
    // NVML's errors show their source themselves.
    let nvml = match driver::init(library) {
        Err(error) if arguments.measure => anyhow::bail!("{error}"),
        Err(error) => wait_for_driver(library, error)?,
        Ok(nvml) => nvml,
    };
    let mut driver = Driver::new(&nvml, arguments, watch.clone());
    protocol::write(&Frame { inventory: Some(driver.inventory()), ..Frame::default() })?;
    if arguments.measure { measure(&mut driver, &watch) } else { stream(&mut driver, &watch, arguments) }
}

fn wait_for_driver(library: Option<&Path>, mut error: NvmlError) -> anyhow::Result<Nvml> {
    loop {
        protocol::write(&Frame { waiting: error.to_string(), ..Frame::default() })?;
        std::thread::sleep(RETRY);
        match driver::init(library) {
            Ok(nvml) => return Ok(nvml),
            Err(again) => error = again,
        }
    }
}

/// Reads as long as somebody listens.
fn stream(driver: &mut Driver, watch: &Watch, arguments: &Arguments) -> anyhow::Result<()> {
    let tick = Duration::from_millis(arguments.power_period_ms);
    let ticks_per_sweep = (arguments.sweep_period_ms / arguments.power_period_ms.max(1)).max(1);
    let start = Instant::now();
    let mut count = 0u64;
    let mut due: Vec<u64> = (0..u64::from(driver.count())).map(|gpu| gpu % ticks_per_sweep).collect();
    loop {
        let mut frame = Frame::default();
        // GPUs are swept in different ticks: no tick is long.
        for gpu in 0..driver.count() {
            let full = count >= due[gpu as usize];
            if full {
                let late = (count - due[gpu as usize]) % ticks_per_sweep;
                due[gpu as usize] = count - late + ticks_per_sweep;
            }
            take(driver, gpu, full, &mut frame);
        }
        frame.xids = driver.xids();
        frame.driver_us = watch.take_driver_us();
        protocol::write(&frame).context("writing to the agent")?;
        // Ticks that a slow call has cost are left out, not caught up with.
        count = (start.elapsed().as_micros() / tick.as_micros().max(1)) as u64 + 1;
        std::thread::sleep(Duration::from_micros(count * tick.as_micros() as u64).saturating_sub(start.elapsed()));
    }
}

/// Reads everything a few times; the last frame has what the last round gave, and what all calls cost.
fn measure(driver: &mut Driver, watch: &Watch) -> anyhow::Result<()> {
    let mut frame = Frame::default();
    for _ in 0..ROUNDS {
        frame = Frame::default();
        for gpu in 0..driver.count() {
            take(driver, gpu, true, &mut frame);
            // A sign of life.
            protocol::write(&Frame::default()).context("writing to the agent")?;
        }
        frame.xids = driver.xids();
        std::thread::sleep(APART);
    }
    frame.costs = watch.take_costs();
    protocol::write(&frame).context("writing to the agent")
}

fn take(driver: &mut Driver, gpu: u32, full: bool, frame: &mut Frame) {
    match driver.read(gpu, full) {
        Reading::Skipped => {}
        Reading::Lost => frame.lost.push(gpu),
        Reading::Values { power, sweep } => {
            frame.power.extend(power);
            frame.sweeps.extend(sweep);
        }
    }
}
