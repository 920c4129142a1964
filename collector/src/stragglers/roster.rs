//! Who is followed, in the order of their slots: by how much each is occupied longer than the others, of late and for good.

use super::noise::spread;
use super::trace::{Lane, Traces};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Windows of the past that are looked at, at most.
const PAST_WINDOWS: usize = 4;
/// Members that a spread is taken from, at most: of so many it is known to two percent.
const SAMPLE: usize = 2048;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Roster {
    slots: Vec<u32>,
    /// By place: remembered share by which it is occupied longer than the others.
    #[serde(with = "crate::packed")]
    pub(super) offsets: Vec<f32>,
    /// By place: it was slow already when the job began.
    pub(super) from_the_start: Vec<bool>,
    pub(super) traces: Traces,
    /// Slots of those who stand out now.
    pub(super) suspects: BTreeSet<u32>,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slots(&self) -> &[u32] {
        &self.slots
    }

    pub(super) fn place(&self, slot: u32) -> Option<usize> {
        self.slots.binary_search(&slot).ok()
    }

    /// Of one that is followed.
    pub(super) fn trace(&self, slot: u32) -> Lane<'_> {
        self.traces.lane(self.place(slot).expect("it is followed"))
    }

    pub(super) fn was_slow_from_the_start(&self, slot: u32) -> bool {
        self.place(slot).is_some_and(|place| self.from_the_start[place])
    }

    /// From now on these, in order. Gives for each of them the place at which it was.
    pub(super) fn follow(&mut self, slots: Vec<u32>) -> Vec<Option<usize>> {
        let was: Vec<Option<usize>> = slots.iter().map(|&slot| self.place(slot)).collect();
        self.offsets = rearranged(std::mem::take(&mut self.offsets), &was);
        self.from_the_start = rearranged(std::mem::take(&mut self.from_the_start), &was);
        self.traces.arrange(&was);
        self.suspects.retain(|slot| slots.binary_search(slot).is_ok());
        self.slots = slots;
        was
    }

    /// One more second: what each of these shows, in the order of their slots, less what is remembered of it.
    pub(super) fn push(&mut self, shown: impl Iterator<Item = (u32, f32)>) {
        self.traces.hold();
        let mut place = 0;
        for (slot, value) in shown {
            while self.slots.get(place).is_some_and(|&own| own < slot) {
                place += 1;
            }
            if self.slots.get(place) == Some(&slot) {
                self.traces.put(place, value - self.offsets[place]);
            }
        }
    }

    /// What each shows in the mean of the last `window` seconds: the middle, and the robust deviation from it.
    pub(super) fn spread(&self, window: f64) -> (f64, f64) {
        let stride = self.len().div_ceil(SAMPLE).max(1);
        spread(&self.traces.each_mean(window).step_by(stride).map(f64::from).collect::<Vec<_>>())
    }

    /// The robust deviation in windows of so many seconds that ended `lag` seconds ago and before, in the mean; NaN: none was.
    pub(super) fn past_spread(&self, window: usize, lag: usize) -> f64 {
        let (stride, length) = (self.len().div_ceil(SAMPLE).max(1), self.traces.longest());
        let ends = (lag..).step_by(window.max(1)).take_while(|end| end + window <= length).take(PAST_WINDOWS);
        let of = |end: usize| {
            let means = self.traces.each_sum(end + window, end).step_by(stride).map(|sum| f64::from(sum) / window as f64);
            spread(&means.collect::<Vec<_>>()).1
        };
        let spreads: Vec<f64> = ends.map(of).collect();
        spreads.iter().sum::<f64>() / spreads.len() as f64
    }

    /// By how much longer than the others the one is occupied who waits least: what is remembered of it and the mean of the last `seconds`.
    pub(super) fn most_for_good(&self, seconds: usize) -> f64 {
        self.offsets
            .iter()
            .zip(self.traces.each_mean(seconds as f64))
            .map(|(offset, mean)| f64::from(offset + mean))
            .fold(0.0, f64::max)
    }

    /// Who is above the middle by so much at least, and by how much.
    pub(super) fn above(&self, window: f64, middle: f64, least: f64) -> Vec<(u32, f64)> {
        let means = self.slots.iter().zip(self.traces.each_mean(window)).map(|(&slot, mean)| (slot, f64::from(mean) - middle));
        means.filter(|(_, value)| *value >= least).collect()
    }

    /// Offsets follow what those who did not stand out have shown `lag` seconds ago, in the mean of `lesson` seconds.
    pub(super) fn learn(&mut self, lag: usize, lesson: usize, weight: f64) {
        let lessons = self.slots.iter().zip(self.traces.each_sum(lag + lesson, lag)).enumerate();
        for (place, (slot, sum)) in lessons {
            if self.traces.lane(place).len() > lag + lesson && !self.suspects.contains(slot) {
                self.offsets[place] += weight as f32 * (sum / lesson as f32).clamp(-0.1, 0.1);
            }
        }
    }

    /// What is remembered of each, by slot: of all but those who were slow from the start.
    pub(super) fn remembered(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        let all = self.slots.iter().zip(&self.offsets).zip(&self.from_the_start);
        all.filter(|(_, slow)| !**slow).map(|((&slot, &offset), _)| (slot, f64::from(offset)))
    }

    /// What was shown so far no longer counts.
    pub(super) fn begin_anew(&mut self) {
        self.suspects.clear();
        self.from_the_start.fill(false);
        (0..self.len()).for_each(|place| self.traces.clear(place));
    }

    /// What the last seconds showed is what is remembered, or what was known `before` of the slot: of all but those who were slow, who are held to
    /// the others.
    pub(super) fn finish_learning(&mut self, seconds: usize, without_memory: bool, before: impl Fn(u32) -> Option<f64>) {
        for place in 0..self.len() {
            let slow = self.from_the_start[place];
            let mean = || before(self.slots[place]).unwrap_or_else(|| self.traces.lane(place).mean(seconds));
            self.offsets[place] = if slow || without_memory { 0.0 } else { mean() as f32 };
            if !slow {
                self.traces.clear(place);
            }
        }
    }
}

/// What was kept by place, after a new arrangement.
pub(super) fn rearranged<T: Default>(kept: Vec<T>, was: &[Option<usize>]) -> Vec<T> {
    let mut kept: Vec<Option<T>> = kept.into_iter().map(Some).collect();
    was.iter().map(|was| was.and_then(|was| kept[was].take()).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_and_goes_keeps_what_is_known_of_the_others() {
        let mut roster = Roster::default();
        roster.follow(vec![3, 5]);
        (0..60).for_each(|_| roster.push([(3, 0.1), (5, 0.3)].into_iter()));
        roster.finish_learning(50, false, |_| None);
        assert_eq!(roster.follow(vec![4, 5, 9]), [None, Some(1), None]);
        assert!((roster.offsets[1] - 0.3).abs() < 1e-6 && roster.offsets[0] == 0.0);
        (0..20).for_each(|_| roster.push([(3, 9.0), (4, 0.1), (5, 0.5)].into_iter()));
        assert!((roster.trace(4).mean(10) - 0.1).abs() < 1e-6 && (roster.trace(5).mean(10) - 0.2).abs() < 1e-6);
        let above = roster.above(10.0, 0.0, 0.15);
        assert_eq!((above.len(), above[0].0), (1, 5));
        assert!((roster.spread(10.0).0 - 0.1).abs() < 1e-6);
    }
}
