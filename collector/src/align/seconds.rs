//! Everything but power on a grid of 1 s: one contiguous column per metric and second, a slot per GPU (or node).

use super::ring::Ring;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// Seconds held open at most.
const RING: i64 = 64;
const SECOND_US: i64 = 1_000_000;

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
    columns: Vec<Vec<f64>>,
    /// Values merged into each mean.
    counts: Vec<Vec<u16>>,
    /// Seconds after the second's begin at which the slot was read last.
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
        *cell = match how {
            Merge::Mean => {
                let count = &mut self.counts[metric][slot];
                *count = count.saturating_add(1);
                if cell.is_nan() { value } else { *cell + (value - *cell) / f64::from(*count) }
            }
            _ if cell.is_nan() => value,
            Merge::Any => ((*cell as u64) | (value as u64)) as f64,
            Merge::Last => value,
        };
    }

    /// A metric's column, by slot.
    pub fn column(&self, metric: usize) -> &[f64] {
        &self.columns[metric]
    }
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

    /// Several metrics of a slot at the same instant, as [`Self::put`] takes them one by one.
    #[inline]
    pub fn put_row(&mut self, slot: usize, ts: Micros, values: impl Iterator<Item = (usize, f64)>) {
        let second = ts.0.div_euclid(SECOND_US);
        let mut values = values.filter(|(_, value)| value.is_finite());
        if self.slots <= slot || self.ring.peek(second).is_none() {
            return values.for_each(|(metric, value)| self.put(slot, metric, ts, value));
        }
        let Some((metric, value)) = values.next() else { return };
        self.last_ts[slot] = self.last_ts[slot].max(ts);
        let Some(open) = self.ring.peek_mut(second) else { return };
        open.instants[slot] = (ts.0 - second * SECOND_US) as f32 * 1e-6;
        open.merge(slot, metric, value, self.merge[metric]);
        values.for_each(|(metric, value)| open.merge(slot, metric, value, self.merge[metric]));
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
