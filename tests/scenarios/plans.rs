//! Plans: what a copy would do is told, nothing is done, and a run can be held to it.

use crate::copies::assert_whole;
use ferry_tests::{Cluster, ClusterOptions, ferry, wait_for, write_flights};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Writes an activity to a file beside the source.
fn written(cluster: &Cluster, activity: &Value) -> PathBuf {
    let file = cluster.source().parent().unwrap().join("activity.yaml");
    fs::write(&file, activity.to_string()).unwrap();
    file
}

/// Runs `ferry` with the cluster's coordinator: its exit code, its results as JSON, its messages.
fn call(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = ferry(&[arguments, &["--coordinator", &cluster.api(), "--output", "json"]].concat());
    let results = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), results, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_plan_changes_nothing_and_a_run_is_held_to_it() {
    let cluster = Cluster::start(ClusterOptions { nodes: 2, ..ClusterOptions::default() }).await;
    let expected = write_flights(&cluster.source());
    wait_for("the nodes", || async { (call(&cluster, &["nodes", "list"]).1.as_array()?.len() == 2).then_some(()) })
        .await;
    let file = written(&cluster, &cluster.flights_activity());
    let (file, kept) = (file.to_str().unwrap(), cluster.source().with_file_name("plan.json"));
    let kept = kept.to_str().unwrap();

    let (code, plan, messages) = call(&cluster, &["plan", file, "--save", kept]);
    assert_eq!(code, Some(0), "{messages}");
    assert_eq!(plan["files"]["count"], 24, "{plan:#}");
    assert_eq!((&plan["path"], &plan["stagedFormat"]), (&json!("passThrough"), &json!("csv")));
    assert_eq!(plan["schema"]["mapping"].as_array().unwrap().len(), 19);
    assert!(plan["schema"]["create"].as_str().unwrap().starts_with(".create-merge table"), "{plan:#}");
    assert_eq!(plan["obstacles"], json!([]));
    let estimate = &plan["estimate"];
    assert_eq!((&estimate["slots"], &estimate["nodesReady"]), (&json!(2), &json!(2)));
    // Files of very different packing, of which some were tried: this is rough.
    let rows = estimate["rows"].as_i64().unwrap();
    assert!((expected.count / 8..expected.count * 8).contains(&rows), "{estimate:#}");
    assert!(estimate["stage1Seconds"].as_f64() > Some(0.0) && estimate["stage2Seconds"].as_f64() > Some(0.0));
    assert!(estimate["basis"].as_str().unwrap().contains("Microsoft's manual"), "no figure is without its origin");

    assert_eq!(cluster.query(".show tables"), Vec::<Value>::new(), "no table may be made");
    assert!(cluster.azurite.blobs().await.is_empty(), "nothing may be staged");
    let id = plan["runId"].as_str().unwrap();
    let run = cluster.look(id).await.unwrap();
    assert_eq!((&run["state"], &run["isDry"], &run["isFinal"]), (&json!("Planned"), &json!(true), &json!(true)));
    let (_, again, _) = call(&cluster, &["runs", "plan", id]);
    assert_eq!(again, plan);
    let shown = ferry(&["runs", "plan", id, "--coordinator", &cluster.api()]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("SOURCE COLUMN") && shown.contains("fingerprint"), "{shown}");
    let listed = ferry(&["runs", "list", "--coordinator", &cluster.api()]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("flights (plan)"));

    let (code, report, messages) = call(&cluster, &["run", "--plan", kept, "--watch", "--run-id", "planned"]);
    assert_eq!(code, Some(0), "{messages}");
    assert_whole(&cluster, &report, &expected).await;

    fs::write(cluster.source().join("late.csv"), "a,b\n1,2\n").unwrap();
    let (code, report, messages) = call(&cluster, &["run", "--plan", kept, "--watch", "--run-id", "late"]);
    assert_eq!(code, Some(1), "{report:#}");
    assert!(messages.contains("PlanChanged") && messages.contains("1 added (late.csv)"), "{messages}");
    assert_eq!(&cluster.facts(), &expected, "a run that finds another plan copies nothing");
}

#[tokio::test]
async fn differences_are_shown_and_the_table_stays_as_it_is() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    fs::write(cluster.source().join("a.csv"), "a,b\n1,x\n2,y\n").unwrap();
    cluster.query(".create table Flights (a:long, other:string)");
    let mut activity = cluster.flights_activity();
    activity["sink"]["createTable"] = json!(false);
    let file = written(&cluster, &activity);
    let (file, kept) = (file.to_str().unwrap(), cluster.source().with_file_name("plan.json"));

    let (code, plan, messages) = call(&cluster, &["plan", file, "--save", kept.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{plan:#}");
    assert!(messages.contains("MappingColumnMissing") && !kept.exists(), "{messages}");
    assert_eq!(plan["obstacles"][0]["code"], "MappingColumnMissing");
    assert_eq!(plan["schema"]["unmatchedSource"], json!(["b"]));
    assert_eq!(plan["schema"]["unmatchedTable"], json!(["other"]));
    assert_eq!(plan["fingerprint"], Value::Null);
    // What does not hang on the mapping is told all the same.
    assert_eq!((&plan["files"]["count"], &plan["estimate"]["rows"]), (&json!(1), &json!(2)));

    let more = ["--set", "sink.schemaDrift=addColumns", "--set", "sink.publish=atomic"];
    let (code, plan, messages) = call(&cluster, &[&["plan", file][..], &more[..]].concat());
    assert_eq!(code, Some(0), "{messages}");
    let alter = plan["schema"]["alter"].as_str().unwrap();
    assert!(alter.starts_with(".alter-merge table") && alter.contains("b"), "{alter}");
    assert_eq!(plan["schema"]["unmatchedSource"], json!([]));
    let tables = cluster.query(".show tables");
    assert_eq!(tables.len(), 1, "a plan makes no staging table: {tables:?}");
    let columns = &cluster.query(".show table Flights cslschema")[0]["Schema"];
    assert_eq!(columns, "a:long,other:string");

    // Without a coordinator of one's own.
    let source = cluster.source();
    let staging = cluster.source().with_file_name("staging");
    fs::create_dir(&staging).unwrap();
    let output = ferry(&[
        "copy",
        source.to_str().unwrap(),
        "--endpoint",
        &cluster.endpoint(),
        "--database",
        "Test",
        "--table",
        "New",
        "--create-table",
        "--staging",
        staging.to_str().unwrap(),
        "--plan-only",
        "--output",
        "json",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["estimate"]["nodesReady"], 2);
    assert!(plan["schema"]["create"].as_str().unwrap().contains("New"), "{plan:#}");
    assert_eq!(cluster.query(".show tables").len(), 1);
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
}

/// What local-adx takes for each command, in seconds: much more than the waits between two looks.
const COMMAND_SECONDS: u64 = 6;
/// Commands that local-adx runs at once.
const COMMANDS_AT_ONCE: u64 = 2;

#[tokio::test]
async fn a_plan_knows_what_earlier_commands_into_its_database_took() {
    let fault = format!("slow:1000:{COMMAND_SECONDS}");
    let mut cluster = Cluster::start(ClusterOptions { nodes: 1, slots: 2, fault, ..ClusterOptions::default() }).await;
    let source = cluster.source();
    let write = |name: &str| {
        let rows: String = (0..2_000).map(|row| format!("{row},{name}\n")).collect();
        fs::write(source.join(name), format!("a,b\n{rows}")).unwrap();
    };
    ["1.csv", "2.csv", "3.csv", "4.csv"].iter().for_each(|name| write(name));
    let mut activity = cluster.flights_activity();
    activity["settings"] = json!({"packSmallFiles": false});
    let file = written(&cluster, &activity);
    let file = file.to_str().unwrap();

    let (code, plan, messages) = call(&cluster, &["plan", file]);
    assert_eq!(code, Some(0), "{messages}");
    let stage2 = &plan["estimate"]["stage2"];
    assert_eq!((&stage2["basis"], &stage2["measuredCommands"]), (&json!("assumed"), &json!(0)), "{plan:#}");
    assert_eq!((&stage2["commands"], &stage2["atOnce"]), (&json!(4), &json!(COMMANDS_AT_ONCE)));
    assert!(plan["estimate"]["basis"].as_str().unwrap().contains("assumed, not measured"), "{plan:#}");

    cluster.submit("first", &activity).await;
    let report = cluster.finish("first").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    // What was learned must be in the store.
    cluster.restart_coordinator().await;
    write("5.csv");
    let (code, plan, messages) = call(&cluster, &["plan", file]);
    assert_eq!(code, Some(0), "{messages}");
    let estimate = &plan["estimate"];
    let stage2 = &estimate["stage2"];
    assert_eq!((&stage2["basis"], &stage2["measuredCommands"]), (&json!("measured"), &json!(4)), "{estimate:#}");
    assert_eq!((&stage2["commands"], &stage2["atOnce"]), (&json!(5), &json!(COMMANDS_AT_ONCE)));
    let expected = (5_u64.div_ceil(COMMANDS_AT_ONCE) * COMMAND_SECONDS) as f64;
    let estimated = estimate["stage2Seconds"].as_f64().unwrap();
    assert!((0.7 * expected..1.3 * expected).contains(&estimated), "{estimated} s for {expected} s: {estimate:#}");
    assert!(estimate["basis"].as_str().unwrap().contains("measured in 4 commands"), "{estimate:#}");
    let total: f64 =
        ["planningSeconds", "stage1Seconds", "stage2Seconds"].iter().map(|key| estimate[*key].as_f64().unwrap()).sum();
    assert!((estimate["totalSeconds"].as_f64().unwrap() - total).abs() < 0.05, "{estimate:#}");
    let shown = ferry(&["runs", "plan", plan["runId"].as_str().unwrap(), "--coordinator", &cluster.api()]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("measured in 4 commands"), "{shown}");

    // Of another database nothing is known.
    let (code, plan, messages) = call(&cluster, &["plan", file, "--set", "sink.database=Other"]);
    assert_eq!(code, Some(0), "{messages}");
    assert_eq!(plan["estimate"]["stage2"]["basis"], "assumed", "{plan:#}");
}

/// `FERRY_SLOW=1` takes a hundred thousand.
#[tokio::test]
async fn many_tiny_files_are_planned_in_seconds() {
    let is_slow = std::env::var_os("FERRY_SLOW").is_some();
    let files: u64 = if is_slow { 100_000 } else { 20_000 };
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    for number in 0..files {
        let folder = cluster.source().join(format!("d{}", number / 1_000));
        if number % 1_000 == 0 {
            fs::create_dir(&folder).unwrap();
        }
        fs::write(folder.join(format!("f{number}.csv")), "a,b\n1,x\n").unwrap();
    }
    let file = written(&cluster, &cluster.flights_activity());
    let begin = Instant::now();
    let (code, plan, messages) = call(&cluster, &["plan", file.to_str().unwrap()]);
    let took = begin.elapsed();
    println!("{files} files were planned in {took:.1?}");
    assert_eq!(code, Some(0), "{messages}");
    assert_eq!((&plan["files"]["count"], &plan["estimate"]["rows"]), (&json!(files), &json!(files)));
    assert_eq!(plan["units"]["packed"], files / 1_000, "{plan:#}");
    assert!(plan["warnings"].to_string().contains("8 bytes on average"), "{plan:#}");
    // The promise is for a program that was built to be used.
    if !(is_slow && cfg!(debug_assertions)) {
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}
