//! Programs that die, pause and come back.

use crate::copies::assert_whole;
use ferry_tests::{Cluster, ClusterOptions, write_flights};
use serde_json::Value;

fn number(run: &Value, path: &str) -> u64 {
    run.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn attempts_at(report: &Value, path: &str) -> u64 {
    let files = report["files"].as_array().unwrap();
    files.iter().find(|f| f["path"] == path).map_or(0, |f| number(f, "/attempts"))
}

#[tokio::test]
async fn a_file_held_by_a_killed_node_is_copied_once_by_another() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("killed", &cluster.flights_activity()).await;

    let (holder, path) = cluster.freeze_a_holder("killed").await;
    cluster.nodes[holder].kill(); // no goodbye

    let report = cluster.finish("killed").await;
    assert!(attempts_at(&report, &path) >= 2, "the lease must have moved: {path}");
    assert_whole(&cluster, &report, &expected).await;
}

#[tokio::test]
async fn a_node_that_wakes_up_after_its_lease_changes_nothing() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("paused", &cluster.flights_activity()).await;

    let (holder, path) = cluster.freeze_a_holder("paused").await;
    cluster.until("paused", "stage 1 without the holder", |r| r["state"] != "Copying").await;
    cluster.nodes[holder].signal("CONT");

    let report = cluster.finish("paused").await;
    assert!(attempts_at(&report, &path) >= 2, "the lease must have moved: {path}");
    assert_whole(&cluster, &report, &expected).await;
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_gives_its_file_back_at_once() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("stopped", &cluster.flights_activity()).await;

    let (holder, _) = cluster.freeze_a_holder("stopped").await;
    cluster.nodes[holder].signal("CONT");
    cluster.nodes[holder].terminate();

    let report = cluster.finish("stopped").await;
    assert_whole(&cluster, &report, &expected).await;
    let log = Cluster::log_of(&cluster.coordinator);
    assert!(log.contains("node leaves"), "it must say goodbye:\n{log}");
    assert!(!log.contains("lease expired"), "nobody must wait for its lease:\n{log}");
}

#[tokio::test]
async fn a_coordinator_killed_in_stage_1_goes_on_after_its_restart() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("stage-1", &cluster.flights_activity()).await;
    cluster
        .until("stage-1", "some files are staged", |r| r["state"] == "Copying" && number(r, "/copy/filesDone") >= 1)
        .await;

    cluster.restart_coordinator().await;

    let report = cluster.finish("stage-1").await;
    assert_whole(&cluster, &report, &expected).await;
}

#[tokio::test]
async fn a_coordinator_killed_again_and_again_in_stage_2_goes_on_after_its_restarts() {
    // Slow operations, so that some are in flight whenever it dies.
    let fault = "slow:20:1".to_owned();
    let mut cluster = Cluster::start(ClusterOptions { fault, ..ClusterOptions::default() }).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("stage-2", &cluster.flights_activity()).await;
    for confirmed in [0, 2, 5] {
        let in_flight = |r: &Value| {
            r["state"] == "Ingesting"
                && number(r, "/ingest/commandsDone") >= confirmed
                && number(r, "/ingest/commandsActive") > 0
        };
        cluster.until("stage-2", "commands in flight", in_flight).await;
        cluster.restart_coordinator().await;
    }
    let report = cluster.finish("stage-2").await;
    assert_whole(&cluster, &report, &expected).await;
}

#[tokio::test]
async fn a_node_that_is_added_takes_part() {
    let mut cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("added", &cluster.flights_activity()).await;
    cluster.until("added", "the first file is leased", |r| number(r, "/copy/filesActive") >= 1).await;
    cluster.add_node(1);
    let report = cluster.finish("added").await;
    assert_whole(&cluster, &report, &expected).await;
    assert_eq!(report["nodes"].as_array().unwrap().len(), 2, "{:#}", report["nodes"]);
}

#[tokio::test]
async fn a_cancelled_run_ends_and_leaves_no_blob() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    write_flights(&cluster.source());
    cluster.submit("cancelled", &cluster.flights_activity()).await;
    cluster.until("cancelled", "a file is leased", |r| number(r, "/copy/filesActive") >= 1).await;
    let output = ferry_tests::ferry(&["runs", "cancel", "cancelled", "--coordinator", &cluster.api()]);
    assert!(output.status.success());
    let report = cluster.finish("cancelled").await;
    assert_eq!((&report["status"], &report["rowsCopied"]), (&"Cancelled".into(), &0.into()));
    // Nodes hear of it with their next word; what they stage until then is swept, too.
    ferry_tests::wait_for("an empty container", || async { cluster.azurite.blobs().await.is_empty().then_some(()) })
        .await;
}
