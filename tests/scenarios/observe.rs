//! What operators see: counts that agree with the report, and a list of metrics that is the truth.

use ferry_tests::{Cluster, ClusterOptions, Program, free_port, repository, wait_for, write_flights};
use std::collections::{BTreeMap, BTreeSet};

/// Type and labels, by name as it is queried.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// The table below this heading of docs/metrics.md.
fn documented(heading: &str) -> Metrics {
    let text = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let section = text.split(&format!("\n## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[4].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    })
    .collect()
}

/// What is served. Labels of series that are there: a family without one shows none.
fn served(text: &str) -> Metrics {
    let mut found = Metrics::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        found.insert(name, (kind.to_owned(), BTreeSet::new()));
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, rest)) = line.split_once('{') else { continue };
        let series = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(*end)).unwrap_or(series);
        let names = rest.split("=\"").filter_map(|part| part.rsplit(['{', ',', '"']).next());
        let is_label = |name: &&str| !name.is_empty() && *name != "le" && name.chars().all(|c| c.is_ascii_alphabetic());
        let labels = rest.matches("=\"").count();
        found.get_mut(series).unwrap().1.extend(names.take(labels).filter(is_label).map(str::to_owned));
    }
    found
}

/// The list and the truth agree, both ways.
fn assert_documented(heading: &str, text: &str) {
    let (told, found) = (documented(heading), served(text));
    assert!(!told.is_empty());
    let names = |metrics: &Metrics| metrics.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&told), names(&found), "docs/metrics.md, section {heading}");
    for (name, (kind, labels)) in &found {
        assert_eq!(&told[name].0, kind, "{name}");
        assert!(labels.is_empty() || labels == &told[name].1, "{name} has labels {labels:?}, not {:?}", told[name].1);
    }
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no series {series}:\n{text}")).parse().unwrap()
}

async fn get(url: &str) -> Option<String> {
    reqwest::get(url).await.ok()?.error_for_status().ok()?.text().await.ok()
}

#[tokio::test]
async fn metrics_are_as_documented_and_add_up_with_the_report() {
    let cluster =
        Cluster::start(ClusterOptions { nodes: 0, fault: "throttle:4".to_owned(), ..ClusterOptions::default() }).await;
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "node".to_owned(),
        "--coordinator".to_owned(),
        cluster.grpc(),
        "--allow-root".to_owned(),
        cluster.source().display().to_string(),
        "--health".to_owned(),
        format!("127.0.0.1:{port}"),
    ];
    let _node = Program::ferry(&arguments, &[], folder.path().join("node.log"));
    let expected = write_flights(&cluster.source());
    cluster.submit("seen", &cluster.flights_activity()).await;
    let report = cluster.finish("seen").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");

    // An answer that is an error is counted, too.
    assert!(get(&format!("{}/api/v1/runs/nobody", cluster.api())).await.is_none());
    let coordinator = format!("{}/metrics", cluster.api());
    let text = get(&coordinator).await.unwrap();
    assert_documented("Coordinator", &text);
    assert_eq!(value(&text, "ferry_runs_ended_total{state=\"Succeeded\"}"), 1.0);
    assert_eq!(value(&text, "ferry_rows_read_total"), expected.count as f64);
    assert_eq!(value(&text, "ferry_rows_visible_total"), expected.count as f64);
    assert_eq!(value(&text, "ferry_written_bytes_total"), report["dataWritten"].as_f64().unwrap());
    let read = value(&text, "ferry_read_bytes_total") / report["dataRead"].as_f64().unwrap();
    assert!((0.99..1.2).contains(&read), "{read}");
    let staged = report["stages"]["copy"]["stagedBytes"].as_f64().unwrap();
    assert_eq!(value(&text, "ferry_staged_bytes_total"), staged);
    assert!(value(&text, "ferry_sink_throttles_total") >= 1.0, "the fault must have happened");
    assert!(text.contains("route=\"/api/v1/runs/{run}\""), "routes are templates:\n{text}");
    assert!(!text.contains("seen"), "no series is of one run");

    let node = format!("http://127.0.0.1:{port}/metrics");
    let text = wait_for("the node's metrics", || get(&node)).await;
    assert_documented("Node", &text);
    assert_eq!(value(&text, "ferry_node_link_up"), 1.0);
    assert_eq!(value(&text, "ferry_node_staged_bytes_total"), staged);
    assert_eq!(value(&text, "ferry_node_slots_busy"), 0.0);
}
