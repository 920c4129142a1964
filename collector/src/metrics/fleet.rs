//! The fleet as the last view shows it: its power, its jobs, who of it is heard.

use super::add;
use super::swings::SwingMetrics;
use crate::live::View;
use crate::power::Resolved;
use gridstep_wire::Micros;
use prometheus::{Gauge, GaugeVec, IntGauge, Opts, Registry, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A node that has sent nothing for so long is silent, seconds.
const SILENT_SECONDS: f64 = 10.0;
/// Jobs beyond these are `other`, the smallest first.
const JOBS: usize = 500;

#[derive(Debug)]
pub(crate) struct FleetMetrics {
    power: Gauge,
    completeness: Gauge,
    /// Without labels, but as a vector: before anything is judged there is no series, rather than one of 1970.
    judged_until: GaugeVec,
    limits: GaugeVec,
    connected: IntGauge,
    expected: IntGauge,
    silent: IntGauge,
    lemons: IntGauge,
    swings: SwingMetrics,
    job_power: GaugeVec,
    job_gpus: GaugeVec,
    /// Jobs that have series.
    jobs: Mutex<BTreeSet<String>>,
}

impl FleetMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let vector = |name: &str, help: &str, labels: &[&str]| add(registry, GaugeVec::new(Opts::new(name, help), labels)?);
        let float = |name: &str, help: &str| add(registry, Gauge::new(name, help)?);
        let gauge = |name: &str, help: &str| add(registry, IntGauge::new(format!("gridstep_collector_{name}"), help)?);
        Ok(Self {
            power: float("gridstep_cluster_power_watts", "Power of the fleet on the configured basis, last final bin.")?,
            completeness: float("gridstep_cluster_completeness_ratio", "Share of the expected sources that the power rests on.")?,
            judged_until: vector(
                "gridstep_collector_judged_until_timestamp_seconds",
                "Everything up to here has been judged: behind by the watermark, more when the collector cannot keep up.",
                &[],
            )?,
            limits: vector("gridstep_power_limit_watts", "Limits in force: the contract, and what may change.", &["limit"])?,
            connected: gauge("nodes_connected", "Nodes with a stream.")?,
            expected: gauge("nodes_expected", "Nodes that were ever seen or that the topology has, less those out of service.")?,
            silent: gauge("nodes_silent", "Expected nodes that have sent nothing for 10 s.")?,
            lemons: add(
                registry,
                IntGauge::new(
                    "gridstep_lemon_nodes",
                    "Nodes with three incidents or more of their own, on two days or more of the last 28.",
                )?,
            )?,
            swings: SwingMetrics::new(registry)?,
            job_power: vector("gridstep_job_power_watts", "Power of the GPUs that work for a job.", &["hpc_job"])?,
            job_gpus: vector("gridstep_job_gpus", "GPUs that work for a job.", &["hpc_job"])?,
            jobs: Mutex::default(),
        })
    }

    pub(crate) fn set(&self, view: &View) {
        if let Some(point) = view.power.last() {
            self.power.set(point.watts);
            self.completeness.set(point.completeness);
        }
        if view.judged_until > Micros::default() {
            self.judged_until.with_label_values::<&str>(&[]).set(view.judged_until.seconds());
        }
        if let Some(limits) = &view.limits {
            self.set_limits(limits);
        }
        self.lemons.set(view.lemons.iter().filter(|node| node.lemon).count() as i64);
        self.swings.set(&view.swings);
        self.set_nodes(view);
        self.set_jobs(view);
    }

    fn set_limits(&self, limits: &Resolved) {
        let limit = |name: &str, watts: f64| self.limits.with_label_values(&[name]).set(watts);
        limit("contracted", limits.contracted_watts);
        limit("demand_15min", limits.demand_15min_watts);
        limit("oscillation", limits.oscillation_watts);
        for (seconds, watts) in limits.steps {
            limit(&format!("step_{seconds:.0}s"), watts);
        }
    }

    fn set_nodes(&self, view: &View) {
        let expected = || view.nodes.iter().filter(|node| node.in_service != Some(false));
        let is_silent = |last: Option<Micros>| last.is_none_or(|last| view.at.since(last) >= SILENT_SECONDS);
        self.connected.set(view.nodes.iter().filter(|node| node.connected).count() as i64);
        self.expected.set(expected().count() as i64);
        self.silent.set(expected().filter(|node| is_silent(node.last_batch)).count() as i64);
    }

    fn set_jobs(&self, view: &View) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *jobs);
        for (job, (gpus, watts)) in by_job(view) {
            self.job_gpus.with_label_values(&[&job]).set(gpus);
            self.job_power.with_label_values(&[&job]).set(watts);
            jobs.insert(job);
        }
        for gone in before.difference(&jobs) {
            for gauge in [&self.job_gpus, &self.job_power] {
                let _ = gauge.remove_label_values(&[gone]);
            }
        }
    }
}

/// GPUs and watts of each job, at most [`JOBS`] of them and `other`.
fn by_job(view: &View) -> BTreeMap<String, (f64, f64)> {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for gpu in view.nodes.iter().flat_map(|node| &node.gpus) {
        if let Some(job) = &gpu.job {
            let (gpus, watts) = sums.entry(job).or_default();
            *gpus += 1.0;
            *watts += gpu.power_watts.unwrap_or_default();
        }
    }
    let mut all: Vec<(&str, (f64, f64))> = sums.into_iter().collect();
    all.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    let mut jobs: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (place, (job, (gpus, watts))) in all.into_iter().enumerate() {
        let sum = jobs.entry(if place < JOBS { job.to_owned() } else { "other".to_owned() }).or_default();
        *sum = (sum.0 + gpus, sum.1 + watts);
    }
    jobs
}
