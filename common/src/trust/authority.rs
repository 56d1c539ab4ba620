//! Whom a client believes to be the coordinator.

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Whom a client believes.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Whom the machine believes.
    System,
    /// Certificates by one of these authorities.
    Authorities(Vec<CertificateDer<'static>>),
    /// Certificates by the authority of this fingerprint, which the server sends along.
    Pinned(String),
}

/// Why a client cannot tell whom to believe.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file of certificates.
    #[error("certificates in {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The machine's own store, or what was given.
    #[error("authorities to believe: {0}")]
    Roots(String),
}

/// Certificates of a PEM file; at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let failed = |why: String| TrustError::File { path: path.to_owned(), why };
    let found = CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|e| failed(e.to_string()))?;
    if found.is_empty() { Err(failed("holds none".to_owned())) } else { Ok(found) }
}

/// SHA-256 of a certificate, in hexadecimal digits.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Trust {
    /// What TLS asks.
    pub(super) fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
        let failed = |e: &dyn std::fmt::Display| TrustError::Roots(e.to_string());
        Ok(match self {
            Self::System => {
                let verifier = rustls_platform_verifier::Verifier::new(provider.clone());
                Arc::new(verifier.map_err(|e| failed(&e))?)
            }
            Self::Authorities(roots) => by_authorities(roots, provider).map_err(|e| failed(&e))?,
            Self::Pinned(fingerprint) => {
                Arc::new(PinnedVerifier { fingerprint: fingerprint.clone(), provider: provider.clone() })
            }
        })
    }
}

fn by_authorities(
    roots: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map_err(|e| Error::General(e.to_string()))
}

/// Believes the authority of one fingerprint, and what it has signed. Everything else is checked as ever: names, dates,
/// signatures.
#[derive(Debug)]
struct PinnedVerifier {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|sent| fingerprint(sent) == self.fingerprint);
        let pinned = pinned.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        by_authorities(&[pinned.clone().into_owned()], &self.provider)?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
