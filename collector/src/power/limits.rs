//! `[power.limits]`: what may be drawn, and how fast it may change.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the watts of the limits mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// GPU boards.
    #[default]
    Gpu,
    /// Whole nodes, measured at the BMC, PDU or PSU.
    Node,
    /// The site's meters.
    Meter,
}

/// Frequencies at which less is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BandLimit {
    pub from_hz: f64,
    pub to_hz: f64,
    /// Largest sustained peak-to-peak of a line between the two.
    pub watts: f64,
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
    /// Of single feeders, by name; what a feeder does not set comes from its own `contracted_watts`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feeder: BTreeMap<String, FeederLimits>,
    /// Narrow the oscillation limit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub band: Vec<BandLimit>,
}

/// `[power.limits.feeder.NAME]`, as [`Limits`] for one feeder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeederLimits {
    pub contracted_watts: Option<f64>,
    pub step_1s_watts: Option<f64>,
    pub step_10s_watts: Option<f64>,
    pub step_60s_watts: Option<f64>,
    pub oscillation_watts: Option<f64>,
    pub demand_15min_watts: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub band: Vec<BandLimit>,
}

/// The limits in force, watts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    pub contracted_watts: f64,
    /// (window in seconds, largest change within it)
    pub steps: [(f64, f64); 3],
    pub oscillation_watts: f64,
    pub demand_15min_watts: f64,
    /// No contract is configured: these come from the fleet's nameplate.
    pub from_nameplate: bool,
}

impl Resolved {
    /// The oscillation limit at a frequency, watts: the fleet's, or that of a band which it lies in.
    pub fn oscillation_at(&self, hertz: f64, bands: &[BandLimit]) -> f64 {
        let inside = bands.iter().filter(|band| (band.from_hz..=band.to_hz).contains(&hertz));
        inside.map(|band| band.watts).fold(self.oscillation_watts, f64::min)
    }
}

impl Limits {
    pub fn resolve(&self, nameplate_watts: f64) -> Resolved {
        self.fleet().resolve(nameplate_watts)
    }

    /// The fleet's own.
    fn fleet(&self) -> FeederLimits {
        FeederLimits {
            contracted_watts: self.contracted_watts,
            step_1s_watts: self.step_1s_watts,
            step_10s_watts: self.step_10s_watts,
            step_60s_watts: self.step_60s_watts,
            oscillation_watts: self.oscillation_watts,
            demand_15min_watts: self.demand_15min_watts,
            band: self.band.clone(),
        }
    }

    /// Every fault: its key and what would be right.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.fleet().faults("power.limits");
        for (feeder, limits) in &self.feeder {
            faults.extend(limits.faults(&format!("power.limits.feeder.{feeder}")));
        }
        faults
    }
}

impl FeederLimits {
    /// `nameplate_watts` stands in for a contract.
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

    fn faults(&self, section: &str) -> Vec<String> {
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
            Some(format!("{section}.{key} = {value}: must be watts above 0"))
        };
        let bands = self.band.iter().enumerate().filter_map(|(index, band)| {
            let fault = if !(band.from_hz >= 0.0 && band.from_hz < band.to_hz && band.to_hz.is_finite()) {
                "from_hz must be below to_hz"
            } else if wrong(band.watts) {
                "watts must be above 0"
            } else {
                return None;
            };
            Some(format!("{section}.band[{index}]: {fault}"))
        });
        named.into_iter().filter_map(fault).chain(bands).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_narrows_the_limit_and_a_feeder_has_its_own() {
        let text = "contracted_watts = 1e6\n[[band]]\nfrom_hz = 0.1\nto_hz = 0.8\nwatts = 5e3\n\
            [feeder.a]\ncontracted_watts = 4e5\nstep_1s_watts = 7e3\n";
        let limits: Limits = toml::from_str(text).unwrap();
        assert_eq!(limits.faults(), Vec::<String>::new());
        let fleet = limits.resolve(0.0);
        assert_eq!((fleet.oscillation_at(0.5, &limits.band), fleet.oscillation_at(1.0, &limits.band)), (5e3, 20e3));
        let feeder = limits.feeder["a"].resolve(0.0);
        assert_eq!((feeder.steps[0].1, feeder.steps[1].1, feeder.from_nameplate), (7e3, 40e3, false));
    }

    #[test]
    fn faults_name_the_feeder_and_the_band() {
        let text = "[[band]]\nfrom_hz = 0.8\nto_hz = 0.1\nwatts = 5e3\n[feeder.a]\nstep_1s_watts = -7e3\n";
        let faults = toml::from_str::<Limits>(text).unwrap().faults();
        assert!(faults.iter().any(|fault| fault.starts_with("power.limits.band[0]: from_hz")), "{faults:?}");
        assert!(faults.iter().any(|fault| fault.starts_with("power.limits.feeder.a.step_1s_watts = -7000")), "{faults:?}");
    }
}
