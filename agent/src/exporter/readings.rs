//! The latest readings of the GPUs and the node, as `/metrics` shows them: a metric that was not read has no series.

use crate::reader::protocol::{Inventory, Part, Sweep};
use gridstep_wire::catalog::{self, Metric, Rate, Subject};
use gridstep_wire::pb::metric::Kind;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const POWER: u32 = catalog::index(catalog::GPU, "power_watts");
/// Shown with the reason, for all GPUs.
const UP: u32 = catalog::index(catalog::GPU, "up");
/// Numbers that mean something on the wire only.
const JOB: &str = "job";

#[derive(Clone)]
pub(crate) struct Readings {
    families: Arc<[Family]>,
    state: Arc<Mutex<State>>,
}

/// A metric of the catalog under the name that it has in `/metrics`.
struct Family {
    subject: Subject,
    /// Place in the list of the subject's metrics.
    id: u32,
    name: String,
    metric: &'static Metric,
    desc: Desc,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) driver_version: String,
    pub(super) gpus: BTreeMap<u32, Gpu>,
    node: BTreeMap<u32, i64>,
    /// Of a GPU or, without one, of the node: values by kind and name.
    parts: BTreeMap<(Subject, Option<u32>, String), BTreeMap<u32, i64>>,
}

#[derive(Default)]
pub(super) struct Gpu {
    pub(super) uuid: String,
    pub(super) model: String,
    pub(super) pci_bus_id: String,
    /// Why it does not answer.
    pub(super) down: Option<&'static str>,
    /// By place in the catalog, as on the wire.
    pub(super) values: BTreeMap<u32, i64>,
}

impl Readings {
    pub(super) fn new() -> prometheus::Result<Self> {
        let all = Subject::ALL.into_iter().flat_map(|subject| (0..).zip(subject.metrics()).map(move |of| (subject, of)));
        let shown = all.filter(|(_, (_, metric))| metric.name != JOB);
        let families =
            shown.map(|(subject, (id, metric))| Family::new(subject, id, metric)).collect::<prometheus::Result<_>>()?;
        Ok(Self { families, state: Arc::default() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn identify(&self, inventory: &Inventory) {
        let mut state = self.lock();
        for gpu in &inventory.gpus {
            let known = state.gpus.entry(gpu.index).or_default();
            known.uuid.clone_from(&gpu.uuid);
            known.model.clone_from(&gpu.model);
            known.pci_bus_id.clone_from(&gpu.pci_bus_id);
        }
        state.driver_version.clone_from(&inventory.driver_version);
    }

    /// What was read last is not what is: all series of the GPU end, but for that it is down.
    pub(crate) fn down(&self, index: u32, why: &'static str) {
        let mut state = self.lock();
        let gpu = state.gpus.entry(index).or_default();
        gpu.down = Some(why);
        gpu.values.clear();
        state.parts.retain(|(_, of, _), _| *of != Some(index));
    }

    pub(crate) fn power(&self, gpu: u32, milliwatts: u32) {
        self.lock().gpus.entry(gpu).or_default().values.insert(POWER, i64::from(milliwatts));
    }

    /// What the sweep does not have ends, but for what is not read in each.
    pub(crate) fn sweep(&self, sweep: &Sweep) {
        let mut state = self.lock();
        let gpu = state.gpus.entry(sweep.gpu).or_default();
        gpu.down = None;
        let stays = |rate| rate == Rate::Power || rate == Rate::Slow && !sweep.slow;
        gpu.values.retain(|&metric, _| stays(catalog::GPU[metric as usize].rate));
        gpu.values.extend(sweep.metrics.iter().copied().zip(sweep.values.iter().copied()));
        state.parts(Some(sweep.gpu), &sweep.parts);
    }

    /// GPUs that answer, and GPUs that do not.
    pub(crate) fn answering(&self) -> (usize, usize) {
        let state = self.lock();
        let silent = state.gpus.values().filter(|gpu| gpu.down.is_some()).count();
        (state.gpus.len() - silent, silent)
    }

    pub(crate) fn node(&self, values: &[(u32, i64)]) {
        self.lock().node = values.iter().copied().collect();
    }

    pub(crate) fn node_parts(&self, parts: &[Part]) {
        self.lock().parts(None, parts);
    }
}

impl State {
    /// Kinds of parts that were read are as they were read; of the others nothing changes.
    fn parts(&mut self, of: Option<u32>, parts: &[Part]) {
        let read: BTreeSet<Subject> = parts.iter().filter_map(Part::subject).collect();
        self.parts.retain(|(subject, owner, _), _| *owner != of || !read.contains(subject));
        for part in parts {
            if let Some(subject) = part.subject() {
                let values = part.metrics.iter().copied().zip(part.values.iter().copied()).collect();
                self.parts.insert((subject, of, part.name.clone()), values);
            }
        }
    }
}

impl Family {
    fn new(subject: Subject, id: u32, metric: &'static Metric) -> prometheus::Result<Self> {
        let labels = match (subject, id) {
            (Subject::Gpu, UP) => vec!["gpu", "uuid", "reason"],
            (Subject::Gpu, _) => vec!["gpu", "uuid"],
            (Subject::Nvlink, _) => vec!["gpu", "uuid", "nvlink"],
            (Subject::Node, _) => vec![],
            (Subject::Port | Subject::Interface | Subject::Disk, _) => vec![subject.name()],
        };
        let name = format!("gridstep_{}_{}", subject.name(), metric.name);
        let labels = labels.into_iter().map(Into::into).collect();
        let desc = Desc::new(name.clone(), metric.help.into(), labels, HashMap::new())?;
        Ok(Self { subject, id, name, metric, desc })
    }

    fn collect(&self, state: &State) -> Vec<proto::Metric> {
        match (self.subject, self.id) {
            (Subject::Gpu, UP) => state.gpus.iter().filter_map(|(index, gpu)| self.up(*index, gpu)).collect(),
            (Subject::Gpu, id) => {
                let value = |(index, gpu): (&u32, &Gpu)| Some(self.reading(labels(*index, gpu), *gpu.values.get(&id)?));
                state.gpus.iter().filter_map(value).collect()
            }
            (Subject::Node, id) => state.node.get(&id).map(|value| self.reading(Vec::new(), *value)).into_iter().collect(),
            (kind, id) => state
                .parts
                .iter()
                .filter(|(of, _)| of.0 == kind)
                .filter_map(|(of, values)| {
                    let mut labels = of.1.and_then(|index| Some(labels(index, state.gpus.get(&index)?))).unwrap_or_default();
                    labels.push(label(kind.name(), of.2.clone()));
                    Some(self.reading(labels, *values.get(&id)?))
                })
                .collect(),
        }
    }

    fn up(&self, index: u32, gpu: &Gpu) -> Option<proto::Metric> {
        let (up, reason) = match gpu.down {
            Some(why) => (0, why),
            None => (*gpu.values.get(&UP)?, ""),
        };
        let mut labels = labels(index, gpu);
        labels.push(label("reason", reason.into()));
        Some(self.reading(labels, up))
    }

    fn reading(&self, labels: Vec<LabelPair>, value: i64) -> proto::Metric {
        let value = self.metric.value(value);
        let mut metric = proto::Metric::default();
        metric.set_label(labels);
        if self.metric.kind == Kind::Counter {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    }
}

impl Collector for Readings {
    fn desc(&self) -> Vec<&Desc> {
        self.families.iter().map(|family| &family.desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let state = self.lock();
        let mut out = Vec::new();
        for family in self.families.iter() {
            let metrics = family.collect(&state);
            if metrics.is_empty() {
                continue;
            }
            let kind = if family.metric.kind == Kind::Counter { MetricType::COUNTER } else { MetricType::GAUGE };
            let mut shown = MetricFamily::default();
            shown.set_name(family.name.clone());
            shown.set_help(family.metric.help.into());
            shown.set_field_type(kind);
            shown.set_metric(metrics);
            out.push(shown);
        }
        out
    }
}

fn labels(index: u32, gpu: &Gpu) -> Vec<LabelPair> {
    vec![label("gpu", index.to_string()), label("uuid", gpu.uuid.clone())]
}

pub(super) fn label(name: &str, value: String) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.into());
    pair.set_value(value);
    pair
}

#[cfg(test)]
mod tests {
    use crate::exporter::Metrics;
    use crate::reader::protocol::{Gpu, Inventory, Sweep};
    use gridstep_wire::catalog;

    fn sweep(energy: i64) -> Sweep {
        let mut sweep = Sweep { gpu: 3, ..Sweep::default() };
        sweep.put(super::UP, 1);
        sweep.put(catalog::index(catalog::GPU, "energy_joules_total"), energy);
        sweep
    }

    #[test]
    fn readings_come_with_type_help_and_labels() {
        let metrics = Metrics::new().unwrap();
        let gpu = Gpu { index: 3, uuid: "GPU-a".into(), ..Gpu::default() };
        metrics.readings.identify(&Inventory { gpus: vec![gpu], ..Inventory::default() });
        metrics.readings.sweep(&sweep(1_234_567));
        metrics.readings.power(3, 700_500);
        let text = metrics.text();
        for line in [
            "# HELP gridstep_gpu_energy_joules_total energy of the board since the driver was loaded",
            "# TYPE gridstep_gpu_energy_joules_total counter",
            "gridstep_gpu_energy_joules_total{gpu=\"3\",uuid=\"GPU-a\"} 1234.567",
            "# TYPE gridstep_gpu_power_watts gauge",
            "gridstep_gpu_power_watts{gpu=\"3\",uuid=\"GPU-a\"} 700.5",
            "gridstep_gpu_up{gpu=\"3\",uuid=\"GPU-a\",reason=\"\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn a_gpu_that_does_not_answer_has_no_readings() {
        let metrics = Metrics::new().unwrap();
        metrics.readings.sweep(&sweep(1));
        metrics.readings.down(3, "gpu_lost");
        let text = metrics.text();
        assert!(text.contains("gridstep_gpu_up{gpu=\"3\",uuid=\"\",reason=\"gpu_lost\"} 0"), "{text}");
        assert!(!text.contains("gridstep_gpu_energy"), "{text}");
        metrics.readings.sweep(&sweep(2));
        assert!(metrics.text().contains("gridstep_gpu_energy_joules_total{gpu=\"3\",uuid=\"\"} 0.002"));
    }
}
