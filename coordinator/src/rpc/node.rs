//! `NodeService`: Register, Sync, Leave.

use crate::{
    attempts::{SyncAsk, SyncError},
    core::Core,
    store::{NodeRow, StoreError, Write},
};
use ferry_common::{
    id::{NodeId, RuntimeName},
    link::{self, NodeService, SYNC_HOLD_MAX},
    wire::{WireError, generated as pb},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Slots that one node may have.
const SLOTS_MAX: u32 = 1_024;

pub(crate) struct NodeRpc {
    core: Arc<Core>,
    shutdown: CancellationToken,
}

impl NodeRpc {
    pub(crate) fn new(core: Arc<Core>, shutdown: CancellationToken) -> Self {
        Self { core, shutdown }
    }
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn store_failed(error: &StoreError) -> Status {
    tracing::error!("{error}");
    Status::unavailable(error.to_string())
}

impl From<SyncError> for Status {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::UnknownNode(_) => Self::not_found(error.to_string()),
            SyncError::Store(e) => store_failed(&e),
        }
    }
}

fn sync_ask(request: pb::SyncRequest) -> Result<SyncAsk, WireError> {
    let renewals = request.renewals.into_iter().map(|r| {
        let key = r.key.ok_or(WireError::Missing("key"))?.try_into()?;
        Ok((key, r.progress.unwrap_or_default().into()))
    });
    Ok(SyncAsk {
        node: NodeId::try_from(request.node_id).map_err(|_| WireError::Missing("node_id"))?,
        free_slots: request.free_slots.min(SLOTS_MAX),
        draining: request.draining,
        wait: Duration::from_millis(request.wait_ms).min(SYNC_HOLD_MAX),
        renewals: renewals.collect::<Result<_, WireError>>()?,
        reports: request.reports.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    })
}

#[tonic::async_trait]
impl NodeService for NodeRpc {
    async fn register(&self, request: Request<pb::RegisterRequest>) -> Result<Response<pb::RegisterResponse>, Status> {
        let request = request.into_inner();
        let versions = request.versions.unwrap_or_default();
        let version = versions.max.min(link::VERSION_MAX);
        if version < versions.min || version < link::VERSION_MIN {
            return Err(Status::failed_precondition(format!(
                "the node speaks protocol versions {} to {}, the coordinator {} to {}; upgrade the older one",
                versions.min,
                versions.max,
                link::VERSION_MIN,
                link::VERSION_MAX
            )));
        }
        let now = self.core.now();
        let node = NodeRow {
            id: NodeId::try_from(request.node_id).map_err(unreadable)?,
            name: request.name.chars().take(200).collect(),
            runtime: RuntimeName::try_from(request.runtime).map_err(unreadable)?,
            slots: request.slots.min(SLOTS_MAX),
            program_version: request.program_version.chars().take(50).collect(),
            registered: now,
            last_seen: now,
            is_draining: false,
            has_left: false,
        };
        tracing::info!(node = %node.id, name = node.name, runtime = %node.runtime, slots = node.slots, "node registers");
        self.core.commit(vec![Write::PutNode(node)]).await.map_err(|e| store_failed(&e))?;
        Ok(Response::new(pb::RegisterResponse {
            version,
            lease_ttl_ms: self.core.limits.lease_ttl.as_millis() as u64,
            versions: Some(pb::VersionRange { min: link::VERSION_MIN, max: link::VERSION_MAX }),
        }))
    }

    async fn sync(&self, request: Request<pb::SyncRequest>) -> Result<Response<pb::SyncResponse>, Status> {
        let ask = sync_ask(request.into_inner()).map_err(unreadable)?;
        let answer = tokio::select! {
            answer = self.core.sync(ask) => answer?,
            // A held call must not hold up the end of the program.
            () = self.shutdown.cancelled() => return Err(Status::unavailable("the coordinator stops")),
        };
        let grants = answer.grants.into_iter().map(TryInto::try_into).collect::<Result<_, WireError>>();
        Ok(Response::new(pb::SyncResponse {
            grants: grants.map_err(|e| Status::internal(e.to_string()))?,
            acks: answer.acks.into_iter().map(|(sequence, refused)| pb::Ack { sequence, refused }).collect(),
            stops: answer
                .stops
                .into_iter()
                .map(|(key, reason)| pb::Stop { key: Some(key.into()), reason: reason.to_owned() })
                .collect(),
            drain: answer.drain,
            run_slots: answer
                .run_slots
                .into_iter()
                .map(|(run, slots)| pb::RunSlots { run_id: run.to_string(), slots })
                .collect(),
            lease_ttl_ms: self.core.limits.lease_ttl.as_millis() as u64,
        }))
    }

    async fn leave(&self, request: Request<pb::LeaveRequest>) -> Result<Response<pb::LeaveResponse>, Status> {
        let id = NodeId::try_from(request.into_inner().node_id).map_err(unreadable)?;
        self.core.leave(&id).await?;
        tracing::info!(node = %id, "node leaves");
        Ok(Response::new(pb::LeaveResponse {}))
    }
}
