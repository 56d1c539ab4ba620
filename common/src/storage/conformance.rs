//! What every staging storage must do, as one suite that each adapter runs.

use super::{BlobWriter, StagingStorage};
use bytes::Bytes;

/// Tries `storage`, which must be empty below `conformance/`. Panics, naming what does not hold.
///
/// # Panics
/// When the storage does not keep a promise.
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
pub async fn run(storage: &dyn StagingStorage) {
    let names = |entries: Vec<super::BlobEntry>| {
        let mut names: Vec<_> = entries.into_iter().map(|e| (e.name, e.bytes)).collect();
        names.sort();
        names
    };
    assert!(storage.list("conformance/", 10).await.unwrap().is_empty(), "the storage must begin empty");

    let writer = storage.create("conformance/1/1/0.csv.gz").await.unwrap();
    stage(&*writer, &[(1, 3, "def"), (0, 0, "abc")]).await;
    assert!(storage.list("conformance/", 10).await.unwrap().is_empty(), "staged blocks must not be seen before commit");
    writer.commit(2).await.unwrap();
    drop(writer);
    assert_eq!(
        names(storage.list("conformance/", 10).await.unwrap()),
        [("conformance/1/1/0.csv.gz".to_owned(), 6)],
        "a committed blob must be seen whole"
    );

    let again = storage.create("conformance/1/1/0.csv.gz").await.unwrap();
    stage(&*again, &[(0, 0, "xy")]).await;
    again.commit(1).await.unwrap();
    drop(again);
    assert_eq!(storage.list("conformance/1/", 10).await.unwrap()[0].bytes, 2, "a repeated blob must replace the first");

    let start = async |name: &str, bytes_max| storage.read_start(name, bytes_max).await.unwrap();
    let name = "conformance/1/1/0.csv.gz";
    assert_eq!(start(name, 100).await, Some(Bytes::from_static(b"xy")), "a blob must read back as it was written");
    assert_eq!(start(name, 1).await, Some(Bytes::from_static(b"x")), "no more than was asked for may be read");
    assert_eq!(start("conformance/1/1/1.csv.gz", 100).await, None, "what is not there has no start");

    let odd = storage.create("conformance/1/1/a b%c.csv.gz").await.unwrap();
    stage(&*odd, &[(0, 0, "z")]).await;
    odd.commit(1).await.unwrap();
    drop(odd);
    assert!(
        storage.list("conformance/", 10).await.unwrap().iter().any(|e| e.name == "conformance/1/1/a b%c.csv.gz"),
        "odd names must come back as they went"
    );
    assert_eq!(start("conformance/1/1/a b%c.csv.gz", 9).await, Some(Bytes::from_static(b"z")), "odd names can be read");
    assert_eq!(storage.list("conformance/", 1).await.unwrap().len(), 1, "a listing must stop at its limit");
    assert!(storage.list("other/", 10).await.unwrap().is_empty(), "a listing must keep to its prefix");

    let abandoned = storage.create("conformance/1/2/0.csv.gz").await.unwrap();
    stage(&*abandoned, &[(0, 0, "lost")]).await;
    drop(abandoned);

    for entry in storage.list("conformance/", 10).await.unwrap() {
        storage.delete(&entry.name).await.unwrap();
    }
    storage.delete("conformance/1/1/0.csv.gz").await.unwrap();
    storage.sweep_remains("conformance/").await.unwrap();
    assert!(storage.list("conformance/", 10).await.unwrap().is_empty(), "deleted blobs must be gone");
}

#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn stage(writer: &dyn BlobWriter, blocks: &[(u32, u64, &'static str)]) {
    for (index, offset, text) in blocks {
        writer.stage_block(*index, *offset, Bytes::from_static(text.as_bytes())).await.unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileSystemStorage, MemoryStorage, StorageError};
    use super::*;

    #[tokio::test]
    async fn memory_conforms() {
        run(&MemoryStorage::default()).await;
    }

    #[tokio::test]
    async fn a_folder_conforms_and_ends_empty() {
        let folder = tempfile::tempdir().unwrap();
        run(&FileSystemStorage::new(folder.path())).await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_missing_folder_is_said() {
        let error = FileSystemStorage::new("/no/such/folder").create("a").await.err().unwrap();
        assert!(matches!(error, StorageError::Missing { .. }), "{error}");
    }
}
