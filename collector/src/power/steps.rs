//! Changes of level.
//!
//! A *level* is the mean over one cycle of the oscillation that the sum is known to have, over 1 s where it has none. A *step*
//! is a change of level beyond a limit, which allows so many watts within so many seconds:
//!
//! * **at once**, when the sum leaves its envelope by more than the limit: the envelope is the range of the last three cycles
//!   (30 s if that is longer) and the level before the last step;
//! * **inside the envelope**, when two windows of one cycle, as far apart as the limit's window, differ by more than the limit,
//!   and went on doing so for one cycle (10 s while none is known: the third of the 30 s).
//!
//! Either way the change must be more than [`CERTAIN`] times what independent sources would do together
//! ([`super::signed::Signed::deviation`] of the minute before): a small fleet's noise is no step.
//!
//! A limit over w seconds is judged only where the samples are at least as fine as w. Steps are opened by data up to the
//! present bin alone; their figures are refined for at most a minute, while the level after becomes known. A level is taken over up to
//! ten cycles (a minute), as far as they agree with the one next to the change: what comes back is no part of it.

use super::history::BIN;
use super::{Cycle, History, View};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Standard deviations of the difference of two levels of independent sources.
const CERTAIN: f64 = 5.0;
/// The time before a change that tells what independent sources do, seconds.
const NOISE: f64 = 60.0;
/// Less than this tells little: what is known from before holds.
const LEAST_NOISE: f64 = 10.0;
/// Levels that agree differ by less than this share of the step.
const AGREE: f64 = 0.15;
/// A level is taken over at most so many cycles …
const LEVELS: usize = 10;
/// … and over at most so many seconds, if that is longer: a small fleet's noise is known no better from less.
const LEVEL_SECONDS: f64 = 60.0;
/// Seconds that stand for a cycle where none is known.
const CYCLE_UNKNOWN: f64 = 10.0;
/// Shortest envelope, seconds.
const ENVELOPE: f64 = 30.0;
/// A movement that goes on within this time (or its limit's window) of a step is the same step, seconds.
const MOVING: f64 = 10.0;
/// A step's figures are refined this long, seconds.
const SETTLE: f64 = 60.0;

/// A step as far as it is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Where the sum had made half of its way.
    pub started_at: Micros,
    pub opened_at: Micros,
    /// Level before and after, watts.
    pub before_watts: f64,
    pub after_watts: f64,
    /// Steepest change within 1 s (or one sampling period, if that is longer), watts per second, signed.
    pub watts_per_second: f64,
    /// From 10 to 90 % of the way, seconds.
    pub rise_seconds: f64,
    /// The limit that was exceeded: seconds, watts.
    pub limit: (f64, f64),
    /// Where the change is over: the level after begins here at the latest.
    pub over_at: Micros,
    /// For how long the level was the same before it, and is the same after it, as far as is known; seconds.
    #[serde(default)]
    pub steady_seconds: (f64, f64),
    /// No longer refined.
    pub settled: bool,
}

impl Step {
    /// What was found next is the same movement, further on.
    fn goes_on(&mut self, further: &Step) {
        (self.after_watts, self.over_at) = (further.after_watts, further.over_at);
        self.rise_seconds = self.rise_seconds.max(further.over_at.since(self.started_at));
        if further.watts_per_second.abs() > self.watts_per_second.abs() {
            self.watts_per_second = further.watts_per_second;
        }
    }

    /// It is over where the level of the second after is also that of the next: what moves on at once is the same movement.
    fn follow(&mut self, history: &History, length: usize) {
        let Some(next) = history.age(self.over_at).checked_sub(2 * length) else { return };
        let (Some(first), Some(next)) = (history.mean(next + length, length), history.mean(next, length)) else { return };
        if self.delta_watts().signum() * (next - first) > AGREE * (first - self.before_watts).abs() {
            self.over_at = self.over_at + (length as f64 * BIN * 1e6) as i64;
            self.rise_seconds = self.rise_seconds.max(self.over_at.since(self.started_at));
        }
    }

    pub fn delta_watts(&self) -> f64 {
        self.after_watts - self.before_watts
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StepJudge {
    current: Option<Step>,
    /// Level before the last step, watts: belongs to the envelope.
    level_before: Option<f64>,
    /// Windows inside the envelope begin after this.
    settled_at: Option<Micros>,
    /// Standard deviation of independent sources before the last step, watts: as long as what came after is too short to tell.
    noise_before: Option<f64>,
    /// By limit: a change of level that has yet to outlast a cycle.
    runs: [Option<Run>; 3],
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Run {
    /// Level before it, watts.
    before: f64,
    /// 1.0: up; −1.0: down.
    direction: f64,
    bins: usize,
}

fn bins(seconds: f64) -> usize {
    (seconds / BIN).round().max(1.0) as usize
}

impl StepJudge {
    /// Looks at the newest bin. Gives the step that it opens or refines.
    pub fn judge(&mut self, view: &View<'_>, cycle: Option<Cycle>) -> Option<Step> {
        let (history, sampling) = (view.history, view.sampling.slowest);
        if let Some(step) = self.refine(history, cycle) {
            return Some(step);
        }
        let found = self.leaves_envelope(view, cycle);
        let step = found.or_else(|| self.outlasts_cycle(view, cycle))?;
        if let Some(current) = &mut self.current
            && current.delta_watts().signum() == step.delta_watts().signum()
            && step.opened_at.since(current.opened_at) < step.limit.0.max(MOVING)
        {
            current.goes_on(&step);
            self.settled_at = history.last();
            return Some(current.clone());
        }
        self.noise_before = self.noise(view, history.age(step.started_at) + bins(1.0));
        self.level_before = Some(step.before_watts);
        // One that was found late has been quiet since.
        let end = step.started_at + ((step.rise_seconds + sampling.max(1.0)) * 1e6) as i64;
        self.settled_at = history.last().map(|now| now.min(end));
        self.runs = [None; 3];
        self.current = Some(step.clone());
        Some(step)
    }

    /// Start of the stretch without a step, as far as is known.
    pub fn quiet_since(&self) -> Option<Micros> {
        self.settled_at
    }

    /// Forgets the past: the sum's make-up has changed.
    pub fn reset(&mut self, at: Micros) {
        self.settled_at = Some(at);
        self.runs = [None; 3];
    }

    /// The change is more than independent sources do; `before` bins ago it had not begun.
    fn is_certain(&self, view: &View<'_>, step: &Step, before: usize) -> bool {
        self.noise(view, before).is_some_and(|noise| step.delta_watts().abs() > CERTAIN * std::f64::consts::SQRT_2 * noise)
    }

    /// Standard deviation of independent sources until `before` bins ago, watts. None: nothing is known of them.
    fn noise(&self, view: &View<'_>, before: usize) -> Option<f64> {
        let since = self.settled_at.map_or(usize::MAX, |at| view.history.age(at)).min(view.signed.len());
        let seconds = since.saturating_sub(before) as f64 * BIN;
        if seconds < LEAST_NOISE && self.noise_before.is_some() {
            return self.noise_before;
        }
        // What is slow has not shown yet in so short a time: the deviation of a random walk grows with the root of it.
        let unseen = (LEAST_NOISE / seconds).max(1.0).sqrt();
        view.signed.deviation(before, seconds.min(NOISE)).map(|deviation| unseen * deviation)
    }

    fn leaves_envelope(&self, view: &View<'_>, cycle: Option<Cycle>) -> Option<Step> {
        let View { history, limits, sampling, .. } = view;
        let length = cycle.map_or(ENVELOPE, |cycle| (3.0 * cycle.period).max(ENVELOPE));
        // A single bin is not a level: the middle of three.
        let mut newest = [history.back(0)?, history.back(1)?, history.back(2)?];
        newest.sort_by(f64::total_cmp);
        let now = newest[1];
        limits.steps.iter().find_map(|&(window, limit)| {
            if sampling.slowest > window {
                return None;
            }
            let window_bins = bins(window);
            if history.len() < window_bins + bins(1.0) + 2 {
                return None;
            }
            // The envelope ends where the window begins: what moves within the window is what is judged. Where a step lies in
            // the window, what came after it is no news.
            let since_step = self.settled_at.map_or(usize::MAX, |at| history.age(at).saturating_sub(window_bins.min(bins(1.0))));
            let (mut low, mut high) = history.range(window_bins.min(since_step), bins(length))?;
            if let Some(level) = self.level_before {
                (low, high) = (low.min(level), high.max(level));
            }
            let direction = if now > high + limit {
                1.0
            } else if now < low - limit {
                -1.0
            } else {
                return None;
            };
            // It is where the sum moved fastest since it was last inside, or a cycle before.
            let inside = |age: usize| history.back(age).is_some_and(|watts| (low..=high).contains(&watts));
            let left = (0..window_bins).find(|&age| inside(age)).unwrap_or(window_bins);
            let reach = (left + bins(cycle.map_or(1.0, |cycle| cycle.period))).min(window_bins);
            let span = bins(sampling.slowest.max(1.0));
            let steepest = steepest(history, 0..=reach, span, direction);
            let step =
                measure(history, steepest, steepest..=steepest + span, cycle, sampling.slowest, direction, (window, limit));
            self.is_certain(view, &step, steepest + span).then_some(step)
        })
    }

    fn outlasts_cycle(&mut self, view: &View<'_>, cycle: Option<Cycle>) -> Option<Step> {
        let View { history, limits, sampling, .. } = view;
        let period = cycle.map_or(CYCLE_UNKNOWN, |cycle| cycle.period);
        let level = bins(period);
        let quiet = self.settled_at.map_or(history.len(), |at| history.age(at)).min(history.len());
        for (index, &(window, limit)) in limits.steps.iter().enumerate() {
            let apart = bins(window);
            if sampling.slowest > window {
                continue;
            }
            let level_now = history.mean(0, level)?;
            let run = match self.runs[index] {
                Some(run) => Run { bins: run.bins + 1, ..run },
                None if quiet < 2 * level + apart => continue,
                None => {
                    let before = history.mean(level + apart, level)?;
                    Run { before, direction: (level_now - before).signum(), bins: 0 }
                }
            };
            if run.direction * (level_now - run.before) <= limit {
                self.runs[index] = None;
                continue;
            }
            self.runs[index] = Some(run);
            if run.bins >= level {
                // It is where the mean of the cycle after differs most from that of the cycle before.
                let change = |age: usize| Some(run.direction * (history.mean(age - level, level)? - history.mean(age, level)?));
                let ages = level..=run.bins + 2 * level + apart;
                let split = ages.max_by(|&a, &b| change(a).unwrap_or(f64::MIN).total_cmp(&change(b).unwrap_or(f64::MIN)));
                let span = bins(sampling.slowest.max(1.0));
                let split = split.unwrap_or(level);
                let near = split.saturating_sub(span + level / 4)..=split + level / 4;
                let edge = *near.start()..=*near.end() + span;
                let steepest = steepest(history, near, span, run.direction);
                let before = *edge.end();
                let step = measure(history, steepest, edge, cycle, sampling.slowest, run.direction, (window, limit));
                if self.is_certain(view, &step, before) {
                    return Some(step);
                }
                self.runs[index] = None;
            }
        }
        None
    }

    /// Follows the open step until its levels are known.
    fn refine(&mut self, history: &History, cycle: Option<Cycle>) -> Option<Step> {
        let step = self.current.as_mut()?;
        let since = history.last()?.since(step.opened_at);
        let cycles = cycle.map_or(SETTLE / 6.0, |cycle| 3.0 * cycle.period + 1.0);
        let due = since >= SETTLE || (since >= cycles && cycle.is_some());
        // Once a second is enough.
        if !due && (since / BIN).round() as i64 % 10 != 0 {
            return None;
        }
        let length = bins(cycle.map_or(1.0, |cycle| cycle.period));
        if cycle.is_none() && history.last()?.since(step.started_at) < MOVING {
            step.follow(history, length);
        }
        let room = history.age(step.over_at);
        let split = cycle.and_then(|_| split(history, step, length));
        if let Some((before, after)) = split.and_then(|split| levels(history, split, length)) {
            (step.before_watts, step.after_watts) = (before.watts, after.watts);
            step.steady_seconds = (before.seconds, after.seconds);
        } else if room >= length {
            let after = |count: usize| history.mean(room - count, count);
            if let Some(level) = agreed(after, length, room / length, step.before_watts) {
                (step.after_watts, step.steady_seconds.1) = (level.watts, level.seconds);
            }
        }
        let refined = step.clone();
        if due {
            let mut settled = self.current.take()?;
            settled.settled = true;
            return Some(settled);
        }
        Some(refined)
    }
}

/// Where a step within an oscillation of `length` bins a cycle lies: its steepest movement may be one of the cycle's own. It is where the mean
/// of the cycle after differs most from that of the cycle before. None: the cycle after is not over.
fn split(history: &History, step: &Step, length: usize) -> Option<usize> {
    let middle = history.age(step.started_at);
    let direction = step.delta_watts().signum();
    let change = |age: usize| Some(direction * (history.mean(age - length, length)? - history.mean(age, length)?));
    let ages = length.max(middle.checked_sub(length)?)..=middle + length / 2;
    let best = ages.filter_map(|age| Some((age, change(age)?))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(best.0)
}

/// A level, and for how long it is the same.
struct Level {
    watts: f64,
    seconds: f64,
}

/// Levels before and after, of whole cycles that keep half a second away from the split.
fn levels(history: &History, split: usize, length: usize) -> Option<(Level, Level)> {
    let gap = bins(0.5).min(length / 4);
    let (newer, older) = (split.checked_sub(gap)?, split + gap);
    let rough = (history.mean(older, length)?, history.mean(newer.checked_sub(length)?, length)?);
    let room = history.len().saturating_sub(older);
    let before = agreed(|count| history.mean(older, count), length, room / length, rough.1)?;
    let after = agreed(|count| history.mean(newer - count, count), length, newer / length, rough.0)?;
    Some((before, after))
}

/// Age (of its newest bin) of the span in which the sum moves most in this direction.
fn steepest(history: &History, ages: RangeInclusive<usize>, span: usize, direction: f64) -> usize {
    let slope = |age: usize| Some(direction * (history.back(age)? - history.back(age + span)?));
    let first = *ages.start();
    ages.max_by(|&a, &b| slope(a).unwrap_or(f64::MIN).total_cmp(&slope(b).unwrap_or(f64::MIN))).unwrap_or(first)
}

/// The level over as many cycles (of `length` bins, at most `most`) as agree with the first one, as seen from the `other` side of a step.
fn agreed(mean: impl Fn(usize) -> Option<f64>, length: usize, most: usize, other: f64) -> Option<Level> {
    let first = mean(length)?;
    let near = AGREE * (first - other).abs();
    let longest = LEVELS.max((LEVEL_SECONDS / BIN) as usize / length.max(1));
    let agrees = |cycles: usize| mean(cycles * length).filter(|level| (level - first).abs() <= near).map(|level| (cycles, level));
    let (cycles, watts) = (2..=most.min(longest)).map_while(agrees).last().unwrap_or((1, first));
    Some(Level { watts, seconds: (cycles * length) as f64 * BIN })
}

/// The figures of a step that is `steepest` bins old, and lies within `edge` (ages).
fn measure(
    history: &History,
    steepest: usize,
    edge: RangeInclusive<usize>,
    cycle: Option<Cycle>,
    sampling: f64,
    direction: f64,
    limit: (f64, f64),
) -> Step {
    let level = bins(cycle.map_or(1.0, |cycle| cycle.period));
    let span = bins(sampling.max(1.0));
    let (newer, older) = edge.into_inner();
    let moved = |age: usize| Some(history.back(age)? - history.back(age + span)?);
    let watts_per_second = moved(steepest).unwrap_or(0.0) / (span as f64 * BIN);
    let middle = steepest + span / 2;
    let after_bins = level.min(newer.max(1));
    let after = history.mean(newer.saturating_sub(after_bins), after_bins).unwrap_or(0.0);
    let room = history.len().saturating_sub(older);
    let before = agreed(|count| history.mean(older, count), level, room / level, after);
    let steady = before.as_ref().map_or(0.0, |level| level.seconds);
    let before = before.map(|level| level.watts).or_else(|| history.back(older)).unwrap_or(0.0);
    let crossing = |share: f64| {
        let level = before + share * (after - before);
        let beyond = |age: usize| history.back(age).is_some_and(|watts| direction * (watts - level) >= 0.0);
        let from = middle + 2 * span;
        (0..=from).rev().find(|&age| beyond(age)).unwrap_or(middle)
    };
    let rise = crossing(0.1).saturating_sub(crossing(0.9)) as f64 * BIN;
    Step {
        started_at: history.at(crossing(0.5)),
        opened_at: history.at(0),
        before_watts: before,
        after_watts: after,
        watts_per_second,
        rise_seconds: rise,
        limit,
        over_at: history.at(newer),
        steady_seconds: (steady, 0.0),
        settled: false,
    }
}
