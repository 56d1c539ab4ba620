//! PostgreSQL as the store: one coordinator or several, and a database that goes away.

use crate::copies::assert_whole;
use ferry_coordinator::store::{SqlStore, Store as _, StorePlace, conformance};
use ferry_tests::{Cluster, ClusterOptions, Postgres, Tmpfs, write_flights};
use serde_json::Value;
use std::time::{Duration, Instant};

#[tokio::test]
async fn postgres_conforms_and_keeps_everything_over_a_restart() {
    let mut postgres = Postgres::start().await;
    let place: StorePlace = postgres.url().parse().unwrap();
    let store = SqlStore::open(&place).await.unwrap();
    let left = conformance::run(&store).await;
    conformance::credentials(&store).await;
    postgres.stop();
    postgres.resume().await;
    let again = SqlStore::open(&place).await.unwrap();
    assert_eq!(again.run(&left.id).await.unwrap().unwrap(), left);
    assert!(!again.is_exclusive());
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_is_told_without_its_password() {
    let postgres = Postgres::start().await;
    let wrong = postgres.url().replace("p%40ss-of-the-store", "SECRET");
    for (case, url, word, code) in [
        ("wrong password", wrong.as_str(), "password authentication failed", 1),
        ("nobody there", "postgres://u:SECRET@127.0.0.1:1/d", "refused", 1),
        ("no such database", &postgres.url().replace("/postgres", "/nowhere"), "nowhere", 1),
        ("no such kind of store", "postgre://u:SECRET@127.0.0.1/d", "sqlite:PATH", 2),
    ] {
        let output =
            ferry_tests::ferry(&["coordinator", "--store", url, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{case}: {message}");
        assert!(message.contains(word), "{case}: {message}");
        assert!(!message.contains("SECRET") && !message.contains("p%40ss-of-the-store"), "{case}: {message}");
    }
}

#[tokio::test]
async fn two_coordinators_that_are_killed_in_turn_copy_each_row_once() {
    let postgres = Postgres::start().await;
    let fault = "slow:30:1".to_owned();
    let mut cluster =
        Cluster::start(ClusterOptions { store: postgres.url(), fault, nodes: 2, ..ClusterOptions::default() }).await;
    cluster.add_coordinator().await;
    cluster.add_node_of_second(1);
    let expected = write_flights(&cluster.source());
    cluster.submit("two", &cluster.flights_activity()).await;
    let mut takeovers = Vec::new();
    for confirmed in [0, 4] {
        let goes_on = |r: &Value| {
            let done = r["ingest"]["commandsDone"].as_u64().unwrap_or(0);
            (r["state"] == "Ingesting" && done >= confirmed) || r["isFinal"] == true
        };
        cluster.until("two", "commands are confirmed", goes_on).await;
        let log = |cluster: &Cluster| cluster.coordinator_logs().matches("run is taken over").count();
        let (before, began) = (log(&cluster), Instant::now());
        if !cluster.kill_driver("two").await {
            break;
        }
        ferry_tests::wait_for("another coordinator to take over", || async { (log(&cluster) > before).then_some(()) })
            .await;
        takeovers.push(began.elapsed());
        cluster.restart_killed().await;
    }
    assert!(!takeovers.is_empty(), "no driver was killed");
    println!("takeovers: {takeovers:?}");
    let report = cluster.finish("two").await;
    assert_whole(&cluster, &report, &expected).await;
    let longest = takeovers.iter().max().copied().unwrap_or_default();
    assert!(longest < Duration::from_secs(60), "a takeover must not need a person: {longest:?}");
}

#[tokio::test]
async fn a_run_goes_to_the_coordinator_that_has_its_secret() {
    let postgres = Postgres::start().await;
    let mut cluster = Cluster::start(ClusterOptions { store: postgres.url(), ..ClusterOptions::default() }).await;
    let expected = write_flights(&cluster.source());
    let mut activity = cluster.flights_activity();
    activity["staging"]["accountKey"]["secret"] = "env:FERRY_TEST_SECOND_KEY".into();
    cluster.submit("secret", &activity).await;
    ferry_tests::wait_for("the first one to let it go", || async {
        cluster.coordinator_logs().contains("left to the other coordinators").then_some(())
    })
    .await;
    cluster.add_coordinator().await;
    cluster.add_node_of_second(1);
    let report = cluster.finish("secret").await;
    assert_whole(&cluster, &report, &expected).await;
    // Where nobody has it, the run ends and says so.
    activity["staging"]["accountKey"]["secret"] = "env:FERRY_TEST_NOBODYS_KEY".into();
    cluster.submit("nobody", &activity).await;
    let view = cluster.until("nobody", "the run ends", |view| view["isFinal"] == true).await;
    assert_eq!(view["failure"]["code"], "SecretMissing", "{view}");
}

#[tokio::test]
async fn a_database_that_goes_away_for_a_while_costs_time_and_no_row() {
    let mut postgres = Postgres::start().await;
    let cluster = Cluster::start(ClusterOptions { store: postgres.url(), ..ClusterOptions::default() }).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("away", &cluster.flights_activity()).await;
    for state in ["Copying", "Ingesting"] {
        let is_there = |r: &Value| r["state"] == state || r["state"] == "Ingesting" || r["isFinal"] == true;
        cluster.until("away", state, is_there).await;
        postgres.stop();
        assert!(cluster.look("away").await.is_none_or(|r| r["state"].is_null()), "there is nobody who could know");
        postgres.resume().await;
    }
    let report = cluster.finish("away").await;
    assert_whole(&cluster, &report, &expected).await;
}

#[tokio::test]
async fn a_store_without_room_costs_time_and_no_row() {
    // A small file system of its own, which everything that is started here may use.
    let disk = Tmpfs::mount("24m");
    let store = format!("sqlite:{}", disk.path().join("ferry.db").display());
    let cluster = Cluster::start(ClusterOptions { store, ..ClusterOptions::default() }).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("no-room", &cluster.flights_activity()).await;
    cluster.until("no-room", "some files are staged", |r| r["copy"]["filesDone"].as_u64() >= Some(1)).await;
    disk.fill();
    let full = || Cluster::log_of(&cluster.coordinator).contains("disk is full");
    ferry_tests::wait_for("a word of the full disk", || async { full().then_some(()) }).await;
    disk.free();
    let report = cluster.finish("no-room").await;
    assert_whole(&cluster, &report, &expected).await;
}

#[tokio::test]
async fn a_store_of_a_newer_program_is_left_alone() {
    let postgres = Postgres::start().await;
    SqlStore::open(&postgres.url().parse().unwrap()).await.unwrap();
    postgres.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', true, '', 0)",
    );
    let output = ferry_tests::ferry(&[
        "coordinator",
        "--store",
        &postgres.url(),
        "--grpc",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("newer ferry") && message.contains("9999"), "{message}");
}

/// Units of the run that outlives rolling restarts: `ROLLING_UNITS=2000` for the long one.
fn rolling_units() -> usize {
    std::env::var("ROLLING_UNITS").map_or(150, |text| text.parse().unwrap())
}

#[tokio::test]
async fn a_run_outlives_rolling_restarts_of_its_coordinators() {
    const EVERY: Duration = Duration::from_secs(10);
    let postgres = Postgres::start().await;
    let store = postgres.url();
    let mut cluster = Cluster::start(ClusterOptions { store, nodes: 2, ..ClusterOptions::default() }).await;
    cluster.add_coordinator().await;
    cluster.add_node_of_second(2);
    let units = rolling_units();
    for number in 0..units {
        let rows: String = (0..10).map(|row| format!("{},x\n", number * 10 + row)).collect();
        std::fs::write(cluster.source().join(format!("{number}.csv")), format!("id,text\n{rows}")).unwrap();
    }
    let mut activity = cluster.flights_activity();
    // One unit a file: what may be left out is not packed.
    activity["settings"]["skipErrorFile"] = serde_json::json!(true);
    cluster.submit("rolling", &activity).await;
    let (mut restarts, mut takeovers) = (0, Vec::new());
    let logs = |cluster: &Cluster| cluster.coordinator_logs().matches("run is taken over").count();
    loop {
        let began = Instant::now();
        let before = logs(&cluster);
        let is_kill = restarts % 2 == 0;
        let program = cluster.coordinator(restarts / 2 % 2).unwrap();
        // Half of them have no time to say goodbye.
        if is_kill {
            program.kill()
        } else {
            program.terminate()
        }
        cluster.respawn_coordinator(restarts / 2 % 2);
        restarts += 1;
        let mut is_over = false;
        let mut taken = None;
        while began.elapsed() < EVERY && !is_over {
            if taken.is_none() && logs(&cluster) > before {
                taken = Some(began.elapsed());
            }
            is_over = cluster.glance("rolling").await.is_some_and(|r| r["isFinal"] == true);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        takeovers.extend(taken);
        if is_over {
            break;
        }
    }
    cluster.restart_killed().await;
    println!("{units} units, {restarts} restarts, takeovers: {takeovers:?}");
    let report = cluster.finish("rolling").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    let rows = cluster.query("Flights | summarize n = count() by id | summarize count(), sum(n), max(id)");
    let expected = units * 10;
    assert_eq!(rows, [serde_json::json!({"count_": expected, "sum_n": expected, "max_id": expected - 1})]);
    assert!(cluster.azurite.blobs().await.is_empty());
}
