//! What is known of one GPU of a job beside its waiting.

use super::facts::{Fact, Gatherer, Row};
use super::trace::KEEP;
use serde::{Deserialize, Serialize};

/// Turns until a past is one.
pub(super) const TURNS: u32 = 6;

/// By how much of its clock a board that computes is at most below one that spins: what is read still lower is no clock of computing.
const FLOATS: f32 = 0.15;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) facts: Gatherer,
    /// Facts while healthy.
    #[serde(with = "crate::packed")]
    past: [f32; Fact::COUNT],
    turns: u32,
    #[serde(default)]
    clock: UsualClock,
}

/// The lowest SM clock that is usual, MHz. Rows rest on reads of computing, or for many seconds on end of spinning, as reads and steps beat against
/// each other: what is below their mean need not be slow, what is below the lowest is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct UsualClock {
    /// Infinite: not known.
    usual: f32,
    /// Of the minute before, and of this one: what has just begun may be a fault, and is no part of the usual.
    minutes: [f32; 2],
}

/// Turns that make a minute.
const MINUTE: u32 = 12;
/// Minutes in which the usual comes nearer to a lowest that is higher.
const FORGETS: f32 = 30.0;

impl Default for UsualClock {
    fn default() -> Self {
        Self { usual: f32::INFINITY, minutes: [f32::INFINITY; 2] }
    }
}

impl UsualClock {
    fn take(&mut self, clock: f32, turns: u32) {
        if self.usual.is_infinite() || clock > (1.0 - FLOATS) * self.usual {
            self.minutes[1] = self.minutes[1].min(clock);
        }
        if !turns.is_multiple_of(MINUTE) {
            return;
        }
        let lowest = self.minutes[0];
        self.minutes = [self.minutes[1], f32::INFINITY];
        if lowest < self.usual || self.usual < (1.0 - FLOATS) * lowest && lowest.is_finite() {
            self.usual = lowest;
        } else if lowest.is_finite() {
            self.usual += (lowest - self.usual) / FORGETS;
        }
    }

    /// What was read lately may be a fault.
    fn doubt(&mut self) {
        self.minutes = [f32::INFINITY; 2];
    }
}

impl Default for Known {
    fn default() -> Self {
        Self { facts: Gatherer::default(), past: [f32::NAN; Fact::COUNT], turns: 0, clock: UsualClock::default() }
    }
}

/// What is kept of one GPU, bytes: the last minutes of what it shows, and all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    pub history: usize,
    pub beside: usize,
}

impl Footprint {
    /// Of a GPU of a job: its trace; its facts, and slot, offset, sum, begin of the trace, share of computing, whether it was slow from the start.
    pub fn of_a_gpu() -> Self {
        let by_place = 3 * size_of::<f32>() + size_of::<u32>() + size_of::<u64>() + size_of::<bool>();
        Self { history: KEEP * size_of::<f32>(), beside: size_of::<Known>() + by_place }
    }
}

impl Known {
    /// Facts follow what was seen while nobody was suspected: neither it (`suspect`) nor, once enough is known, anybody.
    pub(super) fn remember(&mut self, suspect: bool, healthy: bool) {
        if suspect {
            self.clock.doubt();
        }
        if suspect || !healthy && self.turns >= TURNS {
            self.facts.turn();
            return;
        }
        let row = self.facts.row();
        self.facts.turn();
        self.turns += 1;
        let weight = 1.0 / (self.turns as f32).min(60.0);
        for (past, now) in self.past.iter_mut().zip(row) {
            if past.is_nan() {
                *past = now as f32;
            } else if !now.is_nan() {
                *past += weight * (now as f32 - *past);
            }
        }
        self.clock.take(row[Fact::SmClock as usize] as f32, self.turns);
    }

    /// What it showed so far was the fault.
    pub(super) fn forget(&mut self) {
        (self.past, self.turns, self.clock) = ([f32::NAN; Fact::COUNT], 0, UsualClock::default());
    }

    pub(super) fn past(&self) -> Option<Row> {
        let mut past = self.past.map(f64::from);
        if self.clock.usual.is_finite() {
            let clock = &mut past[Fact::SmClock as usize];
            *clock = clock.min(f64::from(self.clock.usual));
        }
        (self.turns >= TURNS).then_some(past)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_clock_is_the_lowest_and_no_fault_of_now() {
        let mut clock = UsualClock::default();
        let mut turn = 0;
        let mut minutes = |clock: &mut UsualClock, minutes: u32, read: &dyn Fn(u32) -> f32| {
            for _ in 0..minutes * MINUTE {
                turn += 1;
                clock.take(read(turn), turn);
            }
        };
        // Spinning, computing now and then; once it idles.
        minutes(&mut clock, 4, &|turn| {
            if turn == 30 {
                345.0
            } else if turn % 7 == 0 {
                1845.0
            } else {
                1905.0
            }
        });
        assert_eq!(clock.usual, 1845.0);
        minutes(&mut clock, 1, &|_| 1800.0);
        assert_eq!(clock.usual, 1845.0);
        clock.doubt();
        minutes(&mut clock, 1, &|_| 1845.0);
        assert_eq!(clock.usual, 1845.0);
        minutes(&mut clock, 2, &|_| 1800.0);
        assert_eq!(clock.usual, 1800.0);
        minutes(&mut clock, 120, &|_| 1845.0);
        assert!(clock.usual > 1840.0, "{}", clock.usual);
        // It idles before its first work.
        let mut young = UsualClock::default();
        minutes(&mut young, 5, &|turn| if turn % 60 < 6 { 345.0 } else { 1845.0 });
        assert_eq!(young.usual, 1845.0);
    }

    #[test]
    fn a_gpu_takes_less_than_a_kibibyte_beside_its_history() {
        assert!(Footprint::of_a_gpu().beside <= 1024, "{:?}", Footprint::of_a_gpu());
    }
}
