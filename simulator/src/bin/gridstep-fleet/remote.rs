//! The same fleet as a time series database takes it: Prometheus remote write 1.0 over HTTP, for a comparison.
//!
//! A request holds a second of some nodes, as a shipper's would that serves a rack: what goes to the collector in a batch of its own for
//! each node is here one request for many, in the peers' favour.

use crate::Arguments;
use crate::node::{Node, Random};
use crate::tally::{Tally, add};
use anyhow::ensure;
use gridstep_wire::{Micros, block, catalog, pb};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use prost::Message;
use std::sync::{Arc, Once};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::codegen::Bytes;
use tonic::codegen::http::Request;

/// Nodes whose second goes in one request.
pub(crate) const NODES: u32 = 16;
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    /// Milliseconds.
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

type Http = Client<HttpConnector, Full<Bytes>>;

/// Runs until the program ends.
pub(crate) async fn nodes(first: u32, url: String, arguments: Arc<Arguments>, tally: Arc<Tally>) {
    let mut random = Random::new(u64::from(first) << 20 | 9);
    sleep(SECOND.mul_f64(random.unit())).await;
    let client: Http = Client::builder(TokioExecutor::new()).build_http();
    let now = Micros::now().0;
    let mut nodes: Vec<Node> =
        (first..(first + NODES).min(arguments.nodes)).map(|index| Node::new(index, &arguments, now)).collect();
    let mut due = Instant::now();
    add(&tally.connected, nodes.len() as u64);
    loop {
        due += SECOND;
        sleep_until(due).await;
        let now = Micros::now().0;
        let mut request = WriteRequest::default();
        let mut values = 0;
        for node in &mut nodes {
            let (batch, count) = node.batch(now);
            values += count;
            request.timeseries.extend(series(&node.name, &batch));
        }
        add(&tally.batches, 1);
        match post(&client, &url, &request).await {
            Ok(bytes) => {
                add(&tally.values, values);
                add(&tally.bytes, bytes);
                add(&tally.received, 1);
            }
            Err(fault) => {
                // Once is enough: it is the same for all.
                static ONCE: Once = Once::new();
                ONCE.call_once(|| eprintln!("remote write fails: {fault:#}"));
                add(&tally.lost, 1);
            }
        }
    }
}

async fn post(client: &Http, url: &str, request: &WriteRequest) -> anyhow::Result<u64> {
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())?;
    let bytes = body.len() as u64;
    let request = Request::post(url)
        .header("content-encoding", "snappy")
        .header("content-type", "application/x-protobuf")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .body(Full::new(Bytes::from(body)))?;
    let answer = client.request(request).await?;
    let status = answer.status();
    let text = answer.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&text));
    Ok(bytes)
}

/// A batch's columns as series of one GPU each.
fn series(node: &str, batch: &pb::Batch) -> Vec<TimeSeries> {
    let mut all = Vec::new();
    for table in &batch.blocks {
        let rows: Vec<(u32, i64)> = block::rows(table, batch.base_us).collect();
        for column in &table.columns {
            let metric = &catalog::GPU[column.metric as usize - 1];
            let values: Vec<f64> =
                block::values(column, rows.len()).map(|value| value.map_or(f64::NAN, |value| metric.value(value))).collect();
            for (run, values) in runs(&rows, &values) {
                let samples = run.iter().zip(values).map(|(row, &value)| Sample { value, timestamp: row.1 / 1000 }).collect();
                all.push(TimeSeries { labels: labels(metric.name, node, run[0].0 - 1), samples });
            }
        }
    }
    all
}

/// Rows of one GPU after the other, with their values.
fn runs<'a>(rows: &'a [(u32, i64)], values: &'a [f64]) -> impl Iterator<Item = (&'a [(u32, i64)], &'a [f64])> {
    let mut rest = values;
    rows.chunk_by(|a, b| a.0 == b.0).map(move |run| {
        let (own, others) = rest.split_at(run.len());
        rest = others;
        (run, own)
    })
}

/// As an exporter would label them, in the order that the protocol demands.
fn labels(metric: &str, node: &str, gpu: u32) -> Vec<Label> {
    let label = |name: &str, value: String| Label { name: name.into(), value };
    vec![label("__name__", format!("gridstep_gpu_{metric}")), label("gpu", gpu.to_string()), label("instance", node.into())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn every_value_is_a_sample_of_its_gpu() {
        let arguments = Arguments::parse_from(["gridstep-fleet"]);
        let mut node = Node::new(0, &arguments, 0);
        let (batch, count) = node.batch(2_000_000);
        let series = series(&node.name, &batch);
        assert_eq!(series.iter().map(|series| series.samples.len() as u64).sum::<u64>(), count);
        assert_eq!(series.len(), 8 * 31);
        let power = series.iter().find(|series| series.labels[0].value == "gridstep_gpu_power_watts").unwrap();
        assert!(power.samples.iter().all(|sample| (400.0..700.0).contains(&sample.value)), "{power:?}");
    }
}
