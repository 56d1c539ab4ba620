//! A coordinator, nodes, local-adx and Azurite: processes of their own, in one folder.

use crate::{
    Azurite, Facts, Place, Program, Relay, free_port, python, query,
    secrets::{self, Asker},
    wait_for,
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Duration};
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
    /// Give local-adx a storage account for queued ingestion.
    pub queued: bool,
    /// What clients may do in the container that it lends; empty: as it likes.
    pub lent_rights: String,
    /// Put a relay into every connection between the programs.
    pub relayed: bool,
    /// A collector of spans; empty: none.
    pub collector: String,
    /// Nodes may delete and move files of their sources.
    pub source_changes: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        let (fault, store, lent_rights, collector) = (String::new(), String::new(), String::new(), String::new());
        let (queued, relayed, source_changes) = (false, false, false);
        Self { nodes: 3, slots: 1, fault, store, queued, lent_rights, relayed, collector, source_changes }
    }
}

/// Real programs that work together.
pub struct Cluster {
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
    collector: String,
    queued: bool,
    lent_rights: String,
    source_changes: bool,
    /// A second coordinator on the same store.
    second: Option<Program>,
    second_ports: (u16, u16),
    /// Where everything goes through relays.
    pub relays: Option<Relays>,
    /// Port and slots of each node.
    node_places: Vec<(u16, u32)>,
    // Last, so that messages can still be read when programs end.
    folder: TempDir,
}

/// The network of a cluster.
pub struct Relays {
    /// Nodes to the first and the second coordinator.
    pub nodes: [Relay; 2],
    /// Everybody to the staging storage.
    pub storage: Relay,
    /// Coordinators to local-adx.
    pub adx: Relay,
    /// The first and the second coordinator to PostgreSQL; `None` with SQLite.
    pub stores: Option<[Relay; 2]>,
}

impl Relays {
    fn start(grpc: [u16; 2], azurite: u16, adx: u16, store: &str) -> Self {
        Self {
            nodes: grpc.map(Relay::start),
            storage: Relay::start(azurite),
            adx: Relay::start(adx),
            stores: port_of(store).map(|port| [Relay::start(port), Relay::start(port)]),
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Relay> {
        self.nodes.iter().chain([&self.storage, &self.adx]).chain(self.stores.iter().flatten())
    }
}

/// The port in an address; `None` in one that has none.
fn port_of(address: &str) -> Option<u16> {
    let place = address.split_once("://")?.1.split('/').next()?;
    place.rsplit_once(':')?.1.parse().ok()
}

/// The same address on another port.
fn at_port(address: &str, port: u16) -> String {
    match port_of(address) {
        Some(own) => address.replacen(&format!(":{own}/"), &format!(":{port}/"), 1),
        None => address.to_owned(),
    }
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
        let account = options.queued.then(|| azurite.connection_string());
        let adx = start_adx(&folder, adx_port, &options.fault, account.as_deref(), &options.lent_rights, &[]);
        let store = if options.store.is_empty() {
            format!("sqlite:{}", folder.path().join("ferry.db").display())
        } else {
            options.store.clone()
        };
        let second_ports = (free_port(), free_port());
        let relays = options.relayed.then(|| {
            let storage = port_of(&azurite.container).expect("Azurite's port");
            Relays::start([grpc_port, second_ports.0], storage, adx_port, &store)
        });
        let seen = relays.as_ref().and_then(|r| r.stores.as_ref()).map(|r| at_port(&store, r[0].port()));
        let seen = seen.as_ref().unwrap_or(&store);
        let collector = options.collector.clone();
        let coordinator = start_coordinator(&folder, &azurite, seen, &collector, "coordinator", grpc_port, http_port);
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
            collector,
            queued: options.queued,
            lent_rights: options.lent_rights,
            source_changes: options.source_changes,
            second: None,
            second_ports,
            relays,
            node_places: Vec::new(),
        };
        for _ in 0..options.nodes {
            cluster.add_node(options.slots);
        }
        cluster.wait_adx().await;
        cluster.wait_ready().await;
        cluster
    }

    async fn wait_adx(&self) {
        wait_for("local-adx", || async {
            self.http.get(format!("{}/healthz", self.endpoint())).send().await.ok().filter(|r| r.status().is_success())
        })
        .await;
    }

    /// Kills local-adx without a word, and starts it again on the same data, with other faults.
    pub async fn restart_adx(&mut self, fault: &str) {
        self.adx.kill();
        self.respawn_adx(fault);
        self.wait_adx().await;
    }

    /// Kills local-adx without a word, and starts it again on the same data, with more arguments.
    pub async fn restart_adx_with(&mut self, more: &[&str]) {
        self.adx.kill();
        let account = self.queued.then(|| self.azurite.connection_string());
        self.adx = start_adx(&self.folder, self.adx_port, "", account.as_deref(), &self.lent_rights, more);
        self.wait_adx().await;
    }

    /// Starts local-adx again that has ended, and does not wait: it may need what is not there yet.
    pub fn respawn_adx(&mut self, fault: &str) {
        let account = self.queued.then(|| self.azurite.connection_string());
        self.adx = start_adx(&self.folder, self.adx_port, fault, account.as_deref(), &self.lent_rights, &[]);
    }

    /// Starts one more node.
    pub fn add_node(&mut self, slots: u32) {
        let port = self.relays.as_ref().map_or(self.grpc_port, |r| r.nodes[0].port());
        self.add_node_at(port, slots);
    }

    fn add_node_at(&mut self, port: u16, slots: u32) {
        let program = self.start_node(self.nodes.len(), port, slots);
        self.nodes.push(program);
        self.node_places.push((port, slots));
    }

    /// Starts a node again that was killed.
    pub fn restart_node(&mut self, number: usize) {
        let (port, slots) = self.node_places[number];
        self.nodes[number] = self.start_node(number, port, slots);
    }

    fn start_node(&self, number: usize, port: u16, slots: u32) -> Program {
        let name = format!("node-{number}");
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
        let mut environment = vec![(COLLECTOR_VARIABLE, self.collector.clone())];
        if self.source_changes {
            environment.push(("FERRY_NODE_ALLOW_SOURCE_CHANGES", "true".to_owned()));
        }
        Program::ferry(&arguments, &environment, self.folder.path().join(format!("{name}.log")))
    }

    /// Kills the coordinator without a word, and starts it again on the same store.
    pub async fn restart_coordinator(&mut self) {
        self.coordinator.kill();
        self.start_first().await;
    }

    async fn start_first(&mut self) {
        self.respawn_coordinator(0);
        self.wait_ready().await;
    }

    /// Starts a coordinator again that has ended, and does not wait: it may end again, without its store.
    pub fn respawn_coordinator(&mut self, number: usize) {
        let store = self.store_of(number);
        if number == 0 {
            let (grpc, http) = (self.grpc_port, self.http_port);
            let (folder, azurite, collector) = (&self.folder, &self.azurite, &self.collector);
            self.coordinator = start_coordinator(folder, azurite, &store, collector, "coordinator", grpc, http);
        } else {
            let (grpc, http) = self.second_ports;
            let (folder, azurite, collector) = (&self.folder, &self.azurite, &self.collector);
            self.second = Some(start_coordinator(folder, azurite, &store, collector, "second", grpc, http));
        }
    }

    /// Starts a second coordinator on the same store.
    pub async fn add_coordinator(&mut self) {
        self.respawn_coordinator(1);
        self.wait_ready_at(self.second_ports.1).await;
    }

    /// The store as a coordinator sees it.
    fn store_of(&self, coordinator: usize) -> String {
        let relay = self.relays.as_ref().and_then(|r| r.stores.as_ref()).map(|r| r[coordinator].port());
        relay.map_or_else(|| self.store.clone(), |port| at_port(&self.store, port))
    }

    /// The first or the second coordinator.
    pub fn coordinator(&mut self, number: usize) -> Option<&mut Program> {
        if number == 0 { Some(&mut self.coordinator) } else { self.second.as_mut() }
    }

    /// Starts a node of the second coordinator.
    ///
    /// # Panics
    /// When there is none.
    pub fn add_node_of_second(&mut self, slots: u32) {
        assert!(self.second.is_some(), "there is no second coordinator");
        let port = self.relays.as_ref().map_or(self.second_ports.0, |r| r.nodes[1].port());
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
        let second = self.second.as_ref().and_then(drives);
        if second > drives(&self.coordinator) {
            if let Some(program) = &mut self.second {
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
        if self.second.as_mut().is_some_and(Program::has_ended) {
            self.add_coordinator().await;
        }
    }

    /// Messages of all coordinators.
    pub fn coordinator_logs(&self) -> String {
        let second = self.second.as_ref().map(Self::log_of).unwrap_or_default();
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

    /// Where nodes of the coordinator dial in.
    pub fn grpc(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc_port)
    }

    /// Address of local-adx as coordinators see it.
    fn endpoint_of_coordinators(&self) -> String {
        let port = self.relays.as_ref().map_or(self.adx_port, |r| r.adx.port());
        format!("http://127.0.0.1:{port}")
    }

    /// Address of the staging container as all programs see it.
    fn container(&self) -> String {
        let relay = self.relays.as_ref().map(|r| at_port(&self.azurite.container, r.storage.port()));
        relay.unwrap_or_else(|| self.azurite.container.clone())
    }

    /// An activity that copies all of the source into the table Flights, in small chunks.
    pub fn flights_activity(&self) -> Value {
        json!({
            "name": "flights",
            "source": {"type": "FileSystem", "folderPath": self.source(),
                       "format": {"type": "DelimitedText", "firstRowAsHeader": true}},
            "sink": {"type": "AzureDataExplorer", "endpoint": self.endpoint_of_coordinators(), "database": "Test", "table": "Flights",
                     "createTable": true},
            "staging": {"type": "AzureBlob", "container": self.container(), "accountKey": {"secret": "env:FERRY_TEST_KEY"}},
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

    /// All runs, newest first; `None` while the coordinator does not answer.
    pub async fn runs(&self) -> Option<Vec<Value>> {
        self.get("/runs").await?["runs"].as_array().cloned()
    }

    /// A run as it is now; `None` while the coordinator does not answer.
    pub async fn look(&self, run: &str) -> Option<Value> {
        self.get(&format!("/runs/{run}")).await
    }

    /// A run as any of the coordinators knows it, if one answers at once.
    pub async fn glance(&self, run: &str) -> Option<Value> {
        for port in [self.http_port, self.second_ports.1] {
            let url = format!("http://127.0.0.1:{port}/api/v1/runs/{run}");
            let request = self.http.get(url).timeout(Duration::from_millis(300)).send();
            if let Some(response) = request.await.ok().filter(|r| r.status().is_success())
                && let Ok(value) = response.json().await
            {
                return Some(value);
            }
        }
        None
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

    /// Copies all messages to a folder that stays. Returns the folder.
    ///
    /// # Panics
    /// When they cannot be copied.
    pub fn keep_logs(&self, name: &str) -> PathBuf {
        let kept = std::env::temp_dir().join("ferry-tests").join(name);
        fs::create_dir_all(&kept).expect("folder");
        for entry in fs::read_dir(self.folder.path()).expect("folder").flatten() {
            if entry.path().extension().is_some_and(|e| e == "log") {
                fs::copy(entry.path(), kept.join(entry.file_name())).expect("copy");
            }
        }
        kept
    }

    /// What is searched for secrets when this is dropped, beside what programs wrote: answers of both coordinators, and the store.
    pub fn places(&self) -> Vec<Place> {
        let mut places = secrets::files_of_store(&self.store);
        for port in [self.http_port, self.second_ports.1] {
            let address = format!("http://127.0.0.1:{port}");
            places.extend(Asker { address, authority: None, token: None }.answers());
        }
        places
    }

    /// A program's messages.
    pub fn log_of(program: &Program) -> String {
        fs::read_to_string(&program.log).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            secrets::assert_none(&self.places());
        }
    }
}

fn start_adx(
    folder: &TempDir,
    port: u16,
    fault: &str,
    account: Option<&str>,
    lent_rights: &str,
    more: &[&str],
) -> Program {
    let mut arguments: Vec<String> = vec![
        "local-adx".into(),
        "--listen".into(),
        format!("127.0.0.1:{port}"),
        "--data".into(),
        folder.path().join("adx").display().to_string(),
        "--fault".into(),
        fault.to_owned(),
    ];
    if !lent_rights.is_empty() {
        arguments.extend(["--lent-rights".into(), lent_rights.to_owned()]);
    }
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    let environment: Vec<_> = account.map(|a| ("FERRY_LOCAL_ADX_STORAGE", a.to_owned())).into_iter().collect();
    Program::ferry(&arguments, &environment, folder.path().join("adx.log"))
}

/// By how much the clock of a second coordinator is ahead: many times its leases.
const SECOND_AHEAD: &str = "+70s";

/// libfaketime, for a clock that is wrong; `tests/install.sh` installs it.
fn faketime() -> Option<String> {
    let found = |folder: &str| format!("{folder}/faketime/libfaketimeMT.so.1");
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"]
        .map(found)
        .into_iter()
        .find(|p| fs::exists(p).unwrap_or(false))
}

/// Names a collector of spans; empty is as none.
const COLLECTOR_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

fn start_coordinator(
    folder: &TempDir,
    azurite: &Azurite,
    store: &str,
    collector: &str,
    name: &str,
    grpc: u16,
    http: u16,
) -> Program {
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
    let mut environment = vec![
        ("FERRY_TEST_KEY", azurite.key().to_owned()),
        ("FERRY_WEBHOOK_TEST", azurite.key().to_owned()),
        ("FERRY_TEST_EXPIRED_SAS", azurite.expired_sas()),
        ("FERRY_STORE", store.to_owned()),
        (COLLECTOR_VARIABLE, collector.to_owned()),
    ];
    if name == "second" {
        environment.push(("FERRY_TEST_SECOND_KEY", azurite.key().to_owned()));
        let library = faketime().expect("libfaketime: run tests/install.sh");
        environment.extend([
            ("LD_PRELOAD", library),
            ("FAKETIME", SECOND_AHEAD.to_owned()),
            // What is counted by itself goes on as it is.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]);
    }
    Program::ferry(&arguments, &environment, folder.path().join(format!("{name}.log")))
}
