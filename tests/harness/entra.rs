//! A token server in the form of Entra ID with a Key Vault beside it, as a process, and the authority that makes its address
//! believed.

use crate::{Program, free_port, repository, secrets, tools, wait_for};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The tenant and the application that the server knows.
pub const TENANT: &str = "11111111-1111-1111-1111-111111111111";
/// See [`TENANT`].
pub const APPLICATION: &str = "22222222-2222-2222-2222-222222222222";

/// Writes a certificate for localhost, its key, and the authority behind it: `localhost.crt`, `localhost.key`, and the path that is
/// returned. Another time, another authority.
///
/// # Panics
/// When they cannot be made.
pub fn write_certificate(folder: &Path, authority: &str) -> PathBuf {
    let mut params = CertificateParams::new([]).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("key");
    let certificate = params.self_signed(&key).expect("authority");
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("key");
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf = CertificateParams::new(names).expect("params").signed_by(&key, &issuer).expect("certificate");
    for (name, text) in [("localhost.key", key.serialize_pem()), ("localhost.crt", leaf.pem())] {
        // At once: somebody may be reading.
        let part = folder.join("part");
        fs::write(&part, text).expect("certificate");
        fs::rename(part, folder.join(name)).expect("certificate");
    }
    let path = folder.join(authority);
    fs::write(&path, certificate.pem()).expect("authority");
    path
}

/// A running token server.
pub struct EntraServer {
    _program: Program,
    port: u16,
    state: PathBuf,
    /// The authority behind its certificate.
    pub authority: PathBuf,
}

impl EntraServer {
    /// Starts it; its files are below `folder`.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(folder: &Path) -> Self {
        let state = folder.join("entra");
        fs::create_dir_all(state.join("vault")).expect("folder");
        let authority = write_certificate(&state, "authority.pem");
        let port = free_port();
        for (name, secret) in [("secret", "application-secret"), ("federated", "federated-token")] {
            fs::write(state.join(name), secret).expect("secret");
            secrets::plant(name, secret);
        }
        secrets::plant("the header of managed identities", "header-secret");
        fs::write(state.join("asked"), "").expect("asked");
        let mut command = Command::new(tools().join("venv/bin/python"));
        command.arg(repository().join("tests/harness/entra.py")).arg(port.to_string());
        command.arg(state.join("localhost.crt")).arg(state.join("localhost.key")).arg(&state);
        let program = Program::start(command, state.join("log"));
        wait_for("the token server", || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
        Self { _program: program, port, state, authority }
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// What it needs to be found and believed.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AZURE_AUTHORITY_HOST", self.address()),
            ("SSL_CERT_FILE", self.authority.display().to_string()),
            ("IDENTITY_ENDPOINT", format!("{}/msi/token", self.address())),
            ("IDENTITY_HEADER", "header-secret".to_owned()),
            ("AZURE_TENANT_ID", TENANT.to_owned()),
            ("AZURE_CLIENT_ID", APPLICATION.to_owned()),
            ("AZURE_FEDERATED_TOKEN_FILE", self.state.join("federated").display().to_string()),
        ]
    }

    /// The same without the authority: whoever signs in must have heard of it elsewhere.
    pub fn environment_without_authority(&self) -> Vec<(&'static str, String)> {
        self.environment().into_iter().filter(|(name, _)| *name != "AZURE_AUTHORITY_HOST").collect()
    }

    /// A file with a certificate and its key: `application` and `renewed` are the application's, `stranger` is nobody's.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.state.join(format!("{name}.pem"))
    }

    /// From now on tokens are good for so many seconds. With less than five minutes nobody keeps one: all ask each time.
    ///
    /// # Panics
    /// When it cannot be told.
    pub fn shorten_tokens(&self, seconds: u32) {
        fs::write(self.state.join("seconds"), seconds.to_string()).expect("state");
    }

    /// Puts a secret into the vault.
    ///
    /// # Panics
    /// When it cannot.
    pub fn keep_secret(&self, name: &str, value: &str) {
        fs::write(self.state.join("vault").join(name), value).expect("secret");
    }

    /// How an activity names a secret of the vault.
    pub fn secret(&self, name: &str) -> String {
        format!("keyvault:{}/secrets/{name}", self.address())
    }

    /// From now on it answers with this status; `None`: as it should.
    ///
    /// # Panics
    /// When it cannot be told.
    pub fn refuse_with(&self, status: Option<u16>) {
        let text = status.map(|status| status.to_string()).unwrap_or_default();
        fs::write(self.state.join("refuse"), text).expect("state");
    }

    /// How tokens were asked for, and for what, in order.
    pub fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.state.join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
