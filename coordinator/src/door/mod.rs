//! Who may come in, and how: the authority that signs nodes in, the certificate that the ports show, connections with limits,
//! and the tokens of programs, its own and those of an issuer. It knows nothing of runs.

mod authority;
mod certificate;
mod listen;
mod oidc;
mod open_files;
mod sign_in;
mod tokens;

use authority::Authority;
use certificate::ServerCertificate;
pub(crate) use listen::{Listener, Peer, Stream};
pub(crate) use oidc::{Oidc, Refusal};
pub use open_files::raise_open_files;
pub(crate) use sign_in::SignIns;
use tokens::TokenSecret;
pub(crate) use tokens::{Certified, JoinError};

use crate::{config::TlsConfig, store::Credentials};
use ferry_common::clock::{Clock, Millis};
use rustls::{
    RootCertStore, ServerConfig,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long tokens and nodes are remembered whose time is over.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);
/// Name of the file with the token that everything begins with.
const ADMIN_TOKEN_FILE: &str = "admin-token";

/// Why the ports cannot be secured.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// A file or folder.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Keys and certificates.
    #[error("{0}")]
    Certificate(String),
}

impl DoorError {
    fn file(path: impl Into<PathBuf>, why: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), why: why.to_string() }
    }
}

/// A secured coordinator's keys.
pub(crate) struct Keys {
    authority: Authority,
    certificate: Arc<ServerCertificate>,
    /// The token that may do everything.
    admin: TokenSecret,
    node_cert_ttl: Duration,
}

/// What decides who may come in.
pub(crate) struct Door {
    pub(crate) keys: Keys,
    pub(crate) store: Arc<dyn Credentials>,
    pub(crate) sign_ins: SignIns,
    /// The issuer whose tokens are good, too.
    pub(crate) oidc: Option<Oidc>,
}

impl Door {
    /// Keeps the keys of the issuer fresh, if there is one, until the end of the program.
    pub(crate) async fn keep_issuer(&self) {
        match &self.oidc {
            Some(oidc) => oidc.keep().await,
            None => std::future::pending().await,
        }
    }

    /// Forgets tokens and nodes whose time was over long ago, again and again.
    pub(crate) async fn forget(&self, clock: &dyn Clock) {
        loop {
            let before = Millis(clock.now().0 - REMEMBERED.as_millis() as i64);
            if let Err(e) = self.store.forget_credentials(before).await {
                tracing::warn!("old tokens and nodes are kept: {e}");
            }
            tokio::time::sleep(FORGET_INTERVAL).await;
        }
    }
}

/// Makes the folder that several coordinators share: authority and admin token. What is there stays.
pub fn create_folder(folder: &Path) -> Result<(), DoorError> {
    Authority::open(folder)?;
    admin_token(folder).map(drop)
}

fn admin_token(folder: &Path) -> Result<TokenSecret, DoorError> {
    let path = folder.join(ADMIN_TOKEN_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => TokenSecret::parse(&text).ok_or_else(|| DoorError::file(path, "holds no token of ferry's")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let token = TokenSecret::generate_admin();
            authority::write_secret(&path, &format!("{}\n", token.to_text()))?;
            Ok(token)
        }
        Err(e) => Err(DoorError::file(path, e)),
    }
}

impl Keys {
    /// Opens the folder; makes what is not there.
    pub(crate) fn open(config: &TlsConfig) -> Result<Self, DoorError> {
        let authority = Authority::open(&config.folder)?;
        let certificate = Arc::new(ServerCertificate::open(config, &authority)?);
        Ok(Self { authority, certificate, admin: admin_token(&config.folder)?, node_cert_ttl: config.node_cert_ttl })
    }

    /// How long a node's certificate holds.
    pub(crate) fn node_cert_ttl(&self) -> Duration {
        self.node_cert_ttl
    }

    /// The authority that clients must believe, if the certificate is by the own one.
    pub(crate) fn pinned(&self) -> Option<&Authority> {
        (!self.certificate.is_given()).then_some(&self.authority)
    }

    /// Looks after the certificate until the end of the program.
    pub(crate) async fn renew(&self) {
        self.certificate.renew(&self.authority).await;
    }

    /// TLS of the nodes' port: certificates of the own authority are checked, and callers without one let in to join.
    pub(crate) fn for_nodes(&self) -> Result<ServerConfig, DoorError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate().clone()).map_err(|e| DoorError::Certificate(e.to_string()))?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build();
        let verifier = verifier.map_err(|e| DoorError::Certificate(e.to_string()))?;
        let mut config =
            ServerConfig::builder().with_client_cert_verifier(verifier).with_cert_resolver(self.certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A session that is resumed would bring the certificate of its beginning along.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// TLS of the programs' port.
    pub(crate) fn for_programs(&self) -> ServerConfig {
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(self.certificate.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}
