//! What `deploy/k8s` says, done by processes: its commands, probes and mounts, and a rollout in the middle of a run.

use ferry_tests::{Azurite, Host, Manifests, Pod, Postgres, Program, Relay, Weather, Workload, ferry, query, wait_for};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, net::SocketAddr, time::Duration};

/// Files of the run, each a unit of its own, and rows of each.
const FILES: usize = 300;
const ROWS: usize = 10;
/// Nodes of the run: more than the manifests begin with, as after `kubectl scale`.
const NODES: usize = 3;
/// By how much everything on its way to storage is late until the rollout is over, so that the run outlives it.
const SLOWNESS: Duration = Duration::from_millis(300);

#[test]
fn the_manifests_name_only_flags_and_variables_that_there_are() {
    let help = |role: &[&str]| String::from_utf8(ferry(&[role, &["--help"]].concat()).stdout).unwrap();
    // What `kubectl exec ... ferry` finds in a pod.
    let of_people = help(&["runs", "list"]);
    // Of the logs' own set-up, and of no flag.
    let others = ["FERRY_LOG"];
    let mut seen = BTreeSet::new();
    for overlay in ["quickstart", "ha", "aks"] {
        for workload in Manifests::of(overlay).workloads() {
            let arguments = workload.arguments();
            let help = help(&[arguments[0].as_str()]);
            for flag in &arguments[1..] {
                let name = flag.split('=').next().unwrap();
                let is_there = help.lines().any(|line| line.split([' ', ',']).any(|word| word == name));
                assert!(is_there, "{overlay}, {}: `ferry {}` has no {name}", workload.name(), arguments[0]);
                seen.insert(name.to_owned());
            }
            for variable in workload.variables().iter().filter(|name| name.starts_with("FERRY_")) {
                let shown = format!("[env: {variable}");
                let is_there =
                    help.contains(&shown) || of_people.contains(&shown) || others.contains(&variable.as_str());
                assert!(is_there, "{overlay}, {}: nothing reads {variable}", workload.name());
            }
        }
    }
    for flag in ["--grpc", "--tls", "--identity", "--health"] {
        assert!(seen.contains(flag), "{flag} was not looked at: {seen:?}");
    }
}

/// Starts new pods one by one, and ends an old one for each, as the rollout of these manifests does. The run gets on before the next one:
/// `asked` knows, or else the newest of these pods. Gives how long each took to end.
async fn roll(host: &Host, workload: &Workload, pods: &mut Vec<Pod>, asked: Option<&Pod>) -> Vec<Duration> {
    let mut ended = Vec::new();
    assert!(workload.adds_before_it_takes());
    for _ in 0..pods.len() {
        let new = host.start(workload).await;
        let old = pods.remove(0);
        assert!(host.probe(&old, "liveness").await, "{} is not live: {}", old.name, old.log());
        ended.push(host.stop(old).await);
        pods.push(new);
        let asked = asked.or(pods.last()).unwrap();
        let before = staged(&look(asked).await);
        wait_for("more files that are staged", || async { (staged(&look(asked).await) > before).then_some(()) }).await;
    }
    ended
}

/// The run, as the coordinator in a pod knows it.
async fn look(coordinator: &Pod) -> Value {
    coordinator.json(&["runs", "show", "rollout"]).await
}

/// Files of the run that are staged.
fn staged(run: &Value) -> u64 {
    run["copy"]["filesDone"].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn a_run_outlives_a_rollout_of_coordinators_and_nodes() {
    let manifests = Manifests::of("ha");
    let (coordinator, node) = (manifests.workload("ferry-coordinator"), manifests.workload("ferry-node"));
    let postgres = Postgres::start().await;
    let outside = tempfile::tempdir().unwrap();
    let azurite = Azurite::start(outside.path()).await;
    let adx_port = ferry_tests::free_port();
    let adx_at = format!("127.0.0.1:{adx_port}");
    let data = outside.path().join("adx").display().to_string();
    let arguments = ["local-adx", "--listen", &adx_at, "--data", &data].map(str::to_owned);
    let _adx = Program::ferry(&arguments, &[], outside.path().join("adx.log"));
    let endpoint = format!("http://{adx_at}");
    let source = outside.path().join("source");
    fs::create_dir(&source).unwrap();
    for file in 0..FILES {
        let rows: String = (0..ROWS).map(|row| format!("{},x\n", file * ROWS + row)).collect();
        fs::write(source.join(format!("{file:03}.csv")), format!("id,text\n{rows}")).unwrap();
    }
    let storage: SocketAddr = azurite.container.split('/').nth(2).unwrap().parse().unwrap();
    let relay = Relay::start(storage.port());

    // As deploy/k8s/README.md has it.
    let mut host = Host::new(&manifests);
    let keys = host.path("tls");
    let made = ferry(&["tls", "create", &keys.display().to_string()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let key = |name: &str| fs::read_to_string(keys.join(name)).unwrap();
    let files = ["ca.crt", "ca.key", "admin-token"].map(|name| (name, key(name)));
    host.create_secret("ferry-tls", &files.each_ref().map(|(name, text)| (*name, text.as_str())));
    host.create_secret("ferry-store", &[("url", postgres.url().as_str())]);
    host.create_secret("ferry-activities", &[("storage-key", azurite.key())]);
    host.bind_claim("ferry-source", &source);
    let mut coordinators = Vec::new();
    for _ in 0..coordinator.replicas() {
        coordinators.push(host.start(&coordinator).await);
    }
    assert_eq!(coordinators.len(), 2);
    let token = ["token", "create", "--runtime", "default", "--uses", "any", "--ttl", "720h"];
    let token = coordinators[0].told(&token, "");
    host.create_secret("ferry-join", &[("token", token.as_str())]);
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(host.start(&node).await);
    }
    // The certificates are for the names of the service.
    let authority = reqwest::Certificate::from_pem(key("ca.crt").as_bytes()).unwrap();
    for name in ["ferry-coordinator", "ferry-coordinator.ferry.svc"] {
        let at = SocketAddr::from(([127, 0, 0, 1], coordinators[1].port(7480)));
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority.clone()]).resolve(name, at);
        let url = format!("https://{name}:{}/readyz", at.port());
        let answer = client.build().unwrap().get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{name}");
    }

    let container = azurite.container.replacen(&storage.to_string(), &relay.address.to_string(), 1);
    let storage_key = host.secret_folder("ferry-activities").join("storage-key");
    let activity = json!({
        "name": "rollout",
        // The folder as it is in a pod, seen from here.
        "source": {"type": "FileSystem", "folderPath": source,
                   "format": {"type": "DelimitedText", "firstRowAsHeader": true}},
        "sink": {"type": "AzureDataExplorer", "endpoint": endpoint, "database": "Test", "table": "T", "createTable": true},
        "staging": {"type": "AzureBlob", "container": container,
                    "accountKey": {"secret": format!("file:{}", storage_key.display())}},
        // One unit a file: what may be left out is not packed.
        "settings": {"skipErrorFile": true},
    });
    relay.set(Weather::Slow(SLOWNESS));
    coordinators[0].told(&["run", "-", "--run-id", "rollout"], &activity.to_string());
    wait_for("files that are staged", || async {
        let seen = look(&coordinators[0]).await;
        (staged(&seen) >= 5).then_some(())
    })
    .await;

    let before: BTreeSet<_> = nodes.iter().map(|pod| pod.name.clone()).collect();
    let mut ended = roll(&host, &coordinator, &mut coordinators, None).await;
    assert_eq!(look(&coordinators[0]).await["state"], "Copying");
    ended.extend(roll(&host, &node, &mut nodes, Some(&coordinators[0])).await);
    let seen = look(&coordinators[0]).await;
    assert_eq!(seen["state"], "Copying", "the run did not outlive the rollout, so nothing was tried: {seen:#}");
    println!("pods ended after {ended:?}; then {}", seen["copy"]);
    relay.set(Weather::Fair);

    wait_for("the end of the run", || async {
        let seen = look(&coordinators[1]).await;
        (seen["isFinal"] == true && seen["isSwept"] == true).then_some(())
    })
    .await;
    let report = coordinators[1].json(&["runs", "report", "rollout"]).await;
    assert_eq!(report["status"], "Succeeded", "{:#}", report["errors"]);
    assert_eq!(report["filesRead"], FILES);
    let rows = query(&endpoint, "T | summarize n = count() by id | summarize count(), sum(n), max(id)");
    let expected = FILES * ROWS;
    assert_eq!(rows, [json!({"count_": expected, "sum_n": expected, "max_id": expected - 1})]);
    assert!(azurite.blobs().await.is_empty());
    // Old nodes and new ones have worked.
    let worked: Vec<_> =
        report["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    let new = worked.iter().filter(|name| !before.contains(**name)).count();
    assert!(new > 0 && new < worked.len(), "{worked:?}");
    for pod in coordinators.iter().chain(&nodes) {
        assert!(host.probe(pod, "liveness").await && host.probe(pod, "readiness").await, "{}", pod.log());
    }
    for pod in coordinators.into_iter().chain(nodes) {
        host.stop(pod).await;
    }
}
