//! Incidents as a table for a person.

use crate::incidents::{Incident, Severity, State, Subject, rfc3339};
use std::io::{Result, Write};

/// One incident a line, under a header; nothing if there are none.
pub(super) fn table(out: &mut impl Write, incidents: &[Incident]) -> Result<()> {
    let rows: Vec<[String; 6]> = incidents.iter().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let header = ["OPENED", "SEVERITY", "KIND", "CAUSE", "SUBJECT", "SUMMARY"].map(String::from);
    let width = |column: usize| rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in [&header].into_iter().chain(&rows) {
        let mut line = String::new();
        for (text, width) in row.iter().zip(widths) {
            line += &format!("{text:width$}  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn row(incident: &Incident) -> [String; 6] {
    let severity = match incident.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let state = if incident.state == State::Open { " (open)" } else { "" };
    [
        rfc3339(incident.opened_at),
        format!("{severity}{state}"),
        name(&incident.kind),
        printable(&incident.cause),
        subject(&incident.subject),
        printable(&incident.summary),
    ]
}

fn name(kind: &impl serde::Serialize) -> String {
    serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// From the widest to the narrowest.
fn subject(subject: &Subject) -> String {
    let levels = [&subject.cluster, &subject.feeder, &subject.rack, &subject.job, &subject.node];
    let mut parts: Vec<String> = levels.into_iter().flatten().map(|name| printable(name)).collect();
    parts.extend(subject.gpu.map(|gpu| format!("gpu {gpu}")));
    parts.join(" / ")
}

/// Names come from outside: nothing in them may steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
