//! Debian's Alertmanager with the configuration that we ship, in a hurry.

use super::PATIENCE;
use crate::collector::get_from;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = include_str!("../../../../deploy/alertmanager/alertmanager.yml");

pub(crate) struct Alertmanager {
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Alertmanager {
    /// `receiver`: "host:port/prefix" of the webhooks.
    pub(crate) async fn start(receiver: &str, arguments: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = CONFIG
            .replace("receiver.example", receiver)
            .replace("group_wait: 10s", "group_wait: 100ms")
            .replace("group_interval: 5m", "group_interval: 500ms");
        std::fs::write(folder.path().join("alertmanager.yml"), config).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut new = Self { address: any, folder, arguments: arguments.to_vec(), child: None };
        new.run().await;
        new
    }

    /// Runs, and finds out where it listens; a second time where it listened before.
    pub(crate) async fn run(&mut self) {
        let log = self.folder.path().join("log");
        let mut command = Command::new("prometheus-alertmanager");
        command.arg(format!("--config.file={}", self.folder.path().join("alertmanager.yml").display()));
        command.arg(format!("--storage.path={}", self.folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={}", self.address)).arg("--cluster.listen-address=").args(&self.arguments);
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        self.child = Some(command.spawn().expect("prometheus-alertmanager: run deploy/test-deps.sh"));
        self.address = listens(&log).await;
    }

    /// As systemd would: it keeps what it has notified of.
    pub(crate) async fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let status = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(status.success());
        tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    }

    /// Alerts with all these labels that it holds active, muted ones included.
    pub(crate) async fn alerts(&self, labels: &[(&str, &str)]) -> Vec<Value> {
        let answer = get_from(self.address, "/api/v2/alerts").await;
        let all: Vec<Value> = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        all.into_iter().filter(|alert| labels.iter().all(|(name, value)| alert["labels"][*name] == *value)).collect()
    }

    /// Asks until there are such alerts as wanted.
    pub(crate) async fn alerts_until(&self, labels: &[(&str, &str)], wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let alerts = self.alerts(labels).await;
            if wanted(&alerts) {
                return alerts;
            }
            assert!(begun.elapsed() < PATIENCE, "{labels:?} stay {alerts:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Prometheus' programs say in their log where they listen.
pub(crate) async fn listens(log: &Path) -> SocketAddr {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let line = text.lines().find(|line| line.contains("Listening on"));
        if let Some(address) = line.and_then(|line| line.rsplit("address=").next()).and_then(|text| text.trim().parse().ok()) {
            return address;
        }
        assert!(begun.elapsed() < PATIENCE, "{}: {text}", log.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
