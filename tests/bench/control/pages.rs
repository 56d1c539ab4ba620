//! How long what the pages ask for takes, with all units in the store and all nodes at the coordinator.

use serde_json::Value;
use std::time::{Duration, Instant};

/// How often each is asked.
const ROUNDS: usize = 7;

/// What a page shows, and what it asks for; `{after}` is the place from which a list goes on, as a parameter.
const ASKED: [(&str, &str); 13] = [
    ("the program of the pages", "/"),
    ("runs", "/api/v1/runs?limit=50"),
    ("one run", "/api/v1/runs/control"),
    ("files by path", "/api/v1/runs/control/files?limit=100"),
    ("files by path, the next page", "/api/v1/runs/control/files?limit=100&{after}"),
    ("files by path, from the last", "/api/v1/runs/control/files?limit=100&order=desc"),
    ("files by size", "/api/v1/runs/control/files?limit=100&sort=size&order=desc"),
    ("files by state", "/api/v1/runs/control/files?limit=100&sort=state"),
    ("files in one state", "/api/v1/runs/control/files?limit=100&state=Dropped"),
    ("files, a search that finds many", "/api/v1/runs/control/files?limit=100&search=part-0000"),
    ("files, a search that finds none", "/api/v1/runs/control/files?limit=100&search=nowhere"),
    ("throughput over time", "/api/v1/runs/control/history"),
    ("nodes", "/api/v1/nodes"),
];

async fn ask(http: &reqwest::Client, address: &str) -> (Duration, Vec<u8>) {
    let asked = Instant::now();
    let answer = http.get(address).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{address}: {}", answer.status());
    let body = answer.bytes().await.expect("a body").to_vec();
    (asked.elapsed(), body)
}

/// Asks for each some times, and prints a table.
pub(crate) async fn measure(http: &reqwest::Client, origin: &str) {
    let (_, first) = ask(http, &format!("{origin}/api/v1/runs/control/files?limit=100")).await;
    let first: Value = serde_json::from_slice(&first).expect("JSON");
    let next = first["next"].as_str().expect("more than one page of files");
    let encoded = reqwest::Url::parse_with_params("http://any/", [("after", next)]).expect("an address");
    let after = encoded.query().expect("a query");
    println!("\n| asked for | median | worst | bytes |\n|---|---|---|---|");
    for (what, path) in ASKED {
        let address = format!("{origin}{}", path.replace("{after}", after));
        let (mut times, mut bytes) = (Vec::new(), 0);
        for _ in 0..ROUNDS {
            let (took, body) = ask(http, &address).await;
            times.push(took);
            bytes = body.len();
        }
        times.sort();
        let ms = |at: usize| times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
        println!("| {what} | {:.1} ms | {:.1} ms | {bytes} |", ms(ROUNDS / 2), ms(ROUNDS - 1));
    }
}
