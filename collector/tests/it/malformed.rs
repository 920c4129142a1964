//! Nothing that is read is trusted.

use crate::agent::{Agent, batch, channel, declare, hello};
use crate::collector::{get, start};
use gridstep_wire::pb::agent_message::Kind;
use tonic::{Code, Status};

/// How a stream of these words ends.
async fn refused(words: Vec<Kind>) -> Status {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let status = match Agent::open(channel(server.grpc).await, words).await {
        Ok(mut agent) => agent.end().await.expect("a refusal"),
        Err(status) => status,
    };
    let metrics = get(&server, "/metrics").await;
    let counted =
        metrics.lines().any(|line| line.starts_with("gridstep_collector_rejected_messages_total{") && line.ends_with(" 1"));
    assert!(counted, "{metrics}");
    server.stop().await.unwrap();
    status
}

#[track_caller]
fn says(status: &Status, words: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains(words), "{status}");
}

#[tokio::test]
async fn a_stream_opens_with_hello() {
    says(&refused(vec![declare()]).await, "hello");
}

#[tokio::test]
async fn a_name_that_is_no_node_name_is_refused() {
    says(&refused(vec![hello("node\n1", 1)]).await, "name");
    says(&refused(vec![hello("", 1)]).await, "0 bytes");
}

#[tokio::test]
async fn ids_that_are_not_declared_are_refused() {
    says(&refused(vec![hello("node1", 1), Kind::Batch(batch(1))]).await, "batch 1: block 0: entity 1 is not declared");
}

#[tokio::test]
async fn a_block_whose_lengths_disagree_is_refused() {
    let mut batch = batch(1);
    batch.blocks[0].columns[0].delta.pop();
    says(&refused(vec![hello("node1", 1), declare(), Kind::Batch(batch)]).await, "7 values for 8 rows");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let (mut agent, welcome) = Agent::join(server.grpc, "node1", 1).await;
    let mut batch = batch(1);
    batch.events = vec![Default::default()];
    batch.events[0].detail = "x".repeat(welcome.max_message_bytes as usize);
    agent.send(Kind::Batch(batch)).await;
    assert_eq!(agent.end().await.unwrap().code(), Code::OutOfRange);
    server.stop().await.unwrap();
}
