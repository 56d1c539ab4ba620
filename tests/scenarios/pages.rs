//! The pages, in a browser: what people do with them, at the width of a phone, a laptop and a wall. `tests/pages` has the steps.

use ferry_tests::{Cluster, ClusterOptions, Program, Secured, ferry, repository, tools, wait_for};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

/// A script, if a page took it for one.
const NASTY: &str = "<img src=x onerror=alert(1)>.csv";
/// Rows of a file, some 8 MB: twice what each node may send before the bandwidth counts.
const ROWS: usize = 75_000;

/// Starts a part of the browser's test.
fn browser(mode: &str, url: &str, environment: &[(&str, String)], log: PathBuf) -> Program {
    let mut command = Command::new("node");
    command.arg(repository().join("tests/pages/pages.mjs")).arg(mode).env("FERRY_URL", url).env("FERRY_TOOLS", tools());
    command.envs(environment.iter().map(|(key, value)| (*key, value.as_str())));
    let shots = std::env::var_os("FERRY_PAGES_SHOTS").map(PathBuf::from);
    command.env("FERRY_PAGES_SHOTS", shots.unwrap_or_else(|| std::env::temp_dir().join("ferry-tests/pages")));
    Program::start(command, log)
}

/// Waits for its end, which must be a good one.
fn assert_good(mut program: Program) {
    program.wait();
    let said = fs::read_to_string(&program.log).unwrap_or_default();
    assert_eq!(program.exit_code(), Some(0), "the browser's test failed:\n{said}");
}

fn write_rows(path: &Path, rows: usize) {
    let mut text = "n,t\n".to_owned();
    for row in 0..rows {
        writeln!(text, "{row},{}", "x".repeat(100)).unwrap();
    }
    fs::write(path, text).unwrap();
}

/// A copy of a folder below the source into a table of the same name.
fn copy_of(cluster: &Cluster, folder: &str, settings: Value) -> Value {
    let mut activity = cluster.flights_activity();
    activity["name"] = folder.into();
    activity["source"]["folderPath"] = cluster.source().join(folder).display().to_string().into();
    activity["sink"]["table"] = folder.into();
    activity["settings"] = settings;
    activity
}

/// The same, in small chunks and at a speed that lets somebody watch.
fn watched(cluster: &Cluster, bandwidth: &str) -> Value {
    let settings = json!({"chunkSizeMB": 2, "compression": "none", "packSmallFiles": false, "bandwidth": bandwidth});
    copy_of(cluster, "good", settings)
}

/// A schedule whose files nobody has written yet.
fn schedule_of(name: &str, mut activity: Value, when: &Value) -> Value {
    activity["source"]["wildcardFileName"] = NASTY.into();
    activity["source"]["modifiedDatetimeStart"] = "2100-01-01T00:00:00Z".into();
    activity["source"]["allowNoFiles"] = true.into();
    let mut schedule = json!({"name": name, "catchUp": "skip", "activity": activity});
    for (key, value) in when.as_object().unwrap() {
        schedule[key] = value.clone();
    }
    schedule
}

/// Stores one that has run once, one that does not go on, and some that never will run.
async fn store_schedules(cluster: &Cluster) {
    let activity = copy_of(cluster, "good", json!({"packSmallFiles": false}));
    // The next window ends an hour from now, when everything here is over.
    let began = SystemTime::now() - Duration::from_secs(3_601);
    let hourly = json!({"interval": "1h", "startTime": humantime::format_rfc3339_seconds(began).to_string()});
    let later = json!({"cron": "5 * * * *", "timeZone": "Europe/Berlin", "startTime": "2100-01-01T00:00:00Z"});
    // Somebody has taken the id of its first window's run.
    let end = humantime::format_rfc3339_seconds(began + Duration::from_secs(3_600)).to_string();
    let mut other = schedule_of("stuck", activity.clone(), &hourly)["activity"].clone();
    other["name"] = "other".into();
    cluster.submit(&format!("stuck-{}", end.replace(['-', ':'], "")), &other).await;
    let file = cluster.source().join("../schedule.json");
    let spare = ["spare-1", "spare-2", "spare-3", "extra-1", "extra-2", "extra-3"].map(|name| (name, &later));
    for (name, when) in [("hourly", &hourly), ("stuck", &hourly)].into_iter().chain(spare) {
        fs::write(&file, schedule_of(name, activity.clone(), when).to_string()).unwrap();
        let output = ferry(&["schedules", "put", file.to_str().unwrap(), "--coordinator", &cluster.api()]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    wait_for("the run of a schedule", || async {
        let runs = cluster.runs().await?;
        let of_schedule = |run: &Value| run["runId"].as_str().is_some_and(|id| id.starts_with("hourly-"));
        runs.iter().any(|run| of_schedule(run) && run["isFinal"] == true).then_some(())
    })
    .await;
    wait_for("the schedule that does not go on", || async {
        let output = ferry(&["schedules", "show", "stuck", "--coordinator", &cluster.api(), "--output", "json"]);
        let shown: Value = serde_json::from_slice(&output.stdout).ok()?;
        (shown["failure"]["code"] == "SettingsInvalid").then_some(())
    })
    .await;
}

#[tokio::test]
async fn people_submit_watch_understand_cancel_and_drain() {
    // Operations that take their time, so that stage 2 is seen.
    let options = ClusterOptions { nodes: 5, fault: "slow:1000:2".to_owned(), ..ClusterOptions::default() };
    let cluster = Cluster::start(options).await;
    for folder in ["good", "failing", "leftout"] {
        fs::create_dir(cluster.source().join(folder)).unwrap();
    }
    for file in 0..5 {
        write_rows(&cluster.source().join(format!("good/{file}.csv")), ROWS);
    }
    write_rows(&cluster.source().join("good").join(NASTY), 10);
    write_rows(&cluster.source().join("failing/fine.csv"), 10);
    fs::write(cluster.source().join("failing/quote.csv"), "n,t\n1,\"open\n2,b\n").unwrap();
    let rows = "n,t\n1,a\nno number,<b>bold</b>\n3,c\n";
    fs::write(cluster.source().join("leftout").join(NASTY), rows).unwrap();

    let settings = json!({"packSmallFiles": false});
    cluster.submit("failing", &copy_of(&cluster, "failing", settings)).await;
    let settings = json!({"enableSkipIncompatibleRow": true, "packSmallFiles": false});
    let mut left_out = copy_of(&cluster, "leftout", settings);
    left_out["sink"]["mapping"] = json!({"columns": [
        {"source": {"name": "n"}, "sink": {"name": "n", "type": "long"}},
        {"source": {"name": "t"}, "sink": {"name": "t", "type": "string"}},
    ]});
    cluster.submit("left-out", &left_out).await;
    assert_eq!(cluster.finish("failing").await["errors"][0]["code"], "UnclosedQuote");
    let report = cluster.finish("left-out").await;
    assert_eq!((&report["status"], &report["rowsSkipped"]), (&"Succeeded".into(), &1.into()), "{report:#}");

    store_schedules(&cluster).await;
    let environment = [
        ("FERRY_PAGES_GOOD", watched(&cluster, "4M").to_string()),
        ("FERRY_PAGES_SLOW", watched(&cluster, "50k").to_string()),
    ];
    let log = cluster.source().join("../pages.log");
    let program = browser("walk", &cluster.api(), &environment, log);
    tokio::task::spawn_blocking(move || assert_good(program)).await.unwrap();

    // What the browser did, as the API tells it.
    for (run, state) in [("good-1280-dark", "Succeeded"), ("slow-1280-dark", "Cancelled")] {
        let seen = cluster.look(run).await.unwrap();
        assert_eq!(seen["state"], state, "{seen:#}");
    }
    let listed = ferry(&["schedules", "list", "--coordinator", &cluster.api(), "--output", "json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["hourly", "stuck"], "{listed:#}");
}

#[tokio::test]
async fn a_page_survives_a_restart_of_the_coordinator() {
    let mut cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    let signal = cluster.source().join("../page-is-open");
    let environment = [("FERRY_PAGES_SIGNAL", signal.display().to_string())];
    let program = browser("restart", &cluster.api(), &environment, cluster.source().join("../pages.log"));
    wait_for("an open page", || async { signal.exists().then_some(()) }).await;
    cluster.restart_coordinator().await;
    tokio::task::spawn_blocking(move || assert_good(program)).await.unwrap();
}

#[tokio::test]
async fn a_viewer_signs_in_and_may_only_look() {
    let secured = Secured::start(&[]).await;
    let join = secured.token("join", &["--runtime", "default"]);
    let node = secured.node("n1", Some(&join));
    secured.until_logged(&node, "this node has joined").await;
    let later = json!({"interval": "1h", "startTime": "2100-01-01T00:00:00Z"});
    let file = secured.path("schedule.json");
    fs::write(&file, schedule_of("hourly", secured.activity(), &later).to_string()).unwrap();
    secured.json(&["schedules", "put", file.to_str().unwrap()]);
    let viewer = fs::read_to_string(secured.token("viewer", &["--role", "viewer"])).unwrap();
    let environment = [("FERRY_PAGES_TOKEN", viewer.trim().to_owned())];
    let url = format!("https://127.0.0.1:{}", secured.http_port);
    let program = browser("sign-in", &url, &environment, secured.path("pages.log"));
    tokio::task::spawn_blocking(move || assert_good(program)).await.unwrap();
}
