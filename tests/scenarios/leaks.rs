//! Every scenario is searched for secrets when it ends; here, that the search sees what it is for.

use ferry_tests::{Cluster, ClusterOptions, Place, Secured, leaks, write_flights};
use serde_json::json;

/// In no scenario but these, and in everything that tells of the run.
const MARK: &str = "a-run-with-a-mark";

/// Which of the places hold a text.
fn holders<'a>(places: &'a [Place], text: &str) -> Vec<&'a str> {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    places.iter().filter(|(_, bytes)| holds(bytes)).map(|(place, _)| place.as_str()).collect()
}

fn assert_seen(places: &[Place], ends: &[&str]) {
    let holders = holders(places, MARK);
    for end in ends {
        assert!(holders.iter().any(|place| place.ends_with(end)), "{end} is not seen: {holders:?}");
    }
}

const OF_RUN: [&str; 4] =
    ["/api/v1/runs", "/api/v1/runs/a-run-with-a-mark", "/a-run-with-a-mark/report", "/a-run-with-a-mark/ledger"];

#[tokio::test]
async fn the_search_sees_answers_and_store_of_a_secured_coordinator() {
    let secured = Secured::start(&[]).await;
    let token = secured.token("token", &["--runtime", "default"]);
    let node = secured.node("n", Some(&token));
    secured.until_logged(&node, "registered").await;
    secured.write_source(1);
    secured.submit(MARK);
    assert_eq!(secured.finish(MARK).await["status"], "Succeeded");
    let mut places = secured.places();
    assert_seen(&places, &OF_RUN);
    assert!(holders(&places, MARK).iter().any(|place| place.contains("ferry.db")), "the store is not seen");
    for (place, text) in [("/api/v1/nodes", "nodeId"), ("/api/v1/tokens", "default"), ("/metrics", "ferry_build_info")]
    {
        assert!(holders(&places, text).contains(&place), "{place} is not seen");
    }
    assert_eq!(leaks(&places), Vec::<String>::new());
    // Had the token been anywhere, it would have been found.
    places.push(("elsewhere".to_owned(), std::fs::read(&token).unwrap()));
    let found = leaks(&places);
    assert!(found.len() == 1 && found[0].starts_with("elsewhere holds the secret of a token"), "{found:?}");
}

#[tokio::test]
async fn the_search_sees_answers_and_store_of_a_cluster_with_signed_addresses() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    write_flights(&cluster.source());
    let mut activity = cluster.flights_activity();
    activity["settings"]["chunkSizeMB"] = json!(4);
    cluster.submit(MARK, &activity).await;
    assert_eq!(cluster.finish(MARK).await["status"], "Succeeded");
    let mut places = cluster.places();
    assert_seen(&places, &OF_RUN);
    assert!(holders(&places, MARK).iter().any(|place| place.contains("ferry.db")), "the store is not seen");
    assert_eq!(leaks(&places), Vec::<String>::new());
    // What a command names its blobs by.
    let signed = format!("{}/b.csv.gz?{}", cluster.azurite.container, cluster.azurite.expired_sas());
    places.push(("elsewhere".to_owned(), signed.into_bytes()));
    places.push(("elsewhere too".to_owned(), cluster.azurite.key().as_bytes().to_vec()));
    let found = leaks(&places);
    assert!(found.iter().any(|leak| leak.contains("elsewhere holds the signature")), "{found:?}");
    assert!(found.iter().any(|leak| leak.contains("elsewhere too holds the key")), "{found:?}");
}
