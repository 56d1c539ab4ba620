//! Staging in containers that the cluster lends: for whoever has no storage account.

use crate::copies::assert_whole;
use ferry_tests::{Cluster, ClusterOptions, write_flights};
use serde_json::{Value, json};

/// A signature that lets everything be done, sweeping too.
const ALL_RIGHTS: &str = "rwdlac";

async fn start(nodes: usize, lent_rights: &str) -> Cluster {
    let lent_rights = lent_rights.to_owned();
    Cluster::start(ClusterOptions { nodes, queued: true, lent_rights, ..ClusterOptions::default() }).await
}

fn lent_activity(cluster: &Cluster) -> Value {
    let mut activity = cluster.flights_activity();
    activity["staging"] = json!({"type": "FromCluster"});
    activity
}

/// Warnings of the report that hold a text.
fn warnings(report: &Value, text: &str) -> usize {
    let all = report["warnings"].as_array().unwrap();
    all.iter().filter(|warning| warning.as_str().unwrap().contains(text)).count()
}

/// Nothing signed was written down.
fn assert_no_signature(cluster: &Cluster, report: &Value) {
    let logs = cluster.coordinator_logs() + &cluster.nodes.iter().map(Cluster::log_of).collect::<String>();
    for (what, text) in [("a log", logs), ("the report", report.to_string())] {
        assert!(!text.contains("sig="), "{what} holds a signature:\n{text}");
    }
    let store = std::fs::read(cluster.source().parent().unwrap().join("ferry.db")).unwrap();
    assert!(!store.windows(4).any(|window| window == b"sig="), "the store holds a signature");
}

#[tokio::test]
async fn flights_reach_the_table_through_what_the_cluster_lends_whoever_dies() {
    let mut cluster = start(3, ALL_RIGHTS).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("lent", &lent_activity(&cluster)).await;
    let (holder, path) = cluster.freeze_a_holder("lent").await;
    cluster.nodes[holder].kill(); // no goodbye
    // Another life of the coordinator finds the container again, and asks for its signature.
    cluster.restart_coordinator().await;
    let report = cluster.finish("lent").await;
    let files = report["files"].as_array().unwrap();
    let attempts = files.iter().find(|f| f["path"] == path).map_or(0, |f| f["attempts"].as_u64().unwrap());
    assert!(attempts >= 2, "the lease must have moved: {path}");
    assert_whole(&cluster, &report, &expected).await;
    let left = cluster.azurite.lent_blobs().await;
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(warnings(&report, "for the whole container"), 1, "{:#}", report["warnings"]);
    assert_eq!(warnings(&report, "in its own time"), 0, "{:#}", report["warnings"]);
    assert_no_signature(&cluster, &report);
    let output = ferry_tests::ferry(&["doctor", "--leaks", "--coordinator", &cluster.api()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn flights_reach_the_table_through_what_the_cluster_lends_and_its_queue() {
    let cluster = start(3, ALL_RIGHTS).await;
    let expected = write_flights(&cluster.source());
    let mut activity = lent_activity(&cluster);
    activity["sink"]["ingestion"] = json!("queued");
    cluster.submit("lent-queued", &activity).await;
    let report = cluster.finish("lent-queued").await;
    assert_whole(&cluster, &report, &expected).await;
    let left = cluster.azurite.lent_blobs().await;
    assert!(left.is_empty(), "{left:?}");
    assert_no_signature(&cluster, &report);
}

#[tokio::test]
async fn what_may_not_be_swept_is_left_to_the_cluster_and_said_once() {
    // All that the service's own containers let clients do.
    let cluster = start(2, "rw").await;
    let expected = write_flights(&cluster.source());
    cluster.submit("left", &lent_activity(&cluster)).await;
    let report = cluster.finish("left").await;
    assert_whole(&cluster, &report, &expected).await;
    assert_eq!(warnings(&report, "in its own time"), 1, "{:#}", report["warnings"]);
    let left = cluster.azurite.lent_blobs().await;
    assert_eq!(left.len(), report["ingest"].as_array().unwrap().len());
    assert!(left.iter().all(|blob| blob.name.starts_with("ferry-")), "{left:?}");
    let output = ferry_tests::ferry(&["doctor", "--leaks", "--coordinator", &cluster.api(), "--output", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["leaks"]["isClean"], true, "{found:#}");
    assert_eq!(found["leaks"]["warnings"].as_array().unwrap().len(), 1, "{found:#}");
    assert_no_signature(&cluster, &report);
}

#[tokio::test]
async fn one_command_copies_without_a_storage_account() {
    let cluster = start(0, ALL_RIGHTS).await;
    std::fs::write(cluster.source().join("a.csv"), "a,b\n1,x\n2,y\n").unwrap();
    let (source, endpoint) = (cluster.source().display().to_string(), cluster.endpoint());
    let copy = |staging: &[&str]| {
        let command = ["copy", &source, "--endpoint", &endpoint, "--database", "Test", "--table", "Few"];
        ferry_tests::ferry(&[&command[..], &["--create-table", "--output", "json"], staging].concat())
    };
    let output = copy(&["--staging", "cluster"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["status"], &report["rowsCopied"]), (&json!("Succeeded"), &json!(2)));
    assert!(cluster.azurite.lent_blobs().await.is_empty());
    // What cannot be is told.
    for (staging, words) in [
        (Vec::new(), "--staging is needed"),
        (vec!["--staging", "cluster", "--staging-sas", "env:S"], "go with the address of a blob container"),
    ] {
        let output = copy(&staging);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && told.contains(words), "{told}");
    }
}

#[tokio::test]
async fn a_cluster_that_lends_nothing_is_told_before_a_byte_is_staged() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    std::fs::write(cluster.source().join("a.csv"), "a,b\n1,x\n").unwrap();
    cluster.submit("nothing", &lent_activity(&cluster)).await;
    let report = cluster.finish("nothing").await;
    assert_eq!(report["status"], "Failed", "{report:#}");
    let told = report["errors"].to_string();
    assert!(told.contains("StagingMissing") && told.contains("lends no containers"), "{told}");
}
