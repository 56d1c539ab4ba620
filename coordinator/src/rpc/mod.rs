//! The nodes' link, answered: wire in, one domain call, wire out.

pub(crate) mod join;
pub(crate) mod node;

use crate::{door::Peer, store::StoreError};
use tonic::{Request, Status};

/// Longest name of a node.
const NODE_NAME_CHARS_MAX: usize = 200;

/// Who is at the other end; `None` where there is no connection, in tests.
fn peer_of<T>(request: &Request<T>) -> Option<&Peer> {
    request.extensions().get::<Peer>()
}

/// What a caller without a certificate is told, where one is asked for: before its message is read.
pub(crate) fn gate(
    asks_for_certificate: bool,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |request| {
        let has_one = peer_of(&request).is_some_and(|peer| peer.identity.is_some());
        if has_one || !asks_for_certificate { Ok(request) } else { Err(certificate_needed()) }
    }
}

fn certificate_needed() -> Status {
    Status::unauthenticated("this coordinator asks for a client certificate: start the node with --token-file")
}

fn store_failed(error: &StoreError) -> Status {
    tracing::error!("{error}");
    Status::unavailable(error.to_string())
}
