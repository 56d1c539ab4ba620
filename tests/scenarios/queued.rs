//! Queued ingestion: local-adx as Microsoft's own client sees it, and ferry's use of it.

use crate::copies::assert_whole;
use ferry_tests::{Cluster, ClusterOptions, Weather, python, write_flights};
use serde_json::json;

#[tokio::test]
async fn microsofts_client_queues_into_local_adx() {
    let fault = "op-error:1,op-throttle:1".to_owned();
    let options = ClusterOptions { nodes: 0, queued: true, fault, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).await;
    cluster.query(".create table Q (id:long, text:string)");
    let folder = cluster.source().display().to_string();
    let told = python("queue_with_sdk.py", &[&cluster.endpoint(), "Test", "Q", &folder]);
    assert_eq!(told["asExpected"], true, "{told:#}");
    // a, b and c, and a once more under a tag of its own.
    let rows = cluster.query("Q | summarize count(), sum(id), countif(text startswith 'c ')");
    let sum = |n: i64| n * (n - 1) / 2;
    let expected = sum(1000) * 2 + sum(2500) + sum(300);
    assert_eq!(json!(rows), json!([{"count_": 4800, "sum_id": expected, "countif_": 300}]));
}

/// Rows of the table, each counted once, and what the report says of the ingestion.
async fn assert_queued(cluster: &Cluster, run: &str, expected: &ferry_tests::Facts) {
    let report = cluster.finish(run).await;
    assert_whole(cluster, &report, expected).await;
    let chunks = report["ingest"].as_array().unwrap();
    assert!(chunks.len() > 40, "{}", chunks.len());
}

fn queued_activity(cluster: &Cluster) -> serde_json::Value {
    let mut activity = cluster.flights_activity();
    activity["sink"]["ingestion"] = json!("queued");
    activity
}

#[tokio::test]
async fn flights_reach_the_table_through_the_queue_whatever_fails_on_the_way() {
    let fault = "op-error:3,op-throttle:3".to_owned();
    let options = ClusterOptions { queued: true, fault, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("queued", &queued_activity(&cluster)).await;
    for confirmed in [0, 5] {
        let is_under_way = |r: &serde_json::Value| {
            (r["state"] == "Ingesting" && r["ingest"]["commandsDone"].as_u64() >= Some(confirmed))
                || r["isFinal"] == true
        };
        cluster.until("queued", "blobs are ingested", is_under_way).await;
        cluster.restart_coordinator().await;
        cluster.restart_adx("op-error:2").await;
    }
    assert_queued(&cluster, "queued", &expected).await;
}

#[tokio::test]
async fn flights_reach_the_table_by_rest_where_the_cluster_prefers_it() {
    let options = ClusterOptions { fault: "op-error:3".to_owned(), relayed: true, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("by-rest", &queued_activity(&cluster)).await;
    cluster.until("by-rest", "stage 2", |r| r["state"] != "Copying" && r["state"] != "Queued").await;
    // Answers are lost: what they said is found out.
    let relays = cluster.relays.as_ref().unwrap();
    relays.adx.set(Weather::HoldsAnswers);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    relays.adx.set(Weather::Cut);
    relays.adx.set(Weather::Fair);
    cluster.restart_adx("").await;
    assert_queued(&cluster, "by-rest", &expected).await;
}

#[tokio::test]
async fn a_blob_that_the_service_refuses_fails_the_run_by_name() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, queued: true, ..ClusterOptions::default() }).await;
    std::fs::write(cluster.source().join("a.csv"), "1,x\n2,y\n").unwrap();
    cluster.query(".create table Q (id:long, text:string)");
    let mut activity = queued_activity(&cluster);
    activity["source"]["format"]["firstRowAsHeader"] = json!(false);
    activity["sink"]["createTable"] = json!(false);
    activity["sink"]["table"] = json!("Q");
    activity["sink"]["mapping"] = json!({"reference": "nowhere"});
    cluster.submit("refused", &activity).await;
    let report = cluster.finish("refused").await;
    assert_eq!(report["status"], "Failed");
    let told = report["errors"].to_string();
    assert!(told.contains("IngestRejected") && told.contains("nowhere") && told.contains("a.csv"), "{told}");
    assert!(!told.contains("sig="), "{told}");
}
