//! How well a running oscillation is foretold, as measured: each second what the sum will be [`AHEAD`] later is written down, and held against what came.

use super::{STRETCH, fit};
use crate::power::History;
use crate::power::history::BIN;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Seconds from the last bin to what is foretold.
const AHEAD: f64 = 4.0;
/// Forecasts that a score rests on at least, and at most: the last ones.
const LEAST: usize = 20;
const MOST: usize = 600;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Foretold {
    at: Micros,
    watts: f64,
    /// What the sum was when it was foretold: whoever knows no better says that it will stay so.
    stays: f64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Score {
    due: Option<Micros>,
    waiting: VecDeque<Foretold>,
    /// Differences of forecast and of persistence, watts.
    errors: VecDeque<(f64, f64)>,
}

/// Root mean squares, watts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scored {
    pub ahead_seconds: f64,
    pub error_watts: f64,
    /// Of saying that the sum stays as it is.
    pub persistence_error_watts: f64,
    pub count: usize,
}

impl Score {
    pub fn is_due(&self, now: Micros) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Foretells, and looks at what was foretold.
    pub fn look(&mut self, history: &History, hertz: f64, now: Micros) {
        self.due = Some(now + 1_000_000);
        while let Some(foretold) = self.waiting.pop_front_if(|foretold| foretold.at <= now) {
            let Some(came) = history.back(history.age(foretold.at)) else { continue };
            if self.errors.len() == MOST {
                self.errors.pop_front();
            }
            self.errors.push_back((came - foretold.watts, came - foretold.stays));
        }
        let bins = (STRETCH.max(2.0 / hertz) / BIN).ceil() as usize + 1;
        let stretch: Vec<f64> = history.newest(bins).collect();
        if let (Some(model), Some(&stays)) = (fit(&stretch, hertz), stretch.last()) {
            self.waiting.push_back(Foretold { at: now + (AHEAD * 1e6) as i64, watts: model.watts(AHEAD), stays });
        }
    }

    /// The oscillation is over.
    pub fn end(&mut self) {
        if self.due.is_some() {
            *self = Self::default();
        }
    }

    /// None: too few were held against what came.
    pub fn scored(&self) -> Option<Scored> {
        let count = self.errors.len();
        let rms =
            |of: fn(&(f64, f64)) -> f64| (self.errors.iter().map(|error| of(error).powi(2)).sum::<f64>() / count as f64).sqrt();
        let scored = Scored { ahead_seconds: AHEAD, error_watts: rms(|e| e.0), persistence_error_watts: rms(|e| e.1), count };
        (count >= LEAST).then_some(scored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    #[test]
    fn what_came_is_held_against_what_was_foretold() {
        let (mut history, mut score) = (History::default(), Score::default());
        let mut looked = 0;
        for bin in 0..2000 {
            let at = Micros(bin * 100_000);
            let noise = ((bin * 7919) % 101) as f64 - 50.0;
            history.push(at, 1e5 + 1000.0 * (TAU * 0.09 * bin as f64 * BIN).sin() + noise, 0.0, 1.0);
            if bin >= 300 && score.is_due(at) {
                score.look(&history, 0.09, at);
                looked += 1;
            }
        }
        let scored = score.scored().unwrap();
        // What was foretold in the last four seconds is yet to come.
        assert_eq!((looked, scored.count), (170, 166));
        // The noise alone is 29 W; a sine of 1 kW moves by 2 sin(π f · 4 s) = 1.81 times that, ÷ √2.
        assert!((28.0..35.0).contains(&scored.error_watts), "{scored:?}");
        assert!((scored.persistence_error_watts / 1281.0 - 1.0).abs() < 0.03, "{scored:?}");
        score.end();
        assert_eq!(score.scored(), None);
    }
}
