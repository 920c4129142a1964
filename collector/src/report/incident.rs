//! Incidents with their figures and contributors.

use super::Report;
use super::clock::{duration, time};
use super::page::{figure, swings};
use super::plots;
use super::quantity::{change, digits, escape, percent, watts};
use crate::incidents::{Contributor, Incident, Kind, Severity};
use serde_json::Value;
use std::fmt::Write;

/// Incidents of other kinds that are listed at most.
const OTHERS: usize = 50;
/// Contributors of a level that are named.
const NAMED: usize = 6;

pub(super) fn section(report: &Report) -> String {
    let mut html = String::from("<h2>Incidents</h2>\n");
    if swings(report).next().is_none() {
        html += "<p>No swing of power was beyond a limit.</p>\n";
    }
    for (number, incident) in (1..).zip(swings(report)) {
        html += &one(report, number, incident);
    }
    html + &others(report)
}

fn one(report: &Report, number: usize, incident: &Incident) -> String {
    let (class, severity) = match incident.severity {
        Severity::Critical => (" critical", "critical"),
        Severity::Warning => ("", "warning"),
        Severity::Info => ("", "for the record"),
    };
    let confirmed = if incident.confirmed { "" } else { "<span class=\"tag\">not confirmed: data are missing</span>" };
    let ended = match incident.closed_at {
        Some(closed) => format!("until {} ({})", time(closed), duration(closed.since(incident.started_at))),
        None => format!("not over at {}", time(report.to)),
    };
    let mut html = format!(
        "<div class=\"incident{class}\" id=\"incident-{number}\"><h3>#{number} {}<span class=\"tag{class}\">{severity}</span>{confirmed}</h3>\n\
         <p>{}</p>\n<p class=\"note\">Onset {}, told {} later; {ended}</p>\n<dl>",
        escape(&incident.cause.replace('_', " ")),
        escape(&incident.summary),
        time(incident.started_at),
        duration(incident.opened_at.since(incident.started_at)),
    );
    for (name, value) in &incident.magnitude {
        if let Some((name, text)) = shown(name, value) {
            let _ = write!(html, "<div><dt>{name}</dt><dd>{text}</dd></div>");
        }
    }
    let _ = writeln!(html, "<div><dt>data complete</dt><dd>{}</dd></div></dl>", percent(incident.completeness));
    let caption = "The sum in bins of 100 ms; upright: the onset, and when it was told.";
    html + &figure(&plots::detail(report, incident), caption) + &contributors(incident) + "</div>\n"
}

/// A figure by the unit in its name.
fn shown(name: &str, value: &Value) -> Option<(String, String)> {
    if let Value::Bool(holds) = value {
        return holds.then(|| (escape(&name.replace('_', " ")), "yes".into()));
    }
    // What was to come then is no news of what was.
    let value = value.as_f64().filter(|_| !name.starts_with("next_") && name != "forecast_error_watts")?;
    let plain = |suffix: &str| escape(&name.strip_suffix(suffix).unwrap_or(name).replace('_', " "));
    Some(match name {
        "watts_per_second" => ("steepest".into(), format!("{}/s", change(value))),
        "delta_watts" => ("change of level".into(), change(value)),
        "amplitude_watts" => ("peak to peak".into(), watts(value)),
        "forecast_measured_error_watts" => ("4 s ahead known to".into(), watts(value)),
        "limit_watts" => ("limit".into(), watts(value)),
        "limit_seconds" => ("limit holds within".into(), format!("{value} s")),
        "before_watts" | "after_watts" => (format!("level {}", plain("_watts")), watts(value)),
        "rise_seconds" => ("from 10 to 90 %".into(), format!("{} s", digits(value))),
        "damping_ratio" => ("damping".into(), percent_signed(value)),
        name if name.ends_with("_watts") => (plain("_watts"), watts(value)),
        name if name.ends_with("_hz") => (plain("_hz"), super::quantity::hertz(value)),
        name if name.ends_with("_seconds") => (plain("_seconds"), format!("{} s", digits(value))),
        name if name.ends_with("_ratio") => (plain("_ratio"), percent_signed(value)),
        _ => (plain(""), digits(value)),
    })
}

fn percent_signed(ratio: f64) -> String {
    format!("{} %", digits(100.0 * ratio))
}

fn level(who: &Contributor) -> Option<(&String, String)> {
    let (level, name) = who.who.iter().next()?;
    let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
    Some((level, escape(&name)))
}

/// The largest contributor of the widest level that is named: job, feeder, rack, node.
pub(super) fn largest(incident: &Incident) -> Option<String> {
    let of = |wanted: &str| {
        let mut best: Option<(&Contributor, String)> = None;
        for who in &incident.contributors {
            let Some((level, name)) = level(who).filter(|(level, _)| *level == wanted) else { continue };
            if best.as_ref().is_none_or(|(most, _)| who.share > most.share) {
                best = Some((who, format!("{level} {name} ({})", percent_signed(who.share))));
            }
        }
        best.map(|(_, text)| text)
    };
    ["job", "feeder", "rack", "node"].into_iter().find_map(of)
}

fn contributors(incident: &Incident) -> String {
    let mut html = String::new();
    for wanted in ["job", "feeder", "rack", "node"] {
        let mut own: Vec<(f64, String)> = incident
            .contributors
            .iter()
            .filter_map(|who| Some((who.share, level(who).filter(|(level, _)| *level == wanted)?.1)))
            .collect();
        own.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
        if own.is_empty() {
            continue;
        }
        let rest: f64 = own.iter().skip(NAMED).map(|(share, _)| share).sum();
        let more = own.len().saturating_sub(NAMED);
        let named: Vec<String> =
            own.iter().take(NAMED).map(|(share, name)| format!("{name} {}", percent_signed(*share))).collect();
        let rest = if more > 0 { format!(", {more} more {}", percent_signed(rest)) } else { String::new() };
        let _ = writeln!(html, "<p class=\"note\">By {wanted}: {}{rest}</p>", named.join(", "));
    }
    html
}

/// What is no swing of power, in a line each.
fn others(report: &Report) -> String {
    let others: Vec<&Incident> = report.incidents.iter().filter(|incident| incident.kind != Kind::PowerSwing).collect();
    if others.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<h3>Others in this time</h3>\n<p class=\"note\">No swings of power: for the record, as they may explain one.</p>\n\
         <table><tr><th>From (UTC)</th><th>kind</th><th>what</th></tr>\n",
    );
    for incident in others.iter().take(OTHERS) {
        let kind = match incident.kind {
            Kind::Straggler => "straggler",
            Kind::Job => "job",
            Kind::GpuFault => "GPU fault",
            Kind::Telemetry => "telemetry",
            Kind::PowerSwing => "swing",
        };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{kind}</td><td>{}</td></tr>",
            time(incident.started_at),
            escape(&incident.summary)
        );
    }
    html += "</table>\n";
    if others.len() > OTHERS {
        let _ = writeln!(html, "<p class=\"note\">{} more are not listed.</p>", others.len() - OTHERS);
    }
    html
}
