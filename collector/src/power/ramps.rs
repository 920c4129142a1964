//! How far the sum has moved within 1, 10, 60 and 600 seconds.

use super::History;
use super::history::BIN;
use serde::{Deserialize, Serialize};

/// Seconds.
pub const WINDOWS: [f64; 4] = [1.0, 10.0, 60.0, 600.0];

/// What the sum did within one window up to an instant. Watts; the middle of three bins stands for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    pub window_seconds: f64,
    /// Above the lowest of the window: P − min.
    pub up_watts: f64,
    /// Below the highest: max − P.
    pub down_watts: f64,
    /// Highest − lowest.
    pub range_watts: f64,
}

impl Ramp {
    /// Rate of the larger of the two, signed.
    pub fn watts_per_second(&self) -> f64 {
        let up = self.up_watts >= self.down_watts;
        (if up { self.up_watts } else { -self.down_watts }) / self.window_seconds.max(BIN)
    }
}

/// At the bin `age` bins before the newest, for each window that the history covers (others: what there is of it).
pub fn ramps(history: &History, age: usize) -> [Ramp; WINDOWS.len()] {
    let mut ramps = WINDOWS.map(|window_seconds| Ramp { window_seconds, ..Ramp::default() });
    let Some(now) = middle(history, age) else { return ramps };
    let (mut low, mut high) = (now, now);
    let mut window = 0;
    for back in 0..=(WINDOWS[WINDOWS.len() - 1] / BIN) as usize {
        let Some(watts) = middle(history, age + back) else { break };
        while window < WINDOWS.len() && back as f64 * BIN > WINDOWS[window] + 1e-6 {
            window += 1;
        }
        (low, high) = (low.min(watts), high.max(watts));
        for ramp in &mut ramps[window..] {
            (ramp.up_watts, ramp.down_watts, ramp.range_watts) = (now - low, high - now, high - low);
        }
    }
    ramps
}

/// The middle of three neighbouring bins: a single one is not a level.
fn middle(history: &History, age: usize) -> Option<f64> {
    let own = history.back(age)?;
    let older = history.back(age + 1).unwrap_or(own);
    let newer = age.checked_sub(1).and_then(|age| history.back(age)).unwrap_or(own);
    Some(own.min(older).max(own.max(older).min(newer)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridstep_wire::Micros;

    #[test]
    fn each_window_has_its_own_extremes() {
        let mut history = History::default();
        for bin in 0..700 {
            // Down by 100 within 30 s, 40 s ago; up by 20 in the last half second. One bin is a lie.
            let t = f64::from(bin) * BIN;
            let watts = 500.0 - 100.0 / 3.0 * ((t / 10.0).clamp(0.0, 3.0)) + if t >= 69.5 { 20.0 } else { 0.0 };
            history.push(Micros(bin as i64 * 100_000), watts + if bin == 650 { 1e6 } else { 0.0 }, 0.0, 1.0);
        }
        let [second, ten, minute, _] = ramps(&history, 0);
        assert_eq!((second.up_watts.round(), second.down_watts.round()), (20.0, 0.0));
        assert_eq!((ten.range_watts.round(), minute.up_watts.round()), (20.0, 20.0));
        assert!((minute.down_watts - 46.7).abs() < 1.0, "{minute:?}");
        assert!((second.watts_per_second() - 20.0).abs() < 0.1);
    }
}
