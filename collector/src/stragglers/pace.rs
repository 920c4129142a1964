//! How long a job's step lasts, where that shows in seconds.
//!
//! What is compared has to hold steps whole: who makes the others wait shows it once a step. What is a pause is judged by the step, too.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Seconds that are remembered.
const KEEP: usize = 256;
/// Where no step shows, seconds.
const UNIT: usize = 2;
/// Steps that are looked for, seconds. Shorter ones are whole enough in any window.
const SHORTEST: usize = 3;
const LONGEST: usize = 60;
/// Least autocorrelation of a step.
const LEAST: f64 = 0.3;
/// A multiple of the step correlates as well: the step is the first peak that is nearly as high as the highest.
const NEARLY: f64 = 0.8;
/// Seconds that are folded, at least and at most; into so many parts of a step.
const ENOUGH: usize = 40;
const FOLDED: usize = 160;
const BINS: usize = 8;
/// Steps that are looked at, around a lag: seconds, and from one to the next.
const REACH: f64 = 0.6;
const FINELY: f64 = 1.003;
/// A part of a lag is the step if it explains that much of what the lag explains, and of the figure: between two paces nothing explains much,
/// and anything as well as the lag. Steps that are told from others are so long, seconds.
const AS_WELL: f64 = 0.9;
const CLEARLY: f64 = 0.6;
const LEAST_STEP: f64 = 1.8;
/// Seconds without computing that are a pause (checkpoint, evaluation, stop), not communication: at least, and as a share of the step.
const PAUSE: f64 = 5.0;
const PAUSE_SHARE: f64 = 1.0;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pace {
    /// The job's median share of computing, second by second.
    busy: VecDeque<f64>,
    /// Seconds.
    step: Option<f64>,
}

impl Pace {
    pub fn take(&mut self, busy: f64) {
        if self.busy.len() == KEEP {
            self.busy.pop_front();
        }
        self.busy.push_back(busy);
    }

    /// Looks at what has been taken. Between two looks the answers below stay the same.
    pub fn look(&mut self) {
        self.step = step(&self.busy.iter().copied().collect::<Vec<_>>());
    }

    /// Seconds of the shortest window in which members can be compared: one step, where it shows.
    pub fn unit(&self) -> usize {
        self.step.map_or(UNIT, |step| step.round() as usize).max(UNIT)
    }

    /// The same, not rounded.
    pub fn step(&self) -> f64 {
        self.step.unwrap_or(0.0).max(UNIT as f64)
    }

    /// Seconds without computing that are a pause.
    pub fn pause(&self) -> usize {
        (PAUSE_SHARE * self.step.unwrap_or(0.0)).max(PAUSE) as usize
    }
}

/// The lag of the first high peak of the autocorrelation, seconds; at least two and a half of them must lie in the stretch.
fn step(busy: &[f64]) -> Option<f64> {
    let count = busy.len();
    let mean = busy.iter().sum::<f64>() / count.max(1) as f64;
    let flat: Vec<f64> = busy.iter().map(|busy| busy - mean).collect();
    let power: f64 = flat.iter().map(|value| value * value).sum::<f64>() / count.max(1) as f64;
    if power < 1e-4 {
        return None;
    }
    let correlation = |lag: usize| {
        let products = flat.iter().zip(&flat[lag..]).map(|(a, b)| a * b).sum::<f64>();
        products / (count - lag) as f64 / power
    };
    let longest = LONGEST.min(count * 2 / 5);
    let lags: Vec<f64> = (0..=longest + 1).take_while(|&lag| lag < count).map(correlation).collect();
    let peaks =
        (SHORTEST..=longest).filter(|&lag| lags.len() > lag + 1 && lags[lag] >= lags[lag - 1] && lags[lag] >= lags[lag + 1]);
    let peaks: Vec<usize> = peaks.filter(|&lag| lags[lag] >= LEAST).collect();
    let highest = peaks.iter().map(|&lag| lags[lag]).fold(0.0, f64::max);
    let first = *peaks.iter().find(|&&lag| lags[lag] >= NEARLY * highest)?;
    Some(refined(&busy[count.saturating_sub(FOLDED)..], first, &lags))
}

/// The step to a part of a second. Read once a second, a step that is no whole number of seconds shows its first high peak at several of
/// them: the shortest part of the lag counts that explains the figure as well when it is folded by it, and at which it correlates.
fn refined(busy: &[f64], lag: usize, lags: &[f64]) -> f64 {
    if busy.len() < ENOUGH {
        return lag as f64;
    }
    let best = |parts: usize| {
        let (mut step, to) = ((lag as f64 - REACH) / parts as f64, (lag as f64 + REACH) / parts as f64);
        let mut best = (f64::MIN, step);
        while step <= to {
            let explained = explained(busy, step);
            if explained > best.0 {
                best = (explained, step);
            }
            step *= FINELY;
        }
        best
    };
    let (whole, mut step) = best(1);
    for parts in 2..=lag / 2 {
        let (explained, part) = best(parts);
        let correlates = lags.get(part.round() as usize).is_some_and(|&correlation| correlation >= LEAST);
        if part >= LEAST_STEP && explained >= CLEARLY.max(AS_WELL * whole) && correlates {
            step = part;
        }
    }
    step
}

/// Share of the figure's variance that its place within the step explains.
fn explained(busy: &[f64], step: f64) -> f64 {
    let mut bins = [(0.0, 0.0f64); BINS];
    let mean = busy.iter().sum::<f64>() / busy.len() as f64;
    let mut total = 0.0;
    for (second, &value) in busy.iter().enumerate() {
        let place = ((second as f64 / step).fract() * BINS as f64) as usize;
        let bin = &mut bins[place.min(BINS - 1)];
        (bin.0, bin.1) = (bin.0 + 1.0, bin.1 + value - mean);
        total += (value - mean) * (value - mean);
    }
    let used = bins.iter().filter(|bin| bin.0 > 0.0).count();
    let between: f64 = bins.iter().filter(|bin| bin.0 > 0.0).map(|bin| bin.1 * bin.1 / bin.0).sum();
    let count = busy.len() as f64;
    1.0 - (total - between) / (count - used as f64) / (total / (count - 1.0)).max(1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(step: f64, share: f64) -> Pace {
        let mut pace = Pace::default();
        (0..KEEP).for_each(|second| pace.take(if (second as f64 / step).fract() < share { 1.0 } else { 0.0 }));
        pace.look();
        pace
    }

    #[test]
    fn long_steps_show() {
        assert!((22..=23).contains(&pace(22.4, 0.8).unit()));
        assert_eq!(pace(22.4, 0.8).pause(), 22);
        assert_eq!(pace(7.3, 0.7).unit(), 7);
        assert_eq!(pace(3.0, 0.5).unit(), 3);
        assert_eq!(pace(1.0, 0.7).unit(), UNIT);
        assert_eq!((pace(2.34, 0.7).unit(), pace(5.0, 0.5).unit()), (2, 5));
    }

    #[test]
    fn steps_that_are_no_whole_seconds_are_not_taken_for_several() {
        for step in [2.09, 2.27, 2.73, 3.31, 4.43, 5.36, 6.4, 7.9, 9.5, 13.24, 18.3] {
            let mut pace = Pace::default();
            // Of each second the mean.
            let busy = |t: f64| {
                let whole = (t / step).floor() * step;
                0.75 * whole + (t - whole).min(0.75 * step)
            };
            (0..KEEP).for_each(|second| pace.take(busy(second as f64 + 1.0) - busy(second as f64)));
            pace.look();
            assert!((pace.step() - step).abs() < 0.02 * step, "{step}: {}", pace.step());
        }
        assert_eq!(pace(1.0, 0.7).pause(), 5);
    }

    #[test]
    fn nothing_is_known_at_first() {
        let mut pace = Pace::default();
        pace.look();
        assert_eq!((pace.unit(), pace.pause()), (UNIT, 5));
        // Two steps and a bit.
        (0..17).for_each(|second| pace.take(f64::from(u8::from(second % 7 < 5))));
        pace.look();
        assert_eq!(pace.unit(), UNIT);
        (0..17).for_each(|second| pace.take(f64::from(u8::from((second + 3) % 7 < 5))));
        pace.look();
        assert_eq!(pace.unit(), 7);
    }
}
