//! `[uplink]`: where the collectors are, and how they are trusted.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};

/// `[uplink]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The collector's gRPC address: http://host:19812 or https://….
    pub endpoint: String,
    /// PEM: who may have signed the collector's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM: this agent's own certificate and key, for mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Allows an unencrypted stream beyond loopback.
    pub insecure: bool,
    /// What a second collector is for.
    pub mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<Collector>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It takes the stream while the first does not answer.
    Standby,
    /// Each gets everything.
    Both,
}

/// `[uplink.second]`: as the keys of `[uplink]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Collector {
    pub endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    pub insecure: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:19812".into(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            insecure: false,
            mode: Mode::Standby,
            second: None,
        }
    }
}

/// To connect, and between two signs of life.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

impl Config {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.first().faults("uplink");
        if self.mode == Mode::Both && self.second.is_none() {
            faults.push("uplink.mode = \"both\": needs a second collector, [uplink.second]".into());
        }
        if let Some(second) = &self.second {
            faults.extend(second.faults("uplink.second"));
            if second.endpoint == self.endpoint {
                faults.push("uplink.second.endpoint: is uplink.endpoint; a second collector has an address of its own".into());
            }
        }
        faults
    }

    /// How many of them have batches kept for them.
    pub(crate) fn queues(&self) -> usize {
        if self.second.is_some() && self.mode == Mode::Both { 2 } else { 1 }
    }

    pub(super) fn first(&self) -> Collector {
        let Self { endpoint, ca_file, cert_file, key_file, insecure, .. } = self.clone();
        Collector { endpoint, ca_file, cert_file, key_file, insecure }
    }
}

impl Collector {
    fn faults(&self, section: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let uri = self.endpoint.parse::<Uri>().ok();
        match uri.as_ref().map(|uri| (uri.scheme_str(), uri.host())) {
            Some((Some("https"), Some(_))) => {}
            Some((Some("http"), Some(host))) => {
                let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
                let local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
                if !local && !self.insecure {
                    faults.push(format!(
                        "{section}.endpoint = \"{}\": beyond loopback use https://, or write insecure = true beside it",
                        self.endpoint
                    ));
                }
            }
            _ => {
                faults.push(format!("{section}.endpoint = \"{}\": must be http://HOST:PORT or https://HOST:PORT", self.endpoint))
            }
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            faults.push(format!("{section}.cert_file and {section}.key_file: one without the other; mutual TLS needs both"));
        }
        let encrypted = self.endpoint.starts_with("https:");
        if encrypted && self.ca_file.is_none() {
            faults.push(format!("{section}.ca_file: missing; https:// needs the PEM of who signed the collector's certificate"));
        }
        if !encrypted && (self.ca_file.is_some() || self.cert_file.is_some()) {
            faults.push(format!("{section}.ca_file, {section}.cert_file: without effect, as {section}.endpoint is not https://"));
        }
        faults
    }

    pub(super) fn channel(&self) -> anyhow::Result<Endpoint> {
        let endpoint = Channel::from_shared(self.endpoint.clone())?.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
        match self.endpoint.starts_with("https") {
            true => Ok(endpoint.tls_config(self.tls()?)?),
            false => Ok(endpoint),
        }
    }

    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        let mut tls = ClientTlsConfig::new();
        if let Some(path) = &self.ca_file {
            tls = tls.ca_certificate(Certificate::from_pem(read(path)?));
        }
        if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(tls)
    }
}
