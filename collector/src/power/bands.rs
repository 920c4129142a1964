//! How much the sum moves in each band of frequencies (the RMS-energy filter of grid operators; facts/power-swings.md §3.3).
//!
//! A band-pass of two Butterworth sections, squared, smoothed over 4 ÷ its lower edge, the root of that. Fed with final bins. Nothing above
//! the claim limit means anything.

use super::history::BIN;
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2};

/// Hertz: slow, inter-area, local and close, fast.
pub const BANDS: [(f64, f64); 4] = [(0.01, 0.1), (0.1, 0.8), (0.8, 2.5), (2.5, 5.0)];

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BandPower {
    pub from_hz: f64,
    pub to_hz: f64,
    pub rms_watts: f64,
    /// Of a line that has this RMS.
    pub peak_to_peak_watts: f64,
}

/// Two poles and two zeros.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Section {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Section {
    /// Butterworth: what is above (or below) this frequency passes.
    fn new(hertz: f64, high_pass: bool) -> Self {
        let omega = 2.0 * PI * hertz * BIN;
        let (sin, cos) = omega.sin_cos();
        let alpha = sin * FRAC_1_SQRT_2;
        let scale = 1.0 / (1.0 + alpha);
        let edge = if high_pass { (1.0 + cos) / 2.0 } else { (1.0 - cos) / 2.0 };
        let middle = if high_pass { -2.0 * edge } else { 2.0 * edge };
        Self { b: [edge * scale, middle * scale, edge * scale], a: [-2.0 * cos * scale, (1.0 - alpha) * scale], state: [0.0; 2] }
    }

    fn pass(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.state[0];
        self.state[0] = self.b[1] * x - self.a[0] * y + self.state[1];
        self.state[1] = self.b[2] * x - self.a[1] * y;
        y
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Band {
    high_pass: Section,
    low_pass: Option<Section>,
    /// Watts².
    square: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bands {
    bands: Vec<Band>,
    /// The first value: what follows is looked at from there, so that beginning is no step.
    origin: Option<f64>,
}

impl Default for Bands {
    fn default() -> Self {
        let band = |&(from, to): &(f64, f64)| Band {
            high_pass: Section::new(from, true),
            low_pass: (to < 0.5 / BIN).then(|| Section::new(to, false)),
            square: 0.0,
        };
        Self { bands: BANDS.iter().map(band).collect(), origin: None }
    }
}

impl Bands {
    pub fn push(&mut self, watts: f64) {
        let x = watts - *self.origin.get_or_insert(watts);
        for (band, (from, _)) in self.bands.iter_mut().zip(BANDS) {
            let mut y = band.high_pass.pass(x);
            if let Some(low_pass) = &mut band.low_pass {
                y = low_pass.pass(y);
            }
            band.square += (y * y - band.square) * (BIN * from / 4.0);
        }
    }

    /// Sources joined: they are taken to have drawn this all along.
    pub fn joined(&mut self, watts: f64) {
        self.origin = self.origin.map(|origin| origin + watts);
    }

    pub fn powers(&self) -> impl Iterator<Item = BandPower> + '_ {
        self.bands.iter().zip(BANDS).map(|(band, (from_hz, to_hz))| {
            let rms_watts = band.square.max(0.0).sqrt();
            BandPower { from_hz, to_hz, rms_watts, peak_to_peak_watts: 2.0 * SQRT_2 * rms_watts }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_in_its_band_and_in_no_other() {
        let mut bands = Bands::default();
        for bin in 0..6000 {
            bands.push(1e6 + 500.0 * (2.0 * PI * 0.3 * f64::from(bin) * BIN).sin());
        }
        let powers: Vec<BandPower> = bands.powers().collect();
        assert!((powers[1].peak_to_peak_watts / 1000.0 - 1.0).abs() < 0.05, "{powers:?}");
        assert!(
            powers[0].rms_watts < 0.15 * powers[1].rms_watts && powers[2].rms_watts < 0.25 * powers[1].rms_watts,
            "{powers:?}"
        );
    }
}
