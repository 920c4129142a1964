//! power seconds, spectra, incidents ─▶ **report** ─▶ one HTML page
//!
//! What a facility's engineer hands to the utility: how much was drawn, how fast that changed, at which frequencies it swung, what was
//! beyond a limit and whose it was, and how complete the data are. [`Report`] is all that the page shows; [`page`] renders it and knows
//! nothing else. A [`Recorder`] folds any length of time into it in bounded memory.

mod changes;
mod clock;
mod details;
mod incident;
mod log;
mod page;
mod plots;
mod quality;
mod quantity;
mod recorder;
mod spectra;
mod trace;

pub use changes::{Change, Changes, Histogram};
pub use details::Details;
pub(crate) use log::Log;
pub use page::page;
pub use recorder::Recorder;
pub use spectra::Spectra;
pub use trace::{Bucket, Trace};

use crate::align::calibration::Calibration;
use crate::fleet::Fleet;
use crate::incidents::Incident;
use crate::judge::Judge;
use crate::power::{BandLimit, Basis, PowerSecond, Quarter, Resolved};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Windows over which changes are told, seconds.
pub const WINDOWS: [f64; 3] = [1.0, 10.0, 60.0];

/// One final second of the fleet's sum, small enough to keep a day of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Its end.
    pub at: Micros,
    pub mean_watts: f32,
    pub min_watts: f32,
    pub max_watts: f32,
    /// The least of its bins, 0 to 1.
    pub completeness: f32,
    /// The largest change up to its end within each of [`WINDOWS`], watts: negative for a fall.
    pub changes: [f32; WINDOWS.len()],
}

impl From<&PowerSecond> for Second {
    fn from(second: &PowerSecond) -> Self {
        let change = |window: usize| {
            let ramp = second.ramps[window];
            (if ramp.up_watts >= ramp.down_watts { ramp.up_watts } else { -ramp.down_watts }) as f32
        };
        Self {
            at: second.at,
            mean_watts: second.mean_watts as f32,
            min_watts: second.min_watts as f32,
            max_watts: second.max_watts as f32,
            completeness: second.completeness as f32,
            changes: [change(0), change(1), change(2)],
        }
    }
}

/// Who is reported of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub gpus: usize,
    pub nodes: usize,
    pub racks: usize,
    pub feeders: usize,
    pub meters: usize,
    pub jobs: Vec<String>,
}

impl Size {
    pub fn of(fleet: &Fleet) -> Self {
        let places = || fleet.nodes().iter().filter_map(|node| node.place.as_ref());
        Self {
            gpus: fleet.gpus().len(),
            nodes: fleet.nodes().len(),
            racks: places().map(|place| &place.rack).collect::<BTreeSet<_>>().len(),
            feeders: places().map(|place| &place.feeder).collect::<BTreeSet<_>>().len(),
            meters: fleet.meters().len(),
            jobs: fleet.jobs().to_vec(),
        }
    }
}

/// One of the three sums over the time of the report.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    pub basis: Basis,
    pub mean_watts: f64,
    pub max_watts: f64,
    pub completeness: f64,
}

/// What the judging knows at the end of the report's time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub basis: Basis,
    pub limits: Resolved,
    pub bands: Vec<BandLimit>,
    /// Feeders with limits of their own.
    pub feeder_limits: Vec<(String, Resolved)>,
    pub size: Size,
    /// Nothing is claimed above this frequency, hertz.
    pub claim_limit_hz: f64,
    /// So many times its floor a line is told from independent sources.
    pub threshold_ratio: f64,
    /// Time between samples of the slowest and of a typical source, and the clocks' error; seconds.
    pub sampling_seconds: [f64; 2],
    pub clock_error_seconds: f64,
    /// What the nodes draw as a whole, estimated from the boards; where some nodes are measured.
    pub estimated_nodes_watts: Option<f64>,
    /// From the sum of the nodes to that of the site's meters.
    pub meter_calibration: Option<Calibration>,
    pub coincidence_factor: Option<f64>,
}

impl Facts {
    pub fn of(judge: &Judge) -> Self {
        let sampling = judge.sampling();
        let limits = judge.given_limits();
        let feeders = judge.feeders().into_iter().map(|feeder| (feeder.name, feeder.limits));
        Self {
            basis: judge.basis().unwrap_or_default(),
            limits: judge.limits(),
            bands: limits.band.clone(),
            feeder_limits: feeders.collect(),
            size: Size::of(judge.fleet()),
            claim_limit_hz: judge.claim_limit_hz(),
            threshold_ratio: judge.spectrum_threshold_ratio(),
            sampling_seconds: [sampling.slowest, sampling.typical],
            clock_error_seconds: sampling.clock,
            estimated_nodes_watts: judge.estimated_nodes_watts(),
            meter_calibration: judge.meter_calibration(),
            coincidence_factor: judge.coincidence().map(|coincidence| coincidence.factor),
        }
    }
}

/// All that the page shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it is about: a recording's folder, or a collector's address.
    pub source: String,
    /// The time that was asked for.
    pub from: Micros,
    pub to: Micros,
    pub facts: Facts,
    pub trace: Trace,
    pub changes: Vec<Changes>,
    pub spectra: Option<Spectra>,
    pub demand: Vec<Quarter>,
    pub sums: Vec<Sum>,
    pub incidents: Vec<Incident>,
    pub details: Details,
    /// Samples that came too late to be judged.
    pub late_samples: u64,
    /// What is not known of the time that was asked for, and why; sentences.
    pub unknown: Vec<String>,
}
