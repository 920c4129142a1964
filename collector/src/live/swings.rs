//! What the judging knows of power beside the sum itself, for the API and metrics.

use crate::fleet::NodeSlot;
use crate::incidents::rfc3339;
use crate::judge::{Figure, Judge, Levels};
use crate::power::claim::ClaimReason;
use crate::power::forecast::{Scored, Turn};
use crate::power::{BandPower, Coincidence, Forecast, Oscillation, Quarter, Ramp};
use gridstep_wire::Micros;
use serde::Serialize;

#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct SwingsView {
    /// Boards, nodes and meters.
    pub(crate) figures: Vec<Figure>,
    /// How far the sum has moved within 1, 10, 60 and 600 s.
    pub(crate) ramps: Vec<Ramp>,
    pub(crate) bands: Vec<BandPower>,
    /// Nothing is claimed above it, and what does not allow more.
    pub(crate) claim_limit_hz: f64,
    claim_limited_by: Option<ClaimReason>,
    /// 1: all sources are sampled at the same instants; 0: these are spread over the time between samples.
    pub(crate) phase_spread_ratio: f64,
    /// Above it, nodes whose clocks are off are left out of lines. None: no clock is off.
    pub(crate) untimed_from_hz: Option<f64>,
    pub(crate) oscillation: Option<LineView>,
    /// Of those who take no part in that.
    pub(crate) second_oscillation: Option<LineView>,
    /// How well the next seconds were foretold so far.
    pub(crate) forecast_score: Option<Scored>,
    pub(crate) calibration: CalibrationView,
    /// The next of recurring dips.
    pub(crate) dips: Option<DipsView>,
    pub(crate) demand: Option<QuarterView>,
    pub(crate) coincidence: Option<Coincidence>,
    #[serde(skip)]
    pub(crate) levels: Levels,
    /// The finished quarters of a day and the running one.
    #[serde(skip)]
    pub(crate) quarters: Vec<Quarter>,
}

/// The oscillation that goes on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LineView {
    started_at: String,
    pub(crate) frequency_hz: f64,
    /// Peak to peak.
    pub(crate) amplitude_watts: f64,
    amplitude_is_lower_bound: bool,
    damping_ratio: f64,
    pub(crate) next_trough: Option<TurnView>,
    pub(crate) next_crest: Option<TurnView>,
    /// What the forecast differs from the last stretch by, root mean square.
    pub(crate) forecast_error_watts: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct TurnView {
    at: String,
    #[serde(skip)]
    pub(crate) instant: Micros,
    pub(crate) watts: f64,
}

/// What calibrations leave, ÷ what is measured. None: not measured.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct CalibrationView {
    /// Of nodes by their boards: the middle one.
    pub(crate) node_error_ratio: Option<f64>,
    /// Of the site's meters by the nodes.
    pub(crate) meter_error_ratio: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct DipsView {
    seen: usize,
    pub(crate) period_seconds: f64,
    next_at: String,
    #[serde(skip)]
    pub(crate) instant: Micros,
    pub(crate) within_seconds: f64,
    pub(crate) depth_watts: f64,
}

/// The running quarter of an hour.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct QuarterView {
    started_at: String,
    /// Mean of what is known of it.
    pub(crate) watts: f64,
    completeness: f64,
}

impl LineView {
    fn of(line: &Oscillation, forecast: Option<Forecast>) -> Self {
        let turn = |turn: Turn| TurnView { at: rfc3339(turn.at), instant: turn.at, watts: turn.watts };
        Self {
            started_at: rfc3339(line.started_at),
            frequency_hz: line.frequency_hz,
            amplitude_watts: line.amplitude_watts,
            amplitude_is_lower_bound: line.lower_bound,
            damping_ratio: line.damping_ratio,
            next_trough: forecast.map(|next| turn(next.trough)),
            next_crest: forecast.map(|next| turn(next.crest)),
            forecast_error_watts: forecast.map(|next| next.error_watts),
        }
    }
}

impl CalibrationView {
    fn of(judge: &Judge) -> Self {
        let nodes = (0..judge.fleet().nodes().len() as u32).map(NodeSlot);
        let mut errors: Vec<f64> = nodes.filter_map(|node| Some(judge.node_calibration(node)?.error_ratio)).collect();
        errors.sort_by(f64::total_cmp);
        Self {
            node_error_ratio: errors.get(errors.len() / 2).copied(),
            meter_error_ratio: judge.meter_calibration().map(|calibration| calibration.error_ratio),
        }
    }
}

impl SwingsView {
    pub(super) fn of(judge: &Judge) -> Self {
        let (running, mut quarters) = judge.demand();
        quarters.extend(running);
        let oscillation = judge.running_oscillation().map(|line| LineView::of(line, judge.forecast()));
        let second_oscillation = judge.second_oscillation().map(|line| LineView::of(line, None));
        let claim = judge.claim();
        let dips = judge.dips().map(|dips| DipsView {
            seen: dips.count,
            period_seconds: dips.period_seconds,
            next_at: rfc3339(dips.next_at),
            instant: dips.next_at,
            within_seconds: dips.within_seconds,
            depth_watts: dips.depth_watts,
        });
        let demand = running.map(|quarter| QuarterView {
            started_at: rfc3339(quarter.start),
            watts: quarter.watts,
            completeness: quarter.completeness,
        });
        Self {
            figures: judge.figures(),
            ramps: judge.ramps().to_vec(),
            bands: judge.bands(),
            claim_limit_hz: claim.hertz,
            claim_limited_by: Some(claim.reason),
            phase_spread_ratio: judge.sampling().phases,
            untimed_from_hz: judge.untimed_from_hz(),
            oscillation,
            second_oscillation,
            forecast_score: judge.forecast_score(),
            calibration: CalibrationView::of(judge),
            dips,
            demand,
            coincidence: judge.coincidence(),
            levels: judge.levels(),
            quarters,
        }
    }
}
