//! The service `Telemetry`, with messages as they are taken here: a batch is left as it lies in its message, and read from there
//! ([`super::decode`]). What is generated for agents would make vectors of it first.

use super::{Ingest, MAX_MESSAGE_BYTES, stream};
use gridstep_wire::pb::telemetry_server::SERVICE_NAME;
use gridstep_wire::pb::{CollectorMessage, Declare, Hello};
use prost::bytes::Bytes;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// Its only method.
const METHOD: &str = "Stream";

/// Messages to an agent that wait for the network; acknowledgements coalesce before they get here.
const OUTBOUND_MESSAGES: usize = 4;

/// An `AgentMessage`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Inbound {
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Declare(Declare),
    /// Of a `Batch`.
    #[prost(bytes = "bytes", tag = "3")]
    Batch(Bytes),
}

impl NamedService for Ingest {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<http::Request<B>> for Ingest
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let path = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        if path != Some((SERVICE_NAME, METHOD)) {
            return Box::pin(ready(Ok(Status::unimplemented("there is no such method").into_http())));
        }
        let ingest = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<CollectorMessage, Inbound>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE_BYTES as usize);
            Ok(grpc.streaming(ingest, request).await)
        })
    }
}

impl StreamingService<Inbound> for Ingest {
    type Response = CollectorMessage;
    type ResponseStream = ReceiverStream<Result<CollectorMessage, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Inbound>>) -> Self::Future {
        let (outbound, answers) = mpsc::channel(OUTBOUND_MESSAGES);
        tokio::spawn(stream::serve(self.clone(), request.into_inner(), outbound));
        ready(Ok(Response::new(ReceiverStream::new(answers))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridstep_wire::pb::{AgentMessage, Batch, agent_message};
    use prost::Message;

    #[test]
    fn messages_are_those_of_the_protocol() {
        let hello = Hello { node: "n1".into(), spool: 7, ..Hello::default() };
        let declare = Declare { jobs: vec![Default::default()], ..Declare::default() };
        let batch = Batch { sequence: 3, base_us: 5, ..Batch::default() };
        let read = |kind| Inbound::decode(AgentMessage { kind: Some(kind) }.encode_to_vec().as_slice()).unwrap().kind.unwrap();
        assert_eq!(read(agent_message::Kind::Hello(hello.clone())), Kind::Hello(hello));
        assert_eq!(read(agent_message::Kind::Declare(declare.clone())), Kind::Declare(declare));
        let bytes = batch.encode_to_vec().into();
        assert_eq!(read(agent_message::Kind::Batch(batch)), Kind::Batch(bytes));
    }
}
