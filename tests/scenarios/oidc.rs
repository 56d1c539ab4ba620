//! Programs with tokens of somebody else.

use ferry_tests::{Issuer, Secured, ferry, free_port, wait_for};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::fs;

/// A secured coordinator that believes the issuer.
async fn start(issuer: &Issuer) -> Secured {
    Secured::start(&["--oidc-issuer", issuer.address(), "--oidc-audience", Issuer::AUDIENCE]).await
}

/// What comes of a look at the runs, and of a look at the tokens, which is for administrators.
async fn looks(secured: &Secured, token: &str) -> [(StatusCode, Value); 2] {
    let authority = reqwest::Certificate::from_pem(&fs::read(&secured.authority).unwrap()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
    let look = async |path: &str| {
        let url = format!("https://localhost:{}/api/v1/{path}", secured.http_port);
        let answer = http.get(url).bearer_auth(token).send().await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap())
    };
    [look("runs").await, look("tokens").await]
}

fn roles(names: &[&str]) -> Value {
    json!({"roles": names})
}

#[tokio::test]
async fn tokens_of_an_issuer_open_what_their_roles_say() {
    let issuer = Issuer::start().await;
    let secured = start(&issuer).await;
    for (names, runs, tokens) in [
        (&["ferry.viewer"][..], StatusCode::OK, StatusCode::FORBIDDEN),
        (&["of.others", "ferry.operator"], StatusCode::OK, StatusCode::FORBIDDEN),
        (&["ferry.admin"], StatusCode::OK, StatusCode::OK),
        (&["of.others"], StatusCode::FORBIDDEN, StatusCode::FORBIDDEN),
    ] {
        let [(of_runs, _), (of_tokens, problem)] = looks(&secured, &issuer.token(&roles(names))).await;
        assert_eq!((of_runs, of_tokens), (runs, tokens), "{names:?}: {problem}");
    }
    // The CLI takes one like any other token.
    let file = |name: &str, token: String| {
        let path = secured.path(name);
        fs::write(&path, token).unwrap();
        path
    };
    let (viewer, operator) = (
        file("viewer", issuer.token(&roles(&["ferry.viewer"]))),
        file("operator", issuer.token(&roles(&["ferry.operator"]))),
    );
    let told = secured.submit_with(&viewer, "run");
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && words.contains("the token's role is viewer; this needs operator"), "{words}");
    assert!(secured.submit_with(&operator, "run").status.success());
    // What is no good is told in words, and ferry's own tokens are as good as ever.
    let now = jiff::Timestamp::now().as_second();
    for (case, changes, words) in [
        ("ended", json!({"exp": now - 120, "roles": ["ferry.admin"]}), "the token has ended"),
        ("not yet good", json!({"nbf": now + 120, "roles": ["ferry.admin"]}), "not good yet"),
        ("for others", json!({"aud": "api://other", "roles": ["ferry.admin"]}), "is not for api://ferry"),
        ("by others", json!({"iss": "https://evil.example", "roles": ["ferry.admin"]}), "is not by issuer"),
    ] {
        let [(status, problem), _] = looks(&secured, &issuer.token(&changes)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{case}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{case}: {problem}");
    }
    assert!(secured.cli(&["runs", "list"]).status.success());
    let log = fs::read_to_string(secured.path("coordinator.log")).unwrap();
    assert!(!log.contains("eyJ"), "{log}");
}

#[tokio::test]
async fn an_issuer_that_is_away_stops_nobody_whose_key_is_known() {
    let issuer = Issuer::start().await;
    issuer.set_away(true);
    let mut secured = start(&issuer).await;
    let [(status, problem), _] = looks(&secured, &issuer.token(&roles(&["ferry.viewer"]))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    assert_eq!(problem["title"], "IssuerUnreachable");
    assert!(problem["detail"].as_str().unwrap().contains(issuer.address()), "{problem}");
    assert!(
        secured.cli(&["runs", "list"]).status.success(),
        "the coordinator's own tokens are no matter of the issuer"
    );
    issuer.set_away(false);
    let token = issuer.token(&roles(&["ferry.viewer"]));
    wait_for("the issuer's keys", || async { (looks(&secured, &token).await[0].0 == StatusCode::OK).then_some(()) })
        .await;
    issuer.set_away(true);
    assert_eq!(looks(&secured, &token).await[0].0, StatusCode::OK);
    // A coordinator that starts anew knows no key.
    secured.restart().await;
    assert_eq!(looks(&secured, &token).await[0].0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_unknown_key_has_the_issuer_asked_but_not_by_everybody() {
    let issuer = Issuer::start().await;
    let secured = start(&issuer).await;
    let old = issuer.token(&roles(&["ferry.viewer"]));
    assert_eq!(looks(&secured, &old).await[0].0, StatusCode::OK);
    let before = issuer.requests();
    issuer.rotate();
    let new = issuer.token(&roles(&["ferry.viewer"]));
    for _ in 0..8 {
        let status = looks(&secured, &new).await[0].0;
        assert!(matches!(status, StatusCode::OK | StatusCode::UNAUTHORIZED), "{status}");
    }
    assert!(issuer.requests() <= before + 1, "{} requests", issuer.requests() - before);
    // In time it is asked, and who brings the new key is let in.
    wait_for("the new key", || async { (looks(&secured, &new).await[0].0 == StatusCode::OK).then_some(()) }).await;
    assert_eq!(issuer.requests(), before + 1);
    assert_ne!(looks(&secured, &old).await[0].0, StatusCode::OK, "the old key is not published any more");
}

#[tokio::test]
async fn an_issuer_needs_tls_and_an_address_that_can_be_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (grpc, http) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let (store, tls) = (format!("sqlite:{}", path("f.db")), path("tls"));
    let common = ["coordinator", "--grpc", &grpc, "--http", &http, "--store", &store];
    for (case, more, words) in [
        ("without TLS", &["--oidc-issuer", "https://login.example", "--oidc-audience", "a"][..], "--tls"),
        ("no audience", &["--tls", &tls, "--oidc-issuer", "https://login.example"], "--oidc-audience"),
        ("in clear", &["--tls", &tls, "--oidc-issuer", "http://login.example", "--oidc-audience", "a"], "https://"),
        (
            "no role of ferry's",
            &["--tls", &tls, "--oidc-issuer", "https://l.example", "--oidc-audience", "a", "--oidc-role", "x=root"],
            "root",
        ),
    ] {
        let output = ferry(&[&common[..], more].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{case}: {told}");
        assert!(told.contains(words), "{case}: {told}");
    }
}
