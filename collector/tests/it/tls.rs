//! Who may listen and who is let in.

use crate::agent::{Agent, declare, hello};
use crate::collector::config;
use gridstep_collector::config::{Config, TlsConfig};
use gridstep_collector::server::Server;
use gridstep_wire::pb::collector_message::Kind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::net::SocketAddr;
use std::path::Path;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key, PEM.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

async fn connect(address: SocketAddr, tls: ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
    let tls = tls.domain_name("collector");
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap().connect().await
}

async fn is_welcome(channel: Channel) -> bool {
    match Agent::open(channel, vec![hello("node1", 1), declare()]).await {
        Ok(mut agent) => matches!(agent.answer().await, Ok(Some(Kind::Welcome(_)))),
        Err(_) => false,
    }
}

fn files(folder: &Path, authority: &Authority, clients: Option<&Authority>) -> TlsConfig {
    let (certificate, key) = authority.issue("collector");
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsConfig {
        cert_file: write("cert.pem", certificate),
        key_file: write("key.pem", key),
        client_ca_file: clients.map(|clients| write("ca.pem", clients.0.pem())),
    }
}

#[tokio::test]
async fn agents_without_a_certificate_are_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, clients) = (Authority::new(), Authority::new());
    let mut config = config(&folder.path().join("state"));
    config.edge.grpc.tls = Some(files(folder.path(), &servers, Some(&clients)));
    let server = Server::start(config).await.unwrap();
    let trust = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(servers.0.pem()));
    let with = |(certificate, key): (String, String)| trust().identity(Identity::from_pem(certificate, key));

    assert!(is_welcome(connect(server.grpc, with(clients.issue("node1"))).await.unwrap()).await);
    for stranger in [trust(), with(servers.issue("node1"))] {
        let let_in = match connect(server.grpc, stranger).await {
            Ok(channel) => is_welcome(channel).await,
            Err(_) => false,
        };
        assert!(!let_in);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn agents_check_the_collector() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, others) = (Authority::new(), Authority::new());
    let mut config = config(&folder.path().join("state"));
    config.edge.grpc.tls = Some(files(folder.path(), &servers, None));
    let server = Server::start(config).await.unwrap();
    let trust = |authority: &Authority| ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.0.pem()));
    assert!(is_welcome(connect(server.grpc, trust(&servers)).await.unwrap()).await);
    assert!(connect(server.grpc, trust(&others)).await.is_err());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.edge.grpc.tls = Some(TlsConfig { cert_file: "/nowhere/c.pem".into(), key_file: "k".into(), client_ca_file: None });
    let error = Server::start(config).await.unwrap_err();
    assert!(format!("{error:#}").contains("/nowhere/c.pem"), "{error:#}");
}

#[test]
fn listening_to_everyone_without_tls_is_refused() {
    let error = Config::parse("[grpc]\nlisten = '0.0.0.0:19812'\n[http]\nlisten = '[::]:19811'", Path::new("c")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("grpc.listen") && text.contains("http.listen"), "{text}");
}
