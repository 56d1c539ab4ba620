//! The coordinator: plans, leases, ingests, remembers; serves nodes and programs. It never reads source data.
//!
//! This file wires; it decides nothing.

mod access;
mod api;
mod attempts;
mod blobs;
mod checks;
mod clearing;
mod config;
mod core;
mod desk;
mod door;
mod duties;
mod estimate;
pub mod fingerprint;
mod grants;
mod identities;
mod ingest;
mod leaks;
mod ledger;
mod listed;
mod loaded;
mod meters;
mod metrics;
mod pace;
mod packing;
pub mod planner;
pub mod rehearsal;
mod remedies;
pub mod report;
mod reports;
mod rpc;
mod sas;
mod schedule;
pub mod scheduler;
mod secrets;
pub mod state;
pub mod store;
mod timeline;
mod vault;
mod web;
mod within;

pub use config::{CoordinatorConfig, GivenCertificate, Limits, OidcConfig, TlsConfig};
pub use door::{DoorError, create_folder, raise_open_files};
pub use schedule::{CatchUp, Schedule, Window};

use crate::{
    core::Core,
    door::{Door, Keys, Listener, Oidc, SignIns},
    identities::Identities,
    store::{Schedules, SqlStore},
};
use ferry_common::{clock::SystemClock, failure::with_causes, link};
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Why a coordinator cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address} ({what}): {source}; is another ferry running, or choose another with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What for.
        what: &'static str,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Keys and certificates.
    #[error("TLS of the ports: {0}")]
    Door(#[from] DoorError),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// Serving ended.
    #[error("{what}: {why}")]
    Serve {
        /// Which server.
        what: &'static str,
        /// What it said.
        why: String,
    },
}

/// A coordinator whose ports are open and whose store is up to date.
pub struct Coordinator {
    core: Arc<Core>,
    schedules: Arc<dyn Schedules>,
    door: Option<Arc<Door>>,
    is_http_plain: bool,
    grpc: TcpListener,
    http: TcpListener,
    /// Where nodes dial in.
    pub grpc_address: SocketAddr,
    /// Where programs dial in.
    pub http_address: SocketAddr,
}

impl Coordinator {
    /// Opens ports and store.
    pub async fn open(config: CoordinatorConfig) -> Result<Self, CoordinatorError> {
        let grpc = bind(config.grpc, "nodes", "--grpc").await?;
        let http = bind(config.http, "programs", "--http").await?;
        let (grpc_address, http_address) = (address_of(&grpc, config.grpc), address_of(&http, config.http));
        let store = Arc::new(SqlStore::open(&config.store).await?);
        let schedules = store.clone();
        let door = match &config.tls {
            Some(tls) => {
                let keys = Keys::open(tls)?;
                let oidc = tls.oidc.clone().map(Oidc::new).transpose();
                let oidc = oidc.map_err(|why| CoordinatorError::Serve { what: "tokens of the issuer", why })?;
                Some(Arc::new(Door { keys, store: store.clone(), sign_ins: SignIns::default(), oidc }))
            }
            None => None,
        };
        let identities = Arc::new(Identities::default());
        let clusters = Arc::new(ingest::Clusters::new(identities.clone()));
        let core = Arc::new(Core::new(store, Arc::new(SystemClock), clusters, identities, config.limits));
        Ok(Self { core, schedules, door, is_http_plain: config.is_http_plain, grpc, http, grpc_address, http_address })
    }

    /// Serves until `shutdown`. Runs go on where they are when a coordinator starts again on the same store.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), CoordinatorError> {
        let Self { core, schedules, door, is_http_plain, grpc, http, grpc_address, http_address } = self;
        let (for_nodes, for_programs) = match &door {
            Some(door) => {
                let for_programs = (!is_http_plain).then(|| door.keys.for_programs());
                (Some(door.keys.for_nodes()?), for_programs)
            }
            None => (None, None),
        };
        tracing::info!(grpc = %grpc_address, http = %http_address, tls = door.is_some(), "coordinator serves");
        let duties = duties::start(core.clone(), shutdown.clone());
        let nodes = Listener::start(grpc, for_nodes, shutdown.clone());
        let nodes = futures::stream::unfold(nodes, |mut nodes| async {
            let stream = nodes.next().await?;
            Some((Ok::<_, std::io::Error>(stream), nodes))
        });
        let node_rpc = rpc::node::NodeRpc::new(core.clone(), door.clone(), shutdown.clone());
        let join_rpc = rpc::join::JoinRpc::new(core.clone(), door.clone());
        let nodes = link::server(node_rpc, join_rpc, rpc::gate(door.is_some()))
            .serve_with_incoming_shutdown(nodes, shutdown.clone().cancelled_owned());
        let programs = Listener::start(http, for_programs, shutdown.clone());
        let front = api::Front {
            is_tls: door.is_some() && !is_http_plain,
            is_insecure: is_http_plain && !http_address.ip().is_loopback(),
            shutdown: shutdown.clone(),
        };
        let router = api::router(core.clone(), schedules.clone(), door.clone(), front);
        let programs = api::serve(programs, router, shutdown.clone());
        let scheduling = duties::schedules::submit(core.clone(), schedules, shutdown.clone());
        let renewing = async {
            if let Some(door) = &door {
                tokio::select! {
                    () = door.keys.renew() => {}
                    () = door.forget(&*core.clock) => {}
                    () = door.keep_issuer() => {}
                    () = shutdown.cancelled() => {}
                }
            }
        };
        let (nodes, (), (), ()) =
            tokio::join!(stop_others(nodes, &shutdown), stop_others(programs, &shutdown), renewing, scheduling);
        duties.await;
        nodes.map_err(|e| CoordinatorError::Serve { what: "serving nodes", why: with_causes(&e) })
    }
}

/// When one server ends, the rest of the program ends with it.
async fn stop_others<T>(server: impl Future<Output = T>, shutdown: &CancellationToken) -> T {
    let _stop = shutdown.clone().drop_guard();
    server.await
}

async fn bind(address: SocketAddr, what: &'static str, flag: &'static str) -> Result<TcpListener, CoordinatorError> {
    TcpListener::bind(address).await.map_err(|source| CoordinatorError::Listen { address, what, flag, source })
}

fn address_of(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
