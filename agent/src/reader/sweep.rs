//! One GPU's values, whatever they are read by.

use super::activity::{self, Activity, Monitor};
use super::fields::{Batch, PCIE_BYTES, Rest};
use super::plausible::Plausible;
use super::protocol::Sweep;
use super::raw::Processes;
use super::values::{Absent, Values};
use super::version::DriverVersion;
use super::watch::Watch;
use super::wrapping::Wrapping;
use super::{getters, slow};
use gridstep_wire::{Micros, catalog};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use std::time::{Duration, Instant};

const fn id(name: &str) -> u32 {
    catalog::index(catalog::GPU, name)
}

const POWER: u32 = id("power_watts");

/// A list of processes that took longer is asked for with what hardly ever changes alone: there are drivers that need milliseconds for it.
const DEAR_LIST: Duration = Duration::from_micros(200);

/// What reading a GPU leaves for its next reading.
#[derive(Default)]
pub(super) struct Before<'nvml> {
    gpm: Monitor<'nvml>,
    /// The last list of processes with the memory that they have, and how long it took.
    listed: Option<(Vec<u32>, u64)>,
    list_took: Duration,
    /// Replays and recoveries by link.
    link_errors: Vec<i64>,
    /// Sent and received.
    pcie_bytes: [Wrapping; 2],
    pcie_read: Option<Instant>,
    pub(super) plausible: Plausible,
}

/// Reads GPUs, one at a time.
pub(super) struct Sweeper<'nvml> {
    often: Batch,
    /// With what hardly ever changes.
    whole: Batch,
    activity: Activity<'nvml>,
    processes: Processes,
    explain: bool,
}

impl<'nvml> Sweeper<'nvml> {
    /// `gpm`: performance monitoring is read; `explain`: why metrics are missing is noted.
    pub(super) fn new(nvml: &'nvml Nvml, driver_version: &str, gpm: bool, explain: bool) -> Self {
        let driver = DriverVersion::parse(driver_version);
        Self {
            often: Batch::new(driver, false),
            whole: Batch::new(driver, true),
            activity: Activity::new(nvml, gpm),
            processes: Processes::default(),
            explain,
        }
    }

    /// Everything else; `power` only explains where there is none, `slow`: with what hardly ever changes.
    pub(super) fn sweep(
        &mut self,
        device: &Device<'nvml>,
        gpu: u32,
        power: Option<NvmlError>,
        slow: bool,
        before: &mut Before<'nvml>,
        watch: &Watch,
    ) -> Sweep {
        let mut out = Values::new(slow);
        let mut sweep = Sweep { gpu, slow, ..Sweep::default() };
        if let Some(why) = power {
            out.refuse([POWER], why);
        }
        getters::often(device, &mut out, watch);
        let batch = if slow { &mut self.whole } else { &mut self.often };
        let rest = batch.read(device, &mut out, watch);
        getters::instead_of_fields(device, &mut out, watch);
        self.activity.read(device, &mut before.gpm, slow, &mut out, watch);
        if let Some(rest) = rest {
            sweep.parts = rest.links.parts();
            before.count(rest, &mut out);
        }
        if slow || before.list_took <= DEAR_LIST {
            self.list_processes(device, before, &mut out, watch);
        }
        if let Some((pids, bytes)) = &before.listed {
            out.put(const { id("processes") }, Ok::<_, Absent>(pids.len()));
            out.put(const { id("process_memory_bytes") }, Ok::<_, Absent>(*bytes));
            sweep.pids.clone_from(pids);
        }
        if slow {
            // So many calls more have a deadline of their own.
            watch.enter(Some(gpu));
            slow::read(device, &mut out, watch);
        }
        before.plausible.check(&mut out, Instant::now());
        (sweep.metrics, sweep.values, sweep.missing) = out.split(self.explain);
        sweep.ts_us = Micros::now().0;
        sweep
    }

    fn list_processes(&mut self, device: &Device<'_>, before: &mut Before<'_>, out: &mut Values, watch: &Watch) {
        let spent = watch.spent();
        let listed = watch.call("nvmlDeviceGetComputeRunningProcesses_v3", || self.processes.read(device));
        before.list_took = watch.spent() - spent;
        before.listed = listed.map_err(|why| out.refuse(const { [id("processes"), id("process_memory_bytes")] }, why)).ok();
    }
}

impl Before<'_> {
    /// What is counted on from sweep to sweep.
    fn count(&mut self, rest: Rest, out: &mut Values) {
        let now = Instant::now();
        let elapsed = self.pcie_read.replace(now).map(|read| (now - read).as_secs_f64());
        let rates = activity::pcie_rates(out);
        let counters = PCIE_BYTES.into_iter().zip(&mut self.pcie_bytes).zip(rates);
        for (((metric, counter), rate), read) in counters.zip(rest.pcie_bytes) {
            let expected = rate.zip(elapsed).map(|(rate, elapsed)| (rate as f64 * elapsed) as i64);
            out.put(metric, read.map(|read| counter.count(read, expected)));
        }
        rest.links.sum(&mut self.link_errors, out);
    }

    pub(super) fn gpm(&self) -> &Monitor<'_> {
        &self.gpm
    }
}
