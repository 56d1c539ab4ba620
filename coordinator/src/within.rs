//! A folder of a container: in one that others use as well, a run keeps to names below it.

use async_trait::async_trait;
use bytes::Bytes;
use ferry_common::storage::{BlobEntry, BlobWriter, StagingStorage, StorageError};

/// Storage whose names all lie below one folder.
pub(crate) struct Within {
    storage: Box<dyn StagingStorage>,
    /// With a slash at its end.
    prefix: String,
}

impl Within {
    pub(crate) fn new(storage: Box<dyn StagingStorage>, folder: &str) -> Self {
        Self { storage, prefix: format!("{folder}/") }
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

#[async_trait]
impl StagingStorage for Within {
    async fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>, StorageError> {
        self.storage.create(&self.full(name)).await
    }

    async fn list(&self, prefix: &str, max: usize) -> Result<Vec<BlobEntry>, StorageError> {
        let mut found = self.storage.list(&self.full(prefix), max).await?;
        for blob in &mut found {
            blob.name = blob.name.strip_prefix(&self.prefix).unwrap_or(&blob.name).to_owned();
        }
        Ok(found)
    }

    async fn read_start(&self, name: &str, bytes_max: usize) -> Result<Option<Bytes>, StorageError> {
        self.storage.read_start(&self.full(name), bytes_max).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.storage.delete(&self.full(name)).await
    }

    async fn sweep_remains(&self, prefix: &str) -> Result<(), StorageError> {
        self.storage.sweep_remains(&self.full(prefix)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_common::storage::{MemoryStorage, conformance};

    #[tokio::test]
    async fn a_folder_conforms_and_touches_nothing_beside_it() {
        let whole = MemoryStorage::default();
        for name in ["other/1/1/0.csv", "ferry-ab1/1/1/0.csv"] {
            whole.create(name).await.unwrap().commit(0).await.unwrap();
        }
        let within = Within::new(Box::new(whole.clone()), "ferry-ab");
        conformance::run(&within).await;
        within.create("r/1/1/0.csv").await.unwrap().commit(0).await.unwrap();
        assert_eq!(within.list("", 10).await.unwrap().len(), 1);
        let names: Vec<_> = whole.list("", 10).await.unwrap().into_iter().map(|blob| blob.name).collect();
        assert_eq!(names, ["ferry-ab/r/1/1/0.csv", "ferry-ab1/1/1/0.csv", "other/1/1/0.csv"]);
    }
}
