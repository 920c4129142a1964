//! A restart loses nothing and counts nothing twice.

use crate::agent::{Agent, SAMPLES};
use crate::collector::{config, json_until, start};
use gridstep_collector::server::Server;
use std::time::Duration;

#[tokio::test]
async fn a_kill_loses_nothing_that_was_called_durable() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let (mut agent, first) = Agent::join(server.grpc, "node1", 1).await;
    for sequence in 1..=5 {
        agent.send_batch(sequence).await;
    }
    let ack = agent.ack_until(|ack| ack.durable == 5).await;
    assert_eq!(ack.received, 5);
    server.kill().await;

    let server = start(state.path()).await;
    let (mut agent, second) = Agent::join(server.grpc, "node1", 1).await;
    assert_eq!(second.durable, 5);
    assert_ne!(first.instance, second.instance);
    agent.send_batch(6).await;
    agent.ack_until(|ack| ack.received == 6).await;
    json_until(&server, "/api/v1/nodes", |nodes| nodes[0]["samples"] == 6 * SAMPLES && nodes[0]["lost_batches"] == 0).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_no_checkpoint_holds_comes_again() {
    let state = tempfile::tempdir().unwrap();
    let mut rare = config(state.path());
    rare.edge.checkpoint_interval = Duration::from_secs(3600);
    let server = Server::start(rare).await.unwrap();
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    for sequence in 1..=5 {
        agent.send_batch(sequence).await;
    }
    let ack = agent.ack_until(|ack| ack.received == 5).await;
    server.kill().await;

    let server = start(state.path()).await;
    let (mut agent, welcome) = Agent::join(server.grpc, "node1", 1).await;
    assert_eq!(welcome.durable, ack.durable);
    for sequence in welcome.durable + 1..=5 {
        agent.send_batch(sequence).await;
    }
    agent.ack_until(|ack| ack.durable == 5).await;
    json_until(&server, "/api/v1/nodes", |nodes| nodes[0]["samples"] == 5 * SAMPLES && nodes[0]["lost_batches"] == 0).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_writes_what_it_has() {
    let state = tempfile::tempdir().unwrap();
    let mut rare = config(state.path());
    rare.edge.checkpoint_interval = Duration::from_secs(3600);
    let server = Server::start(rare).await.unwrap();
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    agent.send_batch(1).await;
    agent.ack_until(|ack| ack.received == 1).await;
    server.stop().await.unwrap();

    let server = start(state.path()).await;
    let (_agent, welcome) = Agent::join(server.grpc, "node1", 1).await;
    assert_eq!(welcome.durable, 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_read_is_set_aside() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("collector.state"), "not a checkpoint").unwrap();
    let server = start(state.path()).await;
    let (_agent, welcome) = Agent::join(server.grpc, "node1", 1).await;
    assert_eq!(welcome.durable, 0);
    assert!(state.path().join("collector.state.unreadable").exists());
    server.stop().await.unwrap();
}
