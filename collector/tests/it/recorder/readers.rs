//! pyarrow and DuckDB read the files as they are.

use super::{everything, recording};
use crate::agent::Agent;
use gridstep_collector::server::Server;
use gridstep_wire::Micros;
use gridstep_wire::pb::agent_message::Kind;
use std::process::Command;

const SCRIPT: &str = r#"
import sys, glob, pyarrow.dataset, duckdb
folder = sys.argv[1]
power = pyarrow.dataset.dataset(sorted(glob.glob(folder + "/power-*.parquet"))).to_table()
assert power.num_rows == 40, power.num_rows
assert str(power.schema.field("ts").type) == "timestamp[us, tz=UTC]", power.schema
assert str(power.schema.field("node").type).startswith("dictionary<values=string"), power.schema
rows = duckdb.sql(f"select node, gpu, avg(power_watts) from '{folder}/power-*.parquet' group by all order by gpu").fetchall()
assert rows == [("node1", gpu, 650.5) for gpu in range(8)], rows
rows = duckdb.sql(f"select distinct uuid, model, job from '{folder}/gpu-*.parquet' order by uuid").fetchall()
assert rows == [(f"GPU-{gpu}", "H100", "llama") for gpu in range(8)], rows
rows = duckdb.sql(f"select node, gpu, kind, code, detail from '{folder}/event-*.parquet'").fetchall()
assert rows == [("node1", 2, "xid", 79, "fell off the bus")], rows
rows = duckdb.sql(f"select count(*), count(ts_error_seconds) from '{folder}/node-*.parquet'").fetchall()
assert rows == [(1, 0)], rows
"#;

#[tokio::test]
async fn others_read_the_files() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::start(recording(state.path())).await.unwrap();
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    agent.send(Kind::Batch(everything(1, Micros::now().0))).await;
    agent.ack_until(|ack| ack.durable == 1).await;
    server.stop().await.unwrap();
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python");
    let output =
        Command::new(python).args(["-c", SCRIPT]).arg(state.path().join("recording")).output().expect("python: run `make deps`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
