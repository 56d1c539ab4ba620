//! A coordinator, nodes, local-adx and Azurite: processes of their own, in one folder.

use crate::{Azurite, Facts, Program, free_port, python, query, wait_for};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// What to start.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Nodes.
    pub nodes: usize,
    /// Slots of each.
    pub slots: u32,
    /// Faults of local-adx.
    pub fault: String,
    /// The coordinators' store; empty: a file of SQLite.
    pub store: String,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { nodes: 3, slots: 1, fault: String::new(), store: String::new() }
    }
}

/// Real programs that work together.
pub struct Cluster {
    folder: TempDir,
    /// Staging.
    pub azurite: Azurite,
    /// The endpoint.
    pub adx: Program,
    /// The coordinator.
    pub coordinator: Program,
    /// The nodes, by number.
    pub nodes: Vec<Program>,
    adx_port: u16,
    grpc_port: u16,
    http_port: u16,
    http: reqwest::Client,
    store: String,
    /// A second coordinator on the same store, and its ports.
    second: Option<(Program, u16, u16)>,
}

impl Cluster {
    /// Starts everything and waits until it answers.
    ///
    /// # Panics
    /// When something does not come up.
    pub async fn start(options: ClusterOptions) -> Self {
        ferry_common::install_tls_provider();
        let folder = TempDir::new().expect("folder");
        fs::create_dir(folder.path().join("source")).expect("folder");
        let azurite = Azurite::start(folder.path()).await;
        let (adx_port, grpc_port, http_port) = (free_port(), free_port(), free_port());
        let adx = Program::ferry(
            &[
                "local-adx".into(),
                "--listen".into(),
                format!("127.0.0.1:{adx_port}"),
                "--data".into(),
                folder.path().join("adx").display().to_string(),
                "--fault".into(),
                options.fault.clone(),
            ],
            &[],
            folder.path().join("adx.log"),
        );
        let store = if options.store.is_empty() {
            format!("sqlite:{}", folder.path().join("ferry.db").display())
        } else {
            options.store.clone()
        };
        let coordinator = start_coordinator(&folder, &azurite, &store, "coordinator", grpc_port, http_port);
        let mut cluster = Self {
            folder,
            azurite,
            adx,
            coordinator,
            nodes: Vec::new(),
            adx_port,
            grpc_port,
            http_port,
            http: reqwest::Client::new(),
            store,
            second: None,
        };
        for _ in 0..options.nodes {
            cluster.add_node(options.slots);
        }
        wait_for("local-adx", || async {
            cluster.http.get(format!("{}/healthz", cluster.endpoint())).send().await.ok()
        })
        .await;
        cluster.wait_ready().await;
        cluster
    }

    /// Starts one more node.
    pub fn add_node(&mut self, slots: u32) {
        self.add_node_at(self.grpc_port, slots);
    }

    fn add_node_at(&mut self, port: u16, slots: u32) {
        let name = format!("node-{}", self.nodes.len());
        let arguments = [
            "node".into(),
            "--coordinator".into(),
            format!("http://127.0.0.1:{port}"),
            "--name".into(),
            name.clone(),
            "--slots".into(),
            slots.to_string(),
            "--allow-root".into(),
            self.source().display().to_string(),
        ];
        self.nodes.push(Program::ferry(&arguments, &[], self.folder.path().join(format!("{name}.log"))));
    }

    /// Kills the coordinator without a word, and starts it again on the same store.
    pub async fn restart_coordinator(&mut self) {
        self.coordinator.kill();
        self.start_first().await;
    }

    async fn start_first(&mut self) {
        let (grpc, http) = (self.grpc_port, self.http_port);
        self.coordinator = start_coordinator(&self.folder, &self.azurite, &self.store, "coordinator", grpc, http);
        self.wait_ready().await;
    }

    /// Starts a second coordinator on the same store.
    pub async fn add_coordinator(&mut self) {
        let (grpc, http) = self.second.as_ref().map_or_else(|| (free_port(), free_port()), |s| (s.1, s.2));
        let program = start_coordinator(&self.folder, &self.azurite, &self.store, "second", grpc, http);
        self.second = Some((program, grpc, http));
        self.wait_ready_at(http).await;
    }

    /// Starts a node of the second coordinator.
    ///
    /// # Panics
    /// When there is none.
    pub fn add_node_of_second(&mut self, slots: u32) {
        let port = self.second.as_ref().expect("a second coordinator").1;
        self.add_node_at(port, slots);
    }

    /// Kills the coordinator that drives the run, without a word; false if the run has ended.
    pub async fn kill_driver(&mut self, run: &str) -> bool {
        if self.look(run).await.is_some_and(|r| r["isFinal"] == true) {
            return false;
        }
        // The one that wrote last of the run's commands.
        let drives = |program: &Program| {
            let log = Self::log_of(program);
            log.lines().rev().find(|line| line.contains("ingest command changes")).map(str::to_owned)
        };
        let second = self.second.as_ref().and_then(|(program, ..)| drives(program));
        if second > drives(&self.coordinator) {
            if let Some((program, ..)) = &mut self.second {
                program.kill();
            }
        } else {
            self.coordinator.kill();
        }
        true
    }

    /// Starts again whichever coordinator was killed.
    pub async fn restart_killed(&mut self) {
        if self.coordinator.has_ended() {
            self.start_first().await;
        }
        if self.second.as_mut().is_some_and(|(program, ..)| program.has_ended()) {
            self.add_coordinator().await;
        }
    }

    /// Messages of all coordinators.
    pub fn coordinator_logs(&self) -> String {
        let second = self.second.as_ref().map(|(program, ..)| Self::log_of(program)).unwrap_or_default();
        Self::log_of(&self.coordinator) + &second
    }

    async fn wait_ready(&self) {
        self.wait_ready_at(self.http_port).await;
    }

    async fn wait_ready_at(&self, port: u16) {
        wait_for("the coordinator", || async {
            let url = format!("http://127.0.0.1:{port}/readyz");
            self.http.get(url).send().await.ok().filter(|r| r.status().is_success())
        })
        .await;
    }

    /// Where files to copy are put.
    pub fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// Address of local-adx.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.adx_port)
    }

    /// Address of the coordinator's API.
    pub fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// An activity that copies all of the source into the table Flights, in small chunks.
    pub fn flights_activity(&self) -> Value {
        json!({
            "name": "flights",
            "source": {"type": "FileSystem", "folderPath": self.source(),
                       "format": {"type": "DelimitedText", "firstRowAsHeader": true}},
            "sink": {"type": "AzureDataExplorer", "endpoint": self.endpoint(), "database": "Test", "table": "Flights",
                     "createTable": true},
            "staging": {"type": "AzureBlob", "container": self.azurite.container, "accountKey": {"secret": "env:FERRY_TEST_KEY"}},
            "settings": {"chunkSizeMB": 0.4},
        })
    }

    /// Submits an activity under an id.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn submit(&self, run: &str, activity: &Value) -> Value {
        let body = json!({"runId": run, "activity": activity});
        let response = self.http.post(format!("{}/api/v1/runs", self.api())).json(&body).send().await.expect("submit");
        let status = response.status();
        let value: Value = response.json().await.expect("JSON");
        assert!(status.is_success(), "{status}: {value}");
        value
    }

    /// A run as it is now; `None` while the coordinator does not answer.
    pub async fn look(&self, run: &str) -> Option<Value> {
        self.get(&format!("/runs/{run}")).await
    }

    /// The report of a run.
    pub async fn report(&self, run: &str) -> Option<Value> {
        self.get(&format!("/runs/{run}/report")).await
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let response = self.http.get(format!("{}/api/v1{path}", self.api())).send().await.ok()?;
        response.json().await.ok()
    }

    /// Waits until a run is as wanted.
    pub async fn until(&self, run: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || async { self.look(run).await.filter(|r| wanted(r)) }).await
    }

    /// Waits for the end of a run, staging swept. Returns its report.
    pub async fn finish(&self, run: &str) -> Value {
        self.until(run, "the end of the run", |r| r["isFinal"] == true && r["isSwept"] == true).await;
        wait_for("the report", || self.report(run)).await
    }

    /// What Microsoft's own client sees in the table Flights.
    pub fn facts(&self) -> Facts {
        Facts::of(&python("query_with_sdk.py", &[&self.endpoint(), "Test", "Flights"]))
    }

    /// Rows of a query or a command, by the database Test.
    ///
    /// # Panics
    /// When it fails.
    pub fn query(&self, text: &str) -> Vec<Value> {
        query(&self.endpoint(), text)
    }

    /// Finds a node that holds a file, and stops it in that moment (SIGSTOP): it can say nothing more. Returns the node
    /// and the file's path.
    pub async fn freeze_a_holder(&self, run: &str) -> (usize, String) {
        wait_for("a node that holds a file", || async {
            let leased = |report: &Value| {
                let files = report["files"].as_array().cloned().unwrap_or_default();
                files.into_iter().find(|f| f["state"] == "Leased")
            };
            let held = leased(&self.report(run).await?)?;
            let number: usize = held["node"].as_str()?.strip_prefix("node-")?.parse().ok()?;
            self.nodes[number].signal("STOP");
            // It may have finished just before it was stopped.
            let files = self.report(run).await?["files"].as_array().cloned()?;
            let still =
                files.iter().any(|f| f["path"] == held["path"] && f["state"] == "Leased" && f["node"] == held["node"]);
            if !still {
                self.nodes[number].signal("CONT");
                return None;
            }
            Some((number, held["path"].as_str()?.to_owned()))
        })
        .await
    }

    /// A program's messages.
    pub fn log_of(program: &Program) -> String {
        fs::read_to_string(&program.log).unwrap_or_default()
    }
}

fn start_coordinator(folder: &TempDir, azurite: &Azurite, store: &str, name: &str, grpc: u16, http: u16) -> Program {
    let arguments = [
        "coordinator".into(),
        "--grpc".into(),
        format!("127.0.0.1:{grpc}"),
        "--http".into(),
        format!("127.0.0.1:{http}"),
        "--lease-ttl".into(),
        "4s".into(),
        "--settle-after".into(),
        "5s".into(),
    ];
    let environment = [("FERRY_TEST_KEY", azurite.key().to_owned()), ("FERRY_STORE", store.to_owned())];
    Program::ferry(&arguments, &environment, folder.path().join(format!("{name}.log")))
}
