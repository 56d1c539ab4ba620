//! Spans: one trace a run, from all programs, over every restart, that opens in Jaeger; and a collector that is away changes nothing.

use ferry_tests::{Cluster, ClusterOptions, Program, free_port, leaks, python_in, wait_for, write_flights};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
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
        // Before the answer, so that all is here that a program knows as taken.
        if path == "/v1/traces" {
            self.0.lock().unwrap().push(body);
        }
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = reader.get_mut().write_all(answer.as_bytes());
    }

    /// Places of these bytes in all that came.
    fn count(&self, bytes: &[u8]) -> usize {
        let bodies = self.0.lock().unwrap();
        bodies.iter().flat_map(|body| body.windows(bytes.len())).filter(|window| *window == bytes).count()
    }

    /// What Jaeger holds of all that came: the spans of each trace, by its id.
    fn open_in_jaeger(&self) -> BTreeMap<String, Vec<Value>> {
        let folder = tempfile::tempdir().unwrap();
        for (number, body) in self.0.lock().unwrap().iter().enumerate() {
            fs::write(folder.path().join(number.to_string()), body).unwrap();
        }
        let traces = python_in("jaeger-venv", "open_in_jaeger.py", &[folder.path().to_str().unwrap()]);
        serde_json::from_value(traces).unwrap()
    }
}

/// A trace as Jaeger has it is one tree: a run; its listing, attempts and commands; chunks below their attempts. What failed, and
/// nothing else, is an error, and has a code.
fn assert_tree(spans: &[Value]) {
    let by_id: HashMap<&str, &Value> = spans.iter().map(|span| (span["id"].as_str().unwrap(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "each span has an id of its own");
    assert_eq!(count_named(spans, "run"), 1, "{spans:#?}");
    for span in spans {
        let (service, name_above) = match span["name"].as_str().unwrap() {
            "run" => ("ferry-coordinator", None),
            "command" => ("ferry-coordinator", Some("run")),
            "listing" | "attempt" => ("ferry-node", Some("run")),
            "chunk" => ("ferry-node", Some("attempt")),
            name => panic!("{name} is no span of ferry"),
        };
        let find = |id: &str| by_id.get(id).copied().unwrap_or_else(|| panic!("what {span:#} is part of is missing"));
        let above = span["parent"].as_str().map(find);
        assert_eq!(above.and_then(|above| above["name"].as_str()), name_above, "{span:#}");
        assert_eq!(span["service"], service, "{span:#}");
        let tags = &span["tags"];
        assert_eq!(tags["node"].is_string(), service == "ferry-node", "{span:#}");
        if name_above == Some("attempt") {
            let of_above = &above.unwrap()["tags"];
            for tag in ["unit", "attempt", "node"] {
                assert_eq!(tags[tag], of_above[tag], "{span:#}");
            }
        }
        assert_eq!(tags["error"] == true, tags["code"].is_string(), "{span:#}");
    }
}

fn count_named(spans: &[Value], name: &str) -> usize {
    spans.iter().filter(|span| span["name"] == name).count()
}

/// The id of a run's trace: the first half of `printf RUN | sha256sum`.
fn trace_of(run: &str) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, run.as_bytes()).as_ref()[..16].to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

    let trace = [&[16_u8][..], &trace_of("traced")].concat();
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

    // A second run, which fails: its message has a path, its spans only a code.
    let mut outside = cluster.flights_activity();
    outside["source"]["folderPath"] = json!("/etc");
    outside["source"]["fileName"] = json!("passwd");
    cluster.submit("outside", &outside).await;
    cluster.finish("outside").await;
    wait_for("the span of its end", || async { (collector.count(&text("Failed")) > 0).then_some(()) }).await;
    // A node that is told to stop sends the spans it still has.
    cluster.nodes.iter_mut().for_each(Program::terminate);

    let traces = collector.open_in_jaeger();
    let (traced, failed) = (hex(&trace_of("traced")), hex(&trace_of("outside")));
    assert_eq!(traces.len(), 2, "one trace a run: {:?}", traces.keys());
    for spans in [&traces[&traced], &traces[&failed]] {
        assert_tree(spans);
    }
    let named = |name: &str| count_named(&traces[&traced], name);
    assert_eq!(named("command"), commands);
    assert!(named("chunk") >= commands, "{} chunks, {commands} commands", named("chunk"));
    assert!(named("listing") > 0, "somebody listed the source");
    let mut errors: Vec<_> =
        traces[&failed].iter().map(|span| (span["name"].as_str(), span["tags"]["code"].as_str())).collect();
    errors.sort_unstable();
    assert_eq!(errors, [(Some("listing"), Some("PathNotAllowed")), (Some("run"), Some("PathNotAllowed"))]);

    for secret in [cluster.azurite.key(), "sig=", "/source/", "passwd"] {
        assert_eq!(collector.count(secret.as_bytes()), 0, "{secret} is nothing for a collector");
    }
    let shown = ("Jaeger".to_owned(), serde_json::to_vec(&traces).unwrap());
    assert_eq!(leaks(&[shown]), Vec::<String>::new());
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
