//! PostgreSQL, as a process with an empty database.

use crate::{Program, free_port, secrets, wait_for};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::PathBuf,
    process::Command,
};
use tempfile::TempDir;

/// The password, as it is and as it stands in an address.
const PASSWORD: &str = "p@ss-of-the-store";
const PASSWORD_IN_URL: &str = "p%40ss-of-the-store";

/// A running server.
pub struct Postgres {
    program: Program,
    folder: TempDir,
    port: u16,
    /// The user that it runs as, where that is another one.
    user: Option<(u32, u32)>,
    setting: &'static str,
}

/// User and group of `postgres`: the server does not run as root.
fn server_user() -> Option<(u32, u32)> {
    let id = |flag: &str| {
        let output = Command::new("id").args([flag, "postgres"]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    let is_root = fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if is_root { Some((id("-u")?, id("-g")?)) } else { None }
}

/// A program of the server, wherever this system keeps it.
fn program_of(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|v| v.path().join("bin").join(name)).filter(|p| p.exists()).max();
    found.unwrap_or_else(|| PathBuf::from(name))
}

impl Postgres {
    /// Starts a server that does not wait for the disk: what it keeps lives as long as the machine.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Self {
        Self::start_with("fsync=off").await
    }

    /// Starts a server with a setting.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_with(setting: &'static str) -> Self {
        // A folder of its own: the server's user may not look into other people's.
        let folder = TempDir::new().expect("folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let user = server_user();
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        fs::create_dir(&data).expect("folder");
        fs::write(&password, PASSWORD).expect("password");
        secrets::plant("the password of PostgreSQL", PASSWORD);
        if let Some((uid, gid)) = user {
            for path in [folder.path(), &data, &password] {
                chown(path, Some(uid), Some(gid)).expect("chown");
            }
        }
        let mut init = as_user(user, &program_of("initdb"));
        init.arg("-D").arg(&data).args(["-U", "ferry", "--auth=scram-sha-256", "-E", "UTF8", "--no-sync"]);
        init.arg(format!("--pwfile={}", password.display()));
        let output = init.output().expect("initdb");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let port = free_port();
        let program = Self::serve(&folder, user, port, setting);
        let postgres = Self { program, folder, port, user, setting };
        postgres.wait_ready().await;
        postgres
    }

    fn serve(folder: &TempDir, user: Option<(u32, u32)>, port: u16, setting: &str) -> Program {
        let mut command = as_user(user, &program_of("postgres"));
        command.arg("-D").arg(folder.path().join("data"));
        for setting in ["listen_addresses=127.0.0.1", &format!("port={port}"), "unix_socket_directories=", setting] {
            command.args(["-c", setting]);
        }
        Program::start(command, folder.path().join("postgres.log"))
    }

    async fn wait_ready(&self) {
        wait_for("PostgreSQL", || async {
            let mut command = Command::new(program_of("pg_isready"));
            command.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            command.status().is_ok_and(|s| s.success()).then_some(())
        })
        .await;
    }

    /// Address of its database, with user and password.
    pub fn url(&self) -> String {
        format!("postgres://ferry:{PASSWORD_IN_URL}@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs a statement.
    ///
    /// # Panics
    /// When it fails.
    pub fn execute(&self, sql: &str) {
        let output = Command::new(program_of("psql")).args([&self.url(), "-v", "ON_ERROR_STOP=1", "-c", sql]).output();
        let output = output.expect("psql");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// It is there.
    pub fn is_running(&mut self) -> bool {
        !self.program.has_ended()
    }

    /// Stops it at once: every connection breaks.
    pub fn stop(&mut self) {
        // SIGQUIT: the server's children end with it, and the next start finds its files free.
        self.program.signal("QUIT");
        self.program.wait();
    }

    /// Starts it again.
    pub async fn resume(&mut self) {
        self.program = Self::serve(&self.folder, self.user, self.port, self.setting);
        self.wait_ready().await;
    }
}

impl Drop for Postgres {
    /// No secret may be in what it keeps.
    fn drop(&mut self) {
        if std::thread::panicking() || self.program.has_ended() {
            return;
        }
        let output = Command::new(program_of("pg_dump"))
            .arg(self.url())
            .env("PGCONNECT_TIMEOUT", "20")
            .output()
            .expect("pg_dump");
        assert!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        secrets::assert_none(&[("PostgreSQL".to_owned(), output.stdout)]);
    }
}

fn as_user(user: Option<(u32, u32)>, program: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((uid, gid)) = user {
        use std::os::unix::process::CommandExt as _;
        command.uid(uid).gid(gid);
    }
    command
}
