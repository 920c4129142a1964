//! Listeners.

use crate::config::TlsConfig;
use anyhow::{Context, Result};
use axum::Router;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// An agent that is gone without a word is noticed after these together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// An agent has one stream; a few more while it reconnects.
const STREAMS_PER_CONNECTION: u32 = 8;

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))
}

pub(super) fn grpc(tls: Option<&TlsConfig>) -> Result<Server> {
    let builder = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION);
    let Some(tls) = tls else { return Ok(builder) };
    let identity = Identity::from_pem(read(&tls.cert_file)?, read(&tls.key_file)?);
    let mut server = ServerTlsConfig::new().identity(identity);
    if let Some(authority) = &tls.client_ca_file {
        server = server.client_ca_root(Certificate::from_pem(read(authority)?));
    }
    builder.tls_config(server).with_context(|| format!("use certificate {} and its key", tls.cert_file.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}

pub(super) async fn serve_http(listener: TcpListener, router: Router, stop: CancellationToken) -> Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await.context("serve pages")
}
