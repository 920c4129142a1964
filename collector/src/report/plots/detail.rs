//! The sum around an incident's onset.

use super::{GRID, INCIDENT, INK, SUM, room, small, svg};
use crate::incidents::Incident;
use crate::report::Report;
use crate::report::clock::Clock;
use crate::report::quantity::{digits, unit};
use plotters::prelude::*;

pub(in crate::report) fn detail(report: &Report, incident: &Incident) -> String {
    let points = report.details.of(incident);
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    if last.0.since(first.0) < 5.0 {
        return String::new();
    }
    let watts = points.iter().map(|point| f64::from(point.1));
    let (low, high) = watts.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), watts| (low.min(watts), high.max(watts)));
    svg(190, |area| {
        let (name, scale) = unit(high);
        let watts = room(low, high);
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_right(24)
            .x_label_area_size(26)
            .y_label_area_size(70)
            .build_cartesian_2d(Clock(first.0.seconds()..last.0.seconds()), watts.clone())?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(small())
            .y_labels(5)
            .y_label_formatter(&|watts| format!("{} {name}", digits(watts / scale)))
            .draw()?;
        for (at, wide) in [(incident.started_at, 2), (incident.opened_at, 1)] {
            let ends = [(at.seconds(), watts.start), (at.seconds(), watts.end)];
            chart.draw_series(LineSeries::new(ends, INCIDENT.stroke_width(wide)))?;
        }
        let line = points.iter().map(|point| (point.0.seconds(), f64::from(point.1)));
        chart.draw_series(LineSeries::new(line, SUM.stroke_width(2)))?;
        Ok(())
    })
}
