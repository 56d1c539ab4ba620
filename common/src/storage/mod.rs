//! Staging storage: write a blob in blocks, commit it, list, read its start, delete. Both programs use it: the node writes,
//! the coordinator lists, looks into quarantines and sweeps. Every adapter passes [`conformance`].

mod blob;
pub mod conformance;
mod filesystem;
mod memory;
mod signed;

pub use blob::{AzureBlobStorage, Connections};
pub use filesystem::{FileSystemStorage, free_bytes};
pub use memory::MemoryStorage;
pub use signed::{SignedBlobStorage, Signer};

use crate::{
    failure::{Code, Failure, Fault, Retry},
    unit::StagingTarget,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// A blob as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobEntry {
    /// Name below the container.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// What went wrong in staging storage. Messages hold no signature.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No answer.
    #[error("staging storage {place} cannot be reached: {why}")]
    Unreachable {
        /// Container or folder.
        place: String,
        /// What the client saw.
        why: String,
    },
    /// Signature or rights refused.
    #[error("staging storage {place} refuses access: {why}; check the key or signature, its rights and its end")]
    Forbidden {
        /// Container or folder.
        place: String,
        /// What the service said.
        why: String,
    },
    /// Nobody signed the next blob.
    #[error("the coordinator has given no signature for the next blob of staging storage {place} in time")]
    Unsigned {
        /// Container.
        place: String,
    },
    /// Container or folder not there.
    #[error("staging container or folder {place} does not exist; create it first")]
    Missing {
        /// Container or folder.
        place: String,
    },
    /// No room.
    #[error("staging folder {place} has no room left: {why}")]
    Full {
        /// The folder.
        place: String,
        /// What the system said.
        why: String,
    },
    /// Other bytes arrived than were sent.
    #[error("staging storage {place} received other bytes than were sent: {why}")]
    Checksum {
        /// Container or folder.
        place: String,
        /// What the service said.
        why: String,
    },
    /// Anything else that may pass.
    #[error("staging storage {place} failed: {why}")]
    Failed {
        /// Container or folder.
        place: String,
        /// What happened.
        why: String,
    },
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let message = error.to_string();
        let (code, fault, retry) = match error {
            StorageError::Unreachable { .. } => (Code::StagingUnreachable, Fault::Sink, Retry::Backoff),
            StorageError::Forbidden { .. } => (Code::StagingForbidden, Fault::Settings, Retry::Backoff),
            StorageError::Unsigned { .. } => (Code::StagingForbidden, Fault::Runtime, Retry::Backoff),
            StorageError::Missing { .. } => (Code::StagingMissing, Fault::Settings, Retry::Never),
            StorageError::Full { .. } => (Code::StagingFull, Fault::Sink, Retry::Backoff),
            StorageError::Checksum { .. } => (Code::StagingChecksum, Fault::Runtime, Retry::Backoff),
            StorageError::Failed { .. } => (Code::StagingFailed, Fault::Sink, Retry::Backoff),
        };
        Self::new(code, fault, retry, message)
    }
}

/// Where staged blobs live.
#[async_trait]
pub trait StagingStorage: Send + Sync {
    /// Begins a blob. Nothing of it is seen before [`BlobWriter::commit`].
    async fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>, StorageError>;

    /// Blobs whose names begin with `prefix`, at most `max` of them.
    async fn list(&self, prefix: &str, max: usize) -> Result<Vec<BlobEntry>, StorageError>;

    /// The first bytes of a blob, at most `bytes_max` of them. `None`: there is no such blob.
    async fn read_start(&self, name: &str, bytes_max: usize) -> Result<Option<Bytes>, StorageError>;

    /// Deletes a blob. One that is not there counts as deleted.
    async fn delete(&self, name: &str) -> Result<(), StorageError>;

    /// Cleans up what uncommitted writes below `prefix` have left, and empty folders.
    async fn sweep_remains(&self, prefix: &str) -> Result<(), StorageError>;
}

/// One blob being written. Blocks may be staged in any order and at the same time.
#[async_trait]
pub trait BlobWriter: Send + Sync {
    /// Stages block number `index`, which begins at `offset_bytes` of the blob.
    async fn stage_block(&self, index: u32, offset_bytes: u64, bytes: Bytes) -> Result<(), StorageError>;

    /// Makes blocks `0..blocks` the blob, at once. A blob of that name is replaced.
    async fn commit(&self, blocks: u32) -> Result<(), StorageError>;
}

/// The storage that a grant names, where it needs no signatures but those that came with it.
///
/// Fails with [`StorageError::Forbidden`] where each blob has its own: see [`open_signed`].
pub fn open(target: &StagingTarget, connections: &Connections) -> Result<Box<dyn StagingStorage>, StorageError> {
    Ok(match target {
        StagingTarget::SignedBlobs { container_url, .. } => {
            let why = "each of its blobs needs a signature of its own".to_owned();
            return Err(StorageError::Forbidden { place: container_url.clone(), why });
        }
        StagingTarget::AzureBlob { container_sas_url, integrity } => {
            Box::new(AzureBlobStorage::new(container_sas_url, *integrity, connections)?)
        }
        StagingTarget::FileSystem { folder } => Box::new(FileSystemStorage::new(folder)),
    })
}

/// The storage that a grant names, each of whose blobs `signer` signs.
pub fn open_signed(
    target: &StagingTarget,
    signer: Arc<dyn Signer>,
    connections: &Connections,
) -> Result<Box<dyn StagingStorage>, StorageError> {
    match target {
        StagingTarget::SignedBlobs { container_url, integrity, .. } => {
            Ok(Box::new(SignedBlobStorage::new(container_url, *integrity, signer, connections)?))
        }
        other => open(other, connections),
    }
}
