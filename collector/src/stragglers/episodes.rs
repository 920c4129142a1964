//! Errors that come and go, and the job's speed that goes and comes with them.
//!
//! A link that fails for half a minute at a time slows the job for too short a time to be told from the job's own ups and downs, and what is
//! remembered of the speed has its episodes in it. But each episode can be held to the time just before it:
//!
//! ```text
//! fall = 1 − mean speed of the episodes / mean speed between them,    deviation = that of single steps within each · √(1/n + 1/m)
//! ```
//!
//! with n and m steps in them and between them. Told are two episodes or more, if the fall is five deviations, and each of them shows half of it.

use super::noise::spread;
use super::trace::KEEP;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A run that began within so many seconds of the end of the one before goes on with it.
const APART: i64 = 10;
/// Episodes that are one after the other by chance are one.
const LEAST: usize = 2;
/// Of them and between them, steps.
const STEPS: usize = 2;
/// Least fall, and in deviations; least share of it that each episode shows.
const FALL: f64 = 0.01;
const SURE: f64 = 5.0;
const EACH: f64 = 0.5;
/// Least deviation of a step.
const DEVIATION: f64 = 0.01;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Episodes {
    /// By GPU and fact: begin and end of each, seconds.
    of: BTreeMap<(u32, usize), Vec<(i64, i64)>>,
}

/// What episodes show: since when, by how much the job is slower in them, in deviations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shown {
    pub since: i64,
    pub fall: f64,
    pub score: f64,
}

impl Episodes {
    /// It has been going on since then, and does now.
    pub(super) fn take(&mut self, gpu: u32, fact: usize, since: i64, now: i64) {
        let spans = self.of.entry((gpu, fact)).or_default();
        match spans.last_mut() {
            Some(last) if since.max(now - APART) <= last.1 + APART => last.1 = now,
            _ => spans.push((since, now)),
        }
    }

    /// What ended before is of no use.
    pub(super) fn forget(&mut self, before: i64) {
        self.of.retain(|_, spans| {
            spans.retain(|span| span.1 >= before);
            !spans.is_empty()
        });
    }

    /// Of each that goes on now. `mean`: the job's speed in these seconds, if it is known of all of them.
    pub(super) fn shown(&self, now: i64, step: usize, mean: &impl Fn(i64, i64) -> Option<f64>) -> Vec<(u32, usize, Shown)> {
        let going = self.of.iter().filter(|(_, spans)| spans.last().is_some_and(|last| now - last.1 <= APART));
        going.filter_map(|(&(gpu, fact), spans)| Some((gpu, fact, shown(spans, step, mean)?))).collect()
    }
}

fn shown(spans: &[(i64, i64)], step: usize, mean: &impl Fn(i64, i64) -> Option<f64>) -> Option<Shown> {
    // The step in which it begins or ends is neither.
    let steps = |from: i64, to: i64| -> Vec<f64> {
        let places = (from + step as i64..=to - step as i64).step_by(step);
        places.filter_map(|at| mean(at, at + step as i64)).collect()
    };
    let mut end = spans.first()?.0 - KEEP as i64;
    let mut since = None;
    // Each episode, and the time before it.
    let (mut within, mut between) = (Vec::new(), Vec::new());
    for &(begin, last) in spans {
        let (on, off) = (steps(begin, last), steps(end, begin));
        end = last + APART;
        if !on.is_empty() && !off.is_empty() {
            since.get_or_insert(begin);
            within.push(on);
            between.push(off);
        }
    }
    let (slow, usual) = (within.concat(), between.concat());
    if within.len() < LEAST || slow.len() < STEPS || usual.len() < STEPS {
        return None;
    }
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let fall_of = |on: &[f64], off: &[f64]| 1.0 - average(on) / average(off);
    let fall = fall_of(&slow, &usual);
    let each = within.iter().zip(&between).map(|(on, off)| fall_of(on, off)).fold(f64::INFINITY, f64::min);
    let own = |part: &Vec<f64>| part.iter().map(|value| value / average(part) - 1.0).collect::<Vec<_>>();
    let single = spread(&within.iter().chain(&between).flat_map(own).collect::<Vec<_>>()).1.max(DEVIATION);
    let score = fall / (single * (1.0 / slow.len() as f64 + 1.0 / usual.len() as f64).sqrt());
    let sure = fall >= FALL && score >= SURE && each >= EACH * fall;
    since.filter(|_| sure).map(|since| Shown { since, fall, score })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors for 40 s of each 120; the job is by `fall` slower in `slow(second)`. Second and what is shown, when it first is.
    fn first(step: usize, fall: f64, slow: impl Fn(i64) -> bool) -> Option<(i64, Shown)> {
        let noise = |second: i64| ((second.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64) >> 40) % 100) as f64 / 1e4;
        let speed = |second: i64| 0.6 * (1.0 + noise(second) - if slow(second) { fall } else { 0.0 });
        let mut episodes = Episodes::default();
        (0..600).step_by(5).find_map(|now: i64| {
            if (40..80).contains(&(now % 120)) {
                episodes.take(7, 3, now - now % 120 + 40, now);
            }
            episodes.forget(now - KEEP as i64);
            let mean = |from: i64, to: i64| {
                (from >= (now - KEEP as i64).max(0) && to <= now).then(|| (from..to).map(speed).sum::<f64>() / (to - from) as f64)
            };
            let shown = episodes.shown(now, step, &mean);
            assert!(shown.iter().all(|shown| (shown.0, shown.1) == (7, 3)));
            shown.first().map(|shown| (now, shown.2))
        })
    }

    #[test]
    fn the_second_time_that_it_falls_with_the_errors_tells() {
        for (step, by) in [(2, 175), (12, 200)] {
            let (at, shown) = first(step, 0.08, |second| (40..80).contains(&(second % 120))).unwrap();
            assert!((160..=by).contains(&at), "{at}");
            assert!(shown.since == 40 && (shown.fall - 0.08).abs() < 0.02 && shown.score > 5.0, "{shown:?}");
        }
    }

    #[test]
    fn they_are_in_a_checkpoint() {
        let mut episodes = Episodes::default();
        episodes.take(7, 3, 40, 50);
        let mut bytes = Vec::new();
        ciborium::into_writer(&episodes, &mut bytes).unwrap();
        let value: ciborium::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
        assert_eq!(value.deserialized::<Episodes>().unwrap().of, episodes.of);
    }

    #[test]
    fn errors_that_have_nothing_to_do_with_it_tell_nothing() {
        assert_eq!(first(2, 0.08, |_| false), None);
        // It falls once; or for as long but at other times; or for good.
        assert_eq!(first(2, 0.08, |second| (40..80).contains(&second)), None);
        assert_eq!(first(2, 0.08, |second| (60..100).contains(&(second % 150))), None);
        assert_eq!(first(2, 0.08, |second| second >= 170), None);
    }
}
