//! Checked settings of a coordinator.

use crate::store::{Role, StorePlace};
use ferry_common::address::leads_here;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Settings of a coordinator.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// Where nodes dial in. Port 0: any.
    pub grpc: SocketAddr,
    /// Where programs dial in. Port 0: any.
    pub http: SocketAddr,
    /// What must survive.
    pub store: StorePlace,
    /// How both ports are secured; `None`: whoever reaches them may come in.
    pub tls: Option<TlsConfig>,
    /// Programs are served without TLS all the same: something else before them has it.
    pub is_http_plain: bool,
    /// Limits.
    pub limits: Limits,
}

/// How the ports are secured.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Folder of the own authority and the admin token. What is not there is made.
    pub folder: PathBuf,
    /// Names and addresses that the own certificate is for.
    pub names: Vec<String>,
    /// A certificate by somebody else.
    pub given: Option<GivenCertificate>,
    /// How long a node's certificate holds.
    pub node_cert_ttl: Duration,
    /// Whose tokens are good for programs, too.
    pub oidc: Option<OidcConfig>,
}

/// An issuer of OpenID Connect whose tokens programs may bring.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    /// Its address, as its tokens have it.
    pub issuer: String,
    /// What tokens must be for.
    pub audience: String,
    /// The claim that holds roles: its name, or its path with dots.
    pub role_claim: String,
    /// What a value of that claim is here.
    pub roles: Vec<(String, Role)>,
}

impl OidcConfig {
    /// The address may be believed: `https://`, or `http://` on this machine. Says what is wrong with it.
    pub fn check_address(address: &str) -> Result<(), String> {
        let url = reqwest::Url::parse(address).map_err(|e| format!("{address:?} is no address: {e}"))?;
        match url.scheme() {
            "https" => Ok(()),
            "http" if leads_here(&url) => Ok(()),
            _ => Err(format!("{address:?} must begin with https://")),
        }
    }
}

/// A certificate in files, which are read again when they change.
#[derive(Debug, Clone)]
pub struct GivenCertificate {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Limits of a coordinator.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a lease lasts without a word from its node.
    pub lease_ttl: Duration,
    /// Runs that are driven at once; more wait in `Queued`.
    pub runs_active_max: usize,
    /// Looks at a sink that nobody could ever connect to before a run's plan fails.
    pub preflight_tries_max: u32,
    /// How long a sink that did answer may fail in passing ways before a run's plan fails.
    pub preflight_patience: Duration,
    /// Failures of one ingest command, throttling aside, before it counts as refused.
    pub command_failures_max: u32,
    /// How long a request may still be on its way, or wait inside the cluster, after its answer was lost.
    pub settle_after: Duration,
    /// How long the outcome of a sending may stay in doubt, and how long a cluster may be silent in stage 2.
    pub doubt_max: Duration,
    /// How long ended runs are remembered. After that their ids are free again.
    pub keep_runs: Duration,
    /// No node gets a signature for a whole container: those of an older release get no work.
    pub blob_signatures_only: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(20),
            runs_active_max: 32,
            preflight_tries_max: 5,
            preflight_patience: Duration::from_secs(300),
            command_failures_max: 20,
            settle_after: Duration::from_secs(90),
            doubt_max: Duration::from_secs(2 * 3600),
            keep_runs: Duration::from_secs(90 * 24 * 3600),
            blob_signatures_only: false,
        }
    }
}
