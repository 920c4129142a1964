//! A collector that keeps what it is sent, acknowledges it, and breaks streams on demand.

use gridstep_wire::pb::telemetry_server::{Telemetry, TelemetryServer};
use gridstep_wire::{block, pb};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::transport::ServerTlsConfig;
use tonic::{Request, Response, Status, Streaming};

/// What it takes, where a test does not say otherwise.
const MESSAGE_BYTES: u32 = 4 << 20;

/// Everything that agents have said.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) hello: Option<pb::Hello>,
    pub(crate) streams: usize,
    pub(crate) sequences: Vec<u64>,
    pub(crate) refusals: usize,
    /// In the order of arrival, live or not.
    pub(crate) arrivals: Vec<Arrival>,
    declared: pb::Declare,
    /// Of live streams.
    batches: Vec<pb::Batch>,
    start: f64,
    /// Declared anew after a batch, while terse.
    pub(crate) asked: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) spool: u64,
    pub(crate) backlog: bool,
    pub(crate) batch: pb::Batch,
}

/// What one stream has said of itself.
#[derive(Default)]
struct Speaker {
    hello: pb::Hello,
    declared: pb::Declare,
}

impl Seen {
    /// Second 0 of the scenario, since the epoch.
    pub(crate) fn start(&self) -> f64 {
        self.start
    }

    pub(crate) fn batches(&self) -> &[pb::Batch] {
        &self.batches
    }

    pub(crate) fn gpus(&self) -> usize {
        self.declared.entities.iter().filter(|entity| matches!(entity.what, Some(pb::entity::What::Gpu(_)))).count()
    }

    /// As they were declared last.
    pub(crate) fn jobs(&self) -> &[pb::Job] {
        &self.declared.jobs
    }

    /// Entity, stamp (microseconds) and integer of every value of a metric.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = (u32, i64, i64)> + '_ {
        let id = self.id(name);
        self.batches.iter().flat_map(move |batch| values(batch, id))
    }

    /// The same of one batch.
    pub(crate) fn values_of(&self, batch: &pb::Batch, name: &str) -> Vec<(u32, i64, i64)> {
        values(batch, self.id(name))
    }

    fn id(&self, name: &str) -> Option<u32> {
        self.declared.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.id)
    }

    /// When the event came first, seconds since the scenario's start.
    pub(crate) fn event(&self, kind: &str, entity: u32) -> Option<f64> {
        let events =
            self.batches.iter().flat_map(|batch| batch.events.iter().map(move |event| (batch.base_us + event.dt_us, event)));
        let found = events.filter(|(_, event)| event.kind == kind && event.entity == entity).map(|(at, _)| at).min()?;
        Some(found as f64 / 1e6 - self.start)
    }
}

fn values(batch: &pb::Batch, id: Option<u32>) -> Vec<(u32, i64, i64)> {
    let mut out = Vec::new();
    for table in &batch.blocks {
        block::validate(table).expect("a valid block");
        let Some(column) = table.columns.iter().find(|column| Some(column.metric) == id) else { continue };
        let values = block::values(column, table.dt_us.len());
        let rows = block::rows(table, batch.base_us).zip(values);
        out.extend(rows.filter_map(|((entity, ts), value)| Some((entity, ts, value?))));
    }
    out
}

#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: String,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    breaks: watch::Sender<u32>,
    max_message_bytes: u32,
    /// Acknowledges nothing.
    mute: Arc<AtomicBool>,
    /// Acknowledges batches when something is declared anew.
    terse: Arc<AtomicBool>,
    /// Takes no streams.
    away: Arc<AtomicBool>,
    /// Refuses the batch of this sequence; 0: none.
    refuse: Arc<AtomicU64>,
}

impl Collector {
    /// One that takes no larger messages.
    pub(crate) async fn start_narrow(max_message_bytes: u32) -> Self {
        Self::serve("http", tonic::transport::Server::builder(), max_message_bytes).await
    }

    pub(crate) async fn start() -> Self {
        Self::start_narrow(MESSAGE_BYTES).await
    }

    /// Over TLS, with this certificate, for agents that show one of their own.
    pub(crate) async fn start_mutual_tls(tls: ServerTlsConfig) -> Self {
        Self::serve("https", tonic::transport::Server::builder().tls_config(tls).expect("a TLS configuration"), MESSAGE_BYTES)
            .await
    }

    async fn serve(scheme: &str, mut server: tonic::transport::Server, max_message_bytes: u32) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("{scheme}://localhost:{}", listener.local_addr().expect("an address").port());
        let start = crate::node::scenario_start();
        let seen = Arc::new(Mutex::new(Seen { start, ..Seen::default() }));
        let breaks = watch::channel(0).0;
        let (mute, terse, away, refuse) = Default::default();
        let collector = Self { address, seen, changed: Arc::default(), breaks, max_message_bytes, mute, terse, away, refuse };
        let service = TelemetryServer::new(collector.clone());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(server.add_service(service).serve_with_incoming(incoming));
        collector
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().expect("seen").clone()
    }

    pub(crate) fn mute(&self) {
        self.mute.store(true, Ordering::Relaxed);
    }

    pub(crate) fn be_terse(&self) {
        self.terse.store(true, Ordering::Relaxed);
    }

    /// Ends all streams, and takes none until it comes back.
    pub(crate) fn go_away(&self) {
        self.away.store(true, Ordering::Relaxed);
        self.drop_streams();
    }

    pub(crate) fn come_back(&self) {
        self.away.store(false, Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self, sequence: u64) {
        self.refuse.store(sequence, Ordering::Relaxed);
    }

    pub(crate) fn drop_streams(&self) {
        self.breaks.send_modify(|count| *count += 1);
    }

    /// Waits until the condition holds.
    pub(crate) async fn wait(&self, seconds: f64, condition: impl Fn(&Seen) -> bool) -> Seen {
        let waited = tokio::time::timeout(Duration::from_secs_f64(seconds), async {
            loop {
                let changed = self.changed.notified();
                if condition(&self.seen.lock().expect("seen")) {
                    return;
                }
                changed.await;
            }
        });
        assert!(waited.await.is_ok(), "the condition did not come to hold within {seconds} s");
        self.seen()
    }

    fn take(&self, speaker: &mut Speaker, message: pb::AgentMessage) -> Result<Option<pb::CollectorMessage>, Status> {
        let mut seen = self.seen.lock().expect("seen");
        let answer = match message.kind.expect("a message says something") {
            pb::agent_message::Kind::Hello(hello) => {
                speaker.hello = hello.clone();
                if !hello.backlog {
                    seen.streams += 1;
                    seen.hello = Some(hello);
                }
                let welcome =
                    pb::Welcome { max_message_bytes: self.max_message_bytes, takes_backlog: true, ..Default::default() };
                Some(pb::collector_message::Kind::Welcome(welcome))
            }
            pb::agent_message::Kind::Declare(declare) => {
                if !speaker.hello.backlog {
                    seen.declared = declare.clone();
                }
                speaker.declared = declare;
                let received = seen.sequences.last().copied().filter(|_| self.terse.load(Ordering::Relaxed));
                seen.asked += u32::from(received.is_some());
                received.map(|received| pb::collector_message::Kind::Ack(pb::Ack { received, durable: 0 }))
            }
            pb::agent_message::Kind::Batch(batch) => {
                let blocks = batch.blocks.iter().flat_map(|block| block::rows(block, 0)).map(|(entity, _)| entity);
                let declared = |entity: u32| entity == 0 || speaker.declared.entities.iter().any(|known| known.id == entity);
                let known = blocks.chain(batch.events.iter().map(|event| event.entity)).all(declared);
                if !known || batch.sequence == self.refuse.load(Ordering::Relaxed) {
                    seen.refusals += 1;
                    self.changed.notify_waiters();
                    return Err(Status::invalid_argument(format!("batch {}", batch.sequence)));
                }
                let pb::Hello { spool, backlog, .. } = speaker.hello;
                seen.arrivals.push(Arrival { spool, backlog, batch: batch.clone() });
                // What is live is durable well behind received: what lies between must be sent again after a break.
                let durable = if backlog { batch.sequence } else { batch.sequence.saturating_sub(5) };
                let ack = pb::Ack { received: batch.sequence, durable };
                if !backlog {
                    seen.sequences.push(batch.sequence);
                    seen.batches.push(batch);
                }
                let silent = self.mute.load(Ordering::Relaxed) || self.terse.load(Ordering::Relaxed);
                (!silent).then_some(pb::collector_message::Kind::Ack(ack))
            }
        };
        drop(seen);
        self.changed.notify_waiters();
        Ok(answer.map(|kind| pb::CollectorMessage { kind: Some(kind) }))
    }
}

#[tonic::async_trait]
impl Telemetry for Collector {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<pb::CollectorMessage, Status>> + Send>>;

    async fn stream(&self, request: Request<Streaming<pb::AgentMessage>>) -> Result<Response<Self::StreamStream>, Status> {
        if self.away.load(Ordering::Relaxed) {
            return Err(Status::unavailable("away"));
        }
        let mut incoming = request.into_inner();
        let mut speaker = Speaker::default();
        let (answers, stream) = mpsc::channel(64);
        let (own, mut breaks) = (self.clone(), self.breaks.subscribe());
        breaks.mark_unchanged();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = breaks.changed() => return,
                    message = incoming.message() => {
                        let Ok(Some(message)) = message else { return };
                        let answer = own.take(&mut speaker, message);
                        let refused = answer.is_err();
                        if let Some(answer) = answer.transpose() && (answers.send(answer).await.is_err() || refused) {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
