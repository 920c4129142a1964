//! The plots of a report, each an SVG of its own: no file, font or script from elsewhere.

mod demand;
mod detail;
mod distribution;
mod power;
mod spectrum;

pub(super) use demand::demand;
pub(super) use detail::detail;
pub(super) use distribution::distribution;
pub(super) use power::{completeness, power, shows_contract};
pub(super) use spectrum::spectrum;

use plotters::prelude::*;
use std::ops::Range;

const WIDTH: u32 = 1120;
const SUM: RGBColor = RGBColor(31, 95, 168);
const LIMIT: RGBColor = RGBColor(179, 38, 30);
const INCIDENT: RGBColor = RGBColor(240, 160, 30);
const FLOOR: RGBColor = RGBColor(120, 120, 120);
const GRID: RGBColor = RGBColor(230, 230, 230);
const INK: RGBColor = RGBColor(60, 60, 60);

/// What stops a drawing; in memory nothing but a range that cannot be drawn does.
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// An SVG that `draw` draws. Empty: it could not.
fn svg(height: u32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        draw(&area).and_then(|()| Ok(area.present()?))
    };
    if drawn.is_ok() { text } else { String::new() }
}

fn small() -> TextStyle<'static> {
    ("sans-serif", 13).into_font().color(&INK)
}

/// From its least to its most, with some room; from zero where that is not far.
fn room(low: f64, high: f64) -> Range<f64> {
    let span = (high - low).max(0.02 * high.abs()).max(1.0);
    let start = if low < 0.5 * high { 0.0 } else { low - 0.12 * span };
    start..high + 0.12 * span
}
