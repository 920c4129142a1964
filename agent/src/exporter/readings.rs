//! The latest readings of the GPUs and the node, as `/metrics` shows them: a metric that was not read has no series.

use crate::host::Reading;
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
/// Codes of XIDs that have a series of their own on a GPU; all others share one.
const MAX_CODES: usize = 32;
/// Code of those others: NVIDIA gives out no 0.
const OTHER: u64 = 0;
pub(super) const XIDS: (&str, &str) =
    ("gridstep_gpu_xids_by_code_total", "XIDs that the driver told since the agent started, by code");

#[derive(Clone)]
pub(crate) struct Readings {
    families: Arc<[Family]>,
    xids: Desc,
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
    /// XIDs since the agent started, by GPU and code: they outlive a GPU that does not answer.
    xids: BTreeMap<(u32, u64), u64>,
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
        let labels = ["gpu", "uuid", "xid"].map(Into::into).into();
        let xids = Desc::new(XIDS.0.into(), XIDS.1.into(), labels, HashMap::new())?;
        Ok(Self { families, xids, state: Arc::default() })
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

    pub(crate) fn xid(&self, gpu: u32, code: u64, times: u64) {
        let mut state = self.lock();
        let codes = state.xids.range((gpu, 0)..=(gpu, u64::MAX)).count();
        let own = codes < MAX_CODES || state.xids.contains_key(&(gpu, code));
        *state.xids.entry((gpu, if own { code } else { OTHER })).or_default() += times;
    }

    /// GPUs that answer, and GPUs that do not.
    pub(crate) fn answering(&self) -> (usize, usize) {
        let state = self.lock();
        let silent = state.gpus.values().filter(|gpu| gpu.down.is_some()).count();
        (state.gpus.len() - silent, silent)
    }

    /// The node and its parts are what these readings say together.
    pub(crate) fn node<'a>(&self, readings: impl Iterator<Item = &'a Reading>) {
        let mut state = self.lock();
        state.node.clear();
        state.parts.retain(|(_, of, _), _| of.is_some());
        for reading in readings {
            state.node.extend(reading.values.iter().copied());
            state.add_parts(None, &reading.parts);
        }
    }
}

impl State {
    fn xids(&self) -> MetricFamily {
        let series = self.xids.iter().map(|(&(gpu, code), &count)| {
            let mut labels = vec![label("gpu", gpu.to_string())];
            labels.push(label("uuid", self.gpus.get(&gpu).map(|gpu| gpu.uuid.clone()).unwrap_or_default()));
            labels.push(label("xid", if code == OTHER { "other".into() } else { code.to_string() }));
            number(Kind::Counter, labels, count as f64)
        });
        family(XIDS.0, XIDS.1, Kind::Counter, series.collect())
    }

    /// Kinds of parts that were read are as they were read; of the others nothing changes.
    fn parts(&mut self, of: Option<u32>, parts: &[Part]) {
        let read: BTreeSet<Subject> = parts.iter().filter_map(Part::subject).collect();
        self.parts.retain(|(subject, owner, _), _| *owner != of || !read.contains(subject));
        self.add_parts(of, parts);
    }

    /// A part that is read in several goes has what all of them gave.
    fn add_parts(&mut self, of: Option<u32>, parts: &[Part]) {
        for part in parts {
            if let Some(subject) = part.subject() {
                let values = part.metrics.iter().copied().zip(part.values.iter().copied());
                self.parts.entry((subject, of, part.name.clone())).or_default().extend(values);
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
        number(self.metric.kind, labels, self.metric.value(value))
    }
}

impl Collector for Readings {
    fn desc(&self) -> Vec<&Desc> {
        self.families.iter().map(|family| &family.desc).chain([&self.xids]).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let state = self.lock();
        let mut out = Vec::new();
        for family in self.families.iter() {
            let metrics = family.collect(&state);
            if !metrics.is_empty() {
                out.push(self::family(&family.name, family.metric.help, family.metric.kind, metrics));
            }
        }
        if !state.xids.is_empty() {
            out.push(state.xids());
        }
        out
    }
}

pub(super) fn family(name: &str, help: &str, kind: Kind, metrics: Vec<proto::Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(if kind == Kind::Counter { MetricType::COUNTER } else { MetricType::GAUGE });
    family.set_metric(metrics);
    family
}

pub(super) fn number(kind: Kind, labels: Vec<LabelPair>, value: f64) -> proto::Metric {
    let mut metric = proto::Metric::default();
    metric.set_label(labels);
    if kind == Kind::Counter {
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

    #[test]
    fn xids_are_counted_by_code_as_far_as_there_is_room() {
        let metrics = Metrics::new().unwrap();
        metrics.readings.xid(3, 79, 1);
        (1..=100).for_each(|code| metrics.readings.xid(3, code, 1));
        metrics.readings.down(3, "gpu_lost");
        let text = metrics.text();
        let of = |xid: &str| format!("gridstep_gpu_xids_by_code_total{{gpu=\"3\",uuid=\"\",xid=\"{xid}\"}}");
        assert!(text.contains(&format!("{} 2", of("79"))), "{text}");
        assert_eq!(text.matches("gridstep_gpu_xids_by_code_total{").count(), super::MAX_CODES + 1);
        assert!(text.contains(&format!("{} {}", of("other"), 101 - 1 - super::MAX_CODES)), "{text}");
    }
}
