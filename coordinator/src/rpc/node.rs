//! `NodeService`: Register, Sync, Leave.

use super::{NODE_NAME_CHARS_MAX, certificate_needed, peer_of, store_failed};
use crate::{
    attempts::{SyncAsk, SyncError},
    core::Core,
    door::Door,
    store::{NodeRow, Write},
};
use ferry_common::{
    id::{IdentityId, NodeId, RuntimeName},
    link::{self, NodeService, SYNC_HOLD_MAX},
    trust::NodeIdentity,
    unit::{AttemptKey, BlobAsk},
    wire::{WireError, generated as pb},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Slots that one node may have.
const SLOTS_MAX: u32 = 1_024;

pub(crate) struct NodeRpc {
    core: Arc<Core>,
    /// `None`: nodes need no certificate here.
    door: Option<Arc<Door>>,
    shutdown: CancellationToken,
}

impl NodeRpc {
    pub(crate) fn new(core: Arc<Core>, door: Option<Arc<Door>>, shutdown: CancellationToken) -> Self {
        Self { core, door, shutdown }
    }

    /// Who calls; `None` where nobody is asked.
    async fn caller<T>(&self, request: &Request<T>) -> Result<Option<NodeIdentity>, Status> {
        let Some(door) = &self.door else { return Ok(None) };
        let identity = peer_of(request).and_then(|peer| peer.identity.clone()).ok_or_else(certificate_needed)?;
        self.check(door, &identity).await?;
        Ok(Some(identity))
    }

    /// Waits until the caller may come in no more: a held call ends with that.
    async fn refusal(&self, caller: Option<&NodeIdentity>) -> Status {
        if let (Some(door), Some(identity)) = (&self.door, caller) {
            let mut news = self.core.news();
            while news.changed().await.is_ok() {
                if let Err(refused) = self.check(door, identity).await {
                    return refused;
                }
            }
        }
        std::future::pending().await
    }

    /// The identity may still come in. Asked at each call: connections outlive what was decided when they were made.
    async fn check(&self, door: &Door, identity: &NodeIdentity) -> Result<(), Status> {
        match door.store.identity(&identity.id).await.map_err(|e| store_failed(&e))? {
            None => Err(Status::unauthenticated("this node's certificate is not known here; it must join again")),
            Some(row) if row.revoked.is_some() => Err(Status::permission_denied("this node was revoked")),
            Some(_) => Ok(()),
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

impl From<SyncError> for Status {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::UnknownNode(_) => Self::not_found(error.to_string()),
            SyncError::OtherNode(_) => Self::permission_denied(error.to_string()),
            SyncError::OlderNode(_) => Self::failed_precondition(error.to_string()),
            SyncError::Store(e) => store_failed(&e),
        }
    }
}

fn sync_ask(request: pb::SyncRequest, identity: Option<IdentityId>) -> Result<SyncAsk, WireError> {
    let mut blob_asks: Vec<(AttemptKey, BlobAsk)> = Vec::new();
    let mut renewals = Vec::with_capacity(request.renewals.len());
    for renewal in request.renewals {
        let key: AttemptKey = renewal.key.ok_or(WireError::Missing("key"))?.try_into()?;
        blob_asks.extend(renewal.blobs.map(|ask| (key.clone(), ask.into())));
        renewals.push((key, renewal.progress.unwrap_or_default().into()));
    }
    Ok(SyncAsk {
        by_blob: request.takes_blob_signatures,
        blob_asks,
        node: NodeId::try_from(request.node_id).map_err(|_| WireError::Missing("node_id"))?,
        identity,
        free_slots: request.free_slots.min(SLOTS_MAX),
        draining: request.draining,
        wait: Duration::from_millis(request.wait_ms).min(SYNC_HOLD_MAX),
        renewals,
        reports: request.reports.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    })
}

#[tonic::async_trait]
impl NodeService for NodeRpc {
    async fn register(&self, request: Request<pb::RegisterRequest>) -> Result<Response<pb::RegisterResponse>, Status> {
        let caller = self.caller(&request).await?;
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
            name: request.name.chars().filter(|c| !c.is_control()).take(NODE_NAME_CHARS_MAX).collect(),
            runtime: RuntimeName::try_from(request.runtime).map_err(unreadable)?,
            slots: request.slots.min(SLOTS_MAX),
            program_version: request.program_version.chars().take(50).collect(),
            registered: now,
            last_seen: now,
            is_draining: false,
            has_left: false,
            identity: caller.as_ref().map(|identity| identity.id.clone()),
            may_change_sources: request.may_change_sources,
        };
        if let Some(caller) = caller
            && caller.runtime != node.runtime
        {
            return Err(Status::permission_denied(format!(
                "this node joined integration runtime {}, and wants to work for {}",
                caller.runtime, node.runtime
            )));
        }
        // An id that is another's is not to be had.
        if let Some(known) = self.core.store.node(&node.id).await.map_err(|e| store_failed(&e))?
            && known.identity != node.identity
        {
            return Err(SyncError::OtherNode(node.id).into());
        }
        tracing::info!(node = %node.id, name = node.name, runtime = %node.runtime, slots = node.slots, "node registers");
        self.core.commit(vec![Write::PutNode(node)]).await.map_err(|e| store_failed(&e))?;
        Ok(Response::new(pb::RegisterResponse {
            version,
            lease_ttl_ms: self.core.limits.lease_ttl.as_millis() as u64,
            versions: Some(pb::VersionRange { min: link::VERSION_MIN, max: link::VERSION_MAX }),
        }))
    }

    async fn sync(&self, request: Request<pb::SyncRequest>) -> Result<Response<pb::SyncResponse>, Status> {
        let caller = self.caller(&request).await?;
        let ask = sync_ask(request.into_inner(), caller.as_ref().map(|c| c.id.clone())).map_err(unreadable)?;
        let answer = tokio::select! {
            answer = self.core.sync(ask) => answer?,
            refused = self.refusal(caller.as_ref()) => return Err(refused),
            // A held call must not hold up the end of the program.
            () = self.shutdown.cancelled() => return Err(Status::unavailable("the coordinator stops")),
        };
        if let (Some(door), Some(caller)) = (&self.door, &caller)
            && !(answer.grants.is_empty() && answer.signed.is_empty())
        {
            // It may have been revoked while its call was held. What it would have got goes to others in time.
            self.check(door, caller).await?;
        }
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
            signed: answer.signed.into_iter().map(Into::into).collect(),
        }))
    }

    async fn leave(&self, request: Request<pb::LeaveRequest>) -> Result<Response<pb::LeaveResponse>, Status> {
        let caller = self.caller(&request).await?;
        let id = NodeId::try_from(request.into_inner().node_id).map_err(unreadable)?;
        self.core.leave(&id, caller.map(|c| c.id).as_ref()).await?;
        tracing::info!(node = %id, "node leaves");
        Ok(Response::new(pb::LeaveResponse {}))
    }
}
