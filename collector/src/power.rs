//! align ─▶ **power** ─▶ incidents
//!
//! The cluster's sum, bin by bin, against the limits: [`steps`] finds changes of level, [`oscillation`] sustained coherent
//! repetitions. What an oscillation does within its cycle is no step, so the two know of each other through [`Cycle`] only.

pub mod history;
pub mod limits;
pub mod oscillation;
pub mod signed;
pub mod spectrum;
pub mod steps;
pub mod whole;

pub use history::History;
pub use limits::{Basis, Limits, Resolved};
pub use oscillation::{Oscillation, OscillationJudge};
pub use signed::Signed;
pub use steps::{Step, StepJudge};

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
    pub limits: &'a Resolved,
    pub sampling: Sampling,
}
