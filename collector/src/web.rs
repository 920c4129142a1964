//! incidents ─▶ **web**
//!
//! The page, the API and the metrics, from the [`View`] that the judging's task publishes, and the past from the store: no request
//! reaches the judge.

mod incidents;
mod past;
mod power;
mod report;

use crate::incidents::Lemon;
use crate::incidents::lemons::DAYS;
use crate::live::{GpuCell, NodeView, View};
use crate::metrics::Metrics;
use crate::store::History;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::watch;

const PAGE: &str = include_str!("web/page.html");

/// The page is all of itself: it loads nothing, and nobody frames it.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                           img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A view that is older says that the judging hangs.
const STALE_SECONDS: f64 = 10.0;

#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) history: Arc<History>,
}

impl Web {
    pub(crate) fn into_router(self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/api/v1/incidents", get(incidents::incidents))
            .route("/api/v1/gaps", get(incidents::gaps))
            .route("/api/v1/lemons", get(lemons))
            .route("/api/v1/power", get(power))
            .route("/api/v1/power/levels", get(levels))
            .route("/api/v1/past", get(past::past))
            .route("/api/v1/report", get(report::report))
            .route("/api/v1/fleet", get(fleet))
            .route("/api/v1/nodes", get(nodes))
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .with_state(self)
    }

    fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }
}

async fn page() -> impl IntoResponse {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(PAGE))
}

#[derive(Serialize)]
struct LemonList<'a> {
    days: i64,
    nodes: &'a [Lemon],
}

/// Nodes that had incidents of their own within the last four weeks: how often, how long, what it cost.
async fn lemons(State(web): State<Web>) -> Response {
    Json(LemonList { days: DAYS, nodes: &web.view().lemons }).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PowerQuery {
    #[serde(default = "five_minutes")]
    seconds: u32,
}

fn five_minutes() -> u32 {
    300
}

/// The fleet's power over the last `?seconds=300` (up to 900), the limits in force, and how far the judging is.
async fn power(State(web): State<Web>, Query(query): Query<PowerQuery>) -> Response {
    let view = web.view();
    Json(power::series(&view, query.seconds)).into_response()
}

/// The last second of every job, rack, feeder and node.
async fn levels(State(web): State<Web>) -> Response {
    Json(&web.view().swings.levels).into_response()
}

#[derive(Serialize)]
struct FleetNode<'a> {
    node: &'a str,
    rack: Option<&'a str>,
    feeder: Option<&'a str>,
    connected: bool,
    gpus: &'a [GpuCell],
}

/// Nodes, by rack and name, with their GPUs.
async fn fleet(State(web): State<Web>) -> Response {
    let view = web.view();
    fn node(node: &NodeView) -> FleetNode<'_> {
        let NodeView { node, rack, feeder, connected, gpus, .. } = node;
        FleetNode { node, rack: rack.as_deref(), feeder: feeder.as_deref(), connected: *connected, gpus }
    }
    Json(view.nodes.iter().map(node).collect::<Vec<_>>()).into_response()
}

/// What each node has sent.
async fn nodes(State(web): State<Web>) -> Response {
    Json(&web.view().nodes).into_response()
}

async fn metrics(State(web): State<Web>) -> Response {
    match web.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(web): State<Web>) -> (StatusCode, &'static str) {
    match Micros::now().since(web.view().at) > STALE_SECONDS {
        true => (StatusCode::SERVICE_UNAVAILABLE, "the judging hangs\n"),
        false => (StatusCode::OK, "ok\n"),
    }
}

async fn readyz(State(web): State<Web>) -> (StatusCode, &'static str) {
    match web.view().checkpoint_failed {
        true => (StatusCode::SERVICE_UNAVAILABLE, "checkpoints fail\n"),
        false => match healthz(State(web.clone())).await {
            // The judging goes on: whoever sends nobody here for that makes it blind.
            (StatusCode::OK, _) if web.view().recording_failed => {
                (StatusCode::OK, "ok, but recording fails: agents keep what they send\n")
            }
            health => health,
        },
    }
}
