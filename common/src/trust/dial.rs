//! Connections to a coordinator: directly, or through the proxy that the environment names; plain, or in TLS.

use super::{Trust, TrustError};
use hyper_util::{
    client::{
        legacy::connect::{HttpConnector, proxy::Tunnel},
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use rustls::{
    ClientConfig, SignatureScheme,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, ring},
    sign::CertifiedKey,
};
use rustls_pki_types::ServerName;
use std::{
    io,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::{Service, http::Uri};

/// Time for a connection, its tunnel and its handshake, each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The client certificate of this program, which may change while connections stand.
#[derive(Debug, Clone, Default)]
pub struct ClientIdentity(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl ClientIdentity {
    /// Connections made from now on show this certificate.
    pub fn set(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }
}

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_certs(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Makes connections to one kind of server.
#[derive(Clone)]
pub struct Dialer {
    tls: TlsConnector,
    proxies: Arc<Matcher>,
}

impl Dialer {
    /// Connections to servers that `trust` believes, showing `identity` where it is asked for. Proxies are those of
    /// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    pub fn new(trust: &Trust, identity: ClientIdentity) -> Result<Self, TrustError> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let verifier = trust.verifier(&provider)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| TrustError::Roots(e.to_string()))?
            // Each kind of trust checks names, dates and signatures; see there.
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = config.with_client_cert_resolver(Arc::new(identity));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), proxies: Arc::new(Matcher::from_env()) })
    }

    async fn dial(self, address: Uri) -> io::Result<TokioIo<Connection>> {
        let tcp = self.reach(&address).await?;
        if !is_tls(&address) {
            return Ok(TokioIo::new(Connection::Plain(tcp)));
        }
        let host = address.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let shaken = in_time("the TLS handshake", self.tls.connect(name, tcp)).await?;
        Ok(TokioIo::new(Connection::Tls(Box::new(shaken))))
    }

    /// A TCP connection to the host, or through a proxy to it.
    async fn reach(&self, address: &Uri) -> io::Result<TcpStream> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        // What is plain stays on this machine.
        let proxy = if is_tls(address) { self.proxies.intercept(address) } else { None };
        let Some(proxy) = proxy else {
            let connected = in_time("the connection", call(&mut connector, address.clone())).await?;
            return Ok(connected.into_inner());
        };
        // A proxy's address in an error never has its user and password: those are kept apart.
        let place = proxy.uri().clone();
        if place.scheme_str() != Some("http") {
            return Err(io::Error::other(format!("proxy {place}: only http:// proxies are supported")));
        }
        let mut tunnel = Tunnel::new(place.clone(), connector);
        if let Some(password) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(password.clone());
        }
        let through = in_time("the proxy's tunnel", async {
            call(&mut tunnel, address.clone()).await.map_err(|e| {
                let why = crate::failure::with_causes(&e);
                // The library has these words alone for HTTP 407, and for any other refusal.
                let hint = if why.contains("authorization required") || why.contains("unsuccessful") {
                    "; it refuses: are user and password right (HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT), and may it \
                     connect to this port?"
                } else {
                    ""
                };
                io::Error::other(format!("proxy {place}: {why}{hint}"))
            })
        });
        Ok(through.await?.into_inner())
    }
}

fn is_tls(address: &Uri) -> bool {
    address.scheme_str() == Some("https")
}

async fn call<S>(service: &mut S, address: Uri) -> io::Result<S::Response>
where
    S: Service<Uri>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    std::future::poll_fn(|context| service.poll_ready(context)).await.map_err(io::Error::other)?;
    service.call(address).await.map_err(io::Error::other)
}

async fn in_time<T>(what: &str, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{what} took longer than {CONNECT_TIMEOUT:?}"));
    tokio::time::timeout(CONNECT_TIMEOUT, work).await.map_err(late)?
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Connection>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        Box::pin(self.clone().dial(address))
    }
}

/// A connection to a server.
pub enum Connection {
    /// As it is.
    Plain(TcpStream),
    /// In TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Self::Tls(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(context, bytes),
            Self::Tls(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(context),
            Self::Tls(io) => Pin::new(io).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(context),
            Self::Tls(io) => Pin::new(io).poll_shutdown(context),
        }
    }
}
