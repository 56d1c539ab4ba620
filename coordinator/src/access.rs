//! Who may do what in staging: the coordinator signs short-lived access and gives each party only what it needs.
//!
//! An attempt may write its own blobs, the cluster may read one blob, the coordinator itself lists and deletes. Nothing
//! signed is stored.

use crate::{
    identities::{DelegationKey, Identities},
    sas::{Container, Signing},
    within::Within,
};
use ferry_common::{
    activity::{Integrity, Secret, Staging, StagingType, may_hear_secrets},
    address::path_encoded,
    clock::Millis,
    failure::{Code, Failure},
    id::{AttemptNumber, ChunkNumber, RunId, UnitNumber},
    staging,
    storage::{self, Connections, StagingStorage},
    unit::{self, BlobAsk, BlobSignatures, StagingTarget},
};
use ferry_kusto::{commands::IngestSource, queued::LentContainer};
use std::time::Duration;

/// How long a signature for the container holds, which nodes of an older release get: longer than an attempt should take.
const WRITE_TTL: Duration = Duration::from_secs(12 * 3600);
/// How long a node's signatures for its blobs hold. It asks for new ones when half of that is over.
const BLOB_WRITE_TTL: Duration = Duration::from_secs(2 * 3600);
/// How long the cluster's signature holds: an ingestion may wait and run for an hour each.
pub(crate) const READ_TTL: Duration = Duration::from_secs(4 * 3600);
/// The same for queued ingestion: the service tries again for two days.
pub(crate) const QUEUED_READ_TTL: Duration = Duration::from_secs(49 * 3600);
/// How long the coordinator's own signature holds.
const OWN_TTL: Duration = Duration::from_secs(3600);
/// Chunks that are signed with a lease. Most units have fewer; each costs the coordinator a hash.
const SIGNED_WITH_LEASE: u32 = 8;
/// Chunks that are signed at once, whoever asks.
const SIGNED_MAX: u32 = 64;

/// What signatures are made with.
pub(crate) enum Key {
    /// The account's.
    Account(Secret),
    /// The one that storage made for an identity of Entra ID.
    Delegated(Box<DelegationKey>),
}

impl Key {
    fn signing(&self) -> Result<Signing<'_>, Failure> {
        match self {
            Self::Account(key) => Signing::by_account(key),
            Self::Delegated(key) => Ok(Signing::delegated(key)),
        }
    }
}

/// Staging, and what opens it.
pub(crate) enum Access {
    /// Each gets signatures that are made for it.
    Signed {
        container: Container,
        key: Key,
        integrity: unit::Integrity,
    },
    /// All get the signature that was given.
    Sas {
        container: String,
        sas: Secret,
        integrity: unit::Integrity,
    },
    /// All get the signature that the cluster has lent. Others use the container as well: a run keeps to its folder.
    Lent {
        container: LentContainer,
        folder: String,
        integrity: unit::Integrity,
    },
    Folder(String),
}

/// The blobs that one attempt may write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptBlobs<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) unit: UnitNumber,
    pub(crate) attempt: AttemptNumber,
    /// How names of chunks end.
    pub(crate) extension: &'static str,
    /// Rows may be left out, and are kept beside the chunks.
    pub(crate) has_quarantine: bool,
}

/// The address is one of Azure itself, of any cloud.
fn is_azure_address(url: &str) -> bool {
    url.split('/').nth(2).is_some_and(|host| host.contains(".blob.core.") || host.contains(".blob.storage."))
}

fn integrity_of(staging: &Staging, container: &str) -> unit::Integrity {
    match staging.integrity {
        Integrity::None => unit::Integrity::None,
        Integrity::Crc64 => unit::Integrity::Crc64,
        Integrity::Auto if is_azure_address(container) => unit::Integrity::Crc64,
        // Emulators know the MD5 alone.
        Integrity::Auto | Integrity::Md5 => unit::Integrity::Md5,
    }
}

/// A blob's name in an address: slashes stay.
fn blob_path(name: &str) -> String {
    name.split('/').map(path_encoded).collect::<Vec<_>>().join("/")
}

/// Names hosts of storage accounts beside Azure's own, with commas between: those of emulators and private clouds.
const STORAGE_HOSTS: &str = "FERRY_STORAGE_HOSTS";

/// The administrator has named the host.
fn is_trusted_storage(url: &str) -> bool {
    let hosts = std::env::var(STORAGE_HOSTS).unwrap_or_default();
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_ascii_lowercase));
    host.is_some_and(|host| hosts.split(',').any(|trusted| trusted.trim().eq_ignore_ascii_case(&host)))
}

impl Access {
    /// Resolves the secrets of an activity's staging. What a cluster lends is opened by [`Self::lent`].
    pub(crate) async fn open(staging: &Staging, identities: &Identities, now: Millis) -> Result<Self, Failure> {
        let integrity = integrity_of(staging, staging.container.as_deref().unwrap_or_default());
        let invalid = |why: &str| Failure::settings(Code::SettingsInvalid, why.to_owned());
        match staging.kind {
            StagingType::FileSystem => {
                Ok(Self::Folder(staging.folder_path.clone().ok_or_else(|| invalid("staging.folderPath is missing"))?))
            }
            StagingType::AzureBlob => {
                let url = staging.container.as_deref().ok_or_else(|| invalid("staging.container is missing"))?;
                if let Some(sas) = &staging.sas {
                    let sas = identities.secrets.resolve(sas).await?;
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
                    return Ok(Self::Signed { container, key: Key::Delegated(Box::new(key)), integrity });
                }
                // A signature with the key is good for the account that it is made for, whichever host hears it.
                if !may_hear_secrets(url) && !is_trusted_storage(url) {
                    let why = format!(
                        "staging.container: {url} is at no host of Azure Storage and not on this machine; if it is a storage account                          of yours, name its host in {STORAGE_HOSTS} for the coordinator"
                    );
                    return Err(Failure::settings(Code::SettingsInvalid, why));
                }
                let key = staging.account_key.as_ref().ok_or_else(|| invalid("staging.accountKey is missing"))?;
                Ok(Self::Signed { container, key: Key::Account(identities.secrets.resolve(key).await?), integrity })
            }
            StagingType::FromCluster => Err(invalid("staging that the cluster lends is opened by the cluster")),
        }
    }

    /// A container that the cluster lends to this staging, and the run's folder in it.
    pub(crate) fn lent(staging: &Staging, container: LentContainer, folder: String) -> Self {
        let integrity = integrity_of(staging, container.address());
        Self::Lent { container, folder, integrity }
    }

    /// What an attempt gets: signatures for its own blobs where they are made here, from `first_chunk` on.
    pub(crate) fn for_attempt(
        &self,
        blobs: AttemptBlobs<'_>,
        first_chunk: u32,
        now: Millis,
    ) -> Result<StagingTarget, Failure> {
        let ask = BlobAsk { first_chunk, chunks: SIGNED_WITH_LEASE };
        match (self, self.sign(blobs, ask, now)?) {
            (Self::Signed { container, integrity, .. }, Some(signatures)) => Ok(StagingTarget::SignedBlobs {
                container_url: container.url.clone(),
                integrity: *integrity,
                signatures,
            }),
            _ => self.for_older_node(now),
        }
    }

    /// Signatures for blobs of an attempt; `None` where none are made here.
    pub(crate) fn sign(
        &self,
        blobs: AttemptBlobs<'_>,
        ask: BlobAsk,
        now: Millis,
    ) -> Result<Option<BlobSignatures>, Failure> {
        let Self::Signed { container, key, .. } = self else { return Ok(None) };
        let AttemptBlobs { run, unit, attempt, extension, has_quarantine } = blobs;
        let last = ask.first_chunk.saturating_add(ask.chunks.min(SIGNED_MAX));
        let (mut chunks, mut quarantines) = (Vec::new(), Vec::new());
        for number in (ask.first_chunk..last).map(ChunkNumber) {
            chunks.push(staging::blob_name(run, unit, attempt, number, extension));
            if has_quarantine {
                quarantines.push(staging::quarantine_name(run, unit, attempt, number));
            }
        }
        let (signing, expires) = (key.signing()?, now.plus(BLOB_WRITE_TTL));
        let (common, chunks) = container.signed_blobs(&signing, "cw", &chunks, expires);
        let (_, quarantines) = container.signed_blobs(&signing, "cw", &quarantines, expires);
        Ok(Some(BlobSignatures { common, first_chunk: ask.first_chunk, chunks, quarantines, ttl: BLOB_WRITE_TTL }))
    }

    /// What a node gets that knows no signatures for single blobs: it may write to the container, and nothing else.
    pub(crate) fn for_older_node(&self, now: Millis) -> Result<StagingTarget, Failure> {
        if let Self::Lent { container, folder, integrity } = self {
            // Names that the node makes come behind the folder.
            let container_sas_url = format!("{}/{folder}?{}", container.address(), container.signature());
            return Ok(StagingTarget::AzureBlob { container_sas_url, integrity: *integrity });
        }
        self.target("cw", now.plus(WRITE_TTL))
    }

    /// The whole container.
    fn target(&self, permissions: &str, expires: Millis) -> Result<StagingTarget, Failure> {
        let (container_sas_url, integrity) = match self {
            Self::Signed { container, key, integrity } => {
                let sas = container.signed(&key.signing()?, permissions, None, expires);
                (format!("{}?{sas}", container.url), integrity)
            }
            Self::Sas { container, sas, integrity } => (format!("{container}?{}", sas.expose()), integrity),
            Self::Lent { container, integrity, .. } => {
                (format!("{}?{}", container.address(), container.signature()), integrity)
            }
            Self::Folder(folder) => return Ok(StagingTarget::FileSystem { folder: folder.clone() }),
        };
        Ok(StagingTarget::AzureBlob { container_sas_url, integrity: *integrity })
    }

    /// What the cluster gets: it may read this blob until then.
    pub(crate) fn for_cluster(&self, blob: &str, expires: Millis) -> Result<IngestSource, Failure> {
        let path = blob_path(blob);
        Ok(match self {
            Self::Signed { container, key, .. } => {
                let sas = container.signed(&key.signing()?, "r", Some(blob), expires);
                IngestSource::Url(format!("{}/{path}?{sas}", container.url))
            }
            Self::Sas { container, sas, .. } => IngestSource::Url(format!("{container}/{path}?{}", sas.expose())),
            Self::Lent { container, folder, .. } => {
                IngestSource::Url(format!("{}/{folder}/{path}?{}", container.address(), container.signature()))
            }
            Self::Folder(folder) => IngestSource::Path(format!("{}/{blob}", folder.trim_end_matches('/'))),
        })
    }

    /// What shows rows that were left out: list and read.
    pub(crate) fn reader(&self, now: Millis, by: &Connections) -> Result<Box<dyn StagingStorage>, Failure> {
        Ok(self.narrowed(storage::open(&self.target("rl", now.plus(OWN_TTL))?, by)?))
    }

    /// Of a container that others use as well, only the run's own folder.
    fn narrowed(&self, whole: Box<dyn StagingStorage>) -> Box<dyn StagingStorage> {
        match self {
            Self::Lent { folder, .. } => Box::new(Within::new(whole, folder)),
            Self::Signed { .. } | Self::Sas { .. } | Self::Folder(_) => whole,
        }
    }

    /// The coordinator's own access to what the run has staged: list and delete.
    pub(crate) fn storage(&self, now: Millis, by: &Connections) -> Result<Box<dyn StagingStorage>, Failure> {
        Ok(self.narrowed(self.whole_storage(now, by)?))
    }

    /// The same to all that is there, other runs' too.
    pub(crate) fn whole_storage(&self, now: Millis, by: &Connections) -> Result<Box<dyn StagingStorage>, Failure> {
        Ok(storage::open(&self.target("dl", now.plus(OWN_TTL))?, by)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

    const NOW: Millis = Millis(1_800_000_000_000);

    fn by_key() -> Access {
        Access::Signed {
            container: Container::parse("https://acct.blob.core.windows.net/staging").unwrap(),
            key: Key::Account(Secret::new(BASE64.encode("key"))),
            integrity: unit::Integrity::Crc64,
        }
    }

    fn blobs(run: &RunId, has_quarantine: bool) -> AttemptBlobs<'_> {
        AttemptBlobs { run, unit: UnitNumber(4), attempt: AttemptNumber(2), extension: "csv.gz", has_quarantine }
    }

    #[test]
    fn an_attempt_gets_signatures_for_its_own_blobs() {
        let run: RunId = "r".parse().unwrap();
        let target = by_key().for_attempt(blobs(&run, false), 3, NOW).unwrap();
        let StagingTarget::SignedBlobs { container_url, signatures, .. } = target else { panic!("{target:?}") };
        assert_eq!(container_url, "https://acct.blob.core.windows.net/staging");
        assert_eq!((signatures.first_chunk, signatures.chunks.len(), signatures.quarantines.len()), (3, 8, 0));
        assert!(signatures.common.contains("&sr=b&sp=cw&"), "{}", signatures.common);
        // Other numbers, other signatures; the same again gives the same.
        let ask = |first_chunk, chunks| BlobAsk { first_chunk, chunks };
        let more = by_key().sign(blobs(&run, true), ask(10, 1_000), NOW).unwrap().unwrap();
        assert_eq!((more.chunks.len(), more.quarantines.len()), (64, 64), "no more at once, whoever asks");
        assert_eq!(more.chunks[0], signatures.chunks[7]);
        assert!(more.chunks.iter().all(|sig| !more.quarantines.contains(sig)));
        let other: RunId = "s".parse().unwrap();
        let others = by_key().sign(blobs(&other, false), ask(10, 1), NOW).unwrap().unwrap();
        assert_ne!(others.chunks[0], more.chunks[0]);
        assert_eq!(by_key().sign(blobs(&run, false), ask(u32::MAX, 5), NOW).unwrap().unwrap().chunks.len(), 0);
    }

    #[test]
    fn what_was_given_or_lent_goes_on_as_it_is() {
        let run: RunId = "r".parse().unwrap();
        let lent = LentContainer::parse("https://a.blob.core.windows.net/temp?sv=1&sig=lent").unwrap();
        let lent = Access::Lent { container: lent, folder: "ferry-ab".to_owned(), integrity: unit::Integrity::None };
        let given = Access::Sas {
            container: "https://a.blob.core.windows.net/own".to_owned(),
            sas: Secret::new("sv=1&sig=given".to_owned()),
            integrity: unit::Integrity::None,
        };
        for (access, to_node, to_cluster) in [
            (
                lent,
                "https://a.blob.core.windows.net/temp/ferry-ab?sv=1&sig=lent",
                "https://a.blob.core.windows.net/temp/ferry-ab/r/4/2/0.csv.gz?sv=1&sig=lent",
            ),
            (
                given,
                "https://a.blob.core.windows.net/own?sv=1&sig=given",
                "https://a.blob.core.windows.net/own/r/4/2/0.csv.gz?sv=1&sig=given",
            ),
        ] {
            let target = access.for_attempt(blobs(&run, false), 0, NOW).unwrap();
            let StagingTarget::AzureBlob { container_sas_url, .. } = target else { panic!("{target:?}") };
            assert_eq!(container_sas_url, to_node);
            let IngestSource::Url(url) = access.for_cluster("r/4/2/0.csv.gz", NOW).unwrap() else { panic!("a path") };
            assert_eq!(url, to_cluster);
            assert_eq!(access.sign(blobs(&run, false), BlobAsk { first_chunk: 0, chunks: 1 }, NOW).unwrap(), None);
        }
    }
}
