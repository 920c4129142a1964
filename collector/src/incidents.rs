//! findings ─▶ **incidents** ─▶ alerts, store, web
//!
//! One condition is one incident, from its onset to its end. The JSON form is a contract with others.

pub mod book;
pub mod lemons;

pub use book::{Book, Report};
pub use lemons::{Lemon, Lemons};

use gridstep_wire::Micros;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Straggler,
    PowerSwing,
    /// The whole job suffers and no one node is to blame.
    Job,
    GpuFault,
    Telemetry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Info,
    /// Look at it in working hours.
    Warning,
    /// Page.
    Critical,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Open,
    Closed,
}

/// The narrowest thing that explains the condition; what does not apply is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feeder: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u8>,
}

/// One signal that a person needs to disagree with the verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Metric with its unit in the name.
    pub signal: String,
    pub value: f64,
    /// Median of the peers, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<f64>,
    /// Distance to the peers in robust standard deviations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// Who moved, and their share of the swing; the shares of one level sum to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contributor {
    /// "job", "rack", "feeder" or "node" and its name.
    #[serde(flatten)]
    pub who: Map<String, Value>,
    pub share: f64,
}

/// An incident in one of its revisions. Severity, the subject's level, cause and evidence may change with a revision; id,
/// kind and onset do not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub schema: u32,
    pub id: String,
    pub revision: u32,
    pub kind: Kind,
    pub cause: String,
    pub severity: Severity,
    pub state: State,
    #[serde(with = "stamp")]
    pub started_at: Micros,
    #[serde(with = "stamp")]
    pub opened_at: Micros,
    #[serde(with = "stamp")]
    pub updated_at: Micros,
    #[serde(with = "stamp_option")]
    pub closed_at: Option<Micros>,
    pub confirmed: bool,
    pub completeness: f64,
    pub subject: Subject,
    pub summary: String,
    pub magnitude: Map<String, Value>,
    pub evidence: Vec<Evidence>,
    pub ruled_out: Vec<String>,
    pub contributors: Vec<Contributor>,
}

/// RFC 3339, UTC, milliseconds.
pub fn rfc3339(at: Micros) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(stamp) => format!("{stamp:.3}"),
        Err(_) => format!("{}us", at.0),
    }
}

pub(crate) mod stamp {
    use super::{Micros, Serializer, rfc3339};
    use serde::{Deserialize, Deserializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(at: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse::<jiff::Timestamp>().map(|at| Micros(at.as_microsecond())).map_err(D::Error::custom)
    }
}

pub(crate) mod stamp_option {
    use super::{Micros, Serializer, rfc3339};
    use serde::{Deserialize, Deserializer, Serialize, de::Error};

    pub(crate) fn serialize<S: Serializer>(at: &Option<Micros>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(rfc3339).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Micros>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let parse = |text: String| text.parse::<jiff::Timestamp>().map(|at| Micros(at.as_microsecond()));
        text.map(parse).transpose().map_err(D::Error::custom)
    }
}
