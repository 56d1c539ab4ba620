//! `ferry coordinator`, `ferry node`, `ferry local-adx`: the long-running roles.

use crate::{
    oidc::OidcArgs,
    output::{CliError, message},
    progress::interrupt,
};
use clap::Args;
use ferry_common::{address::leads_here, id::RuntimeName, spans, timetable::Timetable};
use ferry_coordinator::{
    Coordinator, CoordinatorConfig, GivenCertificate, TlsConfig, raise_open_files, store::StorePlace,
};
use ferry_local_adx::{Account, Faults, LocalAdx, LocalAdxConfig, Role, Roles};
use ferry_node::{MembershipConfig, NodeConfig, read::Roots};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// `ferry coordinator`
#[derive(Args)]
#[command(after_help = "Examples:
  ferry coordinator --store sqlite:ferry.db
  ferry coordinator --grpc 0.0.0.0:7400 --http 0.0.0.0:7480 --tls /var/lib/ferry/coordinator/tls \\
    --store postgres://ferry@db/ferry")]
pub(crate) struct CoordinatorArgs {
    /// Where nodes dial in.
    #[arg(long, default_value = "127.0.0.1:7400", value_name = "ADDRESS")]
    grpc: SocketAddr,
    /// Where programs dial in.
    #[arg(long, default_value = "127.0.0.1:7480", value_name = "ADDRESS")]
    http: SocketAddr,
    /// What must survive: `sqlite:PATH`, or `postgres://USER@HOST/DATABASE` for several coordinators at once. A password
    /// comes from FERRY_STORE or PGPASSWORD, so that no list of processes shows it.
    #[arg(long, env = "FERRY_STORE", hide_env_values = true, default_value = "sqlite:ferry.db", value_name = "STORE")]
    // Not parsed by clap: it would show a value that it refuses, and with it a password.
    store: String,
    /// How long a node may be silent before its work goes to others.
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration, value_name = "TIME")]
    lease_ttl: Duration,
    /// How long an ingest command whose answer was lost may still be on its way before it may be sent again.
    #[arg(long, default_value = "90s", value_parser = humantime::parse_duration, value_name = "TIME")]
    settle_after: Duration,
    /// How long ended runs are remembered. After that a run of the same id copies again.
    #[arg(long, default_value = "90d", value_parser = humantime::parse_duration, value_name = "TIME")]
    keep_runs: Duration,
    /// Secure both ports: TLS, certificates for nodes, tokens for programs. The folder holds the coordinators' own
    /// authority and the admin token; what is not there is made.
    #[arg(long, env = "FERRY_TLS", value_name = "DIR")]
    tls: Option<PathBuf>,
    /// Name or address that the certificate is for, beside localhost and this host's name; may be given more than once.
    #[arg(long, env = "FERRY_TLS_NAMES", value_name = "NAME", value_delimiter = ',', requires = "tls")]
    tls_name: Vec<String>,
    /// Certificate to show instead of one by the own authority: the chain, PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of --tls-cert, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How long a node's certificate holds. It is renewed at two thirds of that.
    #[arg(long, default_value = "7d", value_parser = humantime::parse_duration, value_name = "TIME")]
    node_cert_ttl: Duration,
    /// Serve programs without TLS, for where something before the port has it. Tokens are asked for all the same.
    #[arg(long, requires = "tls")]
    insecure: bool,
    /// Give no node a signature for a whole staging container, only for the blobs of its attempts. Nodes of the release before
    /// know only the former: they get no work. For when all nodes are upgraded.
    #[arg(long, env = "FERRY_BLOB_SIGNATURES_ONLY")]
    blob_signatures_only: bool,
    /// Send spans of runs to this collector of OpenTelemetry, over HTTP with protobuf, such as http://127.0.0.1:4318.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    otlp: Option<String>,
    #[command(flatten)]
    oidc: OidcArgs,
}

/// Shortest lease: a node says something every second.
const LEASE_TTL_MIN: Duration = Duration::from_secs(3);

/// Shortest memory of ended runs: signatures of staged blobs end sooner.
const KEEP_RUNS_MIN: Duration = Duration::from_secs(3 * 24 * 3600);

/// Shortest life of a node's certificate.
const NODE_CERT_TTL_MIN: Duration = Duration::from_secs(3);

fn loopback_only(address: SocketAddr, flag: &str, instead: &str) -> Result<(), CliError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(CliError::Usage(format!("{flag} {address}: other machines are not served without TLS{instead}")))
}

fn tls_of(args: &CoordinatorArgs) -> Result<Option<TlsConfig>, CliError> {
    let Some(folder) = args.tls.clone() else {
        for (address, flag) in [(args.grpc, "--grpc"), (args.http, "--http")] {
            loopback_only(address, flag, "; give --tls DIR")?;
        }
        return Ok(None);
    };
    if args.node_cert_ttl < NODE_CERT_TTL_MIN {
        let least = humantime::format_duration(NODE_CERT_TTL_MIN);
        return Err(CliError::Usage(format!("--node-cert-ttl must be at least {least}")));
    }
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let own = [args.grpc.ip(), args.http.ip()].into_iter().filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
    for name in std::iter::once(host_name()).chain(own).chain(args.tls_name.iter().cloned()) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    let given = args.tls_cert.clone().zip(args.tls_key.clone());
    let given = given.map(|(certificate, key)| GivenCertificate { certificate, key });
    Ok(Some(TlsConfig { folder, names, given, node_cert_ttl: args.node_cert_ttl, oidc: args.oidc.config()? }))
}

pub(crate) async fn coordinator(args: CoordinatorArgs) -> Result<(), CliError> {
    let tls = tls_of(&args)?;
    if args.insecure {
        message(
            "ferry: --insecure: tokens of programs come over the HTTP port in clear, unless something before it has TLS",
        );
    }
    if args.lease_ttl < LEASE_TTL_MIN {
        return Err(CliError::Usage(format!(
            "--lease-ttl must be at least {}",
            humantime::format_duration(LEASE_TTL_MIN)
        )));
    }
    let store: StorePlace = args.store.parse().map_err(|why| CliError::Usage(format!("--store {why}")))?;
    let mut config = CoordinatorConfig {
        grpc: args.grpc,
        http: args.http,
        store,
        tls,
        is_http_plain: args.insecure,
        limits: Default::default(),
    };
    if args.keep_runs < KEEP_RUNS_MIN {
        return Err(CliError::Usage(format!(
            "--keep-runs must be at least {}: until then something of a run may still be on its way",
            humantime::format_duration(KEEP_RUNS_MIN)
        )));
    }
    config.limits.lease_ttl = args.lease_ttl;
    config.limits.settle_after = args.settle_after;
    config.limits.keep_runs = args.keep_runs;
    config.limits.blob_signatures_only = args.blob_signatures_only;
    open_spans(args.otlp.as_deref(), "ferry-coordinator")?;
    raise_open_files();
    let coordinator = Coordinator::open(config).await.map_err(|e| CliError::Failed(e.to_string()))?;
    let result = coordinator.serve(interrupt()).await.map_err(|e| CliError::Failed(e.to_string()));
    spans::flush().await;
    result
}

/// Sends spans from now on, if anybody wants them.
fn open_spans(collector: Option<&str>, service: &'static str) -> Result<(), CliError> {
    match collector.filter(|url| !url.is_empty()) {
        Some(url) => spans::open(url, service).map_err(|why| CliError::Usage(format!("--otlp {why}"))),
        None => Ok(()),
    }
}

/// `ferry node`
#[derive(Args)]
#[command(after_help = "Examples:
  ferry node --allow-root /exports --slots 4
  ferry node --coordinator https://ferry.example.com:7400 --token-file join-token --runtime onprem --allow-root /exports")]
pub(crate) struct NodeArgs {
    /// Address of the coordinator's gRPC port.
    #[arg(long, env = "FERRY_NODE_COORDINATOR", default_value = "http://127.0.0.1:7400", value_name = "URL")]
    coordinator: String,
    /// Integration runtime that the node belongs to.
    #[arg(long, default_value = "default", value_name = "NAME")]
    runtime: RuntimeName,
    /// Name of the node; default: the host's.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Files that are copied at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
    /// Folder that may be read; may be given more than once. Without one nothing may be read.
    #[arg(long, value_name = "DIR")]
    allow_root: Vec<PathBuf>,
    /// Let runs that ask for it delete and move the files that they have loaded (deleteFilesAfterCompletion,
    /// moveFilesAfterCompletion), below --allow-root and nowhere else.
    #[arg(long, env = "FERRY_NODE_ALLOW_SOURCE_CHANGES")]
    allow_source_changes: bool,
    /// Folder for scratch files. Nothing needs any yet: the node only checks at its start that it can write there.
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Send no more than this to staging: bytes a second such as 20M, or rates by local time such as
    /// '08:00,5M 18:00,off'.
    #[arg(long, value_name = "RATES")]
    bandwidth: Option<Timetable>,
    /// Serve /healthz, /readyz and /metrics here.
    #[arg(long, value_name = "ADDRESS")]
    health: Option<SocketAddr>,
    /// File with a join token, as `ferry token create --runtime NAME` prints it; needed for the first start with
    /// --identity.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Folder for this node's key and certificate, each node its own. Used with a coordinator at https://.
    #[arg(long, env = "FERRY_IDENTITY", default_value = "ferry-identity", value_name = "DIR")]
    identity: PathBuf,
    /// Authority that the coordinator's certificate is by, where that is not its own one: PEM.
    #[arg(long, env = "FERRY_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Send spans of runs to this collector of OpenTelemetry, over HTTP with protobuf, such as http://127.0.0.1:4318.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    otlp: Option<String>,
}

/// How the node becomes known to a coordinator at this address.
fn membership_of(args: &NodeArgs) -> Result<Option<MembershipConfig>, CliError> {
    let wrong = |why: &str| CliError::Usage(format!("--coordinator {}: {why}", args.coordinator));
    let url = reqwest::Url::parse(&args.coordinator).map_err(|e| wrong(&e.to_string()))?;
    match url.scheme() {
        "https" => Ok(Some(MembershipConfig {
            folder: args.identity.clone(),
            token_file: args.token_file.clone(),
            authority: args.ca.clone(),
        })),
        "http" if leads_here(&url) => Ok(None),
        "http" => Err(wrong("another machine is reached over https:// only; start the coordinator with --tls DIR")),
        _ => Err(wrong("must begin with https://, or with http:// on this machine")),
    }
}

pub(crate) async fn node(args: NodeArgs) -> Result<(), CliError> {
    let membership = membership_of(&args)?;
    let roots = Roots::new(args.allow_root).map_err(|e| CliError::Usage(e.to_string()))?;
    if let Some(folder) = &args.work_dir {
        tempfile::tempfile_in(folder).map_err(|e| CliError::Usage(format!("--work-dir {}: {e}", folder.display())))?;
    }
    let config = NodeConfig {
        coordinator: args.coordinator,
        runtime: args.runtime,
        name: args.name.unwrap_or_else(host_name),
        slots: args.slots,
        roots,
        may_change_sources: args.allow_source_changes,
        bandwidth: args.bandwidth.unwrap_or_default(),
        health: args.health,
        membership,
    };
    open_spans(args.otlp.as_deref(), "ferry-node")?;
    let result = ferry_node::run(config, interrupt()).await.map_err(|e| CliError::Failed(e.to_string()));
    spans::flush().await;
    result
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "node".to_owned(), |name| name.trim().to_owned())
}

/// `ferry local-adx`
#[derive(Args)]
#[command(after_help = "Examples:
  ferry local-adx --data /tmp/adx
  ferry local-adx --fault throttle:3,lost-answer:1")]
pub(crate) struct LocalAdxArgs {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:7490", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where tables are kept.
    #[arg(long, default_value = "local-adx-data", value_name = "DIR")]
    data: PathBuf,
    /// Only these databases exist; without it, one of any name is created on first use.
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
    /// Storage account that clients of queued ingestion write to, such as an emulator's: a connection string with
    /// AccountName, AccountKey, BlobEndpoint, QueueEndpoint and TableEndpoint.
    #[arg(long, env = "FERRY_LOCAL_ADX_STORAGE", hide_env_values = true, value_name = "CONNECTION_STRING")]
    // Not parsed by clap, as `--store` is not.
    storage: Option<String>,
    /// What clients may do in the container that is lent of --storage: letters of a shared access signature, of rwdlac.
    #[arg(long, default_value = "rwac", value_name = "RIGHTS")]
    lent_rights: String,
    /// Ask clients for tokens of Entra ID, and tell them to get them here. Signatures of tokens are not checked.
    #[arg(long, value_name = "URL")]
    login_endpoint: Option<String>,
    /// What whoever asks may do; may be given more than once. Without it, everything. Roles: database-admin, database-user,
    /// database-viewer, database-monitor, database-ingestor, table-admin, table-ingestor, none.
    #[arg(long, value_name = "ROLE")]
    role: Vec<Role>,
    /// What shall go wrong, for tests: KIND[:TIMES[:SECONDS]], joined by commas. Kinds: throttle, error, lost-answer,
    /// hang, op-throttle, op-error, op-abandon, op-forget, slow, publish-throttle, publish-error,
    /// publish-lost-answer.
    #[arg(long, default_value = "", value_name = "SPEC")]
    fault: String,
}

pub(crate) async fn local_adx(args: LocalAdxArgs) -> Result<(), CliError> {
    loopback_only(args.listen, "--listen", ", and local-adx has none")?;
    let faults: Faults = args.fault.parse().map_err(CliError::Usage)?;
    let storage = args.storage.map(|text| text.parse::<Account>()).transpose();
    let storage = storage.map_err(|why| CliError::Usage(format!("--storage: {why}")))?;
    let storage = storage.map(|account| account.lending(&args.lent_rights)).transpose();
    let storage = storage.map_err(|why| CliError::Usage(format!("--lent-rights: {why}")))?;
    let config = LocalAdxConfig {
        listen: args.listen,
        data: args.data,
        databases: args.database,
        faults,
        storage,
        login_endpoint: args.login_endpoint,
        roles: Roles::new(args.role),
    };
    let endpoint = LocalAdx::open(config).await.map_err(|e| CliError::Failed(e.to_string()))?;
    message(&format!("local-adx: http://{} (for first runs and tests)", endpoint.address));
    endpoint.serve(interrupt()).await.map_err(|e| CliError::Failed(e.to_string()))
}
