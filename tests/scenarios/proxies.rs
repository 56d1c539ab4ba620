//! Nodes that can reach nothing but a proxy.

use ferry_tests::{Azurite, BehindProxy, Secured, SecuredOptions, wait_for, write_certificate};
use serde_json::json;
use std::fs;

#[tokio::test]
async fn a_node_behind_a_proxy_with_a_password_joins_and_copies() {
    let folder = tempfile::tempdir().unwrap();
    let network = BehindProxy::start(folder.path()).await;
    let authority = write_certificate(folder.path(), "authority.pem");
    let azurite = Azurite::start_secured(folder.path(), folder.path()).await;
    let environment =
        vec![("SSL_CERT_FILE", authority.display().to_string()), ("FERRY_TEST_KEY", azurite.key().to_owned())];
    let options = SecuredOptions { environment: environment.clone(), ..SecuredOptions::default() };
    let secured = Secured::start_with(options).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let rows = secured.write_source(3);
    let mut activity = secured.activity();
    activity["staging"] = json!({"type": "AzureBlob", "container": azurite.container, "integrity": "md5",
                                 "accountKey": {"secret": "env:FERRY_TEST_KEY"}});
    secured.submit_activity("run", &activity);

    let mut arguments = secured.node_arguments("n");
    arguments.extend(["--token-file".into(), token.display().to_string()]);
    // With a wrong password it says so, and never what it was.
    let unknown = network.ferry(&arguments, &environment, false, "unknown.log");
    secured.until_logged(&unknown, "are user and password right").await;
    let told = fs::read_to_string(&unknown.log).unwrap();
    assert!(!told.contains("another"), "{told}");
    drop(unknown);

    let node = network.ferry(&arguments, &environment, true, "node.log");
    secured.until_logged(&node, "registered").await;
    let report = secured.finish("run").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(secured.rows(), (rows, rows));
    let (to_proxy, elsewhere) = network.packets();
    assert!(to_proxy > 100, "{to_proxy} packets");
    assert_eq!(elsewhere, 0, "packets that were not for the proxy");
    // Both kinds of traffic went that way.
    let log = wait_for("the proxy's log", || async { Some(network.proxy_log()) }).await;
    let storage = azurite.container.split('/').nth(2).unwrap().to_owned();
    for place in [format!("localhost:{}", secured.grpc_port), storage] {
        assert!(log.contains(&format!("CONNECT {place}")), "{place}: {log}");
    }
    assert!(!fs::read_to_string(&node.log).unwrap().contains("correct-horse"));
}
