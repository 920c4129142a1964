//! The running collector: its listeners, its tasks, and their end.

mod intake;
mod listen;

use crate::alerts;
use crate::config::Config;
use crate::ingest::Ingest;
use crate::live::{Live, QUEUE_MESSAGES, View};
use crate::metrics::Metrics;
use crate::recorder::Recorder;
use crate::state::Basis;
use crate::store::Store;
use crate::topology;
use crate::web::Web;
use anyhow::{Context, Result, anyhow};
use gridstep_wire::Micros;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How long streams and requests have to end; then the last checkpoint is written all the same.
const DRAIN: Duration = Duration::from_secs(2);

/// A collector that listens. Dropping it leaves the tasks running: call [`Server::stop`].
#[derive(Debug)]
pub struct Server {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    /// Streams and requests end.
    edge_stop: CancellationToken,
    edge: Vec<JoinHandle<Result<()>>>,
    live_stop: CancellationToken,
    live: JoinHandle<Result<()>>,
    /// End with the server: whoever comes after it says everything again.
    _couriers: JoinSet<()>,
    view: watch::Receiver<Arc<View>>,
}

impl Server {
    /// Takes up from the checkpoint and listens. Fails where it could not do its work.
    pub async fn start(config: Config) -> Result<Self> {
        let places = config.edge.topology.as_deref().map(topology::read).transpose()?.unwrap_or_default();
        let metrics = Arc::new(Metrics::new().context("register metrics")?);
        let store = Store::open(&config.edge.state_dir)?;
        let history = Arc::new(store.history());
        let recorder = config.edge.recorder.enabled.then(|| {
            let folder = config.edge.recorder.folder(&config.edge.state_dir);
            Recorder::start(&folder, config.edge.recorder.clone(), config.edge.topology.as_deref(), metrics.recorder.clone())
        });
        let mut recorder = recorder.transpose()?;
        let upload = recorder.as_mut().and_then(Recorder::take_upload);
        let basis = Basis { config: config.judge, places };
        let keeping = &config.edge.store;
        let (live, view) = Live::new(store, basis, keeping, config.edge.alerts.clone(), recorder, metrics.clone())?;
        let grpc = listen::bind(config.edge.grpc.listen).await?;
        let http = listen::bind(config.edge.http.listen).await?;
        let (grpc_address, http_address) = (grpc.local_addr()?, http.local_addr()?);
        let builder = listen::grpc(config.edge.grpc.tls.as_ref())?;

        let mut couriers = alerts::start(&config.edge.alerts, &view, &metrics)?;
        upload.map(|upload| couriers.spawn(upload.run()));
        let (edge_stop, live_stop) = (CancellationToken::new(), CancellationToken::new());
        let (sender, inbound) = mpsc::channel(QUEUE_MESSAGES);
        let period = config.edge.checkpoint_interval;
        let stop = live_stop.clone();
        let live = tokio::spawn(async move { live.run(inbound, period, stop).await.context("write the last checkpoint") });
        let backlog_turn = Arc::new(Semaphore::new(1));
        let ingest =
            Ingest { live: sender, metrics: metrics.clone(), instance: instance(), backlog_turn, stop: edge_stop.clone() };
        let router = Web { view: view.clone(), metrics, history }.into_router();
        let edge = vec![
            tokio::spawn(intake::serve(builder, grpc, ingest, edge_stop.clone())),
            tokio::spawn(listen::serve_http(http, router, edge_stop.clone())),
        ];
        info!(grpc = %grpc_address, http = %http_address, "collector listens");
        Ok(Self { grpc: grpc_address, http: http_address, edge_stop, edge, live_stop, live, _couriers: couriers, view })
    }

    /// What the judging publishes each second.
    pub(crate) fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Waits until a task ends by itself, which none should.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = |result: Result<Result<()>, tokio::task::JoinError>| match result {
            Ok(Ok(())) => anyhow!("a listener has ended"),
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        };
        let [grpc, http] = &mut self.edge[..] else { return anyhow!("no listeners") };
        tokio::select! {
            result = grpc => ended(result),
            result = http => ended(result),
            result = &mut self.live => ended(result),
        }
    }

    /// Ends the streams, judges what still waits, writes a last checkpoint.
    pub async fn stop(self) -> Result<()> {
        self.edge_stop.cancel();
        let deadline = tokio::time::Instant::now() + DRAIN;
        for mut task in self.edge {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.live_stop.cancel();
        self.live.await?
    }

    /// Dies as by a kill: without a last checkpoint. For tests.
    #[doc(hidden)]
    pub async fn kill(self) {
        self.live.abort();
        let _ = self.live.await;
        self.edge_stop.cancel();
        for task in self.edge {
            task.abort();
            let _ = task.await;
        }
    }
}

/// Names this run.
fn instance() -> u64 {
    (Micros::now().0 as u64) ^ (u64::from(std::process::id()) << 48)
}
