//! The collector's configuration: one TOML file, one section a module.
//!
//! Every fault of a file is named at once, with its key.

mod faults;

use crate::alerts::{self, AlertsConfig};
use crate::judge::JudgeConfig;
use crate::recorder::RecorderConfig;
use crate::store::StoreConfig;
use faults::Faults;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read configuration {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration {path}: {fault}")]
    Syntax { path: PathBuf, fault: String },
    #[error("configuration {path}:\n{}", .faults.iter().map(|fault| format!("  {fault}")).collect::<Vec<_>>().join("\n"))]
    Faults { path: PathBuf, faults: Vec<String> },
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    pub edge: EdgeConfig,
    /// Every section but those of the edge.
    pub judge: JudgeConfig,
}

/// What the collector has to do with the world around it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeConfig {
    pub grpc: GrpcConfig,
    pub http: HttpConfig,
    /// Where the collector keeps what must survive it.
    pub state_dir: PathBuf,
    /// Time between two checkpoints; agents keep what they have sent until it is in one.
    #[serde(with = "humantime_serde")]
    pub checkpoint_interval: Duration,
    /// The topology file. None: what is seen is all there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology: Option<PathBuf>,
    pub store: StoreConfig,
    pub recorder: RecorderConfig,
    pub alerts: AlertsConfig,
}

/// `[grpc]`: where agents connect to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    pub listen: SocketAddr,
    /// Allows an address beyond loopback without TLS.
    pub insecure: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// `[grpc.tls]`: PEM files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Given: only agents with a certificate of this authority are let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
}

/// `[http]`: the page, the API, the metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    /// Allows an address beyond loopback: whoever reaches it can read everything.
    pub insecure: bool,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            grpc: GrpcConfig::default(),
            http: HttpConfig::default(),
            state_dir: "/var/lib/gridstep".into(),
            checkpoint_interval: Duration::from_secs(10),
            topology: None,
            store: StoreConfig::default(),
            recorder: RecorderConfig::default(),
            alerts: AlertsConfig::default(),
        }
    }
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 19812)), insecure: false, tls: None }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 19811)), insecure: false }
    }
}

/// Top-level keys of [`EdgeConfig`]; all others are the judging's.
const EDGE_KEYS: [&str; 8] = ["grpc", "http", "state_dir", "checkpoint_interval", "topology", "store", "recorder", "alerts"];

/// Shorter, and the collector does little else than writing.
const SHORTEST_CHECKPOINT_INTERVAL: Duration = Duration::from_millis(100);

impl Config {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    /// `path` is for errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax { path: path.into(), fault: error.to_string() };
        let table: toml::Table = text.parse().map_err(syntax)?;
        let (edge, judge) = table.into_iter().partition(|(key, _)| EDGE_KEYS.contains(&key.as_str()));
        let mut faults = Faults::default();
        let config = Self { edge: faults.section(edge), judge: faults.section(judge) };
        config.edge.check(&mut faults);
        faults.extend(alerts::faults(&config.edge.alerts));
        faults.extend(config.edge.store.faults());
        faults.extend(config.edge.recorder.faults());
        faults.extend(config.judge.power.limits.faults());
        faults.extend(config.judge.align.faults());
        match faults.into_list() {
            list if list.is_empty() => Ok(config),
            faults => Err(ConfigError::Faults { path: path.into(), faults }),
        }
    }
}

impl EdgeConfig {
    fn check(&self, faults: &mut Faults) {
        let grpc = &self.grpc;
        if !grpc.listen.ip().is_loopback() && grpc.tls.is_none() && !grpc.insecure {
            faults
                .add("grpc.listen", format!("{} is beyond loopback: give [grpc.tls], or insecure = true beside it", grpc.listen));
        }
        if !self.http.listen.ip().is_loopback() && !self.http.insecure {
            faults.add("http.listen", format!("{} is beyond loopback: put insecure = true beside it", self.http.listen));
        }
        if self.checkpoint_interval < SHORTEST_CHECKPOINT_INTERVAL {
            faults.add("checkpoint_interval", "is shorter than 100ms");
        }
        if self.state_dir.as_os_str().is_empty() {
            faults.add("state_dir", "is empty");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        match Config::parse(text, Path::new("c.toml")) {
            Err(ConfigError::Faults { faults, .. }) => faults,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_example_file_equals_the_defaults() {
        let text = include_str!("../../deploy/collector.toml");
        assert_eq!(Config::parse(text, Path::new("c.toml")).unwrap(), Config::default());
    }

    #[test]
    fn all_faults_are_named_at_once_with_their_keys() {
        let text = r#"
            state_dirr = "/x"
            checkpoint_interval = "fast"
            [grpc]
            listen = "0.0.0.0:1"
            port = 3
            [http]
            listen = "[::]:1"
            [power.limits]
            contracted_watts = "many"
            step_1s_watts = -3.0
            step_2s_watts = 1.0
            [store]
            max_age = "1day"
            [recorder]
            roll_interval = "51s"
            max_bytes = 1
            max_age = "1s"
            directory = "here"
            [recorder.upload]
            url = "https://me:secret@bucket"
            password = "secret"
            [alerts]
            minimum = "loud"
            expire_after = "31s"
            external_url = "gridstep.example"
            labels = { "a-b" = "", job = "x" }
            [[alerts.alertmanager]]
            url = "http://me:secret@host"
            [[alerts.alertmanager]]
            url = "http://host"
            ca_file = "x"
        "#;
        let found = faults(text);
        let keys = [
            "alerts.alertmanager.ca_file:",
            "alerts.alertmanager.url:",
            "alerts.expire_after:",
            "alerts.external_url:",
            "alerts.labels.a-b:",
            "alerts.labels.job:",
            "alerts.minimum:",
            "checkpoint_interval:",
            "grpc.listen:",
            "grpc.port:",
            "http.listen:",
            "power.limits.contracted_watts:",
            "power.limits.step_1s_watts = -3:",
            "power.limits.step_2s_watts:",
            "recorder.directory:",
            "recorder.max_age:",
            "recorder.max_bytes = 1:",
            "recorder.roll_interval:",
            "recorder.upload.password:",
            "recorder.upload.url:",
            "state_dirr:",
            "store.max_age:",
        ];
        for key in keys {
            assert!(found.iter().any(|fault| fault.starts_with(key)), "{key} in {found:#?}");
        }
        assert_eq!(found.len(), keys.len(), "{found:#?}");
        assert!(!found.concat().contains("secret"), "{found:#?}");
    }

    #[test]
    fn syntax_faults_name_their_line() {
        let error = Config::parse("a = \nb = 1", Path::new("c.toml")).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }

    #[test]
    fn beyond_loopback_needs_tls_or_a_word() {
        assert!(Config::parse("[grpc]\nlisten = '0.0.0.0:1'\ninsecure = true", Path::new("c")).is_ok());
        assert!(Config::parse("[grpc]\nlisten = '0.0.0.0:1'\ntls = { cert_file = 'c', key_file = 'k' }", Path::new("c")).is_ok());
    }
}
