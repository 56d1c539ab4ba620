//! Who the coordinator is at Entra ID: tokens for clusters, and keys by which it hands parts of its own access to storage
//! on. Both are asked for once and kept until they end; nothing of them is stored.

use crate::secrets::Secrets;
use async_trait::async_trait;
use azure_core::{
    http::{ClientOptions, RetryOptions, Transport, Url},
    time::OffsetDateTime,
};
use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions, models::KeyInfo};
use ferry_common::{
    activity::{Auth, AuthType, Secret, SecretPlace, SecretRef},
    clock::Millis,
    failure::{Code, Failure, Fault, Retry, redact, with_causes},
};
use ferry_kusto::auth::{
    CertificatePlace, Entra, EntraIdentity, EntraTokens, NoAuth, STORAGE_RESOURCE, StaticBearer, TokenError,
    TokenProvider,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long a key for signatures holds; the service allows a week.
const KEY_TTL: Duration = Duration::from_secs(6 * 24 * 3600);
/// A key is asked for anew when it holds no longer than this: longer than any signature made with it.
const KEY_LEFT_MIN: Duration = Duration::from_secs(3 * 24 * 3600);
/// A key that holds longer than this is used while a newer one is asked for: longer than the longest signature.
const KEY_LEFT_LEAST: Duration = Duration::from_secs(50 * 3600);
/// How long whoever needs a key waits for it: nodes wait behind it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Accounts and clusters that are remembered.
const PLACES_MAX: usize = 1_000;
/// Whoever asks within this time of a failure hears of it, and does not ask again.
const FAILURE_AGE_MAX: Duration = Duration::from_secs(5);
/// Signatures begin to hold a while before they are made: clocks differ.
const CLOCKS_APART: Duration = Duration::from_secs(15 * 60);
const STORAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A key of the storage service, made for one identity: signatures with it can do what the identity may, and no more.
#[derive(Clone)]
pub(crate) struct DelegationKey {
    /// Who it is for, and from when until when.
    pub(crate) object_id: String,
    pub(crate) tenant_id: String,
    pub(crate) start: String,
    pub(crate) expiry: String,
    pub(crate) service: String,
    pub(crate) version: String,
    pub(crate) value: Vec<u8>,
    pub(crate) ends: Millis,
}

/// One identity at one storage account.
#[derive(Default)]
struct Place {
    key: Mutex<Option<DelegationKey>>,
    /// Whoever asks holds it.
    asking: tokio::sync::Mutex<Asking>,
}

#[derive(Default)]
struct Asking {
    signed_in: Option<Entra>,
    /// Why there was no key, and when that was.
    failed: Option<(Failure, Instant)>,
}

/// Everybody that the coordinator has signed in.
#[derive(Default)]
pub(crate) struct Identities {
    /// What sign-ins and storage are opened with.
    pub(crate) secrets: Secrets,
    clusters: Mutex<HashMap<(String, EntraIdentity), Arc<EntraTokens>>>,
    places: Mutex<HashMap<(String, EntraIdentity), Arc<Place>>>,
}

/// The identity that a sign-in names; `None` for what is no matter of Entra ID. `secret` is what it stands on.
fn identity_of(auth: &Auth, secret: Option<&Secret>) -> Result<Option<EntraIdentity>, Failure> {
    let named = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(Some(match auth.kind {
        AuthType::None | AuthType::Bearer => return Ok(None),
        AuthType::ServicePrincipal => {
            let why = "servicePrincipalKey or servicePrincipalCertificate is missing";
            let secret = secret.ok_or_else(|| Failure::settings(Code::SettingsInvalid, why))?.expose().to_owned();
            let (tenant, id) = (named(&auth.tenant), named(&auth.service_principal_id));
            match auth.service_principal_certificate.as_ref().map(SecretRef::place) {
                None => EntraIdentity::ServicePrincipal { tenant, id, secret },
                Some(Ok(SecretPlace::File(path))) => {
                    EntraIdentity::CertifiedPrincipal { tenant, id, certificate: CertificatePlace::File(path.into()) }
                }
                Some(_) => {
                    EntraIdentity::CertifiedPrincipal { tenant, id, certificate: CertificatePlace::Text(secret) }
                }
            }
        }
        AuthType::ManagedIdentity => EntraIdentity::Managed { client_id: auth.client_id.clone() },
        AuthType::WorkloadIdentity => EntraIdentity::Workload,
        AuthType::AzureCli => EntraIdentity::AzureCli,
    }))
}

/// Tokens of a sign-in whose secret is in a vault. The secret is looked for whenever a token is wanted, so a newer one serves
/// runs that go on.
struct VaultTokens {
    identities: Arc<Identities>,
    endpoint: String,
    auth: Auth,
}

#[async_trait]
impl TokenProvider for VaultTokens {
    async fn token(&self) -> Result<Option<String>, TokenError> {
        let told = |failure: Failure| TokenError { is_passing: failure.retry != Retry::Never, why: failure.message };
        let secret = self.identities.secret_of(&self.auth).await.map_err(told)?;
        self.identities.tokens(&self.endpoint, &self.auth, secret).map_err(told)?.token().await
    }
}

fn judged(error: &TokenError) -> Failure {
    let (code, fault, retry) = if error.is_passing {
        (Code::StagingUnreachable, Fault::Sink, Retry::Backoff)
    } else {
        (Code::StagingForbidden, Fault::Settings, Retry::Never)
    };
    Failure::new(code, fault, retry, redact(&error.why))
}

impl Identities {
    /// Tokens for the cluster at `endpoint`. Nothing is sent yet.
    pub(crate) fn for_cluster(
        self: &Arc<Self>,
        endpoint: &str,
        auth: &Auth,
    ) -> Result<Arc<dyn TokenProvider>, Failure> {
        if auth.secret().is_some_and(|reference| matches!(reference.place(), Ok(SecretPlace::Vault(_)))) {
            let identities = self.clone();
            return Ok(Arc::new(VaultTokens { identities, endpoint: endpoint.to_owned(), auth: auth.clone() }));
        }
        self.tokens(endpoint, auth, auth.secret().map(SecretRef::resolve).transpose()?)
    }

    /// The secret that a sign-in stands on, if it has one.
    pub(crate) async fn secret_of(&self, auth: &Auth) -> Result<Option<Secret>, Failure> {
        match auth.secret() {
            Some(reference) => self.secrets.resolve(reference).await.map(Some),
            None => Ok(None),
        }
    }

    fn tokens(&self, endpoint: &str, auth: &Auth, secret: Option<Secret>) -> Result<Arc<dyn TokenProvider>, Failure> {
        if let Some(identity) = identity_of(auth, secret.as_ref())? {
            let mut known = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= PLACES_MAX {
                known.clear();
            }
            let key = (endpoint.to_owned(), identity.clone());
            let tokens = known.entry(key).or_insert_with(|| Arc::new(EntraTokens::new(endpoint, identity)));
            return Ok(tokens.clone());
        }
        Ok(match secret {
            Some(token) => Arc::new(StaticBearer::new(token.expose().to_owned())),
            None => Arc::new(NoAuth),
        })
    }

    /// A key to sign access to the storage account at `account` with.
    pub(crate) async fn delegation_key(
        &self,
        account: &str,
        auth: &Auth,
        now: Millis,
    ) -> Result<DelegationKey, Failure> {
        let secret = self.secret_of(auth).await?;
        let identity = identity_of(auth, secret.as_ref())?
            .ok_or_else(|| Failure::settings(Code::SettingsInvalid, "staging.auth names no identity of Entra ID"))?;
        let place = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            if places.len() >= PLACES_MAX {
                places.clear();
            }
            places.entry((account.to_owned(), identity.clone())).or_default().clone()
        };
        let known = place.key();
        if let Some(key) = &known
            && now.plus(KEY_LEFT_MIN) < key.ends
        {
            return Ok(key.clone());
        }
        // It goes on when nobody waits for it any more: the next one who asks finds what it got.
        let account = account.to_owned();
        let asked = tokio::spawn(async move { place.ask(&account, &identity, now).await });
        match known {
            // What holds a while longer serves meanwhile.
            Some(key) if now.plus(KEY_LEFT_LEAST) < key.ends => Ok(key),
            _ => match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(result)) => result,
                Ok(Err(e)) => Err(Failure::internal(e.to_string())),
                Err(_) => {
                    let message =
                        format!("staging storage gave no key to sign with within {PATIENCE:?}; it is asked on");
                    Err(Failure::new(Code::StagingUnreachable, Fault::Sink, Retry::Backoff, message))
                }
            },
        }
    }
}

impl Place {
    fn key(&self) -> Option<DelegationKey> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One asks, the others wait for what it gets.
    async fn ask(&self, account: &str, identity: &EntraIdentity, now: Millis) -> Result<DelegationKey, Failure> {
        let mut asking = self.asking.lock().await;
        if let Some(key) = self.key()
            && now.plus(KEY_LEFT_MIN) < key.ends
        {
            return Ok(key);
        }
        if let Some((failure, at)) = &asking.failed
            && at.elapsed() < FAILURE_AGE_MAX
        {
            return Err(failure.clone());
        }
        let asked = async {
            let entra = match &asking.signed_in {
                Some(entra) => entra.clone(),
                None => Entra::new(identity, None).map_err(|e| judged(&e))?,
            };
            // The client of the storage would hide why there is no token.
            entra.token(STORAGE_RESOURCE).await.map_err(|e| judged(&e))?;
            let key = ask_for_key(account, &entra, now).await?;
            Ok::<_, Failure>((entra, key))
        };
        let asked = asked.await;
        match asked {
            Ok((entra, key)) => {
                *asking = Asking { signed_in: Some(entra), failed: None };
                *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
                Ok(key)
            }
            Err(failure) => {
                asking.failed = Some((failure.clone(), Instant::now()));
                Err(failure)
            }
        }
    }
}

async fn ask_for_key(account: &str, entra: &Entra, now: Millis) -> Result<DelegationKey, Failure> {
    let failed = |why: String| {
        let message = format!("storage account {account} gives no key to sign with: {}", redact(&why));
        Failure::new(Code::StagingFailed, Fault::Sink, Retry::Backoff, message)
    };
    let url = Url::parse(account).map_err(|e| failed(e.to_string()))?;
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(STORAGE_TIMEOUT)
        .build()
        .map_err(|e| failed(with_causes(&e)))?;
    let options = BlobServiceClientOptions {
        client_options: ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(http))),
            ..ClientOptions::default()
        },
        ..BlobServiceClientOptions::default()
    };
    let client = BlobServiceClient::new(url, Some(entra.credential()), Some(options));
    let client = client.map_err(|e| failed(with_causes(&e)))?;
    let ends = now.plus(KEY_TTL);
    let time = |at: Millis| OffsetDateTime::from_unix_timestamp(at.0 / 1000).ok();
    let wanted = KeyInfo {
        start: time(Millis(now.0 - CLOCKS_APART.as_millis() as i64)),
        expiry: time(ends),
        ..KeyInfo::default()
    };
    let wanted = wanted.try_into().map_err(|e: azure_core::Error| failed(e.to_string()))?;
    let answer = client.get_user_delegation_key(wanted, None).await.map_err(|e| {
        let status = e.http_status().map(u16::from);
        let failure = failed(with_causes(&e));
        if matches!(status, Some(401 | 403)) {
            let hint = "the identity needs Storage Blob Delegator or Storage Blob Data Contributor on the account";
            let message = format!("{}; {hint}", failure.message);
            return Failure::new(Code::StagingForbidden, Fault::Settings, Retry::Backoff, message);
        }
        failure
    })?;
    let key = answer.into_model().map_err(|e| failed(e.to_string()))?;
    let text = |text: Option<String>| text.ok_or_else(|| failed("its answer lacks a field".to_owned()));
    let seconds = |at: Option<OffsetDateTime>| {
        let at = at.ok_or_else(|| failed("its answer lacks a time".to_owned()))?;
        Ok::<_, Failure>(Millis(at.unix_timestamp() * 1000).to_string())
    };
    Ok(DelegationKey {
        object_id: text(key.signed_oid)?,
        tenant_id: text(key.signed_tid)?,
        start: seconds(key.signed_start)?,
        expiry: seconds(key.signed_expiry)?,
        service: text(key.signed_service)?,
        version: text(key.signed_version)?,
        value: key.value.ok_or_else(|| failed("its answer lacks the key".to_owned()))?,
        ends,
    })
}
