//! What lies between nodes and coordinator: calls that are slow, lost on either way, or made twice.

use crate::{chance::Chance, storage::SlowStorage};
use ferry_common::link;
use ferry_node::NodeConfig;
use http_body_util::{BodyExt as _, Full};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    body::Body,
    codegen::{
        Bytes,
        http::{Request, Response, request::Parts},
    },
    service::Routes,
};
use tower::ServiceExt as _;

/// As long as a node's own client waits.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The coordinators that answer now, and the word of their end.
type Answering = Vec<(Routes, CancellationToken)>;

/// The network.
#[derive(Clone)]
pub(crate) struct Network {
    answering: Arc<Mutex<Answering>>,
    chance: Chance,
    /// What a message takes, mostly.
    usual_ms: u64,
    share: f64,
    is_calm: Arc<AtomicBool>,
}

/// One node on it.
pub(crate) struct Peer {
    /// Nothing comes through in either direction.
    pub(crate) is_cut: Arc<AtomicBool>,
    pub(crate) shutdown: CancellationToken,
}

impl Network {
    pub(crate) fn new(chance: Chance, share: f64, is_slow: bool) -> Self {
        let usual_ms = if !is_slow && chance.strikes(0.5) { 20 } else { chance.number(20, 5_000) };
        Self { answering: Arc::default(), chance, usual_ms, share, is_calm: Arc::default() }
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    /// Calls go to any of these coordinators from now on.
    pub(crate) fn answer_with(&self, answering: Answering) {
        *self.answering.lock().unwrap_or_else(PoisonError::into_inner) = answering;
    }

    /// Starts a node, to which staging is like this.
    pub(crate) fn start_node(&self, config: NodeConfig, storage: SlowStorage) -> Peer {
        let peer = Peer { is_cut: Arc::default(), shutdown: CancellationToken::new() };
        let (network, is_cut, shutdown) = (self.clone(), peer.is_cut.clone(), peer.shutdown.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (network, is_cut) = (network.clone(), is_cut.clone());
            async move {
                let call = network.call(request, is_cut);
                tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(Status::unavailable("timeout")))
            }
        });
        let client = link::client_over(service);
        let around: ferry_node::Around = Arc::new(move |staging| storage.around(staging));
        tokio::spawn(async move {
            ferry_node::run_over(client, config, Some(around), shutdown).await.expect("a node goes on");
        });
        peer
    }

    fn strikes(&self) -> bool {
        !self.is_calm.load(Ordering::Relaxed) && self.chance.strikes(self.share)
    }

    async fn call(&self, request: Request<Body>, is_cut: Arc<AtomicBool>) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await?.to_bytes();
        tokio::time::sleep(self.chance.wait(self.usual_ms, 8_000)).await;
        let is_lost = |network: &Self| is_cut.load(Ordering::Relaxed) || network.strikes();
        if is_lost(self) {
            tokio::time::sleep(self.chance.wait(1_000, 30_000)).await;
            return Err(Status::unavailable("the request was lost"));
        }
        if self.strikes() {
            // The same message once more, later.
            let (network, parts, bytes) = (self.clone(), parts.clone(), bytes.clone());
            tokio::spawn(async move {
                tokio::time::sleep(network.chance.wait(2_000, 60_000)).await;
                let _ = network.deliver(parts, bytes).await;
            });
        }
        let response = self.deliver(parts, bytes).await?;
        tokio::time::sleep(self.chance.wait(self.usual_ms, 8_000)).await;
        if is_lost(self) {
            return Err(Status::unavailable("the answer was lost"));
        }
        Ok(response)
    }

    async fn deliver(&self, parts: Parts, bytes: Bytes) -> Result<Response<Body>, Status> {
        let answering = self.answering.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let any = self.chance.number(0, answering.len().max(1) as u64 - 1);
        let Some((routes, ended)) = answering.into_iter().nth(usize::try_from(any).unwrap_or(0)) else {
            return Err(Status::unavailable("nobody answers"));
        };
        let request = Request::from_parts(parts, Body::new(Full::new(bytes)));
        tokio::select! {
            response = routes.oneshot(request) => match response {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            },
            () = ended.cancelled() => Err(Status::unavailable("the coordinator died")),
        }
    }
}
