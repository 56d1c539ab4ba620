//! What becomes of source files once their rows are visible.

use ferry_tests::{Cluster, ClusterOptions, ferry, wait_for};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Slow operations, so that stage 2 lasts long enough for something to happen.
const SLOW: &str = "slow:20:1";

async fn cluster(fault: &str, source_changes: bool) -> Cluster {
    let options = ClusterOptions { nodes: 1, slots: 2, fault: fault.to_owned(), source_changes, ..Default::default() };
    let cluster = Cluster::start(options).await;
    fs::create_dir(cluster.source().join("in")).unwrap();
    cluster
}

/// Writes a file of so many rows below the folder `in`.
fn write(cluster: &Cluster, name: &str, rows: u32) {
    let path = cluster.source().join("in").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lines: String = (0..rows).map(|n| format!("{name},{n}\n")).collect();
    fs::write(path, format!("file,n\n{lines}")).unwrap();
}

fn activity(cluster: &Cluster, key: &str, value: Value) -> Value {
    let mut activity = cluster.flights_activity();
    activity["source"]["folderPath"] = json!(cluster.source().join("in"));
    activity["source"][key] = value;
    activity["sink"]["table"] = json!("Cleared");
    activity
}

fn deleting(cluster: &Cluster) -> Value {
    activity(cluster, "deleteFilesAfterCompletion", json!(true))
}

/// Paths of all files below a folder, relative to it, sorted.
fn files(folder: &Path) -> Vec<String> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() { below(&entry.path(), found) } else { found.push(entry.path()) }
        }
    }
    let mut found = Vec::new();
    below(folder, &mut found);
    let relative = |path: PathBuf| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<_> = found.into_iter().map(relative).collect();
    names.sort();
    names
}

fn rows(cluster: &Cluster) -> Value {
    cluster.query("Cleared | count")[0]["Count"].clone()
}

fn warnings(report: &Value) -> String {
    report["warnings"].to_string()
}

/// Waits for stage 2, stops the node in it, and waits until the run would have its files cleared.
async fn stop_before_clearing(cluster: &Cluster, run: &str) {
    cluster.until(run, "stage 2", |r| r["state"] == "Ingesting").await;
    cluster.nodes[0].signal("STOP");
    let visible = cluster.until(run, "Clearing", |r| r["state"] == "Clearing" || r["isFinal"] == true).await;
    assert_eq!(visible["state"], "Clearing", "{visible:#}");
}

#[tokio::test]
async fn files_are_deleted_once_their_rows_are_visible() {
    for publish in ["append", "replace"] {
        let cluster = cluster("", true).await;
        // Enough small ones for packs, one that is copied by itself, one without rows, and one that is not asked for.
        for number in 0..70 {
            write(&cluster, &format!("d/{number}.csv"), 10);
        }
        write(&cluster, "large.csv", 100_000);
        write(&cluster, "empty.csv", 0);
        write(&cluster, "other.txt", 5);
        let mut activity = deleting(&cluster);
        activity["source"]["wildcardFileName"] = json!("*.csv");
        activity["sink"]["publish"] = json!(publish);
        cluster.submit("deleted", &activity).await;
        let report = cluster.finish("deleted").await;
        assert_eq!(report["status"], "Succeeded", "{report:#}");
        assert_eq!(report["clearing"], json!({"filesDone": 72, "filesGone": 0, "filesLeft": 0}), "{publish}");
        assert_eq!(files(&cluster.source()), ["in/other.txt"], "{publish}");
        assert_eq!(rows(&cluster), 100_700, "{publish}");
        assert!(!warnings(&report).contains("left in place"), "{report:#}");
        let log = Cluster::log_of(&cluster.coordinator);
        assert!(log.contains("Clearing"), "the run must have been there:\n{log}");
    }
}

#[tokio::test]
async fn files_are_moved_with_their_folders_and_overwrite_nothing() {
    let cluster = cluster("", true).await;
    for name in ["a.csv", "d/a.csv", "d/e/b.csv"] {
        write(&cluster, name, 10);
    }
    let done = cluster.source().join("done");
    fs::create_dir(&done).unwrap();
    fs::write(done.join("a.csv"), "of another day").unwrap();
    let activity = activity(&cluster, "moveFilesAfterCompletion", json!(done));
    cluster.submit("moved", &activity).await;
    let report = cluster.finish("moved").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(files(&cluster.source()), ["done/a-1.csv", "done/a.csv", "done/d/a.csv", "done/d/e/b.csv"]);
    assert_eq!(fs::read_to_string(done.join("a.csv")).unwrap(), "of another day");
    assert!(fs::read_to_string(done.join("a-1.csv")).unwrap().starts_with("file,n\na.csv,0"));
    assert_eq!(rows(&cluster), 30);

    // Outside the node's roots nothing is moved, and the rows are there all the same.
    write(&cluster, "c.csv", 10);
    let mut outside = activity.clone();
    outside["source"]["moveFilesAfterCompletion"] = json!(cluster.source().with_file_name("outside"));
    cluster.submit("outside", &outside).await;
    let report = cluster.finish("outside").await;
    assert_eq!((&report["status"], &report["rowsCopied"]), (&json!("Succeeded"), &json!(10)), "{report:#}");
    assert!(warnings(&report).contains("outside the folders that this node allows"), "{report:#}");
    assert!(cluster.source().join("in/c.csv").exists());
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_listed_is_left_and_told_of() {
    let cluster = cluster(SLOW, true).await;
    write(&cluster, "a.csv", 10);
    write(&cluster, "b.csv", 10);
    cluster.submit("changed", &deleting(&cluster)).await;
    cluster.until("changed", "stage 2", |r| r["state"] == "Ingesting").await;
    write(&cluster, "b.csv", 20);
    let report = cluster.finish("changed").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(files(&cluster.source()), ["in/b.csv"]);
    assert_eq!(report["clearing"], json!({"filesDone": 1, "filesGone": 0, "filesLeft": 1}));
    assert!(warnings(&report).contains("1 loaded source file left in place"), "{report:#}");
    let left: Vec<_> = report["files"].as_array().unwrap().iter().filter(|f| f["leftInPlace"].is_string()).collect();
    assert_eq!(left.len(), 1, "{report:#}");
    assert_eq!(left[0]["relativePath"], "b.csv");
    assert_eq!(rows(&cluster), 20, "of the version that was listed");
}

#[tokio::test]
async fn a_run_whose_nodes_may_not_change_sources_fails_before_it_copies() {
    let cluster = cluster("", false).await;
    write(&cluster, "a.csv", 10);
    cluster.submit("forbidden", &deleting(&cluster)).await;
    let ended = cluster.until("forbidden", "the end", |r| r["isFinal"] == true).await;
    assert_eq!((&ended["state"], &ended["failure"]["code"]), (&json!("Failed"), &json!("SourceChangesForbidden")));
    let why = ended["failure"]["message"].as_str().unwrap();
    for word in ["source.deleteFilesAfterCompletion", "node-0", "--allow-source-changes"] {
        assert!(why.contains(word), "{word}: {why}");
    }
    assert!(ended["failure"]["remedy"].as_str().unwrap().len() > 20);
    assert_eq!(files(&cluster.source()), ["in/a.csv"]);
}

#[tokio::test]
async fn a_coordinator_killed_while_files_are_deleted_goes_on_and_loads_nothing_twice() {
    let mut cluster = cluster(SLOW, true).await;
    // Three pages.
    for number in 0..2_500 {
        write(&cluster, &format!("{}/{number}.csv", number % 10), 2);
    }
    cluster.submit("killed", &deleting(&cluster)).await;
    stop_before_clearing(&cluster, "killed").await;
    cluster.restart_coordinator().await;
    cluster.nodes[0].signal("CONT");
    // Once more, as soon as some are gone.
    wait_for("some files are gone", || async { (files(&cluster.source()).len() < 2_500).then_some(()) }).await;
    cluster.restart_coordinator().await;
    let report = cluster.finish("killed").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(files(&cluster.source()), Vec::<String>::new());
    let done = report["clearing"]["filesDone"].as_u64().unwrap() + report["clearing"]["filesGone"].as_u64().unwrap();
    assert_eq!((done, &report["clearing"]["filesLeft"]), (2_500, &json!(0)), "{}", report["clearing"]);
    assert_eq!(rows(&cluster), 5_000);
}

#[tokio::test]
async fn a_run_that_fails_or_is_cancelled_in_time_leaves_every_file() {
    let cluster = cluster(SLOW, true).await;
    write(&cluster, "good.csv", 10);
    fs::write(cluster.source().join("in/z-bad.csv"), "file,n\n1\n").unwrap();
    cluster.submit("failed", &deleting(&cluster)).await;
    let report = cluster.finish("failed").await;
    assert_eq!(report["status"], "Failed", "{report:#}");
    assert_eq!(files(&cluster.source()), ["in/good.csv", "in/z-bad.csv"]);

    // What may be left out is left out of the table, and in its place.
    let mut activity = deleting(&cluster);
    activity["settings"]["skipErrorFile"] = json!(true);
    cluster.submit("skipped", &activity).await;
    let report = cluster.finish("skipped").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(files(&cluster.source()), ["in/z-bad.csv"]);
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_files_are_deleted_has_succeeded() {
    let cluster = cluster(SLOW, true).await;
    write(&cluster, "a.csv", 10);
    cluster.submit("stopped", &deleting(&cluster)).await;
    stop_before_clearing(&cluster, "stopped").await;
    let output = ferry(&["runs", "cancel", "stopped", "--coordinator", &cluster.api()]);
    assert!(output.status.success());
    let report = cluster.finish("stopped").await;
    assert_eq!((&report["status"], &report["rowsCopied"]), (&json!("Succeeded"), &json!(10)), "{report:#}");
    assert!(warnings(&report).contains("the run was asked to end"), "{report:#}");
    assert_eq!(files(&cluster.source()), ["in/a.csv"]);
    assert_eq!(rows(&cluster), 10);
}
