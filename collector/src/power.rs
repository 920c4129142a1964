//! align ─▶ **power** ─▶ incidents

use serde::{Deserialize, Serialize};

/// What the watts of the limits mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// GPU boards.
    #[default]
    Gpu,
    /// Whole nodes, measured at the BMC, PDU or PSU.
    Node,
}

/// `[power.limits]`: what may be drawn, and how fast it may change. Watts; None: derived from `contracted_watts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub basis: Basis,
    /// None: the fleet's nameplate (GPUs × enforced limit) stands in.
    pub contracted_watts: Option<f64>,
    /// Largest change of level within 1 s; default 5 % of the contract.
    pub step_1s_watts: Option<f64>,
    /// … within 10 s; default 10 %.
    pub step_10s_watts: Option<f64>,
    /// … within 60 s; default 20 %.
    pub step_60s_watts: Option<f64>,
    /// Largest sustained peak-to-peak; default 2 %.
    pub oscillation_watts: Option<f64>,
    pub demand_15min_watts: Option<f64>,
}
