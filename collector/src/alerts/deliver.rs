//! Says alerts to Alertmanagers, each in a task of its own: one that hangs holds up nobody else, and never the judging.
//!
//! API: `POST /api/v2/alerts` (Alertmanager's api/v2/openapi.yaml).

use super::Alert;
use super::config::{AlertmanagerConfig, AlertsConfig};
use super::outbox::Outbox;
use crate::incidents::rfc3339;
use crate::live::View;
use crate::metrics::{AlertMetrics, Metrics};
use crate::trust;
use anyhow::{Context, Result, ensure};
use axum::body::Bytes;
use axum::http::{Request, Uri, header};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use gridstep_wire::Micros;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Alerts in one request, as Prometheus has it.
const BATCH: usize = 64;
/// As much of a refusal is read, bytes.
const REFUSAL: usize = 4096;

/// Starts a task for each instance; they end when the set is dropped.
pub(crate) fn start(config: &AlertsConfig, view: &watch::Receiver<Arc<View>>, metrics: &Metrics) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for one in &config.alertmanager {
        let courier = Courier {
            post: Post::new(one).with_context(|| format!("prepare to talk to Alertmanager {}", one.url))?,
            outbox: Outbox::new(config),
            expire_us: config.expire_after.as_micros() as i64,
            page: config.external_url.clone(),
            metrics: metrics.alertmanager(&one.url),
            name: one.url.clone(),
        };
        tasks.spawn(courier.run(view.clone()));
    }
    Ok(tasks)
}

/// Says to one instance what it has yet to hear.
struct Courier {
    name: String,
    post: Post,
    outbox: Outbox,
    expire_us: i64,
    page: Option<String>,
    metrics: AlertMetrics,
}

impl Courier {
    /// Until the judging ends. A view comes once a second: that is the clock.
    async fn run(mut self, mut view: watch::Receiver<Arc<View>>) {
        let mut pauses: Option<ExponentialBackoff> = None;
        loop {
            let alerts = view.borrow_and_update().alerts.clone();
            match self.say(&alerts).await {
                Ok(()) if pauses.take().is_some() => info!(alertmanager = self.name, "alerts are delivered again"),
                Ok(()) => {}
                Err(error) => {
                    self.metrics.failures.inc();
                    if pauses.is_none() {
                        warn!(alertmanager = self.name, "failed to deliver alerts, trying on: {error:#}");
                    }
                    sleep(pauses.get_or_insert_with(backoff).next().unwrap_or(LONGEST_PAUSE)).await;
                }
            }
            if view.changed().await.is_err() {
                return;
            }
        }
    }

    async fn say(&mut self, alerts: &[Alert]) -> Result<()> {
        let due = self.outbox.due(alerts, Instant::now());
        self.metrics.waiting.set(due.len() as i64);
        if due.is_empty() && !self.outbox.is_silent(Instant::now()) {
            return Ok(());
        }
        let mut batches: Vec<&[&Alert]> = due.chunks(BATCH).collect();
        if batches.is_empty() {
            batches.push(&[]);
        }
        for batch in batches {
            let body: Vec<Value> = batch.iter().map(|alert| self.json(alert)).collect();
            self.post.send(&Value::Array(body)).await?;
            self.outbox.delivered(batch, alerts, Instant::now());
            self.metrics.sent.inc_by(batch.len() as u64);
            self.metrics.last_success.set(Micros::now().seconds());
        }
        self.metrics.waiting.set(0);
        Ok(())
    }

    /// What goes on ends by itself, if nobody says it again.
    fn json(&self, alert: &Alert) -> Value {
        let ends = alert.ended_at.unwrap_or_else(|| Micros::now().max(alert.started_at) + self.expire_us);
        json!({
            "labels": alert.labels, "annotations": alert.annotations, "generatorURL": self.page.as_deref().unwrap_or_default(),
            "startsAt": rfc3339(alert.started_at), "endsAt": rfc3339(ends),
        })
    }
}

fn backoff() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
    builder.with_jitter().without_max_times().build()
}

/// The one request that there is.
struct Post {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    to: Uri,
    authorization_file: Option<PathBuf>,
}

impl Post {
    fn new(config: &AlertmanagerConfig) -> Result<Self> {
        let to = format!("{}/api/v2/alerts", config.url.trim_end_matches('/')).parse()?;
        let tls = trust::client(config.url.starts_with("https://"), config.ca_file.as_deref())?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, to, authorization_file: config.authorization_file.clone() })
    }

    async fn send(&self, body: &Value) -> Result<()> {
        let mut request = Request::post(self.to.clone()).header(header::CONTENT_TYPE, "application/json");
        if let Some(file) = &self.authorization_file {
            let value = tokio::fs::read_to_string(file).await.with_context(|| format!("read {}", file.display()))?;
            request = request.header(header::AUTHORIZATION, value.trim());
        }
        let request = request.body(Full::from(body.to_string())).context("make the request")?;
        timeout(PATIENCE, self.answer(request)).await.context("no answer within 10 s")?
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<()> {
        let answer = self.client.request(request).await?;
        let status = answer.status();
        // To the end, so that the connection can be used again.
        let body = Limited::new(answer.into_body(), REFUSAL).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body).trim());
        Ok(())
    }
}
