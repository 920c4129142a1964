//! The whole judging in one pure value: samples and the times of their arrival in, incidents out. Live and replay run this.

use crate::fleet::{Fleet, GpuMetric, GpuSlot, JobSlot, NodeMetric, NodeSlot, Place};
use crate::incidents::Incident;
use crate::power::Limits;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// `[power]`, `[align]` … of the collector's configuration: all that bears on a judgement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    pub power: PowerConfig,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PowerConfig {
    pub limits: Limits,
}

/// One final 100-ms bin of the fleet's power, for pages and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PowerPoint {
    /// Centre of the bin.
    pub at: Micros,
    /// Sum of the fleet on the configured basis, missing sources imputed.
    pub watts: f64,
    /// Share of the expected sources that the sum rests on, 0 to 1.
    pub completeness: f64,
}

/// The latest final second of one GPU, for pages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpuView {
    pub power_watts: Option<f64>,
    pub temperature_celsius: Option<f64>,
    pub sm_clock_mhz: Option<f64>,
    pub sm_active_ratio: Option<f64>,
    pub utilization_ratio: Option<f64>,
    pub job: Option<JobSlot>,
    /// Some(false): lost, or its driver hangs.
    pub up: Option<bool>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Judge {
    fleet: Fleet,
}

impl Judge {
    pub fn new(config: JudgeConfig, topology: &[Place]) -> Self {
        let _ = config;
        Self { fleet: Fleet::new(topology) }
    }

    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    pub fn fleet_mut(&mut self) -> &mut Fleet {
        &mut self.fleet
    }

    /// Lets time pass up to `now`, the time of arrival of what comes next (live: the collector's clock). Call it before
    /// each put; bins whose deadline has passed become final and are judged. Never goes back.
    pub fn advance(&mut self, _now: Micros) {}

    /// Board power of one GPU. Samples of one GPU come in the order of their stamps; older ones are counted as late.
    pub fn put_gpu_power(&mut self, _gpu: GpuSlot, _ts: Micros, _watts: f64) {}

    /// Whole-node power, measured at the BMC, PDU or PSU.
    pub fn put_node_power(&mut self, _node: NodeSlot, _ts: Micros, _watts: f64) {}

    pub fn put_gpu(&mut self, _gpu: GpuSlot, _metric: GpuMetric, _ts: Micros, _value: f64) {}

    pub fn put_node(&mut self, _node: NodeSlot, _metric: NodeMetric, _ts: Micros, _value: f64) {}

    /// Which job the GPU works for from now on. None: idle.
    pub fn put_gpu_job(&mut self, _gpu: GpuSlot, _ts: Micros, _job: Option<JobSlot>) {}

    /// Which job the node works for, where only nodes are known.
    pub fn put_node_job(&mut self, _node: NodeSlot, _ts: Micros, _job: Option<JobSlot>) {}

    /// Something that an agent says has happened ("gpu_lost", "driver_hung", "driver_back", "gpu_back", "xid", …).
    pub fn put_event(&mut self, _node: NodeSlot, _gpu: Option<GpuSlot>, _ts: Micros, _kind: &str, _code: i64) {}

    /// No sample is coming any more (end of a recording).
    pub fn finish(&mut self) {}

    /// Revisions since the last call, in order; the last of an id is its state.
    pub fn take_revisions(&mut self) -> Vec<Incident> {
        Vec::new()
    }

    /// Every incident, newest last: all open ones, and the closed ones of the last 24 hours.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        [].iter()
    }

    /// Everything up to here has been judged: samples before it are no longer needed.
    pub fn judged_until(&self) -> Micros {
        Micros::MIN
    }

    /// The fleet's power, the last 15 minutes of final bins, oldest first.
    pub fn power_history(&self) -> impl DoubleEndedIterator<Item = PowerPoint> + '_ {
        [].into_iter()
    }

    pub fn gpu_view(&self, _gpu: GpuSlot) -> GpuView {
        GpuView {
            power_watts: None,
            temperature_celsius: None,
            sm_clock_mhz: None,
            sm_active_ratio: None,
            utilization_ratio: None,
            job: None,
            up: None,
        }
    }

    /// Samples that came after their bin was final, and were not used.
    pub fn late_samples(&self) -> u64 {
        0
    }

    /// The limits in force (defaults filled in from the contract or the fleet's nameplate).
    pub fn limits(&self) -> Limits {
        Limits::default()
    }
}
