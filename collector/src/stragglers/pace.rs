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
/// By how much the autocorrelation of a part of a step has to exceed that of the half of it, for the part to be the step.
const CLEARLY: f64 = 0.2;
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
    let mut step = *peaks.iter().find(|&&lag| lags[lag] >= NEARLY * highest)? as f64;
    // Of steps that are no whole seconds and hardly longer than two, the first peak is a multiple.
    for parts in [3.0, 2.0] {
        let (short, between) = (step / parts, step / parts / 2.0);
        let at = |lag: f64| {
            let (whole, part) = (lag.floor() as usize, lag.fract());
            (1.0 - part) * lags[whole] + part * lags[whole + 1]
        };
        if (1.5..SHORTEST as f64).contains(&short) && at(short) > at(between) + CLEARLY {
            return Some(short);
        }
    }
    // The peak of several steps knows one to a part of a second.
    for multiple in 2.. {
        let near = |&&lag: &&usize| (lag as f64 - f64::from(multiple) * step).abs() <= 1.0;
        let Some(&lag) = peaks.iter().find(near) else { break };
        step = lag as f64 / f64::from(multiple);
    }
    Some(step)
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
