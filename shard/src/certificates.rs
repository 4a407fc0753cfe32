//! The certificates that servers are verified with, and encryption set up with them.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

#[derive(Debug, thiserror::Error)]
#[error("there are no certificates to verify the server with: {0:?}")]
pub(crate) struct NoCertificates(Vec<rustls_native_certs::Error>);

/// The system's certificates, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub(crate) fn system_roots() -> Result<RootCertStore, NoCertificates> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(NoCertificates(found.errors));
    }
    Ok(roots)
}

/// Encryption with servers that these certificates vouch for. It brings its cryptography along: what
/// the process has installed for others is neither needed nor touched.
pub(crate) fn encryption(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
