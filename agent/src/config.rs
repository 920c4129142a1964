//! The configuration file: one struct per module, unknown keys are faults, and all faults are named at once.

use crate::{exporter, jobs, reader, spool, uplink};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Node name as the site uses it; default: the host's name.
    pub node: String,
    /// A batch leaves at most this long after its newest sample.
    #[serde(with = "humantime_serde")]
    pub batch_period: Duration,
    pub reader: reader::Config,
    pub uplink: uplink::Config,
    pub spool: spool::Config,
    pub jobs: jobs::Config,
    pub http: exporter::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: sysinfo::System::host_name().unwrap_or_else(|_| "localhost".into()),
            batch_period: Duration::from_millis(250),
            reader: Default::default(),
            uplink: Default::default(),
            spool: Default::default(),
            jobs: Default::default(),
            http: Default::default(),
        }
    }
}

#[derive(Debug)]
pub struct Faults {
    file: String,
    faults: Vec<String>,
}

impl std::error::Error for Faults {}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "configuration {}:", self.file)?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// The file's configuration; the defaults where there is no file.
pub fn load(path: Option<&Path>) -> Result<Config, Faults> {
    let Some(path) = path else { return Ok(Config::default()) };
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Faults { file: file.clone(), faults: vec![format!("cannot be read: {error}")] })?;
    parse(&text).map_err(|faults| Faults { file, faults })
}

/// Every fault of the text: section by section, so that one wrong key does not hide the next section's.
fn parse(text: &str) -> Result<Config, Vec<String>> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| vec![error.message().to_owned()])?;
    let mut config = Config::default();
    let mut faults = Vec::new();
    let mut rest = toml::Table::new();
    for (key, value) in table {
        let taken = match key.as_str() {
            "reader" => section(value).map(|section| config.reader = section),
            "uplink" => section(value).map(|section| config.uplink = section),
            "spool" => section(value).map(|section| config.spool = section),
            "jobs" => section(value).map(|section| config.jobs = section),
            "http" => section(value).map(|section| config.http = section),
            _ => {
                rest.insert(key, value);
                continue;
            }
        };
        if let Err(error) = taken {
            faults.push(format!("[{key}] {error}"));
        }
    }
    match toml::Value::Table(rest).try_into::<Config>() {
        Ok(top) => (config.node, config.batch_period) = (top.node, top.batch_period),
        Err(error) => faults.push(error.message().to_owned()),
    }
    faults.extend(config.faults());
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

fn section<T: serde::de::DeserializeOwned>(value: toml::Value) -> Result<T, String> {
    value.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

impl Config {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.node.is_empty() || self.node.len() > 253 {
            faults.push(format!("node = \"{}\": must have 1 to 253 bytes", self.node));
        }
        let milliseconds = self.batch_period.as_millis();
        if !(50..=10_000).contains(&milliseconds) {
            faults.push(format!("batch_period = \"{milliseconds}ms\": must be between 50ms and 10s"));
        }
        faults.extend(self.reader.faults());
        faults.extend(self.uplink.faults());
        faults.extend(self.http.faults());
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_equals_the_defaults() {
        let example = include_str!("../../deploy/agent.toml");
        assert_eq!(parse(example).unwrap(), Config::default());
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let text = "batch_period = \"1ms\"\n[reader]\nperiod = 3\n[uplink]\nendpoint = \"http://10.0.0.1:19812\"\n[http]\nlisten = \"0.0.0.0:1\"";
        let faults = parse(text).unwrap_err().join("\n");
        for part in ["batch_period", "[reader]", "uplink.endpoint", "http.listen", "insecure = true"] {
            assert!(faults.contains(part), "{part} is not in: {faults}");
        }
    }
}
