//! The TFTP server and its list of transfers, one for each address and port of a client.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::catalog::{Catalog, Content, Request};
use crate::error::PxeError;
use crate::events::{BootEvent, Events, Service};
use crate::names;
use crate::tftp::netascii;
use crate::tftp::packet::{self, ErrorCode, MAX_REQUEST_BYTES, Mode, Opening, ReadRequest};
use crate::tftp::transfer::{Activity, Ended, Transfer};

/// Largest number of transfers at once: more than 64 machines with a few leftovers of earlier attempts each.
/// Further requests are dropped; every boot program repeats them.
const MAX_TRANSFERS: usize = 1024;
/// Largest number of transfers at once for one address. A ROM has one, a tool that fetches many files has a
/// few.
const MAX_TRANSFERS_OF_PEER: usize = 32;
/// Time after the client's last packet within which a repeated request is an old packet. Later, it means that
/// the client starts anew.
const FRESH: Duration = Duration::from_secs(1);
/// Largest file that is encoded as netascii, in bytes. The text is made in memory.
const MAX_NETASCII: u64 = 4 << 20;
/// MTU of Ethernet, in bytes, used if the kernel does not tell the path's MTU.
const ETHERNET_MTU: usize = 1500;
/// Pause between two warnings about too many transfers.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// A TFTP server on one address, bound but not running.
#[derive(Debug)]
pub(crate) struct Tftp {
    socket: StdSocket,
    local: Ipv4Addr,
}

/// Binds the port on one address.
pub(crate) fn bind(local: Ipv4Addr, port: u16) -> Result<Tftp, PxeError> {
    let addr = SocketAddr::from((local, port));
    let bound = StdSocket::bind(addr).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    let socket = bound.map_err(|err| PxeError::of_port("TFTP", addr, "--tftp-port", err))?;
    Ok(Tftp { socket, local })
}

#[derive(Debug)]
struct Shared {
    local: Ipv4Addr,
    catalog: Arc<Catalog>,
    events: Events,
    active: Mutex<HashMap<SocketAddrV4, Active>>,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Active {
    id: u64,
    request: Vec<u8>,
    activity: Arc<Activity>,
    task: AbortHandle,
}

impl Tftp {
    /// Serves until the future is dropped.
    pub(crate) async fn serve(self, catalog: Arc<Catalog>, events: Events) -> io::Result<()> {
        let socket = UdpSocket::from_std(self.socket)?;
        let shared = Arc::new(Shared {
            local: self.local,
            catalog,
            events,
            active: Mutex::default(),
            next_id: AtomicU64::new(0),
        });
        let mut warned: Option<Instant> = None;
        let mut buffer = [0; MAX_REQUEST_BYTES];
        loop {
            let Ok((length, SocketAddr::V4(peer))) = socket.recv_from(&mut buffer).await else {
                // The error is an ICMP error of an earlier answer. The socket itself is in order.
                continue;
            };
            let packet = &buffer[..length];
            match packet::opening(packet) {
                Opening::Stray => (),
                Opening::Refused(code, message) => {
                    // The client asks again if this answer is lost.
                    let _ = socket.try_send_to(&packet::error(code, message), peer.into());
                }
                Opening::Read(request) => {
                    let has_room = shared.begin(peer, packet, request);
                    if !has_room && warned.is_none_or(|at| at.elapsed() > WARNING_PAUSE) {
                        warned = Some(Instant::now());
                        shared.events.warn(format!(
                            "TFTP: too many transfers at once ({MAX_TRANSFERS} in all, {MAX_TRANSFERS_OF_PEER} of \
                             one address); {peer} has to ask again"
                        ));
                    }
                }
            }
        }
    }
}

/// Ends the oldest transfer that has had no acknowledgement; with `of`, only one of that address. The
/// client's address may be invented, and a flood of such requests must not keep machines out. Returns false
/// if there is no such transfer.
fn make_room(active: &mut HashMap<SocketAddrV4, Active>, of: Option<Ipv4Addr>) -> bool {
    let unheard = active
        .iter()
        .filter(|(peer, transfer)| !transfer.activity.has_begun() && of.is_none_or(|of| *peer.ip() == of));
    let Some(first) = unheard
        .min_by_key(|(_, transfer)| transfer.id)
        .map(|(peer, _)| *peer)
    else {
        return false;
    };
    if let Some(transfer) = active.remove(&first) {
        transfer.task.abort();
    }
    true
}

impl Shared {
    /// Starts a transfer, or wakes the transfer whose request this packet repeats. Returns false if there is
    /// no room.
    fn begin(self: &Arc<Self>, peer: SocketAddrV4, packet: &[u8], request: ReadRequest) -> bool {
        let mut active = self.active();
        if let Some(old) = active.get(&peer) {
            if old.request == packet && (!old.activity.has_begun() || old.activity.silence() < FRESH) {
                // The packet was late on the way, or the client still waits for the first answer. That answer
                // must come from the same port as before, because the client may have seen the first one.
                if !old.activity.has_begun() {
                    old.activity.repeat();
                }
                return true;
            }
            old.task.abort();
            active.remove(&peer);
        }
        let of_peer = active.keys().filter(|other| other.ip() == peer.ip()).count();
        let is_full = active.len() >= MAX_TRANSFERS || of_peer >= MAX_TRANSFERS_OF_PEER;
        let of = (of_peer >= MAX_TRANSFERS_OF_PEER).then(|| *peer.ip());
        if is_full && !make_room(&mut active, of) {
            return false;
        }
        let (id, activity) = (
            self.next_id.fetch_add(1, Ordering::Relaxed),
            Arc::<Activity>::default(),
        );
        let work = Arc::clone(self).work(id, peer, request, Arc::clone(&activity));
        let task = tokio::spawn(work).abort_handle();
        let request = packet.to_vec();
        active.insert(
            peer,
            Active {
                id,
                request,
                activity,
                task,
            },
        );
        true
    }

    /// Runs one transfer, and again if its request was repeated while it was ending.
    async fn work(
        self: Arc<Self>,
        id: u64,
        peer: SocketAddrV4,
        request: ReadRequest,
        activity: Arc<Activity>,
    ) {
        loop {
            if let Err(err) = self.transfer(peer, &request, &activity).await {
                self.events.warn(format!("TFTP to {peer}: {err}"));
            }
            let mut active = self.active();
            if activity.take_repeats() && !activity.has_begun() {
                continue;
            }
            if active.get(&peer).is_some_and(|entry| entry.id == id) {
                active.remove(&peer);
            }
            return;
        }
    }

    async fn transfer(
        &self,
        peer: SocketAddrV4,
        request: &ReadRequest,
        activity: &Activity,
    ) -> io::Result<()> {
        let began = Instant::now();
        let socket = StdSocket::bind((self.local, 0))?;
        socket.connect(peer)?;
        socket.set_nonblocking(true)?;
        let path_mtu = getsockopt(&socket, sockopt::IpMtu).ok();
        let path_mtu = path_mtu
            .and_then(|mtu| usize::try_from(mtu).ok())
            .unwrap_or(ETHERNET_MTU);
        let socket = UdpSocket::from_std(socket)?;
        let content = match self.find(peer, request).await {
            Ok(content) => content,
            Err((code, message)) => {
                socket.send(&packet::error(code, &message)).await?;
                return Ok(());
            }
        };
        let transfer = Transfer::new(&socket, &content, activity, request.options, path_mtu);
        let file = || names::plain(&request.name).unwrap_or_default();
        match transfer.run().await {
            Ended::Done => self.events.tell(BootEvent::Fetched {
                peer: (*peer.ip()).into(),
                file: file(),
                bytes: content.len(),
                service: Service::Tftp,
                took: began.elapsed(),
            }),
            Ended::Refused => tracing::debug!("tftp: {peer} refused {}", file()),
            Ended::Gone => tracing::debug!("tftp: {peer} went away during {}", file()),
            Ended::Unreadable(err) => {
                let message = format!("reading {}: {err}", file());
                let _ = socket.send(&packet::error(ErrorCode::Undefined, &message)).await;
                return Err(io::Error::other(message));
            }
        }
        Ok(())
    }

    async fn find(&self, peer: SocketAddrV4, request: &ReadRequest) -> Result<Content, (ErrorCode, String)> {
        let catalog = Arc::clone(&self.catalog);
        let (name, mode, local) = (request.name.clone(), request.mode, self.local);
        let looked_up = tokio::task::spawn_blocking(move || {
            let asked = Request {
                peer: *peer.ip(),
                local,
            };
            let content = catalog.find(&name, asked)?;
            match (content, mode) {
                (Some(content), Mode::Netascii) if content.len() <= MAX_NETASCII => {
                    let max = usize::try_from(MAX_NETASCII).unwrap_or(usize::MAX);
                    let text = netascii::encode(&content.read_at(0, max)?);
                    Ok(Some(Content::of_bytes(text.into())))
                }
                (Some(_), Mode::Netascii) => {
                    Err(io::Error::other("too large for netascii: ask in mode octet"))
                }
                (content, Mode::Octet) | (content @ None, _) => Ok(content),
            }
        });
        match looked_up.await {
            Ok(Ok(Some(content))) => Ok(content),
            Ok(Ok(None)) => Err((ErrorCode::NotFound, "no such file".to_owned())),
            Ok(Err(err)) => {
                let name = names::plain(&request.name).unwrap_or_default();
                self.events.warn(format!("TFTP to {peer}: {name}: {err}"));
                Err((ErrorCode::Undefined, err.to_string()))
            }
            Err(err) => Err((ErrorCode::Undefined, err.to_string())),
        }
    }

    fn active(&self) -> MutexGuard<'_, HashMap<SocketAddrV4, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
