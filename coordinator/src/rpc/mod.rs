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

fn store_failed(error: &StoreError) -> Status {
    tracing::error!("{error}");
    Status::unavailable(error.to_string())
}
