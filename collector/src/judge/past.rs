//! What was judged → the last quarter of an hour, for whoever looks.

use super::Judge;
use super::swings::feeder_name;
use crate::fleet::GpuMetric;
use crate::past::{BINS, GpuSeconds, Past, Powers, Sum};
use crate::{align::seconds::Second, power::Basis};
use std::collections::HashMap;

impl Judge {
    /// The last quarter of an hour. A checkpoint does not hold it.
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// Sums of the seconds that no longer change.
    pub(super) fn keep_powers(&mut self) {
        let units = &self.swings.units;
        let Some((middle, _)) = units.latest() else { return };
        let newest = middle.0.div_euclid(1_000_000);
        let first = self.past.power_until().map_or(newest, |last| (last + 1).max(newest - 10));
        for second in first..=newest {
            let Some(powers) = self.powers(second) else { continue };
            self.past.put_power(second, powers);
        }
    }

    fn powers(&self, second: i64) -> Option<Powers> {
        let basis = self.basis.unwrap_or_default();
        let mut powers = Powers::default();
        let (mut feeders, mut jobs) = (HashMap::new(), HashMap::new());
        // By unit, the places of its feeder and of its job.
        let places = self.swings.places.units.iter().map(|unit| {
            let feeder = feeder_name(&self.fleet, basis, unit.node as usize);
            let job = unit.job.filter(|_| basis != Basis::Meter).map(|job| self.fleet.jobs()[job as usize].as_str());
            (
                feeder.map(|name| place(&mut feeders, &mut powers.feeders, name)),
                job.map(|name| place(&mut jobs, &mut powers.jobs, name)),
            )
        });
        let places: Vec<(Option<usize>, Option<usize>)> = places.collect();
        for (bin, row) in self.swings.units.second(second)?.enumerate() {
            powers.cluster[bin] = row.iter().sum();
            for (&watts, &(feeder, job)) in row.iter().zip(&places) {
                feeder.into_iter().for_each(|feeder| powers.feeders[feeder].1[bin] += watts);
                job.into_iter().for_each(|job| powers.jobs[job].1[bin] += watts);
            }
        }
        Some(powers)
    }

    /// `latest`: the power of each GPU as it was read last; the driver's own mean of the second goes before it.
    pub(super) fn keep_gpus(past: &mut Past, second: i64, columns: &Second, latest: &[f32]) {
        let mean = columns.column(GpuMetric::PowerAverage as usize);
        let watts = |(gpu, &latest): (usize, &f32)| match mean.get(gpu) {
            Some(mean) if !mean.is_nan() => *mean as f32,
            _ => latest,
        };
        let watts: Vec<f32> = latest.iter().enumerate().map(watts).collect();
        past.put_gpus(second, GpuSeconds::new(columns, &watts));
    }
}

/// The place of a sum by this name, which begins with nothing.
fn place<'a>(known: &mut HashMap<&'a str, usize>, sums: &mut Vec<(Box<str>, Sum)>, name: &'a str) -> usize {
    *known.entry(name).or_insert_with(|| {
        sums.push((name.into(), [0.0; BINS]));
        sums.len() - 1
    })
}
