//! The HTTP API as pages and programs use it: long lists, streams of news, sign-in with a browser, webhooks.

use ferry_tests::{Cluster, ClusterOptions, Secured, free_port, wait_for};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::{fs, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Files of the long list.
const FILES: usize = 320;

async fn get(http: &Client, cluster: &Cluster, path: &str) -> (StatusCode, Value) {
    let answer = http.get(format!("{}/api/v1{path}", cluster.api())).send().await.unwrap();
    let status = answer.status();
    (status, answer.json().await.unwrap())
}

/// All pages of a list of files: paths or sizes.
async fn pages(http: &Client, cluster: &Cluster, query: &str, key: &str) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), String::new());
    for _ in 0..100 {
        let path = format!("/runs/long/files?limit=50&{query}&after={after}");
        let (status, page) = get(http, cluster, &path).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        found.extend(page["files"].as_array().unwrap().iter().map(|file| file[key].clone()));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return found,
        }
    }
    panic!("pages without end: {query}");
}

#[tokio::test]
async fn a_long_list_of_files_is_paged_searched_and_sorted() {
    let cluster = Cluster::start(ClusterOptions { nodes: 2, slots: 4, ..ClusterOptions::default() }).await;
    for number in 0..FILES {
        let rows: String = (0..=number % 7).map(|row| format!("{row},x\n")).collect();
        let name = if number % 10 == 0 { format!("Special_{number:03}.csv") } else { format!("plain-{number:03}.csv") };
        fs::write(cluster.source().join(name), format!("a,b\n{rows}")).unwrap();
    }
    // One row that does not fit, and is kept.
    fs::write(cluster.source().join("odd.csv"), "a,b\n1,\"x\ny\"\nno number,z\n").unwrap();
    let mut activity = cluster.flights_activity();
    activity["sink"]["table"] = "Long".into();
    activity["settings"] = json!({"packSmallFiles": false, "enableSkipIncompatibleRow": true});
    activity["sink"]["mapping"] = json!({"columns": [
        {"source": {"name": "a"}, "sink": {"name": "a", "type": "long"}},
        {"source": {"name": "b"}, "sink": {"name": "b", "type": "string"}},
    ]});
    cluster.submit("long", &activity).await;
    let report = cluster.finish("long").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    let http = Client::new();

    let paths = pages(&http, &cluster, "sort=path", "path").await;
    assert_eq!(paths.len(), FILES + 1);
    let mut sorted: Vec<_> = paths.iter().map(|path| path.as_str().unwrap().to_owned()).collect();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), FILES + 1, "no page repeats a file");
    assert_eq!(sorted, paths.iter().map(|path| path.as_str().unwrap()).collect::<Vec<_>>());
    let sizes = pages(&http, &cluster, "sort=size&order=desc", "sizeBytes").await;
    assert_eq!(sizes.len(), FILES + 1);
    assert!(sizes.windows(2).all(|pair| pair[0].as_u64() >= pair[1].as_u64()));
    let special = pages(&http, &cluster, "search=special_", "path").await;
    assert_eq!(special.len(), FILES / 10, "{special:?}");
    assert_eq!(pages(&http, &cluster, "sort=state&state=Ingested", "path").await.len(), FILES + 1);
    assert_eq!(pages(&http, &cluster, "sort=state&order=desc", "path").await.len(), FILES + 1);
    assert!(pages(&http, &cluster, "state=Failed", "path").await.is_empty());

    let (_, first) = get(&http, &cluster, "/runs/long/files?search=odd.csv").await;
    let odd = &first["files"][0];
    assert_eq!((&odd["rowsRead"], &odd["rowsSkipped"]), (&2.into(), &1.into()), "{odd:#}");
    let (_, detail) = get(&http, &cluster, &format!("/runs/long/files/{}", odd["unit"])).await;
    assert_eq!(detail["commands"][0]["state"], "Confirmed", "{detail:#}");
    assert_eq!(detail["chunks"][0]["rows"], 1, "{detail:#}");
    let (_, quarantine) = get(&http, &cluster, "/runs/long/quarantine").await;
    assert_eq!(quarantine["rows"].as_array().unwrap().len(), 1, "{quarantine:#}");
    let row = &quarantine["rows"][0];
    assert_eq!(
        (&row["rawRow"], &row["line"], &row["column"]),
        (&"no number,z".into(), &4.into(), &"a".into()),
        "{row:#}"
    );
    assert_eq!(quarantine["isCut"], false);

    let mut commands = Vec::new();
    let mut after = String::new();
    loop {
        let (_, page) =
            get(&http, &cluster, &format!("/runs/long/commands?state=Confirmed&limit=100&after={after}")).await;
        commands.extend(page["commands"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(commands.len(), FILES + 1);
    let (_, history) = get(&http, &cluster, "/runs/long/history").await;
    assert!(history["points"].as_array().unwrap().len() <= 300, "{history}");
    let (_, view) = get(&http, &cluster, "/runs/long").await;
    assert_eq!((&view["rowsSkipped"], &view["runtime"]), (&1.into(), &"default".into()), "{view:#}");
    assert!(view["times"]["ended"].is_string() && view["times"]["publishing"].is_null(), "{view:#}");
    let (_, runtimes) = get(&http, &cluster, "/runtimes").await;
    assert_eq!((&runtimes["runtimes"][0]["nodes"], &runtimes["runtimes"][0]["slots"]), (&2.into(), &8.into()));
}

/// Reads events of a stream until one is as wanted; `None`: the stream ended before.
async fn until_event(url: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
    let mut answer = Client::new().get(url).send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let mut text = String::new();
    while let Ok(Some(bytes)) = answer.chunk().await {
        text += &String::from_utf8_lossy(&bytes);
        while let Some(end) = text.find("\n\n") {
            let event: String = text.drain(..end + 2).collect();
            let line = |start: &str| event.lines().find_map(|line| line.strip_prefix(start)).map(str::trim);
            if line("event:") == Some(name) {
                let data: Value = serde_json::from_str(line("data:").unwrap()).unwrap();
                if wanted(&data) {
                    return Some(data);
                }
            }
        }
    }
    None
}

#[tokio::test]
async fn a_stream_sees_a_run_end_across_a_restart_of_the_coordinator() {
    let mut cluster = Cluster::start(ClusterOptions { nodes: 1, slots: 1, ..ClusterOptions::default() }).await;
    for file in 0..12 {
        let rows: String = (0..20_000).map(|row| format!("{row},{}\n", "x".repeat(50))).collect();
        fs::write(cluster.source().join(format!("{file}.csv")), format!("a,b\n{rows}")).unwrap();
    }
    let mut activity = cluster.flights_activity();
    activity["sink"]["table"] = "Streamed".into();
    activity["settings"] = json!({"packSmallFiles": false, "compression": "none", "bandwidth": "500k"});
    let (all, one) =
        (format!("{}/api/v1/events", cluster.api()), format!("{}/api/v1/runs/streamed/events", cluster.api()));
    cluster.submit("streamed", &activity).await;
    let of_run = |data: &Value, wanted: &dyn Fn(&Value) -> bool| {
        data["runs"].as_array().is_some_and(|runs| runs.iter().any(|run| run["runId"] == "streamed" && wanted(run)))
    };
    let seen = until_event(&all, "runs", |data| of_run(data, &|run| run["state"] == "Copying")).await;
    assert!(seen.is_some(), "a stream shows what goes on");
    assert!(until_event(&all, "nodes", |data| data["nodes"][0]["name"] == "node-0").await.is_some());
    // A stream that is open when the coordinator dies ends; who comes again sees the end of the run.
    let reader = tokio::spawn({
        let one = one.clone();
        async move { until_event(&one, "run", |run| run["isFinal"] == true).await }
    });
    wait_for("a file", || async { cluster.look("streamed").await.filter(|run| run["copy"]["filesDone"] != 0) }).await;
    cluster.restart_coordinator().await;
    assert!(reader.await.unwrap().is_none(), "the run must not have ended by then");
    let ended = wait_for("the end in the stream", || until_event(&one, "run", |run| run["isFinal"] == true)).await;
    assert_eq!(ended["state"], "Succeeded", "{ended:#}");
    // A stream of a run that has ended tells so, and ends.
    let again = until_event(&one, "run", |_| false);
    assert!(tokio::time::timeout(Duration::from_secs(30), again).await.unwrap().is_none());
    assert!(until_event(&all, "runs", |data| of_run(data, &|run| run["isFinal"] == true)).await.is_some());
}

#[tokio::test]
async fn a_browser_signs_in_with_its_roles() {
    let secured = Secured::start(&[]).await;
    let token = |role: &str| fs::read_to_string(secured.token(role, &["--role", role])).unwrap().trim().to_owned();
    let viewer = token("viewer");
    let authority = reqwest::Certificate::from_pem(&fs::read(&secured.authority).unwrap()).unwrap();
    let http = Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
    let origin = format!("https://localhost:{}", secured.http_port);
    let url = |path: &str| format!("{origin}{path}");

    // The pages are there for everybody, and say what a browser may do with them.
    let page = http.get(url("/")).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    for (name, words) in [
        ("content-security-policy", "default-src 'self'"),
        ("strict-transport-security", "max-age="),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ] {
        let told = page.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert!(told.contains(words), "{name}: {told:?}");
    }
    let etag = page.headers()["etag"].clone();
    let again = http.get(url("/")).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);

    let who: Value = http.get(url("/api/v1/whoami")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&who["role"], &who["needsSignIn"], &who["isInsecure"]), (&Value::Null, &true.into(), &false.into()));
    let sign_in = |token: &str, from: &str| {
        http.post(url("/api/v1/session")).header("origin", from).json(&json!({"token": token})).send()
    };
    let wrong = sign_in("fapi_x_y", &origin).await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let foreign = sign_in(&viewer, "https://evil.example").await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    let good = sign_in(&viewer, &origin).await.unwrap();
    assert_eq!(good.status(), StatusCode::NO_CONTENT);
    let cookie = good.headers()["set-cookie"].to_str().unwrap().to_owned();
    for word in ["HttpOnly", "SameSite=Strict", "Path=/", "Secure"] {
        assert!(cookie.contains(word), "{word} is missing");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let with_cookie =
        |method: &str, path: &str| http.request(method.parse().unwrap(), url(path)).header("cookie", &cookie);
    let who: Value = with_cookie("GET", "/api/v1/whoami").send().await.unwrap().json().await.unwrap();
    assert_eq!((&who["role"], &who["needsSignIn"]), (&"viewer".into(), &false.into()), "{who}");
    let runs = with_cookie("GET", "/api/v1/runs").send().await.unwrap();
    assert_eq!((runs.status(), runs.headers()["cache-control"].to_str().unwrap()), (StatusCode::OK, "no-store"));
    let cross = with_cookie("GET", "/api/v1/runs").header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(cross.status(), StatusCode::FORBIDDEN);
    // A viewer submits nothing, whatever it sends along.
    let submit = with_cookie("POST", "/api/v1/runs").header("origin", &origin).body("{}").send().await.unwrap();
    let problem: Value = submit.json().await.unwrap();
    assert_eq!(problem["title"], "RoleMissing", "{problem}");
    // What changes something must say where it comes from.
    let cookie = format!("ferry_token={}", token("operator"));
    let cancel = http.post(url("/api/v1/runs/none/cancel")).header("cookie", &cookie);
    let silent = cancel.try_clone().unwrap().send().await.unwrap();
    assert_eq!(silent.status(), StatusCode::FORBIDDEN);
    assert_eq!(cancel.header("origin", &origin).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    // What was revoked opens nothing, and is forgotten.
    assert!(secured.cli(&["token", "revoke", viewer.split('_').nth(1).unwrap()]).status.success());
    let after = with_cookie("GET", "/api/v1/runs").send().await.unwrap();
    assert_eq!(after.status(), StatusCode::UNAUTHORIZED);
    assert!(after.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn nonsense_is_answered_in_one_form_and_everything_is_documented() {
    let cluster = Cluster::start(ClusterOptions { nodes: 0, ..ClusterOptions::default() }).await;
    let http = Client::new();
    let mut activity = cluster.flights_activity();
    activity["sink"]["table"] = "Never".into();
    cluster.submit("known", &activity).await;
    // A little more than is taken.
    let long = "x".repeat((2 << 20) + 5_000);
    for (case, method, path, body, status) in [
        ("a limit that is no number", "GET", "/runs?limit=many", "", 400),
        ("a limit of nothing", "GET", "/runs?limit=0", "", 400),
        ("an unknown parameter", "GET", "/runs?stat=Failed", "", 400),
        ("an unknown state", "GET", "/runs?state=Odd", "", 400),
        ("a run before that is none", "GET", "/runs?before=none", "", 400),
        ("a run's name that is none", "GET", "/runs/%00", "", 400),
        ("a run that is not there", "GET", "/runs/none", "", 404),
        ("a cursor that is none", "GET", "/runs/known/files?after=x", "", 400),
        ("a sort that is none", "GET", "/runs/known/files?sort=colour", "", 400),
        ("an order that is none", "GET", "/runs/known/files?order=up", "", 400),
        ("a unit that is no number", "GET", "/runs/known/files/first", "", 400),
        ("the listing is no file", "GET", "/runs/known/files/0", "", 404),
        ("a cursor of commands that is none", "GET", "/runs/known/commands?after=1", "", 400),
        ("a path that is none", "GET", "/nothing", "", 404),
        ("a method that is none", "PUT", "/runs", "", 405),
        ("no body", "POST", "/runs", "", 400),
        ("no JSON", "POST", "/runs", "name: x", 400),
        ("neither activity nor text", "POST", "/runs", "{}", 400),
        ("both", "POST", "/runs", "{\"activity\": {}, \"activityText\": \"x\"}", 400),
        ("an activity that is none", "POST", "/runs", "{\"activityText\": \"name: x\"}", 422),
        ("a body that is too long", "POST", "/runs", long.as_str(), 413),
        ("nobody to sign in", "POST", "/session", "{\"token\": \"x\"}", 409),
    ] {
        let url = format!("{}/api/v1{path}", cluster.api());
        let answer = http.request(method.parse().unwrap(), url).body(body.to_owned()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{case}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{case}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["status"], status, "{case}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{case}: {problem}");
    }
    let text = "# as YAML\n".to_owned() + &activity.to_string();
    let submitted = http.post(format!("{}/api/v1/runs", cluster.api()));
    let submitted = submitted.json(&json!({"runId": "as-text", "activityText": text})).send().await.unwrap();
    assert_eq!(submitted.status(), StatusCode::CREATED);
    let (_, shown) = get(&http, &cluster, "/runs/as-text/activity").await;
    assert_eq!(shown["staging"]["accountKey"]["secret"], "env:FERRY_TEST_KEY", "{shown:#}");
    let (_, page) = get(&http, &cluster, "/runs?limit=1&state=Active").await;
    assert_eq!((&page["runs"][0]["runId"], &page["next"]), (&"as-text".into(), &"as-text".into()));
    let (_, page) = get(&http, &cluster, "/runs?limit=1&state=Active&before=as-text").await;
    assert_eq!(page["runs"][0]["runId"], "known");
    let (_, who) = get(&http, &cluster, "/whoami").await;
    assert_eq!((&who["role"], &who["needsSignIn"]), (&"admin".into(), &false.into()));

    let (_, document) = get(&http, &cluster, "/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    for path in [
        "/api/v1/runs",
        "/api/v1/runs/{run}/files",
        "/api/v1/runs/{run}/events",
        "/api/v1/events",
        "/api/v1/whoami",
        "/api/v1/tokens/{token}",
        "/metrics",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let written = document.to_string();
    for place in written.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let name = place.strip_prefix("#/components/schemas/").unwrap_or_else(|| panic!("{place}"));
        assert!(document["components"]["schemas"][name].is_object(), "{place}");
    }
}

/// Takes one HTTP request at a port. Returns its head and body.
async fn take_request(listener: &TcpListener) -> (String, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(count > 0, "the request ends too early: {text}");
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
            return (head.to_ascii_lowercase(), body.to_owned());
        }
        assert!(count > 0, "the request ends too early: {text}");
    }
}

#[tokio::test]
async fn a_webhook_hears_of_the_end_even_when_it_was_down_and_the_coordinator_died() {
    let mut cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    fs::write(cluster.source().join("a.csv"), "a,b\n1,x\n2,y\n").unwrap();
    let port = free_port();
    let mut activity = cluster.flights_activity();
    activity["sink"]["table"] = "Hooked".into();
    let url = format!("http://127.0.0.1:{port}/hook/PATHTOKEN");
    activity["settings"]["webhook"] = json!({"url": url, "secret": {"secret": "env:FERRY_WEBHOOK_TEST"}});
    cluster.submit("hooked", &activity).await;
    // Nobody listens: the run ends all the same.
    cluster.finish("hooked").await;
    wait_for("a try", || async {
        cluster.coordinator_logs().contains("the webhook was not reached, trying again").then_some(())
    })
    .await;
    cluster.restart_coordinator().await;
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (head, body) = tokio::time::timeout(Duration::from_secs(150), take_request(&listener)).await.unwrap();
    assert!(head.starts_with("post /hook/pathtoken "), "{head}");
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&told["event"], &told["run"]["runId"]), (&"run.ended".into(), &"hooked".into()), "{told:#}");
    assert_eq!((&told["run"]["state"], &told["run"]["ingest"]["rowsVisible"]), (&"Succeeded".into(), &2.into()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, cluster.azurite.key().as_bytes());
    let signed = ring::hmac::sign(&key, body.as_bytes());
    let digits: String = signed.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(head.contains(&format!("x-ferry-signature: sha256={digits}")), "{head}");
    wait_for("the end of telling", || async {
        cluster.coordinator_logs().contains("the webhook has heard of the end of the run").then_some(())
    })
    .await;
    assert!(!cluster.coordinator_logs().contains("PATHTOKEN"), "a path may hold a token");
    // Once it was heard, it is not told again.
    let again = tokio::time::timeout(Duration::from_secs(5), listener.accept()).await;
    assert!(again.is_err(), "told twice");
}
