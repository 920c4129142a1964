//! Incidents of now, from the view; of any time, from the store. And what was not seen during restarts.

use super::Web;
use crate::incidents::{Incident, Kind, State as IncidentState};
use crate::live::View;
use crate::store::{History, StoreError, Wanted};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// Incidents of the past in one answer, where that is not said, and at most.
const LIMIT: (usize, usize) = (1_000, 10_000);
/// Restarts that are told.
const GAPS: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IncidentQuery {
    state: Option<IncidentState>,
    kind: Option<Kind>,
    node: Option<String>,
    /// RFC 3339. One of the two asks the past as well.
    from: Option<jiff::Timestamp>,
    to: Option<jiff::Timestamp>,
    /// At most so many, the newest.
    limit: Option<usize>,
}

/// An array, newest last; `?state=open` or `closed`, `?kind=`, `?node=`. With `?from=` or `?to=`: those that went on at any time between
/// them, from the store; else those of the last day.
pub(super) async fn incidents(State(web): State<Web>, Query(query): Query<IncidentQuery>) -> Response {
    let view = web.view();
    let micros = |stamp: jiff::Timestamp| Micros(stamp.as_microsecond());
    let limit = query.limit.unwrap_or(LIMIT.0);
    if limit > LIMIT.1 {
        return (StatusCode::BAD_REQUEST, format!("limit is larger than {}\n", LIMIT.1)).into_response();
    }
    let wanted =
        Wanted { from: query.from.map(micros), to: query.to.map(micros), kind: query.kind, state: query.state, node: query.node };
    if wanted.from.is_none() && wanted.to.is_none() {
        let found: Vec<&Incident> = view.incidents.iter().filter(|incident| wanted.has(incident)).collect();
        let left_off = query.limit.map_or(0, |limit| found.len().saturating_sub(limit));
        return Json(&found[left_off..]).into_response();
    }
    if wanted.from.zip(wanted.to).is_some_and(|(from, to)| from > to) {
        return (StatusCode::BAD_REQUEST, "from must not be after to\n").into_response();
    }
    answer(tokio::task::spawn_blocking(move || past(&web.history, &view, &wanted, limit)).await)
}

/// The view's own are as new as can be, and are there also where the store fails to take them.
pub(super) fn past(history: &History, view: &View, wanted: &Wanted, limit: usize) -> Result<Vec<Incident>, StoreError> {
    let known: HashSet<&str> = view.incidents.iter().map(|incident| incident.id.as_str()).collect();
    let mut found = history.incidents(wanted, limit)?;
    found.retain(|incident| !known.contains(incident.id.as_str()));
    found.extend(view.incidents.iter().filter(|incident| wanted.has(incident)).cloned());
    found.sort_by_key(|incident| incident.started_at);
    let left_off = found.len().saturating_sub(limit);
    Ok(found.split_off(left_off))
}

/// What was not seen during the last restarts, newest last.
pub(super) async fn gaps(State(web): State<Web>) -> Response {
    let history: Arc<History> = web.history;
    answer(tokio::task::spawn_blocking(move || history.gaps(GAPS)).await)
}

fn answer<T: Serialize>(found: Result<Result<T, StoreError>, tokio::task::JoinError>) -> Response {
    let failed = |fault: anyhow::Error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{fault:#}\n")).into_response();
    match found {
        Ok(Ok(found)) => Json(found).into_response(),
        Ok(Err(fault)) => failed(fault.into()),
        Err(fault) => failed(fault.into()),
    }
}
