//! A collector for a test, and what it answers.

use gridstep_collector::config::Config;
use gridstep_collector::server::Server;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A test that waits longer has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn config(state: &Path) -> Config {
    let mut config = Config::default();
    config.edge.grpc.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.edge.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.edge.state_dir = state.into();
    config.edge.checkpoint_interval = Duration::from_millis(100);
    config
}

pub(crate) async fn start(state: &Path) -> Server {
    Server::start(config(state)).await.unwrap()
}

/// The body of an answer with status 200.
pub(crate) async fn get(server: &Server, path: &str) -> String {
    get_from(server.http, path).await
}

/// From any program.
pub(crate) async fn get_from(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{path}: {head}");
    body.to_owned()
}

pub(crate) async fn json(server: &Server, path: &str) -> Value {
    serde_json::from_str(&get(server, path).await).unwrap()
}

/// Asks until the answer is as wanted.
pub(crate) async fn json_until(server: &Server, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let ask = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            last = json(server, path).await;
            if wanted(&last) {
                return;
            }
        }
    };
    if tokio::time::timeout(DEADLINE, ask).await.is_err() {
        panic!("{path} stays {last:#}");
    }
    last
}
