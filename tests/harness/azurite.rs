//! Azure Storage's emulator, as a process with one container.

use crate::{Program, free_port, secrets, tools, wait_for};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ferry_common::storage::{AzureBlobStorage, BlobEntry, Connections, StagingStorage};
use reqwest::Method;
use ring::hmac;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The emulator's well-known account and key.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running emulator with an empty container.
pub struct Azurite {
    /// The process.
    pub program: Program,
    /// Address of the container.
    pub container: String,
    /// Ports of blobs, queues and tables.
    ports: [u16; 3],
    /// Where its files are.
    folder: PathBuf,
    /// Folder of its certificate, where it has one.
    certificate: Option<PathBuf>,
}

impl Azurite {
    /// Starts the emulator; its files are below `folder`.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(folder: &Path) -> Self {
        Self::start_as(folder, None).await
    }

    /// The same with TLS, by `localhost.crt`, `localhost.key` and `authority.pem` of a folder, and with tokens of Entra ID.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_secured(folder: &Path, certificate: &Path) -> Self {
        Self::start_as(folder, Some(certificate.to_owned())).await
    }

    async fn start_as(folder: &Path, certificate: Option<PathBuf>) -> Self {
        let ports = [free_port(), free_port(), free_port()];
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let container = format!("{scheme}://127.0.0.1:{}/{ACCOUNT}/staging", ports[0]);
        let program = Self::serve(folder, ports, certificate.as_deref());
        let azurite = Self { program, container, ports, folder: folder.to_owned(), certificate };
        azurite.wait_ready(Method::PUT).await;
        azurite
    }

    fn serve(folder: &Path, ports: [u16; 3], certificate: Option<&Path>) -> Program {
        secrets::plant("the key of the storage account", KEY);
        let home = folder.join("azurite");
        std::fs::create_dir_all(&home).expect("folder");
        let mut command = Command::new("node");
        command
            .arg(tools().join("npm/node_modules/azurite/dist/src/azurite.js"))
            .args(["--blobPort", &ports[0].to_string(), "--queuePort", &ports[1].to_string()])
            .args(["--tablePort", &ports[2].to_string()])
            .args(["--skipApiVersionCheck", "--disableTelemetry", "--silent", "-l"])
            .arg(&home);
        if let Some(folder) = certificate {
            command.arg("--cert").arg(folder.join("localhost.crt")).arg("--key").arg(folder.join("localhost.key"));
            command.args(["--oauth", "basic"]);
        }
        Program::start(command, folder.join("azurite.log"))
    }

    /// A client that believes it.
    ///
    /// # Panics
    /// When there is none.
    pub fn client(&self) -> reqwest::Client {
        ferry_common::install_tls_provider();
        let builder = reqwest::Client::builder().no_proxy();
        let builder = match &self.certificate {
            Some(folder) => {
                let authority = std::fs::read(folder.join("authority.pem")).expect("authority");
                builder.tls_certs_only([reqwest::Certificate::from_pem(&authority).expect("authority")])
            }
            None => builder,
        };
        builder.build().expect("client")
    }

    /// Asks until the container is there; `PUT` makes it.
    async fn wait_ready(&self, method: Method) {
        let url = format!("{}?restype=container&{}", self.container, account_sas());
        let http = self.client();
        wait_for("Azurite", || async {
            let request = http.request(method.clone(), &url).header("content-length", "0");
            request.send().await.ok().filter(|r| r.status().is_success())
        })
        .await;
    }

    /// Stops it: every connection breaks. Killed at once it would forget what it has confirmed, as the service does not.
    pub fn stop(&mut self) {
        self.program.signal("CONT");
        self.program.signal("TERM");
        self.program.wait();
    }

    /// Starts it again on its files.
    pub async fn resume(&mut self) {
        self.program = Self::serve(&self.folder, self.ports, self.certificate.as_deref());
        self.wait_ready(Method::GET).await;
    }

    /// The account's key.
    pub fn key(&self) -> &'static str {
        KEY
    }

    /// A signature that has ended.
    pub fn expired_sas(&self) -> String {
        account_sas_until(-60)
    }

    /// The account with its blobs, queues and tables, as clients of Azure's storage are told of it.
    pub fn connection_string(&self) -> String {
        let [blob, queue, table] = self.ports.map(|port| format!("http://127.0.0.1:{port}/{ACCOUNT}"));
        format!(
            "AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={blob};QueueEndpoint={queue};TableEndpoint={table}"
        )
    }

    /// The container with every right.
    pub fn storage(&self) -> AzureBlobStorage {
        storage_at(&self.container)
    }

    /// What is in the container that local-adx lends of this account.
    ///
    /// # Panics
    /// When it cannot be listed.
    pub async fn lent_blobs(&self) -> Vec<BlobEntry> {
        let lent = self.container.replace("/staging", "/ingest-temp");
        storage_at(&lent).list("", 100_000).await.expect("list")
    }

    /// What is in the container, as the service writes it.
    ///
    /// # Panics
    /// When it cannot be listed.
    pub async fn listing(&self) -> String {
        let url = format!("{}?restype=container&comp=list&{}", self.container, account_sas());
        self.client().get(url).send().await.expect("list").text().await.expect("list")
    }

    /// What is in the container.
    ///
    /// # Panics
    /// When it cannot be listed.
    pub async fn blobs(&self) -> Vec<BlobEntry> {
        self.storage().list("", 100_000).await.expect("list")
    }
}

fn storage_at(container: &str) -> AzureBlobStorage {
    AzureBlobStorage::new(
        &format!("{container}?{}", account_sas()),
        ferry_common::unit::Integrity::Md5,
        &Connections::default(),
    )
    .expect("storage")
}

/// A signature for everything in the account.
fn account_sas() -> String {
    account_sas_until(24 * 3600)
}

/// The same, ending in so many seconds.
fn account_sas_until(seconds: i64) -> String {
    let expires = jiff::Timestamp::now().as_second() + seconds;
    let expires = jiff::Timestamp::from_second(expires).expect("time").to_string();
    let (version, permissions) = ("2023-11-03", "rwdlc");
    let to_sign = [ACCOUNT, permissions, "b", "sco", "", &expires, "", "https,http", version, "", ""].join("\n");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64.decode(KEY).expect("key"));
    let encoded = |text: &str| {
        text.replace('%', "%25").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace(':', "%3A")
    };
    let signature = encoded(&BASE64.encode(hmac::sign(&key, to_sign.as_bytes())));
    format!("sv={version}&ss=b&srt=sco&sp={permissions}&se={}&spr=https%2Chttp&sig={signature}", encoded(&expires))
}
