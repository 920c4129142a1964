//! The bins that are still open, oldest first.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Open bins by index, at most `capacity` of them. It begins with the first index asked for; until a bin has been taken out it
/// also grows towards older ones, so that the first to speak, whose clock may be ahead, does not make everybody else late.
///
/// No bin is opened twice: after an outage many bring what they kept, one after the other, of bins that have been finished long ago. But where nothing else
/// comes for as long as a [`BELIEVED`]th of the ring lasts, the clocks have been set back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ring<T> {
    open: VecDeque<T>,
    /// Index of the oldest open bin.
    first: Option<i64>,
    /// A bin has been taken out since the ring began: older ones are closed.
    begun: bool,
    capacity: i64,
    late: u64,
    ahead: u64,
    /// Bins below have been taken out.
    #[serde(default)]
    closed: i64,
    /// All that came lately was of those; up to where time was over when that began.
    #[serde(default)]
    only_late: Option<Option<i64>>,
}

const BELIEVED: i64 = 5;

impl<T> Ring<T> {
    pub fn new(capacity: i64) -> Self {
        Self { open: VecDeque::new(), first: None, begun: false, capacity, late: 0, ahead: 0, closed: i64::MIN, only_late: None }
    }

    /// The part of `wanted` that is open. What is not is counted: once as late, once as ahead.
    pub fn admit(&mut self, wanted: RangeInclusive<i64>, mut empty: impl FnMut() -> T) -> RangeInclusive<i64> {
        if wanted.is_empty() {
            return wanted;
        }
        let (from, to) = wanted.into_inner();
        let oldest = from.max(self.closed);
        if self.first.is_none() && to < oldest {
            self.late += 1;
            self.only_late.get_or_insert(None);
            return from..=from - 1;
        }
        self.only_late = None;
        let mut first = *self.first.get_or_insert(oldest);
        if !self.begun && oldest < first && first + (self.open.len() as i64) - oldest <= self.capacity {
            (oldest..first).for_each(|_| self.open.push_front(empty()));
            first = oldest;
            self.first = Some(first);
        }
        let last = first + self.capacity - 1;
        self.late += u64::from(from < first);
        self.ahead += u64::from(to > last);
        let (from, to) = (from.max(first), to.min(last));
        while from <= to && first + (self.open.len() as i64) <= to {
            self.open.push_back(empty());
        }
        from..=to
    }

    /// An admitted bin.
    pub fn bin(&mut self, index: i64) -> &mut T {
        &mut self.open[(index - self.first.unwrap_or(index)) as usize]
    }

    /// The bin, if it is open.
    pub fn peek(&self, index: i64) -> Option<&T> {
        self.open.get(usize::try_from(index - self.first?).ok()?)
    }

    pub fn peek_mut(&mut self, index: i64) -> Option<&mut T> {
        self.open.get_mut(usize::try_from(index - self.first?).ok()?)
    }

    /// From now on it does not grow towards older bins.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Takes the oldest bin out, if there is one below `until`: its index, and what is in it.
    pub fn take(&mut self, until: i64) -> Option<(i64, T)> {
        let first = self.first.filter(|&first| first < until)?;
        let bin = self.open.pop_front()?;
        (self.first, self.closed) = (Some(first + 1), first + 1);
        self.begun = true;
        Some((first, bin))
    }

    /// Time is over up to `until`. If nobody speaks, begins anew with whoever speaks first.
    pub fn rest(&mut self, until: i64) {
        if self.open.is_empty() && self.first.is_some_and(|first| first < until) {
            (self.first, self.begun) = (None, false);
        }
        let Some(since) = &mut self.only_late else { return };
        if until - *since.get_or_insert(until) >= self.capacity / BELIEVED {
            (self.closed, self.only_late) = (i64::MIN, None);
        }
    }

    /// Index of the oldest open bin: everything before it is finished.
    pub fn first(&self) -> Option<i64> {
        self.first
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.open.iter_mut()
    }

    /// What came for bins that were finished already.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// What came for bins too far in the future to be held open.
    pub fn ahead(&self) -> u64 {
        self.ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_speak_makes_nobody_late() {
        let mut ring: Ring<i64> = Ring::new(10);
        assert_eq!(ring.admit(100..=101, || 0), 100..=101);
        assert_eq!(ring.admit(95..=96, || 0), 95..=96);
        *ring.bin(95) = 95;
        *ring.bin(101) = 101;
        assert_eq!(ring.take(96), Some((95, 95)));
        assert_eq!(ring.take(96), None);
        assert_eq!((ring.late(), ring.ahead()), (0, 0));
    }

    #[test]
    fn what_is_not_open_is_counted() {
        let mut ring: Ring<i64> = Ring::new(10);
        ring.admit(100..=100, || 0);
        ring.take(101);
        assert!(ring.admit(98..=99, || 0).is_empty());
        assert_eq!(ring.admit(99..=103, || 0), 101..=103);
        assert_eq!(ring.admit(104..=200, || 0), 104..=110);
        assert!(ring.admit(300..=300, || 0).is_empty());
        assert_eq!((ring.late(), ring.ahead()), (2, 2));
    }

    #[test]
    fn silence_begins_anew() {
        let mut ring: Ring<i64> = Ring::new(10);
        ring.admit(100..=100, || 0);
        ring.rest(200);
        assert_eq!(ring.first(), Some(100));
        ring.take(200);
        ring.rest(200);
        assert_eq!(ring.first(), None);
        assert_eq!(ring.admit(250..=250, || 0), 250..=250);
        assert_eq!(ring.admit(245..=245, || 0), 245..=245);
    }

    #[test]
    fn no_bin_opens_twice_unless_nothing_else_comes() {
        let mut ring: Ring<i64> = Ring::new(50);
        ring.admit(100..=100, || 0);
        ring.take(200);
        ring.rest(200);
        // What was kept, one after the other.
        assert!(ring.admit(60..=61, || 0).is_empty());
        assert_eq!(ring.admit(99..=102, || 0), 101..=102);
        assert_eq!((ring.first(), ring.late()), (Some(101), 2));
        while ring.take(200).is_some() {}
        for until in 201..=211 {
            ring.rest(until);
            assert!(ring.admit(70..=70, || 0).is_empty(), "until {until}");
        }
        // And nothing but that.
        ring.rest(212);
        assert_eq!(ring.admit(71..=71, || 0), 71..=71);
    }
}
