//! Demand: the means of quarters of an hour on the clock.

use super::{GRID, INK, LIMIT, SUM, small, svg};
use crate::power::Quarter;
use crate::report::Report;
use crate::report::clock::Clock;
use crate::report::quantity::{digits, unit};
use plotters::prelude::*;

pub(in crate::report) const QUARTER: f64 = 900.0;

pub(in crate::report) fn demand(report: &Report) -> String {
    let (Some(first), Some(last)) = (report.demand.first(), report.demand.last()) else { return String::new() };
    svg(220, |area| {
        let most = report.demand.iter().map(|quarter| quarter.watts).fold(0.0, f64::max);
        let limit = report.facts.limits.demand_15min_watts;
        let near = limit <= 1.6 * most;
        let top = 1.12 * if near { limit.max(most) } else { most };
        let (name, scale) = unit(top);
        let span = Clock(first.start.seconds()..last.start.seconds() + QUARTER);
        let ends = [(span.0.start, limit), (span.0.end, limit)];
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(28)
            .y_label_area_size(70)
            .build_cartesian_2d(span, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(small())
            .y_labels(5)
            .y_label_formatter(&|watts| format!("{} {name}", digits(watts / scale)))
            .draw()?;
        let gap = 0.06 * QUARTER;
        let bar = |quarter: &Quarter| {
            let start = quarter.start.seconds();
            let colour = SUM.mix(if quarter.completeness >= 0.99 { 0.7 } else { 0.3 });
            Rectangle::new([(start + gap, 0.0), (start + QUARTER - gap, quarter.watts)], colour.filled())
        };
        chart.draw_series(report.demand.iter().map(bar))?;
        if near {
            chart.draw_series(LineSeries::new(ends, LIMIT.stroke_width(2)))?;
        }
        Ok(())
    })
}
