//! Power over time, and below it how complete that is.

use super::{Area, Drawn, FLOOR, GRID, INCIDENT, INK, LIMIT, SUM, room, small, svg};
use crate::incidents::{Incident, Kind};
use crate::report::clock::Clock;
use crate::report::quantity::{digits, unit};
use crate::report::trace::Bucket;
use crate::report::{Report, quantity};
use plotters::prelude::*;

const LABELS: u32 = 70;

fn span(report: &Report) -> Clock {
    let end = report.to.seconds().max(report.from.seconds() + 1.0);
    Clock(report.from.seconds()..end)
}

/// Middle of a stretch, seconds.
fn middle(report: &Report, bucket: &Bucket) -> f64 {
    bucket.start.seconds() + report.trace.width as f64 / 2.0
}

/// Where the contract is too far away to be shown with the power, it is not.
pub(in crate::report) fn shows_contract(report: &Report) -> bool {
    report.trace.whole().is_some_and(|whole| report.facts.limits.contracted_watts <= 1.35 * whole.max_watts)
}

pub(in crate::report) fn power(report: &Report) -> String {
    svg(360, |area| draw(report, area))
}

fn draw(report: &Report, area: &Area<'_>) -> Drawn {
    let whole = report.trace.whole().ok_or("nothing is known")?;
    let contract = report.facts.limits.contracted_watts;
    let high = if shows_contract(report) { whole.max_watts.max(contract) } else { whole.max_watts };
    let watts = room(whole.min_watts, high);
    let (name, scale) = unit(high);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_top(18)
        .margin_right(24)
        .x_label_area_size(28)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(span(report), watts.clone())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(small())
        .y_labels(7)
        .y_label_formatter(&|watts| format!("{} {name}", digits(watts / scale)))
        .draw()?;
    let (mut labelled, mut beside) = (None, 0);
    for (number, incident) in swings(report) {
        let (start, end) = extent(report, incident);
        // What lasts is paler, and has a bar along the top.
        let lasts = end - start > 0.02 * (report.to.since(report.from));
        let corners = [(start, watts.start), (end, watts.end)];
        chart.draw_series([Rectangle::new(corners, INCIDENT.mix(if lasts { 0.12 } else { 0.45 }).filled())])?;
        let bar = [(start, watts.end - 0.012 * (watts.end - watts.start)), (end, watts.end)];
        chart.draw_series([Rectangle::new(bar, INCIDENT.filled())])?;
        // Numbers that would lie on each other go beside each other.
        let from_last = start - labelled.replace(start).unwrap_or(f64::NEG_INFINITY);
        beside = if from_last < 0.03 * report.to.since(report.from) { beside + 24 } else { 0 };
        let style = small().color(&LIMIT);
        chart.draw_series([EmptyElement::at((start, watts.end)) + Text::new(format!("#{number}"), (beside, -14), style)])?;
    }
    for run in report.trace.runs() {
        let edge = |of: fn(&Bucket) -> f64| run.iter().map(move |bucket| (middle(report, bucket), of(bucket)));
        let high = edge(|bucket| bucket.max_watts);
        let low = edge(|bucket| bucket.min_watts).collect::<Vec<_>>();
        let around: Vec<_> = high.chain(low.into_iter().rev()).collect();
        chart.draw_series([Polygon::new(around, SUM.mix(0.3).filled())])?;
        chart.draw_series(LineSeries::new(edge(|bucket| bucket.mean_watts), SUM.stroke_width(1)))?;
    }
    if shows_contract(report) {
        let ends = [(report.from.seconds(), contract), (span(report).0.end, contract)];
        chart.draw_series(LineSeries::new(ends, LIMIT.stroke_width(2)))?;
        let text = format!("contract {}", quantity::watts(contract));
        let style = small().color(&LIMIT);
        chart.draw_series([EmptyElement::at(ends[0]) + Text::new(text, (6, -16), style)])?;
    }
    Ok(())
}

/// Swings of power, by their number in the report.
fn swings(report: &Report) -> impl Iterator<Item = (usize, &Incident)> {
    (1..).zip(report.incidents.iter().filter(|incident| incident.kind == Kind::PowerSwing))
}

/// From onset to end within the time of the report; a step as wide as can be seen.
fn extent(report: &Report, incident: &Incident) -> (f64, f64) {
    let all = span(report).0;
    let start = incident.started_at.seconds();
    let is_step = incident.cause.starts_with("step") && !incident.magnitude.contains_key("recurrences");
    let end = match incident.closed_at {
        _ if is_step => start,
        Some(closed) => closed.seconds(),
        None => all.end,
    };
    let least = (all.end - all.start) / 250.0;
    (start.max(all.start), end.max(start + least).min(all.end))
}

pub(in crate::report) fn completeness(report: &Report) -> String {
    svg(110, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(28)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(span(report), 0.0..1.05)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(small())
            .y_labels(3)
            .y_label_formatter(&|share| format!("{:.0} %", 100.0 * share))
            .draw()?;
        let half = report.trace.width as f64 / 2.0;
        // Runs of the same share are one bar.
        let same = |a: &Bucket, b: &Bucket| {
            a.least_completeness == b.least_completeness && b.start.0 - a.start.0 == report.trace.width * 1_000_000
        };
        for run in report.trace.buckets.chunk_by(same) {
            let (start, last) = (middle(report, &run[0]) - half, middle(report, &run[run.len() - 1]) + half);
            let colour = if run[0].least_completeness >= 0.99 { SUM } else { INCIDENT };
            chart.draw_series([Rectangle::new([(start, 0.0), (last, run[0].least_completeness)], colour.mix(0.6).filled())])?;
        }
        let whole = [(span(report).0.start, 1.0), (span(report).0.end, 1.0)];
        chart.draw_series(LineSeries::new(whole, FLOOR.stroke_width(1)))?;
        Ok(())
    })
}
