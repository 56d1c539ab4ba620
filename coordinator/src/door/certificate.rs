//! The certificate that the ports show: by the own authority, or given in files.

use super::{Authority, DoorError, authority::Issued};
use crate::config::{GivenCertificate, TlsConfig};
use ferry_common::trust;
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use std::{
    fmt, fs, io,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

/// How long a certificate by the own authority holds; it is made anew at two thirds of it.
const OWN_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often files that were given are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

enum Origin {
    Own { names: Vec<String> },
    Given(GivenCertificate),
}

/// The certificate of now.
pub(super) struct ServerCertificate {
    origin: Origin,
    current: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCertificate(..)")
    }
}

impl ServerCertificate {
    pub(super) fn open(config: &TlsConfig, authority: &Authority) -> Result<Self, DoorError> {
        let origin = match &config.given {
            Some(given) => Origin::Given(given.clone()),
            None => Origin::Own { names: config.names.clone() },
        };
        let current = RwLock::new(Arc::new(load(&origin, authority)?));
        Ok(Self { origin, current })
    }

    pub(super) fn is_given(&self) -> bool {
        matches!(self.origin, Origin::Given(_))
    }

    pub(super) fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes or reads it anew, whenever that is due. A file that cannot be used leaves the certificate as it is.
    pub(super) async fn renew(&self, authority: &Authority) {
        let mut seen = self.version();
        loop {
            let now = match &self.origin {
                Origin::Own { .. } => {
                    tokio::time::sleep(OWN_TTL * 2 / 3).await;
                    None
                }
                Origin::Given(_) => {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                    let now = self.version();
                    if now == seen {
                        continue;
                    }
                    now
                }
            };
            match load(&self.origin, authority) {
                Ok(key) => {
                    tracing::info!("the ports show a new certificate");
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                }
                Err(e) => tracing::error!("the ports go on with the old certificate: {e}"),
            }
            // What could not be used is looked at again when it changes again.
            seen = now;
        }
    }

    /// Changes when the files do.
    fn version(&self) -> Option<[SystemTime; 2]> {
        let Origin::Given(given) = &self.origin else { return None };
        let modified = |path| -> io::Result<SystemTime> { fs::metadata(path)?.modified() };
        Some([modified(&given.certificate).ok()?, modified(&given.key).ok()?])
    }
}

fn load(origin: &Origin, authority: &Authority) -> Result<CertifiedKey, DoorError> {
    let Issued { chain, key } = match origin {
        Origin::Own { names } => authority.issue_server(names, OWN_TTL)?,
        Origin::Given(given) => Issued {
            chain: trust::read_certificates(&given.certificate).map_err(|e| DoorError::Certificate(e.to_string()))?,
            key: PrivateKeyDer::from_pem_file(&given.key).map_err(|e| DoorError::file(&given.key, e))?,
        },
    };
    let unfit = |e: rustls::Error| DoorError::Certificate(format!("certificate of the ports: {e}"));
    let key = CertifiedKey::new(chain, any_supported_type(&key).map_err(unfit)?);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(key),
        Err(e) => Err(unfit(e)),
    }
}
