//! What the judging knows of power beside the sum itself, for the API and metrics.

use crate::incidents::rfc3339;
use crate::judge::{Figure, Judge, Levels};
use crate::power::forecast::Turn;
use crate::power::{BandPower, Coincidence, Quarter, Ramp};
use serde::Serialize;

#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct SwingsView {
    /// Boards, nodes and meters.
    pub(crate) figures: Vec<Figure>,
    /// How far the sum has moved within 1, 10, 60 and 600 s.
    pub(crate) ramps: Vec<Ramp>,
    pub(crate) bands: Vec<BandPower>,
    /// Nothing is claimed above it.
    pub(crate) claim_limit_hz: f64,
    pub(crate) oscillation: Option<LineView>,
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
    next_trough: Option<TurnView>,
    next_crest: Option<TurnView>,
    /// What the forecast differs from the last stretch by, root mean square.
    forecast_error_watts: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct TurnView {
    at: String,
    watts: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct DipsView {
    seen: usize,
    period_seconds: f64,
    next_at: String,
    within_seconds: f64,
    depth_watts: f64,
}

/// The running quarter of an hour.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct QuarterView {
    started_at: String,
    /// Mean of what is known of it.
    pub(crate) watts: f64,
    completeness: f64,
}

impl SwingsView {
    pub(super) fn of(judge: &Judge) -> Self {
        let (running, mut quarters) = judge.demand();
        quarters.extend(running);
        let turn = |turn: Turn| TurnView { at: rfc3339(turn.at), watts: turn.watts };
        let forecast = judge.forecast();
        let oscillation = judge.running_oscillation().map(|line| LineView {
            started_at: rfc3339(line.started_at),
            frequency_hz: line.frequency_hz,
            amplitude_watts: line.amplitude_watts,
            amplitude_is_lower_bound: line.lower_bound,
            damping_ratio: line.damping_ratio,
            next_trough: forecast.map(|next| turn(next.trough)),
            next_crest: forecast.map(|next| turn(next.crest)),
            forecast_error_watts: forecast.map(|next| next.error_watts),
        });
        let dips = judge.dips().map(|dips| DipsView {
            seen: dips.count,
            period_seconds: dips.period_seconds,
            next_at: rfc3339(dips.next_at),
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
            claim_limit_hz: judge.claim_limit_hz(),
            oscillation,
            dips,
            demand,
            coincidence: judge.coincidence(),
            levels: judge.levels(),
            quarters,
        }
    }
}
