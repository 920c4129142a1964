//! Demand: the mean of a quarter of an hour, on the clock (UTC).
//!
//! Fed with final bins. A quarter is over the limit as soon as what it has drawn already is more than a whole quarter may draw: that no
//! longer depends on the rest of it. What was missed of a quarter counts as nothing.

use super::history::BIN;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const QUARTER_US: i64 = 900_000_000;
const QUARTER: f64 = 900.0;
/// Finished quarters that are kept: a day.
const KEEP: usize = 96;
/// What is over is told anew this often, seconds.
const REVISE: f64 = 60.0;

/// The mean of one quarter of an hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quarter {
    pub start: Micros,
    /// Mean of what is known of it, watts.
    pub watts: f64,
    /// Share of it that is known.
    pub completeness: f64,
}

/// Demand above its limit, from the first quarter that was to the last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OverLimit {
    pub started_at: Micros,
    pub opened_at: Micros,
    /// Of the worst quarter so far, watts: of one that goes on, what it has drawn already over the whole of it.
    pub demand_watts: f64,
    /// Quarters that were over it.
    pub quarters: u32,
    pub ended_at: Option<Micros>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Demand {
    /// Start of the running quarter.
    start: Option<Micros>,
    joules: f64,
    seconds: f64,
    /// Oldest first.
    finished: VecDeque<Quarter>,
    over: Option<OverLimit>,
    /// The running quarter is counted in it.
    counted: bool,
    told: Option<Micros>,
}

impl Demand {
    /// Takes a final bin. Gives what is over the limit when it begins, once a minute, and when it ends.
    pub fn push(&mut self, at: Micros, watts: f64, limit: f64) -> Option<OverLimit> {
        let start = Micros(at.0.div_euclid(QUARTER_US) * QUARTER_US);
        let ended = if self.start.is_some_and(|own| own != start) { self.turn(limit) } else { None };
        self.start = Some(start);
        self.joules += watts * BIN;
        self.seconds += BIN;
        ended.or_else(|| self.look(at, limit))
    }

    fn turn(&mut self, limit: f64) -> Option<OverLimit> {
        let start = self.start?;
        if self.finished.len() == KEEP {
            self.finished.pop_front();
        }
        let watts = self.joules / self.seconds.max(BIN);
        self.finished.push_back(Quarter { start, watts, completeness: (self.seconds / QUARTER).min(1.0) });
        let was_over = self.joules / QUARTER > limit;
        (self.joules, self.seconds, self.counted) = (0.0, 0.0, false);
        if was_over {
            return None;
        }
        let over = self.over.take()?;
        Some(OverLimit { ended_at: Some(start), ..over })
    }

    fn look(&mut self, at: Micros, limit: f64) -> Option<OverLimit> {
        let certain = self.joules / QUARTER;
        if certain > limit {
            let began = self.start.map_or(at, |start| start.max(at - (self.seconds * 1e6) as i64));
            let new = OverLimit { started_at: began, opened_at: at, demand_watts: certain, quarters: 0, ended_at: None };
            let over = self.over.get_or_insert(new);
            over.demand_watts = over.demand_watts.max(certain);
            over.quarters += u32::from(!self.counted);
            self.counted = true;
        }
        let over = self.over?;
        let due = self.told.is_none_or(|told| at.since(told) >= REVISE) || over.opened_at == at;
        if !due {
            return None;
        }
        self.told = Some(at);
        Some(over)
    }

    /// The running quarter so far.
    pub fn running(&self) -> Option<Quarter> {
        let watts = self.joules / self.seconds.max(BIN);
        self.start.map(|start| Quarter { start, watts, completeness: self.seconds / QUARTER })
    }

    /// Finished quarters of the last day, oldest first.
    pub fn finished(&self) -> impl DoubleEndedIterator<Item = &Quarter> {
        self.finished.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From second to second, at this many watts.
    fn feed(demand: &mut Demand, span: std::ops::Range<i64>, watts: f64) -> Vec<OverLimit> {
        (span.start * 10..span.end * 10).filter_map(|bin| demand.push(Micros(bin * 100_000 + 50_000), watts, 1000.0)).collect()
    }

    #[test]
    fn a_quarter_on_the_clock_decides() {
        let mut demand = Demand::default();
        // Fifteen minutes above the limit, but no quarter of the clock as a whole.
        assert_eq!(feed(&mut demand, 0..450, 900.0), []);
        assert_eq!(feed(&mut demand, 450..1350, 1080.0), []);
        assert_eq!(feed(&mut demand, 1350..1800, 900.0), []);
        assert_eq!(demand.finished().count(), 1);
        assert!((demand.finished().next().unwrap().watts - 990.0).abs() < 0.1);
    }

    #[test]
    fn it_is_over_as_soon_as_that_is_certain_and_until_a_quarter_is_not() {
        let mut demand = Demand::default();
        let told = feed(&mut demand, 0..1800, 1200.0);
        assert_eq!(told[0].started_at, Micros(0));
        assert!((told[0].opened_at.seconds() - 750.0).abs() < 1.0, "{:?}", told[0]);
        let told = feed(&mut demand, 1800..3600, 500.0);
        let last = told.last().unwrap();
        assert_eq!((last.ended_at, last.quarters), (Some(Micros(1_800_000_000)), 2));
        assert!((last.demand_watts - 1200.0).abs() < 1.0);
    }
}
