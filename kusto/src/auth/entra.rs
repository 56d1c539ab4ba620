//! Tokens of Entra ID, for clusters and for storage.

use super::{
    TokenError, TokenProvider,
    certificate::{CertificateAssertion, CertificatePlace},
    is_loopback,
    kept::Kept,
};
use async_trait::async_trait;
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{Secret, TokenCredential},
    http::{ClientOptions, RetryOptions, Transport},
};
use azure_identity::{
    AzureCliCredential, ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use serde::Deserialize;
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::OnceCell;

/// What storage accounts are called when a token is asked for.
pub const STORAGE_RESOURCE: &str = "https://storage.azure.com";
/// The same of clusters that do not say.
const KUSTO_RESOURCE: &str = "https://kusto.kusto.windows.net";
/// Names the authority that sign-ins go to, whatever a cluster says: the variable of Microsoft's own libraries.
const AUTHORITY_VARIABLE: &str = "AZURE_AUTHORITY_HOST";
/// The authority of the public cloud.
const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";
/// The rest of what names an application, for Microsoft's own tools: its tenant, and its secret or a file with its certificate.
const TENANT_VARIABLE: &str = "AZURE_TENANT_ID";
/// Names an application, or an identity that is assigned to the machine, by its id.
const CLIENT_VARIABLE: &str = "AZURE_CLIENT_ID";
const SECRET_VARIABLE: &str = "AZURE_CLIENT_SECRET";
const CERTIFICATE_VARIABLE: &str = "AZURE_CLIENT_CERTIFICATE_PATH";
/// Time for a token, tries included. What cannot be had in it is tried again by whoever asked.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(60);
const METADATA_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer about sign-in that is read.
const METADATA_BYTES_MAX: usize = 64 << 10;

/// Who signs in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum EntraIdentity {
    /// An application with a secret.
    ServicePrincipal {
        /// Its tenant.
        tenant: String,
        /// Its id (client id, application id).
        id: String,
        /// Its secret.
        secret: String,
    },
    /// An application with a certificate.
    CertifiedPrincipal {
        /// Its tenant.
        tenant: String,
        /// Its id (client id, application id).
        id: String,
        /// Its certificate and the key of that.
        certificate: CertificatePlace,
    },
    /// The identity of the machine, or one that is assigned to it.
    Managed {
        /// Client id of the assigned one.
        client_id: Option<String>,
    },
    /// The identity of the Kubernetes service account.
    Workload,
    /// Whoever signed in with `az login`.
    AzureCli,
}

impl fmt::Debug for EntraIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServicePrincipal { tenant, id, .. } => write!(f, "ServicePrincipal({tenant}, {id})"),
            Self::CertifiedPrincipal { tenant, id, certificate } => {
                write!(f, "CertifiedPrincipal({tenant}, {id}, {certificate:?})")
            }
            Self::Managed { client_id } => write!(f, "Managed({client_id:?})"),
            Self::Workload => f.write_str("Workload"),
            Self::AzureCli => f.write_str("AzureCli"),
        }
    }
}

impl EntraIdentity {
    /// The application that the environment names, as for Microsoft's own tools. Fails with what is missing there.
    pub fn principal_of_environment() -> Result<Self, String> {
        let named = |name: &str| std::env::var(name).map_err(|_| name.to_owned());
        let (tenant, id) = (named(TENANT_VARIABLE)?, named(CLIENT_VARIABLE)?);
        match (named(SECRET_VARIABLE), named(CERTIFICATE_VARIABLE)) {
            (Ok(secret), _) => Ok(Self::ServicePrincipal { tenant, id, secret }),
            (_, Ok(path)) => {
                Ok(Self::CertifiedPrincipal { tenant, id, certificate: CertificatePlace::File(path.into()) })
            }
            _ => Err(format!("{SECRET_VARIABLE} or {CERTIFICATE_VARIABLE}")),
        }
    }

    /// The machine's identity, or the one that the environment names.
    pub fn managed_of_environment() -> Self {
        Self::Managed { client_id: std::env::var(CLIENT_VARIABLE).ok() }
    }
}

/// Signs one identity in. Tokens are kept, and asked for anew before they end.
#[derive(Debug, Clone)]
pub struct Entra(Arc<dyn TokenCredential>);

fn refused(why: impl fmt::Display) -> TokenError {
    TokenError { why: why.to_string(), is_passing: false }
}

fn passing(why: impl fmt::Display) -> TokenError {
    TokenError { why: why.to_string(), is_passing: true }
}

/// Where an application of `tenant` gets its tokens, as the library has it.
fn token_endpoint(authority: Option<&str>, tenant: &str) -> Result<String, TokenError> {
    let named = std::env::var(AUTHORITY_VARIABLE).ok();
    let host = named.as_deref().or(authority).unwrap_or(PUBLIC_AUTHORITY);
    let url = reqwest::Url::parse(host).and_then(|url| url.join(&format!("/{tenant}/oauth2/v2.0/token")));
    url.map(String::from).map_err(|e| refused(format!("sign-in at {host}: {e}")))
}

impl Entra {
    /// Signs `identity` in at `authority`, such as `https://login.microsoftonline.com`; `None`: that of the public cloud.
    /// The variable `AZURE_AUTHORITY_HOST` goes before both.
    pub fn new(identity: &EntraIdentity, authority: Option<&str>) -> Result<Self, TokenError> {
        let authority = if std::env::var_os(AUTHORITY_VARIABLE).is_some() { None } else { authority };
        let cloud = authority.map(|host| {
            let mut custom = CustomConfiguration::default();
            custom.authority_host = host.to_owned();
            Arc::new(CloudConfiguration::Custom(custom))
        });
        // Whoever needs a token tries again, and says so meanwhile.
        let client_options = ClientOptions { cloud, retry: RetryOptions::none(), ..ClientOptions::default() };
        let credential: Result<Arc<dyn TokenCredential>, azure_core::Error> = match identity {
            EntraIdentity::ServicePrincipal { tenant, id, secret } => {
                let options = ClientSecretCredentialOptions { client_options };
                let secret = Secret::new(secret.clone());
                ClientSecretCredential::new(tenant, id.clone(), secret, Some(options)).map(|c| c as _)
            }
            EntraIdentity::CertifiedPrincipal { tenant, id, certificate } => {
                let endpoint = token_endpoint(authority, tenant)?;
                let assertion = CertificateAssertion::new(certificate.clone(), id.clone(), endpoint)
                    .map_err(|why| refused(format!("sign-in at Entra ID: {why}")))?;
                let options = ClientAssertionCredentialOptions { client_options };
                ClientAssertionCredential::new(tenant.clone(), id.clone(), assertion, Some(options)).map(|c| c as _)
            }
            EntraIdentity::Managed { client_id } => {
                let user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
                // What gives these tokens is at the machine itself: no proxy can reach it.
                let direct = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
                let direct = direct.build().map_err(refused)?;
                let client_options =
                    ClientOptions { transport: Some(Transport::new(Arc::new(direct))), ..client_options };
                let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
                ManagedIdentityCredential::new(Some(options)).map(|c| c as _)
            }
            EntraIdentity::Workload => {
                let mut options = WorkloadIdentityCredentialOptions::default();
                options.credential_options.client_options = client_options;
                WorkloadIdentityCredential::new(Some(options)).map(|c| c as _)
            }
            // A program that is started each time.
            EntraIdentity::AzureCli => AzureCliCredential::new(None).map(|c| Arc::new(Kept::new(c)) as _),
        };
        credential.map(Self).map_err(|e| refused(format!("sign-in at Entra ID: {e}")))
    }

    /// What Microsoft's own clients take.
    pub fn credential(&self) -> Arc<dyn TokenCredential> {
        self.0.clone()
    }

    /// A token for a resource, such as [`STORAGE_RESOURCE`].
    pub async fn token(&self, resource: &str) -> Result<String, TokenError> {
        let scope = format!("{}/.default", resource.trim_end_matches('/'));
        let scopes = [scope.as_str()];
        let asked = tokio::time::timeout(TOKEN_TIMEOUT, self.0.get_token(&scopes, None)).await;
        let late = |_| passing(format!("Entra ID gave no token for {resource} within {TOKEN_TIMEOUT:?}"));
        match asked.map_err(late)? {
            Ok(token) => Ok(token.token.secret().to_owned()),
            Err(e) => {
                let why = format!("Entra ID gave no token for {resource}: {}", in_one_line(&e));
                Err(TokenError { why, is_passing: is_passing(&e) })
            }
        }
    }
}

/// The library explains at length, over several lines.
fn in_one_line(error: &azure_core::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("To troubleshoot"));
    lines.collect::<Vec<_>>().join(" ")
}

/// What Entra ID refuses with 4xx stays refused; everything else may pass.
fn is_passing(error: &azure_core::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        let status = cause.downcast_ref::<azure_core::Error>().and_then(azure_core::Error::http_status);
        if let Some(status) = status {
            let status = u16::from(status);
            return status == 408 || status == 429 || status >= 500;
        }
        next = cause.source();
    }
    // Words of the protocol for what will not pass (RFC 6749, section 5.2), and of `az` for who is not signed in.
    let text = error.to_string();
    let protocol =
        ["invalid_client", "unauthorized_client", "invalid_scope", "invalid_request", "invalid_grant", "AADSTS"];
    let az = ["az login", "not found on PATH"];
    !protocol.iter().chain(&az).any(|word| text.contains(word))
}

/// What a cluster says about signing in to it.
#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(rename = "AzureAD")]
    azure_ad: MetadataAzureAd,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetadataAzureAd {
    login_endpoint: String,
    kusto_service_resource_id: String,
}

/// Authorities of Azure's clouds.
const AUTHORITIES: &[&str] = &[
    "login.microsoftonline.com",
    "login.windows.net",
    "login.microsoft.com",
    "sts.windows.net",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
    "login.chinacloudapi.cn",
    "login.sovcloud-identity.fr",
    "login.sovcloud-identity.de",
    "login.sovcloud-identity.sg",
];

impl MetadataAzureAd {
    /// Whoever answers for a cluster chooses neither who hears of the secret, nor what the token is good for.
    fn check(&self, endpoint: &str) -> Result<(), String> {
        let host_of = |text: &str| {
            let url = reqwest::Url::parse(text).ok();
            url.and_then(|url| Some((url.scheme() == "https", url.host_str()?.to_ascii_lowercase())))
        };
        let is_here = host_of(endpoint).is_some_and(|(_, host)| is_loopback(&host));
        let is_known = host_of(&self.login_endpoint).is_some_and(|(is_tls, host)| {
            (is_tls && AUTHORITIES.contains(&host.as_str())) || (is_here && is_loopback(&host))
        });
        if !is_known {
            let named = &self.login_endpoint;
            return Err(format!("{endpoint} names {named:?} to sign in at, which is no authority of Entra ID"));
        }
        let is_cluster = host_of(&self.kusto_service_resource_id)
            .is_some_and(|(_, host)| host.split('.').any(|part| part == "kusto" || part == "kustomfa"));
        if !is_cluster {
            let named = &self.kusto_service_resource_id;
            return Err(format!("{endpoint} asks for a token for {named:?}, which is no cluster"));
        }
        Ok(())
    }
}

/// Tokens for one cluster. Which authority and which audience is asked of the cluster itself, once; that it is a host that
/// may be trusted is checked before, by [`crate::Client::new`].
pub struct EntraTokens {
    endpoint: String,
    identity: EntraIdentity,
    known: OnceCell<(Entra, String)>,
}

impl EntraTokens {
    /// Tokens of `identity` for the cluster at `endpoint`.
    pub fn new(endpoint: &str, identity: EntraIdentity) -> Self {
        // A path in the address names a database; it is no part of where the cluster is.
        let origin = reqwest::Url::parse(endpoint).map(|url| url.origin().ascii_serialization());
        Self { endpoint: origin.unwrap_or_else(|_| endpoint.to_owned()), identity, known: OnceCell::new() }
    }

    async fn ask(&self) -> Result<(Entra, String), TokenError> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(METADATA_TIMEOUT)
            .build()
            .map_err(refused)?;
        let lost = |e: reqwest::Error| passing(format!("how to sign in to {}: {}", self.endpoint, e.without_url()));
        let mut response = http.get(format!("{}/v1/rest/auth/metadata", self.endpoint)).send().await.map_err(lost)?;
        let status = response.status();
        if status == reqwest::StatusCode::NOT_FOUND {
            return Ok((Entra::new(&self.identity, None)?, KUSTO_RESOURCE.to_owned()));
        }
        if !status.is_success() {
            let why = format!("{} does not say how to sign in to it: HTTP {status}", self.endpoint);
            return Err(TokenError { why, is_passing: status.is_server_error() || status.as_u16() == 429 });
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(lost)? {
            body.extend_from_slice(&piece);
            if body.len() > METADATA_BYTES_MAX {
                return Err(refused(format!("{} says too much about signing in to it", self.endpoint)));
            }
        }
        // It may be the page of a proxy on the way.
        let told: Metadata = serde_json::from_slice(&body)
            .map_err(|e| passing(format!("{} does not say how to sign in to it: {e}", self.endpoint)))?;
        told.azure_ad.check(&self.endpoint).map_err(refused)?;
        let entra = Entra::new(&self.identity, Some(&told.azure_ad.login_endpoint))?;
        Ok((entra, told.azure_ad.kusto_service_resource_id))
    }
}

#[async_trait]
impl TokenProvider for EntraTokens {
    async fn token(&self) -> Result<Option<String>, TokenError> {
        let (entra, resource) = self.known.get_or_try_init(|| self.ask()).await?;
        entra.token(resource).await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_shown_without_its_secret() {
        let identity = EntraIdentity::ServicePrincipal { tenant: "t".into(), id: "i".into(), secret: "hidden".into() };
        assert_eq!(format!("{identity:?}"), "ServicePrincipal(t, i)");
    }

    #[test]
    fn an_assertion_is_for_the_endpoint_of_its_authority() {
        for authority in ["https://login.example", "https://login.example/"] {
            let endpoint = token_endpoint(Some(authority), "contoso.example").unwrap();
            assert_eq!(endpoint, "https://login.example/contoso.example/oauth2/v2.0/token");
        }
        assert_eq!(token_endpoint(None, "t").unwrap(), "https://login.microsoftonline.com/t/oauth2/v2.0/token");
    }

    #[test]
    fn a_certificate_that_is_not_there_is_refused_at_once() {
        let certificate = CertificatePlace::File("/nowhere/application.pem".into());
        let identity = EntraIdentity::CertifiedPrincipal { tenant: "t".into(), id: "i".into(), certificate };
        let error = Entra::new(&identity, None).unwrap_err();
        assert!(!error.is_passing && error.why.contains("/nowhere/application.pem"), "{error}");
    }

    #[test]
    fn what_a_cluster_says_is_understood() {
        let text = r#"{"AzureAD":{"LoginEndpoint":"https://login.example","LoginMfaRequired":false,
            "KustoClientAppId":"c","KustoServiceResourceId":"https://kusto.example","FirstPartyAuthorityUrl":"x"},
            "dSTS":{}}"#;
        let told: Metadata = serde_json::from_str(text).unwrap();
        assert_eq!(told.azure_ad.login_endpoint, "https://login.example");
        assert_eq!(told.azure_ad.kusto_service_resource_id, "https://kusto.example");
    }
}
