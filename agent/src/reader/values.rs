//! The values of one sweep, by their place in the catalog.

use super::protocol::Missing;
use gridstep_wire::catalog::{self, Rate};
use nvml_wrapper::error::NvmlError;
use std::rc::Rc;

/// Why a metric has no value.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Absent {
    #[error("{0}")]
    Driver(Rc<NvmlError>),
    #[error("this driver does not have it yet, {0} has")]
    OldDriver(u32),
    #[error("out of range")]
    Range,
    #[error("{0} is nothing that a board can show")]
    Implausible(i64),
    #[error("switched off, reader.gpm = false")]
    SwitchedOff,
}

impl From<NvmlError> for Absent {
    fn from(error: NvmlError) -> Self {
        Self::Driver(Rc::new(error))
    }
}

pub(super) type Value = Result<i64, Absent>;

/// A slot for each metric of [`catalog::GPU`]; None: nothing has been tried.
pub(super) struct Values {
    slots: Vec<Option<Value>>,
    /// With what hardly ever changes; else such values are left out.
    slow: bool,
}

impl Values {
    pub(super) fn new(slow: bool) -> Self {
        Self { slots: catalog::GPU.iter().map(|_| None).collect(), slow }
    }

    fn slot(&mut self, metric: u32) -> Option<&mut Option<Value>> {
        let wanted = self.slow || catalog::GPU[metric as usize].rate != Rate::Slow;
        wanted.then(|| &mut self.slots[metric as usize])
    }

    pub(super) fn put(&mut self, metric: u32, value: Result<impl TryInto<i64>, impl Into<Absent>>) {
        let value = value.map_err(Into::into).and_then(|value| value.try_into().map_err(|_| Absent::Range));
        if let Some(slot) = self.slot(metric) {
            *slot = Some(value);
        }
    }

    /// None of these metrics has a value, as one call for all of them failed.
    pub(super) fn refuse(&mut self, metrics: impl IntoIterator<Item = u32>, why: impl Into<Absent>) {
        let why = why.into();
        for metric in metrics {
            self.put(metric, Err::<i64, _>(why.clone()));
        }
    }

    /// Adds to what the metric has (two directions of one link); what has no value adds nothing.
    pub(super) fn add(&mut self, metric: u32, value: Value) {
        let Some(slot) = self.slot(metric) else { return };
        match (&mut *slot, value) {
            (Some(Ok(sum)), Ok(value)) => *sum = sum.saturating_add(value),
            (Some(Ok(_)), Err(_)) => {}
            (_, value) => *slot = Some(value),
        }
    }

    pub(super) fn get(&self, metric: u32) -> Option<i64> {
        self.slots[metric as usize].as_ref()?.as_ref().ok().copied()
    }

    /// Drops values that are not believed; gives their metrics.
    pub(super) fn drop_unless(&mut self, mut believed: impl FnMut(u32, i64) -> bool) -> Vec<u32> {
        let mut dropped = Vec::new();
        for (metric, slot) in (0..).zip(&mut self.slots) {
            if let Some(Ok(value)) = *slot
                && !believed(metric, value)
            {
                *slot = Some(Err(Absent::Implausible(value)));
                dropped.push(metric);
            }
        }
        dropped
    }

    /// Metrics and their values, and, if asked for, why others have none.
    pub(super) fn split(self, explain: bool) -> (Vec<u32>, Vec<i64>, Vec<Missing>) {
        let (mut metrics, mut values, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for (metric, slot) in (0..).zip(self.slots) {
            match slot {
                Some(Ok(value)) => {
                    metrics.push(metric);
                    values.push(value);
                }
                Some(Err(why)) if explain => missing.push(Missing { metric, why: why.to_string() }),
                _ => {}
            }
        }
        (metrics, values, missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_take_what_there_is() {
        let mut values = Values::new(true);
        values.add(3, Err(NvmlError::NotSupported.into()));
        values.add(3, Ok(2));
        values.add(3, Err(NvmlError::NotSupported.into()));
        values.add(3, Ok(5));
        values.put(4, Ok::<u64, Absent>(u64::MAX));
        let (metrics, sums, missing) = values.split(true);
        assert_eq!((metrics, sums), (vec![3], vec![7]));
        assert_eq!(missing, [Missing { metric: 4, why: "out of range".into() }]);
    }

    #[test]
    fn what_hardly_changes_waits_for_its_turn() {
        let slow = catalog::index(catalog::GPU, "power_limit_max_watts");
        for turn in [false, true] {
            let mut values = Values::new(turn);
            values.put(slow, Ok::<i64, Absent>(700_000));
            values.put(3, Ok::<i64, Absent>(50));
            assert_eq!(values.get(slow).is_some(), turn);
            assert!(values.split(true).0.contains(&3));
        }
    }
}
