//! How nodes come in, stay in, and are let in no more.

use ferry_tests::{Program, Secured, SecuredOptions, wait_for, write_certificate};
use std::fs;

/// Waits for the end of a program that cannot go on. Returns its messages.
async fn last_words(mut program: Program) -> String {
    let code = wait_for("the end of the program", || {
        let code = program.exit_code();
        async move { code }
    })
    .await;
    assert_eq!(code, 1);
    fs::read_to_string(&program.log).unwrap()
}

#[tokio::test]
async fn a_node_joins_once_renews_and_comes_back_without_its_token() {
    let mut secured = Secured::start(&["--node-cert-ttl", "12s"]).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let mut node = secured.node("n1", Some(&token));
    secured.until_logged(&node, "this node has joined").await;
    fs::remove_file(&token).unwrap();
    let rows = secured.write_source(3);
    secured.submit("first");
    assert_eq!(secured.finish("first").await["status"], "Succeeded");
    assert_eq!(secured.rows(), (rows, rows));
    // A coordinator that starts anew is the same authority.
    secured.restart().await;
    // Beyond the end of the first certificate.
    wait_for("two renewals", || async {
        let log = fs::read_to_string(&node.log).unwrap();
        (log.matches("the certificate is renewed").count() >= 2).then_some(())
    })
    .await;
    secured.submit("second");
    assert_eq!(secured.finish("second").await["status"], "Succeeded");
    node.terminate();
    let again = secured.node("n1", None);
    secured.submit("third");
    assert_eq!(secured.finish("third").await["status"], "Succeeded");
    drop(again);
    // The key is for its owner alone.
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(secured.path("identity-n1/identity.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_certificate_that_ended_meanwhile_needs_a_new_token() {
    let secured = Secured::start(&["--node-cert-ttl", "3s"]).await;
    let token = secured.token("token", &["--runtime", "default", "--uses", "any"]);
    let mut node = secured.node("n1", Some(&token));
    secured.until_logged(&node, "this node has joined").await;
    node.kill();
    let kept = fs::read_to_string(secured.path("identity-n1/identity.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let ends = kept["certificate"]["endsMs"].as_i64().unwrap();
    wait_for("the end of the certificate", || async { (jiff::Timestamp::now().as_millisecond() > ends).then_some(()) })
        .await;
    let words = last_words(secured.node("n1", None)).await;
    assert!(words.contains("a certificate that has ended") && words.contains("ferry token create"), "{words}");
    let again = secured.node("n1", Some(&token));
    secured.until_logged(&again, "registered").await;
}

#[tokio::test]
async fn a_revoked_node_changes_nothing_any_more() {
    let secured = Secured::start(&[]).await;
    let token = secured.token("token", &["--runtime", "default", "--uses", "any"]);
    let mut bad = secured.node_arguments("bad");
    // So slow that it is in the middle of its file when it is stopped.
    bad.extend(["--token-file".into(), token.display().to_string(), "--bandwidth".into(), "10k".into()]);
    let bad = Program::ferry(&bad, &[], secured.path("bad.log"));
    secured.until_logged(&bad, "registered").await;
    let rows = secured.write_source(3);
    secured.submit("run");
    let held = wait_for("a chunk of the node", || async {
        let ledger = secured.json(&["runs", "report", "run", "--ledger"]);
        ledger["chunks"].as_array()?.first().cloned()
    })
    .await;
    bad.signal("STOP");
    let revoked = secured.json(&["nodes", "revoke", "bad"]);
    assert_eq!(revoked[0]["name"], "bad");
    assert!(revoked[0]["revoked"].is_string(), "{revoked}");
    let _good = secured.node("good", Some(&token));
    bad.signal("CONT");
    let words = last_words(bad).await;
    assert!(words.contains("this node was revoked"), "{words}");
    let report = secured.finish("run").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(secured.rows(), (rows, rows));
    let file = report["files"].as_array().unwrap().iter().find(|f| f["path"] == held["file"]).unwrap();
    assert_eq!(file["node"], "good", "{file:#}");
    // It is not let in again with what it has, nor with the same token and the same key.
    let words = last_words(secured.node("bad", Some(&token))).await;
    assert!(words.contains("this node was revoked"), "{words}");
}

#[tokio::test]
async fn tokens_that_are_not_good_any_more_are_told_apart() {
    let secured = Secured::start(&[]).await;
    let once = secured.token("once", &["--runtime", "default"]);
    let first = secured.node("first", Some(&once));
    secured.until_logged(&first, "this node has joined").await;
    let short = secured.token("short", &["--runtime", "default", "--ttl", "1s"]);
    let revoked = secured.token("revoked", &["--runtime", "default"]);
    let id = fs::read_to_string(&revoked).unwrap().split('_').nth(1).unwrap().to_owned();
    assert!(secured.cli(&["token", "revoke", &id]).status.success());
    let other = secured.token("other", &["--runtime", "elsewhere"]);
    let forged = secured.path("forged");
    let text = fs::read_to_string(&other).unwrap();
    let secret = text.split('_').nth(2).unwrap();
    fs::write(&forged, text.replace(secret, &"0".repeat(secret.len()))).unwrap();
    let nonsense = secured.path("nonsense");
    fs::write(&nonsense, "please").unwrap();
    wait_for("the end of the short token", || async {
        let list = secured.json(&["token", "list"]);
        let ended = |token: &serde_json::Value| {
            let ends: jiff::Timestamp = token["ends"].as_str().unwrap().parse().unwrap();
            ends < jiff::Timestamp::now()
        };
        list.as_array().unwrap().iter().any(ended).then_some(())
    })
    .await;
    for (case, token, words) in [
        ("used-up", &once, "used up"),
        ("ended", &short, "ended"),
        ("revoked", &revoked, "was revoked"),
        ("other-runtime", &other, "is for integration runtime elsewhere, not default"),
        ("forged", &forged, "is not known here"),
        ("nonsense", &nonsense, "is no join token"),
        ("no-file", &secured.path("nowhere"), "no join token in"),
    ] {
        let told = last_words(secured.node(case, Some(token))).await;
        assert!(told.contains(words), "{case}: {told}");
    }
    // No secret is kept or shown.
    let secrets: Vec<String> = [&once, &short, &revoked, &other]
        .map(|path| fs::read_to_string(path).unwrap().split('_').nth(2).unwrap().to_owned())
        .into();
    let places = ["coordinator.log", "first.log", "used-up.log", "forged.log", "ferry.db", "ferry.db-wal"];
    for place in places.map(|name| secured.path(name)).iter().filter(|path| path.exists()) {
        let bytes = fs::read(place).unwrap();
        for secret in &secrets {
            let is_in = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_in, "{} holds a token", place.display());
        }
    }
}

#[tokio::test]
async fn a_coordinator_of_another_authority_is_not_believed() {
    let (secured, other) = (Secured::start(&[]).await, Secured::start(&[]).await);
    let token = other.token("token", &["--runtime", "default"]);
    let words = last_words(secured.node("n", Some(&token))).await;
    assert!(words.contains("is not believed") && words.contains("UnknownIssuer"), "{words}");
    assert!(!words.contains(fs::read_to_string(&token).unwrap().split('_').nth(2).unwrap()), "{words}");
    // Nor by another name than it has.
    let token = secured.token("token", &["--runtime", "default"]);
    let mut arguments = secured.node_arguments("by-another-name");
    arguments[2] = format!("https://127.0.0.2:{}", secured.grpc_port);
    arguments.extend(["--token-file".into(), token.display().to_string()]);
    let relay = format!("127.0.0.2:{}", secured.grpc_port);
    // The loopback network is this machine; the coordinator listens on one address of it.
    let listener = tokio::net::TcpListener::bind(&relay).await.unwrap();
    let port = secured.grpc_port;
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let mut there = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut here, &mut there).await });
        }
    });
    let node = Program::ferry(&arguments, &[], secured.path("by-another-name.log"));
    let words = last_words(node).await;
    assert!(words.contains("is not believed") && words.contains("--tls-name"), "{words}");
}

#[tokio::test]
async fn a_certificate_that_was_given_is_shown_and_read_again_when_it_changes() {
    ferry_common::install_tls_provider();
    let given = tempfile::tempdir().unwrap();
    let text = |name: &str| given.path().join(name).display().to_string();
    let first = write_certificate(given.path(), "first.pem");
    let files = ["--tls-cert".into(), text("localhost.crt"), "--tls-key".into(), text("localhost.key")];
    let options = SecuredOptions { arguments: files.into(), authority: Some(first), ..SecuredOptions::default() };
    let mut secured = Secured::start_with(options).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let node = |secured: &Secured, authority: &str| {
        let mut arguments = secured.node_arguments("n");
        arguments.extend(["--token-file".into(), token.display().to_string(), "--ca".into(), authority.to_owned()]);
        Program::ferry(&arguments, &[], secured.path("n.log"))
    };
    let mut joined = node(&secured, &text("first.pem"));
    secured.until_logged(&joined, "registered").await;
    joined.terminate();
    secured.authority = write_certificate(given.path(), "second.pem");
    wait_for("the new certificate", || async { secured.cli(&["runs", "list"]).status.success().then_some(()) }).await;
    let again = node(&secured, &text("second.pem"));
    secured.until_logged(&again, "registered").await;
}

#[tokio::test]
async fn a_node_that_the_store_does_not_know_keeps_what_it_has_until_it_has_something_better() {
    let mut secured = Secured::start(&[]).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let mut node = secured.node("n1", Some(&token));
    secured.until_logged(&node, "registered").await;
    // Two processes do not share an identity.
    let mut twin = secured.node_arguments("n1");
    twin[4] = "twin".to_owned();
    let words = last_words(Program::ferry(&twin, &[], secured.path("twin.log"))).await;
    assert!(words.contains("another node uses it"), "{words}");
    node.terminate();

    // The wrong store, for a while.
    secured.coordinator.kill();
    let store = |name: &str| secured.path(name);
    let aside = store("aside");
    fs::create_dir(&aside).unwrap();
    for name in ["ferry.db", "ferry.db-wal", "ferry.db-shm"] {
        let _ = fs::rename(store(name), aside.join(name));
    }
    let kept = fs::read(store("identity-n1/identity.json")).unwrap();
    secured.restart().await;
    fs::remove_file(&token).unwrap();
    let words = last_words(secured.node("n1", None)).await;
    assert!(words.contains("is not known here"), "{words}");
    assert_eq!(fs::read(secured.path("identity-n1/identity.json")).unwrap(), kept);
    // With a token it joins there.
    let token = secured.token("token", &["--runtime", "default"]);
    let mut node = secured.node("n1", Some(&token));
    secured.until_logged(&node, "joining anew").await;
    wait_for("the node", || async {
        let nodes = secured.json(&["nodes", "list"]);
        (nodes[0]["state"] == "Ready").then_some(())
    })
    .await;
    node.terminate();

    // It is revoked by the name that it is shown by, which need not be the one that it joined with.
    let mut arguments = secured.node_arguments("n1");
    arguments[4] = "renamed".to_owned();
    let renamed = Program::ferry(&arguments, &[], secured.path("renamed.log"));
    secured.until_logged(&renamed, "registered").await;
    assert!(secured.cli(&["nodes", "revoke", "renamed"]).status.success());
    let words = last_words(renamed).await;
    assert!(words.contains("this node was revoked"), "{words}");
}
