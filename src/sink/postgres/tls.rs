//! TLS by rustls, for the `sslmode` and `sslrootcert` of a URL. The pool uses it for each connection.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

pub(super) type Tls = MakeRustlsConnect;

/// Proof required from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// No proof.
    None,
    /// A certificate that is signed by a trusted root.
    Certificate,
    /// The same, and that it is the certificate of this host.
    Host,
}

/// Source of the trusted roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    System,
    File(String),
}

pub(super) fn connector(proof: Proof, roots: &Roots) -> Result<Tls, String> {
    let provider = Arc::new(ring::default_provider());
    let trusted = || -> Result<Arc<WebPkiServerVerifier>, String> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(load(roots)?), provider.clone());
        verifier.build().map_err(|error| error.to_string())
    };
    let verifier: Arc<dyn ServerCertVerifier> = match proof {
        Proof::None => Arc::new(Lenient { provider: provider.clone(), trusted: None }),
        Proof::Certificate => Arc::new(Lenient { provider: provider.clone(), trusted: Some(trusted()?) }),
        Proof::Host => trusted()?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn load(roots: &Roots) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Roots::File(path) => {
            let unreadable = |error| format!("cannot read the root certificates in {path:?}: {error}");
            for certificate in CertificateDer::pem_file_iter(Path::new(path)).map_err(unreadable)? {
                let certificate = certificate.map_err(unreadable)?;
                store.add(certificate).map_err(|error| format!("a root certificate in {path:?} is none: {error}"))?;
            }
        }
    }
    if store.is_empty() { Err("there are no root certificates to check the server by".into()) } else { Ok(store) }
}

/// Verifies less than the name of the host: nothing, or only that the certificate is trusted.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    trusted: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trusted) = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        match trusted.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // Looked at last, when all else is in order.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_that_cannot_be_read_are_named() {
        let why = |proof| connector(proof, &Roots::File("/nowhere/root.crt".into())).err();
        assert_eq!(why(Proof::None), None, "no proof is asked for");
        assert!(why(Proof::Certificate).is_some_and(|why| why.contains("/nowhere/root.crt")));
        assert!(why(Proof::Host).is_some_and(|why| why.contains("/nowhere/root.crt")));
    }
}
