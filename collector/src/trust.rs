//! Whom the collector believes when it calls somebody: an Alertmanager, an object store.

use anyhow::{Context, Result};
use hyper_rustls::ConfigBuilderExt;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// The authorities of the file, or else the system's. Where nothing is encrypted nobody needs to be believed.
pub(crate) fn client(is_encrypted: bool, ca_file: Option<&Path>) -> Result<ClientConfig> {
    let builder =
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let failed = || format!("read certificates of {}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(failed)? {
                roots.add(certificate.with_context(failed)?).with_context(failed)?;
            }
        }
        None if is_encrypted => {
            let builder = builder.with_native_roots().context("read the system's certificates")?;
            return Ok(builder.with_no_client_auth());
        }
        None => {}
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
