//! The sum's spectrum, beside what independent sources would show.

use super::{Area, Drawn, FLOOR, GRID, INK, LIMIT, SUM, small, svg};
use crate::report::quantity::{self, digits, unit};
use crate::report::{Report, Spectra};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(in crate::report) fn spectrum(report: &Report) -> String {
    report.spectra.as_ref().map_or_else(String::new, |spectra| svg(360, |area| draw(report, spectra, area)))
}

fn draw(report: &Report, spectra: &Spectra, area: &Area<'_>) -> Drawn {
    let facts = &report.facts;
    let lines: Vec<(f64, f64, f64)> = spectra.lines().collect();
    let highest: Vec<(f64, f64)> = lines.iter().map(|line| line.0).zip(spectra.highest_watts.iter().skip(1).copied()).collect();
    let (first, last) = (lines.first().ok_or("no lines")?.0, lines.last().ok_or("no lines")?.0);
    let limit = facts.limits.oscillation_watts;
    let top = 2.0 * highest.iter().map(|line| line.1).fold(limit, f64::max);
    let floors = lines.iter().filter(|line| line.0 <= facts.claim_limit_hz && line.2 > 0.0).map(|line| line.2.min(line.1));
    let bottom = (0.5 * floors.fold(top, f64::min)).max(1e-5 * top);
    let shown = |watts: f64| watts.clamp(bottom, top);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(28)
        .y_label_area_size(70)
        .build_cartesian_2d((first..last).log_scale(), (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(GRID.mix(0.5))
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(small())
        .x_label_formatter(&|hertz| format!("{hertz} Hz"))
        .y_label_formatter(&|&watts| {
            let (name, scale) = unit(watts);
            format!("{} {name}", digits(watts / scale))
        })
        .draw()?;
    let claim = facts.claim_limit_hz.clamp(first, last);
    chart.draw_series([Rectangle::new([(claim, bottom), (last, top)], FLOOR.mix(0.18).filled())])?;
    let line =
        |watts: fn(&(f64, f64, f64)) -> f64| lines.iter().map(move |line| (line.0, shown(watts(line)))).collect::<Vec<_>>();
    let threshold = lines.iter().map(|line| (line.0, shown(facts.threshold_ratio * line.2)));
    chart.draw_series(LineSeries::new(line(|line| line.2), FLOOR.stroke_width(1)))?;
    chart.draw_series(DashedLineSeries::new(threshold, 4, 4, FLOOR.stroke_width(1)))?;
    chart.draw_series(LineSeries::new(highest.iter().map(|line| (line.0, shown(line.1))), SUM.mix(0.35).stroke_width(1)))?;
    chart.draw_series(LineSeries::new(line(|line| line.1), SUM.stroke_width(2)))?;
    chart.draw_series(LineSeries::new([(first, limit), (last, limit)], LIMIT.stroke_width(2)))?;
    let style = small().color(&LIMIT);
    let text = format!("limit {}", quantity::watts(limit));
    chart.draw_series([EmptyElement::at((first, limit)) + Text::new(text, (6, -16), style)])?;
    if claim < last {
        let text = format!("nothing is claimed above {}", quantity::hertz(claim));
        let is_right = (claim / first).ln() > 0.6 * (last / first).ln();
        let (side, offset) = if is_right { (HPos::Right, -6) } else { (HPos::Left, 6) };
        let style = small().pos(Pos::new(side, VPos::Top));
        chart.draw_series([EmptyElement::at((claim, top)) + Text::new(text, (offset, 6), style)])?;
    }
    Ok(())
}
