//! `JoinService`: nodes come by their certificates.

use super::{NODE_NAME_CHARS_MAX, peer_of};
use crate::{
    core::Core,
    door::{Certified, Door, JoinError},
};
use ferry_common::{id::RuntimeName, link::JoinService, wire::generated as pb};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(crate) struct JoinRpc {
    core: Arc<Core>,
    /// `None`: nodes need no certificate here.
    door: Option<Arc<Door>>,
}

impl JoinRpc {
    pub(crate) fn new(core: Arc<Core>, door: Option<Arc<Door>>) -> Self {
        Self { core, door }
    }

    fn door(&self) -> Result<&Door, Status> {
        self.door.as_deref().ok_or_else(|| Status::failed_precondition("this coordinator asks for no certificates"))
    }
}

impl From<JoinError> for Status {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Unknown | JoinError::Ended(_) => Self::unauthenticated(error.to_string()),
            JoinError::OtherRuntime { .. } | JoinError::Revoked => Self::permission_denied(error.to_string()),
            JoinError::Request(e) => Self::invalid_argument(e.to_string()),
            JoinError::Store(e) => super::store_failed(&e),
        }
    }
}

fn certificate(door: &Door, certified: Certified) -> pb::Certificate {
    pb::Certificate {
        certificate: certified.certificate,
        authority: door.keys.pinned().map(|a| a.certificate().to_vec()).unwrap_or_default(),
        ttl_ms: u64::try_from(door.keys.node_cert_ttl().as_millis()).unwrap_or(u64::MAX),
    }
}

#[tonic::async_trait]
impl JoinService for JoinRpc {
    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::Certificate>, Status> {
        let door = self.door()?;
        let ip = peer_of(&request).map(|peer| peer.ip);
        let pb::JoinRequest { token, certificate_request, runtime, name } = request.into_inner();
        let runtime = RuntimeName::try_from(runtime).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let name: String = name.chars().filter(|c| !c.is_control()).take(NODE_NAME_CHARS_MAX).collect();
        match door.join(&token, certificate_request, runtime, name.clone(), self.core.now()).await {
            Ok(certified) => {
                let identity = &certified.identity;
                tracing::info!(identity = %identity.id, name, runtime = %identity.runtime, "a node joins");
                Ok(Response::new(certificate(door, certified)))
            }
            Err(error) => {
                if let (JoinError::Unknown, Some(ip)) = (&error, ip) {
                    if let Some(wait) = door.sign_ins.refuses(ip) {
                        let wait = wait.as_secs();
                        return Err(Status::resource_exhausted(format!(
                            "too many tokens that are none; wait {wait} s"
                        )));
                    }
                    door.sign_ins.failed(ip);
                }
                tracing::warn!(peer = ip.map(tracing::field::display), name, "a node may not join: {error}");
                Err(error.into())
            }
        }
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::Certificate>, Status> {
        let door = self.door()?;
        let identity = peer_of(&request).and_then(|peer| peer.identity.clone());
        let identity = identity.ok_or_else(|| Status::unauthenticated("a client certificate is needed"))?;
        let request = request.into_inner().certificate_request;
        let certified = door.renew_node(identity, request, self.core.now()).await?;
        tracing::info!(identity = %certified.identity.id, "a node's certificate is renewed");
        Ok(Response::new(certificate(door, certified)))
    }
}
