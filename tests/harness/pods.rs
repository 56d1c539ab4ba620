//! What a kubelet does with the manifests of `deploy/k8s`, with processes of this machine instead of containers: arguments, variables, mounts,
//! probes, and how a pod ends are the manifests' own. Only places differ: a folder for each mount, a free port for each port, and
//! loopback for the names of services.

use crate::{PATIENCE, Program, ferry_path, free_port, repository, secrets, service::Service, wait_for};
use serde_json::Value;
use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What an overlay renders to, as `tests/deploy/pods.py` tells it.
pub struct Manifests(Value);

impl Manifests {
    /// Renders an overlay.
    ///
    /// # Panics
    /// When it cannot be rendered, or says what nobody here understands.
    pub fn of(overlay: &str) -> Self {
        let mut command = Command::new("bash");
        command.arg(repository().join("tests/deploy/pods.sh")).arg(overlay).stdin(Stdio::null());
        let output = command.output().expect("bash");
        assert!(output.status.success(), "{overlay}: {}", String::from_utf8_lossy(&output.stderr));
        Self(serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// All that makes pods.
    ///
    /// # Panics
    /// When there is nothing.
    pub fn workloads(&self) -> Vec<Workload> {
        let listed = self.0["workloads"].as_array().expect("workloads");
        assert!(!listed.is_empty(), "an overlay without a workload");
        listed.iter().cloned().map(Workload).collect()
    }

    /// One of them.
    ///
    /// # Panics
    /// When it is not there.
    pub fn workload(&self, name: &str) -> Workload {
        self.workloads().into_iter().find(|workload| workload.name() == name).expect("a workload of this name")
    }
}

/// What makes pods of one kind.
#[derive(Clone)]
pub struct Workload(Value);

impl Workload {
    /// Its name.
    pub fn name(&self) -> &str {
        text(&self.0, "name")
    }

    /// Pods that there shall be.
    pub fn replicas(&self) -> usize {
        number(&self.0, "replicas") as usize
    }

    /// Whether a new pod is there before an old one goes, and an old one goes only then.
    pub fn adds_before_it_takes(&self) -> bool {
        self.0["surgeMax"] == 1 && self.0["lackMax"] == 0
    }

    /// The arguments, as they are written.
    pub fn arguments(&self) -> Vec<String> {
        list(&self.0, "args").iter().map(|value| value.as_str().expect("text").to_owned()).collect()
    }

    /// Names of the variables.
    pub fn variables(&self) -> Vec<String> {
        list(&self.0, "environment").iter().map(|variable| text(variable, "name").to_owned()).collect()
    }

    /// How long a pod may take to end.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(number(&self.0, "graceSeconds"))
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The host that pods run on, and what a cluster has beside them: secrets, volumes, services.
pub struct Host {
    folder: TempDir,
    secrets: BTreeMap<String, BTreeMap<String, String>>,
    claims: BTreeMap<String, PathBuf>,
    /// By `NAME:PORT`; with the port of the pods behind.
    services: BTreeMap<String, (String, u16, Service)>,
    probing: reqwest::Client,
    started: Cell<usize>,
}

impl Host {
    /// A host with the services of some manifests.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(manifests: &Manifests) -> Self {
        ferry_common::install_tls_provider();
        let mut services = BTreeMap::new();
        for service in list(&manifests.0, "services") {
            for (port, behind) in service["ports"].as_object().expect("ports") {
                let behind = behind.as_u64().expect("a port") as u16;
                let entry = (text(service, "workload").to_owned(), behind, Service::start());
                services.insert(format!("{}:{port}", text(service, "name")), entry);
            }
        }
        // The kubelet does not verify certificates.
        let probing = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
        Self {
            folder: TempDir::new().expect("folder"),
            secrets: BTreeMap::new(),
            claims: BTreeMap::new(),
            services,
            probing: probing.build().expect("client"),
            started: Cell::new(0),
        }
    }

    /// A place in the folder of everything.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `kubectl create secret generic NAME`.
    ///
    /// # Panics
    /// When it cannot be kept.
    pub fn create_secret(&mut self, name: &str, keys: &[(&str, &str)]) {
        for (key, value) in keys {
            let is_token = value.trim().split('_').count() > 2;
            if is_token {
                secrets::plant_token(value);
            }
            fs::create_dir_all(self.secret_folder(name)).expect("folder");
            fs::write(self.secret_folder(name).join(key), value).expect("secret");
        }
        let kept = self.secrets.entry(name.to_owned()).or_default();
        kept.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    }

    /// Where a secret is mounted, in all pods.
    pub fn secret_folder(&self, name: &str) -> PathBuf {
        self.path(&format!("secret-{name}"))
    }

    /// A volume that a claim binds.
    pub fn bind_claim(&mut self, claim: &str, folder: &Path) {
        self.claims.insert(claim.to_owned(), folder.to_owned());
    }

    /// Address on this machine of `NAME:PORT` of a service.
    ///
    /// # Panics
    /// When there is no such service.
    pub fn service_port(&self, service: &str) -> u16 {
        self.services.get(service).expect("a service").2.port()
    }

    /// Starts a pod, and waits until it is ready, as its probes say. From then on its services lead to it.
    ///
    /// # Panics
    /// When it ends or is not ready in time.
    pub async fn start(&self, workload: &Workload) -> Pod {
        let mut pod = self.launch(workload);
        let startup = &workload.0["probes"]["startup"];
        let patience = if startup.is_object() {
            Duration::from_secs(number(startup, "periodSeconds") * number(startup, "failureThreshold"))
        } else {
            PATIENCE
        };
        let begin = Instant::now();
        loop {
            assert!(!pod.program.has_ended(), "{} has ended: {}", pod.name, pod.log());
            if (startup.is_null() || self.probe(&pod, "startup").await) && self.probe(&pod, "readiness").await {
                break;
            }
            assert!(begin.elapsed() < patience, "{} is not ready: {}", pod.name, pod.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.lead(&pod, true);
        pod
    }

    fn lead(&self, pod: &Pod, is_ready: bool) {
        for (workload, behind, service) in self.services.values() {
            if workload == pod.workload.name() {
                service.lead(pod.ports[behind], is_ready);
            }
        }
    }

    /// Asks a pod once, as a probe of this kind would.
    ///
    /// # Panics
    /// When its manifest has no such probe.
    pub async fn probe(&self, pod: &Pod, kind: &str) -> bool {
        let probe = &pod.workload.0["probes"][kind];
        let port = pod.ports[&(number(probe, "port") as u16)];
        let url = format!("{}://127.0.0.1:{port}{}", text(probe, "scheme"), text(probe, "path"));
        let timeout = Duration::from_secs(number(probe, "timeoutSeconds"));
        let answer = self.probing.get(url).timeout(timeout).send().await;
        // Source: Kubernetes, probes over HTTP: 200 to 399.
        answer.is_ok_and(|answer| (200..400).contains(&answer.status().as_u16()))
    }

    /// Ends a pod as a kubelet does, and gives how long that took. Services lead to it no more before it hears of it.
    ///
    /// # Panics
    /// When it takes longer than it may, or ends badly.
    pub async fn stop(&self, mut pod: Pod) -> Duration {
        self.lead(&pod, false);
        let begin = Instant::now();
        let lifecycle = &pod.workload.0["lifecycle"];
        match &lifecycle["preStop"] {
            Value::Null => {}
            hook => match hook["sleep"]["seconds"].as_u64() {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => panic!("nothing is known of a hook such as {hook}: the image has no other program"),
            },
        }
        let signal = lifecycle["stopSignal"].as_str().unwrap_or("SIGTERM").trim_start_matches("SIG").to_owned();
        pod.program.signal(&signal);
        let grace = pod.workload.grace();
        while !pod.program.has_ended() {
            assert!(begin.elapsed() < grace, "{} had to be killed after {grace:?}: {}", pod.name, pod.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(pod.program.exit_code(), Some(0), "{}: {}", pod.name, pod.log());
        begin.elapsed()
    }

    fn launch(&self, workload: &Workload) -> Pod {
        let number_of_pod = self.started.replace(self.started.get() + 1);
        let name = format!("{}-{number_of_pod}", workload.name());
        let home = self.path(&name);
        fs::create_dir(&home).expect("folder");
        let ports = workload.0["ports"].as_object().expect("ports").values();
        let ports: BTreeMap<u16, u16> = ports.map(|port| (port.as_u64().expect("port") as u16, free_port())).collect();
        let mut places: Vec<_> = list(&workload.0, "mounts").iter().map(|mount| self.mount(mount, &home)).collect();
        // A mount in another one is nearer.
        places.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        let mut inside = BTreeMap::new();
        for variable in list(&workload.0, "environment") {
            let value = match (&variable["value"], &variable["field"], &variable["secret"]) {
                (Value::String(value), _, _) => expand(value, &inside),
                (_, Value::String(field), _) => match field.as_str() {
                    "metadata.name" => name.clone(),
                    "metadata.namespace" => text(&workload.0, "namespace").to_owned(),
                    other => panic!("nothing is known of the field {other}"),
                },
                (_, _, Value::String(secret)) => {
                    let key = text(variable, "key");
                    self.secrets.get(secret).and_then(|keys| keys.get(key)).expect("a key of a secret").clone()
                }
                _ => panic!("nothing is known of {variable}"),
            };
            inside.insert(text(variable, "name").to_owned(), value);
        }
        let local = |value: &str| self.local(value, &places, &ports);
        let mut environment: BTreeMap<String, String> =
            inside.iter().map(|(name, value)| (name.clone(), local(value))).collect();
        environment.insert("HOME".to_owned(), home.display().to_string());
        let arguments =
            workload.arguments().iter().map(|argument| local(&expand(argument, &inside))).collect::<Vec<_>>();
        let mut command = Command::new(ferry_path());
        command.args(arguments).env_clear().envs(&environment).current_dir(&home);
        let program = Program::start(command, self.path(&format!("{name}.log")));
        Pod { name, workload: workload.clone(), program, ports, environment }
    }

    /// Where a mount is in a pod, and where here.
    fn mount(&self, mount: &Value, home: &Path) -> (String, PathBuf) {
        let path = text(mount, "path").to_owned();
        let here = if let Some(secret) = mount["secret"].as_str() {
            let keys = self.secrets.get(secret);
            assert!(keys.is_some() || mount["isOptional"] == true, "the pod waits for the secret {secret}");
            for (key, place) in mount["items"].as_object().into_iter().flatten() {
                assert!(keys.is_some_and(|keys| keys.contains_key(key)), "the secret {secret} has no key {key}");
                assert_eq!(place, key, "a key under another name is not made here");
            }
            self.secret_folder(secret)
        } else if let Some(claim) = mount["claim"].as_str() {
            self.claims.get(claim).expect("a volume of the claim").clone()
        } else {
            let empty = home.join(path.trim_start_matches('/').replace('/', "-"));
            fs::create_dir(&empty).expect("folder");
            empty
        };
        (path, here)
    }

    /// A value of a pod, with places of this machine.
    fn local(&self, value: &str, places: &[(String, PathBuf)], ports: &BTreeMap<u16, u16>) -> String {
        let mut value = value.to_owned();
        if let Some((path, here)) = places.iter().find(|(path, _)| value.contains(path.as_str())) {
            value = value.replacen(path, &here.display().to_string(), 1);
        }
        for (name, (_, _, service)) in &self.services {
            value = value.replace(&format!("//{name}"), &format!("//localhost:{}", service.port()));
        }
        for (port, here) in ports {
            value = value.replace(&format!("0.0.0.0:{port}"), &format!("127.0.0.1:{here}"));
            value = value.replace(&format!("//localhost:{port}"), &format!("//localhost:{here}"));
        }
        value
    }
}

/// A text with `$(NAME)` filled in.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let filled =
        variables.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value));
    assert!(!filled.contains("$("), "{filled}: a variable is not there");
    filled
}

/// A running pod.
pub struct Pod {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub program: Program,
    workload: Workload,
    /// By the ports of its container.
    ports: BTreeMap<u16, u16>,
    environment: BTreeMap<String, String>,
}

impl Pod {
    /// Where a port of its container is here.
    ///
    /// # Panics
    /// When it has no such port.
    pub fn port(&self, port: u16) -> u16 {
        *self.ports.get(&port).expect("a port of the container")
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.program.log).unwrap_or_default()
    }

    /// `kubectl exec -i POD -- ferry ARGUMENTS`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn exec(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(ferry_path());
        command.args(arguments).env_clear().envs(&self.environment).env("NO_COLOR", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ferry");
        let mut stdin = child.stdin.take().expect("input");
        // It need not read it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("ferry")
    }

    /// The same, and what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn told(&self, arguments: &[&str], input: &str) -> String {
        let output = self.exec(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The same as JSON, once a coordinator answers: one that was asked for the pod's own may be busy.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--output", "json"]].concat();
        wait_for("an answer", || async {
            let output = self.exec(&arguments, "");
            output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
        })
        .await
    }
}
