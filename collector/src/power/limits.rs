//! `[power.limits]`: what may be drawn, and how fast it may change.

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

/// As written in the configuration. Watts; None: derived from `contracted_watts`.
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
    /// Largest mean of 15 minutes; default the contract.
    pub demand_15min_watts: Option<f64>,
}

/// The limits in force, watts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    pub contracted_watts: f64,
    /// (window in seconds, largest change within it)
    pub steps: [(f64, f64); 3],
    pub oscillation_watts: f64,
    pub demand_15min_watts: f64,
    /// No contract is configured: these come from the fleet's nameplate.
    pub from_nameplate: bool,
}

impl Limits {
    pub fn resolve(&self, nameplate_watts: f64) -> Resolved {
        let contracted_watts = self.contracted_watts.unwrap_or(nameplate_watts);
        let share = |own: Option<f64>, ratio: f64| own.unwrap_or(ratio * contracted_watts);
        Resolved {
            contracted_watts,
            steps: [
                (1.0, share(self.step_1s_watts, 0.05)),
                (10.0, share(self.step_10s_watts, 0.10)),
                (60.0, share(self.step_60s_watts, 0.20)),
            ],
            oscillation_watts: share(self.oscillation_watts, 0.02),
            demand_15min_watts: share(self.demand_15min_watts, 1.0),
            from_nameplate: self.contracted_watts.is_none(),
        }
    }

    /// Every fault: its key and what would be right.
    pub fn faults(&self) -> Vec<String> {
        let named = [
            ("contracted_watts", self.contracted_watts),
            ("step_1s_watts", self.step_1s_watts),
            ("step_10s_watts", self.step_10s_watts),
            ("step_60s_watts", self.step_60s_watts),
            ("oscillation_watts", self.oscillation_watts),
            ("demand_15min_watts", self.demand_15min_watts),
        ];
        let wrong = |value: f64| !value.is_finite() || value <= 0.0;
        let fault = |(key, value): (&str, Option<f64>)| {
            let value = value.filter(|&value| wrong(value))?;
            Some(format!("power.limits.{key} = {value}: must be watts above 0"))
        };
        named.into_iter().filter_map(fault).collect()
    }
}
