//! How often the sum moved how far, within each window.

use super::{Area, Drawn, GRID, INK, LIMIT, SUM, small, svg};
use crate::report::quantity::{digits, unit};
use crate::report::{Changes, Report};
use plotters::prelude::*;

/// Bars on each side of zero.
const BARS: f64 = 30.0;

pub(in crate::report) fn distribution(report: &Report) -> String {
    svg(270, |area| {
        for (panel, changes) in area.split_evenly((1, report.changes.len().max(1))).iter().zip(&report.changes) {
            draw(report, changes, panel)?;
        }
        Ok(())
    })
}

/// (from, to, share of the time), of bars that have a value.
fn bars(changes: &Changes, reach: f64) -> Vec<(f64, f64, f64)> {
    let width = (reach / BARS).max(changes.histogram.width);
    let total = changes.histogram.total().max(1) as f64;
    let mut bars: Vec<(f64, f64, f64)> = Vec::new();
    for (from, to, count) in changes.histogram.bins().filter(|bin| bin.2 > 0) {
        let place = ((from + to) / 2.0 / width).floor();
        match bars.last_mut().filter(|bar| bar.0 == place * width) {
            Some(bar) => bar.2 += count as f64 / total,
            None => bars.push((place * width, (place + 1.0) * width, count as f64 / total)),
        }
    }
    bars
}

fn draw(report: &Report, changes: &Changes, area: &Area<'_>) -> Drawn {
    let most = changes.histogram.magnitude(1.0);
    let limit = report.facts.limits.steps.iter().find(|(seconds, _)| *seconds == changes.window_seconds).map(|limit| limit.1);
    let near = limit.filter(|&limit| limit <= 2.5 * most);
    let reach = 1.1 * near.map_or(most, |limit| limit.max(most));
    let bars = bars(changes, reach);
    let least = bars.iter().map(|bar| bar.2).fold(1.0, f64::min);
    let low = 10f64.powf(least.log10().floor() - 0.5);
    let (name, scale) = unit(reach);
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(14)
        .caption(format!("within {:.0} s", changes.window_seconds), ("sans-serif", 15).into_font().color(&INK))
        .x_label_area_size(26)
        .y_label_area_size(62)
        .build_cartesian_2d(-reach..reach, (low..1.5).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(small())
        .x_labels(5)
        .y_labels(5)
        .x_label_formatter(&|watts| format!("{} {name}", digits(watts / scale)))
        .y_label_formatter(&|share| format!("{} %", plain(100.0 * share)))
        .draw()?;
    let bar = |&(from, to, share): &(f64, f64, f64)| Rectangle::new([(from, low), (to, share)], SUM.mix(0.7).filled());
    chart.draw_series(bars.iter().map(bar))?;
    for limit in near.into_iter().flat_map(|limit| [-limit, limit]) {
        chart.draw_series(LineSeries::new([(limit, low), (limit, 1.5)], LIMIT.stroke_width(2)))?;
    }
    Ok(())
}

/// A power of ten without an exponent.
fn plain(value: f64) -> String {
    let places = (-value.log10().floor()).max(0.0) as usize;
    format!("{value:.places$}")
}
