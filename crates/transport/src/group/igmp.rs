//! The socket and the thread of the server's IGMP querier (`ka_proto::group::querier`).
//!
//! It needs root (CAP_NET_RAW). Without it, queries are neither heard nor sent, and the run goes on: a switch
//! that forgets the group makes it go dark, and the chain takes over.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ka_proto::group::igmp::{ALL_SYSTEMS, PROTOCOL, Query, ROUTER_ALERT, TYPE_OF_SERVICE, general_query};
use ka_proto::group::querier::{Querier, SegmentQuerier};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv, setsockopt};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::interface::Interface;

/// Room for one IGMP packet; a longer one is no query that matters.
const PACKET_BYTES: usize = 2048;
/// Pause after an error of the socket (interface down): it must not become a busy loop.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

nix::setsockopt_impl!(
    IpOptions,
    libc::IPPROTO_IP,
    libc::IP_OPTIONS,
    [u8; ROUTER_ALERT.len()],
    nix::sys::socket::sockopt::SetStruct<'_, [u8; ROUTER_ALERT.len()]>
);

/// IP_OPTIONS (ip(7)): options in the header of each packet sent.
#[derive(Debug, Clone, Copy)]
struct IpOptions;

/// The querier of one interface, at work in a thread until it is dropped.
#[derive(Debug)]
pub struct IgmpQuerier {
    service: Option<Service>,
}

/// The thread of a querier that may hear and send.
#[derive(Debug)]
struct Service {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Things that both threads use.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The state changed: the thread looks at it.
    wake: OwnedFd,
    /// Times of the machine are since this moment.
    epoch: Instant,
}

#[derive(Debug)]
struct State {
    querier: Querier,
    ends: bool,
}

impl IgmpQuerier {
    /// Starts to listen on the interface that has the address `local`. If it may not, it says so in the log and
    /// in [`IgmpQuerier::segment`].
    #[must_use]
    pub fn start(local: Ipv4Addr) -> Self {
        let service = Service::open(local)
            .inspect_err(|error| tracing::info!("hearing IGMP queries on {local}: {error}; it needs root"))
            .ok();
        Self { service }
    }

    /// A group is in use from now on: the server asks for it if nobody else does.
    pub fn begin(&self) {
        self.change(|querier, now| querier.begin(now));
    }

    /// No group is in use any longer.
    pub fn end(&self) {
        self.change(|querier, _| querier.end());
    }

    /// Returns the querier of this segment.
    #[must_use]
    pub fn segment(&self) -> SegmentQuerier {
        self.service.as_ref().map_or(SegmentQuerier::Unknown, |service| {
            let now = service.shared.epoch.elapsed();
            service.shared.state().querier.segment(now)
        })
    }

    fn change(&self, change: impl FnOnce(&mut Querier, Duration)) {
        if let Some(Service { shared, .. }) = &self.service {
            change(&mut shared.state().querier, shared.epoch.elapsed());
            shared.wake();
        }
    }
}

impl Service {
    fn open(local: Ipv4Addr) -> io::Result<Self> {
        let socket = open(local)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                querier: Querier::new(local),
                ends: false,
            }),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            epoch: Instant::now(),
        });
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("igmp".to_owned())
            .spawn(move || seen.serve(&socket))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.state().ends = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A full counter wakes as well.
        rustix::io::write(&self.wake, &1u64.to_ne_bytes()).ok();
    }

    /// Hears and asks until the end.
    fn serve(&self, socket: &Socket) {
        loop {
            let timeout = {
                let mut state = self.state();
                if state.ends {
                    return;
                }
                let now = self.epoch.elapsed();
                if state.querier.poll_query(now) {
                    ask(socket);
                }
                state.querier.poll_timeout().map(|at| at.saturating_sub(now))
            };
            let mut fds = [
                PollFd::new(&self.wake, PollFlags::IN),
                PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
            ];
            let limit = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
            // An interruption is one more look at everything.
            poll(&mut fds, limit.as_ref()).ok();
            let [woken, heard] = fds.map(|fd| fd.revents());
            if !woken.is_empty() {
                rustix::io::read(&self.wake, &mut [0; 8]).ok();
            }
            if !heard.is_empty() && !self.hear(socket) {
                std::thread::sleep(ERROR_PAUSE);
            }
        }
    }

    /// Takes all packets that are there. Returns false if the socket has an error.
    fn hear(&self, socket: &Socket) -> bool {
        let mut packet = [0; PACKET_BYTES];
        loop {
            match recv(socket.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let Some(query) = Query::parse(&packet[..length]) else {
                        continue;
                    };
                    tracing::debug!("IGMPv{} query from {}", query.version, query.from);
                    self.state().querier.handle_query(self.epoch.elapsed(), &query);
                }
                Err(errno) => return errno == Errno::EAGAIN || errno == Errno::EINTR,
            }
        }
    }
}

fn ask(socket: &Socket) {
    let all_systems = SocketAddrV4::new(ALL_SYSTEMS, 0).into();
    match socket.send_to(&general_query(), &all_systems) {
        Ok(_) => tracing::debug!("sent an IGMP query"),
        Err(error) => tracing::warn!("sending an IGMP query: {error}"),
    }
}

/// Opens a raw socket for IGMP on the interface that has the address `local`.
fn open(local: Ipv4Addr) -> io::Result<Socket> {
    let interface = Interface::with_address(local)?;
    let protocol = Protocol::from(i32::from(PROTOCOL));
    let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    socket.bind_device(Some(interface.name().as_bytes()))?;
    socket.set_multicast_if_v4(&local)?;
    socket.set_multicast_ttl_v4(1)?;
    socket.set_multicast_loop_v4(false)?;
    socket.set_tos_v4(TYPE_OF_SERVICE.into())?;
    setsockopt(&socket, IpOptions, &ROUTER_ALERT)?;
    Ok(socket)
}
