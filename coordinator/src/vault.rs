//! Asks Key Vaults for secrets, as the identity of the machine. It keeps nothing but the sign-in.

use ferry_common::{
    activity::Secret,
    failure::{Code, Failure, Fault, Retry, redact, with_causes},
    vault::{self, VaultSecret},
};
use ferry_kusto::auth::{Entra, EntraIdentity};
use reqwest::StatusCode;
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{net::TcpStream, sync::Mutex};

/// Says who signs in, where that shall not be found out.
const AUTH_VARIABLE: &str = "FERRY_KEYVAULT_AUTH";
/// Set in pods by workload identity.
const WORKLOAD_VARIABLE: &str = "AZURE_FEDERATED_TOKEN_FILE";
/// Set where a service of the machine gives tokens of a managed identity.
const MANAGED_VARIABLES: [&str; 2] = ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"];
/// Azure's machines have their metadata service here.
const METADATA_ADDRESS: &str = "169.254.169.254:80";
/// How long it is looked for: it is near, or not there.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// Version of the vaults' API. Every cloud knows it.
const API_VERSION: &str = "7.4";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read; a secret has 25 kB at most.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// So much of what a vault says goes into a message.
const WORDS_MAX: usize = 400;

/// Who signs in to vaults, and how that is told.
struct SignedIn {
    entra: Entra,
    who: String,
    http: reqwest::Client,
}

/// The way to every vault: a sign-in for each of Azure's clouds that was wanted.
#[derive(Default)]
pub(crate) struct Vaults(Mutex<HashMap<&'static str, Arc<SignedIn>>>);

#[derive(Deserialize)]
struct Answer {
    value: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: RefusalError,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefusalError {
    code: String,
    message: String,
}

fn failed(at: &VaultSecret, retry: Retry, why: &str) -> Failure {
    let message = redact(&format!("secret keyvault:{}: {why}", at.url));
    Failure::new(Code::SecretMissing, Fault::Settings, retry, message)
}

/// Who signs in, by the name that [`AUTH_VARIABLE`] has for it.
fn identity_named(name: &str) -> Result<EntraIdentity, String> {
    match name {
        "workloadIdentity" => Ok(EntraIdentity::Workload),
        "managedIdentity" => Ok(EntraIdentity::managed_of_environment()),
        "azureCli" => Ok(EntraIdentity::AzureCli),
        "servicePrincipal" => EntraIdentity::principal_of_environment().map_err(|lacking| {
            format!("{AUTH_VARIABLE}=servicePrincipal needs {lacking} in the coordinator's environment")
        }),
        other => Err(format!(
            "{AUTH_VARIABLE} is {other:?}, none of workloadIdentity, managedIdentity, azureCli and servicePrincipal"
        )),
    }
}

/// What the machine is, by what Azure has put there.
async fn identity_found() -> &'static str {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if is_set(WORKLOAD_VARIABLE) {
        return "workloadIdentity";
    }
    if MANAGED_VARIABLES.into_iter().any(is_set) {
        return "managedIdentity";
    }
    match tokio::time::timeout(METADATA_TIMEOUT, TcpStream::connect(METADATA_ADDRESS)).await {
        Ok(Ok(_)) => "managedIdentity",
        _ => "azureCli",
    }
}

async fn sign_in(authority: &str) -> Result<SignedIn, String> {
    let name = match std::env::var(AUTH_VARIABLE) {
        Ok(name) => name,
        Err(_) => identity_found().await.to_owned(),
    };
    let identity = identity_named(&name)?;
    let entra = Entra::new(&identity, Some(authority)).map_err(|e| e.why)?;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(REQUEST_TIMEOUT).build();
    let http = http.map_err(|e| with_causes(&e))?;
    tracing::info!(identity = name, "Key Vaults are asked for secrets");
    Ok(SignedIn { entra, who: name, http })
}

impl Vaults {
    async fn signed_in(&self, authority: &'static str) -> Result<Arc<SignedIn>, String> {
        let mut known = self.0.lock().await;
        if let Some(signed_in) = known.get(authority) {
            return Ok(signed_in.clone());
        }
        let signed_in = Arc::new(sign_in(authority).await?);
        known.insert(authority, signed_in.clone());
        Ok(signed_in)
    }

    /// Asks for one secret. Fails with [`Code::SecretMissing`]; what may pass is told apart.
    pub(crate) async fn ask(&self, at: &VaultSecret) -> Result<Secret, Failure> {
        // Whoever listens on this machine would hear a token that is good for every vault: only where sign-ins go to this
        // machine, too, as in tests.
        if at.is_here() && !std::env::var("AZURE_AUTHORITY_HOST").is_ok_and(|host| vault::is_here(&host)) {
            return Err(failed(at, Retry::Never, "a vault is at no address of this machine"));
        }
        let signed_in = self.signed_in(at.authority).await;
        let signed_in = signed_in.map_err(|why| failed(at, Retry::Never, &format!("sign-in: {why}")))?;
        let token = signed_in.entra.token(at.resource).await.map_err(|e| {
            let retry = if e.is_passing { Retry::Backoff } else { Retry::Never };
            failed(at, retry, &format!("sign-in as {}: {}", signed_in.who, e.why))
        })?;
        let away = |e: reqwest::Error| failed(at, Retry::Backoff, &with_causes(&e.without_url()));
        let request = signed_in.http.get(format!("{}?api-version={API_VERSION}", at.url)).bearer_auth(token);
        let mut response = request.send().await.map_err(away)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(away)? {
            body.extend_from_slice(&piece);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(failed(at, Retry::Never, "the vault's answer is larger than any secret"));
            }
        }
        if !status.is_success() {
            let (retry, why) = refusal(status, &body, &signed_in.who);
            return Err(failed(at, retry, &why));
        }
        // It may be the page of a proxy on the way.
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| failed(at, Retry::Backoff, "the answer is none of a Key Vault"))?;
        let text = answer.value.trim();
        if text.is_empty() {
            return Err(failed(at, Retry::Never, "is empty"));
        }
        Ok(Secret::new(text.to_owned()))
    }
}

/// What a vault's refusal means, and whether it may pass.
fn refusal(status: StatusCode, body: &[u8], who: &str) -> (Retry, String) {
    let told: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let said = [told.error.code, told.error.message].join(": ");
    let said: String = said.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
    match status.as_u16() {
        401 => {
            (Retry::Never, format!("the vault does not take the token of the {who}: is it of another tenant? ({said})"))
        }
        403 => (
            Retry::Never,
            format!(
                "the {who} may not read it: give it Key Vault Secrets User on the vault (or `get` in its access policy), and let the \
                 coordinator through the vault's firewall ({said})"
            ),
        ),
        404 => (Retry::Never, format!("the vault has no such secret, or not in this version ({said})")),
        300..=399 => (Retry::Never, "the vault answers with another address, which is not followed".to_owned()),
        408 | 429 | 500.. => (Retry::Backoff, format!("the vault answers HTTP {status} ({said})")),
        _ => (Retry::Never, format!("the vault answers HTTP {status} ({said})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_what_is_told() {
        let body = br#"{"error":{"code":"Forbidden","message":"Caller is not authorized.\r\nCaller: appid=a;oid=o"}}"#;
        let (retry, why) = refusal(StatusCode::FORBIDDEN, body, "managedIdentity");
        assert_eq!(retry, Retry::Never);
        for words in ["managedIdentity may not read it", "Key Vault Secrets User", "Forbidden: Caller is not", "oid=o"]
        {
            assert!(why.contains(words), "{words}: {why}");
        }
        assert!(!why.contains('\n'), "{why}");
        for (status, retry) in [(404, Retry::Never), (401, Retry::Never), (302, Retry::Never), (400, Retry::Never)]
            .into_iter()
            .chain([(429, Retry::Backoff), (503, Retry::Backoff), (408, Retry::Backoff)])
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(refusal(status, b"<html>", "azureCli").0, retry, "{status}");
        }
    }

    #[test]
    fn an_identity_that_is_none_is_told() {
        assert_eq!(identity_named("azureCli").unwrap(), EntraIdentity::AzureCli);
        assert_eq!(identity_named("workloadIdentity").unwrap(), EntraIdentity::Workload);
        let why = identity_named("managed-identity").unwrap_err();
        assert!(why.contains("FERRY_KEYVAULT_AUTH") && why.contains("workloadIdentity"), "{why}");
    }
}
