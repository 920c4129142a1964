//! What is streamed shows, and counts once.

use crate::agent::{Agent, SAMPLES};
use crate::collector::{get, json, json_until, start};
use serde_json::Value;
use tonic::Code;

#[tokio::test]
async fn what_is_streamed_shows() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let (mut agent, welcome) = Agent::join(server.grpc, "node1", 1).await;
    assert_eq!(welcome.durable, 0);
    agent.send_batch(1).await;
    agent.ack_until(|ack| ack.received == 1).await;
    let nodes = json_until(&server, "/api/v1/nodes", |nodes| nodes[0]["samples"] == SAMPLES).await;
    assert_eq!(nodes[0]["node"], "node1");
    assert_eq!(nodes[0]["connected"], true);
    let fleet = json(&server, "/api/v1/fleet").await;
    assert_eq!(fleet[0]["gpus"].as_array().unwrap().len(), 8);
    assert_eq!(fleet[0]["gpus"][3]["uuid"], "GPU-3");
    let metrics = get(&server, "/metrics").await;
    assert!(metrics.contains(&format!("gridstep_collector_samples_total {SAMPLES}\n")), "{metrics}");
    assert!(metrics.contains("gridstep_collector_unknown_samples_total 8\n"), "{metrics}");
    assert!(metrics.contains("gridstep_collector_streams 1\n"), "{metrics}");
    assert_eq!(get(&server, "/healthz").await, "ok\n");
    assert!(get(&server, "/").await.contains("<title>gridstep</title>"));
    server.stop().await.unwrap();
    assert_eq!(agent.end().await.unwrap().code(), Code::Unavailable);
}

#[tokio::test]
async fn power_of_a_second_is_judged_and_shows() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    let seen = json_until(&server, "/api/v1/power", |power| power["points"].as_array().is_some_and(|points| !points.is_empty()));
    let power = tokio::select! { power = seen => power, () = agent.feed() => unreachable!() };
    let watts = power["points"][0]["watts"].as_f64().unwrap();
    assert!((watts - 4800.0).abs() < 1.0, "{power:#}");
    // … and is kept, of the whole and of each GPU.
    let some = |past: &Value| past["power_watts"].as_array().is_some_and(|watts| watts.iter().any(|watts| !watts.is_null()));
    let of_all = json_until(&server, "/api/v1/past?seconds=5", some);
    let of_all = tokio::select! { past = of_all => past, () = agent.feed() => unreachable!() };
    assert_eq!((&of_all["step_seconds"], &of_all["power_watts"][0]), (&0.1.into(), &4800.0.into()), "{of_all:#}");
    let of_one = json_until(&server, "/api/v1/past?node=node1&gpu=3", some);
    let of_one = tokio::select! { past = of_one => past, () = agent.feed() => unreachable!() };
    let last = of_one["power_watts"].as_array().and_then(|watts| watts.last().cloned());
    assert_eq!((&of_one["step_seconds"], last), (&1.0.into(), Some(600.0.into())), "{of_one:#}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_batch_that_comes_again_counts_once() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    for sequence in 1..=3 {
        agent.send_batch(sequence).await;
    }
    agent.ack_until(|ack| ack.received == 3).await;
    drop(agent);
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    for sequence in 1..=4 {
        agent.send_batch(sequence).await;
    }
    agent.ack_until(|ack| ack.received == 4).await;
    json_until(&server, "/api/v1/nodes", |nodes| nodes[0]["samples"] == 4 * SAMPLES && nodes[0]["lost_batches"] == 0).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_newest_stream_of_a_node_replaces_the_one_before() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let (mut old, _) = Agent::join(server.grpc, "node1", 1).await;
    let (mut new, _) = Agent::join(server.grpc, "node1", 1).await;
    assert_eq!(old.end().await.unwrap().code(), Code::Aborted);
    new.send_batch(1).await;
    new.ack_until(|ack| ack.received == 1).await;
    server.stop().await.unwrap();
}
