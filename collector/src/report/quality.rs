//! How complete the data are, what the figures mean, and what is not claimed.

use super::Report;
use super::clock::duration;
use super::page::{meaning, row};
use super::quantity::{digits, escape, hertz, percent, watts};
use crate::power::Basis;
use std::fmt::Write;

pub(super) fn section(report: &Report) -> String {
    let mut html = format!("<h2>Data, and what the figures mean</h2>\n<table>{}</table>\n<ul>\n", table(report));
    for sentence in report.unknown.iter().map(|sentence| escape(sentence)).chain(meanings(report)) {
        let _ = writeln!(html, "<li>{sentence}</li>");
    }
    html + "</ul>\n"
}

fn table(report: &Report) -> String {
    let facts = &report.facts;
    let asked = report.to.since(report.from).max(1.0);
    let mut html = String::new();
    if let Some(whole) = report.trace.whole() {
        let known = f64::from(whole.seconds);
        html += &row(
            "Time that is known",
            &format!("{} of {}, {}", duration(known), duration(asked), percent((known / asked).min(1.0))),
        );
        html += &row("Sources in it, mean", &percent(whole.completeness));
        html += &row("Sources in it, least of any 100 ms", &percent(whole.least_completeness));
    }
    html += &row("Samples too late to be judged", &report.late_samples.to_string());
    let [slowest, typical] = facts.sampling_seconds.map(digits);
    html += &row("Time between samples", &format!("{typical} s typically, {slowest} s of the slowest source"));
    html += &row("Error of the clocks", &format!("{} ms", digits(1e3 * facts.clock_error_seconds)));
    html += &row("Frequencies that are claimed", &format!("up to {}", hertz(facts.claim_limit_hz)));
    if let Some(factor) = facts.coincidence_factor {
        html += &row("Coincidence factor, last minutes", &digits(factor));
    }
    if let Some(estimate) = facts.estimated_nodes_watts {
        html += &row("Whole nodes, estimated from boards", &watts(estimate));
    }
    if let Some(calibration) = facts.meter_calibration {
        let text = format!(
            "{} + {} × nodes, to {}",
            watts(calibration.offset_watts),
            digits(calibration.gain),
            percent(calibration.error_ratio)
        );
        html += &row("Site meters by the nodes", &text);
    }
    html
}

fn meanings(report: &Report) -> Vec<String> {
    let facts = &report.facts;
    let basis = match facts.basis {
        Basis::Gpu => {
            "Power is the sum of what the GPU boards' own sensors tell. It leaves out processors, memory, network, fans, power supplies \
             and cooling: it is not what the site draws from the grid. A board's sensor is good to about 5 %; over many boards \
             that averages out, a common part of it stays unknown until it is compared with a meter."
        }
        Basis::Node => {
            "Power is the sum of whole nodes as their management controllers or power supplies tell it. It leaves out the network \
             outside of nodes, conversion before them, and cooling: it is not what the site draws from the grid."
        }
        Basis::Meter => "Power is the sum of the site's meters that are known, and of nothing beside them.",
    };
    let mut sentences = vec![basis.to_owned()];
    sentences.push("Boards, whole nodes and meters are three figures; one is never given for another.".into());
    sentences.push(format!(
        "Limits are about {}{}.",
        meaning(facts.basis),
        if facts.limits.from_nameplate { ", and come from the fleet's nameplate: no contract is configured" } else { "" }
    ));
    sentences.push(format!(
        "Sampling and clocks carry frequencies up to {}; nothing is claimed above, also where the spectrum shows something. What \
         power electronics do above 10 Hz cannot be seen by these sensors at all. Amplitudes of oscillations are corrected for what sensor \
         and sampling take away where more than half is left, and else named as lower bounds.",
        hertz(facts.claim_limit_hz)
    ));
    if facts.sampling_seconds[0] > 1.0 {
        sentences.push(format!(
            "Sources are sampled every {} s: ramps within a shorter time are lower bounds, as each sample stands for its whole interval.",
            digits(facts.sampling_seconds[0])
        ));
    }
    sentences.push(
        "What a missing source drew is estimated from the others of its job. A node that falls silent is not taken for power lost.".into(),
    );
    sentences.push(
        "Ramps are changes of the sum from its lowest (or highest) 100 ms within the window, single outliers left out; steps in \
         the list of incidents are changes of level, means before and after, so they may differ."
            .into(),
    );
    sentences
}
