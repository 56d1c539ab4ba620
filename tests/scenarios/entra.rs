//! Sign-in at Entra ID: tokens for the cluster, keys for storage, and what nodes get of that.

use crate::attacks::opens_its_own_blobs_alone;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ferry_tests::{
    APPLICATION, Azurite, EntraServer, Intruder, MetadataService, Program, Secured, SecuredOptions, TENANT, ferry_path,
    wait_for,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

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

fn certified_by(secret: &str) -> Value {
    json!({"type": "servicePrincipal", "tenant": TENANT, "servicePrincipalId": APPLICATION,
           "servicePrincipalCertificate": {"secret": secret}})
}

fn certified(file: &Path) -> Value {
    certified_by(&format!("file:{}", file.display()))
}

/// `ferry query` of the table, signed in as the environment says.
fn query_as(secured: &Secured, auth: &str, environment: &[(&'static str, String)]) -> Output {
    let activity = secured.activity();
    let endpoint = activity["sink"]["endpoint"].as_str().unwrap();
    let arguments = ["query", "T | count", "--endpoint", endpoint, "--database", "Test", "--auth", auth];
    let environment = environment.iter().map(|(name, value)| (*name, value.as_str()));
    Command::new(ferry_path()).args(arguments).args(["--output", "json"]).envs(environment).output().unwrap()
}

/// Waits for a run that cannot succeed, whether it is swept or not. Returns what it says.
async fn why_failed(secured: &Secured, run: &str) -> String {
    wait_for("the end of the run", || async {
        (secured.json(&["runs", "show", run])["isFinal"] == true).then_some(())
    })
    .await;
    let report = secured.json(&["runs", "report", run]);
    assert_eq!(report["status"], "Failed", "{report:#}");
    report["errors"].to_string()
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

#[tokio::test]
async fn a_certificate_opens_the_cluster_and_may_be_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let entra = EntraServer::start(folder.path()).await;
    // Whoever needs a token asks for one: each with an assertion of its own.
    entra.shorten_tokens(200);
    let secured = start(&entra, &[]).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let _node = secured.node("n", Some(&token));
    let rows = secured.write_source(1);
    let file = secured.path("client.pem");
    let mut activity = secured.activity();
    activity["sink"]["auth"] = certified(&file);
    for (number, name) in (1..).zip(["application", "renewed"]) {
        let part = secured.path("part");
        fs::copy(entra.certificate(name), &part).unwrap();
        fs::rename(&part, &file).unwrap();
        let before = entra.asked().len();
        secured.submit_activity(name, &activity);
        let report = secured.finish(name).await;
        assert_eq!(report["status"], "Succeeded", "{report:#}");
        let asked = entra.asked();
        let line = format!("{name} https://local-adx.kusto.example");
        assert!(asked.len() > before && asked[before..].iter().all(|seen| *seen == line), "{:?}", &asked[before..]);
        assert_eq!(secured.rows_as(&entra), number * rows);
    }
    // What nobody knows is refused in Entra's words, what cannot be used in ours.
    activity["sink"]["auth"] = certified(&entra.certificate("stranger"));
    secured.submit_activity("stranger", &activity);
    let told = why_failed(&secured, "stranger").await;
    assert!(told.contains("SinkForbidden") && told.contains("AADSTS700027"), "{told}");
    let pem = fs::read_to_string(&file).unwrap();
    fs::write(secured.path("cut.pem"), &pem[..pem.find("-----BEGIN CERTIFICATE").unwrap()]).unwrap();
    activity["sink"]["auth"] = certified(&secured.path("cut.pem"));
    secured.submit_activity("cut", &activity);
    let told = why_failed(&secured, "cut").await;
    assert!(told.contains("cut.pem") && told.contains("no certificate for its key"), "{told}");
    activity["sink"]["auth"] = certified(&secured.path("nowhere.pem"));
    secured.submit_activity("nowhere", &activity);
    let told = why_failed(&secured, "nowhere").await;
    assert!(told.contains("SecretMissing") && told.contains("nowhere.pem"), "{told}");
    // The CLI takes one from where Microsoft's tools do.
    let mut environment = entra.environment();
    environment.push(("AZURE_CLIENT_CERTIFICATE_PATH", file.display().to_string()));
    let output = query_as(&secured, "service-principal", &environment);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = fs::read_to_string(secured.path("coordinator.log")).unwrap();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("eyJ"), "{log}");
}

#[tokio::test]
async fn a_certificate_opens_storage() {
    let folder = tempfile::tempdir().unwrap();
    let entra = EntraServer::start(folder.path()).await;
    let azurite = Azurite::start_secured(folder.path(), &folder.path().join("entra")).await;
    let secured = start(&entra, &[]).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let _node = secured.node("n", Some(&token));
    let rows = secured.write_source(1);
    let mut activity = secured.activity();
    let auth = certified(&entra.certificate("application"));
    activity["sink"]["auth"] = auth.clone();
    activity["staging"] =
        json!({"type": "AzureBlob", "container": azurite.container, "integrity": "md5", "auth": auth});
    secured.submit_activity("run", &activity);
    let report = secured.finish("run").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(secured.rows_as(&entra), rows);
    assert!(entra.asked().contains(&"application https://storage.azure.com".to_owned()), "{:?}", entra.asked());
}

#[tokio::test]
async fn the_authority_is_the_one_that_the_cluster_names() {
    let folder = tempfile::tempdir().unwrap();
    let entra = EntraServer::start(folder.path()).await;
    let mut environment = entra.environment_without_authority();
    environment.push(("FERRY_TEST_SECRET", "application-secret".to_owned()));
    let adx = vec!["--login-endpoint".into(), entra.address()];
    let secured = Secured::start_with(SecuredOptions { environment, adx, ..SecuredOptions::default() }).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let _node = secured.node("n", Some(&token));
    let rows = secured.write_source(1);
    for (number, (how, auth)) in (1..).zip([
        ("secret", principal("env:FERRY_TEST_SECRET")),
        ("application", certified(&entra.certificate("application"))),
        ("assertion", json!({"type": "workloadIdentity"})),
    ]) {
        let mut activity = secured.activity();
        activity["sink"]["auth"] = auth;
        secured.submit_activity(how, &activity);
        let report = secured.finish(how).await;
        assert_eq!(report["status"], "Succeeded", "{report:#}");
        let line = format!("{how} https://local-adx.kusto.example");
        assert!(entra.asked().contains(&line), "{how}: {:?}", entra.asked());
        assert_eq!(secured.rows_as(&entra), number * rows);
    }
}

#[tokio::test]
async fn secrets_of_a_key_vault_open_cluster_and_storage() {
    let folder = tempfile::tempdir().unwrap();
    let entra = EntraServer::start(folder.path()).await;
    let azurite = Azurite::start(folder.path()).await;
    entra.keep_secret("storage-key", azurite.key());
    entra.keep_secret("application-key", "application-secret");
    let certificate = fs::read_to_string(entra.certificate("application")).unwrap();
    entra.keep_secret("application-certificate", &certificate);
    // The variables of workload identity are set: that is who asks.
    let secured = start(&entra, &[]).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let _node = secured.node("n", Some(&token));
    let rows = secured.write_source(2);
    let mut activity = secured.activity();
    let staging = |key: &str| {
        json!({"type": "AzureBlob", "container": azurite.container, "integrity": "md5",
               "accountKey": {"secret": entra.secret(key)}})
    };
    activity["staging"] = staging("storage-key");
    let by_certificate = certified_by(&entra.secret("application-certificate"));
    for (number, (run, auth)) in
        (1..).zip([("by-key", principal(&entra.secret("application-key"))), ("by-certificate", by_certificate)])
    {
        activity["sink"]["auth"] = auth;
        secured.submit_activity(run, &activity);
        let report = secured.finish(run).await;
        assert_eq!(report["status"], "Succeeded", "{report:#}");
        assert_eq!(secured.rows_as(&entra), number * rows);
    }
    // Each was asked for once, by one token.
    let asked = entra.asked();
    for line in [
        "assertion https://vault.azure.net",
        "vault storage-key",
        "vault application-key",
        "vault application-certificate",
        "secret https://local-adx.kusto.example",
        "application https://local-adx.kusto.example",
    ] {
        assert_eq!(asked.iter().filter(|seen| *seen == line).count(), 1, "{line}: {asked:?}");
    }
    // What is not there and what is not given is told, with who may not and what would help.
    for (name, words) in [
        ("no-such-key", &["SecretMissing", "/secrets/no-such-key", "has no such secret"][..]),
        ("forbidden", &["SecretMissing", "workloadIdentity may not read it", "Key Vault Secrets User", "the-caller"]),
    ] {
        activity["staging"] = staging(name);
        secured.submit_activity(name, &activity);
        let told = why_failed(&secured, name).await;
        for word in words {
            assert!(told.contains(word), "{word}: {told}");
        }
    }
    for place in ["coordinator.log", "n.log", "ferry.db"] {
        let bytes = fs::read(secured.path(place)).unwrap();
        for secret in [azurite.key(), "application-secret", "PRIVATE KEY", "eyJ"] {
            let is_in = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_in, "{place} holds {secret}");
        }
    }
}

#[tokio::test]
async fn a_vault_is_asked_as_whoever_the_environment_says() {
    let folder = tempfile::tempdir().unwrap();
    let entra = EntraServer::start(folder.path()).await;
    entra.keep_secret("application-key", "application-secret");
    let certificate = entra.certificate("application").display().to_string();
    for (who, how) in [("managedIdentity", "managed"), ("servicePrincipal", "application")] {
        let more = [("FERRY_KEYVAULT_AUTH", who), ("AZURE_CLIENT_CERTIFICATE_PATH", certificate.as_str())];
        let secured = start(&entra, &more).await;
        let token = secured.token("token", &["--runtime", "default"]);
        let _node = secured.node("n", Some(&token));
        secured.write_source(1);
        let mut activity = secured.activity();
        activity["sink"]["auth"] = principal(&entra.secret("application-key"));
        secured.submit_activity("run", &activity);
        let report = secured.finish("run").await;
        assert_eq!(report["status"], "Succeeded", "{report:#}");
        let line = format!("{how} https://vault.azure.net");
        assert!(entra.asked().contains(&line), "{who}: {:?}", entra.asked());
    }
    let secured = start(&entra, &[("FERRY_KEYVAULT_AUTH", "somebody")]).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let _node = secured.node("n", Some(&token));
    secured.write_source(1);
    let mut activity = secured.activity();
    activity["sink"]["auth"] = principal(&entra.secret("application-key"));
    secured.submit_activity("run", &activity);
    let told = why_failed(&secured, "run").await;
    assert!(told.contains("FERRY_KEYVAULT_AUTH") && told.contains("somebody"), "{told}");
}

/// A program in place of `az`: it notes how it is called.
fn write_az(folder: &Path, lines: &str) {
    let path = folder.join("az");
    fs::write(&path, format!("#!/bin/sh\necho \"$@\" >> {}\n{lines}\n", folder.join("asked").display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn whoever_signed_in_with_az_opens_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let entra = EntraServer::start(folder.path()).await;
    let ends = jiff::Timestamp::now().as_second() + 3_600;
    let claims = json!({"aud": "https://local-adx.kusto.example", "exp": ends});
    let access = format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let answer = json!({"accessToken": access, "expires_on": ends, "tokenType": "Bearer"});
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    write_az(&bin, &format!("echo '{answer}'"));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut secured = start(&entra, &[("PATH", path.as_str())]).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let _node = secured.node("n", Some(&token));
    let rows = secured.write_source(2);
    let mut activity = secured.activity();
    activity["sink"]["auth"] = json!({"type": "azureCli"});
    secured.submit_activity("run", &activity);
    let report = secured.finish("run").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(secured.rows_as(&entra), rows);
    // It is slow: one call does for the whole run.
    let asked = fs::read_to_string(bin.join("asked")).unwrap();
    assert_eq!(asked, "account get-access-token -o json --scope https://local-adx.kusto.example/.default\n");

    write_az(&bin, "echo \"Please run 'az login' to setup account.\" >&2; exit 1");
    secured.restart().await;
    secured.submit_activity("signed-out", &activity);
    let told = why_failed(&secured, "signed-out").await;
    assert!(told.contains("SinkForbidden") && told.contains("az login"), "{told}");
}

#[tokio::test]
async fn a_proxy_is_used_for_entra_and_left_out_where_no_proxy_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let entra = EntraServer::start(folder.path()).await;
    let secured = start(&entra, &[]).await;
    let mut environment = entra.environment();
    environment.push(("AZURE_CLIENT_SECRET", "application-secret".to_owned()));
    // Nobody listens there.
    environment.push(("HTTPS_PROXY", "http://127.0.0.1:9".to_owned()));
    environment.push(("NO_PROXY", String::new()));
    let before = entra.asked().len();
    let told = String::from_utf8_lossy(&query_as(&secured, "service-principal", &environment).stderr).into_owned();
    assert!(told.contains("Entra ID gave no token"), "{told}");
    assert_eq!(entra.asked().len(), before);
    environment.push(("NO_PROXY", "localhost".to_owned()));
    let output = query_as(&secured, "service-principal", &environment);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!told.contains("Entra ID gave no token"), "{told}");
    assert_eq!(entra.asked()[before..], ["secret https://local-adx.kusto.example"]);
}

#[tokio::test]
async fn a_machines_identity_is_asked_for_at_the_machine_whatever_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let service = MetadataService::start(folder.path()).await;
    let mut adx = service.command(ferry_path());
    adx.args([
        "local-adx",
        "--listen",
        "127.0.0.1:7490",
        "--login-endpoint",
        "https://login.microsoftonline.com",
        "--data",
    ]);
    adx.arg(folder.path().join("adx"));
    let _adx = Program::start(adx, folder.path().join("adx.log"));
    let answer = wait_for("an answer of the cluster", || async {
        let mut query = service.command(ferry_path());
        query.args(["query", ".show tables", "--endpoint", "http://127.0.0.1:7490", "--database", "Test"]);
        query.args(["--auth", "managed-identity", "--output", "json"]);
        query.env("HTTP_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1").env_remove("AZURE_CLIENT_ID");
        let output = query.output().unwrap();
        output.status.success().then_some(output)
    })
    .await;
    let rows: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(rows, json!([]));
    assert_eq!(service.asked(), ["machine https://local-adx.kusto.example"]);
}
