//! align ─▶ **power** ─▶ incidents
//!
//! A sum ([`domain`]: the cluster's, or a feeder's), bin by bin, against its limits: [`steps`] finds changes of level, [`oscillation`]
//! sustained coherent repetitions, [`demand`] quarters of an hour that draw too much. What an oscillation does within its cycle is no step,
//! so the two know of each other through [`Cycle`] only. [`units`] remembers who drew what.

pub mod bands;
pub mod claim;
pub mod demand;
pub mod domain;
pub mod forecast;
pub mod history;
pub mod limits;
pub mod oscillation;
pub mod ramps;
pub mod signed;
pub mod spectrum;
pub mod steps;
pub mod units;
pub mod untimed;
pub mod whole;

pub use bands::BandPower;
pub use demand::{Demand, OverLimit, Quarter};
pub use domain::{Domain, Finding, Input, PowerSecond};

pub use forecast::{Dips, Forecast};
pub use history::History;
pub use limits::{BandLimit, Basis, FeederLimits, Limits, Resolved};
pub use oscillation::{CYCLES, Oscillation, OscillationJudge};
pub use ramps::Ramp;
pub use signed::Signed;
pub use steps::{Step, StepJudge};
pub use units::{Coincidence, Units};
pub use untimed::Untimed;

use crate::align::Sampling;
use serde::{Deserialize, Serialize};

/// The repetition that the sum is known to have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cycle {
    /// Seconds.
    pub period: f64,
}

/// What both detectors look at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub history: &'a History,
    pub signed: &'a Signed,
    pub untimed: &'a Untimed,
    pub limits: &'a Resolved,
    pub bands: &'a [BandLimit],
    pub sampling: Sampling,
    /// The repetition of another oscillation of the same sum, which is told by itself.
    pub taken: Option<Cycle>,
}
