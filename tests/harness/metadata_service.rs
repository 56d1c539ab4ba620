//! A network of its own in which there is what Azure's machines have: a metadata service that gives tokens.

use crate::{Program, repository, tools, wait_for};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Where every machine of Azure has it.
const ADDRESS: &str = "169.254.169.254";

/// The network and its metadata service. Both end when this is dropped.
pub struct MetadataService {
    name: String,
    state: PathBuf,
    server: Option<Program>,
}

impl MetadataService {
    /// Makes the network, and starts the service; its files are below `folder`.
    ///
    /// # Panics
    /// When this user may not make networks.
    pub async fn start(folder: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ferrymeta{}n{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let state = folder.join("metadata");
        fs::create_dir_all(&state).expect("folder");
        let mut service = Self { name, state, server: None };
        service.run("ip", &["netns", "add", &service.name]);
        service.run("ip", &["-n", &service.name, "link", "set", "lo", "up"]);
        service.run("ip", &["-n", &service.name, "addr", "add", &format!("{ADDRESS}/32"), "dev", "lo"]);
        fs::write(service.state.join("asked"), "").expect("asked");
        let mut command = service.command(tools().join("venv/bin/python"));
        command.arg(repository().join("tests/harness/entra.py")).arg(ADDRESS).arg(&service.state);
        service.server = Some(Program::start(command, service.state.join("log")));
        wait_for("the metadata service", || async {
            let script = format!("import socket; socket.create_connection(('{ADDRESS}', 80), 1)");
            let mut look = service.command(tools().join("venv/bin/python"));
            let looked = look.args(["-c", &script]).stderr(Stdio::null()).status().expect("python");
            looked.success().then_some(())
        })
        .await;
        service
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let done = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("ip");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A program in that network.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// How tokens were asked for, and for what, in order.
    pub fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.state.join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for MetadataService {
    fn drop(&mut self) {
        self.server = None;
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}
