//! A coordinator that asks everybody who they are, and what goes with it: processes of their own, in one folder.

use crate::{
    EntraServer, Place, Program, ferry_path, free_port, query,
    secrets::{self, Asker},
    wait_for,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// Rows of the sample that [`Secured::write_source`] writes, a file.
const ROWS_OF_FILE: usize = 4_000;

/// How a secured coordinator is started.
#[derive(Debug, Default)]
pub struct SecuredOptions {
    /// More of its arguments.
    pub arguments: Vec<String>,
    /// More of local-adx's arguments.
    pub adx: Vec<String>,
    /// The authority that its certificate is by; `None`: its own.
    pub authority: Option<PathBuf>,
    /// What all programs find in their environment.
    pub environment: Vec<(&'static str, String)>,
}

/// A secured coordinator with local-adx behind it. Staging is a folder.
pub struct Secured {
    /// The coordinator.
    pub coordinator: Program,
    adx: Program,
    adx_port: u16,
    /// Port of nodes.
    pub grpc_port: u16,
    /// Port of programs.
    pub http_port: u16,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// What clients believe.
    pub authority: PathBuf,
    // Last, so that messages can still be read when programs end.
    folder: TempDir,
}

impl Secured {
    /// Starts a coordinator with `more` of its arguments.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(more: &[&str]) -> Self {
        let arguments = more.iter().map(|&argument| argument.to_owned()).collect();
        Self::start_with(SecuredOptions { arguments, ..SecuredOptions::default() }).await
    }

    /// Starts one as the options say.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_with(options: SecuredOptions) -> Self {
        ferry_common::install_tls_provider();
        let folder = TempDir::new().expect("folder");
        for name in ["source", "staging"] {
            fs::create_dir(folder.path().join(name)).expect("folder");
        }
        let (adx_port, grpc_port, http_port) = (free_port(), free_port(), free_port());
        let at = |port: u16| format!("127.0.0.1:{port}");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut adx: Vec<String> =
            ["local-adx".into(), "--listen".into(), at(adx_port), "--data".into(), path("adx")].into();
        adx.extend(options.adx);
        let adx = Program::ferry(&adx, &options.environment, folder.path().join("adx.log"));
        let store = format!("sqlite:{}", path("ferry.db"));
        let mut arguments: Vec<String> = ["coordinator".into(), "--grpc".into(), at(grpc_port)].into();
        arguments.extend(["--http".into(), at(http_port), "--store".into(), store, "--tls".into(), path("tls")]);
        arguments.extend(["--lease-ttl".into(), "4s".into()]);
        arguments.extend(options.arguments);
        let environment = options.environment;
        for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("FERRY_TEST_")) {
            secrets::plant(name, value);
        }
        let coordinator = Program::ferry(&arguments, &environment, folder.path().join("coordinator.log"));
        let authority = options.authority.unwrap_or_else(|| folder.path().join("tls/ca.crt"));
        let secured =
            Self { folder, coordinator, adx, adx_port, grpc_port, http_port, arguments, environment, authority };
        secured.wait_ready().await;
        secrets::plant_token(&fs::read_to_string(secured.path("tls/admin-token")).expect("admin token"));
        secured
    }

    async fn wait_ready(&self) {
        wait_for("the coordinator", || async {
            let is_up = self.path("tls/admin-token").exists() && self.cli(&["runs", "list"]).status.success();
            let is_adx_up = tokio::net::TcpStream::connect(("127.0.0.1", self.adx_port)).await.is_ok();
            (is_up && is_adx_up).then_some(())
        })
        .await;
    }

    /// Kills the coordinator without a word, and starts it again.
    pub async fn restart(&mut self) {
        self.coordinator.kill();
        self.coordinator = Program::ferry(&self.arguments, &self.environment, self.path("coordinator.log"));
        self.wait_ready().await;
    }

    /// A place in the folder of everything.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `ferry` as an administrator would use it.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_with(&self.path("tls/admin-token"), arguments)
    }

    /// `ferry` with another token.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn cli_with(&self, token: &Path, arguments: &[&str]) -> Output {
        Command::new(ferry_path())
            .args(arguments)
            .env("NO_COLOR", "1")
            .env("FERRY_COORDINATOR", format!("https://127.0.0.1:{}", self.http_port))
            .env("FERRY_CA", &self.authority)
            .env("FERRY_TOKEN_FILE", token)
            .stdin(Stdio::null())
            .output()
            .expect("ferry")
    }

    /// The same, and what it prints as JSON.
    ///
    /// # Panics
    /// When it fails.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.cli(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Makes a token and keeps it in a file.
    ///
    /// # Panics
    /// When it is not made.
    pub fn token(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let output = self.cli(&[&["token", "create"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = self.path(name);
        secrets::plant_token(&String::from_utf8_lossy(&output.stdout));
        fs::write(&path, output.stdout).expect("token");
        path
    }

    /// Arguments of a node of this name, with an identity of its own.
    pub fn node_arguments(&self, name: &str) -> Vec<String> {
        let text = |name: &str| self.path(name).display().to_string();
        let coordinator = format!("https://localhost:{}", self.grpc_port);
        ["node", "--coordinator", &coordinator, "--name", name, "--slots", "1", "--allow-root", &text("source")]
            .map(str::to_owned)
            .into_iter()
            .chain(["--identity".to_owned(), text(&format!("identity-{name}"))])
            .collect()
    }

    /// Starts a node with a join token; without one it must have joined before.
    pub fn node(&self, name: &str, token: Option<&Path>) -> Program {
        let mut arguments = self.node_arguments(name);
        if let Some(token) = token {
            arguments.extend(["--token-file".to_owned(), token.display().to_string()]);
        }
        Program::ferry(&arguments, &self.environment, self.path(&format!("{name}.log")))
    }

    /// Waits until a program's messages hold a text.
    pub async fn until_logged(&self, program: &Program, text: &str) {
        let log = || async { fs::read_to_string(&program.log).ok().filter(|log| log.contains(text)) };
        wait_for(text, log).await;
    }

    /// Writes `files` files; returns the rows of all.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write_source(&self, files: usize) -> i64 {
        for file in 0..files {
            let mut text = String::from("id,text\n");
            for row in 0..ROWS_OF_FILE {
                let id = file * ROWS_OF_FILE + row;
                // Nothing that could be packed well: bytes that take their time.
                let (odd, even) = (id.wrapping_mul(0x9E37_79B9_7F4A_7C15), id.wrapping_mul(0xC2B2_AE3D_27D4_EB4F));
                text += &format!("{id},{odd:016x}{even:016x}\n");
            }
            fs::write(self.path("source").join(format!("{file:03}.csv")), text).expect("source");
        }
        (files * ROWS_OF_FILE) as i64
    }

    /// Submits a copy of the source into the table T.
    ///
    /// # Panics
    /// When it is refused.
    pub fn submit(&self, run: &str) {
        self.submit_activity(run, &self.activity());
    }

    /// A copy of the source into the table T.
    pub fn activity(&self) -> Value {
        json!({
            "name": "secured",
            "source": {"type": "FileSystem", "folderPath": self.path("source"),
                       "format": {"type": "DelimitedText", "firstRowAsHeader": true}},
            "sink": {"type": "AzureDataExplorer", "endpoint": self.endpoint(), "database": "Test", "table": "T",
                     "createTable": true},
            "staging": {"type": "FileSystem", "folderPath": self.path("staging")},
            "settings": {"chunkSizeMB": 0.01, "packSmallFiles": false},
        })
    }

    /// What is searched for secrets when this is dropped, beside what programs wrote: the coordinator's answers, and the store.
    pub fn places(&self) -> Vec<Place> {
        let mut places = secrets::files_of_store(&format!("sqlite:{}", self.path("ferry.db").display()));
        places.extend(Asker::secured(self.http_port, &self.authority, &self.path("tls/admin-token")).answers());
        places
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.adx_port)
    }

    /// Submits an activity.
    ///
    /// # Panics
    /// When it is refused.
    pub fn submit_activity(&self, run: &str, activity: &Value) {
        let path = self.path(&format!("{run}.json"));
        fs::write(&path, activity.to_string()).expect("activity");
        let output = self.cli(&["run", &path.display().to_string(), "--run-id", run]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Submits a copy of the source with another token, and gives what comes of it.
    ///
    /// # Panics
    /// When `ferry` cannot be started.
    pub fn submit_with(&self, token: &Path, run: &str) -> Output {
        let path = self.path(&format!("{run}.json"));
        fs::write(&path, self.activity().to_string()).expect("activity");
        self.cli_with(token, &["run", &path.display().to_string(), "--run-id", run])
    }

    /// Waits for the end of a run. Returns its report.
    pub async fn finish(&self, run: &str) -> Value {
        wait_for("the end of the run", || async {
            let seen = self.json(&["runs", "show", run]);
            (seen["isFinal"] == true && seen["isSwept"] == true).then_some(())
        })
        .await;
        self.json(&["runs", "report", run])
    }

    /// Rows and distinct ids of the table T.
    pub fn rows(&self) -> (i64, i64) {
        let rows =
            query(&format!("http://127.0.0.1:{}", self.adx_port), "T | summarize rows = count(), ids = dcount(id)");
        let of = |key: &str| rows.first().and_then(|row| row[key].as_i64()).unwrap_or(0);
        (of("rows"), of("ids"))
    }
}

impl Secured {
    /// Rows of the table T, where the cluster asks for a token; asked for as the managed identity.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn rows_as(&self, entra: &EntraServer) -> i64 {
        let arguments = ["query", "T | count", "--endpoint", &self.endpoint(), "--database", "Test"];
        let output = Command::new(ferry_path())
            .args(arguments)
            .args(["--auth", "managed-identity", "--output", "json"])
            .envs(entra.environment())
            // It would name an identity of its own.
            .env_remove("AZURE_CLIENT_ID")
            .output()
            .expect("ferry");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let rows: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        rows[0]["Count"].as_i64().expect("a count")
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            secrets::assert_none(&self.places());
        }
        self.adx.kill();
    }
}
