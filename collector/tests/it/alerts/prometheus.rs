//! Debian's Prometheus with the configuration and the rules that we ship, in a hurry.

use super::alertmanager::listens;
use crate::collector::get_from;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(super) struct Prometheus {
    address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    pub(super) async fn start(collector: SocketAddr, agents: &[SocketAddr]) -> Self {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus");
        let folder = tempfile::tempdir().unwrap();
        let agents = agents.iter().map(|agent| format!("\"{agent}\"")).collect::<Vec<_>>().join(", ");
        let config = std::fs::read_to_string(shipped.join("prometheus.yml")).unwrap();
        let config =
            config.replace("_interval: 15s", "_interval: 1s").replace("\"127.0.0.1:19811\"", &format!("\"{collector}\""));
        let config = config.replace("\"127.0.0.1:19810\"", &agents);
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        std::fs::copy(shipped.join("gridstep.rules.yml"), folder.path().join("gridstep.rules.yml")).unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg("--web.listen-address=127.0.0.1:0").stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let child = command.spawn().expect("prometheus: run deploy/test-deps.sh");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut new = Self { address: any, child, _folder: folder };
        new.address = listens(&log).await;
        new
    }

    /// The series that an expression has now.
    pub(super) async fn query(&self, expression: &str) -> Vec<Value> {
        match self.get(&format!("/api/v1/query?query={}", escape(expression))).await["data"]["result"].take() {
            Value::Array(series) => series,
            other => panic!("{expression}: {other}"),
        }
    }

    /// Names of all metrics.
    pub(super) async fn names(&self) -> Vec<String> {
        serde_json::from_value(self.get("/api/v1/label/__name__/values").await["data"].take()).unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = get_from(self.address, path).await;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer
    }
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
