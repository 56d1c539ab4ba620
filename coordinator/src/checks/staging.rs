//! Staging, by one small blob: nodes may write it, the cluster may read it, the coordinator may list and delete it, each with
//! the signature that a copy would give them.

use super::{Answer, Area, Check, Opened, PROBE_TIMEOUT, http_client, in_time, without_address, words};
use crate::{
    access::{Access, READ_TTL},
    core::Core,
};
use ferry_common::{
    activity::{Activity, Staging, StagingType},
    failure::Failure,
    storage::{self, Connections, StorageError},
    unit::StagingTarget,
};
use ferry_kusto::{RequestId, commands::IngestSource, text};
use std::{path::Path, time::Duration};
use tokio::time::Instant;

/// What the blob holds.
const CONTENT: &str = "written by ferry check, which removes it\n";
/// Below this a folder is nearly full: one chunk of the largest size.
const FREE_BYTES_MIN: u64 = 6_000_000_000;
/// Largest answer to a read that is looked at.
const READ_BYTES_MAX: usize = 64 << 10;

/// Checks the staging of an activity.
pub(super) async fn look(core: &Core, activity: &Activity, opened: &Opened) -> Vec<Check> {
    let place = place_of(&activity.staging);
    let row = Check::new(Area::Staging, "staging opens", "copying").probed("secrets are read, sign-in at Entra ID");
    let access = match &opened.access {
        Ok(access) => access,
        Err(failure) => {
            let remedy = "correct staging in the activity, or the secret that it names, for the coordinator's process";
            return vec![row.found(Answer::No, failure.to_string()).else_do(remedy)];
        }
    };
    let mut checks = vec![row.found(Answer::Yes, place)];
    checks.extend(Probe { core, access, blob: Blob::new() }.run(opened).await);
    if let (StagingType::FileSystem, Some(folder)) = (activity.staging.kind, &activity.staging.folder_path) {
        checks.push(disk(Path::new(folder)));
    }
    checks
}

fn place_of(staging: &Staging) -> String {
    staging.container.clone().or_else(|| staging.folder_path.clone()).unwrap_or_default()
}

fn disk(folder: &Path) -> Check {
    let row = Check::new(Area::Staging, "room in the staging folder", "copying").optional().probed("statvfs");
    match storage::free_bytes(folder) {
        Err(e) => row.found(Answer::Unknown, e.to_string()),
        Ok(free) => {
            let answer = if free < FREE_BYTES_MIN { Answer::No } else { Answer::Yes };
            let detail = format!("{:.1} GB free, as the coordinator sees it", free as f64 / 1e9);
            row.found(answer, detail).else_do("make room: all chunks of a run wait there at once")
        }
    }
}

/// The names of one check.
struct Blob {
    folder: String,
    name: String,
}

impl Blob {
    fn new() -> Self {
        let folder = format!("ferry-check-{}/", uuid::Uuid::new_v4().simple());
        Self { name: format!("{folder}probe.txt"), folder }
    }
}

struct Probe<'a> {
    core: &'a Core,
    access: &'a Access,
    blob: Blob,
}

/// Runs work on the storage in bounded time.
async fn bounded<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::internal(format!("nothing came within {PROBE_TIMEOUT:?}"));
    tokio::time::timeout(PROBE_TIMEOUT, work).await.map_err(late)?
}

fn failed(row: Check, failure: &Failure, remedy: &str) -> Check {
    row.found(Answer::No, failure.message.clone()).else_do(remedy)
}

impl Probe<'_> {
    async fn run(&self, opened: &Opened) -> Vec<Check> {
        let now = self.core.now();
        let row =
            Check::new(Area::Staging, "nodes may write", "copying").probed("a blob is written as a node writes it");
        let began = Instant::now();
        let written = bounded(async {
            let target = self.access.for_older_node(now)?;
            write(&target, &self.blob.name, &self.core.connections).await?;
            Ok(target)
        });
        let target = match written.await {
            Ok(target) => target,
            Err(failure) => {
                let remedy = "does the container or folder exist, and may the key, signature or identity write to it?";
                return vec![failed(row, &failure, remedy)];
            }
        };
        let mut checks = vec![row.found(Answer::Yes, told(began.elapsed()))];
        checks.push(self.list().await);
        checks.push(self.read_as_cluster().await);
        checks.extend(self.read_by_cluster(opened).await);
        checks.extend(self.read_as_node(&target).await);
        checks.push(self.delete().await);
        checks
    }

    async fn list(&self) -> Check {
        let row = Check::new(Area::Staging, "coordinator may list", "sweeping staging after a run");
        let row = row.probed("the blob is listed with the coordinator's signature");
        let listed = bounded(async {
            let storage = self.access.storage(self.core.now(), &self.core.connections)?;
            Ok(storage.list(&self.blob.folder, 2).await?)
        });
        match listed.await {
            Ok(found) if found.iter().any(|entry| entry.name == self.blob.name) => row.found(Answer::Yes, ""),
            Ok(_) => row.found(Answer::No, "the blob was written and is not listed"),
            Err(failure) => failed(row, &failure, "the signature needs l (list)"),
        }
    }

    async fn delete(&self) -> Check {
        let row = Check::new(Area::Staging, "coordinator may delete", "sweeping staging after a run");
        let row = row.probed("the blob is deleted with the coordinator's signature");
        let deleted = bounded(async {
            let storage = self.access.storage(self.core.now(), &self.core.connections)?;
            storage.delete(&self.blob.name).await?;
            storage.sweep_remains(&self.blob.folder).await?;
            Ok(())
        });
        match deleted.await {
            Ok(()) => row.found(Answer::Yes, "nothing is left of the check"),
            Err(failure) => {
                let row = failed(row, &failure, "the signature needs d (delete)");
                Check { detail: format!("{}; blob {} stays", row.detail, self.blob.name), ..row }
            }
        }
    }

    /// From here: whether the cluster's network reaches the storage is another matter.
    async fn read_as_cluster(&self) -> Check {
        let row = Check::new(Area::Staging, "signature for the cluster reads", "ingesting what is staged");
        let row = row.probed("the blob is read with the cluster's signature, from the coordinator");
        let source = match self.access.for_cluster(&self.blob.name, self.core.now().plus(READ_TTL)) {
            Ok(source) => source,
            Err(failure) => return failed(row, &failure, "correct staging"),
        };
        let remedy = "the signature needs r (read); do the clocks agree?";
        match &source {
            IngestSource::Url(url) => match get(url).await {
                Ok((200, body)) if body == CONTENT.as_bytes() => row.found(Answer::Yes, ""),
                Ok((200, _)) => row.found(Answer::No, "other bytes came back than were written").else_do(remedy),
                Ok((status, _)) => row.found(Answer::No, format!("HTTP {status}")).else_do(remedy),
                Err(why) => row.found(Answer::Unknown, why),
            },
            IngestSource::Path(path) => match tokio::fs::read(path).await {
                Ok(body) if body == CONTENT.as_bytes() => {
                    row.found(Answer::Yes, "the cluster must see the same folder")
                }
                Ok(_) => row.found(Answer::No, "other bytes came back than were written"),
                Err(e) => row.found(Answer::No, e.to_string()).else_do("may the cluster's user read the folder?"),
            },
        }
    }

    /// The cluster itself fetches the blob, for a query. It needs the right to query, so that a refusal says nothing.
    async fn read_by_cluster(&self, opened: &Opened) -> Option<Check> {
        let client = opened.client.as_ref().ok()?;
        let source = self.access.for_cluster(&self.blob.name, self.core.now().plus(READ_TTL)).ok()?;
        let IngestSource::Url(url) = source else { return None };
        let row = Check::new(Area::Staging, "cluster reaches staging", "ingesting what is staged");
        let row = row.optional().by("Database Viewer").probed("externaldata of the blob");
        let kql = format!("externaldata(line:string)[{}] with (format='txt') | take 1", text::secret_string(&url));
        let id = RequestId::generate("check");
        Some(match in_time(&**client, client.query("NetDefaultDB", &kql, &id)).await {
            Ok(reply) if reply.table.rows.is_empty() => row.found(Answer::Unknown, "the cluster read nothing of it"),
            Ok(_) => row.found(Answer::Yes, ""),
            Err(e) => row
                .found(Answer::Unknown, words(&e))
                .else_do("if its words tell of the network: the storage account's firewall must let the cluster in"),
        })
    }

    /// Nodes run where others may have a say: what they get should open nothing that is staged.
    async fn read_as_node(&self, target: &StagingTarget) -> Option<Check> {
        let StagingTarget::AzureBlob { container_sas_url, .. } = target else { return None };
        let row =
            Check::new(Area::Staging, "nodes cannot read", "keeping staged rows from whoever gets hold of a node");
        let row = row.optional().probed("the blob is read with the nodes' signature, which must fail");
        let url = blob_url(container_sas_url, &self.blob.name)?;
        Some(match get(&url).await {
            Ok((200, _)) => row.found(Answer::No, "the signature that nodes get reads what is staged").else_do(
                "staging.sas is handed on as it is: with accountKey or auth each party gets its own signature",
            ),
            Ok((status, _)) => row.found(Answer::Yes, format!("HTTP {status}")),
            Err(why) => row.found(Answer::Unknown, why),
        })
    }
}

fn told(took: Duration) -> String {
    format!("in {} ms from the coordinator", took.as_millis())
}

async fn write(target: &StagingTarget, name: &str, by: &Connections) -> Result<(), StorageError> {
    let storage = storage::open(target, by)?;
    let writer = storage.create(name).await?;
    writer.stage_block(0, 0, CONTENT.into()).await?;
    writer.commit(1).await
}

/// The address of a blob in a container with a signature.
fn blob_url(container: &str, blob: &str) -> Option<String> {
    let (place, signature) = container.split_once('?')?;
    Some(format!("{}/{blob}?{signature}", place.trim_end_matches('/')))
}

/// Status and the first bytes of what is there. Errors hold no address.
async fn get(url: &str) -> Result<(u16, Vec<u8>), String> {
    let mut response = http_client()?.get(url).send().await.map_err(without_address)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(without_address)? {
        body.extend_from_slice(&piece);
        if body.len() > READ_BYTES_MAX {
            break;
        }
    }
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blobs_address_has_its_name_before_the_signature() {
        let container = "https://a.blob.core.windows.net/staging?sv=1&sig=a%2Fb";
        let expected = "https://a.blob.core.windows.net/staging/ferry-check-1/probe.txt?sv=1&sig=a%2Fb";
        assert_eq!(blob_url(container, "ferry-check-1/probe.txt").as_deref(), Some(expected));
        assert_eq!(blob_url("https://a.blob.core.windows.net/staging", "x"), None);
    }

    #[test]
    fn the_name_of_the_blob_is_nobody_elses_and_no_chunks() {
        let (one, other) = (Blob::new(), Blob::new());
        assert_ne!(one.name, other.name);
        assert!(one.name.starts_with(&one.folder) && one.name.split('/').count() == 2, "{}", one.name);
    }

    #[tokio::test]
    async fn what_is_written_as_a_node_writes_can_be_removed_again() {
        let folder = tempfile::tempdir().unwrap();
        let target = StagingTarget::FileSystem { folder: folder.path().display().to_string() };
        let blob = Blob::new();
        write(&target, &blob.name, &Connections::default()).await.unwrap();
        let storage = storage::open(&target, &Connections::default()).unwrap();
        assert_eq!(storage.list(&blob.folder, 2).await.unwrap()[0].name, blob.name);
        storage.delete(&blob.name).await.unwrap();
        storage.sweep_remains(&blob.folder).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = StagingTarget::FileSystem { folder: folder.path().join("none").display().to_string() };
        assert!(matches!(write(&nowhere, "a", &Connections::default()).await, Err(StorageError::Missing { .. })));
    }
}
