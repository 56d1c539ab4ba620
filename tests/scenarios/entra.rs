//! Sign-in at Entra ID: tokens for the cluster, keys for storage, and what nodes get of that.

use crate::attacks::opens_its_own_blobs_alone;
use ferry_tests::{APPLICATION, Azurite, EntraServer, Intruder, Program, Secured, SecuredOptions, TENANT, wait_for};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::fs;

/// A secured coordinator whose cluster and storage ask for tokens.
async fn start(entra: &EntraServer, more: &[(&'static str, &str)]) -> Secured {
    let mut environment = entra.environment();
    environment.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Secured::start_with(SecuredOptions {
        environment,
        adx: vec!["--login-endpoint".into(), entra.address()],
        ..SecuredOptions::default()
    })
    .await
}

fn principal(secret: &str) -> Value {
    json!({"type": "servicePrincipal", "tenant": TENANT, "servicePrincipalId": APPLICATION,
           "servicePrincipalKey": {"secret": secret}})
}

#[tokio::test]
async fn each_identity_opens_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let entra = EntraServer::start(folder.path()).await;
    let secured = start(&entra, &[("FERRY_TEST_SECRET", "application-secret")]).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let _node = secured.node("n", Some(&token));
    let rows = secured.write_source(2);
    for (number, (how, auth)) in (1..).zip([
        ("secret", principal("env:FERRY_TEST_SECRET")),
        ("managed", json!({"type": "managedIdentity"})),
        ("assertion", json!({"type": "workloadIdentity"})),
    ]) {
        let run = format!("by-{how}");
        let mut activity = secured.activity();
        activity["sink"]["auth"] = auth;
        let before = entra.asked().len();
        secured.submit_activity(&run, &activity);
        let report = secured.finish(&run).await;
        assert_eq!(report["status"], "Succeeded", "{report:#}");
        // The audience is the one that the cluster tells, and one token does for a run.
        assert_eq!(entra.asked()[before..], [format!("{how} https://local-adx.kusto.example")]);
        assert_eq!(secured.rows_as(&entra), number * rows);
    }
}

#[tokio::test]
async fn a_wrong_secret_is_told_and_a_server_that_is_away_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let entra = EntraServer::start(folder.path()).await;
    let more = [("FERRY_TEST_SECRET", "application-secret"), ("FERRY_TEST_WRONG", "no-such-secret")];
    let secured = start(&entra, &more).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let _node = secured.node("n", Some(&token));
    let rows = secured.write_source(1);
    let mut activity = secured.activity();
    activity["sink"]["auth"] = principal("env:FERRY_TEST_WRONG");
    secured.submit_activity("wrong", &activity);
    let report = secured.finish("wrong").await;
    assert_eq!(report["status"], "Failed", "{report:#}");
    let told = report["errors"].to_string();
    assert!(told.contains("AADSTS7000215") && told.contains("SinkForbidden"), "{told}");
    assert!(!told.contains("no-such-secret"), "{told}");

    entra.refuse_with(Some(503));
    activity["sink"]["auth"] = principal("env:FERRY_TEST_SECRET");
    secured.submit_activity("later", &activity);
    wait_for("a sign-in that was put off", || async {
        entra.asked().iter().any(|line| line.starts_with("refused")).then_some(())
    })
    .await;
    entra.refuse_with(None);
    let report = secured.finish("later").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(secured.rows_as(&entra), rows);
    for log in ["coordinator.log", "n.log", "ferry.db"] {
        let bytes = fs::read(secured.path(log)).unwrap();
        for secret in ["application-secret", "no-such-secret", "eyJ"] {
            let is_in = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_in, "{log} holds {secret}");
        }
    }
}

#[tokio::test]
async fn storage_is_opened_by_an_identity_and_nodes_may_only_write() {
    let folder = tempfile::tempdir().unwrap();
    let entra = EntraServer::start(folder.path()).await;
    // Behind the same authority, so that one file makes both believed.
    let azurite = Azurite::start_secured(folder.path(), &folder.path().join("entra")).await;
    let secured = start(&entra, &[("FERRY_TEST_SECRET", "application-secret")]).await;
    let token = secured.token("token", &["--runtime", "default", "--uses", "any"]);
    let rows = secured.write_source(4);
    let mut activity = secured.activity();
    activity["sink"]["auth"] = principal("env:FERRY_TEST_SECRET");
    activity["staging"] = json!({"type": "AzureBlob", "container": azurite.container, "integrity": "md5",
                                 "auth": principal("env:FERRY_TEST_SECRET")});
    // So slow that there is something left for others.
    let mut arguments = secured.node_arguments("n");
    arguments.extend(["--token-file".into(), token.display().to_string(), "--bandwidth".into(), "20k".into()]);
    let _node = Program::ferry(&arguments, &entra.environment(), secured.path("n.log"));
    secured.submit_activity("run", &activity);
    wait_for("the plan", || async { (secured.json(&["runs", "show", "run"])["state"] == "Copying").then_some(()) })
        .await;

    // What a node gets with its work, tried for everything that it is not for.
    let intruder = Intruder::joined(secured.grpc_port, &secured.authority, &token, "default").await;
    intruder.register("i", "default", (1, 1)).await.unwrap();
    let sas = wait_for("a grant", || async { intruder.staging_of_grant("i").await }).await;
    let (container, query) = sas.split_once('?').unwrap();
    assert_eq!(container, azurite.container);
    let http = azurite.client();
    let blob = format!("{container}/run/1/9/0.csv?{query}");
    let put = http.put(&blob).header("x-ms-blob-type", "BlockBlob").body("a,b\n").send().await.unwrap();
    assert_eq!(put.status(), StatusCode::CREATED, "{}", put.text().await.unwrap_or_default());
    for (what, request) in [
        ("read", http.get(&blob)),
        ("delete", http.delete(&blob)),
        ("list", http.get(format!("{container}?restype=container&comp=list&{query}"))),
        ("read elsewhere", http.get(format!("{}/other?{query}", container.replace("/staging", "/elsewhere")))),
    ] {
        let status = request.send().await.unwrap().status();
        assert_eq!(status, StatusCode::FORBIDDEN, "{what}");
    }
    // The unit goes to others: that was a node of an older release. One of this release may write its own blobs alone.
    intruder.leave("i").await.unwrap();
    intruder.register("j", "default", (1, 1)).await.unwrap();
    let granted = wait_for("a grant", || async { intruder.blobs_of_grant("j").await }).await;
    assert_eq!(granted.container, azurite.container);
    assert!(granted.queries[0].contains("&skoid="), "signed with a user delegation key");
    opens_its_own_blobs_alone(&http, &granted).await;
    intruder.leave("j").await.unwrap();
    let report = secured.finish("run").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(secured.rows_as(&entra), rows);
    let listing = azurite.listing().await;
    assert!(listing.contains("<Blobs") && !listing.contains("<Name>"), "{listing}");
    let asked: Vec<_> = entra.asked().into_iter().filter(|line| line.ends_with("https://storage.azure.com")).collect();
    assert_eq!(asked, ["secret https://storage.azure.com"], "one token and one key serve all");
}
