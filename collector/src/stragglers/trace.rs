//! The last minutes of one figure of each of many, second by second, so that the mean over any window costs two look-ups.
//!
//! Running sums, second by second and not member by member: a window of all members is the difference of two rows that lie in memory
//! one after the other.

use serde::{Deserialize, Serialize};

/// Seconds that are kept.
pub const KEEP: usize = 256;
/// Sums beyond this lose what a second adds, in f32.
const LARGE: f32 = 64.0;

/// One lane for each whose figure it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Traces {
    /// Running sums: a ring of rows with a sum for each lane; the newest at `count % KEEP`.
    #[serde(with = "crate::packed")]
    rows: Vec<f32>,
    #[serde(with = "crate::packed")]
    sums: Vec<f32>,
    /// The count with which each lane began.
    begun: Vec<u64>,
    count: u64,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Lane<'a> {
    of: &'a Traces,
    lane: usize,
}

impl Traces {
    pub fn new(lanes: usize) -> Self {
        let mut traces = Self::default();
        traces.arrange(&vec![None; lanes]);
        traces
    }

    pub fn lanes(&self) -> usize {
        self.sums.len()
    }

    /// Other lanes from now on: for each of them which it was, if it was one.
    pub fn arrange(&mut self, was: &[Option<usize>]) {
        let before = self.lanes();
        let mut rows = Vec::with_capacity(KEEP * was.len());
        for second in 0..KEEP {
            let row = self.rows.get(second * before..(second + 1) * before).unwrap_or_default();
            rows.extend(was.iter().map(|was| was.map_or(0.0, |was| row[was])));
        }
        self.rows = rows;
        self.sums = was.iter().map(|was| was.map_or(0.0, |was| self.sums[was])).collect();
        self.begun = was.iter().map(|was| was.map_or(self.count, |was| self.begun[was])).collect();
    }

    fn row(&self, back: usize) -> &[f32] {
        let (row, lanes) = (((self.count + KEEP as u64 - back as u64) % KEEP as u64) as usize, self.lanes());
        &self.rows[row * lanes..(row + 1) * lanes]
    }

    /// One more second, of which nothing is known yet: it counts as zero.
    pub fn hold(&mut self) {
        self.count += 1;
        let (row, lanes) = ((self.count % KEEP as u64) as usize, self.lanes());
        self.rows[row * lanes..(row + 1) * lanes].copy_from_slice(&self.sums);
    }

    /// What the newest second shows of a lane.
    pub fn put(&mut self, lane: usize, value: f32) {
        let lanes = self.lanes();
        let sum = &mut self.sums[lane];
        *sum += value;
        self.rows[(self.count % KEEP as u64) as usize * lanes + lane] = *sum;
        if sum.abs() > LARGE {
            let sum = std::mem::take(sum);
            self.rows.iter_mut().skip(lane).step_by(lanes).for_each(|kept| *kept -= sum);
        }
    }

    /// The lane begins anew.
    pub fn clear(&mut self, lane: usize) {
        self.begun[lane] = self.count;
    }

    /// Seconds of the longest lane.
    pub fn longest(&self) -> usize {
        self.length(self.begun.iter().copied().min().unwrap_or(self.count))
    }

    fn length(&self, begun: u64) -> usize {
        ((self.count - begun) as usize).min(KEEP - 1)
    }

    /// Each lane's sum over the seconds `to..from` before now (`from` > `to`).
    pub fn each_sum(&self, from: usize, to: usize) -> impl Iterator<Item = f32> + '_ {
        // Lanes that are shorter are looked at one by one.
        let whole = self.begun.iter().all(|&begun| self.length(begun) >= from);
        let pairs = self.row(to.min(KEEP - 1)).iter().zip(self.row(from.min(KEEP - 1)));
        pairs.enumerate().map(
            move |(lane, (newer, older))| {
                if whole { newer - older } else { self.lane(lane).sum(from, to) as f32 }
            },
        )
    }

    /// Each lane's mean over the last `seconds`, which need not be whole: over whole steps.
    pub fn each_mean(&self, seconds: f64) -> impl Iterator<Item = f32> + '_ {
        let (whole, part) = (seconds.floor() as usize, seconds.fract() as f32);
        // The sum of the second before those that are whole.
        let (newer, older) = (self.row(whole.min(KEEP - 1)), self.row((whole + 1).min(KEEP - 1)));
        let kept = self.begun.iter().all(|&begun| self.length(begun) > whole);
        let rest = newer.iter().zip(older).map(move |(newer, older)| if kept { part * (newer - older) } else { 0.0 });
        let per = 1.0 / if kept { seconds } else { whole as f64 }.max(1.0) as f32;
        self.each_sum(whole, 0).zip(rest).map(move |(sum, rest)| (sum + rest) * per)
    }

    pub fn lane(&self, lane: usize) -> Lane<'_> {
        Lane { of: self, lane }
    }
}

impl Lane<'_> {
    pub fn len(&self) -> usize {
        self.of.length(self.of.begun[self.lane])
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sum over the seconds `to..from` before now (`from` > `to`).
    pub fn sum(&self, from: usize, to: usize) -> f64 {
        let at = |back: usize| self.of.row(back.min(self.len()))[self.lane];
        f64::from(at(to) - at(from))
    }

    /// Mean over the last `seconds`.
    pub fn mean(&self, seconds: usize) -> f64 {
        self.sum(seconds, 0) / seconds.max(1) as f64
    }

    /// Mean over the last `seconds`, which need not be whole: over whole steps.
    pub fn mean_of(&self, seconds: f64) -> f64 {
        let (whole, part) = (seconds.floor() as usize, seconds.fract());
        (self.sum(whole, 0) + part * self.sum(whole + 1, whole)) / seconds.max(1.0)
    }

    /// How many of `parts` equal stretches of the last `seconds` reach half of the whole's mean.
    pub fn steady(&self, seconds: usize, parts: usize) -> usize {
        let half = 0.5 * self.mean(seconds);
        let bound = |part: usize| seconds * part / parts;
        (0..parts)
            .filter(|&part| {
                let (to, from) = (bound(part), bound(part + 1));
                self.sum(from, to) >= half * (from - to) as f64
            })
            .count()
    }

    /// Seconds since the figure rose to the level that it has had over the last `window`.
    pub fn onset(&self, window: usize) -> usize {
        let half = 0.5 * self.mean(window);
        let rise = |&back: &usize| self.sum(back, 0) - half * back as f64;
        (1..=self.len()).max_by(|a, b| rise(a).total_cmp(&rise(b))).unwrap_or(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(traces: &mut Traces, values: &[f32]) {
        traces.hold();
        values.iter().enumerate().for_each(|(lane, &value)| traces.put(lane, value));
    }

    #[test]
    fn windows_and_the_onset_of_a_level() {
        let mut traces = Traces::new(2);
        (0..1000).for_each(|_| push(&mut traces, &[0.01, 0.5]));
        (0..30).for_each(|_| push(&mut traces, &[0.21, 0.5]));
        let trace = traces.lane(0);
        assert!((trace.mean(30) - 0.21).abs() < 1e-4);
        assert!((trace.mean(60) - 0.11).abs() < 1e-4);
        assert_eq!((trace.onset(20), trace.steady(30, 5)), (30, 5));
        assert!((traces.lane(1).mean(100) - 0.5).abs() < 1e-4);
        // One high second is not steady.
        (0..10).for_each(|second| push(&mut traces, &[if second == 3 { 1.0 } else { 0.0 }, 0.5]));
        assert_eq!(traces.lane(0).steady(10, 5), 1);
    }

    #[test]
    fn lanes_come_and_go_and_begin_anew() {
        let mut traces = Traces::new(2);
        (0..300).for_each(|_| push(&mut traces, &[1.0, 2.0]));
        traces.arrange(&[None, Some(1)]);
        (0..10).for_each(|_| push(&mut traces, &[3.0, 4.0]));
        assert_eq!((traces.lane(0).len(), traces.lane(1).len(), traces.longest()), (10, KEEP - 1, KEEP - 1));
        assert_eq!(traces.each_sum(20, 0).collect::<Vec<_>>(), [30.0, 60.0]);
        assert_eq!(traces.each_sum(9, 5).collect::<Vec<_>>(), [12.0, 16.0]);
        assert_eq!(traces.each_mean(5.0).collect::<Vec<_>>(), [3.0, 4.0]);
        traces.clear(1);
        push(&mut traces, &[3.0, 5.0]);
        assert_eq!((traces.lane(1).sum(200, 0), traces.lane(1).len()), (5.0, 1));
    }
}
