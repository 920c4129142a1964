//! What the ids of one stream mean.

use super::Malformed;
use super::decode::{GpuTarget, NodeTarget};
use crate::fleet::{GpuMetric, NodeMetric};
use gridstep_wire::pb::{self, entity::What};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// More of a kind is refused: memory per stream is bounded.
const MAX_METRICS: usize = 4096;
const MAX_ENTITIES: usize = 4096;
const MAX_JOBS: usize = 65_536;
const MAX_NAME_BYTES: usize = 1024;
/// Powers of ten that any unit needs.
const MAX_EXPONENT: u32 = 18;
/// NVML indices go up to here.
pub(super) const MAX_GPU_INDEX: u32 = 254;

/// A declared metric, as far as the judging knows it. Both targets None: its columns are skipped.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metric {
    name: String,
    exponent: i32,
    /// Ten to the exponent, as a divisor where that is exact and a factor is not; the other is 1.
    divisor: f64,
    factor: f64,
    pub(super) gpu: Option<GpuTarget>,
    pub(super) node: Option<NodeTarget>,
}

impl Metric {
    fn new(name: String, exponent: i32) -> Self {
        let power = 10f64.powi(exponent.abs());
        let (divisor, factor) = if exponent < 0 { (power, 1.0) } else { (1.0, power) };
        let (gpu, node) = (GpuTarget::from_name(&name), NodeTarget::from_name(&name));
        Self { name, exponent, divisor, factor, gpu, node }
    }

    /// The value in base units.
    #[inline]
    pub(super) fn scale(&self, value: i64) -> f64 {
        value as f64 / self.divisor * self.factor
    }
}

/// What the driver says a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub index: u8,
    pub uuid: String,
    pub model: String,
}

/// What the rows of an entity are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Node,
    /// By its NVML index.
    Gpu(u8),
    /// Something that the judging does not know: its rows are skipped.
    Other,
}

impl About {
    /// Some(None) is the node itself; None: something else.
    pub(super) fn gpu(self) -> Option<Option<u8>> {
        match self {
            Self::Node => Some(None),
            Self::Gpu(index) => Some(Some(index)),
            Self::Other => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct Declared {
    metrics: HashMap<u32, Metric>,
    entities: HashMap<u32, About>,
    jobs: HashMap<u32, Arc<str>>,
}

impl Declared {
    /// Takes over the meanings; gives what is now known of GPUs.
    pub fn declare(&mut self, declare: pb::Declare) -> Result<Vec<Identity>, Malformed> {
        declare.metrics.into_iter().try_for_each(|metric| self.metric(metric)).map_err(Malformed::Declare)?;
        declare.jobs.into_iter().try_for_each(|job| self.job(job)).map_err(Malformed::Declare)?;
        let gpus = declare.entities.into_iter().filter_map(|entity| self.entity(entity).transpose());
        gpus.collect::<Result<_, _>>().map_err(Malformed::Declare)
    }

    pub(super) fn metric_of(&self, id: u32) -> Option<&Metric> {
        self.metrics.get(&id)
    }

    /// None: it was not declared.
    pub(super) fn about(&self, entity: u32) -> Option<About> {
        if entity == 0 { Some(About::Node) } else { self.entities.get(&entity).copied() }
    }

    pub(super) fn job_of(&self, id: i64) -> Option<Option<Arc<str>>> {
        if id == 0 { Some(None) } else { self.jobs.get(&u32::try_from(id).ok()?).cloned().map(Some) }
    }

    fn metric(&mut self, declared: pb::Metric) -> Result<(), String> {
        let pb::Metric { id, name, exponent, .. } = declared;
        check_name("metric", id, &name)?;
        if exponent.unsigned_abs() > MAX_EXPONENT {
            return Err(format!("metric {id} has exponent {exponent}"));
        }
        insert("metric", &mut self.metrics, MAX_METRICS, id, Metric::new(name, exponent))
    }

    fn job(&mut self, declared: pb::Job) -> Result<(), String> {
        let pb::Job { id, name, .. } = declared;
        check_name("job", id, &name)?;
        if id == 0 {
            return Err(format!("job {name} has the id of idle, 0"));
        }
        insert("job", &mut self.jobs, MAX_JOBS, id, name.into())
    }

    /// UUID and model may become known later; the index of an entity stays.
    fn entity(&mut self, declared: pb::Entity) -> Result<Option<Identity>, String> {
        let id = declared.id;
        if id == 0 {
            return Err("an entity has the id of the node, 0".into());
        }
        let Some(What::Gpu(gpu)) = declared.what else {
            insert("entity", &mut self.entities, MAX_ENTITIES, id, About::Other)?;
            return Ok(None);
        };
        if gpu.index > MAX_GPU_INDEX {
            return Err(format!("entity {id} is GPU {}, beyond {MAX_GPU_INDEX}", gpu.index));
        }
        for text in [&gpu.uuid, &gpu.model] {
            check_length("entity", id, text)?;
        }
        let index = gpu.index as u8;
        insert("entity", &mut self.entities, MAX_ENTITIES, id, About::Gpu(index))?;
        Ok(Some(Identity { index, uuid: gpu.uuid, model: gpu.model }))
    }
}

fn check_name(what: &str, id: u32, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("{what} {id} has no name"));
    }
    check_length(what, id, name)
}

fn check_length(what: &str, id: u32, text: &str) -> Result<(), String> {
    if text.len() > MAX_NAME_BYTES {
        return Err(format!("{what} {id} has a name of {} bytes", text.len()));
    }
    Ok(())
}

/// An id keeps its meaning.
fn insert<T: PartialEq>(what: &str, map: &mut HashMap<u32, T>, most: usize, id: u32, meaning: T) -> Result<(), String> {
    let count = map.len();
    match map.entry(id) {
        Entry::Occupied(entry) if *entry.get() != meaning => Err(format!("{what} {id} changes its meaning")),
        Entry::Occupied(_) => Ok(()),
        Entry::Vacant(_) if count >= most => Err(format!("more than {most} of {what}")),
        Entry::Vacant(entry) => {
            entry.insert(meaning);
            Ok(())
        }
    }
}

impl GpuTarget {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "power_watts" => Some(Self::Power),
            "job" => Some(Self::Job),
            _ => GpuMetric::from_name(name).map(Self::Metric),
        }
    }
}

impl NodeTarget {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "power_watts" => Some(Self::Power),
            "job" => Some(Self::Job),
            _ => NodeMetric::from_name(name).map(Self::Metric),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(id: u32, name: &str, exponent: i32) -> pb::Declare {
        let metric = pb::Metric { id, name: name.into(), exponent, ..Default::default() };
        pb::Declare { metrics: vec![metric], ..Default::default() }
    }

    #[test]
    fn an_id_keeps_its_meaning() {
        let mut declared = Declared::default();
        declared.declare(metric(1, "power_watts", -3)).unwrap();
        declared.declare(metric(1, "power_watts", -3)).unwrap();
        let error = declared.declare(metric(1, "power_watts", 0)).unwrap_err();
        assert_eq!(error.to_string(), "declare: metric 1 changes its meaning");
    }

    #[test]
    fn milliwatts_become_watts_exactly() {
        let mut declared = Declared::default();
        declared.declare(metric(1, "power_watts", -3)).unwrap();
        assert_eq!(declared.metric_of(1).unwrap().scale(700_100), 700.1);
    }

    #[test]
    fn metrics_that_the_judging_does_not_know_are_no_fault() {
        let mut declared = Declared::default();
        declared.declare(metric(1, "fan_speed_ratio", 0)).unwrap();
        assert_eq!(declared.metric_of(1).unwrap().gpu, None);
    }
}
