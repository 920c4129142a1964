//! The values of one sweep, by their place in the catalog.

use super::protocol::Missing;
use gridstep_wire::catalog;
use nvml_wrapper::error::NvmlError;
use std::rc::Rc;

/// Why a metric has no value.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Absent {
    #[error("{0}")]
    Driver(Rc<NvmlError>),
    #[error("this driver does not have it yet, 575 has")]
    OldDriver,
    #[error("out of range")]
    Range,
}

impl From<NvmlError> for Absent {
    fn from(error: NvmlError) -> Self {
        Self::Driver(Rc::new(error))
    }
}

pub(super) type Value = Result<i64, Absent>;

/// A slot for each metric of [`catalog::GPU`]; None: nothing has been tried.
pub(super) struct Values(Vec<Option<Value>>);

impl Default for Values {
    fn default() -> Self {
        Self(catalog::GPU.iter().map(|_| None).collect())
    }
}

impl Values {
    pub(super) fn put(&mut self, metric: u32, value: Result<impl TryInto<i64>, impl Into<Absent>>) {
        let value = value.map_err(Into::into).and_then(|value| value.try_into().map_err(|_| Absent::Range));
        self.0[metric as usize] = Some(value);
    }

    /// None of these metrics has a value, as one call for all of them failed.
    pub(super) fn refuse(&mut self, metrics: impl IntoIterator<Item = u32>, why: NvmlError) {
        let why = Absent::from(why);
        for metric in metrics {
            self.0[metric as usize] = Some(Err(why.clone()));
        }
    }

    /// Adds to what the metric has (two directions of one link); what has no value adds nothing.
    pub(super) fn add(&mut self, metric: u32, value: Value) {
        let slot = &mut self.0[metric as usize];
        match (&mut *slot, value) {
            (Some(Ok(sum)), Ok(value)) => *sum = sum.saturating_add(value),
            (Some(Ok(_)), Err(_)) => {}
            (_, value) => *slot = Some(value),
        }
    }

    /// Metrics and their values, and, if asked for, why others have none.
    pub(super) fn split(self, explain: bool) -> (Vec<u32>, Vec<i64>, Vec<Missing>) {
        let (mut metrics, mut values, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for (metric, slot) in (0..).zip(self.0) {
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
        let mut values = Values::default();
        values.add(3, Err(NvmlError::NotSupported.into()));
        values.add(3, Ok(2));
        values.add(3, Err(NvmlError::NotSupported.into()));
        values.add(3, Ok(5));
        values.put(4, Ok::<u64, Absent>(u64::MAX));
        let (metrics, sums, missing) = values.split(true);
        assert_eq!((metrics, sums), (vec![3], vec![7]));
        assert_eq!(missing, [Missing { metric: 4, why: "out of range".into() }]);
    }
}
