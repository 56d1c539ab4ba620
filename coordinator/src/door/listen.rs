//! Connections at a port: so many at once, each with so much time to shake hands. Nobody who is slow holds up the others.

use ferry_common::trust::NodeIdentity;
use rustls::ServerConfig;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// Connections of one port at once. A node needs one.
const CONNECTIONS_MAX: usize = 4_096;
/// Connections from one address that have not shaken hands, or stay without a certificate where one may be shown.
const STRANGERS_MAX: usize = 1_024;
/// Time to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without a certificate may stay at the nodes' port: long enough to join.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(60);
/// After an accept that failed: too many files are open, mostly, and some will be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Connections that wait to be served.
const WAITING_MAX: usize = 64;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    /// What its certificate says; `None` where it showed none.
    pub(crate) identity: Option<NodeIdentity>,
}

/// A port that takes connections.
pub(crate) struct Listener(mpsc::Receiver<Stream>);

impl Listener {
    /// Takes connections until `shutdown`. With `tls` each shakes hands first.
    pub(crate) fn start(port: TcpListener, tls: Option<ServerConfig>, shutdown: CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let tls = tls.map(|config| {
            let asks_for_certificate = config.alpn_protocols.iter().any(|p| p == b"h2");
            (TlsAcceptor::from(Arc::new(config)), asks_for_certificate)
        });
        tokio::spawn(async move {
            tokio::select! {
                () = accept(port, tls, sender) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Self(receiver)
    }

    /// The next connection; `None` when there will be no more.
    pub(crate) async fn next(&mut self) -> Option<Stream> {
        self.0.recv().await
    }
}

async fn accept(port: TcpListener, tls: Option<(TlsAcceptor, bool)>, sender: mpsc::Sender<Stream>) {
    let (all, strangers) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::new(Semaphore::new(STRANGERS_MAX)));
    loop {
        // Both are never closed.
        let Ok(permit) = all.clone().acquire_owned().await else { return };
        let Ok(stranger) = strangers.clone().acquire_owned().await else { return };
        let (tcp, address) = match port.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!("a connection could not be accepted: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, sender) = (tls.clone(), sender.clone());
        tokio::spawn(async move {
            if let Some(stream) = shake_hands(tcp, address, tls, permit, stranger).await {
                // The receiver is gone when the program ends.
                let _ = sender.send(stream).await;
            }
        });
    }
}

async fn shake_hands(
    tcp: TcpStream,
    address: SocketAddr,
    tls: Option<(TlsAcceptor, bool)>,
    permit: OwnedSemaphorePermit,
    stranger: OwnedSemaphorePermit,
) -> Option<Stream> {
    // It only costs speed where it does not work.
    let _ = tcp.set_nodelay(true);
    let mut peer = Peer { ip: address.ip(), identity: None };
    let Some((acceptor, asks_for_certificate)) = tls else {
        return Some(Stream { io: Io::Plain(tcp), peer, ends: None, _permits: (permit, None) });
    };
    let shaken = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(e)) => {
            tracing::debug!(peer = %address.ip(), "no TLS connection: {e}");
            return None;
        }
        Err(_) => return None,
    };
    let certificates = shaken.get_ref().1.peer_certificates().unwrap_or_default();
    peer.identity = certificates.first().and_then(identity_of);
    let is_stranger = asks_for_certificate && peer.identity.is_none();
    let ends = is_stranger.then(|| Box::pin(tokio::time::sleep(STRANGER_TIMEOUT)));
    Some(Stream { io: Io::Tls(Box::new(shaken)), peer, ends, _permits: (permit, is_stranger.then_some(stranger)) })
}

/// The identity in a certificate. That the own authority has signed it was checked in the handshake.
fn identity_of(certificate: &rustls::pki_types::CertificateDer<'_>) -> Option<NodeIdentity> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_uri_names().find_map(NodeIdentity::from_uri)
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that may be served.
pub(crate) struct Stream {
    io: Io,
    pub(crate) peer: Peer,
    /// When it is over, whatever goes on.
    ends: Option<Pin<Box<tokio::time::Sleep>>>,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl Connected for Stream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if let Some(ends) = &mut stream.ends
            && ends.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match &mut stream.io {
            Io::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_write(context, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_flush(context),
            Io::Tls(io) => Pin::new(io).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(context),
            Io::Tls(io) => Pin::new(io).poll_shutdown(context),
        }
    }
}
