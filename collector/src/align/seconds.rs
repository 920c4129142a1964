//! Everything but power on a grid of 1 s: one contiguous column per metric and second, a slot per GPU (or node).

use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

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
}

impl Second {
    /// A metric's column, by slot.
    pub fn column(&self, metric: usize) -> &[f64] {
        &self.columns[metric]
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecondGrid {
    merge: Vec<Merge>,
    slots: usize,
    ring: VecDeque<Second>,
    /// First open second, since the epoch.
    first: Option<i64>,
    last_ts: Vec<Micros>,
    late: u64,
    watermark_us: i64,
}

impl SecondGrid {
    pub fn new(merge: Vec<Merge>, watermark_us: i64) -> Self {
        Self { merge, slots: 0, ring: VecDeque::new(), first: None, last_ts: Vec::new(), late: 0, watermark_us }
    }

    pub fn put(&mut self, slot: usize, metric: usize, ts: Micros, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.grow(slot + 1);
        self.last_ts[slot] = self.last_ts[slot].max(ts);
        let second = ts.0.div_euclid(SECOND_US);
        let first = *self.first.get_or_insert(second);
        if second < first {
            self.late += 1;
            return;
        }
        if second - first >= RING {
            return;
        }
        while self.ring.len() <= (second - first) as usize {
            let columns = self.merge.iter().map(|_| vec![f64::NAN; self.slots]).collect();
            let counts = self.merge.iter().map(|_| vec![0; self.slots]).collect();
            self.ring.push_back(Second { columns, counts });
        }
        let open = &mut self.ring[(second - first) as usize];
        let (cell, count) = (&mut open.columns[metric][slot], &mut open.counts[metric][slot]);
        *count = count.saturating_add(1);
        *cell = match self.merge[metric] {
            _ if cell.is_nan() => value,
            Merge::Mean => *cell + (value - *cell) / f64::from(*count),
            Merge::Any => ((*cell as u64) | (value as u64)) as f64,
            Merge::Last => value,
        };
    }

    fn grow(&mut self, slots: usize) {
        if self.slots >= slots {
            return;
        }
        self.slots = slots;
        self.last_ts.resize(slots, Micros::MIN);
        for second in &mut self.ring {
            second.columns.iter_mut().for_each(|column| column.resize(slots, f64::NAN));
            second.counts.iter_mut().for_each(|column| column.resize(slots, 0));
        }
    }

    /// Finishes every second that is due at `now`, as [`super::power::PowerGrid::finish`] does.
    pub fn finish(&mut self, now: Micros, mut take: impl FnMut(i64, &Second)) {
        let Some(mut first) = self.first else { return };
        let deadline = now - self.watermark_us;
        let speaking = self.last_ts.iter().copied().filter(|&ts| ts > deadline);
        let until = speaking.min().unwrap_or(deadline).max(deadline);
        while (first + 1) * SECOND_US <= until.0 {
            let Some(second) = self.ring.pop_front() else { break };
            take(first, &second);
            first += 1;
            self.first = Some(first);
        }
        if self.ring.is_empty() && (first + 1) * SECOND_US <= deadline.0 {
            self.first = None;
        }
    }

    pub fn finished_until(&self) -> Option<Micros> {
        self.first.map(|first| Micros(first * SECOND_US))
    }

    pub fn late(&self) -> u64 {
        self.late
    }
}
