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
use std::time::Instant;

const fn id(name: &str) -> u32 {
    catalog::index(catalog::GPU, name)
}

const POWER: u32 = id("power_watts");

/// What reading a GPU leaves for its next reading.
#[derive(Default)]
pub(super) struct Before<'nvml> {
    gpm: Monitor<'nvml>,
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
        self.list_processes(device, &mut sweep, &mut out, watch);
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

    fn list_processes(&mut self, device: &Device<'_>, sweep: &mut Sweep, out: &mut Values, watch: &Watch) {
        let metrics = const { [id("processes"), id("process_memory_bytes")] };
        match watch.call("nvmlDeviceGetComputeRunningProcesses_v3", || self.processes.read(device)) {
            Ok((pids, bytes)) => {
                out.put(metrics[0], Ok::<_, Absent>(pids.len()));
                out.put(metrics[1], Ok::<_, Absent>(bytes));
                sweep.pids = pids;
            }
            Err(why) => out.refuse(metrics, why),
        }
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
