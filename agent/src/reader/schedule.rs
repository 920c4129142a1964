//! When what is read: power every tick, everything else once a sweep period; and the watch over a call that hangs.

use super::Arguments;
use super::protocol::{self, Frame};
use super::sweep::{Driver, Reading};
use anyhow::Context;
use gridstep_wire::Micros;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

/// Between two attempts to reach the driver.
const RETRY: Duration = Duration::from_secs(1);

/// Which call is being made, for the watching thread.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// GPU + 1; 0: none.
    gpu: AtomicU32,
    /// Since when, microseconds; 0: no call is being made.
    since_us: AtomicI64,
}

impl Watch {
    pub(super) fn enter(&self, gpu: u32) {
        self.gpu.store(gpu + 1, Ordering::Relaxed);
        self.since_us.store(Micros::now().0, Ordering::Release);
    }

    pub(super) fn leave(&self) {
        self.since_us.store(0, Ordering::Release);
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let watch = Arc::new(Watch::default());
    spawn_watcher(watch.clone(), Duration::from_millis(arguments.deadline_ms)).context("starting the watching thread")?;
    let nvml = loop {
        watch.enter(0);
        let reached = super::sweep::init(arguments.nvml_library.as_deref());
        watch.leave();
        match reached {
            Ok(nvml) => break nvml,
            Err(error) => protocol::write(&Frame { waiting: error.to_string(), ..Frame::default() })?,
        }
        std::thread::sleep(RETRY);
    };
    let mut driver = Driver::new(&nvml, &arguments.skip_gpu, watch);
    protocol::write(&Frame { inventory: Some(driver.inventory()), ..Frame::default() })?;
    let tick = Duration::from_millis(arguments.power_period_ms);
    let ticks_per_sweep = (arguments.sweep_period_ms / arguments.power_period_ms.max(1)).max(1);
    let start = std::time::Instant::now();
    for count in 0u64.. {
        let mut frame = Frame::default();
        // GPUs are swept in different ticks: no tick is long.
        for gpu in 0..driver.count() {
            let full = (count + u64::from(gpu)).is_multiple_of(ticks_per_sweep);
            match driver.read(gpu, full) {
                Reading::Skipped => {}
                Reading::Lost => frame.lost.push(gpu),
                Reading::Values { power, sweep } => {
                    frame.power.extend(power);
                    frame.sweeps.extend(sweep);
                }
            }
        }
        frame.driver_us = driver.take_driver_us();
        protocol::write(&frame).context("writing to the agent")?;
        let next = tick * u32::try_from(count + 1).unwrap_or(u32::MAX);
        std::thread::sleep(next.saturating_sub(start.elapsed()));
    }
    Ok(())
}

fn spawn_watcher(watch: Arc<Watch>, deadline: Duration) -> std::io::Result<()> {
    let body = move || {
        loop {
            std::thread::sleep(deadline / 8);
            let since = watch.since_us.load(Ordering::Acquire);
            if since != 0 && Micros::now().0 - since > deadline.as_micros() as i64 {
                let hung_gpu = watch.gpu.load(Ordering::Relaxed);
                let _ = protocol::write(&Frame { hung_gpu, ..Frame::default() });
                std::process::exit(1);
            }
        }
    };
    std::thread::Builder::new().name("watch".into()).spawn(body).map(drop)
}
