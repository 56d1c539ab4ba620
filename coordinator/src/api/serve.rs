//! Connections of programs, each with limits of its own: whoever is slow to ask is let go.

use crate::door::{Listener, Stream};
use axum::{Router, body::Body, http::Request};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Time for the head of a request, the first and each one after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long requests under way are waited for at the end.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// Serves `router` until `shutdown`.
pub(crate) async fn serve(mut connections: Listener, router: Router, shutdown: CancellationToken) {
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            stream = connections.next() => stream,
            () = shutdown.cancelled() => None,
        };
        let Some(stream) = stream else { break };
        let connection = one(stream, router.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("a connection of a program ends: {e}");
            }
        });
    }
    let _ = tokio::time::timeout(GOODBYE_MAX, graceful.shutdown()).await;
}

type Connection = http1::Connection<TokioIo<Stream>, TowerToHyperService<WithPeer>>;

fn one(stream: Stream, router: Router) -> Connection {
    let service = WithPeer { router, peer: stream.peer.clone() };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
}

/// The router, told with each request who is at the other end.
#[derive(Clone)]
struct WithPeer {
    router: Router,
    peer: crate::door::Peer,
}

impl tonic::codegen::Service<Request<hyper::body::Incoming>> for WithPeer {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = <Router as tonic::codegen::Service<Request<Body>>>::Future;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), std::convert::Infallible>> {
        tonic::codegen::Service::<Request<Body>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        self.router.call(request)
    }
}
