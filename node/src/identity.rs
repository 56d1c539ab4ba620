//! Who this node is to its coordinator: a key pair of its own, and a certificate for it, kept in a folder and renewed in
//! time. The key never leaves the folder.

use crate::config::MembershipConfig;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ferry_common::{
    clock::{Clock, Millis, SystemClock},
    failure::{backoff, with_causes},
    id::RuntimeName,
    link::{self, JoinServiceClient},
    trust::{self, ClientIdentity, Dialer, JoinToken, Trust, TrustError},
    wire::generated as pb,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

/// How TLS says so.
const NOT_BELIEVED: &str = "invalid peer certificate";
const FILE: &str = "identity.json";
/// Longest wait between tries to join or to renew.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(30);

/// Why a node has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The folder.
    #[error("identity in {path}: {why}")]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Nothing to join with.
    #[error(
        "this node has {has} in {folder} and no join token{looked}; make one with `ferry token create --runtime {runtime}` and start the node with --token-file"
    )]
    TokenMissing {
        /// What it has instead.
        has: &'static str,
        /// The identity's folder.
        folder: PathBuf,
        /// Where a token was looked for.
        looked: String,
        /// The integration runtime.
        runtime: RuntimeName,
    },
    /// The coordinator said no.
    #[error("the coordinator does not let this node in: {0}")]
    Refused(String),
    /// It shows another certificate than was to be expected.
    #[error(
        "the coordinator at {address} is not believed: {why}; is it the one that made the join token, by a name that it knows (--tls-name)?"
    )]
    NotBelieved {
        /// The coordinator.
        address: String,
        /// What is wrong with its certificate.
        why: String,
    },
    /// Whom to believe.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The address is no address.
    #[error("coordinator address {address}: {why}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// Keys.
    #[error("key of this node: {0}")]
    Key(String),
}

/// What the folder holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    /// PKCS #8, PEM. There before it is used to ask for a certificate: when the answer is lost, the same key asks again.
    key_pem: String,
    runtime: RuntimeName,
    /// `None`: asked for, and not answered yet.
    certificate: Option<KeptCertificate>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptCertificate {
    /// DER in base 64.
    certificate: String,
    /// The coordinators' own authority, likewise; `None` where their certificate is by somebody else.
    authority: Option<String>,
    renew_at_ms: i64,
    ends_ms: i64,
}

/// This node's membership, from its start to its end.
pub(crate) struct Membership {
    config: MembershipConfig,
    coordinator: String,
    name: String,
    runtime: RuntimeName,
    shown: ClientIdentity,
    clock: Arc<dyn Clock>,
}

/// What came of the wait.
pub(crate) enum Joined {
    /// Calls go this way.
    Member(Channel),
    /// The program is told to end.
    Stopped,
}

impl Membership {
    pub(crate) fn new(config: MembershipConfig, coordinator: &str, name: &str, runtime: &RuntimeName) -> Self {
        Self {
            config,
            coordinator: coordinator.to_owned(),
            name: name.to_owned(),
            runtime: runtime.clone(),
            shown: ClientIdentity::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Joins, unless it has, and gives the channel that shows the certificate. Waits for a coordinator that does not answer.
    pub(crate) async fn join(&self, shutdown: &CancellationToken) -> Result<Joined, IdentityError> {
        let kept = self.read()?;
        let held = kept.as_ref().and_then(|kept| kept.certificate.clone().map(|certificate| (kept, certificate)));
        let has_ended = match held {
            Some((kept, certificate)) if certificate.ends_ms > self.clock.now().0 => {
                return self.member(kept, &certificate).map(Joined::Member);
            }
            held => held.is_some(),
        };
        let Some(token) = self.token()? else {
            let has = if has_ended { "a certificate that has ended" } else { "no certificate" };
            let (folder, runtime) = (self.config.folder.clone(), self.runtime.clone());
            let looked = self.config.token_file.as_ref().map(|path| format!(" in {}", path.display()));
            return Err(IdentityError::TokenMissing { has, folder, looked: looked.unwrap_or_default(), runtime });
        };
        let key_pem = match kept.filter(|kept| kept.certificate.is_none()) {
            Some(kept) => kept.key_pem,
            None => new_key()?.serialize_pem(),
        };
        let mut kept = Kept { key_pem, runtime: self.runtime.clone(), certificate: None };
        self.write(&kept)?;
        let trust = match (&self.config.authority, &token.authority) {
            (Some(path), _) => Trust::Authorities(trust::read_certificates(path)?),
            (None, Some(pinned)) => Trust::Pinned(pinned.clone()),
            (None, None) => Trust::System,
        };
        let mut client = JoinServiceClient::new(self.channel(&trust)?);
        let request = pb::JoinRequest {
            token: token.to_text(),
            certificate_request: certificate_request(&key_of(&kept)?)?,
            runtime: self.runtime.to_string(),
            name: self.name.clone(),
        };
        let mut failures = 0;
        let answer = loop {
            let answer = tokio::select! {
                answer = client.join(request.clone()) => answer,
                () = shutdown.cancelled() => return Ok(Joined::Stopped),
            };
            match answer {
                Ok(answer) => break answer.into_inner(),
                Err(status) if is_final(&status) => return Err(IdentityError::Refused(status.message().to_owned())),
                Err(status) => {
                    let why = with_causes(&status);
                    if why.contains(NOT_BELIEVED) {
                        return Err(IdentityError::NotBelieved { address: self.coordinator.clone(), why });
                    }
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(coordinator = self.coordinator, "cannot join yet: {why}; trying again");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(backoff(failures, 0.5).min(RETRY_WAIT_MAX)) => {}
                        () = shutdown.cancelled() => return Ok(Joined::Stopped),
                    }
                }
            }
        };
        let certificate = self.certificate(answer);
        kept.certificate = Some(certificate.clone());
        self.write(&kept)?;
        tracing::info!(name = self.name, runtime = %self.runtime, "this node has joined");
        self.member(&kept, &certificate).map(Joined::Member)
    }

    /// Shows the certificate from now on, and gives the channel that does.
    fn member(&self, kept: &Kept, certificate: &KeptCertificate) -> Result<Channel, IdentityError> {
        if kept.runtime != self.runtime {
            return Err(self.folder_error(format!(
                "holds the identity of a node of integration runtime {}; choose another --identity, or --runtime {}",
                kept.runtime, kept.runtime
            )));
        }
        self.shown.set(shown(kept, certificate)?);
        let trust = match (&self.config.authority, &certificate.authority) {
            (Some(path), _) => Trust::Authorities(trust::read_certificates(path)?),
            (None, Some(own)) => Trust::Authorities(vec![certificate_of(own)?]),
            (None, None) => Trust::System,
        };
        self.channel(&trust)
    }

    fn channel(&self, trust: &Trust) -> Result<Channel, IdentityError> {
        let dialer = Dialer::new(trust, self.shown.clone())?;
        link::channel(&self.coordinator, dialer)
            .map_err(|e| IdentityError::Address { address: self.coordinator.clone(), why: with_causes(&e) })
    }

    /// The certificate is good for nothing any more: the next start joins anew.
    pub(crate) fn forget(&self) -> Result<(), IdentityError> {
        self.write(&Kept { key_pem: new_key()?.serialize_pem(), runtime: self.runtime.clone(), certificate: None })
    }

    /// Renews the certificate at two thirds of its life, again and again. Ends only when there is nothing to renew.
    pub(crate) async fn keep(&self, channel: Channel) {
        let mut client = JoinServiceClient::new(channel);
        let mut failures = 0;
        loop {
            let due = match self.read() {
                Ok(Some(Kept { certificate: Some(certificate), .. })) => Millis(certificate.renew_at_ms),
                Ok(_) => return,
                Err(e) => {
                    tracing::error!("the certificate is not renewed: {e}");
                    return;
                }
            };
            let wait =
                if failures == 0 { due.since(self.clock.now()) } else { backoff(failures, 0.5).min(RETRY_WAIT_MAX) };
            tokio::time::sleep(wait).await;
            match self.renew(&mut client).await {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures += 1;
                    tracing::warn!("the certificate is not renewed yet: {why}");
                }
            }
        }
    }

    async fn renew(&self, client: &mut JoinServiceClient<Channel>) -> Result<(), String> {
        let key = new_key().map_err(|e| e.to_string())?;
        let request = certificate_request(&key).map_err(|e| e.to_string())?;
        let answer = client.renew(pb::RenewRequest { certificate_request: request }).await;
        let certificate = self.certificate(answer.map_err(|status| with_causes(&status))?.into_inner());
        let kept = Kept {
            key_pem: key.serialize_pem(),
            runtime: self.runtime.clone(),
            certificate: Some(certificate.clone()),
        };
        self.write(&kept).map_err(|e| e.to_string())?;
        self.shown.set(shown(&kept, &certificate).map_err(|e| e.to_string())?);
        tracing::info!("the certificate is renewed");
        Ok(())
    }

    fn certificate(&self, answer: pb::Certificate) -> KeptCertificate {
        let (now, ttl) = (self.clock.now(), Duration::from_millis(answer.ttl_ms));
        KeptCertificate {
            certificate: BASE64.encode(&answer.certificate),
            authority: (!answer.authority.is_empty()).then(|| BASE64.encode(&answer.authority)),
            renew_at_ms: now.plus(ttl * 2 / 3).0,
            ends_ms: now.plus(ttl).0,
        }
    }

    fn token(&self) -> Result<Option<JoinToken>, IdentityError> {
        let Some(path) = &self.config.token_file else { return Ok(None) };
        let wrong = |why: String| IdentityError::Folder { path: path.clone(), why };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            // It may have been removed once the node had joined.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(wrong(e.to_string())),
        };
        text.parse().map(Some).map_err(|why: &str| wrong(why.to_owned()))
    }

    fn path(&self) -> PathBuf {
        self.config.folder.join(FILE)
    }

    fn folder_error(&self, why: String) -> IdentityError {
        IdentityError::Folder { path: self.config.folder.clone(), why }
    }

    fn read(&self) -> Result<Option<Kept>, IdentityError> {
        match fs::read(self.path()) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                self.folder_error(format!("{FILE} cannot be read ({e}); remove it, and give the node a new token"))
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.folder_error(e.to_string())),
        }
    }

    fn write(&self, kept: &Kept) -> Result<(), IdentityError> {
        let bytes = serde_json::to_vec_pretty(kept).map_err(|e| self.folder_error(e.to_string()))?;
        write_secret(&self.config.folder, &self.path(), &bytes).map_err(|e| self.folder_error(e.to_string()))
    }
}

/// As a whole or not at all, for the owner alone.
fn write_secret(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let part = path.with_extension("part");
    let _ = fs::remove_file(&part);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)
}

/// Asking again would bring the same answer.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::Unimplemented
    )
}

fn new_key() -> Result<KeyPair, IdentityError> {
    KeyPair::generate().map_err(|e| IdentityError::Key(e.to_string()))
}

fn key_of(kept: &Kept) -> Result<KeyPair, IdentityError> {
    KeyPair::from_pem(&kept.key_pem).map_err(|e| IdentityError::Key(e.to_string()))
}

/// The coordinator looks at nothing but the key.
fn certificate_request(key: &KeyPair) -> Result<Vec<u8>, IdentityError> {
    let request = CertificateParams::default().serialize_request(key);
    Ok(request.map_err(|e| IdentityError::Key(e.to_string()))?.der().to_vec())
}

fn certificate_of(kept: &str) -> Result<CertificateDer<'static>, IdentityError> {
    Ok(BASE64.decode(kept).map_err(|e| IdentityError::Key(e.to_string()))?.into())
}

fn shown(kept: &Kept, certificate: &KeptCertificate) -> Result<Arc<CertifiedKey>, IdentityError> {
    let bad = |e: &dyn std::fmt::Display| IdentityError::Key(e.to_string());
    let key = PrivateKeyDer::try_from(key_of(kept)?.serialize_der()).map_err(|e| bad(&e))?;
    let key = any_supported_type(&key).map_err(|e| bad(&e))?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate_of(&certificate.certificate)?], key)))
}
