//! When what is read: power every tick, everything else once a sweep period; and the watch over a call that hangs.

use super::Arguments;
use super::protocol::{self, Frame};
use super::sweep::{Driver, Reading};
use anyhow::Context;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Between two attempts to reach the driver.
const RETRY: Duration = Duration::from_secs(1);

/// Which call is being made, for the watching thread.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Steps of the wall clock are no hanging calls.
    epoch: Instant,
    /// GPU + 1; 0: none.
    gpu: AtomicU32,
    /// Since when, microseconds of the epoch; 0: no call is being made.
    since_us: AtomicI64,
}

impl Default for Watch {
    fn default() -> Self {
        Self { epoch: Instant::now(), gpu: AtomicU32::new(0), since_us: AtomicI64::new(0) }
    }
}

impl Watch {
    fn now_us(&self) -> i64 {
        i64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(i64::MAX).max(1)
    }

    pub(super) fn enter(&self, gpu: u32) {
        self.gpu.store(gpu + 1, Ordering::Relaxed);
        self.since_us.store(self.now_us(), Ordering::Release);
    }

    pub(super) fn leave(&self) {
        self.since_us.store(0, Ordering::Release);
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(gpu) = arguments.try_gpu {
        return super::sweep::touch(arguments.nvml_library.as_deref(), gpu).context("opening the driver");
    }
    let watch = Arc::new(Watch::default());
    spawn_watcher(watch.clone(), Duration::from_millis(arguments.deadline_ms)).context("starting the watching thread")?;
    let nvml = loop {
        // Not watched: opening many boards takes a driver several seconds.
        match super::sweep::init(arguments.nvml_library.as_deref()) {
            Ok(nvml) => break nvml,
            Err(error) => protocol::write(&Frame { waiting: error.to_string(), ..Frame::default() })?,
        }
        std::thread::sleep(RETRY);
    };
    let mut driver = Driver::new(&nvml, &arguments.skip_gpu, watch);
    protocol::write(&Frame { inventory: Some(driver.inventory()), ..Frame::default() })?;
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
        // Ticks that a slow call has cost are left out, not caught up with.
        count = (start.elapsed().as_micros() / tick.as_micros().max(1)) as u64 + 1;
        std::thread::sleep(Duration::from_micros(count * tick.as_micros() as u64).saturating_sub(start.elapsed()));
    }
}

fn spawn_watcher(watch: Arc<Watch>, deadline: Duration) -> std::io::Result<()> {
    let body = move || {
        loop {
            std::thread::sleep(deadline / 8);
            let since = watch.since_us.load(Ordering::Acquire);
            if since != 0 && watch.now_us() - since > deadline.as_micros() as i64 {
                let hung_gpu = watch.gpu.load(Ordering::Relaxed);
                let _ = protocol::write(&Frame { hung_gpu, ..Frame::default() });
                std::process::exit(1);
            }
        }
    };
    std::thread::Builder::new().name("watch".into()).spawn(body).map(drop)
}
