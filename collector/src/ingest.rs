//! agent ═══▶ **ingest** ─▶ align
//!
//! The agents' end of the wire. Each stream has a task that checks and decodes what comes; the task that owns the judging
//! ([`crate::live`]) takes it over a bounded queue: when that is full, streams are no longer read and agents keep what they have.
//! A malformed message ends its stream; nothing that is read is trusted.

mod declared;
mod decode;
mod put;
mod service;
mod stream;

pub use declared::{Declared, Identity};
pub use decode::{Decoded, decode};
pub(crate) use decode::{GpuTarget, NodeTarget, Table};
pub use put::put_batch;

use crate::live;
use crate::metrics::Metrics;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// A larger message is refused.
pub(crate) const MAX_MESSAGE_BYTES: u32 = 4 << 20;

/// The service that agents speak to ([`service`]).
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
