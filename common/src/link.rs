//! The nodes' link: protocol versions, limits, and the one place where its channels are set up.

use crate::trust::Dialer;
use std::time::Duration;
use tonic::{
    Request, Status,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, InterceptedService, StdError},
    transport::{Channel, Endpoint, Server, server::Router},
};

pub use crate::wire::generated::join_service_client::JoinServiceClient;
pub use crate::wire::generated::join_service_server::{JoinService, JoinServiceServer};
pub use crate::wire::generated::node_service_client::NodeServiceClient;
pub use crate::wire::generated::node_service_server::{NodeService, NodeServiceServer};

/// Oldest protocol version that this program speaks.
pub const VERSION_MIN: u32 = 1;
/// Newest protocol version that this program speaks.
pub const VERSION_MAX: u32 = 1;
/// Longest that a Sync is held open.
pub const SYNC_HOLD_MAX: Duration = Duration::from_secs(10);
/// Largest message.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Largest message of a node that joins.
const JOIN_BYTES_MAX: usize = 64 << 10;
/// Calls of one connection at once. A node makes one at a time, and a renewal now and then.
const CALLS_AT_ONCE_MAX: u32 = 8;
/// Files on one page of a listing: keeps a page of long paths well below [`MESSAGE_BYTES_MAX`].
pub const PAGE_FILES_MAX: u32 = 1_000;

/// For a connection, a tunnel and a handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A call that takes longer is given up and repeated; a held Sync must fit in.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel to the coordinator at `address`, such as `https://host:7400`. Connects when first used.
pub fn channel(address: &str, dialer: Dialer) -> Result<Channel, tonic::transport::Error> {
    Ok(Endpoint::from_shared(address.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(dialer))
}

/// A node's client through a channel that is there.
pub fn client_over<T>(channel: T) -> NodeServiceClient<T>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    NodeServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// What answers nodes through `service`, without a port.
pub fn service<S: NodeService>(service: S) -> NodeServiceServer<S> {
    NodeServiceServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A server that answers nodes through `nodes` and lets them in through `join`. `gate` sees each call of a node before its message
/// is read.
pub fn server<S: NodeService, J: JoinService>(
    nodes: S,
    join: J,
    gate: impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static,
) -> Router {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(CALLS_AT_ONCE_MAX)
        .add_service(InterceptedService::new(service(nodes), gate))
        .add_service(JoinServiceServer::new(join).max_decoding_message_size(JOIN_BYTES_MAX))
}
