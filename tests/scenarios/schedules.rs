//! Activities that are run again and again.

use ferry_tests::{Cluster, ClusterOptions, Postgres, ferry, wait_for};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

const HOUR: Duration = Duration::from_secs(3600);

fn write(folder: &Path, name: &str, rows: u32, modified: SystemTime) {
    let lines: String = (0..rows).map(|n| format!("{name},{n}\n")).collect();
    let path = folder.join(name);
    fs::write(&path, format!("file,n\n{lines}")).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

fn ferry_json(cluster: &Cluster, arguments: &[&str]) -> Value {
    let address = cluster.api();
    let mut all = arguments.to_vec();
    all.extend(["--coordinator", &address, "--output", "json"]);
    let output = ferry(&all);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A schedule of one hour that began a while ago, which copies what was modified in each window.
fn schedule(cluster: &Cluster, began: SystemTime, catch_up: &str) -> Value {
    let mut activity = cluster.flights_activity();
    activity["source"]["modifiedDatetimeStart"] = json!("{{ windowStart }}");
    activity["source"]["modifiedDatetimeEnd"] = json!("{{ windowEnd }}");
    activity["sink"]["table"] = json!("Hourly");
    let began = humantime::format_rfc3339_seconds(began).to_string();
    json!({"name": "hourly", "interval": "1h", "startTime": began, "catchUp": catch_up, "activity": activity})
}

#[tokio::test]
async fn each_window_has_one_run_though_two_coordinators_see_it_and_one_is_killed() {
    let postgres = Postgres::start().await;
    let mut cluster = Cluster::start(ClusterOptions { store: postgres.url(), ..ClusterOptions::default() }).await;
    cluster.add_coordinator().await;
    // Far enough from the end of a window that the second coordinator's clock, which is wrong, sees no more of them.
    let began = SystemTime::now() - 3 * HOUR - HOUR / 2;
    for (hour, rows) in [(0, 10), (1, 20), (2, 30), (3, 40)] {
        // The first one lies on the border: it belongs to the window that begins there.
        let inside = if hour == 0 { Duration::ZERO } else { HOUR / 4 };
        let whole_second = SystemTime::UNIX_EPOCH
            + Duration::from_secs(began.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        write(&cluster.source(), &format!("{hour}.csv"), rows, whole_second + hour * HOUR + inside);
    }
    let file = cluster.source().join("../hourly.yaml");
    fs::write(&file, schedule(&cluster, began, "all").to_string()).unwrap();
    let stored = ferry_json(&cluster, &["schedules", "put", file.to_str().unwrap()]);
    assert_eq!(stored["name"], "hourly");

    wait_for("the first window's run", || async {
        let runs = cluster.runs().await?;
        runs.iter().any(|run| run["state"] == "Succeeded").then_some(())
    })
    .await;
    cluster.restart_coordinator().await;
    let runs = wait_for("three runs", || async {
        let runs = cluster.runs().await?;
        (runs.len() >= 3 && runs.iter().all(|run| run["isFinal"] == true)).then_some(runs)
    })
    .await;
    assert_eq!(runs.len(), 3, "{runs:#?}");
    assert!(runs.iter().all(|run| run["state"] == "Succeeded"), "{runs:#?}");
    let rows = cluster.query("Hourly | summarize n = count() by file | order by file asc");
    let counts: Vec<_> = rows.iter().map(|row| (row["file"].as_str().unwrap(), row["n"].as_i64().unwrap())).collect();
    assert_eq!(counts, [("0.csv", 10), ("1.csv", 20), ("2.csv", 30)], "the fourth window has not ended");

    let shown = ferry_json(&cluster, &["schedules", "show", "hourly"]);
    assert_eq!((&shown["lastRun"], &shown["lastRunState"]), (&runs[0]["runId"], &json!("Succeeded")));
    assert_eq!(shown["nextWindows"][0], shown["nextWindow"], "{shown}");
    let ids = async |query: &str| {
        let answer = reqwest::get(format!("{}/api/v1/runs?{query}", cluster.api())).await.unwrap();
        let page: Value = answer.json().await.unwrap();
        page["runs"].as_array().unwrap().iter().map(|run| run["runId"].clone()).collect::<Vec<_>>()
    };
    let all: Vec<_> = runs.iter().map(|run| run["runId"].clone()).collect();
    assert_eq!(ids("schedule=hourly").await, all, "its runs, the newest first");
    assert!(ids("schedule=hour").await.is_empty(), "no other schedule's");
    let second = format!("schedule=hourly&limit=1&before={}", all[0].as_str().unwrap());
    assert_eq!(ids(&second).await, all[1..2]);
    let listed = ferry(&["runs", "list", "--schedule", "hourly", "--limit", "2", "--coordinator", &cluster.api()]);
    let (told, shown_runs) = (String::from_utf8_lossy(&listed.stderr), String::from_utf8_lossy(&listed.stdout));
    assert!(listed.status.success() && told.contains("there are older runs"), "{told}");
    let is_shown: Vec<_> = all.iter().map(|id| shown_runs.contains(id.as_str().unwrap())).collect();
    assert_eq!(is_shown, [true, true, false], "{shown_runs}");
    let listed = ferry(&["runs", "list", "--limit", "3", "--coordinator", &cluster.api()]);
    assert_eq!(String::from_utf8_lossy(&listed.stderr), "", "three runs are all that there are");
    assert_eq!(ferry_json(&cluster, &["runs", "list", "--schedule", "hour"]), json!([]));
    assert!(shown["nextWindow"]["end"].is_string(), "{shown}");
    let paused = ferry_json(&cluster, &["schedules", "pause", "hourly"]);
    assert_eq!((&paused["isPaused"], &paused["nextWindow"]), (&json!(true), &Value::Null));
    ferry_json(&cluster, &["schedules", "delete", "hourly"]);
    assert_eq!(ferry_json(&cluster, &["schedules", "list"]), json!([]));
}

#[tokio::test]
async fn missed_windows_may_be_one_run() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    let began = SystemTime::now() - 5 * HOUR - HOUR / 2;
    for hour in 0..5 {
        write(&cluster.source(), &format!("{hour}.csv"), 10, began + hour * HOUR + HOUR / 4);
    }
    let file = cluster.source().join("../merged.yaml");
    fs::write(&file, schedule(&cluster, began, "merge").to_string()).unwrap();
    ferry_json(&cluster, &["schedules", "put", file.to_str().unwrap()]);
    let runs = wait_for("the run", || async {
        let runs = cluster.runs().await?;
        (!runs.is_empty() && runs.iter().all(|run| run["isFinal"] == true)).then_some(runs)
    })
    .await;
    assert_eq!(runs.len(), 1, "{runs:#?}");
    assert_eq!(cluster.query("Hourly | count")[0]["Count"], 50);

    // Nothing new is no failure where that is said, whatever is done with the table.
    for publish in ["append", "replace"] {
        let mut activity = cluster.flights_activity();
        activity["source"]["modifiedDatetimeStart"] = json!("2100-01-01T00:00:00Z");
        activity["source"]["allowNoFiles"] = json!(true);
        activity["sink"]["table"] = json!("Hourly");
        activity["sink"]["publish"] = json!(publish);
        cluster.submit(&format!("nothing-{publish}"), &activity).await;
        let report = cluster.finish(&format!("nothing-{publish}")).await;
        assert_eq!((&report["status"], &report["rowsCopied"]), (&json!("Succeeded"), &json!(0)), "{report:#}");
        assert_eq!(cluster.query("Hourly | count")[0]["Count"], 50, "{publish}");
    }

    // What is wrong is said before it is stored.
    fs::write(&file, schedule(&cluster, began, "sometimes").to_string()).unwrap();
    let address = cluster.api();
    let refused = ferry(&["schedules", "put", file.to_str().unwrap(), "--coordinator", &address]);
    assert_eq!(refused.status.code(), Some(2));
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("unknown value \"sometimes\"") && why.contains("merge"), "{why}");
}
