//! TLS for [`dial`](super::dial()), by rustls. The cryptography provider is named here and never looked up, so none has
//! to be installed, and another crate's choice changes nothing.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::sink::SinkError;

/// Settings of all connections; set once the certificates of the system could be read.
static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// Encrypts a connection to a server that proves to be `host`.
pub(super) async fn secure(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, SinkError> {
    let name = ServerName::try_from(host.to_owned()).map_err(SinkError::refused)?;
    let connector = TlsConnector::from(config().await?);
    connector.connect(name, stream).await.map_err(classify)
}

async fn config() -> Result<Arc<ClientConfig>, SinkError> {
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    // Runs on a blocking thread: it reads files.
    let loaded = spawn_blocking(load).await.map_err(SinkError::outage)?;
    loaded.map(|config| Arc::clone(CONFIG.get_or_init(|| config))).map_err(SinkError::refused)
}

fn load() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(format!("there are no root certificates to check the server by{why}"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Classifies an error of the handshake. An untrusted certificate and a missing common cipher are final; all else may
/// be a server or proxy that is not ready yet.
fn classify(error: std::io::Error) -> SinkError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::PeerIncompatible(_)) => SinkError::refused(error),
        _ => SinkError::outage(error),
    }
}
