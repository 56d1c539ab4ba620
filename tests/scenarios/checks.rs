//! What `ferry check` tells of each role, of what is wrong, and of what works all the same.

use ferry_tests::{Cluster, ClusterOptions, ferry_path, write_flights};
use serde_json::{Value, json};
use std::{
    fs,
    process::{Command, Output, Stdio},
};

/// The permissions, in the order of the tables below.
const CHECKS: [&str; 12] = [
    "cluster answers",
    "database exists",
    "table exists",
    "test connection",
    "ingest data",
    "create and drop a mapping",
    "database navigation",
    "table navigation",
    "by-name column mapping",
    "preview data",
    "import schema",
    "execute query",
];

fn ferry(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(ferry_path());
    command.args(arguments).env("NO_COLOR", "1").envs(environment.iter().copied()).stdin(Stdio::null());
    command.output().unwrap()
}

/// An activity in a file: rows go into the table Flights, which must be there.
fn activity(cluster: &Cluster) -> String {
    let mut activity = cluster.flights_activity();
    activity["sink"]["createTable"] = json!(false);
    let path = cluster.source().parent().unwrap().join("check.json");
    fs::write(&path, activity.to_string()).unwrap();
    path.display().to_string()
}

/// Exit code and answer of `ferry check`, asked of the coordinator.
fn check(cluster: &Cluster, more: &[&str]) -> (Option<i32>, Value) {
    let (file, api) = (activity(cluster), cluster.api());
    let base = ["check", &file, "--coordinator", &api, "--output", "json"];
    told(&ferry(&[&base[..], more].concat(), &[]))
}

/// The same, from the process itself.
fn check_here(cluster: &Cluster, more: &[&str], key: &str) -> (Option<i32>, Value) {
    let file = activity(cluster);
    let base = ["check", &file, "--local", "--output", "json"];
    told(&ferry(&[&base[..], more].concat(), &[("FERRY_TEST_KEY", key)]))
}

fn told(output: &Output) -> (Option<i32>, Value) {
    let words = String::from_utf8_lossy(&output.stderr);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {words}"));
    assert!(!found.to_string().contains("sig="), "{found:#}");
    (output.status.code(), found)
}

fn row<'a>(found: &'a Value, name: &str) -> &'a Value {
    let rows = found["checks"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name}: {found:#}"))
}

/// One letter a check: y, n, or ? for unknown.
fn letters(found: &Value) -> String {
    let letter = |name: &&str| match row(found, name)["result"].as_str() {
        Some("yes") => 'y',
        Some("no") => 'n',
        _ => '?',
    };
    CHECKS.iter().map(letter).collect()
}

#[tokio::test]
async fn each_role_may_do_what_the_table_of_permissions_says() {
    let mut cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    cluster.query(".create table Flights (id:long, text:string)");
    for (role, expected, verdict) in [
        //                    answers, database, table, test, ingest, mapping | navigations, by name | preview, schema, query
        ("database-admin", "yyyyyyyyyyyy", "ok"),
        ("table-ingestor", "yyyyyynnnnnn", "degraded"),
        ("database-ingestor", "yyyyyynnnnnn", "degraded"),
        ("database-monitor", "yyyynnyyynnn", "failed"),
        ("database-viewer", "yyyynnyyyyyy", "failed"),
        ("database-user", "yyyynnyyyyyy", "failed"),
        // S60: not enough even to test a connection.
        ("table-admin", "yyynnnnnnnnn", "failed"),
        ("none", "???nnnnnnnnn", "failed"),
    ] {
        cluster.restart_adx_with(&["--role", role]).await;
        let (code, found) = check(&cluster, &[]);
        assert_eq!(
            (letters(&found).as_str(), found["verdict"].as_str()),
            (expected, Some(verdict)),
            "{role}: {found:#}"
        );
        assert_eq!(code, Some(i32::from(verdict == "failed")), "{role}");
        // Two roles together may do what either may.
        if role == "database-monitor" {
            cluster.restart_adx_with(&["--role", role, "--role", "table-ingestor"]).await;
            assert_eq!(letters(&check(&cluster, &[]).1), "yyyyyyyyynnn");
        }
    }
    // Nothing was changed: no blob stays, no table was made, no row came.
    cluster.restart_adx_with(&[]).await;
    assert!(cluster.azurite.blobs().await.is_empty());
    assert_eq!(cluster.query(".show tables").len(), 1);
    assert_eq!(cluster.query("Flights | count")[0]["Count"], 0);
}

#[tokio::test]
async fn with_table_ingestor_alone_a_copy_reaches_the_table() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("first", &cluster.flights_activity()).await;
    assert_eq!(cluster.finish("first").await["status"], "Succeeded");
    cluster.query(".clear table Flights data");

    cluster.restart_adx_with(&["--role", "table-ingestor"]).await;
    let (code, found) = check(&cluster, &[]);
    assert_eq!((code, &found["verdict"]), (Some(0), &json!("degraded")), "{found:#}");
    let mut activity = cluster.flights_activity();
    activity["sink"]["createTable"] = json!(false);
    cluster.submit("alone", &activity).await;
    let report = cluster.finish("alone").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(report["rowsCopied"].as_i64(), Some(expected.count));
    // Nobody could look while the copy went on.
    let refused = ferry(&["query", "Flights | count", "--endpoint", &cluster.endpoint(), "--database", "Test"], &[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not authorized"));
    cluster.restart_adx_with(&[]).await;
    assert_eq!(cluster.facts(), expected);
}

#[tokio::test]
async fn what_no_probe_tells_is_tried_and_removed_again() {
    let mut cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    cluster.query(".create table Flights (id:long, text:string)");
    let publish = ["--try", "--set", "sink.publish=atomic"];
    let result = |found: &Value, name: &str| row(found, name)["result"].as_str().unwrap().to_owned();
    for (roles, mapping, staging_table) in [
        (&["--role", "table-ingestor"][..], "yes", "unknown"),
        (&["--role", "database-viewer"][..], "no", "no"),
        (&["--role", "database-user", "--role", "table-admin"][..], "no", "yes"),
    ] {
        cluster.restart_adx_with(roles).await;
        let (_, found) = check(&cluster, &publish);
        assert_eq!(result(&found, "create and drop a mapping"), mapping, "{roles:?}: {found:#}");
        assert_eq!(result(&found, "make and move a staging table"), staging_table, "{roles:?}: {found:#}");
    }
    cluster.restart_adx_with(&[]).await;
    assert_eq!(cluster.query(".show tables").len(), 1);
}

#[tokio::test]
async fn whatever_is_wrong_has_a_row_of_its_own() {
    let mut cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    cluster.query(".create table Flights (id:long, text:string)");
    cluster.restart_adx_with(&["--database", "Test"]).await;
    let nowhere = cluster.azurite.container.replace("/staging", "/nowhere");
    let nowhere = format!("staging.container={nowhere}");
    for (case, set, name, words) in [
        ("unreachable cluster", "sink.endpoint=http://127.0.0.1:1", "cluster answers", "cannot connect"),
        ("a host that may not be sent a token", "sink.endpoint=https://evil.example", "cluster answers", "not a host"),
        ("unknown database", "sink.database=Nowhere", "database exists", "DatabaseNotExist"),
        ("unknown table", "sink.table=Nowhere", "table exists", "TableNotExist"),
        ("no such container", nowhere.as_str(), "nodes may write", "does not exist"),
        ("no such secret", "staging.accountKey.secret=env:FERRY_TEST_NONE", "staging opens", "FERRY_TEST_NONE"),
        ("nobody there", "source.connectVia=elsewhere", "nodes of elsewhere", "other integration runtimes"),
    ] {
        let (code, found) = check(&cluster, &["--set", set]);
        let row = row(&found, name);
        assert_eq!(
            (code, &row["result"], &row["isMandatory"]),
            (Some(1), &json!("no"), &json!(true)),
            "{case}: {found:#}"
        );
        assert!(row["detail"].as_str().unwrap().contains(words), "{case}: {row:#}");
        assert!(row["remedy"].is_string(), "{case}: {row:#}");
    }
    // From here: the source, and a key that is another account's.
    let key = cluster.azurite.key();
    let (code, found) = check_here(&cluster, &[], key);
    assert_eq!((code, &found["verdict"]), (Some(0), &json!("ok")), "{found:#}");
    let (code, found) = check_here(&cluster, &["--set", "source.folderPath=/nowhere/at/all"], key);
    assert_eq!((code, &row(&found, "source can be listed")["result"]), (Some(1), &json!("no")), "{found:#}");
    let (code, found) = check_here(&cluster, &[], "b3RoZXI=");
    assert_eq!((code, &row(&found, "nodes may write")["result"]), (Some(1), &json!("no")), "{found:#}");
    assert!(row(&found, "nodes may write")["detail"].as_str().unwrap().contains("403"), "{found:#}");
}

#[tokio::test]
async fn a_place_is_checked_without_an_activity_and_told_to_people() {
    let cluster = Cluster::start(ClusterOptions { nodes: 0, ..ClusterOptions::default() }).await;
    cluster.query(".create table T (id:long)");
    let (endpoint, container) = (cluster.endpoint(), cluster.azurite.container.clone());
    let place = ["check", "--endpoint", &endpoint, "--database", "Test", "--table", "T", "--staging", &container];
    let output = ferry(&[&place[..], &["--staging-key", "env:KEY"]].concat(), &[("KEY", cluster.azurite.key())]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    for words in ["verdict: ok", "PROBE", "Table Ingestor or Database Admin", "nodes cannot read", "mandatory"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("source can be listed"), "{told}");
    // What is left out is a matter of usage.
    assert_eq!(ferry(&place[..5], &[]).status.code(), Some(2));
    assert_eq!(ferry(&["check"], &[]).status.code(), Some(2));
}
