//! The talk with the coordinator: register, sync, leave. The node dials; everything it says may be said again.

use crate::{
    NodeConfig,
    bandwidth::Bandwidth,
    health,
    identity::{IdentityError, Joined, Membership},
    meters::Meters,
    slots::{Reach, Slots},
    stage::Around,
};
use ferry_common::{
    failure::{backoff, with_causes},
    id::NodeId,
    link::{self, NodeServiceClient, SYNC_HOLD_MAX},
    trust::{ClientIdentity, Dialer, Trust},
    wire::generated as pb,
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
};

/// How long a Sync may be held while attempts run: their progress is wanted about this often.
const SYNC_HOLD_BUSY: Duration = Duration::from_secs(1);
/// How long a node that was told to stop tries to give back what it holds.
const GOODBYE_MAX: Duration = Duration::from_secs(10);
/// Longest wait between tries to reach the coordinator.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why a node cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address is no address.
    #[error("coordinator address {address}: {why}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The two programs have no protocol version in common, or the node was revoked.
    #[error("the coordinator refuses this node: {0}")]
    Refused(String),
    /// The coordinator does not know who this is.
    #[error("the coordinator does not know this node: {0}")]
    Unknown(String),
    /// No certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The health port.
    #[error("health address {address}: {source}")]
    Health {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs a node until `shutdown`; then what it holds is given back.
pub async fn run(config: NodeConfig, shutdown: CancellationToken) -> Result<(), LinkError> {
    let ready = Arc::new(health::Ready::default());
    let meters = Arc::new(Meters::default());
    if let Some(address) = config.health {
        health::serve(address, ready.clone(), meters.clone(), shutdown.clone())
            .await
            .map_err(|source| LinkError::Health { address, source })?;
    }
    let Some(membership) = config.membership.clone() else {
        let dialer = Dialer::new(&Trust::System, ClientIdentity::default()).map_err(IdentityError::from)?;
        let channel = link::channel(&config.coordinator, dialer)
            .map_err(|e| LinkError::Address { address: config.coordinator.clone(), why: with_causes(&e) })?;
        return work(link::client_over(channel), config, None, ready, meters, shutdown).await;
    };
    let membership = Membership::open(membership, &config.coordinator, &config.name, &config.runtime)?;
    let mut joined = membership.join(&shutdown).await?;
    let mut is_new = false;
    loop {
        let Joined::Member(channel) = joined else { return Ok(()) };
        let client = link::client_over(channel.clone());
        let result = tokio::select! {
            result = work(client, config.clone(), None, ready.clone(), meters.clone(), shutdown.clone()) => result,
            why = membership.keep(channel) => Err(why.into()),
        };
        match result {
            // Another store, perhaps. What the node has is kept; where it may, it joins once more.
            Err(LinkError::Unknown(why)) if membership.has_token() && !is_new => {
                tracing::warn!("{why}; joining anew");
                is_new = true;
                joined = membership.join_anew("a certificate that is not known", &shutdown).await?;
            }
            result => return result,
        }
    }
}

/// Runs a node through a client that is there, without health and certificates, and with something around its staging.
pub async fn run_over<T>(
    client: NodeServiceClient<T>,
    config: NodeConfig,
    around: Option<Around>,
    shutdown: CancellationToken,
) -> Result<(), LinkError>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    work(client, config, around, Arc::default(), Arc::default(), shutdown).await
}

async fn work<T>(
    client: NodeServiceClient<T>,
    config: NodeConfig,
    around: Option<Around>,
    ready: Arc<health::Ready>,
    meters: Arc<Meters>,
    shutdown: CancellationToken,
) -> Result<(), LinkError>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let bandwidth = Bandwidth::new(config.bandwidth.clone());
    let reach = Reach { roots: config.roots.clone(), may_change_sources: config.may_change_sources };
    let slots = Slots::new(&config.name, config.slots, reach, bandwidth, meters.clone());
    let slots = slots.staging_around(around);
    let mut link = Link {
        node: NodeId::generate(),
        client,
        config,
        slots,
        ready,
        meters,
        failures: 0,
        draining: false,
        stopping: false,
    };
    tracing::info!(node = %link.node, name = link.config.name, runtime = %link.config.runtime, slots = link.config.slots, "node starts");
    link.register_and_sync(&shutdown).await?;
    link.say_goodbye().await;
    Ok(())
}

struct Link<T> {
    node: NodeId,
    client: NodeServiceClient<T>,
    config: NodeConfig,
    slots: Slots,
    ready: Arc<health::Ready>,
    meters: Arc<Meters>,
    /// Calls that failed in a row.
    failures: u32,
    draining: bool,
    /// It was told to end.
    stopping: bool,
}

impl<T> Link<T>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    async fn register_and_sync(&mut self, shutdown: &CancellationToken) -> Result<(), LinkError> {
        let mut registered = false;
        while !shutdown.is_cancelled() {
            let step = async {
                if !registered {
                    self.register().await?;
                    registered = true;
                }
                self.sync(None).await
            };
            let result = tokio::select! {
                result = step => result,
                () = shutdown.cancelled() => return Ok(()),
            };
            match result {
                Ok(()) => self.failures = 0,
                Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::PermissionDenied) => {
                    return Err(LinkError::Refused(status.message().to_owned()));
                }
                Err(status) if status.code() == Code::Unauthenticated => {
                    return Err(LinkError::Unknown(status.message().to_owned()));
                }
                Err(status) => {
                    if status.code() == Code::NotFound {
                        // The coordinator's store is another than before.
                        registered = false;
                    }
                    self.failures += 1;
                    self.meters.link_failed(status.code());
                    if self.failures == 1 {
                        tracing::warn!(
                            coordinator = self.config.coordinator,
                            "no answer: {}; trying again",
                            status.message()
                        );
                    }
                    let wait = backoff(self.failures, spread(&self.node, self.failures)).min(RETRY_WAIT_MAX);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = shutdown.cancelled() => return Ok(()),
                    }
                }
            }
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<(), Status> {
        let request = pb::RegisterRequest {
            node_id: self.node.to_string(),
            name: self.config.name.clone(),
            runtime: self.config.runtime.to_string(),
            slots: self.config.slots,
            versions: Some(pb::VersionRange { min: link::VERSION_MIN, max: link::VERSION_MAX }),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            may_change_sources: self.config.may_change_sources,
        };
        let response = self.client.register(request).await?.into_inner();
        self.ready.seen();
        tracing::info!(node = %self.node, version = response.version, "registered");
        Ok(())
    }

    /// One exchange. A held call is dropped when there is something to say; a grant that is lost with it comes again.
    async fn sync(&mut self, hold: Option<Duration>) -> Result<(), Status> {
        let reports = self.slots.outbox().first();
        let held = self.slots.held();
        let hold = hold.unwrap_or(match (reports.is_empty(), held.is_empty()) {
            (false, _) => Duration::ZERO,
            (true, false) => SYNC_HOLD_BUSY,
            (true, true) => SYNC_HOLD_MAX,
        });
        let request = pb::SyncRequest {
            node_id: self.node.to_string(),
            free_slots: if self.draining { 0 } else { self.slots.free() },
            draining: self.draining,
            wait_ms: hold.as_millis() as u64,
            renewals: held
                .into_iter()
                .map(|held| pb::Renewal {
                    key: Some(held.key.into()),
                    progress: Some(held.progress.into()),
                    blobs: held.blobs.map(Into::into),
                })
                .collect(),
            reports: reports.into_iter().map(Into::into).collect(),
            takes_blob_signatures: true,
        };
        let response = if hold.is_zero() {
            self.client.sync(request).await?
        } else {
            tokio::select! {
                response = self.client.sync(request) => response?,
                () = self.slots.outbox().changed() => return Ok(()),
            }
        };
        self.ready.seen();
        self.handle(response.into_inner());
        Ok(())
    }

    fn handle(&mut self, response: pb::SyncResponse) {
        for ack in response.acks {
            self.slots.acknowledge(ack.sequence, ack.refused);
        }
        for stop in response.stops {
            match stop.key.map(TryInto::try_into) {
                Some(Ok(key)) => self.slots.stop(&key, &stop.reason),
                _ => tracing::warn!("a stop order that cannot be read is passed over"),
            }
        }
        for signed in response.signed {
            match signed.try_into() {
                Ok(signed) => self.slots.take_signatures(signed),
                Err(e) => tracing::error!("signatures that cannot be read are passed over: {e}"),
            }
        }
        if response.drain && !self.draining {
            tracing::info!(node = %self.node, "draining: no more work is taken");
        }
        self.draining = response.drain || self.stopping;
        if self.stopping {
            // What was granted meanwhile goes back with the goodbye.
            return;
        }
        for grant in response.grants {
            match grant.try_into() {
                Ok(grant) => self.slots.start(grant),
                // The lease runs out, and a node that understands it gets the unit.
                Err(e) => tracing::error!("a grant that cannot be read is passed over: {e}"),
            }
        }
        for held in response.run_slots {
            match held.run_id.parse() {
                Ok(run) => self.slots.share_bandwidth(&run, held.slots),
                Err(e) => tracing::warn!("slots of a run that cannot be read: {e}"),
            }
        }
    }

    /// Gives everything back and says so, for a limited time: leases that stay run out by themselves.
    async fn say_goodbye(&mut self) {
        self.stopping = true;
        self.draining = true;
        self.slots.give_all_back();
        let all_told = async {
            while !(self.slots.is_idle() && self.slots.outbox().is_empty()) {
                if self.slots.outbox().is_empty() {
                    self.slots.ended().await;
                } else if self.sync(Some(Duration::ZERO)).await.is_err() {
                    return;
                }
            }
            let _ = self.client.leave(pb::LeaveRequest { node_id: self.node.to_string() }).await;
        };
        if tokio::time::timeout(GOODBYE_MAX, all_told).await.is_err() {
            tracing::warn!(node = %self.node, "left without a word: the coordinator did not answer in time");
        } else {
            tracing::info!(node = %self.node, "node stops");
        }
    }
}

/// Spreads the repeats of many nodes over time, without a random source: by node and count.
fn spread(node: &NodeId, failures: u32) -> f64 {
    let hash = crc32fast::hash(format!("{node}{failures}").as_bytes());
    f64::from(hash) / f64::from(u32::MAX)
}
