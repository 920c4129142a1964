//! spool ─▶ **uplink** ═══ gRPC ═══▶ collector
//!
//! One stream, opened again with a jittered back-off whenever it ends. The spool lets go of a batch when the collector says
//! that it is durable; after a reconnect everything behind that is sent again, and the collector drops what it knows.

use crate::backoff::Backoff;
use crate::exporter::Metrics;
use crate::spool::Spool;
use anyhow::Context;
use gridstep_wire::pb::{self, telemetry_client::TelemetryClient};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
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

/// Batches handed to the stream that it has not sent yet.
const IN_FLIGHT: usize = 16;
/// Between two attempts: first and last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A collector that accepts the stream answers within this time.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Uplink {
    endpoint: Endpoint,
    node: String,
    spool: Arc<Spool>,
    metrics: Arc<Metrics>,
}

impl Uplink {
    pub fn new(config: &Config, node: &str, spool: Arc<Spool>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let mut endpoint = Channel::from_shared(config.endpoint.clone())?.connect_timeout(PATIENCE).tcp_nodelay(true);
        endpoint = endpoint.http2_keep_alive_interval(Duration::from_secs(10)).keep_alive_timeout(Duration::from_secs(10));
        if config.endpoint.starts_with("https") {
            endpoint = endpoint.tls_config(tls(config)?)?;
        }
        Ok(Self { endpoint, node: node.into(), spool, metrics })
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
        let (out, outgoing) = mpsc::channel(IN_FLIGHT);
        out.send(message(pb::agent_message::Kind::Hello(self.spool.hello(&self.node)))).await?;
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        let opened = tokio::time::timeout(PATIENCE, TelemetryClient::new(channel).stream(outgoing)).await;
        let mut incoming = opened.context("waiting for the stream")?.context("opening the stream")?.into_inner();
        let first = tokio::time::timeout(PATIENCE, incoming.message()).await.context("waiting for the collector's welcome")??;
        let Some(pb::collector_message::Kind::Welcome(welcome)) = first.and_then(|message| message.kind) else {
            anyhow::bail!("the collector did not begin with a welcome");
        };
        tracing::info!(collector = welcome.collector_version, durable = welcome.durable, "stream is open");
        backoff.reset();
        self.metrics.connected.set(1);
        self.spool.durable(welcome.durable);
        let mut declared = self.spool.declared();
        out.send(message(pb::agent_message::Kind::Declare(declared.clone()))).await?;
        let mut sent = welcome.durable;
        loop {
            tokio::select! {
                answer = incoming.message() => match answer.context("the stream broke")?.map(|message| message.kind) {
                    Some(Some(pb::collector_message::Kind::Ack(ack))) => self.spool.durable(ack.durable),
                    Some(_) => {}
                    None => return Ok(()),
                },
                room = out.reserve(), if self.spool.after(sent).is_some() => {
                    let room = room.context("the stream takes no more")?;
                    let now = self.spool.declared();
                    if now != declared {
                        declared = now;
                        room.send(message(pb::agent_message::Kind::Declare(declared.clone())));
                    } else if let Some(batch) = self.spool.after(sent) {
                        sent = batch.sequence;
                        self.metrics.sent_bytes.inc_by(batch.encoded_len() as u64);
                        room.send(message(pb::agent_message::Kind::Batch((*batch).clone())));
                    }
                }
                () = self.spool.grown.notified() => {}
            }
        }
    }
}

fn message(kind: pb::agent_message::Kind) -> pb::AgentMessage {
    pb::AgentMessage { kind: Some(kind) }
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
