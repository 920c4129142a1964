//! Everything but power on a grid of 1 s: one contiguous column per metric and second, a slot per GPU (or node).

use super::ring::Ring;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// Seconds held open at most.
const RING: i64 = 64;
const SECOND_US: i64 = 1_000_000;
/// Rows that are put at once at most.
const AT_ONCE: usize = 512;

/// How several values of one second become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// Gauges: the mean.
    Mean,
    /// Bit masks: what was set at any time.
    Any,
    /// Counters and states: the last.
    Last,
}

/// One second of all metrics and slots. NaN: nothing came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Second {
    #[serde(with = "crate::packed")]
    columns: Vec<Vec<f64>>,
    /// Values merged into each mean.
    #[serde(with = "crate::packed")]
    counts: Vec<Vec<u16>>,
    /// Seconds after the second's begin at which the slot was read last.
    #[serde(with = "crate::packed")]
    instants: Vec<f32>,
}

impl Second {
    fn empty(metrics: usize, slots: usize) -> Self {
        Self {
            columns: vec![vec![f64::NAN; slots]; metrics],
            counts: vec![vec![0; slots]; metrics],
            instants: vec![f32::NAN; slots],
        }
    }

    /// As if nothing had come.
    fn clear(&mut self, slots: usize) {
        for column in &mut self.columns {
            column.clear();
            column.resize(slots, f64::NAN);
        }
        for column in &mut self.counts {
            column.clear();
            column.resize(slots, 0);
        }
        self.instants.clear();
        self.instants.resize(slots, f32::NAN);
    }

    /// When within the second the slot was read: nodes are not read at the same instant.
    pub fn instant(&self, slot: usize) -> f64 {
        self.instants.get(slot).map_or(f64::NAN, |&instant| f64::from(instant))
    }

    #[inline]
    fn merge(&mut self, slot: usize, metric: usize, value: f64, how: Merge) {
        let cell = &mut self.columns[metric][slot];
        match how {
            Merge::Mean => mean(cell, &mut self.counts[metric][slot], value),
            Merge::Any => any(cell, value),
            Merge::Last => *cell = value,
        }
    }

    /// A metric's column, by slot.
    pub fn column(&self, metric: usize) -> &[f64] {
        &self.columns[metric]
    }
}

#[inline]
fn mean(cell: &mut f64, count: &mut u16, value: f64) {
    *count = count.saturating_add(1);
    *cell = if cell.is_nan() { value } else { *cell + (value - *cell) / f64::from(*count) };
}

#[inline]
fn any(cell: &mut f64, value: f64) {
    *cell = if cell.is_nan() { value } else { ((*cell as u64) | (value as u64)) as f64 };
}

/// A column of what is put; a value that is not finite is none.
pub trait Values {
    fn value(&self, row: usize) -> f64;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecondGrid {
    merge: Vec<Merge>,
    slots: usize,
    /// By second since the epoch.
    ring: Ring<Second>,
    last_ts: Vec<Micros>,
    watermark_us: i64,
    /// To be used again.
    #[serde(skip)]
    spare: Option<Second>,
}

impl SecondGrid {
    pub fn new(merge: Vec<Merge>, watermark_us: i64) -> Self {
        Self { merge, slots: 0, ring: Ring::new(RING), last_ts: Vec::new(), watermark_us, spare: None }
    }

    pub fn put(&mut self, slot: usize, metric: usize, ts: Micros, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.grow(slot + 1);
        self.last_ts[slot] = self.last_ts[slot].max(ts);
        self.put_beside(slot, metric, ts, value);
    }

    /// Several metrics of several slots, each read at an instant, as [`Self::put`] takes them one by one. By column: metric, and the value of each row.
    pub fn put_rows<V: Values>(&mut self, rows: &[(usize, Micros)], columns: impl Iterator<Item = (usize, V)> + Clone) {
        let mut first = 0;
        while let Some(&(slot, ts)) = rows.get(first) {
            let second = ts.0.div_euclid(SECOND_US);
            let is_open = self.ring.peek(second).is_some();
            let of_it = |&&(slot, ts): &&(usize, Micros)| slot < self.slots && ts.0.div_euclid(SECOND_US) == second;
            let count = if is_open { rows[first..].iter().take(AT_ONCE).take_while(of_it).count() } else { 0 };
            if count == 0 {
                let values = columns.clone().map(|(metric, values)| (metric, values.value(first)));
                values.for_each(|(metric, value)| self.put(slot, metric, ts, value));
                first += 1;
                continue;
            }
            self.put_open(second, &rows[first..first + count], columns.clone(), first);
            first += count;
        }
    }

    /// Rows of a second that is open, from the `first` on of the columns.
    #[inline]
    fn put_open<V: Values>(
        &mut self,
        second: i64,
        rows: &[(usize, Micros)],
        columns: impl Iterator<Item = (usize, V)>,
        first: usize,
    ) {
        let Some(open) = self.ring.peek_mut(second) else { return };
        let mut said = [false; AT_ONCE];
        for (metric, values) in columns {
            let (column, counts) = (&mut open.columns[metric], &mut open.counts[metric]);
            let values = (first..).map(|row| values.value(row)).zip(rows).zip(&mut said);
            let values = values.filter(|((value, _), _)| value.is_finite()).map(|((value, (slot, _)), said)| {
                *said = true;
                (*slot, value)
            });
            match self.merge[metric] {
                Merge::Mean => values.for_each(|(slot, value)| mean(&mut column[slot], &mut counts[slot], value)),
                Merge::Any => values.for_each(|(slot, value)| any(&mut column[slot], value)),
                Merge::Last => values.for_each(|(slot, value)| column[slot] = value),
            }
        }
        for (&(slot, ts), _) in rows.iter().zip(said).filter(|(_, said)| *said) {
            self.last_ts[slot] = self.last_ts[slot].max(ts);
            open.instants[slot] = (ts.0 - second * SECOND_US) as f32 * 1e-6;
        }
    }

    /// The same of a source that is ahead of the slot's others: it does not say that they have passed.
    pub fn put_beside(&mut self, slot: usize, metric: usize, ts: Micros, value: f64) {
        self.grow(slot + 1);
        let second = ts.0.div_euclid(SECOND_US);
        let (metrics, slots) = (self.merge.len(), self.slots);
        let spare = &mut self.spare;
        let empty = || match spare.take() {
            Some(mut second) if second.columns.len() == metrics => {
                second.clear(slots);
                second
            }
            _ => Second::empty(metrics, slots),
        };
        if self.ring.admit(second..=second, empty).is_empty() {
            return;
        }
        let open = self.ring.bin(second);
        open.instants[slot] = (ts.0 - second * SECOND_US) as f32 * 1e-6;
        open.merge(slot, metric, value, self.merge[metric]);
    }

    /// Gives a finished second back: its memory is used again.
    pub fn give_back(&mut self, second: Option<Second>) {
        self.spare = second.or(self.spare.take());
    }

    fn grow(&mut self, slots: usize) {
        if self.slots >= slots {
            return;
        }
        self.slots = slots;
        self.last_ts.resize(slots, Micros::MIN);
        for second in self.ring.iter_mut() {
            second.columns.iter_mut().for_each(|column| column.resize(slots, f64::NAN));
            second.counts.iter_mut().for_each(|column| column.resize(slots, 0));
            second.instants.resize(slots, f32::NAN);
        }
    }

    /// Finishes every second that is due at `now`, as [`super::power::PowerGrid::finish`] does.
    pub fn finish(&mut self, now: Micros, mut take: impl FnMut(i64, Second)) {
        let deadline = now - self.watermark_us;
        let speaking = self.last_ts.iter().copied().filter(|&ts| ts > deadline);
        let until = speaking.min().unwrap_or(deadline).max(deadline);
        while let Some((second, columns)) = self.ring.take(until.0.div_euclid(SECOND_US)) {
            take(second, columns);
        }
        self.ring.rest(deadline.0.div_euclid(SECOND_US));
    }

    /// Slots of which something is known after `since`.
    pub fn speaking(&self, since: Micros) -> usize {
        self.last_ts.iter().filter(|&&ts| ts > since).count()
    }

    pub fn finished_until(&self) -> Option<Micros> {
        self.ring.first().map(|first| Micros(first * SECOND_US))
    }

    /// Values that came after their second was finished.
    pub fn late(&self) -> u64 {
        self.ring.late()
    }

    /// Values from too far in the future.
    pub fn ahead(&self) -> u64 {
        self.ring.ahead()
    }

    pub fn set_watermark(&mut self, watermark_us: i64) {
        self.watermark_us = watermark_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Values for &[f64] {
        fn value(&self, row: usize) -> f64 {
            self[row]
        }
    }

    const MERGES: [Merge; 3] = [Merge::Mean, Merge::Any, Merge::Last];

    /// What there is of all seconds, NaN as text is equal to NaN.
    fn finished(mut grid: SecondGrid) -> String {
        let mut seconds = Vec::new();
        grid.finish(Micros(1 << 50), |second, columns| seconds.push((second, columns)));
        format!("{seconds:?} {:?} {} {}", grid.last_ts, grid.late(), grid.ahead())
    }

    proptest! {
        #[test]
        fn rows_go_in_as_their_values_would_one_by_one(
            parts in proptest::collection::vec(
                proptest::collection::vec((0..90usize, 0..70_000_000i64, proptest::collection::vec(proptest::option::of(0..9i32), 3)), 0..150),
                0..4,
            ),
        ) {
            let grid = || SecondGrid::new(MERGES.to_vec(), 3_000_000);
            let (mut one, mut all) = (grid(), grid());
            for mut part in parts {
                // As sweeps have it: many of one second, those that are not come between.
                part.iter_mut().enumerate().for_each(|(row, (_, ts, _))| if row % 7 > 0 { *ts = *ts % 1_500_000 + 5_000_000 });
                let rows: Vec<(usize, Micros)> = part.iter().map(|(slot, ts, _)| (*slot, Micros(*ts))).collect();
                let value = |row: &(usize, i64, Vec<Option<i32>>), metric: usize| row.2[metric].map_or(f64::NAN, f64::from);
                let columns: Vec<Vec<f64>> = (0..3).map(|metric| part.iter().map(|row| value(row, metric)).collect()).collect();
                all.put_rows(&rows, columns.iter().map(Vec::as_slice).enumerate());
                for (row, (slot, ts)) in rows.iter().enumerate() {
                    columns.iter().enumerate().for_each(|(metric, column)| one.put(*slot, metric, *ts, column[row]));
                }
            }
            prop_assert_eq!(finished(one), finished(all));
        }
    }
}
