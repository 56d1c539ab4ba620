//! A relay between two programs: the network, made to misbehave. It works on bytes of TCP and knows no protocol but, for
//! [`Weather::Answers`], the first line of HTTP.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Everything arrives.
    Fair,
    /// Every piece arrives this much later.
    Slow(Duration),
    /// Connections break, and new ones end at once.
    Cut,
    /// Connections stand, and nothing arrives, until the weather changes: then what was sent arrives late.
    Silent,
    /// What clients send is held back, answers are not.
    HoldsRequests,
    /// What servers answer is held back, requests are not.
    HoldsAnswers,
    /// Every request is answered with this HTTP status, and never reaches the server.
    Answers(u16),
    /// Each connection breaks after so many bytes of requests.
    BreaksAfter(u64),
    /// Requests arrive; of what is answered half comes, and the connection breaks.
    HalfAnswers,
}

/// A listening relay. It ends when it is dropped.
pub struct Relay {
    /// Where to connect instead of the server.
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
}

impl Relay {
    /// Relays to a port of this machine. It works on a thread of its own, so that a test that blocks does not stop the
    /// network.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a relay listens");
        listener.set_nonblocking(true).expect("a relay listens");
        let address = listener.local_addr().expect("an address");
        let (weather, told) = watch::channel(Weather::Fair);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, server, told));
        });
        Self { address, weather }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes the weather, for connections that stand and for new ones.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn serve(listener: TcpListener, server: u16, mut weather: watch::Receiver<Weather>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a relay listens");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    // It breaks one way or another; both ends see that themselves.
                    let connection = relay(client, server, weather.clone());
                    tokio::spawn(async move { connection.await.ok() });
                }
            }
            // The sender is gone, and with it the relay.
            changed = weather.changed() => if changed.is_err() { return },
        }
    }
}

async fn relay(mut client: TcpStream, server: u16, mut weather: watch::Receiver<Weather>) -> io::Result<()> {
    let now = *weather.borrow_and_update();
    match now {
        Weather::Cut => return client.set_zero_linger(),
        Weather::Answers(status) => return answer(&mut client, status).await,
        _ => {}
    }
    let upstream = TcpStream::connect(("127.0.0.1", server)).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = upstream.into_split();
    let requests = pump(from_client, to_server, Direction::Requests, weather.clone());
    let answers = pump(from_server, to_client, Direction::Answers, weather);
    // Each way may end on its own: whoever has sent everything may still read.
    tokio::try_join!(requests, answers).map(drop)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Answers,
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut moved = 0_u64;
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read?,
            broken = until_broken(&mut weather) => return broken,
        };
        moved += read as u64;
        loop {
            let now = *weather.borrow_and_update();
            match now {
                Weather::Fair => break,
                Weather::Slow(delay) => {
                    tokio::time::sleep(delay).await;
                    break;
                }
                Weather::Cut | Weather::Answers(_) => return Err(io::ErrorKind::ConnectionReset.into()),
                Weather::BreaksAfter(limit) if direction == Direction::Requests && moved > limit => {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Weather::HoldsRequests if direction == Direction::Answers => break,
                Weather::HoldsAnswers if direction == Direction::Requests => break,
                Weather::HalfAnswers if direction == Direction::Answers && read > 1 => {
                    to.write_all(&buffer[..read / 2]).await?;
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Weather::BreaksAfter(_) | Weather::HalfAnswers => break,
                Weather::Silent | Weather::HoldsRequests | Weather::HoldsAnswers => {
                    weather.changed().await.map_err(|_| io::ErrorKind::ConnectionReset)?;
                }
            }
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// Waits for weather that breaks a connection on which nothing is said.
async fn until_broken(weather: &mut watch::Receiver<Weather>) -> io::Result<()> {
    let breaks = |now: &Weather| matches!(now, Weather::Cut | Weather::Answers(_));
    weather.wait_for(breaks).await.map_err(|_| io::ErrorKind::ConnectionReset)?;
    Err(io::ErrorKind::ConnectionReset.into())
}

/// Reads the head of a request and answers it. A body on its way is not waited for.
async fn answer(client: &mut TcpStream, status: u16) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < 64 * 1024 {
        match client.read(&mut buffer).await? {
            0 => return Ok(()),
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
    let text = format!("HTTP/1.1 {status} Told By The Relay\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}
