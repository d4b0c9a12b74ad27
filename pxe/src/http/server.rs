//! The sockets of HTTP: a bounded number of connections, each with limits of time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::catalog::Catalog;
use crate::error::PxeError;
use crate::events::Events;
use crate::http::answer::answer;

/// Connections at once: 64 machines with two each, and room. Later ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Connections at once of one address; the others would be somebody's who keeps machines out.
const MAX_CONNECTIONS_OF_PEER: usize = 16;
/// A request's head must come within this time, also the next one on an open connection.
const HEAD_LIMIT: Duration = Duration::from_secs(20);
/// A client that takes nothing for this long has gone: its memory and its place are others'.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// No boot takes longer, on any line.
const CONNECTION_LIMIT: Duration = Duration::from_secs(3600);
/// Largest head of a request, in bytes: boot programs send a few hundred. hyper takes no less.
const MAX_HEAD: usize = 8192;
/// Pause after the kernel had no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An HTTP server on one address, bound and not yet running.
#[derive(Debug)]
pub(crate) struct Http {
    listener: StdListener,
    local: Ipv4Addr,
}

/// Takes the port on one address.
pub(crate) fn bind(local: Ipv4Addr, port: u16) -> Result<Http, PxeError> {
    let addr = SocketAddr::from((local, port));
    let bound =
        StdListener::bind(addr).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    let listener = bound.map_err(|err| PxeError::of_port("HTTP", addr, "--http-port", err))?;
    Ok(Http { listener, local })
}

#[derive(Debug, Clone)]
struct Shared {
    local: Ipv4Addr,
    catalog: Arc<Catalog>,
    events: Events,
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Http {
    /// Serves until it is dropped; connections end with it.
    pub(crate) async fn serve(self, catalog: Arc<Catalog>, events: Events) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let shared = Shared {
            local: self.local,
            catalog,
            events,
            peers: Arc::default(),
        };
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return Ok(());
            };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let connection = shared.clone().connection(stream, peer, place);
                    connections.spawn(timeout(CONNECTION_LIMIT, connection));
                }
                Err(err) => {
                    tracing::debug!("http: {err}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Shared {
    async fn connection(self, stream: TcpStream, peer: SocketAddr, _place: OwnedSemaphorePermit) {
        let SocketAddr::V4(peer) = peer else { return };
        let Some(_counted) = self.count(peer.ip().to_owned().into()) else {
            return;
        };
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_user_timeout(Some(STALL_LIMIT));
        let _ = stream.set_nodelay(true);
        let (local, peer) = (self.local, *peer.ip());
        let service = service_fn(move |request| {
            let (catalog, events) = (Arc::clone(&self.catalog), self.events.clone());
            async move { Ok::<_, Infallible>(answer(request, peer, local, catalog, events).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(err) = served {
            tracing::debug!("http: {peer}: {err}");
        }
    }

    fn count(&self, peer: IpAddr) -> Option<Counted> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        if *count >= MAX_CONNECTIONS_OF_PEER {
            return None;
        }
        *count += 1;
        Some(Counted {
            peers: Arc::clone(&self.peers),
            peer,
        })
    }
}

/// One connection of an address, counted until it is dropped.
struct Counted {
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}
