//! Rows that become visible all at once, or not at all.

use crate::copies::assert_whole;
use ferry_tests::{Cluster, ClusterOptions, write_flights};
use serde_json::{Value, json};
use std::fs;

fn published(cluster: &Cluster, how: &str) -> Value {
    let mut activity = cluster.flights_activity();
    activity["sink"]["publish"] = how.into();
    activity
}

/// Tables that are there beside those that the test made.
fn tables(cluster: &Cluster) -> Vec<String> {
    let rows = cluster.query(".show tables | project TableName");
    rows.iter().filter_map(|row| row["TableName"].as_str().map(str::to_owned)).collect()
}

fn count(cluster: &Cluster, table: &str) -> u64 {
    cluster.query(&format!("{table} | count"))[0]["Count"].as_u64().unwrap()
}

#[tokio::test]
async fn rows_are_invisible_until_all_are_there() {
    let cluster = Cluster::start(ClusterOptions { fault: "slow:20:1".to_owned(), ..ClusterOptions::default() }).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("atomic", &published(&cluster, "atomic")).await;
    let confirmed = |r: &Value| r["state"] == "Ingesting" && r["ingest"]["commandsDone"].as_u64().unwrap_or(0) >= 2;
    cluster.until("atomic", "some commands are confirmed", confirmed).await;
    assert_eq!(count(&cluster, "Flights"), 0, "nothing is visible before all is");
    let report = cluster.finish("atomic").await;
    assert_whole(&cluster, &report, &expected).await;
    assert_eq!(tables(&cluster), ["Flights"], "the staging table is dropped");
}

#[tokio::test]
async fn a_run_that_replaces_leaves_its_own_rows_alone() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let source = cluster.source();
    let copy = async |run: &str, rows: std::ops::Range<u32>| {
        let text: String = rows.map(|n| format!("{n}\n")).collect();
        fs::write(source.join("a.csv"), format!("n\n{text}")).unwrap();
        let mut activity = published(&cluster, "replace");
        activity["sink"]["table"] = "N".into();
        cluster.submit(run, &activity).await;
        let report = cluster.finish(run).await;
        assert_eq!(report["status"], "Succeeded", "{report:#}");
        cluster.query("N | summarize Rows=count(), Sum=sum(n)").remove(0)
    };
    assert_eq!(copy("first", 0..100).await, json!({"Rows": 100, "Sum": 4950}));
    assert_eq!(copy("second", 200..210).await, json!({"Rows": 10, "Sum": 2045}));
    // A source without rows is a table without rows.
    let none = copy("third", 0..0).await;
    assert_eq!(none["Rows"], 0);
    assert_eq!(tables(&cluster), ["N"]);
}

/// Six small files; returns how many rows there are, and the sum of their numbers.
fn write_numbers(cluster: &Cluster) -> (u64, u64) {
    for file in 0..6 {
        let text: String = (file * 1_000..(file + 1) * 1_000).map(|n| format!("{n}\n")).collect();
        fs::write(cluster.source().join(format!("{file}.csv")), format!("n\n{text}")).unwrap();
    }
    (6_000, (0..6_000).sum())
}

#[tokio::test]
async fn no_fault_in_publishing_loses_or_doubles_a_row() {
    for (how, fault) in [
        ("atomic", "publish-lost-answer:3,lost-answer:2"),
        ("replace", "publish-lost-answer:3"),
        ("atomic", "publish-throttle:2,publish-error:2"),
        ("replace", "publish-error:3"),
    ] {
        let case = format!("{how}, {fault}");
        let mut cluster = Cluster::start(ClusterOptions { fault: fault.to_owned(), ..ClusterOptions::default() }).await;
        let (rows, sum) = write_numbers(&cluster);
        cluster.submit("faults", &published(&cluster, how)).await;
        cluster.until("faults", "publishing", |r| r["state"] == "Publishing" || r["isFinal"] == true).await;
        cluster.restart_coordinator().await;
        let report = cluster.finish("faults").await;
        assert_eq!(
            (&report["status"], &report["rowsCopied"]),
            (&"Succeeded".into(), &rows.into()),
            "{case}: {report:#}"
        );
        let found = cluster.query("Flights | summarize Rows=count(), Sum=sum(n)").remove(0);
        assert_eq!(found, json!({"Rows": rows, "Sum": sum}), "{case}");
        assert_eq!(tables(&cluster), ["Flights"], "{case}");
        let log = Cluster::log_of(&cluster.adx);
        assert!(log.contains("fault strikes: Publish"), "{case}: no fault happened:\n{log}");
    }
}

#[tokio::test]
async fn a_run_that_fails_or_is_cancelled_publishes_nothing() {
    let cluster = Cluster::start(ClusterOptions { fault: "slow:40:1".to_owned(), ..ClusterOptions::default() }).await;
    write_flights(&cluster.source());
    cluster.submit("cancelled", &published(&cluster, "atomic")).await;
    let confirmed = |r: &Value| r["state"] == "Ingesting" && r["ingest"]["commandsDone"].as_u64().unwrap_or(0) >= 2;
    cluster.until("cancelled", "some commands are confirmed", confirmed).await;
    let output = ferry_tests::ferry(&["runs", "cancel", "cancelled", "--coordinator", &cluster.api()]);
    assert!(output.status.success());
    let report = cluster.finish("cancelled").await;
    assert_eq!((&report["status"], &report["rowsCopied"]), (&"Cancelled".into(), &0.into()));

    fs::write(cluster.source().join("z-bad.csv"), "a,b\n1\n").unwrap();
    cluster.submit("failed", &published(&cluster, "replace")).await;
    let report = cluster.finish("failed").await;
    assert_eq!((&report["status"], &report["rowsCopied"]), (&"Failed".into(), &0.into()));
    assert_eq!(count(&cluster, "Flights"), 0);
    assert_eq!(tables(&cluster), ["Flights"]);
}
