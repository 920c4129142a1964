//! `[alerts]` of the collector's configuration.

use super::Labels;
use crate::incidents::Severity;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// `[alerts]`: whom to tell, of what, how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Less severe incidents are not sent.
    pub minimum: Severity,
    /// What goes on is said again this often.
    #[serde(with = "humantime_serde")]
    pub resend_interval: Duration,
    /// What has not been said again for so long is over; what is over is said for so long.
    #[serde(with = "humantime_serde")]
    pub expire_after: Duration,
    /// Where this collector's page is found; alerts link to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_url: Option<String>,
    /// Where docs/runbooks is found; alerts link into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook_url: Option<String>,
    /// Further labels of every alert. Collectors side by side must have the same.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// `[[alerts.alertmanager]]`: every instance is told, as Alertmanager's own manual wants it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alertmanager: Vec<AlertmanagerConfig>,
}

/// `[[alerts.alertmanager]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertmanagerConfig {
    /// Without `/api/v2/alerts`.
    pub url: String,
    /// PEM file of the authorities that its certificate is judged by. None: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Holds the value of the `Authorization` header, read for each request: `Bearer …` or `Basic …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_file: Option<PathBuf>,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            minimum: Severity::Warning,
            resend_interval: Duration::from_secs(30),
            // Alertmanager's own resolve_timeout.
            expire_after: Duration::from_secs(300),
            external_url: None,
            runbook_url: None,
            labels: Labels::new(),
            alertmanager: Vec::new(),
        }
    }
}

/// More often, and the messages overtake each other.
const SHORTEST_RESEND: Duration = Duration::from_millis(100);
/// So many messages may be lost in a row before an alert seems to be over.
const MISSED: u32 = 3;

/// Every fault: its key and what would be right.
pub(crate) fn faults(config: &AlertsConfig) -> Vec<String> {
    let mut faults = Vec::new();
    if config.resend_interval < SHORTEST_RESEND {
        faults.push("alerts.resend_interval: is shorter than 100ms".into());
    }
    if config.expire_after < config.resend_interval * MISSED {
        faults.push(format!("alerts.expire_after: must be at least {MISSED} times resend_interval"));
    }
    for (key, url) in [("external_url", &config.external_url), ("runbook_url", &config.runbook_url)] {
        if let Some(fault) = url.as_deref().and_then(url_fault) {
            faults.push(format!("alerts.{key}: {fault}"));
        }
    }
    for name in config.labels.keys() {
        let letter = |first: bool, c: char| c.is_ascii_alphabetic() || c == '_' || !first && c.is_ascii_digit();
        if name.is_empty() || !name.chars().enumerate().all(|(at, c)| letter(at == 0, c)) {
            faults.push(format!("alerts.labels.{name}: is no label; letters, digits and _ make one"));
        } else if super::announce::OWN_LABELS.contains(&name.as_str()) {
            faults.push(format!("alerts.labels.{name}: is a label that names the condition; take another"));
        }
    }
    for one in &config.alertmanager {
        if let Some(fault) = url_fault(&one.url) {
            faults.push(format!("alerts.alertmanager.url: {fault}"));
        }
        if one.ca_file.is_some() && !one.url.starts_with("https://") {
            faults.push(format!("alerts.alertmanager.ca_file: {} is not https", one.url));
        }
    }
    faults
}

fn url_fault(url: &str) -> Option<String> {
    let Ok(parsed) = url.parse::<Uri>() else { return Some(format!("{url:?} is no address")) };
    let Some(authority) = parsed.authority() else { return Some(format!("{url:?} names no host: http://host:port is wanted")) };
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Some(format!("{url:?} is neither http nor https"));
    }
    // It is shown in logs and metrics.
    authority
        .as_str()
        .contains('@')
        .then(|| format!("{:?} comes with a password: put that into authorization_file", authority.host()))
}
