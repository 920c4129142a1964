//! One stream to a collector: how it is opened, and how much may be on its way.

use crate::spool::Message;
use anyhow::Context;
use gridstep_wire::pb::{self, collector_message::Kind};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

/// Messages handed to the stream that it has not sent yet.
const QUEUE: usize = 16;
/// What a collector takes that does not say so: gRPC's default.
const MESSAGE_BYTES: usize = 4 << 20;
const METHOD: &str = "/gridstep.telemetry.v1.Telemetry/Stream";
/// A collector that accepts the stream answers within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The collector has welcomed it.
pub(super) struct Stream {
    pub(super) spool: u64,
    pub(super) out: mpsc::Sender<Message>,
    pub(super) incoming: tonic::Streaming<pb::CollectorMessage>,
    pub(super) welcome: pb::Welcome,
}

impl Stream {
    /// Says `hello` as soon as somebody listens.
    pub(super) async fn open(channel: Channel, hello: impl FnOnce() -> pb::Hello) -> anyhow::Result<Self> {
        let (out, outgoing) = mpsc::channel(QUEUE);
        let mut incoming = tokio::time::timeout(PATIENCE, call(channel, outgoing)).await.context("waiting for the stream")??;
        let hello = hello();
        let spool = hello.spool;
        out.send(Message::from(hello)).await?;
        let first = tokio::time::timeout(PATIENCE, incoming.message()).await.context("waiting for the collector's welcome")??;
        let Some(Kind::Welcome(mut welcome)) = first.and_then(|message| message.kind) else {
            anyhow::bail!("the collector did not begin with a welcome");
        };
        if welcome.max_message_bytes == 0 {
            welcome.max_message_bytes = MESSAGE_BYTES as u32;
        }
        Ok(Self { spool, out, incoming, welcome })
    }

    /// None: the message can go; else its size, that is more than the collector takes.
    pub(super) fn excess(&self, message: &Message) -> Option<usize> {
        let bytes = prost::Message::encoded_len(message);
        (bytes > self.welcome.max_message_bytes as usize).then_some(bytes)
    }
}

async fn call(channel: Channel, outgoing: mpsc::Receiver<Message>) -> anyhow::Result<tonic::Streaming<pb::CollectorMessage>> {
    let mut client = Grpc::new(channel);
    client.ready().await.context("opening the stream")?;
    let codec = tonic_prost::ProstCodec::default();
    let outgoing = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(outgoing));
    let opened = client.streaming(outgoing, PathAndQuery::from_static(METHOD), codec).await;
    Ok(opened.context("opening the stream")?.into_inner())
}

/// What was sent and not acknowledged as received.
#[derive(Debug)]
pub(super) struct Window {
    /// Sequences and bytes, oldest first.
    batches: VecDeque<(u64, usize)>,
    bytes: usize,
    /// No more are sent then.
    max_bytes: usize,
}

impl Window {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, max_bytes }
    }

    pub(super) fn is_open(&self, one_at_a_time: bool) -> bool {
        if one_at_a_time { self.batches.is_empty() } else { self.bytes < self.max_bytes }
    }

    pub(super) fn sent(&mut self, sequence: u64, bytes: usize) {
        self.batches.push_back((sequence, bytes));
        self.bytes += bytes;
    }

    pub(super) fn acknowledge(&mut self, received: u64) {
        while let Some(&(sequence, bytes)) = self.batches.front()
            && sequence <= received
        {
            self.batches.pop_front();
            self.bytes -= bytes;
        }
    }

    /// The oldest batch on its way.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.batches.front().map(|batch| batch.0)
    }
}

/// Batches that a collector refuses for what is in them: they would be refused for ever, and all others behind would wait.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    /// The numbering and the oldest batch on its way when the collector refused a message. Until it is taken one batch goes at a
    /// time, so that what is refused again is known.
    suspect: Option<(u64, u64)>,
}

impl Refusal {
    pub(super) fn is_suspected(&self) -> bool {
        self.suspect.is_some()
    }

    pub(super) fn acknowledge(&mut self, spool: u64, received: u64) {
        self.suspect.take_if(|(of, sequence)| *of == spool && *sequence <= received);
    }

    /// The stream broke; gives the batch that is to be let go of, if it is known.
    pub(super) fn judge(&mut self, status: &tonic::Status, spool: u64, window: &Window) -> Option<u64> {
        let oldest = window.oldest().filter(|_| status.code() == tonic::Code::InvalidArgument)?;
        let again = self.suspect.replace((spool, oldest)).is_some_and(|(of, _)| of == spool);
        if again {
            tracing::error!(sequence = oldest, why = status.message(), "dropping a batch that the collector refuses");
        }
        again.then_some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_is_the_service_s() {
        assert_eq!(METHOD, format!("/{}/Stream", pb::telemetry_server::SERVICE_NAME));
    }

    #[test]
    fn the_window_closes_when_full_and_opens_as_acknowledged() {
        let mut window = Window::new(1000);
        window.sent(3, 999);
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

    #[test]
    fn what_is_refused_twice_is_known() {
        let status = tonic::Status::invalid_argument("batch");
        let (mut refusal, mut window) = (Refusal::default(), Window::new(1000));
        [4, 5, 6].into_iter().for_each(|sequence| window.sent(sequence, 1));
        assert_eq!(refusal.judge(&tonic::Status::unavailable("gone"), 7, &window), None);
        assert!(!refusal.is_suspected());
        assert_eq!(refusal.judge(&status, 7, &window), None);
        // One at a time now: 4 and 5 are taken.
        refusal.acknowledge(7, 3);
        assert!(refusal.is_suspected());
        let mut window = Window::new(1000);
        window.sent(4, 1);
        assert_eq!(refusal.judge(&status, 7, &window), Some(4));
        refusal.acknowledge(7, 5);
        assert!(!refusal.is_suspected());
    }
}
