//! The staging storage adapter against a real service.

use ferry_common::{
    storage::{AzureBlobStorage, Connections, StagingStorage as _, StorageError, conformance},
    unit::Integrity,
};
use ferry_tests::{Azurite, Cluster, ClusterOptions};
use serde_json::json;
use tempfile::TempDir;

#[tokio::test]
async fn azure_blob_storage_conforms() {
    ferry_common::install_tls_provider();
    let folder = TempDir::new().unwrap();
    let azurite = Azurite::start(folder.path()).await;
    conformance::run(&azurite.storage()).await;

    // Without a signature nothing is let in, and the message says whom to ask.
    let stranger = AzureBlobStorage::new(&azurite.container, Integrity::Md5, &Connections::default()).unwrap();
    let error = stranger.list("", 1).await.unwrap_err();
    assert!(matches!(error, StorageError::Forbidden { .. } | StorageError::Missing { .. }), "{error}");
    let nowhere = AzureBlobStorage::new(
        "http://127.0.0.1:1/account/container?sig=SECRET",
        Integrity::Md5,
        &Connections::default(),
    )
    .unwrap();
    let error = nowhere.list("", 1).await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable { .. }) && !error.to_string().contains("SECRET"), "{error}");
}

#[tokio::test]
async fn a_signature_that_has_ended_is_told_and_not_shown() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    std::fs::write(cluster.source().join("a.csv"), "a,b\n1,x\n").unwrap();
    let mut activity = cluster.flights_activity();
    activity["staging"].as_object_mut().unwrap().remove("accountKey");
    activity["staging"]["sas"] = json!({"secret": "env:FERRY_TEST_EXPIRED_SAS"});
    activity["settings"]["attemptsMax"] = json!(2);
    cluster.submit("expired", &activity).await;
    let ended = cluster.until("expired", "the end of the run", |r| r["isFinal"] == true).await;
    assert_eq!(ended["failure"]["code"], "StagingForbidden", "{ended:#}");
    let told = ended.to_string() + &cluster.coordinator_logs() + &Cluster::log_of(&cluster.nodes[0]);
    assert!(!told.contains("sig="), "{told}");
}
