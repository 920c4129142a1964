//! incidents ─▶ **alerts** ─▶ Alertmanager
//!
//! What somebody is called for. [`announce`] is pure: incidents in, alerts out, and what it must remember of an incident so
//! that a refined verdict is no second alert. [`outbox`] is pure as well: what one Alertmanager has yet to hear. [`deliver`] talks.
//!
//! Everything goes by level, not by edge: an alert is said again until it is over, and for a while after, so that an
//! Alertmanager or a collector may be restarted at any time. There is no queue that could fill: what is to be said is the
//! latest view, and who was away hears that.
//!
//! Labels name the condition, and two collectors side by side name it alike: kind, the subject as it was when the incident
//! opened, and `severity`, `page` or `ticket`. The incident's id is an annotation, for its onset may differ by a bin from one
//! collector to the next; so are cause, evidence and figures, which are refined.

mod announce;
mod config;
mod deliver;
mod outbox;
mod text;

pub use config::{AlertmanagerConfig, AlertsConfig};

pub(crate) use announce::{Announced, Announcement, Notify};
pub(crate) use config::faults;
pub(crate) use deliver::start;
pub(crate) use text::word;

use gridstep_wire::Micros;
use std::collections::BTreeMap;

/// What makes an alert the alert it is.
pub(crate) type Labels = BTreeMap<String, String>;

/// One condition, as Alertmanager hears of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alert {
    pub(crate) labels: Labels,
    pub(crate) annotations: BTreeMap<&'static str, String>,
    pub(crate) started_at: Micros,
    /// None: it goes on.
    pub(crate) ended_at: Option<Micros>,
}
