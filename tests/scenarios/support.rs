//! What helps when something is wrong: a look at the host, and an archive without secrets.

use ferry_tests::{Cluster, ClusterOptions, ferry_path};
use serde_json::{Value, json};
use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Part of every planted secret.
const PLANTED: &str = "PLANTED";

fn ferry(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(ferry_path());
    command.args(arguments).env("NO_COLOR", "1").envs(environment.iter().copied()).stdin(Stdio::null());
    command.output().unwrap()
}

fn unpacked(path: &Path) -> String {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_bundle_has_what_helps_and_no_secret() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    // Secrets where people put them by mistake: a name, a path that a failure repeats, a column's value.
    let mut activity = cluster.flights_activity();
    activity["name"] = json!(format!("taxi https://a.blob.core.windows.net/c?sv=1&sig={PLANTED}1"));
    activity["source"]["folderPath"] = json!(cluster.source().join(format!("AccountKey={PLANTED}2")));
    activity["source"]["additionalColumns"] = json!([{"name": "c", "value": format!("fapi_1a2b3c_{PLANTED}3")}]);
    cluster.submit("doomed", &activity).await;
    let ended = cluster.until("doomed", "the end of the run", |run| run["isFinal"] == true).await;
    assert_eq!(ended["state"], "Failed", "{ended:#}");

    let folder = cluster.source().parent().unwrap().to_owned();
    let out = folder.join("support.tar.gz");
    let token_file = folder.join("token");
    fs::write(&token_file, format!("{PLANTED}4-token\n")).unwrap();
    let (api, out_text, token) = (cluster.api(), out.display().to_string(), token_file.display().to_string());
    let arguments = ["support-bundle", &out_text, "--coordinator", &api, "--token-file", &token];
    let jwt = format!("eyJhbGciOiJub25lIn0.{PLANTED}5.{PLANTED}5");
    let proxy = format!("http://user:{PLANTED}6@127.0.0.1:1");
    let store = format!("postgres://ferry:{PLANTED}7@db/ferry");
    let secret = format!("{PLANTED}8~secret");
    let environment = [
        ("FERRY_ADX_TOKEN", jwt.as_str()),
        // For other hosts than this machine.
        ("HTTPS_PROXY", proxy.as_str()),
        ("FERRY_STORE", store.as_str()),
        ("AZURE_CLIENT_SECRET", secret.as_str()),
    ];
    let output = ferry(&arguments, &environment);
    let (told, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words}");
    let text = unpacked(&out);
    for name in [
        "about.json",
        "environment.txt",
        "doctor.json",
        "coordinator/health.txt",
        "coordinator/metrics.txt",
        "coordinator/nodes.json",
        "coordinator/runs.json",
        "coordinator/leaks.json",
        "runs/doomed/report.json",
    ] {
        assert!(told.contains(name) && text.contains(&format!("ferry-support/{name}")), "{name}: {told}{words}");
    }
    for helps in
        [ended["failure"]["code"].as_str().unwrap(), "FERRY_STORE is set", "ferry_nodes", "suggestedSlots", "doomed"]
    {
        assert!(text.contains(helps), "{helps}");
    }
    for number in 1..=8 {
        assert!(!text.contains(&format!("{PLANTED}{number}")), "secret {number} is in the bundle");
    }
    assert!(!told.contains(PLANTED) && !words.contains(PLANTED), "{told}{words}");

    // A second one does not take the place of the first.
    let before = fs::read(&out).unwrap();
    let again = ferry(&arguments, &[]);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(fs::read(&out).unwrap(), before);
}

#[tokio::test]
async fn the_doctor_measures_the_host_and_tries_each_way() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    fs::write(cluster.source().join("a.csv"), vec![b'x'; 2 << 20]).unwrap();
    let source = cluster.source().display().to_string();
    let (api, endpoint, container) = (cluster.api(), cluster.endpoint(), cluster.azurite.container.clone());
    let host = ["doctor", "--output", "json", "--path", &source];
    let ways = ["--coordinator", &api, "--endpoint", &endpoint, "--staging", &container];
    let output = ferry(&[&host[..], &ways].concat(), &[]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["suggestedSlots"].as_u64() >= Some(1), "{found:#}");
    assert_eq!(found["coordinator"]["nodesReady"], 1);
    let verdict = |found: &Value, name: &str| {
        let findings = found["findings"].as_array().unwrap();
        let finding = findings.iter().find(|f| f["name"].as_str().is_some_and(|n| n.starts_with(name)));
        finding.unwrap_or_else(|| panic!("{name}: {found:#}"))["verdict"].clone()
    };
    for name in ["cpu", "memory", "open files", "read ", "write ", "room in ", "proxy settings"] {
        assert!(verdict(&found, name).is_string());
    }
    for name in ["way to coordinator", "way to cluster", "way to staging", "clock of staging", "coordinator"] {
        assert_ne!(verdict(&found, name), "bad", "{found:#}");
    }

    // Nobody there: a bad line each, and the exit code says so.
    let away = ["--coordinator", "http://127.0.0.1:1", "--endpoint", "http://127.0.0.1:1", "--path", "/nowhere/at/all"];
    let output = ferry(&[&["doctor", "--output", "json"][..], &away].concat(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["way to coordinator", "way to cluster", "coordinator", "read "] {
        assert_eq!(verdict(&found, name), "bad", "{found:#}");
    }
}
