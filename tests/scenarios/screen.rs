//! `ferry runs watch` on a terminal.

use ferry_tests::{Cluster, ClusterOptions, ferry_path, python};
use serde_json::Value;

/// Watches a run in a terminal, and presses keys once the screen is there.
fn watched(cluster: &Cluster, keys: &str, more: &[&str]) -> Value {
    let (api, ferry) = (cluster.api(), ferry_path().to_str().unwrap());
    let command = ["Planning", keys, "env", "-u", "NO_COLOR", ferry, "runs", "watch", "screen", "--coordinator", &api];
    python("watch_in_terminal.py", &[&command[..], more].concat())
}

#[tokio::test]
async fn the_screen_is_closed_by_a_key_and_the_run_goes_on_until_it_is_cancelled() {
    // Nobody lists the source: the run stays where it is.
    let cluster = Cluster::start(ClusterOptions { nodes: 0, ..ClusterOptions::default() }).await;
    cluster.submit("screen", &cluster.flights_activity()).await;
    cluster.until("screen", "planning", |r| r["state"] == "Planning").await;

    // A question that is answered with no, then the end.
    for (keys, words) in [("cnq", "run screen goes on"), ("?x\u{3}", "run screen goes on")] {
        let seen = watched(&cluster, keys, &[]);
        assert_eq!(seen["code"], 130, "{seen:#}");
        for what in ["entered", "left", "cursor", "echo"] {
            assert_eq!(seen[what], true, "{what}: {seen:#}");
        }
        assert!(seen["after"].as_str().unwrap().contains(words), "{seen:#}");
        assert_eq!(cluster.look("screen").await.unwrap()["state"], "Planning");
    }

    let seen = watched(&cluster, "cy", &["--output", "json"]);
    assert_eq!(seen["code"], 1, "{seen:#}");
    assert_eq!(seen["left"], true, "{seen:#}");
    let after = seen["after"].as_str().unwrap();
    assert!(after.contains("\"status\": \"Cancelled\"") && after.contains("was cancelled"), "{after}");
}
