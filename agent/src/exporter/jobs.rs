//! `gridstep_gpu_job_info`: whose each GPU is, a series for each process of a job. Its value is 1; it is there to be joined with the others
//! (docs/jobs.md), so that no other series has the labels of a job and ends with it.

use super::readings::{Readings, label};
use crate::jobs::Member;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

const NAME: &str = "gridstep_gpu_job_info";
const HELP: &str = "the job that a GPU computes for, and which of its processes does";
const LABELS: [&str; 9] = ["gpu", "uuid", "job", "step", "task", "rank", "namespace", "pod", "container"];

/// A GPU, and the values of the labels from `job` on.
type Series = (u32, [String; 7]);

#[derive(Clone)]
pub(crate) struct JobInfo {
    desc: Desc,
    shown: Arc<Mutex<BTreeSet<Series>>>,
    /// Knows the GPUs, and which of them answer.
    readings: Readings,
}

impl JobInfo {
    pub(super) fn new(readings: Readings) -> prometheus::Result<Self> {
        let desc = Desc::new(NAME.into(), HELP.into(), LABELS.map(Into::into).to_vec(), HashMap::new())?;
        Ok(Self { desc, shown: Arc::default(), readings })
    }

    /// All that there is now.
    pub(crate) fn show<'a>(&self, members: impl Iterator<Item = (u32, &'a Member)>) {
        let labels = |member: &Member| {
            let rank = member.rank.map(|rank| rank.to_string()).unwrap_or_default();
            let Member { job, step, task, namespace, pod, container, .. } = member.clone();
            [job, step, task, rank, namespace, pod, container]
        };
        let shown = members.map(|(gpu, member)| (gpu, labels(member))).collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

impl Collector for JobInfo {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.readings.lock();
        let info = |(index, labels): &Series| {
            let gpu = state.gpus.get(index).filter(|gpu| gpu.down.is_none())?;
            let of_gpu = [index.to_string(), gpu.uuid.clone()];
            let values = of_gpu.into_iter().chain(labels.iter().cloned());
            let pairs: Vec<LabelPair> = LABELS.into_iter().zip(values).map(|(name, value)| label(name, value)).collect();
            let (mut metric, mut gauge) = (Metric::default(), Gauge::default());
            gauge.set_value(1.0);
            metric.set_label(pairs);
            metric.set_gauge(gauge);
            Some(metric)
        };
        let metrics: Vec<Metric> = shown.iter().filter_map(info).collect();
        if metrics.is_empty() {
            return Vec::new();
        }
        let mut family = MetricFamily::default();
        family.set_name(NAME.into());
        family.set_help(HELP.into());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(metrics);
        vec![family]
    }
}
