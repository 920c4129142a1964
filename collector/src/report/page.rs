//! The page: pure rendering of a [`Report`].

use super::clock::{duration, time};
use super::quantity::{change, digits, escape, hertz, percent, unit, watts};
use super::{Change, Changes, Report, incident, plots, quality};
use crate::incidents::{Incident, Kind};
use crate::power::Basis;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// Whose watts these are.
pub(super) fn meaning(basis: Basis) -> &'static str {
    match basis {
        Basis::Gpu => "GPU boards",
        Basis::Node => "whole nodes",
        Basis::Meter => "site meters",
    }
}

/// One page that stands alone: HTML with its style and its plots in it.
pub fn page(report: &Report) -> String {
    let sections = [
        header(report),
        power(report),
        ramps(report),
        spectrum(report),
        demand(report),
        incident::section(report),
        quality::section(report),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Power swings, {from} to {to} UTC</title>\n<style>\n{STYLE}</style></head><body>\n{body}\
         <footer>Written by gridstep-collector {version}. All times are UTC.</footer>\n</body></html>\n",
        from = time(report.from),
        to = time(report.to),
        body = sections.concat(),
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// A plot with what it shows.
pub(super) fn figure(svg: &str, caption: &str) -> String {
    if svg.is_empty() {
        return String::new();
    }
    format!("<figure>{svg}<figcaption>{caption}</figcaption></figure>\n")
}

pub(super) fn row(name: &str, value: &str) -> String {
    format!("<tr><th>{name}</th><td>{value}</td></tr>\n")
}

pub(super) fn swings(report: &Report) -> impl Iterator<Item = &Incident> {
    report.incidents.iter().filter(|incident| incident.kind == Kind::PowerSwing)
}

fn header(report: &Report) -> String {
    let over = if swings(report).next().is_some() { " over" } else { "" };
    let mut html = String::from("<h1>Power swings of a GPU cluster</h1>\n");
    let seconds = report.to.since(report.from);
    let _ = writeln!(
        html,
        "<p class=\"period\">{} to {} UTC ({}), from {}</p>",
        time(report.from),
        time(report.to),
        duration(seconds),
        escape(&report.source)
    );
    let _ = writeln!(html, "<div class=\"summary{over}\">{}</div>", summary(report).concat());
    let _ = writeln!(html, "<div class=\"facts\"><table>{}</table><table>{}</table></div>", fleet(report), limits(report));
    html
}

/// The report in a few sentences, the most important first.
fn summary(report: &Report) -> Vec<String> {
    let Some(whole) = report.trace.whole() else {
        return vec!["<p><b>Nothing is known of the power in this time.</b></p>".into()];
    };
    let count = |cause: &str| swings(report).filter(|incident| incident.cause.starts_with(cause)).count();
    let (steps, lines, over) = (count("step"), count("oscillation"), count("over_limit"));
    let verdict = match steps + lines + over {
        0 => "No change of power was beyond a limit.".to_owned(),
        _ => format!(
            "Beyond a limit: {}, {}, {}.",
            plural(steps, "change of level", "changes of level"),
            plural(lines, "sustained oscillation", "sustained oscillations"),
            plural(over, "period of demand", "periods of demand")
        ),
    };
    let mut lines = vec![format!("<p><b>{verdict}</b></p>")];
    lines.push(format!(
        "<p>The {} drew {} on average, between {} and {}; data {} complete.</p>",
        meaning(report.facts.basis),
        watts(whole.mean_watts),
        watts(whole.min_watts),
        watts(whole.max_watts),
        percent(whole.completeness)
    ));
    lines.extend(worst_sentence(report));
    let longest = swings(report).filter(|incident| incident.cause == "oscillation");
    lines.extend(longest.map(|incident| format!("<p>{}.</p>", capital(&escape(&incident.summary)))));
    if let Some(most) = report.demand.iter().max_by(|a, b| a.watts.total_cmp(&b.watts)) {
        let limit = report.facts.limits.demand_15min_watts;
        lines.push(format!(
            "<p>Highest demand of 15 minutes: {}, {} of {}.</p>",
            watts(most.watts),
            percent(most.watts / limit.max(1.0)),
            watts(limit)
        ));
    }
    lines
}

fn worst_sentence(report: &Report) -> Option<String> {
    let largest = |changes: &Changes| {
        let both = [changes.worst(0), changes.worst(1)].concat();
        both.into_iter().max_by(|a, b| a.watts.abs().total_cmp(&b.watts.abs()))
    };
    let parts: Vec<String> = report
        .changes
        .iter()
        .filter_map(|changes| Some(format!("{} within {:.0} s", change(largest(changes)?.watts), changes.window_seconds)))
        .collect();
    (!parts.is_empty()).then(|| format!("<p>Largest changes: {}.</p>", parts.join(", ")))
}

fn plural(count: usize, one: &str, many: &str) -> String {
    match count {
        0 => format!("no {one}"),
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn fleet(report: &Report) -> String {
    let size = &report.facts.size;
    let counts =
        [(size.gpus, "GPU"), (size.nodes, "node"), (size.racks, "rack"), (size.feeders, "feeder"), (size.meters, "meter")];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, name)| plural(*count, name, &format!("{name}s"))).collect();
    let jobs: Vec<String> = size.jobs.iter().take(8).map(|job| escape(job)).collect();
    let more = size.jobs.len().saturating_sub(8);
    let jobs = format!("{}{}", jobs.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() });
    let mut html = row("Fleet", &counts.join(", "));
    if !size.jobs.is_empty() {
        html += &row("Jobs", &jobs);
    }
    html += &row("Power is that of", meaning(report.facts.basis));
    for sum in &report.sums {
        let text = format!("{} mean, {} highest", watts(sum.mean_watts), watts(sum.max_watts));
        html += &row(&capital(meaning(sum.basis)), &text);
    }
    html
}

fn limits(report: &Report) -> String {
    let limits = &report.facts.limits;
    let from = if limits.from_nameplate { " (nameplate: no contract is configured)" } else { "" };
    let mut html = row("Contracted power", &format!("{}{from}", watts(limits.contracted_watts)));
    for (seconds, most) in limits.steps {
        html += &row(&format!("Largest change within {seconds:.0} s"), &watts(most));
    }
    html += &row("Largest oscillation, peak to peak", &watts(limits.oscillation_watts));
    for band in &report.facts.bands {
        html += &row(&format!("… between {} and {}", hertz(band.from_hz), hertz(band.to_hz)), &watts(band.watts));
    }
    html += &row("Demand, mean of 15 min", &watts(limits.demand_15min_watts));
    for (feeder, limits) in &report.facts.feeder_limits {
        let text = format!("{}, oscillation {}", watts(limits.contracted_watts), watts(limits.oscillation_watts));
        html += &row(&format!("Feeder {}", escape(feeder)), &text);
    }
    html
}

fn power(report: &Report) -> String {
    let contract = match plots::shows_contract(report) {
        true => "<span class=\"key line\" style=\"background:#b3261e\"></span>contracted power".to_owned(),
        false => format!("The contracted power, {}, is beyond the plot.", watts(report.facts.limits.contracted_watts)),
    };
    let caption = format!(
        "<span class=\"key line\" style=\"background:#1f5fa8\"></span>mean of each {width}\
         <span class=\"key\" style=\"background:#bcd0e6\"></span>lowest to highest 100 ms within it\
         <span class=\"key\" style=\"background:#fbe4be\"></span>incident, by its number {contract}",
        width = if report.trace.width == 1 { "second".to_owned() } else { duration(report.trace.width as f64) },
    );
    let below = "Share of the expected sources that the sum rests on, the least of each stretch; what is missing is \
                 estimated from its job. <span class=\"key\" style=\"background:#f6c678\"></span>below 99 %";
    format!(
        "<h2>Power over time</h2>\n{}{}",
        figure(&plots::power(report), &caption),
        figure(&plots::completeness(report), below)
    )
}

fn ramps(report: &Report) -> String {
    let caption = "How often the power had changed by so much at the end of a second (logarithmic). \
                   <span class=\"key line\" style=\"background:#b3261e\"></span>limit, where it is near";
    format!(
        "<h2>Ramps</h2>\n{}<h3>Worst ramps</h3>\n{}{}",
        percentiles(report),
        worst(report),
        figure(&plots::distribution(report), caption)
    )
}

fn percentiles(report: &Report) -> String {
    let mut html = String::from(
        "<table><tr><th>Change of power</th><th class=\"n\">half of the time below</th><th class=\"n\">95 %</th>\
         <th class=\"n\">99 %</th><th class=\"n\">largest rise</th><th class=\"n\">largest fall</th><th class=\"n\">limit</th></tr>\n",
    );
    for changes in &report.changes {
        let limit = report.facts.limits.steps.iter().find(|(seconds, _)| *seconds == changes.window_seconds);
        let worst = |direction: usize| changes.worst(direction).first().map_or("–".into(), |worst| change(worst.watts));
        let cells = [
            watts(changes.histogram.magnitude(0.5)),
            watts(changes.histogram.magnitude(0.95)),
            watts(changes.histogram.magnitude(0.99)),
            worst(0),
            worst(1),
            limit.map_or("–".into(), |limit| watts(limit.1)),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect();
        let _ = writeln!(html, "<tr><td>within {:.0} s</td>{cells}</tr>", changes.window_seconds);
    }
    html + "</table>\n"
}

fn worst(report: &Report) -> String {
    let most = report.changes.iter().map(|changes| changes.histogram.magnitude(1.0)).fold(0.0, f64::max);
    let (name, scale) = unit(most);
    let mut html = format!(
        "<table><tr><th>Ended at (UTC)</th><th>within</th><th class=\"n\">change, {name}</th><th class=\"n\">{name}/s</th>\
         <th class=\"n\">of the limit</th><th>whose</th></tr>\n"
    );
    for changes in &report.changes {
        let limit = report.facts.limits.steps.iter().find(|(seconds, _)| *seconds == changes.window_seconds);
        let mut all = [changes.worst(0), changes.worst(1)].concat();
        all.retain(|worst| worst.watts != 0.0);
        all.sort_by(|a, b| b.watts.abs().total_cmp(&a.watts.abs()));
        for worst in all.into_iter().take(5) {
            let _ = writeln!(
                html,
                "<tr><td>{}</td><td>{:.0} s</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
                time(worst.at),
                changes.window_seconds,
                digits(worst.watts / scale),
                digits(worst.watts / changes.window_seconds / scale),
                limit.map_or("–".into(), |limit| percent(worst.watts.abs() / limit.1)),
                whose(report, &worst, changes.window_seconds)
            );
        }
    }
    html + "</table>\n"
}

/// By the incident that it is part of.
fn whose(report: &Report, worst: &Change, window: f64) -> String {
    let began = worst.at - ((window + 2.0) * 1e6) as i64;
    let is_part = |incident: &&(usize, &Incident)| {
        let ends = incident.1.closed_at.unwrap_or(report.to);
        incident.1.started_at <= worst.at && ends >= began
    };
    let numbered: Vec<(usize, &Incident)> = (1..).zip(swings(report)).collect();
    // The one that began last before it tells most.
    let Some((number, incident)) = numbered.iter().filter(is_part).max_by_key(|(_, incident)| incident.started_at) else {
        let lost = worst.completeness < 0.99;
        return if lost { format!("{} of the sources known", percent(worst.completeness)) } else { "no incident".into() };
    };
    let who = incident::largest(incident).map_or(String::new(), |who| format!(": {who}"));
    format!("<a href=\"#incident-{number}\">#{number}</a>{who}")
}

fn spectrum(report: &Report) -> String {
    let Some(spectra) = &report.spectra else {
        return "<h2>Spectrum</h2>\n<p>No stretch of 102 s without a hole was there to take a spectrum of.</p>\n".into();
    };
    let facts = &report.facts;
    let said = match spectra.strongest(facts.claim_limit_hz, facts.threshold_ratio) {
        Some((hz, most, times)) => format!(
            "The strongest line is at {} (to {} Hz): {} peak to peak, {} times what independent sources would show.",
            hertz(hz),
            digits(spectra.step_hz),
            watts(most),
            digits(times)
        ),
        None => "No line stands out from what independent sources would show.".into(),
    };
    let caption = format!(
        "Peak to peak by frequency, mean of {} stretches of {:.0} s. \
         <span class=\"key line\" style=\"background:#1f5fa8\"></span>the sum\
         <span class=\"key line\" style=\"background:#b4c9e2\"></span>highest of any stretch\
         <span class=\"key line\" style=\"background:#787878\"></span>noise floor: the same sources added with random signs, as \
         independent ones would be; dashed: {:.1} times that, what a line must exceed in a stretch to be told from chance (1 in 10¹⁰ a look)\
         <span class=\"key line\" style=\"background:#b3261e\"></span>limit of a sustained oscillation. \
         Grey: nothing is claimed above {}.",
        spectra.stretches,
        1.0 / spectra.step_hz.max(1e-9),
        facts.threshold_ratio,
        hertz(facts.claim_limit_hz)
    );
    format!("<h2>Spectrum</h2>\n<p>{said}</p>\n{}", figure(&plots::spectrum(report), &caption))
}

fn demand(report: &Report) -> String {
    if report.demand.is_empty() {
        return "<h2>Demand</h2>\n<p>No quarter of an hour of the clock has ended in this time.</p>\n".into();
    }
    let caption = "Means of quarters of an hour on the clock (UTC); pale: of what is known of it, less than 99 %. \
                   <span class=\"key line\" style=\"background:#b3261e\"></span>limit, where it is near";
    let mut html = format!("<h2>Demand over 15 minutes</h2>\n{}", figure(&plots::demand(report), caption));
    if report.demand.len() <= 12 {
        html += "<table><tr><th>Quarter from</th><th class=\"n\">mean</th><th class=\"n\">of the limit</th>\
                 <th class=\"n\">known of it</th></tr>\n";
        for quarter in &report.demand {
            let of_limit = quarter.watts / report.facts.limits.demand_15min_watts.max(1.0);
            let _ = writeln!(
                html,
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                time(quarter.start),
                watts(quarter.watts),
                percent(of_limit),
                percent(quarter.completeness)
            );
        }
        html += "</table>\n";
    }
    html
}

#[cfg(test)]
mod tests;
