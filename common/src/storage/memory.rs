//! Staging in memory, for simulations.

use super::{BlobEntry, BlobWriter, StagingStorage, StorageError};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

type Blobs = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// Blobs in a map. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage(Blobs);

impl MemoryStorage {
    /// A committed blob's bytes.
    pub fn read(&self, name: &str) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

struct Writer {
    blobs: Blobs,
    name: String,
    blocks: Mutex<BTreeMap<u32, Bytes>>,
}

#[async_trait]
impl StagingStorage for MemoryStorage {
    async fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>, StorageError> {
        Ok(Box::new(Writer { blobs: self.0.clone(), name: name.to_owned(), blocks: Mutex::default() }))
    }

    async fn list(&self, prefix: &str, max: usize) -> Result<Vec<BlobEntry>, StorageError> {
        let blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(blobs
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .take(max)
            .map(|(name, bytes)| BlobEntry { name: name.clone(), bytes: bytes.len() as u64 })
            .collect())
    }

    async fn read_start(&self, name: &str, bytes_max: usize) -> Result<Option<Bytes>, StorageError> {
        Ok(self.read(name).map(|bytes| bytes.slice(..bytes.len().min(bytes_max))))
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    async fn sweep_remains(&self, _prefix: &str) -> Result<(), StorageError> {
        Ok(())
    }
}

#[async_trait]
impl BlobWriter for Writer {
    async fn stage_block(&self, index: u32, _offset_bytes: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).insert(index, bytes);
        Ok(())
    }

    async fn commit(&self, blocks: u32) -> Result<(), StorageError> {
        let staged = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut whole = BytesMut::new();
        for index in 0..blocks {
            let block = staged.get(&index).ok_or_else(|| StorageError::Failed {
                place: self.name.clone(),
                why: format!("block {index} was never staged"),
            })?;
            whole.extend_from_slice(block);
        }
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name.clone(), whole.freeze());
        Ok(())
    }
}
