//! The coordinator: plans, leases, ingests, remembers; serves nodes and programs. It never reads source data.
//!
//! This file wires; it decides nothing.

mod access;
mod api;
mod attempts;
mod config;
mod core;
mod desk;
mod duties;
mod grants;
mod ingest;
mod leaks;
mod ledger;
mod packing;
pub mod planner;
pub mod rehearsal;
pub mod report;
mod reports;
mod rpc;
pub mod scheduler;
pub mod state;
pub mod store;

pub use config::{CoordinatorConfig, Limits};

use crate::{core::Core, store::SqlStore};
use ferry_common::{clock::SystemClock, failure::with_causes, link};
use std::{future::IntoFuture as _, net::SocketAddr, sync::Arc};
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
        let store = SqlStore::open(&config.store).await?;
        let core =
            Arc::new(Core::new(Arc::new(store), Arc::new(SystemClock), Arc::new(ingest::Clusters), config.limits));
        Ok(Self { core, grpc, http, grpc_address, http_address })
    }

    /// Serves until `shutdown`. Runs go on where they are when a coordinator starts again on the same store.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), CoordinatorError> {
        tracing::info!(grpc = %self.grpc_address, http = %self.http_address, "coordinator serves");
        let duties = duties::start(self.core.clone(), shutdown.clone());
        let incoming = tonic::transport::server::TcpIncoming::from(self.grpc).with_nodelay(Some(true));
        let nodes = link::server(rpc::node::NodeRpc::new(self.core.clone(), shutdown.clone()))
            .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
        let programs = axum::serve(self.http, api::router(self.core.clone()))
            .with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let (nodes, programs) =
            tokio::join!(stop_others(nodes, &shutdown), stop_others(programs.into_future(), &shutdown));
        duties.await;
        nodes.map_err(|e| CoordinatorError::Serve { what: "serving nodes", why: with_causes(&e) })?;
        programs.map_err(|e| CoordinatorError::Serve { what: "serving programs", why: with_causes(&e) })
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
