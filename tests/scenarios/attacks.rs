//! Who tries to get in, or to take it down. None gets in, and it goes on serving.

use ferry_tests::{Azurite, Granted, Intruder, Program, Secured, SecuredOptions, free_port, wait_for};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tonic::Code;

/// An HTTP client that believes the coordinator.
fn client(secured: &Secured) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(&fs::read(&secured.authority).unwrap()).unwrap();
    reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap()
}

fn url(secured: &Secured, path: &str) -> String {
    format!("https://localhost:{}{path}", secured.http_port)
}

#[tokio::test]
async fn programs_may_do_what_their_role_says_and_no_more() {
    let secured = Secured::start(&[]).await;
    let token = |role: &str| fs::read_to_string(secured.token(role, &["--role", role])).unwrap().trim().to_owned();
    let (viewer, operator, admin) = (token("viewer"), token("operator"), token("admin"));
    let join = fs::read_to_string(secured.token("join", &["--runtime", "default"])).unwrap().trim().to_owned();
    let http = client(&secured);
    let routes = [
        ("GET", "/api/v1/runs", 1),
        ("GET", "/api/v1/runs/r", 1),
        ("GET", "/api/v1/runs/r/report", 1),
        ("GET", "/api/v1/runs/r/ledger", 1),
        ("GET", "/api/v1/runs/r/activity", 1),
        ("GET", "/api/v1/runs/r/files", 1),
        ("GET", "/api/v1/runs/r/files/1", 1),
        ("GET", "/api/v1/runs/r/commands", 1),
        ("GET", "/api/v1/runs/r/history", 1),
        ("GET", "/api/v1/runs/r/quarantine", 1),
        ("GET", "/api/v1/runs/r/events", 1),
        ("GET", "/api/v1/events", 1),
        ("GET", "/api/v1/runtimes", 1),
        ("GET", "/api/v1/schema", 1),
        ("GET", "/api/v1/openapi.json", 1),
        ("GET", "/api/v1/leaks", 1),
        ("GET", "/api/v1/nodes", 1),
        ("GET", "/metrics", 1),
        ("POST", "/api/v1/runs", 2),
        ("POST", "/api/v1/runs/r/cancel", 2),
        ("POST", "/api/v1/nodes/n/drain", 2),
        ("DELETE", "/api/v1/loaded?endpoint=e&database=d&table=t", 2),
        ("GET", "/api/v1/tokens", 3),
        ("POST", "/api/v1/tokens", 3),
        ("DELETE", "/api/v1/tokens/t", 3),
        ("POST", "/api/v1/nodes/n/revoke", 3),
    ];
    for (method, path, least) in routes {
        let bearers = [("nobody", None, 0), ("a join token", Some(&join), 0), ("viewer", Some(&viewer), 1)];
        for (who, bearer, rank) in
            bearers.into_iter().chain([("operator", Some(&operator), 2), ("admin", Some(&admin), 3)])
        {
            // After some failed sign-ins an address is not listened to any more.
            if who == "a join token" && least < 3 {
                continue;
            }
            let mut request = http.request(method.parse().unwrap(), url(&secured, path));
            if let Some(bearer) = bearer {
                request = request.bearer_auth(bearer);
            }
            let status = request.send().await.unwrap().status();
            let expected = match rank {
                0 => status == StatusCode::UNAUTHORIZED,
                rank if rank < least => status == StatusCode::FORBIDDEN,
                // Nothing is there to be worked on: the request got as far as that.
                _ => !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
            };
            assert!(expected, "{who}: {method} {path}: {status}");
        }
    }
    // What ended or was revoked opens nothing.
    let id = viewer.split('_').nth(1).unwrap();
    assert!(secured.cli(&["token", "revoke", id]).status.success());
    let answer = http.get(url(&secured, "/api/v1/runs")).bearer_auth(&viewer).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["title"], "SignInFailed");
    assert!(!problem.to_string().contains(&viewer));
    // Health says nothing that anybody may not know, and needs no token.
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http.get(url(&secured, path)).send().await.unwrap().status(), StatusCode::OK);
    }
    // A role is told in words.
    let told = secured.submit_with(&secured.path("viewer-again"), "r");
    assert_eq!(told.status.code(), Some(2), "a token file that is not there is wrong usage");
    let again = secured.token("viewer-again", &["--role", "viewer"]);
    let told = secured.submit_with(&again, "r");
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(words.contains("the token's role is viewer; this needs operator"), "{words}");
}

#[tokio::test]
async fn who_guesses_tokens_is_not_listened_to_for_a_while() {
    let secured = Secured::start(&[]).await;
    let http = client(&secured);
    let mut last = None;
    for guess in 0..40 {
        let token = format!("fapi_admin_{guess:064x}");
        let answer = http.get(url(&secured, "/api/v1/runs")).bearer_auth(token).send().await.unwrap();
        last = Some((answer.status(), answer.headers().contains_key("retry-after")));
    }
    assert_eq!(last, Some((StatusCode::TOO_MANY_REQUESTS, true)));
    let health = http.get(url(&secured, "/healthz")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
}

#[tokio::test]
async fn nodes_cannot_pass_for_others() {
    let secured = Secured::start(&[]).await;
    let (port, authority) = (secured.grpc_port, secured.authority.clone());
    let code = |result: Result<u32, tonic::Status>| result.map_err(|status| status.code());

    // No certificate; a program's token is none.
    let stranger = Intruder::stranger(port, &authority);
    assert_eq!(code(stranger.register("s", "default", (1, 1)).await), Err(Code::Unauthenticated));
    assert_eq!(stranger.ask("s").await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(stranger.renew().await.unwrap_err().code(), Code::Unauthenticated);

    // A certificate for one integration runtime is none for another.
    let token = secured.token("token", &["--runtime", "default", "--uses", "any"]);
    let intruder = Intruder::joined(port, &authority, &token, "default").await;
    assert_eq!(code(intruder.register("i", "elsewhere", (1, 1)).await), Err(Code::PermissionDenied));
    // Programs that are a release older or newer, and what they agree on.
    for (versions, agreed) in
        [((1, 1), Ok(1)), ((1, 2), Ok(1)), ((0, 1), Ok(1)), ((2, 3), Err(Code::FailedPrecondition))]
    {
        assert_eq!(code(intruder.register("i", "default", versions).await), agreed, "{versions:?}");
    }

    // An honest node holds a unit.
    let mut arguments = secured.node_arguments("honest");
    arguments.extend(["--token-file".into(), token.display().to_string(), "--bandwidth".into(), "10k".into()]);
    let honest = Program::ferry(&arguments, &[], secured.path("honest.log"));
    secured.until_logged(&honest, "registered").await;
    let rows = secured.write_source(1);
    secured.submit("run");
    wait_for("a chunk", || async {
        let ledger = secured.json(&["runs", "report", "run", "--ledger"]);
        ledger["chunks"].as_array()?.first().cloned()
    })
    .await;
    let admin = fs::read_to_string(secured.path("tls/admin-token")).unwrap();
    wait_for("what Prometheus is told", || async {
        let request = client(&secured).get(url(&secured, "/metrics")).bearer_auth(admin.trim());
        let text = request.send().await.unwrap().text().await.unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        let lines = ["ferry_units_leased{runtime=\"default\"} 1", "ferry_slots_busy{runtime=\"default\"} 1"];
        lines.iter().all(|line| text.contains(line)).then_some(())
    })
    .await;
    let nodes = secured.json(&["nodes", "list"]);
    let node = nodes.as_array().unwrap().iter().find(|n| n["name"] == "honest").unwrap();
    let stolen = node["nodeId"].as_str().unwrap();
    // Its id is not to be had, its work not to be touched.
    assert_eq!(code(intruder.register(stolen, "default", (1, 1)).await), Err(Code::PermissionDenied));
    assert_eq!(intruder.ask(stolen).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(intruder.leave(stolen).await.unwrap_err().code(), Code::PermissionDenied);
    let forged = intruder.report_failed(stolen, "run", 1, "00000000-0000-0000-0000-000000000000").await;
    assert_eq!(forged.unwrap_err().code(), Code::PermissionDenied);
    assert!(intruder.report_failed("i", "run", 1, "00000000-0000-0000-0000-000000000000").await.unwrap());
    let report = secured.finish("run").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(secured.rows(), (rows, rows));
}

/// Writes a blob.
async fn put(http: &reqwest::Client, url: &str, query: &str) -> StatusCode {
    let request = http.put(format!("{url}?{query}")).header("x-ms-blob-type", "BlockBlob");
    request.body("a,b\n").send().await.unwrap().status()
}

/// What came with a lease writes the blobs that it is for, and does nothing else.
pub(crate) async fn opens_its_own_blobs_alone(http: &reqwest::Client, granted: &Granted) {
    for (chunk, query) in granted.queries.iter().enumerate() {
        assert_eq!(put(http, &granted.blob(chunk, 0, None), query).await, StatusCode::CREATED, "chunk {chunk}");
    }
    let (own, query) = (granted.blob(0, 0, None), &granted.queries[0]);
    for (what, url) in [
        ("another chunk", granted.blob(1, 0, None)),
        ("another unit", granted.blob(0, 1, None)),
        ("another run", granted.blob(0, 0, Some("other"))),
        ("a blob below it", format!("{own}/more")),
    ] {
        assert_eq!(put(http, &url, query).await, StatusCode::FORBIDDEN, "writing {what}");
    }
    for (what, request) in [
        ("read", http.get(format!("{own}?{query}"))),
        ("delete", http.delete(format!("{own}?{query}"))),
        ("list", http.get(format!("{}?restype=container&comp=list&{query}", granted.container))),
    ] {
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{what}");
    }
}

#[tokio::test]
async fn a_node_writes_the_blobs_of_its_attempt_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::start(folder.path()).await;
    let secured = Secured::start_with(SecuredOptions {
        arguments: vec!["--blob-signatures-only".into()],
        environment: vec![("FERRY_TEST_KEY", azurite.key().to_owned())],
        ..SecuredOptions::default()
    })
    .await;
    let token = secured.token("token", &["--runtime", "default", "--uses", "any"]);
    let rows = secured.write_source(4);
    let mut activity = secured.activity();
    activity["staging"] = json!({"type": "AzureBlob", "container": azurite.container,
                                 "accountKey": {"secret": "env:FERRY_TEST_KEY"}});
    // So slow that there is something left for others.
    let mut arguments = secured.node_arguments("honest");
    arguments.extend(["--token-file".into(), token.display().to_string(), "--bandwidth".into(), "20k".into()]);
    let _honest = Program::ferry(&arguments, &[], secured.path("honest.log"));
    secured.submit_activity("run", &activity);
    wait_for("the plan", || async { (secured.json(&["runs", "show", "run"])["state"] == "Copying").then_some(()) })
        .await;

    let intruder = Intruder::joined(secured.grpc_port, &secured.authority, &token, "default").await;
    intruder.register("old", "default", (1, 1)).await.unwrap();
    let refused = intruder.ask("old").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "it would need a signature for all: {refused}");

    intruder.register("new", "default", (1, 1)).await.unwrap();
    let granted = wait_for("a grant", || async { intruder.blobs_of_grant("new").await }).await;
    let http = azurite.client();
    opens_its_own_blobs_alone(&http, &granted).await;
    // More of its own; what it says of the unit does not matter, the lease does.
    for other_unit in [0, 1] {
        let more = intruder.more_blobs("new", &granted, (100, 3), other_unit, None).await;
        assert_eq!(more.len(), 3);
        assert_eq!(put(&http, &granted.blob(101, 0, None), &more[1]).await, StatusCode::CREATED);
        assert_eq!(put(&http, &granted.blob(101, 1, None), &more[1]).await, StatusCode::FORBIDDEN);
    }
    let forged = intruder.more_blobs("new", &granted, (100, 3), 0, Some("00000000-0000-0000-0000-000000000000")).await;
    assert!(forged.is_empty(), "without the lease there are none");
    let most = intruder.more_blobs("new", &granted, (0, u32::MAX), 0, None).await;
    assert!(most.len() < 1_000, "{}", most.len());

    intruder.leave("new").await.unwrap();
    let report = secured.finish("run").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(secured.rows(), (rows, rows));
    let blobs = azurite.blobs().await;
    assert!(blobs.is_empty(), "what was written and never reported is swept: {blobs:?}");
    for log in ["coordinator.log", "honest.log", "ferry.db"] {
        let bytes = fs::read(secured.path(log)).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"sig="), "{log} holds a signature");
    }
}

/// The coordinator still answers its administrator, and soon.
fn still_serves(secured: &Secured, case: &str) {
    let begin = Instant::now();
    assert!(secured.cli(&["runs", "list"]).status.success(), "{case}");
    assert!(begin.elapsed() < Duration::from_secs(60), "{case}: {:?}", begin.elapsed());
}

#[tokio::test]
async fn a_body_without_end_is_not_read_to_its_end() {
    let secured = Secured::start(&[]).await;
    let http = client(&secured);
    let admin = fs::read_to_string(secured.path("tls/admin-token")).unwrap();
    let before = secured.coordinator.memory_bytes();
    let told = http
        .post(url(&secured, "/api/v1/runs"))
        .bearer_auth(admin.trim())
        .header("content-length", 10_u64 << 30)
        .body(reqwest::Body::wrap_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]))))
        .send()
        .await;
    // It may hang up before everything that was promised was sent.
    if let Ok(answer) = told {
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    let grown = secured.coordinator.memory_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    still_serves(&secured, "after a body without end");
}

#[tokio::test]
async fn who_is_slow_or_idle_is_let_go() {
    let secured = Secured::start(&[]).await;
    // Idle, at both ports, more than one address may have; from an address of their own.
    let mut idle = Vec::new();
    for port in [secured.http_port, secured.grpc_port] {
        for _ in 0..300 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            idle.push(socket.connect(([127, 0, 0, 1], port).into()).await.unwrap());
        }
    }
    still_serves(&secured, "beside idle connections");
    let token = secured.token("token", &["--runtime", "default"]);
    let node = secured.node("n", Some(&token));
    secured.until_logged(&node, "registered").await;
    // They were let go: the read ends.
    let mut byte = [0];
    let first = idle.first_mut().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), first.read(&mut byte)).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

/// Files and connections that a program has open.
fn open_files(program: &Program) -> usize {
    fs::read_dir(format!("/proc/{}/fd", program.pid())).unwrap().count()
}

#[tokio::test]
async fn ten_thousand_idle_connections_keep_nobody_out() {
    const IDLE: usize = 10_000;
    // Fewer than one address may have, so that what is tried is the port's own limit.
    const OF_ADDRESS: usize = 250;
    ferry_coordinator::raise_open_files();
    let secured = Secured::start(&[]).await;
    let token = secured.token("token", &["--runtime", "default", "--uses", "any"]);
    let node = secured.node("early", Some(&token));
    secured.until_logged(&node, "registered").await;
    let admin = fs::read_to_string(secured.path("tls/admin-token")).unwrap();
    let http = client(&secured);
    for (port, name) in [(secured.http_port, "late-1"), (secured.grpc_port, "late-2")] {
        let mut idle = Vec::with_capacity(IDLE);
        let mut open_most = 0;
        for number in 0..IDLE {
            let socket = TcpSocket::new_v4().unwrap();
            let address = [127, 0, 1, 1 + (number / OF_ADDRESS) as u8];
            socket.bind((address, 0).into()).unwrap();
            idle.push(socket.connect(([127, 0, 0, 1], port).into()).await.unwrap());
            if number % 500 == 0 {
                open_most = open_most.max(open_files(&secured.coordinator));
                let request = http.get(url(&secured, "/api/v1/runs")).bearer_auth(admin.trim());
                assert_eq!(request.send().await.unwrap().status(), StatusCode::OK, "beside {number}");
            }
        }
        // Those who are new are let in, too, at both ports.
        still_serves(&secured, "beside ten thousand");
        let late = secured.node(name, Some(&token));
        secured.until_logged(&late, "registered").await;
        // They did reach it, and there is a limit to them.
        assert!(open_most > 1_000, "{open_most} files were open");
        assert!(open_files(&secured.coordinator) < 9_000);
        let mut byte = [0];
        let first = idle.first_mut().unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), first.read(&mut byte)).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    let rows = secured.write_source(3);
    secured.submit("run");
    assert_eq!(secured.finish("run").await["status"], "Succeeded");
    assert_eq!(secured.rows(), (rows, rows));
    assert!(fs::read_to_string(&secured.coordinator.log).unwrap().contains("limit of open files"));
}

#[tokio::test]
async fn a_head_that_trickles_in_is_not_waited_for() {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("f.db").display());
    let grpc = format!("127.0.0.1:{}", free_port());
    let http = format!("127.0.0.1:{port}");
    let arguments = ["coordinator", "--grpc", &grpc, "--http", &http, "--store", &store].map(str::to_owned);
    let _coordinator = Program::ferry(&arguments, &[], folder.path().join("log"));
    let mut slow = wait_for("the coordinator", || async { TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    let (mut reads, mut writes) = slow.into_split();
    let trickle = tokio::spawn(async move {
        for number in 0.. {
            if writes.write_all(format!("X-{number}: 1\r\n").as_bytes()).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut told = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), reads.read_to_end(&mut told)).await;
    assert!(ended.is_ok(), "the connection goes on");
    assert!(!String::from_utf8_lossy(&told).starts_with("HTTP/1.1 200"), "{told:?}");
    trickle.abort();

    // Without TLS it is for this machine alone, whatever name leads to it, and not for pages of others.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = |header: &'static str, value: &'static str| {
        client.get(format!("http://127.0.0.1:{port}/api/v1/runs")).header(header, value).send()
    };
    for (header, value) in [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")] {
        let status = get(header, value).await.unwrap().status();
        assert_eq!(status, StatusCode::FORBIDDEN, "{header}: {value}");
    }
    assert_eq!(get("host", "localhost").await.unwrap().status(), StatusCode::OK);
    // An activity that is all aliases of aliases is refused before it is unfolded.
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (this, that) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        let aliases = vec![format!("*{that}"); 9].join(", ");
        bomb += &format!("{this}: &{this} [{aliases}]\n");
    }
    let path = folder.path().join("bomb.yaml");
    fs::write(&path, bomb).unwrap();
    let output = ferry_tests::ferry(&["run", &path.display().to_string(), "--coordinator", &format!("http://{http}")]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    // Lines in a name stay one line of the log.
    let body = json!({"runId": "a\nb", "activity": {}});
    let answer = client.post(format!("http://127.0.0.1:{port}/api/v1/runs")).json(&body).send().await.unwrap();
    assert!(answer.status().is_client_error());
}
