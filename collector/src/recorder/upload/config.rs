//! `[recorder.upload]` of the collector's configuration.

use axum::http::Uri;
use object_store::path::Path as Key;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An S3-compatible object store that closed files are copied to. No secret stands here, nor in an address: they are in the environment
/// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, …), in a file, or the machine's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UploadConfig {
    /// `s3://BUCKET[/PREFIX]`. None: nothing is copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of a store that is not Amazon's: `https://host:port`. None: as the environment has it, or Amazon's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// None: as the environment has it, or us-east-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// PEM file of the authorities that the store's certificate is judged by. None: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Has `aws_access_key_id = …` and `aws_secret_access_key = …`, as Amazon's own tools do; read for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
}

impl UploadConfig {
    /// None of them repeats an address: somebody may have put a password into it.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.url.is_some() && self.place().is_none() {
            faults.push("recorder.upload.url: is not s3://BUCKET[/PREFIX]".into());
        }
        if self.url.is_none() && *self != Self::default() {
            faults.push("recorder.upload.url: is missing, s3://BUCKET[/PREFIX] is wanted".into());
        }
        if let Some(fault) = self.endpoint.as_deref().and_then(endpoint_fault) {
            faults.push(format!("recorder.upload.endpoint: {fault}"));
        }
        if self.ca_file.is_some() && self.endpoint.as_ref().is_some_and(|endpoint| !endpoint.starts_with("https://")) {
            faults.push("recorder.upload.ca_file: the endpoint is not https".into());
        }
        faults
    }

    /// Bucket and prefix.
    pub(super) fn place(&self) -> Option<(&str, &str)> {
        let place = self.url.as_deref()?.strip_prefix("s3://")?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_bucket =
            !bucket.is_empty() && bucket.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
        (is_bucket && Key::parse(prefix).is_ok()).then_some((bucket, prefix))
    }

    /// What was copied elsewhere is not there.
    pub(super) fn destination(&self) -> String {
        let (bucket, prefix) = self.place().unwrap_or_default();
        format!("s3://{bucket}/{prefix} at {}", self.endpoint.as_deref().unwrap_or("the default endpoint"))
    }
}

fn endpoint_fault(endpoint: &str) -> Option<&'static str> {
    let Ok(parsed) = endpoint.parse::<Uri>() else { return Some("is no address") };
    let Some(authority) = parsed.authority() else { return Some("names no host: https://host:port is wanted") };
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Some("is neither http nor https");
    }
    authority.as_str().contains('@').then_some("comes with a password: put that into credentials_file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let place = |url: &str| {
            let config = UploadConfig { url: Some(url.into()), ..UploadConfig::default() };
            config.place().map(|(bucket, prefix)| format!("{bucket} {prefix}"))
        };
        assert_eq!(place("s3://gridstep").as_deref(), Some("gridstep "));
        assert_eq!(place("s3://gridstep/").as_deref(), Some("gridstep "));
        assert_eq!(place("s3://gridstep/fra1/a/").as_deref(), Some("gridstep fra1/a"));
        for url in [
            "gridstep",
            "s3://",
            "s3:///a",
            "gs://gridstep",
            "s3://me:secret@gridstep",
            "s3://gridstep/a//b",
            "s3://gridstep/../b",
        ] {
            assert_eq!(place(url), None, "{url}");
        }
    }

    #[test]
    fn faults_are_named_and_secrets_are_not() {
        let text = "endpoint = 'http://me:secret@host'\nca_file = '/ca.pem'";
        let config: UploadConfig = toml::from_str(text).unwrap();
        let faults = config.faults();
        for key in ["recorder.upload.url:", "recorder.upload.endpoint:", "recorder.upload.ca_file:"] {
            assert!(faults.iter().any(|fault| fault.starts_with(key)), "{key} in {faults:#?}");
        }
        assert_eq!(faults.len(), 3, "{faults:#?}");
        assert!(!faults.concat().contains("secret"), "{faults:#?}");
        assert!(toml::from_str::<UploadConfig>("secret_access_key = 'x'").is_err());
    }

    #[test]
    fn another_place_is_another_destination() {
        let destination = |url: &str, endpoint: Option<&str>| {
            UploadConfig { url: Some(url.into()), endpoint: endpoint.map(str::to_owned), ..UploadConfig::default() }.destination()
        };
        assert_eq!(destination("s3://a/b", None), destination("s3://a/b/", None));
        assert_ne!(destination("s3://a/b", None), destination("s3://a/b", Some("https://host")));
        assert_ne!(destination("s3://a/b", None), destination("s3://a/c", None));
    }
}
