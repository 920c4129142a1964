//! The last quarter of an hour of a sum or of one GPU, as the API gives it.

use super::Web;
use crate::incidents::rfc3339;
use crate::live::View;
use crate::past::{BINS, GpuSeconds, Powers, SECONDS, Sum};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PastQuery {
    #[serde(default = "all")]
    seconds: usize,
    /// A GPU: its node, and its index there.
    node: Option<String>,
    gpu: Option<u8>,
    /// A sum. None of these: the cluster's.
    job: Option<String>,
    feeder: Option<String>,
}

fn all() -> usize {
    SECONDS
}

/// Columns of the same length; null is not known.
#[derive(Debug, Serialize)]
struct Columns {
    /// Begin of the first step, RFC 3339. None: nothing is known yet.
    from: Option<String>,
    step_seconds: f64,
    #[serde(flatten)]
    columns: BTreeMap<&'static str, Vec<Option<f64>>>,
}

/// Power at 10 Hz of the cluster, of `?job=` or of `?feeder=`; of `?node=&gpu=` what is judged of it, once a second.
pub(super) async fn past(State(web): State<Web>, Query(query): Query<PastQuery>) -> Response {
    let view = web.view();
    match of(&view, &query) {
        Ok(columns) => Json(columns).into_response(),
        Err((status, fault)) => (status, format!("{fault}\n")).into_response(),
    }
}

fn of(view: &View, query: &PastQuery) -> Result<Columns, (StatusCode, String)> {
    let PastQuery { seconds, node, gpu, job, feeder } = query;
    let missing = |what: &str, name: &str| (StatusCode::NOT_FOUND, format!("{what} {name} is not known"));
    let known = |find: &dyn Fn(&Powers) -> Option<Sum>| {
        view.past.power.last(SECONDS, |row| row.and_then(find)).is_some_and(|(_, rows)| rows.iter().any(Option::is_some))
    };
    match (node, gpu, job, feeder) {
        (Some(node), Some(gpu), None, None) => {
            let place = view.nodes.iter().find(|own| own.node == *node);
            let cell = place.and_then(|own| own.gpus.iter().find(|own| own.gpu == *gpu));
            let cell = cell.ok_or_else(|| missing("GPU", &format!("{gpu} of node {node}")))?;
            Ok(of_gpu(view, *seconds, cell.slot))
        }
        (None, None, Some(job), None) => {
            let find = |powers: &Powers| powers.job(job);
            known(&find).then(|| of_sum(view, *seconds, find)).ok_or_else(|| missing("job", job))
        }
        (None, None, None, Some(feeder)) => {
            let find = |powers: &Powers| powers.feeder(feeder);
            known(&find).then(|| of_sum(view, *seconds, find)).ok_or_else(|| missing("feeder", feeder))
        }
        (None, None, None, None) => Ok(of_sum(view, *seconds, |powers| Some(powers.cluster))),
        _ => Err((StatusCode::BAD_REQUEST, "ask for node and gpu, or for job, or for feeder, or for none of them".into())),
    }
}

fn of_sum(view: &View, seconds: usize, find: impl Fn(&Powers) -> Option<Sum>) -> Columns {
    let rows = view.past.power.last(seconds, |row| row.and_then(&find));
    let (from, rows) = rows.map_or((None, Vec::new()), |(from, rows)| (Some(rfc3339(from)), rows));
    let bins = |sum: Option<Sum>| (0..BINS).map(move |bin| sum.map(|sum| (f64::from(sum[bin]) * 10.0).round() / 10.0));
    let columns = BTreeMap::from([("power_watts", rows.into_iter().flat_map(bins).collect())]);
    Columns { from, step_seconds: 1.0 / BINS as f64, columns }
}

fn of_gpu(view: &View, seconds: usize, gpu: usize) -> Columns {
    let mut from = None;
    let column = |(place, name): (usize, &'static str)| {
        let rows = view.past.gpus.last(seconds, |row| row.and_then(|row| row.value(gpu, place)));
        let (first, values) = rows.unwrap_or_default();
        from = Some(rfc3339(first)).filter(|_| !values.is_empty());
        (name, values)
    };
    let columns = GpuSeconds::quantities().iter().map(|quantity| quantity.name).enumerate().map(column).collect();
    Columns { from, step_seconds: 1.0, columns }
}
