//! agent ═══▶ **ingest** ─▶ align
//!
//! The agents' end of the wire. Each stream has a task that checks and decodes what comes; the task that owns the judging
//! ([`crate::live`]) takes it over a bounded queue: when that is full, streams are no longer read and agents keep what they have.
//! A malformed message ends its stream; nothing that is read is trusted.

mod declared;
mod decode;
mod put;
mod stream;

pub use declared::{Declared, Identity};
pub use decode::{Decoded, decode};
pub(crate) use decode::{GpuTarget, NodeTarget, Table};
pub use put::put_batch;

use crate::live;
use crate::metrics::Metrics;
use gridstep_wire::pb::telemetry_server::{Telemetry, TelemetryServer};
use gridstep_wire::pb::{AgentMessage, CollectorMessage};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// A larger message is refused.
pub(crate) const MAX_MESSAGE_BYTES: u32 = 4 << 20;

/// Messages to an agent that wait for the network; acknowledgements coalesce before they get here.
const OUTBOUND_MESSAGES: usize = 4;

/// Serves [`Telemetry`].
#[derive(Clone)]
pub(crate) struct Ingest {
    pub(crate) live: mpsc::Sender<live::Message>,
    pub(crate) metrics: Arc<Metrics>,
    /// Names this run of the collector.
    pub(crate) instance: u64,
    /// One batch of all backlogs is decoded or waits for the judging at a time: what is live goes first.
    pub(crate) backlog_turn: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
}

impl Ingest {
    pub(crate) fn into_service(self) -> TelemetryServer<Self> {
        TelemetryServer::new(self).max_decoding_message_size(MAX_MESSAGE_BYTES as usize)
    }
}

#[tonic::async_trait]
impl Telemetry for Ingest {
    type StreamStream = ReceiverStream<Result<CollectorMessage, Status>>;

    async fn stream(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::StreamStream>, Status> {
        let (outbound, answers) = mpsc::channel(OUTBOUND_MESSAGES);
        tokio::spawn(stream::serve(self.clone(), request.into_inner(), outbound));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// What an agent did wrong; told to it, and counted by its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{0}")]
    Hello(String),
    #[error("the stream does not open with hello")]
    NoHello,
    #[error("message says nothing")]
    Empty,
    #[error("hello comes twice")]
    SecondHello,
    #[error("declare: {0}")]
    Declare(String),
    #[error("batch {sequence}: {fault}")]
    Batch { sequence: u64, fault: String },
}

impl Malformed {
    /// The label of its counter.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Hello(_) | Self::NoHello | Self::SecondHello => "hello",
            Self::Empty => "empty",
            Self::Declare(_) => "declare",
            Self::Batch { .. } => "batch",
        }
    }
}
