//! What a report of some time rests on, as the collector knows it. Who asks renders it.

use super::Web;
use super::incidents::past;
use crate::incidents::{Incident, rfc3339};
use crate::live::View;
use crate::report::Report;
use crate::store::Wanted;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use gridstep_wire::Micros;
use serde::Deserialize;

/// How far back is asked for, where that is not said; seconds.
const DAY_US: i64 = 86_400_000_000;
/// More incidents than that are no report.
const INCIDENTS: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportQuery {
    /// RFC 3339; none: a day before `to`.
    from: Option<jiff::Timestamp>,
    /// None: now.
    to: Option<jiff::Timestamp>,
}

pub(super) async fn report(State(web): State<Web>, Query(query): Query<ReportQuery>) -> Response {
    let view = web.view();
    let micros = |stamp: jiff::Timestamp| Micros(stamp.as_microsecond());
    let to = query.to.map_or(view.at, micros).min(view.at);
    let from = query.from.map_or(to - DAY_US, micros);
    if from >= to {
        return (StatusCode::BAD_REQUEST, "from must be before to, and in the past\n").into_response();
    }
    // A day of seconds takes some milliseconds: not on a thread that streams wait for.
    let asked = tokio::task::spawn_blocking(move || {
        let wanted = Wanted { from: Some(from), to: Some(to), ..Wanted::default() };
        let incidents = past(&web.history, &view, &wanted, INCIDENTS)?;
        anyhow::Ok(of(&view, from, to, incidents))
    });
    match asked.await.map_err(anyhow::Error::from).flatten() {
        Ok(report) => Json(report).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response(),
    }
}

fn of(view: &View, from: Micros, to: Micros, incidents: Vec<Incident>) -> Report {
    let (recorder, known) = view.log.record(from, to, view.facts.basis, &view.swings.quarters);
    let mut report = recorder.report("a running collector".into(), (from, to), view.facts.clone(), incidents);
    report.late_samples = view.late_samples;
    report.unknown = unknown(from, to, known);
    report
}

fn unknown(from: Micros, to: Micros, known: Option<(Micros, Micros)>) -> Vec<String> {
    let kept = "A running collector keeps the power of the last day, and begins anew when it is started";
    let mut sentences = vec![
        "Limits, fleet, sampling and clocks are those at the time of asking, late samples those since the collector's first start; \
         the sums of what the limits are not about are left out."
            .to_owned(),
    ];
    let Some((first, last)) = known else {
        sentences
            .insert(0, format!("Nothing is known of the power in this time. {kept}; a replay of a recording goes further back."));
        return sentences;
    };
    if first.since(from) > 2.0 {
        let text = format!("Of the time before {} the power is not known. {kept}.", rfc3339(first));
        sentences.insert(0, text);
    }
    if to.since(last) > 30.0 {
        sentences.insert(0, format!("Of the time after {} the power is not known.", rfc3339(last)));
    }
    sentences
}
