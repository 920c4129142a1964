//! How often one GPU is read, so that the time spent in its driver stays within the budget.
//!
//! What a reading costs is the **median** of the last ones, in wall time: other users of the driver are waited for behind its lock,
//! and that wait is a cost to them too, which CPU time would not show. On a busy machine some calls take longer because this thread
//! did not run; as long as those are less than half, the median does not see them. What was really spent, inflated or not, is in
//! `gridstep_agent_driver_seconds_total`.
//!
//! The first plan of [`PLANS`] that fits is taken: power gets rarer before everything else does, and both never stop. To a coarser
//! one it goes as soon as the present one is too much, back to a finer one when that needs no more than [`ROOM`] of the budget, and
//! has done so for [`CALM`].

use std::collections::VecDeque;
use std::time::Duration;

/// Ticks of power that pass between two readings of power, and sweep periods between two sweeps.
const PLANS: [(u32, u32); 10] = [(1, 1), (2, 1), (5, 1), (5, 2), (5, 5), (5, 10), (5, 20), (5, 60), (10, 60), (20, 60)];
/// Readings that the medians are taken from, and the fewest that say something.
const POWERS: (usize, usize) = (31, 9);
const SWEEPS: (usize, usize) = (9, 3);
/// Share of the budget that a finer plan may take.
const ROOM: f64 = 0.7;
/// How long it must have been that cheap.
const CALM: Duration = Duration::from_secs(10);

/// The last costs of one kind of reading, seconds.
#[derive(Debug, Default)]
pub(super) struct Costs(VecDeque<f64>);

impl Costs {
    pub(super) fn put(&mut self, took: Duration, most: usize) {
        self.0.truncate(most.saturating_sub(1));
        self.0.push_front(took.as_secs_f64());
    }

    /// None: too few are known.
    pub(super) fn median(&self, least: usize) -> Option<f64> {
        if self.0.len() < least.max(1) {
            return None;
        }
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        Some(sorted[(sorted.len() - 1) / 2])
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// Periods of a GPU at its finest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Finest {
    /// Between two readings of power, by the source that is in use.
    pub(super) power: Duration,
    pub(super) sweep: Duration,
}

impl Default for Finest {
    fn default() -> Self {
        Self { power: Duration::from_millis(100), sweep: Duration::from_secs(1) }
    }
}

/// How often a GPU is read.
#[derive(Debug)]
pub(super) struct Pace {
    /// Of the time that passes, the share that may be spent in the driver.
    budget: f64,
    finest: Finest,
    plan: usize,
    powers: Costs,
    sweeps: Costs,
    /// Since when a finer plan has been cheap enough.
    calm_since: Option<Duration>,
}

impl Pace {
    /// `budget`: of each second.
    pub(super) fn new(budget: Duration, finest: Finest) -> Self {
        Self {
            budget: budget.as_secs_f64(),
            finest,
            plan: 0,
            powers: Costs::default(),
            sweeps: Costs::default(),
            calm_since: None,
        }
    }

    /// Periods between readings of power, as a factor of the finest.
    pub(super) fn power_factor(&self) -> u32 {
        PLANS[self.plan].0
    }

    pub(super) fn sweep_factor(&self) -> u32 {
        PLANS[self.plan].1
    }

    /// Seconds that a reading of power costs; None: not known yet.
    pub(super) fn power_cost(&self) -> Option<f64> {
        self.powers.median(POWERS.1)
    }

    /// Power comes from another source from now on.
    pub(super) fn change_source(&mut self, finest: Finest) {
        self.finest = finest;
        self.powers.clear();
    }

    pub(super) fn power_took(&mut self, took: Duration) {
        self.powers.put(took, POWERS.0);
    }

    pub(super) fn sweep_took(&mut self, took: Duration) {
        self.sweeps.put(took, SWEEPS.0);
    }

    /// Looks whether another plan fits better, at a time since any moment. True: it is another one now.
    pub(super) fn decide(&mut self, now: Duration) -> bool {
        let (Some(power), Some(sweep)) = (self.powers.median(POWERS.1), self.sweeps.median(SWEEPS.1)) else { return false };
        let share = |plan: usize| {
            let (powers, sweeps) = PLANS[plan];
            power / (self.finest.power.as_secs_f64() * f64::from(powers))
                + sweep / (self.finest.sweep.as_secs_f64() * f64::from(sweeps))
        };
        let first = |most: f64| (0..PLANS.len()).find(|plan| share(*plan) <= most).unwrap_or(PLANS.len() - 1);
        let before = self.plan;
        if share(self.plan) > self.budget {
            self.calm_since = None;
            self.plan = self.plan.max(first(self.budget));
        } else {
            let finer = first(ROOM * self.budget);
            if finer >= self.plan {
                self.calm_since = None;
            } else if now.saturating_sub(*self.calm_since.get_or_insert(now)) >= CALM {
                self.calm_since = None;
                self.plan = finer;
            }
        }
        self.plan != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A minute of readings that cost so many microseconds, and the plan at its end.
    fn settle(pace: &mut Pace, power: u64, sweep: u64, from: u64) -> (u32, u32) {
        for second in from..from + 60 {
            (0..10).for_each(|_| pace.power_took(Duration::from_micros(power)));
            pace.sweep_took(Duration::from_micros(sweep));
            pace.decide(seconds(second));
        }
        (pace.power_factor(), pace.sweep_factor())
    }

    fn pace() -> Pace {
        Pace::new(Duration::from_millis(1), Finest::default())
    }

    #[test]
    fn the_finest_plan_within_the_budget_is_taken() {
        for (power, sweep, plan) in [
            (10, 200, (1, 1)),
            (60, 600, (2, 1)),
            (200, 200, (5, 1)),
            // 2 × 100 + 2000 is too much in each second, and so is every second one.
            (100, 2000, (5, 5)),
            (100, 10_000, (5, 20)),
            (50_000, 1_000_000, (20, 60)),
        ] {
            assert_eq!(settle(&mut pace(), power, sweep, 0), plan, "{power} and {sweep} µs");
        }
    }

    #[test]
    fn it_comes_back_late_and_goes_at_once() {
        let mut pace = pace();
        assert_eq!(settle(&mut pace, 120, 100, 0), (2, 1));
        // 1000 of 1000: within the budget at the finest, but not by enough.
        assert_eq!(settle(&mut pace, 90, 100, 60), (2, 1));
        for _ in 0..20 {
            pace.power_took(Duration::from_micros(10));
        }
        assert!(!pace.decide(seconds(120)));
        assert!(!pace.decide(seconds(129)));
        assert!(pace.decide(seconds(130)));
        assert_eq!(pace.power_factor(), 1);
        (0..16).for_each(|_| pace.power_took(Duration::from_micros(300)));
        assert!(pace.decide(seconds(131)));
        assert_eq!(pace.power_factor(), 5);
    }

    #[test]
    fn what_a_busy_machine_adds_to_some_calls_is_no_cost() {
        let mut pace = pace();
        for second in 0..60 {
            (0..10).for_each(|call| pace.power_took(Duration::from_micros(if call % 5 < 2 { 4000 } else { 20 })));
            pace.sweep_took(Duration::from_micros(if second % 3 == 0 { 20_000 } else { 200 }));
            assert!(!pace.decide(seconds(second)), "after {second} s");
        }
    }

    #[test]
    fn nothing_is_decided_on_the_first_readings() {
        let mut pace = pace();
        (0..8).for_each(|_| pace.power_took(seconds(1)));
        (0..3).for_each(|_| pace.sweep_took(seconds(1)));
        assert!(!pace.decide(seconds(1)));
        pace.power_took(seconds(1));
        assert!(pace.decide(seconds(2)));
    }
}
