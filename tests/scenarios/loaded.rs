//! Files that earlier runs have loaded are left out, and no row is loaded twice or never, however runs end.

use ferry_tests::{Cluster, ClusterOptions, Postgres, ferry};
use serde_json::{Value, json};
use std::{fs, ops::Range};

/// Operations that take long enough to be in flight when something happens.
const SLOW: &str = "slow:200:1";

fn write(cluster: &Cluster, name: &str, numbers: Range<u32>) {
    let lines: String = numbers.map(|n| format!("{n}\n")).collect();
    fs::write(cluster.source().join(name), format!("n\n{lines}")).unwrap();
}

/// Six files of a thousand numbers, each of some chunks.
fn write_six(cluster: &Cluster) {
    (0..6).for_each(|file| write(cluster, &format!("{file}.csv"), file * 1_000..(file + 1) * 1_000));
}

fn activity(cluster: &Cluster) -> Value {
    let mut activity = cluster.flights_activity();
    activity["source"]["skipLoadedFiles"] = json!(true);
    activity["sink"]["table"] = json!("N");
    activity["settings"] = json!({"chunkSizeMB": 0.002});
    activity
}

/// Every row of the table, sorted.
fn numbers(cluster: &Cluster) -> Vec<i64> {
    let mut numbers: Vec<_> = cluster.query("N | project n").iter().map(|row| row["n"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Runs the activity to its end: what it copied, and how many files it left out.
async fn copy(cluster: &Cluster, run: &str, activity: &Value) -> (Value, u64) {
    cluster.submit(run, activity).await;
    let report = cluster.finish(run).await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    let left_out = left_out(&report);
    (report, left_out)
}

fn left_out(report: &Value) -> u64 {
    let warnings = report["warnings"].as_array().unwrap().iter().filter_map(Value::as_str);
    let told = warnings
        .filter(|text| text.contains("were loaded into this table before"))
        .filter_map(|text| text.split(' ').next());
    told.map(|count| count.parse::<u64>().unwrap()).sum()
}

fn ferry_json(cluster: &Cluster, arguments: &[&str]) -> Value {
    let address = cluster.api();
    let output = ferry(&[arguments, &["--coordinator", &address, "--output", "json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_file_is_loaded_once_until_it_changes_or_is_forgotten() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    write(&cluster, "a.csv", 0..100);
    write(&cluster, "b.csv", 100..200);
    let activity = activity(&cluster);
    let (report, skipped) = copy(&cluster, "first", &activity).await;
    assert_eq!((&report["rowsCopied"], &report["filesRead"], skipped), (&json!(200), &json!(2), 0), "{report:#}");

    let (report, skipped) = copy(&cluster, "again", &activity).await;
    assert_eq!((&report["rowsCopied"], &report["filesRead"], skipped), (&json!(0), &json!(0), 2), "{report:#}");
    assert_eq!(numbers(&cluster), (0..200).collect::<Vec<_>>());

    write(&cluster, "b.csv", 200..310);
    write(&cluster, "c.csv", 400..500);
    let file = cluster.source().with_file_name("activity.yaml");
    fs::write(&file, activity.to_string()).unwrap();
    let plan = ferry_json(&cluster, &["plan", file.to_str().unwrap()]);
    assert_eq!(plan["files"]["count"], 2, "a plan leaves out what a run would: {plan:#}");
    let (report, skipped) = copy(&cluster, "changed", &activity).await;
    assert_eq!((&report["rowsCopied"], &report["filesRead"], skipped), (&json!(210), &json!(2), 1), "{report:#}");
    let mut expected: Vec<i64> = (0..310).chain(400..500).collect();
    assert_eq!(numbers(&cluster), expected);

    // Another table has none of them, and a run without the setting takes no notice.
    let mut other = activity.clone();
    other["sink"]["table"] = json!("Other");
    assert_eq!(copy(&cluster, "other", &other).await.1, 0);
    assert_eq!(cluster.query("Other | count")[0]["Count"], 310);

    // With the words that people write it in: one file, by its name.
    let endpoint = cluster.endpoint() + "/";
    let table = ["loaded", "forget", "--endpoint", &endpoint, "--database", "Test", "--table", "N"];
    let one = [&table[..], &["--path", "c.*"]].concat();
    assert_eq!(ferry_json(&cluster, &one)["files"], 1);
    assert_eq!(ferry_json(&cluster, &one)["files"], 0);
    let (report, skipped) = copy(&cluster, "forgotten", &activity).await;
    assert_eq!((&report["rowsCopied"], skipped), (&json!(100), 2), "{report:#}");
    expected.extend(400..500);
    expected.sort_unstable();
    assert_eq!(numbers(&cluster), expected);
    assert_eq!(ferry_json(&cluster, &table)["files"], 3);

    let refused = ferry(&["loaded", "forget", "--endpoint", &endpoint, "--coordinator", &cluster.api()]);
    assert_eq!(refused.status.code(), Some(2));
}

#[tokio::test]
async fn each_file_of_a_pack_is_known_by_itself() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    (0..80).for_each(|file| write(&cluster, &format!("{file}.csv"), file * 10..(file + 1) * 10));
    let activity = activity(&cluster);
    let (report, _) = copy(&cluster, "packed", &activity).await;
    assert_eq!(report["filesRead"], 80, "{report:#}");
    write(&cluster, "17.csv", 1_000..1_010);
    let (report, skipped) = copy(&cluster, "again", &activity).await;
    assert_eq!((&report["filesRead"], &report["rowsCopied"], skipped), (&json!(1), &json!(10), 79), "{report:#}");
    assert_eq!(numbers(&cluster), (0..800).chain(1_000..1_010).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_cancelled_run_has_loaded_is_not_loaded_again() {
    for publish in ["append", "atomic"] {
        let options = ClusterOptions { fault: SLOW.to_owned(), ..ClusterOptions::default() };
        let mut cluster = Cluster::start(options).await;
        write_six(&cluster);
        let mut activity = activity(&cluster);
        activity["sink"]["publish"] = json!(publish);
        cluster.submit("cancelled", &activity).await;
        let some = |r: &Value| r["state"] == "Ingesting" && r["ingest"]["commandsDone"].as_u64() >= Some(1);
        cluster.until("cancelled", "some commands are confirmed", some).await;
        ferry_json(&cluster, &["runs", "cancel", "cancelled"]);
        if publish == "append" {
            // It must be known after a death, too.
            cluster.restart_coordinator().await;
        }
        let report = cluster.finish("cancelled").await;
        assert_eq!(report["status"], "Cancelled", "{report:#}");
        let loaded = if publish == "append" { numbers(&cluster).len() } else { 0 };
        assert_eq!(loaded % 1_000, 0, "no file is in the table in part: {report:#}");
        assert_eq!(loaded > 0, publish == "append", "{publish}: the run had begun to load: {report:#}");

        let (report, skipped) = copy(&cluster, "again", &activity).await;
        assert_eq!(skipped, loaded as u64 / 1_000, "{publish}: {report:#}");
        assert_eq!(numbers(&cluster), (0..6_000).collect::<Vec<_>>(), "{publish}");
        assert_eq!(copy(&cluster, "nothing", &activity).await.1, 6, "{publish}");
        assert_eq!(numbers(&cluster).len(), 6_000, "{publish}");
    }
}

#[tokio::test]
async fn a_coordinator_killed_near_the_end_loads_nothing_twice_afterwards() {
    let mut cluster = Cluster::start(ClusterOptions { fault: SLOW.to_owned(), ..ClusterOptions::default() }).await;
    write_six(&cluster);
    let activity = activity(&cluster);
    cluster.submit("killed", &activity).await;
    for left in [6, 2, 0] {
        let near = |r: &Value| {
            let of = |name: &str| r["ingest"][name].as_u64().unwrap_or(0);
            r["isFinal"] == true || (r["state"] == "Ingesting" && of("commandsDone") + left >= of("commandsTotal"))
        };
        cluster.until("killed", "the end is near", near).await;
        cluster.restart_coordinator().await;
    }
    let report = cluster.finish("killed").await;
    assert_eq!((&report["status"], &report["rowsCopied"]), (&json!("Succeeded"), &json!(6_000)), "{report:#}");
    assert_eq!(copy(&cluster, "again", &activity).await.1, 6);
    assert_eq!(numbers(&cluster), (0..6_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn two_runs_of_one_table_wait_for_each_other_though_two_coordinators_see_them() {
    let postgres = Postgres::start().await;
    let options = ClusterOptions { fault: SLOW.to_owned(), store: postgres.url(), ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await;
    cluster.add_coordinator().await;
    write_six(&cluster);
    let activity = activity(&cluster);
    cluster.submit("one", &activity).await;
    cluster.submit("two", &activity).await;
    let mut other = activity.clone();
    other["sink"]["table"] = json!("Other");
    cluster.submit("other", &other).await;
    let waits = |r: &Value| r["waitsFor"].is_string() || r["isFinal"] == true;
    let waiting = cluster.until("two", "it waits", waits).await;
    assert_eq!((&waiting["state"], &waiting["waitsFor"]), (&json!("Queued"), &json!("one")), "{waiting:#}");
    cluster.until("other", "another table has its turn", |r| r["state"] != "Queued").await;

    let report = cluster.finish("one").await;
    assert_eq!(report["rowsCopied"], 6_000, "{report:#}");
    let report = cluster.finish("two").await;
    assert_eq!((&report["status"], left_out(&report)), (&json!("Succeeded"), 6), "{report:#}");
    assert_eq!(numbers(&cluster), (0..6_000).collect::<Vec<_>>());
    assert_eq!(cluster.finish("other").await["rowsCopied"], 6_000);
    assert!(cluster.look("two").await.unwrap()["waitsFor"].is_null());
}

/// Begins a queued run, and delivers one of its blobs once more than the service did. Returns the activity and the blob's tag.
async fn with_a_doubled_blob(cluster: &Cluster, run: &str) -> (Value, String) {
    write_six(cluster);
    let mut activity = activity(cluster);
    activity["sink"]["ingestion"] = json!("queued");
    cluster.submit(run, &activity).await;
    let is_confirmed = |run: &Value| run["ingest"]["commandsDone"].as_u64() >= Some(1) || run["isFinal"] == true;
    cluster.until(run, "a blob is ingested", is_confirmed).await;

    let report = cluster.report(run).await.unwrap();
    let commands = report["ingest"].as_array().unwrap();
    let done = commands.iter().find(|command| command["state"] == "Confirmed").unwrap_or_else(|| panic!("{report:#}"));
    let tag = done["tag"].as_str().unwrap().to_owned();
    let blob = cluster.source().with_file_name("blob.csv");
    fs::write(&blob, "7000\n").unwrap();
    let properties = format!("(format='csv', tags='[\"{tag}\"]')");
    cluster.query(&format!(".ingest into table N ('{}') with {properties}", blob.display()));
    (activity, tag)
}

fn queued_and_slow() -> ClusterOptions {
    ClusterOptions { nodes: 1, queued: true, fault: "slow:200:1".to_owned(), ..ClusterOptions::default() }
}

#[tokio::test]
async fn a_file_of_which_a_blob_was_delivered_twice_does_not_count_as_loaded() {
    let cluster = Cluster::start(queued_and_slow()).await;
    let (activity, tag) = with_a_doubled_blob(&cluster, "doubled").await;
    let report = cluster.finish("doubled").await;
    assert_eq!(report["status"], "Failed", "{report:#}");
    let told = report["errors"].to_string();
    assert!(told.contains("RowCountMismatch") && told.contains(&tag), "{told}");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("in part") && warnings.contains("the next run loads them whole"), "{warnings}");

    cluster.query(".drop extents from N");
    let (report, skipped) = copy(&cluster, "again", &activity).await;
    assert_eq!((&report["rowsCopied"], skipped), (&json!(1_000), 5), "that file alone is loaded again: {report:#}");
}

#[tokio::test]
async fn a_cancelled_run_counts_its_rows_once_more_too() {
    let cluster = Cluster::start(queued_and_slow()).await;
    with_a_doubled_blob(&cluster, "doubled").await;
    let output = ferry(&["runs", "cancel", "doubled", "--coordinator", &cluster.api()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = cluster.finish("doubled").await;
    assert_eq!(report["status"], "Cancelled", "{report:#}");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("in part") && warnings.contains("the next run loads them whole"), "{warnings}");
}
