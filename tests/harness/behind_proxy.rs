//! A network of its own from which nothing can be reached but a proxy that wants a password.

use crate::{Program, ferry_path, free_port, secrets, wait_for};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// User and password of the proxy.
const USER: &str = "ferry";
const PASSWORD: &str = "correct-horse";

/// The network and its proxy. Both end when this is dropped.
pub struct BehindProxy {
    name: String,
    proxy: Program,
    port: u16,
    /// Address of this machine as seen from there.
    host: String,
    folder: PathBuf,
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let done = Command::new(words.next().unwrap_or_default()).args(words).stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|e| panic!("{command}: {e}"));
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

impl BehindProxy {
    /// Makes the network, and starts the proxy.
    ///
    /// # Panics
    /// When this user may not make networks.
    pub async fn start(folder: &Path) -> Self {
        let port = free_port();
        // A port is nobody else's, and so are the names and addresses made of it.
        let (name, [high, low]) = (format!("ferry{port}"), port.to_be_bytes());
        let (host, guest) = (format!("10.{high}.{low}.1"), format!("10.{high}.{low}.2"));
        run(&format!("ip netns add {name}"));
        run(&format!("ip link add h{port} type veth peer name g{port} netns {name}"));
        run(&format!("ip addr add {host}/30 dev h{port}"));
        run(&format!("ip link set h{port} up"));
        for setting in [
            format!("ip addr add {guest}/30 dev g{port}"),
            format!("ip link set g{port} up"),
            "ip link set lo up".to_owned(),
            // Counted by number: to itself, to the proxy, and all else, which goes nowhere.
            "iptables -A OUTPUT -o lo -j ACCEPT".to_owned(),
            format!("iptables -A OUTPUT -p tcp -d {host} --dport {port} -j ACCEPT"),
            "iptables -A OUTPUT -j DROP".to_owned(),
        ] {
            run(&format!("ip netns exec {name} {setting}"));
        }
        secrets::plant("the password of the proxy", PASSWORD);
        let settings = folder.join("proxy.conf");
        let text = format!(
            "Port {port}\nListen {host}\nTimeout 600\nLogLevel Connect\nMaxClients 100\nAllow {guest}\nBasicAuth {USER} {PASSWORD}\n"
        );
        fs::write(&settings, text).expect("settings");
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(settings);
        let proxy = Program::start(command, folder.join("proxy.log"));
        let behind = Self { name, proxy, port, host, folder: folder.to_owned() };
        wait_for("the proxy", || async {
            tokio::net::TcpStream::connect((behind.host.as_str(), behind.port)).await.ok()
        })
        .await;
        behind
    }

    /// Starts `ferry` there. It is told of the proxy with the right password, or with another.
    pub fn ferry(
        &self,
        arguments: &[String],
        environment: &[(&'static str, String)],
        knows_password: bool,
        log: &str,
    ) -> Program {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(ferry_path()).args(arguments);
        command.envs(environment.iter().map(|(name, value)| (*name, value.as_str()))).env("NO_COLOR", "1");
        let password = if knows_password { PASSWORD } else { "another" };
        command.env("HTTPS_PROXY", format!("http://{USER}:{password}@{}:{}", self.host, self.port));
        Program::start(command, self.folder.join(log))
    }

    /// Packets that went to the proxy, and those that wanted to go elsewhere.
    ///
    /// # Panics
    /// When they were not counted.
    pub fn packets(&self) -> (u64, u64) {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.name, "iptables", "-nvxL", "OUTPUT"])
            .output()
            .expect("iptables");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let counts: Vec<u64> =
            text.lines().skip(2).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert_eq!(counts.len(), 3, "{text}");
        (counts[1], counts[2])
    }

    /// What the proxy tells of its connections.
    pub fn proxy_log(&self) -> String {
        fs::read_to_string(&self.proxy.log).unwrap_or_default()
    }
}

impl Drop for BehindProxy {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}
