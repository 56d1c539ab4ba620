//! Spans: one trace a run, from all programs, over every restart; and a collector that is away changes nothing.

use ferry_tests::{Cluster, ClusterOptions, free_port, wait_for, write_flights};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// What a collector was sent: bodies of requests for traces.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Vec<u8>>>>);

impl Collector {
    /// Takes everything, at the address that is given back.
    fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let taking = collector.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taking = taking.clone();
                std::thread::spawn(move || taking.take(stream));
            }
        });
        (collector, address)
    }

    fn take(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let (mut path, mut length, mut line) = (String::new(), 0, String::new());
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) && line.trim() != "" {
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = reader.get_mut().write_all(answer.as_bytes());
        if path == "/v1/traces" {
            self.0.lock().unwrap().push(body);
        }
    }

    /// Places of these bytes in all that came.
    fn count(&self, bytes: &[u8]) -> usize {
        let bodies = self.0.lock().unwrap();
        bodies.iter().flat_map(|body| body.windows(bytes.len())).filter(|window| *window == bytes).count()
    }
}

/// A text as protobuf has it: its length, then its bytes.
fn text(words: &str) -> Vec<u8> {
    [&[u8::try_from(words.len()).unwrap()][..], words.as_bytes()].concat()
}

#[tokio::test]
async fn coordinators_and_nodes_write_one_trace_of_a_run() {
    let (collector, address) = Collector::start();
    let options = ClusterOptions { nodes: 2, collector: address, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("traced", &cluster.flights_activity()).await;
    cluster.until("traced", "files staged", |r| r["copy"]["filesDone"].as_u64() > Some(2)).await;
    cluster.restart_coordinator().await;
    let report = cluster.finish("traced").await;
    assert_eq!(report["rowsCopied"].as_i64(), Some(expected.count), "{report:#}");

    // The first half of `printf traced | sha256sum`.
    let digest = ring::digest::digest(&ring::digest::SHA256, b"traced");
    let trace = [&[16_u8][..], &digest.as_ref()[..16]].concat();
    // The spans of the end come last.
    let commands = report["ingest"].as_array().unwrap().len();
    let spans = wait_for("spans", || async {
        let have = (collector.count(&text("Succeeded")) > 0, collector.count(&text("command")));
        (have.0 && have.1 >= commands).then_some(collector.count(&trace))
    })
    .await;
    // The run, its listing, at least one attempt, and each chunk twice: it is staged and ingested.
    assert!(spans >= 3 + 2 * commands, "{spans} spans, {commands} commands");
    for words in ["ferry-coordinator", "ferry-node", "listing", "attempt", "chunk", "node-0", "node-1", "Succeeded"] {
        assert!(collector.count(&text(words)) > 0, "{words}");
    }
    for secret in [cluster.azurite.key(), "sig=", "/source/"] {
        assert_eq!(collector.count(secret.as_bytes()), 0, "{secret} is nothing for a collector");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_changes_nothing() {
    let collector = format!("http://127.0.0.1:{}", free_port());
    let cluster = Cluster::start(ClusterOptions { nodes: 2, collector, ..ClusterOptions::default() }).await;
    let expected = write_flights(&cluster.source());
    cluster.submit("alone", &cluster.flights_activity()).await;
    let report = cluster.finish("alone").await;
    crate::copies::assert_whole(&cluster, &report, &expected).await;
    let log = || Cluster::log_of(&cluster.coordinator);
    wait_for("a word of it", || async { log().contains("spans are dropped").then_some(()) }).await;
    assert_eq!(log().matches("spans are dropped").count(), 1, "it is said once:\n{}", log());
}
