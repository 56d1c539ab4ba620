//! What a run is held to while others need the line.

use ferry_tests::{Cluster, ClusterOptions};
use std::{fmt::Write as _, fs};

/// Bytes that each node may send at once, before its rate counts.
const BURST_BYTES: f64 = 4_194_304.0;

#[tokio::test]
async fn the_nodes_of_a_run_share_its_bandwidth() {
    let cluster = Cluster::start(ClusterOptions { nodes: 2, slots: 2, ..ClusterOptions::default() }).await;
    for file in 0..4 {
        let mut text = "n,t\n".to_owned();
        for row in 0..60_000 {
            writeln!(text, "{row},{}", "x".repeat(100)).unwrap();
        }
        fs::write(cluster.source().join(format!("{file}.csv")), text).unwrap();
    }
    let mut activity = cluster.flights_activity();
    activity["sink"]["table"] = "Slow".into();
    activity["settings"]["compression"] = "none".into();
    activity["settings"]["packSmallFiles"] = false.into();
    activity["settings"]["bandwidth"] = "4M".into();
    cluster.submit("slow", &activity).await;
    let report = cluster.finish("slow").await;
    assert_eq!((&report["status"], &report["rowsCopied"]), (&"Succeeded".into(), &240_000.into()), "{report:#}");
    let staged = report["stages"]["copy"]["stagedBytes"].as_f64().unwrap();
    let seconds = report["stages"]["copy"]["durationSeconds"].as_f64().unwrap();
    // Each node alone would need half of it. Slower is always allowed.
    let least = (staged - 2.0 * BURST_BYTES) / 4e6;
    assert!(least > 3.0 && seconds > least, "{staged} bytes in {seconds} s, at least {least} s");
}
