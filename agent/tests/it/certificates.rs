//! Certificates of a site: an authority, the collector's and an agent's.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::path::Path;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key for localhost, PEM.
    fn identity(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".into()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// A collector that takes only agents of this authority.
    pub(crate) fn server(&self) -> ServerTlsConfig {
        let (certificate, key) = self.identity();
        ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)).client_ca_root(Certificate::from_pem(&self.pem))
    }

    /// Lines of `[uplink]`: trusts this authority and shows an identity that `signer` gave.
    pub(crate) fn uplink_with_identity_of(&self, signer: &Self, folder: &Path) -> String {
        let (certificate, key) = signer.identity();
        let folder = folder.join(if std::ptr::eq(self, signer) { "own" } else { "other" });
        std::fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("a file is written");
            path.display().to_string()
        };
        format!(
            "ca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
            write("ca.pem", &self.pem),
            write("agent.pem", &certificate),
            write("agent.key", &key)
        )
    }
}
