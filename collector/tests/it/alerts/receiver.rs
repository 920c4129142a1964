//! Receives what Alertmanager notifies of.

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::routing::post;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Path and body of every request.
type Received = Arc<Mutex<Vec<(String, Value)>>>;

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Received,
    _serving: JoinSet<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, received) = (listener.local_addr().unwrap(), Received::default());
        let take = |State(received): State<Received>, uri: Uri, body: String| async move {
            let body = serde_json::from_str(&body).unwrap();
            received.lock().unwrap().push((uri.path().to_owned(), body));
        };
        let router = Router::new().fallback(post(take)).with_state(received.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, received, _serving: serving }
    }

    /// How often each was notified: "/pager firing GridstepPowerSwing", in order.
    pub(crate) fn notified(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let one = |(path, body): &(String, Value)| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!("{path} {} {}", text(&body["status"]), text(&body["commonLabels"]["alertname"]))
        };
        received.iter().map(one).collect()
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.notified().iter().filter(|one| *one == what).count()
    }
}
