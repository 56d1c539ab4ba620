//! `ferry coordinator`, `ferry node`, `ferry local-adx`: the long-running roles.

use crate::{
    output::{CliError, message},
    progress::interrupt,
};
use clap::Args;
use ferry_common::{id::RuntimeName, timetable::Timetable};
use ferry_coordinator::{Coordinator, CoordinatorConfig, store::StorePlace};
use ferry_local_adx::{Account, Faults, LocalAdx, LocalAdxConfig};
use ferry_node::{NodeConfig, read::Roots};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// `ferry coordinator`
#[derive(Args)]
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
}

/// Shortest lease: a node says something every second.
const LEASE_TTL_MIN: Duration = Duration::from_secs(3);

/// Shortest memory of ended runs: signatures of staged blobs end sooner.
const KEEP_RUNS_MIN: Duration = Duration::from_secs(3 * 24 * 3600);

fn loopback_only(address: SocketAddr, flag: &str) -> Result<(), CliError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "{flag} {address}: plain HTTP is served on this machine only; TLS is not built yet, so put a tunnel between machines"
    )))
}

pub(crate) async fn coordinator(args: CoordinatorArgs) -> Result<(), CliError> {
    loopback_only(args.grpc, "--grpc")?;
    loopback_only(args.http, "--http")?;
    if args.lease_ttl < LEASE_TTL_MIN {
        return Err(CliError::Usage(format!(
            "--lease-ttl must be at least {}",
            humantime::format_duration(LEASE_TTL_MIN)
        )));
    }
    let store: StorePlace = args.store.parse().map_err(|why| CliError::Usage(format!("--store {why}")))?;
    let mut config = CoordinatorConfig { grpc: args.grpc, http: args.http, store, limits: Default::default() };
    if args.keep_runs < KEEP_RUNS_MIN {
        return Err(CliError::Usage(format!(
            "--keep-runs must be at least {}: until then something of a run may still be on its way",
            humantime::format_duration(KEEP_RUNS_MIN)
        )));
    }
    config.limits.lease_ttl = args.lease_ttl;
    config.limits.settle_after = args.settle_after;
    config.limits.keep_runs = args.keep_runs;
    let coordinator = Coordinator::open(config).await.map_err(|e| CliError::Failed(e.to_string()))?;
    coordinator.serve(interrupt()).await.map_err(|e| CliError::Failed(e.to_string()))
}

/// `ferry node`
#[derive(Args)]
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
    /// Folder for scratch files. No format needs any yet; it must exist and be writable.
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Send no more than this to staging: bytes a second such as 20M, or rates by local time such as
    /// '08:00,5M 18:00,off'.
    #[arg(long, value_name = "RATES")]
    bandwidth: Option<Timetable>,
    /// Serve /healthz and /readyz here.
    #[arg(long, value_name = "ADDRESS")]
    health: Option<SocketAddr>,
}

fn is_plain_and_remote(address: &str) -> bool {
    let Some(rest) = address.strip_prefix("http://") else { return false };
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    !(host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

pub(crate) async fn node(args: NodeArgs) -> Result<(), CliError> {
    if !args.coordinator.starts_with("http://") || is_plain_and_remote(&args.coordinator) {
        return Err(CliError::Usage(format!(
            "--coordinator {}: only http:// to this machine is supported yet; put a tunnel between machines",
            args.coordinator
        )));
    }
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
        bandwidth: args.bandwidth.unwrap_or_default(),
        health: args.health,
    };
    ferry_node::run(config, interrupt()).await.map_err(|e| CliError::Failed(e.to_string()))
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "node".to_owned(), |name| name.trim().to_owned())
}

/// `ferry local-adx`
#[derive(Args)]
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
    /// What shall go wrong, for tests: KIND[:TIMES[:SECONDS]], joined by commas. Kinds: throttle, error, lost-answer,
    /// hang, op-throttle, op-error, op-abandon, slow.
    #[arg(long, default_value = "", value_name = "SPEC")]
    fault: String,
}

pub(crate) async fn local_adx(args: LocalAdxArgs) -> Result<(), CliError> {
    loopback_only(args.listen, "--listen")?;
    let faults: Faults = args.fault.parse().map_err(CliError::Usage)?;
    let storage = args.storage.map(|text| text.parse::<Account>()).transpose();
    let storage = storage.map_err(|why| CliError::Usage(format!("--storage: {why}")))?;
    let config = LocalAdxConfig { listen: args.listen, data: args.data, databases: args.database, faults, storage };
    let endpoint = LocalAdx::open(config).await.map_err(|e| CliError::Failed(e.to_string()))?;
    message(&format!("local-adx: http://{} (for first runs and tests)", endpoint.address));
    endpoint.serve(interrupt()).await.map_err(|e| CliError::Failed(e.to_string()))
}
