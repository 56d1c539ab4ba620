//! Who may do what in staging: the coordinator signs short-lived access and gives each party only what it needs.
//!
//! Nodes may write, the cluster may read one blob, the coordinator itself lists and deletes. Nothing signed is stored.

use crate::identities::{DelegationKey, Identities};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ferry_common::{
    activity::{Integrity, Secret, Staging, StagingType},
    clock::Millis,
    failure::{Code, Failure},
    storage::{self, StagingStorage},
    unit::{self, StagingTarget},
};
use ferry_kusto::commands::IngestSource;
use ring::hmac;
use std::time::Duration;

/// Version of the signature's form. Azurite and every cloud know it.
const SAS_VERSION: &str = "2023-11-03";
/// How long a node's signature holds: longer than an attempt should take.
const WRITE_TTL: Duration = Duration::from_secs(12 * 3600);
/// How long the cluster's signature holds: an ingestion may wait and run for an hour each.
pub(crate) const READ_TTL: Duration = Duration::from_secs(4 * 3600);
/// The same for queued ingestion: the service tries again for two days.
pub(crate) const QUEUED_READ_TTL: Duration = Duration::from_secs(49 * 3600);
/// How long the coordinator's own signature holds.
const OWN_TTL: Duration = Duration::from_secs(3600);

/// Staging, and the secret that opens it.
pub(crate) enum Access {
    /// An identity of Entra ID, and the key that storage made for it.
    Delegated {
        container: Container,
        key: Box<DelegationKey>,
        integrity: unit::Integrity,
    },
    Key {
        container: Container,
        key: Secret,
        integrity: unit::Integrity,
    },
    Sas {
        container: String,
        sas: Secret,
        integrity: unit::Integrity,
    },
    Folder(String),
}

/// A container's address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    /// Without a slash at its end.
    url: String,
    account: String,
    name: String,
}

impl Container {
    fn parse(url: &str) -> Option<Self> {
        let url = url.trim_end_matches('/');
        let (_, rest) = url.split_once("://")?;
        let (host, path) = rest.split_once('/')?;
        let host_name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        // The emulator puts the account into the path.
        let (account, name) = if host_name == "localhost" || host_name.parse::<std::net::IpAddr>().is_ok() {
            path.split_once('/')?
        } else {
            (host.split('.').next()?, path)
        };
        let fits = !account.is_empty() && !name.is_empty() && !name.contains('/');
        fits.then(|| Self { url: url.to_owned(), account: account.to_owned(), name: name.to_owned() })
    }

    /// Address of the storage account.
    fn account_url(&self) -> &str {
        self.url.strip_suffix(&self.name).unwrap_or(&self.url).trim_end_matches('/')
    }

    /// A service SAS for the container, or for one blob of it.
    fn signed(&self, key: &Secret, permissions: &str, blob: Option<&str>, expires: Millis) -> Result<String, Failure> {
        let key = BASE64.decode(key.expose()).map_err(|_| {
            Failure::settings(Code::StagingForbidden, "staging.accountKey is not a storage account's key")
        })?;
        let (resource, path, expires, protocol) = self.signed_parts(blob, expires);
        // Azure Storage, "Create a service SAS", versions from 2020-12-06: the fields in this order.
        let to_sign =
            [permissions, "", &expires, &path, "", "", protocol, SAS_VERSION, resource, "", "", "", "", "", "", ""];
        Ok(format!(
            "sv={SAS_VERSION}&se={}&sr={resource}&sp={permissions}&spr={}&sig={}",
            query_encoded(&expires),
            query_encoded(protocol),
            signature(&key, &to_sign)
        ))
    }

    /// The same as a user delegation SAS: it can do what the key's identity may, and no more.
    fn signed_for(&self, key: &DelegationKey, permissions: &str, blob: Option<&str>, expires: Millis) -> String {
        let (resource, path, expires, protocol) = self.signed_parts(blob, expires);
        let DelegationKey { object_id, tenant_id, start, expiry, service, version, value, .. } = key;
        // Azure Storage, "Create a user delegation SAS", versions from 2020-12-06: the fields in this order.
        let of_key = [object_id, tenant_id, start, expiry, service, version].map(String::as_str);
        let head = [permissions, "", &expires, &path];
        let tail = ["", "", "", "", protocol, SAS_VERSION, resource, "", "", "", "", "", "", ""];
        let to_sign: Vec<&str> = head.into_iter().chain(of_key).chain(tail).collect();
        let mut sas = format!("sv={SAS_VERSION}&se={}&sr={resource}&sp={permissions}", query_encoded(&expires));
        for (name, text) in ["skoid", "sktid", "skt", "ske", "sks", "skv"].into_iter().zip(of_key) {
            sas += &format!("&{name}={}", query_encoded(text));
        }
        sas + &format!("&spr={}&sig={}", query_encoded(protocol), signature(value, &to_sign))
    }

    /// What kind of thing is signed, its path, until when, and over what.
    fn signed_parts(&self, blob: Option<&str>, expires: Millis) -> (&'static str, String, String, &'static str) {
        let (resource, path) = match blob {
            Some(blob) => ("b", format!("/blob/{}/{}/{blob}", self.account, self.name)),
            None => ("c", format!("/blob/{}/{}", self.account, self.name)),
        };
        // Whole seconds, as the form wants them.
        let expires = Millis(expires.0 / 1000 * 1000).to_string();
        let protocol = if self.url.starts_with("https://") { "https" } else { "https,http" };
        (resource, path, expires, protocol)
    }
}

/// The signature of fields, as it stands in an address.
fn signature(key: &[u8], fields: &[&str]) -> String {
    let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), fields.join("\n").as_bytes());
    query_encoded(&BASE64.encode(signed))
}

/// The address is one of Azure itself, of any cloud.
fn is_azure_address(url: &str) -> bool {
    url.split('/').nth(2).is_some_and(|host| host.contains(".blob.core."))
}

fn query_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A blob's name in an address: slashes stay.
fn path_encoded(name: &str) -> String {
    name.bytes()
        .map(|b| match b {
            b'/' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

impl Access {
    /// Resolves the secrets of an activity's staging.
    pub(crate) async fn open(staging: &Staging, identities: &Identities, now: Millis) -> Result<Self, Failure> {
        let is_azure = staging.container.as_deref().is_some_and(is_azure_address);
        let integrity = match staging.integrity {
            Integrity::None => unit::Integrity::None,
            Integrity::Crc64 => unit::Integrity::Crc64,
            Integrity::Auto if is_azure => unit::Integrity::Crc64,
            // Emulators know the MD5 alone.
            Integrity::Auto | Integrity::Md5 => unit::Integrity::Md5,
        };
        let invalid = |why: &str| Failure::settings(Code::SettingsInvalid, why.to_owned());
        match staging.kind {
            StagingType::FileSystem => {
                Ok(Self::Folder(staging.folder_path.clone().ok_or_else(|| invalid("staging.folderPath is missing"))?))
            }
            StagingType::AzureBlob => {
                let url = staging.container.as_deref().ok_or_else(|| invalid("staging.container is missing"))?;
                if let Some(sas) = &staging.sas {
                    let sas = sas.resolve()?;
                    let sas = Secret::new(sas.expose().trim_start_matches('?').to_owned());
                    // Some other secret must not be sent to a server of the caller's choice.
                    let names =
                        |wanted: &str| sas.expose().split('&').any(|part| part.split('=').next() == Some(wanted));
                    if !(names("sig") && names("sv")) {
                        let why = "staging.sas is no shared access signature: it has no sv and sig";
                        return Err(Failure::settings(Code::StagingForbidden, why));
                    }
                    return Ok(Self::Sas { container: url.trim_end_matches('/').to_owned(), sas, integrity });
                }
                let container = Container::parse(url).ok_or_else(|| {
                    invalid(
                        "staging.container is not an address such as https://account.blob.core.windows.net/container",
                    )
                })?;
                if let Some(auth) = &staging.auth {
                    let key = identities.delegation_key(container.account_url(), auth, now).await?;
                    return Ok(Self::Delegated { container, key: Box::new(key), integrity });
                }
                let key = staging.account_key.as_ref().ok_or_else(|| invalid("staging.accountKey is missing"))?;
                Ok(Self::Key { container, key: key.resolve()?, integrity })
            }
        }
    }

    /// What a node gets: it may write, and nothing else.
    pub(crate) fn for_node(&self, now: Millis) -> Result<StagingTarget, Failure> {
        self.target("cw", now.plus(WRITE_TTL))
    }

    fn target(&self, permissions: &str, expires: Millis) -> Result<StagingTarget, Failure> {
        Ok(match self {
            Self::Delegated { container, key, integrity } => {
                let sas = container.signed_for(key, permissions, None, expires);
                StagingTarget::AzureBlob {
                    container_sas_url: format!("{}?{sas}", container.url),
                    integrity: *integrity,
                }
            }
            Self::Key { container, key, integrity } => {
                let sas = container.signed(key, permissions, None, expires)?;
                StagingTarget::AzureBlob {
                    container_sas_url: format!("{}?{sas}", container.url),
                    integrity: *integrity,
                }
            }
            Self::Sas { container, sas, integrity } => StagingTarget::AzureBlob {
                container_sas_url: format!("{container}?{}", sas.expose()),
                integrity: *integrity,
            },
            Self::Folder(folder) => StagingTarget::FileSystem { folder: folder.clone() },
        })
    }

    /// What the cluster gets: it may read this blob until then.
    pub(crate) fn for_cluster(&self, blob: &str, expires: Millis) -> Result<IngestSource, Failure> {
        Ok(match self {
            Self::Delegated { container, key, .. } => {
                let sas = container.signed_for(key, "r", Some(blob), expires);
                IngestSource::Url(format!("{}/{}?{sas}", container.url, path_encoded(blob)))
            }
            Self::Key { container, key, .. } => {
                let sas = container.signed(key, "r", Some(blob), expires)?;
                IngestSource::Url(format!("{}/{}?{sas}", container.url, path_encoded(blob)))
            }
            Self::Sas { container, sas, .. } => {
                IngestSource::Url(format!("{container}/{}?{}", path_encoded(blob), sas.expose()))
            }
            Self::Folder(folder) => IngestSource::Path(format!("{}/{blob}", folder.trim_end_matches('/'))),
        })
    }

    /// The coordinator's own access: list and delete.
    pub(crate) fn storage(&self, now: Millis) -> Result<Box<dyn StagingStorage>, Failure> {
        Ok(storage::open(&self.target("dl", now.plus(OWN_TTL))?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_address_is_taken_apart() {
        for (url, account, name) in [
            ("https://acct.blob.core.windows.net/staging/", "acct", "staging"),
            ("http://127.0.0.1:10000/devstoreaccount1/staging", "devstoreaccount1", "staging"),
            ("http://localhost:10000/devstoreaccount1/staging", "devstoreaccount1", "staging"),
        ] {
            let container = Container::parse(url).unwrap();
            assert_eq!((container.account.as_str(), container.name.as_str()), (account, name));
        }
        for bad in ["https://acct.blob.core.windows.net/", "https://acct.blob.core.windows.net/a/b", "acct"] {
            assert!(Container::parse(bad).is_none(), "{bad}");
        }
    }

    /// The scenarios have Azurite check whole signatures.
    #[test]
    fn a_signature_covers_its_fields() {
        let container = Container::parse("https://acct.blob.core.windows.net/staging").unwrap();
        let key = Secret::new(BASE64.encode("key"));
        let one = container.signed(&key, "cw", None, Millis(1_800_000_000_123)).unwrap();
        assert!(one.starts_with("sv=2023-11-03&se=2027-01-15T08%3A00%3A00Z&sr=c&sp=cw&spr=https&sig="), "{one}");
        let signature = |sas: &str| sas.rsplit_once("sig=").unwrap().1.to_owned();
        for other in [
            container.signed(&key, "r", None, Millis(1_800_000_000_123)).unwrap(),
            container.signed(&key, "cw", Some("a"), Millis(1_800_000_000_123)).unwrap(),
            container.signed(&key, "cw", None, Millis(1_800_000_001_123)).unwrap(),
        ] {
            assert_ne!(signature(&one), signature(&other));
        }
        assert!(container.signed(&Secret::new("no base64!".into()), "r", None, Millis(0)).is_err());
    }
}
