//! The sockets of HTTP: a bounded number of connections, each with time limits.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
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
use crate::http::answer::{Peer, answer};
use crate::http::places::{MAX_CONNECTIONS, Place, Places};

/// Time within which the head of a request must arrive, also the next one on an open connection.
const HEAD_LIMIT: Duration = Duration::from_secs(20);
/// Time after which a client that takes nothing counts as gone. Its memory and its place are then free.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Longest life of a connection. No boot takes longer, on any line.
const CONNECTION_LIMIT: Duration = Duration::from_secs(3600);
/// Largest number of connections that lost their place and are not closed yet. Accepting is quicker than
/// closing, and waits for it.
const MAX_LEAVING: usize = 32;
/// Largest head of a request, in bytes. Boot programs send a few hundred; hyper accepts no smaller limit.
const MAX_HEAD: usize = 8192;
/// Pause after the kernel had no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An HTTP server on one address, bound but not running.
#[derive(Debug)]
pub(crate) struct Http {
    listener: StdListener,
    local: Ipv4Addr,
}

/// Binds the port on one address.
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
}

impl Http {
    /// Serves until the future is dropped, which also ends the connections.
    pub(crate) async fn serve(self, catalog: Arc<Catalog>, events: Events) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let shared = Shared {
            local: self.local,
            catalog,
            events,
        };
        let (places, mut connections) = (Places::default(), JoinSet::new());
        let sockets = Arc::new(Semaphore::new(MAX_CONNECTIONS + MAX_LEAVING));
        loop {
            let Ok(opening) = Arc::clone(&sockets).acquire_owned().await else {
                return Ok(());
            };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let Some(place) = places.take(peer.ip()) else {
                        continue;
                    };
                    let connection = shared.clone().connection(stream, peer, place, opening);
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
    async fn connection(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        mut place: Place,
        _opening: OwnedSemaphorePermit,
    ) {
        let SocketAddr::V4(peer) = peer else { return };
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_user_timeout(Some(STALL_LIMIT));
        let _ = stream.set_nodelay(true);
        let (local, peer, taking) = (self.local, *peer.ip(), place.taking());
        let service = service_fn(move |request| {
            taking.asks();
            let (catalog, events, taking) = (Arc::clone(&self.catalog), self.events.clone(), taking.clone());
            async move {
                Ok::<_, Infallible>(
                    answer(
                        request,
                        Peer {
                            addr: peer,
                            local,
                            taking,
                        },
                        catalog,
                        events,
                    )
                    .await,
                )
            }
        });
        let mut builder = http1::Builder::new();
        let serving = builder
            .timer(TokioTimer::new())
            // GRUB compares `Content-Length: ` with its case (grub-core/net/http.c and net/efi/http.c).
            // Otherwise GRUB waits half a minute for the end of each file, four times, and then falls back to
            // TFTP.
            .title_case_headers(true)
            // A small client sends its request and closes its side (`nc -N`, boot loaders with a tiny TCP
            // stack).
            .half_close(true)
            .header_read_timeout(HEAD_LIMIT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            served = serving => if let Err(err) = served {
                tracing::debug!("http: {peer}: {err}");
            },
            () = place.needed() => tracing::debug!("http: {peer}: idle or too slow when its place was needed"),
        }
    }
}
