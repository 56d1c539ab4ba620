//! Copies that go well.

use ferry_common::storage::StagingStorage as _;
use ferry_tests::{Cluster, ClusterOptions, write_flights};
use serde_json::{Value, json};

/// The table holds each row of the files exactly once, and nothing is left behind.
pub(crate) async fn assert_whole(cluster: &Cluster, report: &Value, expected: &ferry_tests::Facts) {
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(&cluster.facts(), expected);
    assert_eq!(report["rowsCopied"].as_i64(), Some(expected.count));
    assert_eq!(report["rowsRead"].as_i64(), Some(expected.count));
    assert_eq!(report["rowsSkipped"], 0);
    assert_eq!(report["filesRead"], 24);
    assert_eq!(report["dataConsistencyVerification"]["VerificationResult"], "Verified");
    let blobs = cluster.azurite.blobs().await;
    assert!(blobs.is_empty(), "{blobs:?}");
}

#[tokio::test]
async fn flights_in_24_files_reach_the_table_through_three_nodes() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let expected = write_flights(&cluster.source());
    assert_eq!(expected.count, 336_776);

    let activity = cluster.flights_activity();
    cluster.submit("flights", &activity).await;
    // The same id again is the same run.
    cluster.submit("flights", &activity).await;
    let report = cluster.finish("flights").await;

    assert_whole(&cluster, &report, &expected).await;
    let chunks = report["ingest"].as_array().unwrap();
    assert!(chunks.len() > 40, "files must span chunks: {}", chunks.len());
    assert!(chunks.iter().all(|c| c["rows"] == c["rowsCounted"]), "{chunks:#?}");
    assert_eq!(report["nodes"].as_array().unwrap().len(), 3);
    let bytes: u64 = std::fs::read_dir(cluster.source()).unwrap().count() as u64;
    assert!(
        bytes > 0
            && report["dataRead"].as_u64() > Some(0)
            && report["dataWritten"].as_u64() > report["dataRead"].as_u64()
    );
}

#[tokio::test]
async fn json_lines_and_explicit_columns_reach_the_table() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, slots: 2, ..ClusterOptions::default() }).await;
    let lines: String =
        (0..500).map(|n| format!("{{\"id\":{n},\"it's\":\"text {n}\",\"deep\":{{\"x\":[{n},null]}}}}\n")).collect();
    std::fs::write(cluster.source().join("a.jsonl"), lines).unwrap();
    let mut activity = cluster.flights_activity();
    activity["source"]["format"] = json!({"type": "Json"});
    activity["sink"]["table"] = json!("Lines");
    activity["sink"]["mapping"] = json!({"columns": [
        {"source": {"name": "id"}, "sink": {"name": "Id"}},
        {"source": {"name": "it's"}, "sink": {"name": "Text"}},
        {"source": {"path": "$.deep.x[0]"}, "sink": {"name": "X", "type": "long"}},
    ]});
    cluster.submit("lines", &activity).await;
    let report = cluster.finish("lines").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    let query = "Lines | summarize count(), sum(Id), sum(X), countif(Text == strcat('text ', tostring(Id)))";
    let output = ferry_tests::ferry(&[
        "query",
        query,
        "--endpoint",
        &cluster.endpoint(),
        "--database",
        "Test",
        "--output",
        "json",
    ]);
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows, json!([{"count_": 500, "sum_Id": 124_750, "sum_X": 124_750, "countif_": 500}]));
}

#[tokio::test]
async fn the_cli_submits_follows_and_reports() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    std::fs::write(cluster.source().join("a.csv"), "a,b\n1,x\n2,y\n").unwrap();
    let file = cluster.source().parent().unwrap().join("activity.yaml");
    std::fs::write(&file, cluster.flights_activity().to_string()).unwrap();
    let api = cluster.api();
    let run = |arguments: &[&str]| {
        let output = ferry_tests::ferry(&[arguments, &["--coordinator", &api, "--output", "json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let report = run(&["run", file.to_str().unwrap(), "--watch", "--run-id", "cli-1", "--set", "sink.table=Small"]);
    assert_eq!(
        (&report["status"], &report["rowsCopied"], &report["runId"]),
        (&json!("Succeeded"), &json!(2), &json!("cli-1"))
    );
    assert_eq!(run(&["runs", "list"])[0]["runId"], "cli-1");
    assert_eq!(run(&["runs", "show", "cli-1"])["state"], "Succeeded");
    assert_eq!(run(&["runs", "report", "cli-1"])["files"][0]["rowsRead"], 2);
    assert_eq!(run(&["nodes", "list"])[0]["state"], "Ready");
    assert_eq!(run(&["nodes", "drain", "node-0"])[0]["state"], "Drained");
}

#[tokio::test]
async fn the_ledger_leads_from_each_file_to_its_extents_and_the_doctor_finds_what_nobody_owns() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, slots: 2, ..ClusterOptions::default() }).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("ledger", &cluster.flights_activity()).await;
    cluster.finish("ledger").await;
    let api = cluster.api();
    let json = |arguments: &[&str]| {
        let output = ferry_tests::ferry(&[arguments, &["--coordinator", &api, "--output", "json"]].concat());
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let (_, ledger) = json(&["runs", "report", "ledger", "--ledger"]);
    let lines = ledger["chunks"].as_array().unwrap();
    let sum = |of: &dyn Fn(&Value) -> i64| lines.iter().map(of).sum::<i64>();
    assert_eq!(sum(&|line| line["rows"].as_i64().unwrap()), expected.count);
    for line in lines {
        let extents = line["extents"].as_array().unwrap();
        assert_eq!(extents.len(), 1, "{line:#}");
        assert_eq!(extents[0]["rows"], line["rows"], "{line:#}");
        for key in ["file", "etag", "blob", "crc32", "requestId", "operationId"] {
            assert!(line[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {line:#}");
        }
    }
    let table = ferry_tests::ferry(&["runs", "report", "ledger", "--ledger", "--coordinator", &api]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("ROWS IN EXTENTS"));

    assert_eq!(json(&["doctor", "--leaks"]).0, Some(0));
    let strayed = cluster.azurite.storage();
    let writer = strayed.create("nobody/1/1/0.csv.gz").await.unwrap();
    writer.stage_block(0, 0, "x".into()).await.unwrap();
    writer.commit(1).await.unwrap();
    cluster.query(".create table ferry_nobody_1 (a:long)");
    let (code, found) = json(&["doctor", "--leaks"]);
    assert_eq!(code, Some(1));
    assert_eq!(found["leaks"]["blobs"][0]["run"], "nobody", "{found:#}");
    assert_eq!(found["leaks"]["tables"][0]["table"], "ferry_nobody_1", "{found:#}");
}

#[tokio::test]
async fn a_file_that_a_list_names_on_two_pages_is_copied_once() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    let write = |name: &str, text: String| std::fs::write(cluster.source().join(name), text).unwrap();
    // More than a page of a listing has.
    (0..1_100).for_each(|n| write(&format!("{n}.csv"), format!("n\n{n}\n")));
    let names = (0..1_100).chain([1_099, 3]);
    write("list.txt", names.map(|n| format!("{n}.csv\n")).collect());
    let mut activity = cluster.flights_activity();
    activity["source"].as_object_mut().unwrap().remove("wildcardFileName");
    activity["source"]["fileListPath"] = json!("list.txt");
    activity["sink"]["table"] = json!("N");
    cluster.submit("twice", &activity).await;
    let report = cluster.finish("twice").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!((&report["filesRead"], &report["rowsCopied"]), (&json!(1_100), &json!(1_100)), "{report:#}");
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|told| told.as_str().unwrap().contains("2 times")), "{warnings:?}");
    assert_eq!(cluster.query("N | summarize c=count() by n | where c > 1").len(), 0);
}
