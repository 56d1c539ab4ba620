//! Programs as processes.

use crate::secrets;
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where the programs are that the tests talk to; installed on first use.
///
/// # Panics
/// When they cannot be installed: a missing part is a failure.
pub fn tools() -> PathBuf {
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    TOOLS
        .get_or_init(|| {
            let done = Command::new("bash").arg(repository().join("tests/install.sh")).status().expect("bash");
            assert!(done.success(), "tests/install.sh failed: see above");
            fs::canonicalize(repository().join(".tools")).expect(".tools")
        })
        .clone()
}

/// The program under test: the one that `FERRY_UNDER_TEST` names, or one built as the tests are.
///
/// # Panics
/// When it cannot be built.
pub fn ferry_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(given) = std::env::var_os("FERRY_UNDER_TEST") {
            return given.into();
        }
        let mut build = Command::new(env!("CARGO"));
        // With the tests, so that what both need is compiled once.
        build.args(["build", "--quiet", "-p", "ferry-cli", "-p", "ferry-tests"]).current_dir(repository());
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        if cfg!(feature = "orc") {
            build.args(["--features", "ferry-cli/orc"]);
        }
        assert!(build.status().expect("cargo").success(), "ferry does not build");
        // target/PROFILE/deps/this-test
        let this = std::env::current_exe().expect("this test");
        this.ancestors().nth(2).expect("the target folder").join("ferry")
    })
}

/// A port of this machine that nobody listens on.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// Runs `ferry` to its end.
///
/// # Panics
/// When it cannot be started.
pub fn ferry(arguments: &[&str]) -> Output {
    Command::new(ferry_path()).args(arguments).env("NO_COLOR", "1").stdin(Stdio::null()).output().expect("ferry")
}

/// Rows of a query or a command, by the database Test of the cluster at `endpoint`.
///
/// # Panics
/// When it fails.
pub fn query(endpoint: &str, text: &str) -> Vec<serde_json::Value> {
    let output = ferry(&["query", text, "--endpoint", endpoint, "--database", "Test", "--output", "json"]);
    assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Runs a Python program of the scenarios, and reads the JSON it prints.
///
/// # Panics
/// When it fails.
pub fn python(program: &str, arguments: &[&str]) -> serde_json::Value {
    python_in("venv", program, arguments)
}

/// The same with the packages of another environment below the tools.
///
/// # Panics
/// When it fails.
pub fn python_in(environment: &str, program: &str, arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(tools().join(environment).join("bin/python"))
        .arg(repository().join("tests/scenarios").join(program))
        .args(arguments)
        .output()
        .expect("python");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A running program. It is killed when it is dropped, and no secret may then be in what it wrote.
pub struct Program {
    child: Child,
    /// Where its messages go.
    pub log: PathBuf,
}

impl Program {
    /// Starts a program; its messages go to `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("log"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child, log }
    }

    /// Starts a role of `ferry`.
    pub fn ferry(arguments: &[String], environment: &[(&str, String)], log: PathBuf) -> Self {
        let mut command = Command::new(ferry_path());
        command.args(arguments).env("NO_COLOR", "1").envs(environment.iter().map(|(k, v)| (*k, v.as_str())));
        Self::start(command, log)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it holds now.
    ///
    /// # Panics
    /// When it has ended.
    pub fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running program");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Sends a signal, such as `STOP`.
    ///
    /// # Panics
    /// When there is no such process any more.
    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status().expect("kill");
        assert!(done.success(), "kill -{signal}");
    }

    /// Kills it at once: no goodbye.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait(&mut self) {
        self.child.wait().expect("wait");
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Panics
    /// When it ends badly.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{status}: {}", fs::read_to_string(&self.log).unwrap_or_default());
    }

    /// How it has ended; `None` while it runs.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }

    /// It has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|s| s.is_some())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        secrets::assert_none(&secrets::files([self.log.clone()]));
    }
}
