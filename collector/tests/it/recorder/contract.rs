//! Columns and types, as ../shared/contracts/recording.md has them.

use super::{everything, files, read, recording};
use crate::agent::Agent;
use crate::scenarios::shared;
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt8Type, UInt32Type};
use arrow_schema::{DataType, Schema, TimeUnit};
use gridstep_collector::server::Server;
use gridstep_wire::Micros;
use gridstep_wire::pb::agent_message::Kind;
use std::collections::BTreeMap;

/// (column, type) of the table under a heading of the contract that begins so.
pub(crate) fn table(text: &str, heading: &str) -> BTreeMap<String, String> {
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    rows(section)
}

pub(crate) fn rows(section: &str) -> BTreeMap<String, String> {
    let lines = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|---"));
    let cells = lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .flat_map(|cells| cells[1].split(", ").map(move |name| (name.to_owned(), cells[2].to_owned())).collect::<Vec<_>>())
        .collect()
}

pub(crate) fn told(of: &DataType) -> String {
    match of {
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => format!("timestamp[us, {zone}]"),
        DataType::Dictionary(..) => "string (dictionary)".into(),
        DataType::Boolean => "bool".into(),
        other => other.to_string().to_lowercase(),
    }
}

fn check(schema: &Schema, of: &str, keys: &BTreeMap<String, String>, columns: &BTreeMap<String, String>) {
    for field in schema.fields() {
        let wanted = keys.get(field.name()).or_else(|| columns.get(field.name()));
        assert_eq!(Some(&told(field.data_type())), wanted, "{of}: {}", field.name());
    }
    for column in columns.keys() {
        assert!(schema.field_with_name(column).is_ok(), "{of} has no {column}");
    }
}

#[tokio::test]
async fn columns_and_types_are_the_contracts() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::start(recording(state.path())).await.unwrap();
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    agent.send(Kind::Batch(everything(1, Micros::now().0))).await;
    agent.ack_until(|ack| ack.durable == 1).await;
    server.stop().await.unwrap();
    let schema = |prefix: &str| read(&files(&state.path().join("recording"), prefix)[0])[0].schema();
    let text = std::fs::read_to_string(shared("contracts/recording.md")).unwrap();
    let keys = rows(text.split("\n## ").next().unwrap());
    let mut gpu = table(&text, "gpu-*.parquet");
    gpu.remove("column");
    // In the text above the table.
    gpu.insert("job".into(), "string (dictionary)".into());
    check(&schema("gpu-"), "gpu-*", &keys, &gpu);
    check(&schema("power-"), "power-*", &keys, &BTreeMap::from([("power_watts".into(), "float32".into())]));
    let node = schema("node-");
    for name in ["job", "boot", "power_watts", "cpu_pressure_ratio", "network_errors_total", "clock_error_seconds"] {
        assert!(node.field_with_name(name).is_ok(), "{name}");
    }
    let event = schema("event-");
    assert_eq!(told(event.field_with_name("code").unwrap().data_type()), "int64");
    let batch = &read(&files(&state.path().join("recording"), "gpu-")[0])[0];
    let names = batch.schema_ref().fields().iter().map(|field| field.name());
    let empty: Vec<&String> = names.filter(|name| batch[name.as_str()].null_count() > 0).collect();
    // Agents tell of XIDs as events: of one GPU.
    assert_eq!(empty, ["xid"]);
    let xids: Vec<_> = batch["xid"].as_primitive::<UInt32Type>().iter().collect();
    let gpus = batch["gpu"].as_primitive::<UInt8Type>();
    let expected: Vec<_> = gpus.values().iter().map(|&gpu| (gpu == 2).then_some(79)).collect();
    assert_eq!(xids, expected);
}
