//! Signing in: where a bearer token comes from.

mod certificate;
mod entra;
mod kept;

pub use certificate::CertificatePlace;
pub use entra::{Entra, EntraIdentity, EntraTokens, STORAGE_RESOURCE};

use async_trait::async_trait;

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct TokenError {
    /// What happened; no secret.
    pub why: String,
    /// It may be another answer next time.
    pub is_passing: bool,
}

/// Gives the token for a request.
#[async_trait]
pub trait TokenProvider: Send + Sync {
    /// A token that is valid now, or `None` where the cluster asks for none.
    async fn token(&self) -> Result<Option<String>, TokenError>;

    /// There never is a token.
    fn is_anonymous(&self) -> bool {
        false
    }
}

/// No sign-in: for endpoints on this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAuth;

#[async_trait]
impl TokenProvider for NoAuth {
    async fn token(&self) -> Result<Option<String>, TokenError> {
        Ok(None)
    }

    fn is_anonymous(&self) -> bool {
        true
    }
}

/// A token that was given and is never renewed.
#[derive(Clone)]
pub struct StaticBearer(String);

impl StaticBearer {
    /// A provider of this token.
    pub fn new(token: String) -> Self {
        Self(token)
    }
}

impl std::fmt::Debug for StaticBearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StaticBearer(..)")
    }
}

#[async_trait]
impl TokenProvider for StaticBearer {
    async fn token(&self) -> Result<Option<String>, TokenError> {
        Ok(Some(self.0.clone()))
    }
}

/// Hosts that may be sent a token, by the end of their name.
const TRUSTED_SUFFIXES: &[&str] = &[
    ".kusto.windows.net",
    ".kustomfa.windows.net",
    ".kusto.azuresynapse.net",
    ".kusto.data.microsoft.com",
    ".kusto.fabric.microsoft.com",
    ".kusto.usgovcloudapi.net",
    ".kustomfa.usgovcloudapi.net",
    ".kusto.chinacloudapi.cn",
    ".kustomfa.chinacloudapi.cn",
    ".kusto.azuresynapse.azure.cn",
    ".kusto.sovcloud-api.fr",
    ".kusto.sovcloud-api.de",
    ".kusto.sovcloud-api.sg",
];

/// The host is this machine.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host may be sent a token.
pub fn is_trusted(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    is_loopback(&host) || TRUSTED_SUFFIXES.iter().any(|suffix| host.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_hosts_get_a_token() {
        for (host, trusted) in [
            ("adx.westeurope.kusto.windows.net", true),
            ("ADX.WestEurope.Kusto.Windows.Net", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("localhost", true),
            ("kusto.windows.net.evil.example", false),
            ("evilkusto.windows.net", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_trusted(host), trusted, "{host}");
        }
    }
}
