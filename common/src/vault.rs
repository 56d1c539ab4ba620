//! Secrets in Key Vaults of Azure, as data: which addresses are some, and what a token for them is for. It asks nobody.

use crate::address::leads_here;

/// Azure's clouds: the end of vaults' names, what tokens for them are for, and who gives those.
/// Source: Azure Key Vault, "Authentication, requests and responses"; Entra ID, "National clouds".
const CLOUDS: [(&str, &str, &str); 3] = [
    (".vault.azure.net", "https://vault.azure.net", "https://login.microsoftonline.com"),
    (".vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net", "https://login.microsoftonline.us"),
    (".vault.azure.cn", "https://vault.azure.cn", "https://login.chinacloudapi.cn"),
];
/// Longest name of a secret and of a version.
const NAME_LENGTH_MAX: usize = 127;

/// A secret in a vault: one version of it, or the newest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VaultSecret {
    /// Its address, without a query.
    pub url: String,
    /// What tokens for its vault are for.
    pub resource: &'static str,
    /// Who gives such tokens.
    pub authority: &'static str,
}

/// The address leads to this machine.
pub fn is_here(address: &str) -> bool {
    reqwest::Url::parse(address).is_ok_and(|url| leads_here(&url))
}

impl VaultSecret {
    /// It is at an address of this machine.
    pub fn is_here(&self) -> bool {
        is_here(&self.url)
    }

    /// Reads `https://NAME.vault.azure.net/secrets/SECRET[/VERSION]`. The host is one that may be sent a token: a vault of one of
    /// Azure's clouds, or this machine.
    pub fn parse(address: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("keyvault:https://NAME.vault.azure.net/secrets/SECRET is wanted: {why}");
        let url = reqwest::Url::parse(address).map_err(|e| wrong(&e.to_string()))?;
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let is_here = leads_here(&url);
        let is_whole = url.scheme() == "https" && url.port().is_none();
        let cloud = CLOUDS.iter().find(|(suffix, ..)| {
            // One name before the suffix: vaults have no more.
            host.strip_suffix(suffix).is_some_and(|name| !name.is_empty() && !name.contains('.'))
        });
        let (_, resource, authority) = match cloud {
            Some(cloud) if is_whole => *cloud,
            _ if is_here && matches!(url.scheme(), "http" | "https") => CLOUDS[0],
            _ => {
                let known = CLOUDS.map(|(suffix, ..)| suffix).join(", ");
                return Err(wrong(&format!("the host must be a vault over https://, its name ends in {known}")));
            }
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("nothing but the address may stand there"));
        }
        // Azure shows the address of a secret without a version with a slash at its end.
        let path = url.path().trim_start_matches('/').trim_end_matches('/');
        let is_name = |name: &str| {
            (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["secrets", name] if is_name(name) => {}
            ["secrets", name, version] if is_name(name) && is_name(version) => {}
            _ => return Err(wrong("the path must be /secrets/SECRET or /secrets/SECRET/VERSION")),
        }
        Ok(Self { url: format!("{}/{path}", url.origin().ascii_serialization()), resource, authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_vaults_alone() {
        for (address, resource) in [
            ("https://ferry.vault.azure.net/secrets/storage-key", Some("https://vault.azure.net")),
            ("https://ferry.vault.azure.net/secrets/storage-key/", Some("https://vault.azure.net")),
            ("https://Ferry.Vault.Azure.Net/secrets/storage-key/0123abc", Some("https://vault.azure.net")),
            ("https://ferry.vault.usgovcloudapi.net/secrets/k", Some("https://vault.usgovcloudapi.net")),
            ("https://ferry.vault.azure.cn/secrets/k", Some("https://vault.azure.cn")),
            ("http://127.0.0.1:8200/secrets/k", Some("https://vault.azure.net")),
            ("https://localhost:8200/secrets/k", Some("https://vault.azure.net")),
            ("http://ferry.vault.azure.net/secrets/k", None),
            ("https://ferry.vault.azure.net:8443/secrets/k", None),
            ("https://ferry.vault.azure.net.evil.example/secrets/k", None),
            ("https://ferry.vault.azure.net@evil.example/secrets/k", None),
            ("https://user@ferry.vault.azure.net/secrets/k", None),
            ("https://evil.example/secrets/k", None),
            ("https://vault.azure.net/secrets/k", None),
            ("https://a.b.vault.azure.net/secrets/k", None),
            ("https://10.0.0.1/secrets/k", None),
            ("https://ferry.vault.azure.net/keys/k", None),
            ("https://ferry.vault.azure.net/secrets", None),
            ("https://ferry.vault.azure.net/secrets/a/b/c", None),
            ("https://ferry.vault.azure.net/secrets/a%2Fb", None),
            ("https://ferry.vault.azure.net/secrets/k?api-version=7.4", None),
            ("file:///secrets/k", None),
            ("ferry/k", None),
        ] {
            let parsed = VaultSecret::parse(address);
            assert_eq!(parsed.as_ref().ok().map(|secret| secret.resource), resource, "{address}: {parsed:?}");
        }
        let parsed = VaultSecret::parse("https://Ferry.vault.azure.net/secrets/storage-key/").unwrap();
        assert_eq!(parsed.url, "https://ferry.vault.azure.net/secrets/storage-key");
    }
}
