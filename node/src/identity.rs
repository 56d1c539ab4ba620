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
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

/// How TLS says so.
const NOT_BELIEVED: &str = "invalid peer certificate";
const FILE: &str = "identity.json";
/// The key that a certificate is asked for with, until there is one. When the answer is lost, the same key asks again.
const ASKING_FILE: &str = "joining.json";
const LOCK_FILE: &str = "lock";
/// Longest sleep before clocks are looked at again: they may be set, and machines may be suspended.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
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
    /// The certificate has ended, and could not be renewed in time.
    #[error(
        "the certificate of this node has ended before it could be renewed; start the node again, with a join token"
    )]
    Ended,
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
    /// PKCS #8, PEM.
    key_pem: String,
    runtime: RuntimeName,
    certificate: KeptCertificate,
}

/// What [`ASKING_FILE`] holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asking {
    key_pem: String,
}

#[derive(Serialize, Deserialize)]
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
    /// When the certificate that is shown is to be renewed, and when it ends.
    times: Mutex<(Millis, Millis)>,
    clock: Arc<dyn Clock>,
    /// Nobody else uses the folder.
    _lock: fs::File,
}

/// What came of the wait.
pub(crate) enum Joined {
    /// Calls go this way.
    Member(Channel),
    /// The program is told to end.
    Stopped,
}

impl Membership {
    /// Opens the folder, for this process alone.
    pub(crate) fn open(
        config: MembershipConfig,
        coordinator: &str,
        name: &str,
        runtime: &RuntimeName,
    ) -> Result<Self, IdentityError> {
        let failed = |why: String| IdentityError::Folder { path: config.folder.clone(), why };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.folder).map_err(|e| failed(e.to_string()))?;
        let lock = fs::File::create(config.folder.join(LOCK_FILE)).map_err(|e| failed(e.to_string()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(failed("another node uses it; each needs an --identity of its own".to_owned()));
            }
            Err(fs::TryLockError::Error(e)) => return Err(failed(format!("cannot be locked: {e}"))),
        }
        Ok(Self {
            coordinator: coordinator.to_owned(),
            name: name.to_owned(),
            runtime: runtime.clone(),
            shown: ClientIdentity::default(),
            times: Mutex::new((Millis(0), Millis(0))),
            clock: Arc::new(SystemClock),
            config,
            _lock: lock,
        })
    }

    /// Joins, unless it has, and gives the channel that shows the certificate. Waits for a coordinator that does not answer.
    pub(crate) async fn join(&self, shutdown: &CancellationToken) -> Result<Joined, IdentityError> {
        match self.read::<Kept>(FILE)? {
            Some(kept) if kept.certificate.ends_ms > self.clock.now().0 => self.member(&kept).map(Joined::Member),
            Some(_) => self.join_anew("a certificate that has ended", shutdown).await,
            None => self.join_anew("no certificate", shutdown).await,
        }
    }

    /// There is a token to join with.
    pub(crate) fn has_token(&self) -> bool {
        matches!(self.token(), Ok(Some(_)))
    }

    /// Joins with the token. What was there before, `has` says, stays until that has succeeded.
    pub(crate) async fn join_anew(
        &self,
        has: &'static str,
        shutdown: &CancellationToken,
    ) -> Result<Joined, IdentityError> {
        let Some(token) = self.token()? else {
            let (folder, runtime) = (self.config.folder.clone(), self.runtime.clone());
            let looked = self.config.token_file.as_ref().map(|path| format!(" in {}", path.display()));
            return Err(IdentityError::TokenMissing { has, folder, looked: looked.unwrap_or_default(), runtime });
        };
        let key = match self.read::<Asking>(ASKING_FILE)? {
            Some(asking) => key_of(&asking.key_pem)?,
            None => {
                let key = new_key()?;
                self.write(ASKING_FILE, &Asking { key_pem: key.serialize_pem() })?;
                key
            }
        };
        let trust = match (&self.config.authority, &token.authority) {
            (Some(path), _) => Trust::Authorities(trust::read_certificates(path)?),
            (None, Some(pinned)) => Trust::Pinned(pinned.clone()),
            (None, None) => Trust::System,
        };
        let mut client = JoinServiceClient::new(self.channel(&trust)?);
        let request = pb::JoinRequest {
            token: token.to_text(),
            certificate_request: certificate_request(&key)?,
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
                    let why = told(&status);
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
        let kept = self.kept(&key, answer);
        self.write(FILE, &kept)?;
        let _ = fs::remove_file(self.config.folder.join(ASKING_FILE));
        tracing::info!(name = self.name, runtime = %self.runtime, "this node has joined");
        self.member(&kept).map(Joined::Member)
    }

    /// Shows the certificate from now on, and gives the channel that does.
    fn member(&self, kept: &Kept) -> Result<Channel, IdentityError> {
        if kept.runtime != self.runtime {
            return Err(self.folder_error(format!(
                "holds the identity of a node of integration runtime {}; choose another --identity, or --runtime {}",
                kept.runtime, kept.runtime
            )));
        }
        self.show(kept)?;
        let trust = match (&self.config.authority, &kept.certificate.authority) {
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

    fn show(&self, kept: &Kept) -> Result<(), IdentityError> {
        let bad = |e: &dyn std::fmt::Display| IdentityError::Key(e.to_string());
        let key = PrivateKeyDer::try_from(key_of(&kept.key_pem)?.serialize_der()).map_err(|e| bad(&e))?;
        let key = any_supported_type(&key).map_err(|e| bad(&e))?;
        let chain = vec![certificate_of(&kept.certificate.certificate)?];
        self.shown.set(Arc::new(CertifiedKey::new(chain, key)));
        let times = (Millis(kept.certificate.renew_at_ms), Millis(kept.certificate.ends_ms));
        *self.times.lock().unwrap_or_else(PoisonError::into_inner) = times;
        Ok(())
    }

    /// Renews the certificate at two thirds of its life, again and again. Ends when it has ended all the same: then nothing comes
    /// through any more, and the next start joins anew.
    pub(crate) async fn keep(&self, channel: Channel) -> IdentityError {
        let mut client = JoinServiceClient::new(channel);
        let mut failures = 0;
        loop {
            let (due, ends) = *self.times.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            if now >= ends {
                return IdentityError::Ended;
            }
            let wait = if failures > 0 { backoff(failures, 0.5).min(RETRY_WAIT_MAX) } else { due.since(now) };
            tokio::time::sleep(wait.min(LOOK_INTERVAL)).await;
            if self.clock.now() < due {
                continue;
            }
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
        let kept = self.kept(&key, answer.map_err(|status| told(&status))?.into_inner());
        self.write(FILE, &kept).map_err(|e| e.to_string())?;
        self.show(&kept).map_err(|e| e.to_string())?;
        tracing::info!("the certificate is renewed");
        Ok(())
    }

    fn kept(&self, key: &KeyPair, answer: pb::Certificate) -> Kept {
        let (now, ttl) = (self.clock.now(), Duration::from_millis(answer.ttl_ms));
        let certificate = KeptCertificate {
            certificate: BASE64.encode(&answer.certificate),
            authority: (!answer.authority.is_empty()).then(|| BASE64.encode(&answer.authority)),
            renew_at_ms: now.plus(ttl * 2 / 3).0,
            ends_ms: now.plus(ttl).0,
        };
        Kept { key_pem: key.serialize_pem(), runtime: self.runtime.clone(), certificate }
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

    fn folder_error(&self, why: String) -> IdentityError {
        IdentityError::Folder { path: self.config.folder.clone(), why }
    }

    fn read<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, IdentityError> {
        match fs::read(self.config.folder.join(file)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                self.folder_error(format!("{file} cannot be read ({e}); remove it, and give the node a new token"))
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.folder_error(e.to_string())),
        }
    }

    /// As a whole or not at all, for the owner alone.
    fn write<T: Serialize>(&self, file: &str, kept: &T) -> Result<(), IdentityError> {
        let path = self.config.folder.join(file);
        let write = || {
            let part = path.with_extension("part");
            // Left by a write that was cut off.
            let _ = fs::remove_file(&part);
            let mut written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
            written.write_all(&serde_json::to_vec_pretty(kept)?)?;
            written.sync_all()?;
            fs::rename(&part, &path)
        };
        write().map_err(|e| self.folder_error(e.to_string()))
    }
}

/// What went wrong, without the library's own view of it.
fn told(status: &Status) -> String {
    std::error::Error::source(status).map_or_else(|| status.message().to_owned(), with_causes)
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

fn key_of(key_pem: &str) -> Result<KeyPair, IdentityError> {
    KeyPair::from_pem(key_pem).map_err(|e| IdentityError::Key(e.to_string()))
}

/// The coordinator looks at nothing but the key.
fn certificate_request(key: &KeyPair) -> Result<Vec<u8>, IdentityError> {
    let request = CertificateParams::default().serialize_request(key);
    Ok(request.map_err(|e| IdentityError::Key(e.to_string()))?.der().to_vec())
}

fn certificate_of(kept: &str) -> Result<CertificateDer<'static>, IdentityError> {
    Ok(BASE64.decode(kept).map_err(|e| IdentityError::Key(e.to_string()))?.into())
}
