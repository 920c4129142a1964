//! What happens inside a GPU, by GPU performance monitoring (GPM): means between two sweeps.
//!
//! The board lets one owner have it. Where the driver refuses, as when another profiler holds it, it is off, which is told and counted, and
//! tried again every tenth sweep. A metric that the driver does not know costs no other: where a whole request is refused, each metric is
//! tried by itself once.

use super::raw::{Metrics, Samples};
use super::values::{Absent, Value, Values};
use super::watch::Watch;
use gridstep_wire::catalog;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

const fn id(name: &str) -> u32 {
    catalog::index(catalog::GPU, name)
}

const MIB: f64 = 1_048_576.0;
/// Percent to the catalog's 10⁻⁴.
const PERCENT: f64 = 100.0;

const PCIE_SENT: u32 = id("pcie_sent_bytes_per_second");
const PCIE_RECEIVED: u32 = id("pcie_received_bytes_per_second");

/// NVML_GPM_METRIC_*, the metric that it adds to, and what one of its units is in it.
const SOURCES: &[(u32, u32, f64)] = &[
    (1, id("engine_active_ratio"), PERCENT),
    (2, id("sm_active_ratio"), PERCENT),
    (3, id("sm_occupancy_ratio"), PERCENT),
    (5, id("tensor_active_ratio"), PERCENT),
    (10, id("dram_active_ratio"), PERCENT),
    (11, id("fp64_active_ratio"), PERCENT),
    (12, id("fp32_active_ratio"), PERCENT),
    (13, id("fp16_active_ratio"), PERCENT),
    (20, PCIE_SENT, MIB),
    (21, PCIE_RECEIVED, MIB),
    (20, id("pcie_bytes_per_second"), MIB),
    (21, id("pcie_bytes_per_second"), MIB),
    (60, id("nvlink_received_bytes_per_second"), MIB),
    (61, id("nvlink_sent_bytes_per_second"), MIB),
    (60, id("nvlink_bytes_per_second"), MIB),
    (61, id("nvlink_bytes_per_second"), MIB),
];

/// NVML_GPM_METRIC_*, and percent or MiB a second.
type Mean = (u32, Result<f64, NvmlError>);

/// What the metric `gpm_state` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// The board or the driver has none, or it is switched off.
    #[default]
    Absent,
    Read,
    Refused,
}

/// Of one GPU.
#[derive(Default)]
pub(super) struct Monitor<'nvml> {
    samples: Option<Samples<'nvml>>,
    state: State,
    tried: bool,
    refusals: i64,
    /// What the driver said the last time.
    why: String,
}

impl Monitor<'_> {
    pub(super) fn state(&self) -> i64 {
        self.state as i64
    }

    pub(super) fn refusals(&self) -> i64 {
        self.refusals
    }

    /// Why the driver refuses it, where it does.
    pub(super) fn refused(&self) -> Option<&str> {
        (self.state == State::Refused).then_some(self.why.as_str())
    }

    fn refuse(&mut self, why: &NvmlError) {
        self.state = match why {
            NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => State::Absent,
            _ => State::Refused,
        };
        self.refusals += i64::from(self.state == State::Refused);
        self.why = why.to_string();
    }
}

/// The one owner of GPM in this process.
pub(super) struct Activity<'nvml> {
    nvml: &'nvml Nvml,
    /// None: switched off.
    metrics: Option<Metrics>,
    /// Each metric was tried by itself.
    sifted: bool,
}

impl<'nvml> Activity<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml, on: bool) -> Self {
        Self { nvml, metrics: on.then(|| Metrics::new(&ids())), sifted: false }
    }

    /// Means since the sweep before; `slow`: a GPU that was refused is tried again.
    pub(super) fn read(
        &mut self,
        device: &Device<'nvml>,
        monitor: &mut Monitor<'nvml>,
        slow: bool,
        out: &mut Values,
        watch: &Watch,
    ) {
        if self.metrics.is_none() {
            return out.refuse(metrics(), Absent::SwitchedOff);
        }
        if monitor.state != State::Read && std::mem::replace(&mut monitor.tried, true) && !slow {
            return;
        }
        if let Err(why) = self.sample(device, monitor, out, watch) {
            monitor.refuse(&why);
            out.refuse(metrics(), why);
        }
    }

    fn sample(
        &mut self,
        device: &Device<'nvml>,
        monitor: &mut Monitor<'nvml>,
        out: &mut Values,
        watch: &Watch,
    ) -> Result<(), NvmlError> {
        let samples = match &mut monitor.samples {
            Some(samples) => samples,
            none => none.insert(watch.call("nvmlGpmSampleAlloc", || Samples::new(self.nvml))?),
        };
        watch.call("nvmlGpmSampleGet", || samples.take(device))?;
        if samples.are_two() {
            for (id, value) in self.between(samples, watch)? {
                let value = value.map_err(Absent::from);
                for &(_, metric, factor) in SOURCES.iter().filter(|source| source.0 == id) {
                    out.add(metric, value.clone().and_then(|value| scaled(value, factor)));
                }
            }
        }
        monitor.state = State::Read;
        Ok(())
    }

    /// By one call; where the driver refuses that, without what it does not know.
    fn between(&mut self, samples: &Samples<'_>, watch: &Watch) -> Result<Vec<Mean>, NvmlError> {
        let metrics = self.metrics.as_mut().ok_or(NvmlError::NotSupported)?;
        match watch.call("nvmlGpmMetricsGet", || Ok(metrics.read(samples)?.collect())) {
            Err(NvmlError::InvalidArg | NvmlError::NotSupported) if !self.sifted => {}
            result => return result,
        }
        self.sifted = true;
        let known = |id: &u32| watch.call("nvmlGpmMetricsGet", || Metrics::new(&[*id]).read(samples).map(drop)).is_ok();
        let known: Vec<u32> = ids().into_iter().filter(known).collect();
        let metrics = self.metrics.insert(Metrics::new(&known));
        watch.call("nvmlGpmMetricsGet", || Ok(metrics.read(samples)?.collect()))
    }
}

fn ids() -> Vec<u32> {
    let mut ids: Vec<u32> = SOURCES.iter().map(|source| source.0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn metrics() -> impl Iterator<Item = u32> {
    SOURCES.iter().map(|source| source.1)
}

fn scaled(value: f64, factor: f64) -> Value {
    if value.is_finite() { Ok((value * factor) as i64) } else { Err(Absent::Range) }
}

/// Bytes a second over PCIe, sent and received, where they were read.
pub(super) fn pcie_rates(values: &Values) -> [Option<i64>; 2] {
    [PCIE_SENT, PCIE_RECEIVED].map(|metric| values.get(metric))
}
