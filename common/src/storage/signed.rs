//! Staging by signatures for single blobs: it writes those, and can do nothing else.

use super::{
    BlobEntry, BlobWriter, StagingStorage, StorageError,
    blob::{self, Connections, Way},
};
use crate::unit::Integrity;
use async_trait::async_trait;
use azure_storage_blob::BlockBlobClient;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// Gives the signatures of blobs.
#[async_trait]
pub trait Signer: Send + Sync {
    /// The query of the blob's address by which it may be written now. Waits while there is none, for a limited time.
    async fn query_of(&self, name: &str) -> Result<String, StorageError>;
}

/// A container, each of whose blobs is signed by itself.
pub struct SignedBlobStorage(Arc<Shared>);

struct Shared {
    way: Way,
    integrity: Integrity,
    signer: Arc<dyn Signer>,
}

impl SignedBlobStorage {
    /// Storage in the container at `container_url`. The service verifies each block as `integrity` says.
    pub fn new(
        container_url: &str,
        integrity: Integrity,
        signer: Arc<dyn Signer>,
        connections: &Connections,
    ) -> Result<Self, StorageError> {
        Ok(Self(Arc::new(Shared { way: Way::new(container_url, connections)?, integrity, signer })))
    }

    fn forbidden(&self) -> StorageError {
        let why = "signatures for single blobs are for writing these".to_owned();
        StorageError::Forbidden { place: self.0.way.place.clone(), why }
    }
}

#[async_trait]
impl StagingStorage for SignedBlobStorage {
    async fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>, StorageError> {
        let writer = Writer { shared: self.0.clone(), name: name.to_owned(), client: Mutex::new(None) };
        // Whoever has none hears it now.
        writer.client().await?;
        Ok(Box::new(writer))
    }

    async fn list(&self, _prefix: &str, _max: usize) -> Result<Vec<BlobEntry>, StorageError> {
        Err(self.forbidden())
    }

    async fn read_start(&self, _name: &str, _bytes_max: usize) -> Result<Option<Bytes>, StorageError> {
        Err(self.forbidden())
    }

    async fn delete(&self, _name: &str) -> Result<(), StorageError> {
        Err(self.forbidden())
    }

    async fn sweep_remains(&self, _prefix: &str) -> Result<(), StorageError> {
        Ok(())
    }
}

struct Writer {
    shared: Arc<Shared>,
    name: String,
    /// By the signature that was used last.
    client: Mutex<Option<(String, Arc<BlockBlobClient>)>>,
}

impl Writer {
    /// A client by the signature that holds now: a large blob on a slow line may outlive one.
    async fn client(&self) -> Result<Arc<BlockBlobClient>, StorageError> {
        let query = self.shared.signer.query_of(&self.name).await?;
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = &*kept
            && *known == query
        {
            return Ok(client.clone());
        }
        let way = &self.shared.way;
        let mut url = way.url.clone();
        url.set_query(Some(&query));
        let client = Arc::new(way.client(url)?.blob_client(&self.name).block_blob_client());
        *kept = Some((query, client.clone()));
        Ok(client)
    }
}

#[async_trait]
impl BlobWriter for Writer {
    async fn stage_block(&self, index: u32, _offset_bytes: u64, bytes: Bytes) -> Result<(), StorageError> {
        let (client, shared) = (self.client().await?, &self.shared);
        blob::stage_block(&client, &shared.way.place, shared.integrity, index, bytes).await
    }

    async fn commit(&self, blocks: u32) -> Result<(), StorageError> {
        let client = self.client().await?;
        blob::commit(&client, &self.shared.way.place, blocks).await
    }
}
