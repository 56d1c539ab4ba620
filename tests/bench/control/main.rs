//! How many units the coordinator can plan, lease, take reports of and ingest, and what that costs it.
//!
//! The coordinator is the real program, on a real store. Its nodes speak the real gRPC, each over a connection of its own,
//! and do no work: a listing is made up, and a unit is reported as staged as soon as it is granted. Its cluster answers
//! each command at once. So what is measured is the coordinator alone; this program shares the machine with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench ends by panicking, and prints what it measures"
)]

mod cluster;
mod nodes;
mod pages;
mod process;

use clap::Parser;
use ferry_tests::Postgres;
use nodes::Fleet;
use process::Coordinator;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Measures a coordinator with many units and nodes, and prints a line for each number of units.
#[derive(Parser)]
struct Options {
    /// Numbers of units, one run each.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    units: Vec<u64>,
    /// Nodes.
    #[arg(long, default_value_t = 1_000)]
    nodes: usize,
    /// Slots of each node.
    #[arg(long, default_value_t = 4)]
    slots: u32,
    /// `sqlite`, or `postgres`: a server of its own.
    #[arg(long, default_value = "sqlite")]
    store: String,
    /// A run of more units is cancelled after its first stage.
    #[arg(long, default_value_t = 100_000)]
    ingested_max: u64,
    /// Cancel each run as soon as it is listed, and measure what the pages ask for.
    #[arg(long)]
    listed_only: bool,
    /// The program under test.
    #[arg(long, default_value = "target/release/ferry")]
    ferry: PathBuf,
}

/// Asks about a run now and then, and keeps how long each answer took.
struct Watcher {
    http: reqwest::Client,
    run: String,
    answers: Vec<Duration>,
}

impl Watcher {
    async fn look(&mut self) -> Value {
        let asked = Instant::now();
        let answer = self.http.get(&self.run).send().await.expect("an answer").json().await.expect("JSON");
        self.answers.push(asked.elapsed());
        answer
    }

    async fn until(&mut self, is_reached: impl Fn(&str) -> bool) -> Value {
        loop {
            let view = self.look().await;
            let state = view["state"].as_str().unwrap_or_default();
            assert_ne!(state, "Failed", "{view}");
            if is_reached(state) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Milliseconds: the median, and the worst.
    fn latency_ms(&mut self) -> (u128, u128) {
        self.answers.sort();
        let at = |index: usize| self.answers.get(index).map_or(0, Duration::as_millis);
        (at(self.answers.len() / 2), at(self.answers.len().saturating_sub(1)))
    }
}

fn activity(endpoint: &str, staging: &str) -> Value {
    json!({
        "name": "control",
        "source": {
            "type": "FileSystem", "folderPath": "/exports", "wildcardFileName": "*.csv",
            "format": {"type": "DelimitedText", "firstRowAsHeader": true},
        },
        "sink": {"type": "AzureDataExplorer", "endpoint": endpoint, "database": "D", "table": "T"},
        "staging": {"type": "FileSystem", "folderPath": staging},
        "settings": {"packSmallFiles": false},
    })
}

fn per_second(count: u64, time: Duration) -> String {
    format!("{:.0}", count as f64 / time.as_secs_f64().max(0.001))
}

async fn measure(options: &Options, units: u64) {
    let endpoint = cluster::start().await;
    let postgres = match options.store.as_str() {
        "postgres" => Some(Postgres::start_with("fsync=on").await),
        _ => None,
    };
    let mut coordinator = Coordinator::start(&options.ferry, postgres.as_ref().map(Postgres::url));
    coordinator.until_ready().await;
    let fleet = Fleet::start(&coordinator.grpc, options.nodes, options.slots, units).await;
    eprintln!("{units} units: {} nodes are registered", options.nodes);

    let cpu_idle = coordinator.cpu();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = (coordinator.cpu() - cpu_idle).as_secs_f64() / 5.0 * 100.0;

    let http = reqwest::Client::new();
    let cpu_before = coordinator.cpu();
    let submission = json!({"runId": "control", "activity": activity(&endpoint, &coordinator.folder())});
    let submitted = Instant::now();
    let answer = http.post(format!("{}/api/v1/runs", coordinator.http)).json(&submission).send().await.unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    let run = format!("{}/api/v1/runs/control", coordinator.http);
    let mut watcher = Watcher { http: http.clone(), run: run.clone(), answers: Vec::new() };

    watcher.until(|state| state != "Queued" && state != "Planning").await;
    let listed = fleet.listed().await;
    let planned = fleet.first_granted().await;
    eprintln!("{units} units: listed in {:.1} s", (listed - submitted).as_secs_f64());
    let staged = match options.listed_only {
        true => planned,
        false => fleet.all_staged(&mut watcher).await,
    };
    eprintln!("{units} units: staged in {:.1} s", (staged - planned).as_secs_f64());
    let (second, ended) = if units > options.ingested_max || options.listed_only {
        let asked = Instant::now();
        http.post(format!("{run}/cancel")).send().await.unwrap();
        watcher.until(|state| state == "Cancelled").await;
        ("cancelled in".to_owned(), format!("{:.1} s", asked.elapsed().as_secs_f64()))
    } else {
        let view = watcher.until(|state| state == "Succeeded").await;
        assert_eq!(view["ingest"]["rowsVisible"], units * nodes::ROWS_OF_UNIT, "{view}");
        (format!("{}/s", per_second(units, staged.elapsed())), format!("{:.1} s", submitted.elapsed().as_secs_f64()))
    };
    let cpu = (coordinator.cpu() - cpu_before).as_secs_f64();
    let (median, worst) = watcher.latency_ms();
    println!(
        "| {units} | {}/s | {:.1} s | {}/s | {second} | {ended} | {cpu:.0} s | {idle:.0} % | {} MB | {} MB | {median} / {worst} ms |",
        per_second(units, listed - submitted),
        (planned - listed).as_secs_f64(),
        if options.listed_only { "-".to_owned() } else { per_second(units, staged - planned) },
        coordinator.resident_peak_mb(),
        coordinator.store_mb(),
    );
    if options.listed_only {
        pages::measure(&http, &coordinator.http).await;
    }
}

#[tokio::main]
async fn main() {
    ferry_common::install_tls_provider();
    let options = Options::parse();
    println!("{} nodes of {} slots, store {}", options.nodes, options.slots, options.store);
    println!(
        "| units | listed | planned in | leased and staged | ingested | ended after | CPU | CPU idle before | peak memory | store | API median / worst |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for units in options.units.clone() {
        measure(&options, units).await;
    }
}
