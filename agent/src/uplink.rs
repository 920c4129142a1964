//! spool ─▶ **uplink** ═══ gRPC ═══▶ collector
//!
//! One stream, opened again with a jittered back-off whenever it ends. The spool lets go of a batch when the collector says
//! that it is durable; after a reconnect everything behind that is sent again, and the collector drops what it knows.

use crate::backoff::Backoff;
use crate::exporter::Metrics;
use crate::spool::Spool;
use anyhow::Context;
use gridstep_wire::pb::{self, collector_message::Kind};
use prost::Message;
use prost::bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// `[uplink]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The collector's gRPC address: http://host:19812 or https://….
    pub endpoint: String,
    /// PEM: who may have signed the collector's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM: this agent's own certificate and key, for mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Allows an unencrypted stream beyond loopback.
    pub insecure: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { endpoint: "http://127.0.0.1:19812".into(), ca_file: None, cert_file: None, key_file: None, insecure: false }
    }
}

impl Config {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let uri = self.endpoint.parse::<tonic::transport::Uri>().ok();
        match uri.as_ref().map(|uri| (uri.scheme_str(), uri.host())) {
            Some((Some("https"), Some(_))) => {}
            Some((Some("http"), Some(host))) => {
                let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
                let local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
                if !local && !self.insecure {
                    faults.push(format!(
                        "uplink.endpoint = \"{}\": beyond loopback use https://, or write insecure = true beside it",
                        self.endpoint
                    ));
                }
            }
            _ => faults.push(format!("uplink.endpoint = \"{}\": must be http://HOST:PORT or https://HOST:PORT", self.endpoint)),
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            faults.push("uplink.cert_file and uplink.key_file: one without the other; mutual TLS needs both".into());
        }
        let encrypted = self.endpoint.starts_with("https:");
        if encrypted && self.ca_file.is_none() {
            faults.push("uplink.ca_file: missing; https:// needs the PEM of who signed the collector's certificate".into());
        }
        if !encrypted && (self.ca_file.is_some() || self.cert_file.is_some()) {
            faults.push("uplink.ca_file, uplink.cert_file: without effect, as uplink.endpoint is not https://".into());
        }
        faults
    }
}

/// Messages handed to the stream that it has not sent yet.
const QUEUE: usize = 16;
/// Encoded bytes of batches that the collector has not acknowledged as received; no more are sent then.
const WINDOW_BYTES: usize = 1 << 20;
/// What a collector takes that does not say so: gRPC's default.
const MESSAGE_BYTES: usize = 4 << 20;
const METHOD: &str = "/gridstep.telemetry.v1.Telemetry/Stream";
/// Between two attempts: first and last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A collector that accepts the stream answers within this time.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Uplink {
    endpoint: Endpoint,
    node: String,
    spool: Arc<Spool>,
    metrics: Arc<Metrics>,
    /// The oldest batch on its way when the collector refused a message. Until it is taken one batch goes at a time, so that what
    /// is refused again is known.
    refused: Cell<Option<u64>>,
}

impl Uplink {
    pub fn new(config: &Config, node: &str, spool: Arc<Spool>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let mut endpoint = Channel::from_shared(config.endpoint.clone())?.connect_timeout(PATIENCE).tcp_nodelay(true);
        endpoint = endpoint.http2_keep_alive_interval(Duration::from_secs(10)).keep_alive_timeout(Duration::from_secs(10));
        if config.endpoint.starts_with("https") {
            endpoint = endpoint.tls_config(tls(config)?)?;
        }
        Ok(Self { endpoint, node: node.into(), spool, metrics, refused: Cell::new(None) })
    }

    /// Never ends.
    pub async fn run(self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let ended = self.stream(&mut backoff).await;
            self.metrics.connected.set(0);
            let pause = backoff.next(rand::random());
            let reason = ended.err().map_or_else(|| "the collector closed the stream".into(), |error| format!("{error:#}"));
            tracing::warn!(reason, again_in = ?pause, "no stream to the collector");
            tokio::time::sleep(pause).await;
        }
    }

    async fn stream(&self, backoff: &mut Backoff) -> anyhow::Result<()> {
        let channel = self.endpoint.connect().await.context("connecting")?;
        let (out, outgoing) = mpsc::channel(QUEUE);
        out.send(Outgoing { hello: Some(self.spool.hello(&self.node)), ..Outgoing::default() }).await?;
        let mut incoming = tokio::time::timeout(PATIENCE, open(channel, outgoing)).await.context("waiting for the stream")??;
        let first = tokio::time::timeout(PATIENCE, incoming.message()).await.context("waiting for the collector's welcome")??;
        let Some(Kind::Welcome(welcome)) = first.and_then(|message| message.kind) else {
            anyhow::bail!("the collector did not begin with a welcome");
        };
        tracing::info!(collector = welcome.collector_version, durable = welcome.durable, "stream is open");
        self.metrics.connected.set(1);
        self.spool.acknowledge(welcome.durable, welcome.durable);
        let max_bytes = if welcome.max_message_bytes == 0 { MESSAGE_BYTES } else { welcome.max_message_bytes as usize };
        let mut declared = None;
        let mut window = Window::default();
        let mut sent = welcome.durable;
        loop {
            tokio::select! {
                answer = incoming.message() => match answer {
                    Ok(Some(pb::CollectorMessage { kind: Some(Kind::Ack(ack)) })) => {
                        // One that welcomes and then hangs up is not called again at once.
                        backoff.reset();
                        self.spool.acknowledge(ack.received, ack.durable);
                        window.acknowledge(ack.received);
                        if self.refused.get().is_some_and(|refused| refused <= ack.received) {
                            self.refused.set(None);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        if status.code() == tonic::Code::InvalidArgument {
                            self.refuse(&window, status.message());
                        }
                        return Err(status).context("the stream broke");
                    }
                },
                room = out.reserve(),
                    if declared.is_none() || window.is_open(self.refused.get().is_some()) && self.spool.after(sent).is_some() => {
                    let room = room.context("the stream takes no more")?;
                    let now = self.spool.declared();
                    if !declared.as_ref().is_some_and(|declared| Arc::ptr_eq(declared, &now)) {
                        room.send(Outgoing { declare: Some((*now).clone()), ..Outgoing::default() });
                        declared = Some(now);
                    } else if let Some(batch) = self.spool.after(sent) {
                        sent = batch.sequence;
                        let message = Outgoing { batch: Some(batch.bytes.clone()), ..Outgoing::default() };
                        if message.encoded_len() > max_bytes {
                            self.discard(batch.sequence, message.encoded_len(), max_bytes);
                            continue;
                        }
                        self.metrics.sent_bytes.inc_by(batch.bytes.len() as u64);
                        window.sent(batch.sequence, batch.bytes.len());
                        room.send(message);
                    }
                }
                () = self.spool.grown.notified() => {}
            }
        }
    }

    /// A batch that is refused for what is in it will be refused for ever, and all others behind it would wait.
    fn refuse(&self, window: &Window, why: &str) {
        let Some(&(sequence, _)) = window.batches.front() else { return };
        if self.refused.replace(Some(sequence)).is_some() {
            tracing::error!(sequence, why, "dropping a batch that the collector refuses");
            self.metrics.drop_batches(1, self.spool.discard(sequence));
        }
    }

    fn discard(&self, sequence: u64, bytes: usize, max_bytes: usize) {
        tracing::warn!(sequence, bytes, max_bytes, "dropping a batch that is larger than the collector takes");
        self.metrics.drop_batches(1, self.spool.discard(sequence));
    }
}

/// [`pb::AgentMessage`], but that a batch is encoded already; on the wire they are the same.
#[derive(Clone, PartialEq, Message)]
struct Outgoing {
    #[prost(message, optional, tag = "1")]
    hello: Option<pb::Hello>,
    #[prost(message, optional, tag = "2")]
    declare: Option<pb::Declare>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    batch: Option<Bytes>,
}

async fn open(channel: Channel, outgoing: mpsc::Receiver<Outgoing>) -> anyhow::Result<tonic::Streaming<pb::CollectorMessage>> {
    let mut client = Grpc::new(channel);
    client.ready().await.context("opening the stream")?;
    let codec = tonic_prost::ProstCodec::default();
    let outgoing = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(outgoing));
    let opened = client.streaming(outgoing, PathAndQuery::from_static(METHOD), codec).await;
    Ok(opened.context("opening the stream")?.into_inner())
}

/// What was sent and not acknowledged as received.
#[derive(Debug, Default)]
struct Window {
    /// Sequences and bytes, oldest first.
    batches: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Window {
    fn is_open(&self, one_at_a_time: bool) -> bool {
        if one_at_a_time { self.batches.is_empty() } else { self.bytes < WINDOW_BYTES }
    }

    fn sent(&mut self, sequence: u64, bytes: usize) {
        self.batches.push_back((sequence, bytes));
        self.bytes += bytes;
    }

    fn acknowledge(&mut self, received: u64) {
        while let Some(&(sequence, bytes)) = self.batches.front()
            && sequence <= received
        {
            self.batches.pop_front();
            self.bytes -= bytes;
        }
    }
}

fn tls(config: &Config) -> anyhow::Result<ClientTlsConfig> {
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let mut tls = ClientTlsConfig::new();
    if let Some(path) = &config.ca_file {
        tls = tls.ca_certificate(Certificate::from_pem(read(path)?));
    }
    if let (Some(cert), Some(key)) = (&config.cert_file, &config.key_file) {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_batch_is_the_same_on_the_wire() {
        let event = pb::Event { kind: "xid".into(), code: 79, ..Default::default() };
        let batch = pb::Batch { sequence: 7, base_us: 1, events: vec![event], ..Default::default() };
        let outgoing = Outgoing { batch: Some(batch.encode_to_vec().into()), ..Default::default() };
        let message = pb::AgentMessage { kind: Some(pb::agent_message::Kind::Batch(batch)) };
        assert_eq!(outgoing.encode_to_vec(), message.encode_to_vec());
    }

    #[test]
    fn the_method_is_the_service_s() {
        assert_eq!(METHOD, format!("/{}/Stream", pb::telemetry_server::SERVICE_NAME));
    }

    #[test]
    fn the_window_closes_when_full_and_opens_as_acknowledged() {
        let mut window = Window::default();
        window.sent(3, WINDOW_BYTES - 1);
        assert!(window.is_open(false));
        window.sent(5, 10);
        assert!(!window.is_open(false));
        window.acknowledge(2);
        assert!(!window.is_open(false));
        window.acknowledge(4);
        assert!(window.is_open(false) && !window.is_open(true));
        window.acknowledge(9);
        assert_eq!(window.bytes, 0);
    }
}
