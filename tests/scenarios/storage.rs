//! The staging storage adapter against a real service.

use ferry_common::{
    storage::{AzureBlobStorage, StagingStorage as _, StorageError, conformance},
    unit::Integrity,
};
use ferry_tests::Azurite;
use tempfile::TempDir;

#[tokio::test]
async fn azure_blob_storage_conforms() {
    ferry_common::install_tls_provider();
    let folder = TempDir::new().unwrap();
    let azurite = Azurite::start(folder.path()).await;
    conformance::run(&azurite.storage()).await;

    // Without a signature nothing is let in, and the message says whom to ask.
    let stranger = AzureBlobStorage::new(&azurite.container, Integrity::Md5).unwrap();
    let error = stranger.list("", 1).await.unwrap_err();
    assert!(matches!(error, StorageError::Forbidden { .. } | StorageError::Missing { .. }), "{error}");
    let nowhere = AzureBlobStorage::new("http://127.0.0.1:1/account/container?sig=SECRET", Integrity::Md5).unwrap();
    let error = nowhere.list("", 1).await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable { .. }) && !error.to_string().contains("SECRET"), "{error}");
}
