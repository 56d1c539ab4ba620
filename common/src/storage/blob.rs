//! Staging in a container of Azure Blob Storage, by a signed URL.
//!
//! The client's own error texts may hold the signed URL; they are turned into safe words here and go no further.

use super::{BlobEntry, BlobWriter, StagingStorage, StorageError};
use crate::unit::Integrity;
use async_trait::async_trait;
use azure_core::{
    error::ErrorKind,
    http::{ClientOptions, ExponentialRetryOptions, RetryOptions, Transport, Url},
};
use azure_storage_blob::{
    BlobContainerClient, BlobContainerClientOptions, BlockBlobClient,
    models::{
        BlobClientDownloadOptions, BlobContainerClientListBlobsOptions, BlockBlobClientStageBlockOptions,
        BlockLookupList,
    },
};
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use futures::TryStreamExt as _;
use md5::{Digest as _, Md5};
use std::{
    num::NonZero,
    sync::{Arc, OnceLock},
    time::Duration,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that a request may go without a byte from the service: slow lines need long for one block.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest that a connection waits for its next request: firewalls forget one that is silent for some minutes.
const KEPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Repeats of one request before the attempt sees the failure and the unit backs off.
const RETRIES_MAX: u32 = 4;
const RETRY_SECONDS_MAX: i64 = 30;
/// Entries on one page of a listing.
const LIST_PAGE: i32 = 1_000;

/// Connections to Azure Blob Storage, shared by all storage that is opened with them: reading whom the machine believes, and a
/// handshake, would cost more than a small file. Made at their first use; they belong to the runtime that they are used in.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<OnceLock<Arc<reqwest::Client>>>);

impl Connections {
    fn http(&self) -> Result<Arc<reqwest::Client>, reqwest::Error> {
        if let Some(http) = self.0.get() {
            return Ok(http.clone());
        }
        let made = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(IDLE_TIMEOUT)
            .pool_idle_timeout(KEPT_TIMEOUT)
            .no_gzip()
            .build()?;
        Ok(self.0.get_or_init(|| Arc::new(made)).clone())
    }
}

/// A container, reached by a signed URL.
pub struct AzureBlobStorage {
    container: BlobContainerClient,
    /// Address without the signature, for messages.
    place: String,
    integrity: Integrity,
}

impl AzureBlobStorage {
    /// Storage in the container at `sas_url`. The service verifies each block as `integrity` says.
    pub fn new(sas_url: &str, integrity: Integrity, connections: &Connections) -> Result<Self, StorageError> {
        let way = Way::new(sas_url, connections)?;
        Ok(Self { container: way.client(way.url.clone())?, place: way.place, integrity })
    }
}

/// How a container is reached.
pub(super) struct Way {
    /// Its address, as it was given.
    pub(super) url: Url,
    /// The same without a signature, for messages.
    pub(super) place: String,
    options: BlobContainerClientOptions,
}

impl Way {
    pub(super) fn new(url: &str, connections: &Connections) -> Result<Self, StorageError> {
        let place = crate::failure::redact(url).trim_end_matches("?...").to_owned();
        let invalid = |why: &str| StorageError::Failed { place: place.clone(), why: why.to_owned() };
        let mut url = Url::parse(url).map_err(|_| invalid("not a valid container address"))?;
        url.path_segments_mut().map_err(|()| invalid("not a valid container address"))?.pop_if_empty();
        url.set_fragment(None);
        let http = connections.http().map_err(|e| invalid(&crate::failure::with_causes(&e.without_url())))?;
        let retry = RetryOptions::exponential(ExponentialRetryOptions {
            max_retries: RETRIES_MAX,
            max_total_elapsed: azure_core::time::Duration::seconds(RETRY_SECONDS_MAX),
            ..Default::default()
        });
        let options = BlobContainerClientOptions {
            client_options: ClientOptions { transport: Some(Transport::new(http)), retry, ..Default::default() },
            ..Default::default()
        };
        Ok(Self { url, place, options })
    }

    /// A client of the container by a signed address.
    pub(super) fn client(&self, signed: Url) -> Result<BlobContainerClient, StorageError> {
        BlobContainerClient::new(signed, None, Some(self.options.clone())).map_err(|_| StorageError::Failed {
            place: self.place.clone(),
            why: "not a valid container address".to_owned(),
        })
    }
}

/// Judges a client's error, in words that hold no URL.
fn judged(place: &str, error: &azure_core::Error) -> StorageError {
    let place = place.to_owned();
    match error.kind() {
        ErrorKind::HttpResponse { status, error_code, .. } => {
            let status = u16::from(*status);
            let code = error_code
                .as_deref()
                .filter(|c| c.len() <= 64 && c.bytes().all(|b| b.is_ascii_alphanumeric()))
                .unwrap_or("without a code");
            let why = format!("HTTP {status} {code}");
            match (status, code) {
                (404, "ContainerNotFound") => StorageError::Missing { place },
                (401 | 403, _) => StorageError::Forbidden { place, why },
                (400, "Md5Mismatch" | "InvalidMd5" | "Crc64Mismatch" | "InvalidOperation") => {
                    StorageError::Checksum { place, why }
                }
                _ => StorageError::Failed { place, why },
            }
        }
        ErrorKind::Connection => StorageError::Unreachable { place, why: "no connection".to_owned() },
        ErrorKind::Io => StorageError::Unreachable { place, why: "connection broken or timed out".to_owned() },
        other => StorageError::Failed { place, why: other.to_string() },
    }
}

/// The container itself is not there.
fn is_missing_container(error: &azure_core::Error) -> bool {
    matches!(error.kind(), ErrorKind::HttpResponse { error_code: Some(code), .. } if code == "ContainerNotFound")
}

/// Identifier of a block; all of one blob have the same length.
fn block_id(index: u32) -> Vec<u8> {
    format!("{index:08}").into_bytes()
}

#[async_trait]
impl StagingStorage for AzureBlobStorage {
    async fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>, StorageError> {
        let blob = self.container.blob_client(name).block_blob_client();
        Ok(Box::new(Writer { blob, place: self.place.clone(), integrity: self.integrity }))
    }

    async fn list(&self, prefix: &str, max: usize) -> Result<Vec<BlobEntry>, StorageError> {
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(prefix.to_owned()),
            maxresults: Some(LIST_PAGE),
            ..Default::default()
        };
        let failed = |e: azure_core::Error| judged(&self.place, &e);
        let mut items = self.container.list_blobs(Some(options)).map_err(failed)?;
        let mut found = Vec::new();
        while found.len() < max
            && let Some(item) = items.try_next().await.map_err(failed)?
        {
            let bytes = item.properties.as_ref().and_then(|p| p.content_length).unwrap_or(0);
            if let Some(name) = item.name {
                found.push(BlobEntry { name, bytes });
            }
        }
        Ok(found)
    }

    async fn read_start(&self, name: &str, bytes_max: usize) -> Result<Option<Bytes>, StorageError> {
        let options = BlobClientDownloadOptions {
            range: Some((0..bytes_max as u64).into()),
            // One request, whose answer is no larger than what was asked for.
            partition_size: NonZero::new(bytes_max),
            ..Default::default()
        };
        let failed = |e: azure_core::Error| match e.http_status().map(u16::from) {
            // 416: it is empty.
            Some(404) if !is_missing_container(&e) => Ok(None),
            Some(416) => Ok(Some(Bytes::new())),
            _ => Err(judged(&self.place, &e)),
        };
        let answer = match self.container.blob_client(name).download(Some(options)).await {
            Ok(answer) => answer,
            Err(e) => return failed(e),
        };
        match answer.body.collect().await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) => failed(e),
        }
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        match self.container.blob_client(name).delete(None).await {
            Ok(_) => Ok(()),
            Err(e) if e.http_status().is_some_and(|s| u16::from(s) == 404) => Ok(()),
            Err(e) => Err(judged(&self.place, &e)),
        }
    }

    async fn sweep_remains(&self, _prefix: &str) -> Result<(), StorageError> {
        // The service drops uncommitted blocks by itself after a week.
        Ok(())
    }
}

struct Writer {
    blob: BlockBlobClient,
    place: String,
    integrity: Integrity,
}

#[async_trait]
impl BlobWriter for Writer {
    async fn stage_block(&self, index: u32, _offset_bytes: u64, bytes: Bytes) -> Result<(), StorageError> {
        stage_block(&self.blob, &self.place, self.integrity, index, bytes).await
    }

    async fn commit(&self, blocks: u32) -> Result<(), StorageError> {
        commit(&self.blob, &self.place, blocks).await
    }
}

/// Stages a block of a blob.
pub(super) async fn stage_block(
    blob: &BlockBlobClient,
    place: &str,
    integrity: Integrity,
    index: u32,
    bytes: Bytes,
) -> Result<(), StorageError> {
    let options = BlockBlobClientStageBlockOptions {
        transactional_content_md5: (integrity == Integrity::Md5).then(|| Md5::digest(&bytes).to_vec()),
        // Azure Storage, "Put Block": the polynomial is that of CRC-64/NVME, bytes in little-endian order.
        transactional_content_crc64: (integrity == Integrity::Crc64)
            .then(|| crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &bytes).to_le_bytes().to_vec()),
        ..Default::default()
    };
    let staged = blob.stage_block(&block_id(index), bytes.len() as u64, bytes.into(), Some(options)).await;
    staged.map(drop).map_err(|e| judged(place, &e))
}

/// Makes blocks `0..blocks` the blob.
pub(super) async fn commit(blob: &BlockBlobClient, place: &str, blocks: u32) -> Result<(), StorageError> {
    let list = BlockLookupList { latest: Some((0..blocks).map(block_id).collect()), ..Default::default() };
    let list = list.try_into().map_err(|e| judged(place, &e))?;
    blob.commit_block_list(list, None).await.map(drop).map_err(|e| judged(place, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    /// Says "created" to each request of a connection.
    async fn answer(mut connection: TcpStream) {
        let (mut received, mut block) = (Vec::new(), [0; 4096]);
        loop {
            let end = received.windows(4).position(|four| four == b"\r\n\r\n");
            let whole = end.map(|end| {
                let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
                end + 4 + length.unwrap_or(0_usize)
            });
            match whole {
                Some(whole) if received.len() >= whole => {
                    received.drain(..whole);
                    connection.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                }
                _ => match connection.read(&mut block).await.unwrap() {
                    0 => return,
                    read => received.extend_from_slice(&block[..read]),
                },
            }
        }
    }

    #[tokio::test]
    async fn storages_share_their_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let container = format!("http://{}/container?sig=s", listener.local_addr().unwrap());
        let counted = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let accepted = counted.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                accepted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::spawn(answer(connection));
            }
        });
        let connections = Connections::default();
        for name in ["one", "two", "three"] {
            let storage = AzureBlobStorage::new(&container, Integrity::Crc64, &connections).unwrap();
            let writer = storage.create(name).await.unwrap();
            writer.stage_block(0, 0, Bytes::from_static(b"a,b\n")).await.unwrap();
            writer.commit(1).await.unwrap();
        }
        assert_eq!(counted.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}
