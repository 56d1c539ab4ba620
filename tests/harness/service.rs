//! A service as a cluster has it: one address, and behind it whichever pods are ready. Connections that stand are left alone.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Ports that it leads to, the next one first.
#[derive(Clone, Default)]
struct Ready(Arc<Mutex<Vec<u16>>>);

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Vec<u16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next in turn; `None` while nobody is ready.
    fn next(&self) -> Option<u16> {
        let mut ready = self.lock();
        let next = *ready.first()?;
        ready.rotate_left(1);
        Some(next)
    }
}

/// A listening service. It ends when it is dropped.
pub struct Service {
    address: SocketAddr,
    ready: Ready,
    _ends: DropGuard,
}

impl Service {
    /// Starts one that leads nowhere. It works on a thread of its own, so that a test that blocks does not stop it.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a service listens");
        listener.set_nonblocking(true).expect("a service listens");
        let address = listener.local_addr().expect("an address");
        let (ready, ends) = (Ready::default(), CancellationToken::new());
        let (known, told) = (ready.clone(), ends.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, known) => {}
                    () = told.cancelled() => {}
                }
            });
        });
        Self { address, ready, _ends: ends.drop_guard() }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// New connections are led to this port, or not any more.
    pub fn lead(&self, port: u16, is_ready: bool) {
        let mut ready = self.ready.lock();
        ready.retain(|other| *other != port);
        if is_ready {
            ready.push(port);
        }
    }
}

async fn serve(listener: TcpListener, ready: Ready) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a service listens");
    loop {
        // It breaks one way or another; both ends see that themselves.
        if let Ok((mut client, _)) = listener.accept().await
            && let Some(port) = ready.next()
        {
            tokio::spawn(async move {
                let mut pod = TcpStream::connect(("127.0.0.1", port)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut pod).await
            });
        }
    }
}
