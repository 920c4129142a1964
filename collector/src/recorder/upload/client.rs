//! How the store is spoken to: the collector's own HTTP client and TLS, so that there is one of each.

use super::credentials::CredentialsFile;
use super::{Refusal, UploadConfig, UploadError};
use crate::recorder::chain;
use crate::trust;
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpService,
};
use object_store::{ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// An answer that takes longer is none: time for a part over one megabit a second.
const PATIENCE: Duration = Duration::from_secs(75);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// No answer to what is asked here is larger.
const ANSWER_BYTES: usize = 1 << 20;
/// At once, so that a part that fails does not cost the whole file. After that it is said, and tried again with all of the file.
const RETRIES: usize = 2;

pub(super) fn open(config: &UploadConfig, bucket: &str) -> Result<Arc<dyn ObjectStore>, UploadError> {
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
    builder = builder.with_http_connector(Caller::new(config)?);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(file) = &config.credentials_file {
        builder = builder.with_credentials(Arc::new(CredentialsFile(file.clone())));
    }
    let store = builder.build().map_err(|error| UploadError::Store(Refusal::new(&error)))?;
    Ok(Arc::new(store))
}

#[derive(Debug, Clone)]
struct Caller {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
}

impl Caller {
    fn new(config: &UploadConfig) -> Result<Self, UploadError> {
        let is_plain = config.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let tls = trust::client(!is_plain, config.ca_file.as_deref()).map_err(|error| UploadError::Tls(error.into()))?;
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_PATIENCE));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.client.request(request).await.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
            HttpError::new(kind, Told(chain(&error)))
        })?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| HttpError::new_boxed(HttpErrorKind::Interrupted, error))?.to_bytes();
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

impl HttpConnector for Caller {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[tonic::async_trait]
impl HttpService for Caller {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let late = || HttpError::new(HttpErrorKind::Timeout, Told(format!("no answer within {} s", PATIENCE.as_secs())));
        timeout(PATIENCE, self.ask(request)).await.map_err(|_| late())?
    }
}

/// With all that caused it: whoever shows it shows the outermost alone.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(String);
