//! What the scenarios stand on: real programs on this machine, each in a folder of its own, ended with the test.
#![allow(clippy::expect_used, reason = "a harness fails by panicking")]

mod azurite;
mod behind_proxy;
mod cluster;
mod entra;
mod flights;
mod intruder;
mod issuer;
mod metadata_service;
mod pods;
mod postgres;
mod program;
mod relay;
mod secrets;
mod secured;
mod service;
mod tmpfs;

pub use azurite::Azurite;
pub use behind_proxy::BehindProxy;
pub use cluster::{Cluster, ClusterOptions, Relays};
pub use entra::{APPLICATION, EntraServer, TENANT, write_certificate};
pub use flights::{Facts, write_flights};
pub use intruder::{Granted, Intruder};
pub use issuer::Issuer;
pub use metadata_service::MetadataService;
pub use pods::{Host, Manifests, Pod, Workload};
pub use postgres::Postgres;
pub use program::{Program, ferry, ferry_path, free_port, python, python_in, query, repository, tools};
pub use relay::{Relay, Weather};
pub use secrets::{Place, leaks};
pub use secured::{Secured, SecuredOptions};
pub use service::Service;
pub use tmpfs::Tmpfs;

use std::time::{Duration, Instant};

/// Longest wait for a condition: far beyond what a slow machine needs.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until `condition` gives something.
///
/// # Panics
/// When it never does.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
