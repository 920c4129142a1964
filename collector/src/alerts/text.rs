//! What an alert says, as annotations: all that may change with a revision.

use super::AlertsConfig;
use crate::incidents::{Contributor, Evidence, Incident};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn annotations(incident: &Incident, alertname: &str, config: &AlertsConfig) -> BTreeMap<&'static str, String> {
    let all = [
        ("summary", incident.summary.clone()),
        ("cause", incident.cause.clone()),
        ("incident", incident.id.clone()),
        ("incident_severity", word(incident.severity)),
        ("confirmed", incident.confirmed.to_string()),
        ("data_completeness", format!("{:.1} %", 100.0 * incident.completeness)),
        ("figures", lines(incident.magnitude.iter().map(|(name, value)| format!("{name} {}", plain(value))))),
        ("evidence", lines(incident.evidence.iter().map(evidence))),
        ("ruled_out", incident.ruled_out.join(", ")),
        ("contributors", lines(incident.contributors.iter().map(contributor))),
        ("runbook_url", config.runbook_url.as_deref().map_or_else(String::new, |base| runbook(base, alertname, &incident.cause))),
        ("page_url", config.external_url.clone().unwrap_or_default()),
    ];
    all.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

/// A file for each alert, in it a heading for each cause.
fn runbook(base: &str, alertname: &str, cause: &str) -> String {
    format!("{}/{alertname}.md#{cause}", base.trim_end_matches('/'))
}

fn lines(all: impl Iterator<Item = String>) -> String {
    all.collect::<Vec<_>>().join("\n")
}

/// "sm_clock_mhz 1515, peers 1845, 31.0 deviations off"
fn evidence(one: &Evidence) -> String {
    let peers = one.peers.map(|peers| format!(", peers {peers}")).unwrap_or_default();
    let score = one.score.map(|score| format!(", {score:.1} deviations off")).unwrap_or_default();
    format!("{} {}{peers}{score}", one.signal, one.value)
}

/// "job llama3-405b 83 %"
fn contributor(one: &Contributor) -> String {
    let who = one.who.iter().map(|(level, name)| format!("{level} {}", plain(name))).collect::<Vec<_>>().join(", ");
    format!("{who} {:.0} %", 100.0 * one.share)
}

/// Without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A kind or a severity by the name that it has in JSON.
pub(crate) fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
