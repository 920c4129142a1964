//! An Alertmanager behind TLS that wants a password.

use super::alertmanager::Alertmanager;
use super::delivery::{metric, until};
use super::receiver::Receiver;
use super::{Node, config};
use crate::tls::Authority;
use gridstep_collector::server::Server;
use std::path::Path;

/// Alertmanager's `--web.config.file`: the password is "secret".
fn protect(folder: &Path, authority: &Authority) -> String {
    let (certificate, key) = authority.issue("127.0.0.1");
    std::fs::write(folder.join("cert.pem"), certificate).unwrap();
    std::fs::write(folder.join("key.pem"), key).unwrap();
    let config = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n\
                  basic_auth_users: {gridstep: $2b$04$7hKhjQlshYOSIEXQRQLW.Od1dx2rwql3X6y3Ph.yCEZtL/qm8kYeG}\n";
    let file = folder.join("web.yml");
    std::fs::write(&file, config).unwrap();
    format!("--web.config.file={}", file.display())
}

#[tokio::test]
async fn an_alertmanager_is_believed_by_its_certificate_and_told_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, receiver) = (Authority::new(), Receiver::start().await);
    let alertmanager = Alertmanager::start(&receiver.address.to_string(), &[protect(folder.path(), &authority)]).await;
    let url = format!("https://{}", alertmanager.address);
    let (ca, password) = (folder.path().join("ca.pem"), folder.path().join("auth"));
    std::fs::write(&ca, authority.0.pem()).unwrap();
    std::fs::write(&password, "Basic Z3JpZHN0ZXA6d3Jvbmc=\n").unwrap();

    let other = url.replace("127.0.0.1", "localhost");
    let mut config = config(&folder.path().join("state"), &[url.clone(), other.clone()]);
    for one in &mut config.edge.alerts.alertmanager {
        (one.ca_file, one.authorization_file) = (Some(ca.clone()), Some(password.clone()));
    }
    let server = Server::start(config).await.unwrap();
    let mut node = Node::join(server.grpc).await;
    node.say(3, "gpu_lost").await;
    let series = |name: &str, url: &str| format!("gridstep_collector_{name}{{alertmanager=\"{url}\"}}");
    let refused = async || metric(&server, &series("alert_failures_total", &url)).await > 0.0;
    node.feed(until("a wrong password is refused", refused)).await;
    assert_eq!(metric(&server, &series("alerts_sent_total", &url)).await, 0.0);

    std::fs::write(&password, "Basic Z3JpZHN0ZXA6c2VjcmV0\n").unwrap();
    let notified = async || receiver.count("/tickets firing GridstepGpuFault") == 1;
    node.feed(until("the ticket comes", notified)).await;
    // The certificate is for 127.0.0.1.
    assert_eq!(metric(&server, &series("alerts_sent_total", &other)).await, 0.0);
    server.stop().await.unwrap();
}
