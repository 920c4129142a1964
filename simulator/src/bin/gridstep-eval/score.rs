//! Incidents against the truth.

use crate::fleet::{Outcome, Seen, seconds};
use gridstep_collector::incidents::Kind;

/// What really happened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Truth {
    /// `within`: seconds in which it should be found.
    Step {
        at: f64,
        watts: f64,
        within: f64,
    },
    Line {
        at: f64,
        until: f64,
        hertz: f64,
        watts: f64,
    },
}

/// One truth and what was found of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Match {
    /// From the onset to the arrival time at which the incident was there, s.
    pub(crate) delay: f64,
    /// Relative errors of the last revision: a step's watts, or a line's amplitude; a line's frequency.
    pub(crate) watts: f64,
    pub(crate) hertz: f64,
    /// Cycles until it was there, of a line.
    pub(crate) cycles: f64,
    /// Aimed at, s.
    pub(crate) within: f64,
    /// Largest difference of a share, by feeder or job, from the true one.
    pub(crate) share: f64,
}

/// Whose it truly is: shares by what contributors call them.
pub(crate) type Shares = Vec<(&'static str, String, f64)>;

/// Counts of errors in steps of a hundredth of a percent: nulls have too many to keep.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<u64>);

impl Errors {
    const STEP: f64 = 1e-4;

    fn put(&mut self, error: f64) {
        let place = ((error.abs() / Self::STEP) as usize).min(9_999);
        if self.0.len() <= place {
            self.0.resize(place + 1, 0);
        }
        self.0[place] += 1;
    }

    /// Not exceeded by this share of them.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let total: u64 = self.0.iter().sum();
        let mut below = 0;
        let place = self.0.iter().position(|count| {
            below += count;
            below as f64 >= share * total as f64 && total > 0
        });
        place.map_or(f64::NAN, |place| (place + 1) as f64 * Self::STEP)
    }
}

impl Match {
    /// Beyond what is aimed at.
    fn is_poor(&self) -> bool {
        match self.cycles > 0.0 {
            true => self.delay > self.within || self.hertz.abs() > 0.01 || self.watts.abs() > 0.1 || self.share > 0.02,
            false => self.delay > self.within || self.watts.abs() > 0.05 || self.share > 0.02,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Score {
    pub(crate) truths: usize,
    pub(crate) found: Vec<Match>,
    pub(crate) wrong: Vec<String>,
    pub(crate) missed: Vec<String>,
    /// What was found late, or with wrong figures.
    pub(crate) poor: Vec<String>,
    pub(crate) sum_errors: Errors,
    pub(crate) second_errors: Errors,
    /// Fleets × seconds.
    pub(crate) seconds: f64,
}

/// A step may be found this long after its onset and still be that step, s.
const LATE: f64 = 75.0;

pub(crate) fn score(outcome: &Outcome, truths: &[Truth], shares: &Shares, into: &mut Score) {
    let swings: Vec<&Seen> = outcome.incidents.iter().filter(|seen| seen.first.kind == Kind::PowerSwing).collect();
    let mut used = vec![false; swings.len()];
    for truth in truths {
        into.truths += 1;
        let hit = (0..swings.len()).find(|&index| !used[index] && fits(swings[index], truth));
        match hit {
            Some(index) => {
                used[index] = true;
                let found = matched(swings[index], truth, shares);
                if found.is_poor() {
                    into.poor.push(format!("{truth:?}: {found:?}"));
                }
                into.found.push(found);
            }
            None => into.missed.push(format!("{truth:?}")),
        }
    }
    for (seen, used) in swings.iter().zip(&used) {
        if !used && !truths.iter().any(|truth| begins(seen, truth)) {
            let evidence: Vec<String> =
                seen.first.evidence.iter().map(|one| format!("{} {:.3}", one.signal, one.value)).collect();
            into.wrong.push(format!("{:.1} s: {} ({})", seen.at, seen.last.summary, evidence.join(", ")));
        }
    }
    outcome.sum_errors.iter().for_each(|&error| into.sum_errors.put(error));
    outcome.second_errors.iter().for_each(|&error| into.second_errors.put(error));
}

fn fits(seen: &Seen, truth: &Truth) -> bool {
    let started = seconds(seen.first.started_at);
    let cause = seen.last.cause.as_str();
    match *truth {
        Truth::Step { at, watts, .. } => {
            cause == if watts > 0.0 { "step_up" } else { "step_down" } && seen.at > at - 0.5 && (started - at).abs() < LATE
        }
        Truth::Line { at, until, .. } => cause == "oscillation" && seen.at > at - 0.5 && seen.at < until + 5.0,
    }
}

/// A large oscillation that begins at once begins with steps.
fn begins(seen: &Seen, truth: &Truth) -> bool {
    let limit = seen.last.magnitude.get("limit_watts").and_then(|value| value.as_f64()).unwrap_or(f64::INFINITY);
    match *truth {
        Truth::Line { at, hertz, watts, .. } => {
            seen.last.cause.starts_with("step") && watts > 0.7 * limit && (at - 1.0..at + 2.0 / hertz + 2.0).contains(&seen.at)
        }
        Truth::Step { .. } => false,
    }
}

/// What is not among the contributors has no share, as far as that is told.
fn share_error(seen: &Seen, shares: &Shares) -> f64 {
    let told = |level: &str, name: &str| {
        let own = seen.last.contributors.iter().find(|one| one.who.get(level).and_then(|who| who.as_str()) == Some(name));
        own.map_or(0.0, |one| one.share)
    };
    shares.iter().map(|(level, name, share)| (told(level, name) - share).abs()).fold(0.0, f64::max)
}

fn matched(seen: &Seen, truth: &Truth, shares: &Shares) -> Match {
    let share = share_error(seen, shares);
    let figure = |key: &str| seen.last.magnitude.get(key).and_then(|value| value.as_f64()).unwrap_or(f64::NAN);
    match *truth {
        Truth::Step { at, watts, within } => {
            Match { delay: seen.at - at, watts: figure("delta_watts") / watts - 1.0, hertz: 0.0, cycles: 0.0, within, share }
        }
        Truth::Line { at, hertz, watts, .. } => Match {
            delay: seen.at - at,
            watts: figure("amplitude_watts") / watts - 1.0,
            hertz: figure("frequency_hz") / hertz - 1.0,
            cycles: (seen.at - at) * hertz,
            within: (4.0 / hertz).max(6.0),
            share,
        },
    }
}

/// Value below which this share of them lies.
pub(crate) fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
