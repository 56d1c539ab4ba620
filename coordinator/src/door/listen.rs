//! Connections at a port: so many at once, and so many of one address that have shown no certificate; each with so much time
//! to shake hands, and to take what it is sent. What is too much is let go at once: nobody waits for it. Whoever comes to a full
//! port takes the place of the one that has been shaking hands for longest, so strangers that only connect keep nobody out.

use ferry_common::trust::NodeIdentity;
use rustls::ServerConfig;
use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
pub(super) const CONNECTIONS_MAX: usize = 4_096;
/// Connections from one address that have shown no certificate. Those of programs never do. On a port without TLS those of this
/// machine are not counted: nodes show none there, and may be many.
const GUESTS_OF_ADDRESS_MAX: usize = 256;
/// Time to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without a certificate may stay at the nodes' port: long enough to join.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(60);
/// Whoever takes nothing of what it is sent for so long is let go.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// After an accept that failed: too many files are open, mostly, and some will be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long a connection that was let go may take to give up its place.
const ROOM_TIMEOUT: Duration = Duration::from_millis(200);
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
    let (all, guests) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Guests::default());
    let handshakes = Handshakes::default();
    loop {
        let (tcp, address) = match port.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!("a connection could not be accepted: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Its own address' connections count first: whoever has too many of them takes nobody's place.
        let is_counted = tls.is_some() || !address.ip().is_loopback();
        let guest = is_counted.then(|| guests.admit(address.ip()));
        let is_too_many = matches!(guest, Some(None));
        let permit = if is_too_many { None } else { place(&all, &handshakes).await };
        let Some(permit) = permit else {
            tracing::debug!(peer = %address.ip(), "a connection too many is let go");
            continue;
        };
        let guest = guest.flatten();
        let (tls, sender) = (tls.clone(), sender.clone());
        let handshake = handshakes.begin();
        tokio::spawn(async move {
            let shaken = tokio::select! {
                biased;
                () = handshake.ended.cancelled() => None,
                stream = shake_hands(tcp, address, tls, permit, guest) => stream,
            };
            // Who has shaken hands is not let go for others.
            drop(handshake);
            if let Some(stream) = shaken {
                // The receiver is gone when the program ends.
                let _ = sender.send(stream).await;
            }
        });
    }
}

/// A place for one more connection. Where all are taken, the oldest handshake under way makes room.
async fn place(all: &Arc<Semaphore>, handshakes: &Handshakes) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = all.clone().try_acquire_owned() {
        return Some(permit);
    }
    if !handshakes.end_oldest() {
        return None;
    }
    tokio::time::timeout(ROOM_TIMEOUT, all.clone().acquire_owned()).await.ok()?.ok()
}

/// Handshakes under way, in the order in which they began. No more than there are connections.
#[derive(Clone, Default)]
struct Handshakes(Arc<Mutex<UnderWay>>);

#[derive(Default)]
struct UnderWay {
    next: u64,
    by_number: BTreeMap<u64, CancellationToken>,
}

/// One of them; it is under way until this is dropped.
struct Handshake {
    handshakes: Handshakes,
    number: u64,
    ended: CancellationToken,
}

impl Handshakes {
    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Handshake {
        let ended = CancellationToken::new();
        let mut all = self.lock();
        let number = all.next;
        all.next += 1;
        all.by_number.insert(number, ended.clone());
        drop(all);
        Handshake { handshakes: self.clone(), number, ended }
    }

    /// Ends the one that has been under way for longest. False where there is none.
    fn end_oldest(&self) -> bool {
        let oldest = self.lock().by_number.pop_first();
        if let Some((_, ended)) = &oldest {
            ended.cancel();
        }
        oldest.is_some()
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.handshakes.lock().by_number.remove(&self.number);
    }
}

/// How many connections without a certificate each address has.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; it is counted until this is dropped.
struct Guest {
    guests: Guests,
    ip: IpAddr,
}

impl Guests {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, ip: IpAddr) -> Option<Guest> {
        let mut all = self.lock();
        let count = all.entry(ip).or_default();
        if *count >= GUESTS_OF_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Guest { guests: self.clone(), ip })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut all = self.guests.lock();
        if let Some(count) = all.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.ip);
            }
        }
    }
}

async fn shake_hands(
    tcp: TcpStream,
    address: SocketAddr,
    tls: Option<(TlsAcceptor, bool)>,
    permit: OwnedSemaphorePermit,
    guest: Option<Guest>,
) -> Option<Stream> {
    // It only costs speed where it does not work.
    let _ = tcp.set_nodelay(true);
    let mut peer = Peer { ip: address.ip(), identity: None };
    let Some((acceptor, asks_for_certificate)) = tls else {
        return Some(Stream { io: Io::Plain(tcp), peer, ends: None, stalled: None, _counted: (permit, guest) });
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
    let guest = guest.filter(|_| peer.identity.is_none());
    Some(Stream { io: Io::Tls(Box::new(shaken)), peer, ends, stalled: None, _counted: (permit, guest) })
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
    /// When it is over unless the other side takes something before.
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
    _counted: (OwnedSemaphorePermit, Option<Guest>),
}

impl Stream {
    /// An error when its time is over.
    fn still_may(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let is_over = self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(context).is_ready());
        if is_over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Writes as `write` does, for as long as the other side takes what it is sent.
    fn poll_out<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(&mut Io, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.still_may(context)?;
        let written = write(&mut self.io, context);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_TIMEOUT)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
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
        stream.still_may(context)?;
        match &mut stream.io {
            Io::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_out(context, |io, context| match io {
            Io::Plain(io) => Pin::new(io).poll_write(context, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(context, bytes),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(context, |io, context| match io {
            Io::Plain(io) => Pin::new(io).poll_flush(context),
            Io::Tls(io) => Pin::new(io).poll_flush(context),
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(context, |io, context| match io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(context),
            Io::Tls(io) => Pin::new(io).poll_shutdown(context),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_handshake_makes_room_and_a_full_port_without_any_has_none() {
        let (all, handshakes) = (Arc::new(Semaphore::new(2)), Handshakes::default());
        let (first, second) = (handshakes.begin(), handshakes.begin());
        let mut held: Vec<_> = (0..2).map(|_| all.clone().try_acquire_owned().unwrap()).collect();
        let permit = held.pop();
        let told = first.ended.clone();
        // As the task of a connection does.
        tokio::spawn(async move {
            told.cancelled().await;
            drop(permit);
        });
        held.push(place(&all, &handshakes).await.unwrap());
        assert!(first.ended.is_cancelled() && !second.ended.is_cancelled());
        // All who are left have shaken hands.
        drop((first, second));
        assert!(place(&all, &handshakes).await.is_none());
        assert_eq!(held.len(), 2);
    }
}
