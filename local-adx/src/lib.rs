//! A small endpoint that Azure Data Explorer's clients can work with, in one process: for first runs and tests, never a
//! stand-in for the service. What it lacks it refuses by name, with an error of the service's own form.

mod catalogue;
mod commands;
mod error;
mod extents;
mod faults;
mod frame;
mod ingest;
pub mod kql;
mod queued;
mod roles;
mod server;
mod sign_in;
pub mod types;

pub use error::AdxError;
pub use faults::{Fault, Faults};
pub use queued::Account;
pub use roles::{Role, Roles};

use catalogue::Catalogue;
use frame::Frame;
use kql::{Parser, ast::Source, needed_columns, run_operators, source_frame};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

const FETCH_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that a blob's download may go without a byte.
const FETCH_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Ingestions that run at once; more wait.
const CAPACITY: i64 = 2;

/// Settings of an endpoint.
#[derive(Debug)]
pub struct LocalAdxConfig {
    /// Where to listen. Port 0: any.
    pub listen: SocketAddr,
    /// Where catalogue and extents are kept.
    pub data: PathBuf,
    /// Only these databases exist; none: one of any name exists from its first use.
    pub databases: Vec<String>,
    /// What shall go wrong.
    pub faults: Faults,
    /// The account that clients of queued ingestion write to; without one, blobs are handed over by REST alone.
    pub storage: Option<Account>,
    /// Where clients get their tokens; without one, nobody is asked for any.
    pub login_endpoint: Option<String>,
    /// What whoever asks may do.
    pub roles: Roles,
}

/// Why an endpoint cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum LocalAdxError {
    /// The address is taken or not ours.
    #[error(
        "cannot listen on {address} (local-adx): {source}; is another ferry running, or choose another with --listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The storage account.
    #[error("{0}")]
    Storage(String),
    /// The data folder.
    #[error("data folder {folder}: {why}")]
    Data {
        /// The folder.
        folder: String,
        /// What went wrong.
        why: String,
    },
    /// Serving ended.
    #[error("local-adx: {0}")]
    Serve(std::io::Error),
}

pub(crate) struct Adx {
    catalogue: Catalogue,
    http: reqwest::Client,
    databases: Vec<String>,
    faults: Faults,
    slots: Arc<Semaphore>,
    capacity: i64,
    storage: Option<Arc<queued::Storage>>,
    login_endpoint: Option<String>,
    roles: Roles,
    /// Something was handed over by REST.
    handed: tokio::sync::Notify,
}

/// 100 ns ticks since 1970-01-01 UTC.
pub(crate) fn now_ticks() -> i64 {
    let now = jiff::Timestamp::now();
    now.as_microsecond() * 10 + i64::from(now.subsec_nanosecond() % 1000) / 100
}

impl Adx {
    fn ingesting_now(&self) -> i64 {
        self.capacity - self.slots.available_permits() as i64
    }

    /// Runs a query.
    async fn query(&self, db: &str, text: &str) -> Result<Frame, AdxError> {
        self.roles.check_query(db)?;
        let query = Parser::new(text)?.query()?;
        let Source::Table(name) = &query.source else {
            return run_operators([source_frame(&query.source)], &query.operators);
        };
        let Some(table) = self.catalogue.table(db, name).await? else {
            return Err(AdxError::semantic(format!(
                "Semantic error: SEM0100: 'where' operator: Failed to resolve table or column expression named '{name}'"
            )));
        };
        let extents = self.catalogue.extents(db, name).await?;
        let paths: Vec<_> = extents.iter().map(|e| (self.catalogue.extent_path(&e.id), e.rows)).collect();
        let run = move || {
            let mut wanted = needed_columns(&query.operators);
            if let Some(wanted) = &mut wanted {
                // A name that is no column is told by the operator that uses it, with the table's columns at hand.
                if wanted.iter().any(|w| table.columns.iter().all(|c| c.name != *w)) {
                    return run_operators([Ok(empty(&table.columns))], &query.operators)
                        .map(drop)
                        .and_then(|()| read_all(&paths, &table.columns, None, &query.operators));
                }
            }
            read_all(&paths, &table.columns, wanted.as_ref(), &query.operators)
        };
        tokio::task::spawn_blocking(run).await.map_err(|e| AdxError::internal(e.to_string()))?
    }
}

fn empty(columns: &[catalogue::Column]) -> Frame {
    let cols = columns.iter().map(|c| (c.name.clone(), kql::null_column(c.kind, 0)));
    Frame::new(cols.collect())
}

fn read_all(
    paths: &[(PathBuf, i64)],
    columns: &[catalogue::Column],
    wanted: Option<&std::collections::BTreeSet<String>>,
    operators: &[kql::ast::Operator],
) -> Result<Frame, AdxError> {
    let shown: Vec<_> = columns.iter().filter(|c| wanted.is_none_or(|w| w.contains(&c.name))).cloned().collect();
    let mut parts = vec![Ok(empty(&shown))];
    for (path, rows) in paths {
        parts.extend(extents::read(path, columns, wanted, *rows)?);
    }
    run_operators(parts, operators)
}

/// An endpoint whose port is open.
pub struct LocalAdx {
    adx: Arc<Adx>,
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
}

impl LocalAdx {
    /// Opens port and data folder.
    pub async fn open(config: LocalAdxConfig) -> Result<Self, LocalAdxError> {
        let address = config.listen;
        let listener = TcpListener::bind(address).await.map_err(|source| LocalAdxError::Listen { address, source })?;
        let address = listener.local_addr().unwrap_or(address);
        let failed = |why: String| LocalAdxError::Data { folder: config.data.display().to_string(), why };
        let catalogue = Catalogue::open(&config.data).await.map_err(|e| failed(e.message))?;
        let http = reqwest::Client::builder()
            .connect_timeout(FETCH_CONNECT_TIMEOUT)
            .read_timeout(FETCH_IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let storage = match config.storage {
            Some(account) => {
                let opened = queued::Storage::open(account, http.clone()).await;
                Some(Arc::new(opened.map_err(|e| LocalAdxError::Storage(e.message))?))
            }
            None => None,
        };
        let adx = Adx {
            login_endpoint: config.login_endpoint,
            roles: config.roles,
            storage,
            handed: tokio::sync::Notify::new(),
            catalogue,
            http,
            databases: config.databases,
            faults: config.faults,
            slots: Arc::new(Semaphore::new(CAPACITY as usize)),
            capacity: CAPACITY,
        };
        Ok(Self { adx: Arc::new(adx), listener, address })
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), LocalAdxError> {
        tracing::info!(address = %self.address, "local-adx serves");
        let work = tokio::spawn(self.adx.clone().work_on_queues(shutdown.clone()));
        let served = axum::serve(self.listener, server::router(self.adx))
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await;
        // What is being ingested is ended; what waits is taken up at the next start.
        drop(work.await);
        served.map_err(LocalAdxError::Serve)
    }
}
