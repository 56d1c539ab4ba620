//! The coordinator under test: a process, and what the system says of it.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// Clock ticks of proc(5) in a second: the same on every Linux.
const TICKS: u64 = 100;

/// A coordinator. It ends with this value.
pub(crate) struct Coordinator {
    folder: TempDir,
    process: Child,
    store: String,
    /// Where nodes dial in.
    pub(crate) grpc: String,
    /// Where programs dial in.
    pub(crate) http: String,
}

impl Coordinator {
    /// Starts one on a new store: that of PostgreSQL, or a file of SQLite.
    pub(crate) fn start(ferry: &Path, postgres: Option<String>) -> Self {
        // Beside the program, and not in a folder that may be memory: commits must reach a disk.
        let folder = TempDir::new_in(ferry.parent().expect("a folder")).unwrap();
        let address = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (grpc, http) = (address(), address());
        let store = postgres.unwrap_or_else(|| format!("sqlite:{}", folder.path().join("ferry.db").display()));
        let process = Command::new(ferry)
            .args(["coordinator", "--grpc", &grpc, "--http", &http, "--store", &store])
            .stdout(Stdio::null())
            // As many lines as in real life, but nowhere to keep them.
            .stderr(Stdio::null())
            .spawn()
            .expect("ferry starts");
        Self { folder, process, store, grpc: format!("http://{grpc}"), http: format!("http://{http}") }
    }

    pub(crate) async fn until_ready(&mut self) {
        let url = format!("{}/readyz", self.http);
        while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(self.process.try_wait().unwrap().is_none(), "the coordinator ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A folder of its own.
    pub(crate) fn folder(&self) -> String {
        let staging = self.folder.path().join("staging");
        fs::create_dir_all(&staging).unwrap();
        staging.display().to_string()
    }

    /// CPU time that it has had.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // After the name, which may hold anything: fields 14 and 15 of proc_pid_stat(5).
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / TICKS)
    }

    /// Most memory that it had at once.
    pub(crate) fn resident_peak_mb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// Size of its store.
    pub(crate) fn store_mb(&self) -> u64 {
        if self.store.starts_with("sqlite:") {
            let size = |name: &str| fs::metadata(self.folder.path().join(name)).map_or(0, |m| m.len());
            return (size("ferry.db") + size("ferry.db-wal")) >> 20;
        }
        let size = "SELECT pg_database_size(current_database())";
        let output = Command::new("psql").args(["-At", "-c", size, &self.store]).output().expect("psql starts");
        String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().map_or(0, |bytes| bytes >> 20)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
