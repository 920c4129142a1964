//! The configuration file: one struct per module, unknown keys are faults, and all faults are named at once.

use crate::{control, exporter, jobs, reader, spool, uplink};
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
    pub control: control::Config,
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
            control: Default::default(),
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

/// Every fault of the text, or what it configures.
fn parse(text: &str) -> Result<Config, Vec<String>> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
    let mut config = Config::default();
    let mut faults = Vec::new();
    let mut rest = toml::Table::new();
    for (key, value) in table {
        match key.as_str() {
            "reader" => config.reader = section("reader.", value, &mut faults),
            "uplink" => config.uplink = section("uplink.", value, &mut faults),
            "spool" => config.spool = section("spool.", value, &mut faults),
            "jobs" => config.jobs = section("jobs.", value, &mut faults),
            "http" => config.http = section("http.", value, &mut faults),
            "control" => config.control = section("control.", value, &mut faults),
            _ => {
                rest.insert(key, value);
            }
        }
    }
    let top: Config = section("", toml::Value::Table(rest), &mut faults);
    (config.node, config.batch_period) = (top.node, top.batch_period);
    faults.extend(config.faults());
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

/// Takes a section key by key, so that one wrong key hides no other; a wrong key has its default.
fn section<T: Default + serde::de::DeserializeOwned>(prefix: &str, value: toml::Value, faults: &mut Vec<String>) -> T {
    let toml::Value::Table(table) = value else {
        faults.push(format!("{}: must be a section, [{0}]", prefix.trim_end_matches('.')));
        return T::default();
    };
    let mut right = toml::Table::new();
    for (key, value) in table {
        let alone = toml::Table::from_iter([(key.clone(), value.clone())]);
        match toml::Value::Table(alone).try_into::<T>() {
            Ok(_) => drop(right.insert(key, value)),
            Err(error) => faults.push(format!("{prefix}{key}: {}", error.message().trim_end())),
        }
    }
    toml::Value::Table(right).try_into().unwrap_or_default()
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
        faults.extend(self.spool.faults());
        faults.extend(self.jobs.faults());
        faults.extend(self.http.faults());
        faults.extend(self.control.faults());
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
    fn a_second_collector_is_checked_as_the_first() {
        let faults = |text: &str| parse(text).map_err(|faults| faults.join("\n"));
        let second = "[uplink]\nmode = \"both\"\n[uplink.second]\n";
        assert!(faults(&format!("{second}endpoint = \"http://127.0.0.1:19813\"")).is_ok());
        for (text, part) in [
            (format!("{second}endpoint = \"http://10.0.0.1:1\""), "uplink.second.endpoint"),
            (format!("{second}endpoint = \"http://127.0.0.1:19812\""), "an address of its own"),
            (format!("{second}endpoin = \"\""), "uplink.second: unknown field `endpoin`"),
            ("[uplink]\nmode = \"both\"".into(), "[uplink.second]"),
            ("[uplink]\nmode = \"all\"".into(), "uplink.mode"),
            ("[spool]\ndirectory = \"spool\"\n".into(), "spool.directory"),
            ("[spool]\ndisk_after = \"0s\"\nmax_age = \"1000d\"\n".into(), "spool.max_age"),
        ] {
            let faults = faults(&text).unwrap_err();
            assert!(faults.contains(part), "{part} is not in: {faults}");
        }
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let text = "batch_period = \"1ms\"\n[reader]\nperiod = 3\npower_period = 5\ndeadline = \"1h\"\n[uplink]\nendpoint = \"http://10.0.0.1:19812\"\n[http]\nlisten = \"0.0.0.0:1\"";
        let faults = parse(text).unwrap_err().join("\n");
        for part in [
            "batch_period",
            "reader.period",
            "reader.power_period",
            "reader.deadline",
            "uplink.endpoint",
            "http.listen",
            "insecure = true",
        ] {
            assert!(faults.contains(part), "{part} is not in: {faults}");
        }
    }
}
