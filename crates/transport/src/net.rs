//! Sockets as this crate wants them: addresses reusable, dead peers noticed, broadcast addresses known.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::error::{OwnPort, TransportError};

/// Connections that the kernel keeps for us until they are accepted: a whole room of nodes that starts at
/// once.
const BACKLOG: i32 = 1024;
/// The first keepalive probe after this much silence, then one each [`KEEPALIVE_INTERVAL`].
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_PROBES: u32 = 5;

/// An interface that broadcasts can be sent from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BroadcastRoute {
    pub(crate) interface: String,
    pub(crate) local: Ipv4Addr,
    pub(crate) broadcast: Ipv4Addr,
}

/// Binds and listens on `addr`.
pub(crate) fn listen_tcp(addr: SocketAddr, port: OwnPort) -> Result<TcpListener, TransportError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    };
    open().map_err(|source| TransportError::Listen { addr, port, source })
}

/// Like [`listen_tcp`], with any free port when the wanted one is taken: the peer is told which.
pub(crate) fn listen_tcp_or_ephemeral(
    addr: SocketAddr,
    port: OwnPort,
) -> Result<TcpListener, TransportError> {
    match listen_tcp(addr, port) {
        Err(TransportError::Listen { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {
            listen_tcp(SocketAddr::new(addr.ip(), 0), port)
        }
        other => other,
    }
}

/// Returns a socket for datagrams that may be broadcast. Several servers on one machine share the port and
/// tell by the probe's MAC which of them is meant.
pub(crate) fn bind_udp(addr: SocketAddr) -> Result<UdpSocket, TransportError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        if addr.is_ipv4() {
            socket.set_broadcast(true)?;
        }
        socket.bind(&addr.into())?;
        socket.set_nonblocking(true)?;
        Ok(UdpSocket::from(socket))
    };
    open().map_err(|source| TransportError::Listen {
        addr,
        port: OwnPort::Discovery,
        source,
    })
}

/// Options of a control connection: small messages leave at once, a peer that vanished is noticed after
/// `silence` also while something is unacknowledged.
pub(crate) fn tune_control(socket: &SockRef<'_>, silence: Duration) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    socket.set_tcp_user_timeout(Some(silence))
}

/// Options of a data connection. No TCP_USER_TIMEOUT here: it would also end a connection whose receiver
/// waits for a slow disk with its window closed (tcp(7)); the relay's own timers tell the two apart. Buffer
/// sizes are left to the kernel's autotuning, until a line shows to be fast (`stream::downstream`).
pub(crate) fn tune_data(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES)
}

/// Returns every IPv4 interface that is up, with its broadcast address; only the one that holds `listen` if
/// given. The loopback has no broadcast flag in Linux, yet 127.255.255.255 reaches every socket on it.
pub(crate) fn broadcast_routes(listen: Option<IpAddr>) -> io::Result<Vec<BroadcastRoute>> {
    let listen = match listen.filter(|addr| !addr.is_unspecified()) {
        Some(IpAddr::V6(_)) => return Ok(Vec::new()),
        Some(IpAddr::V4(addr)) => Some(addr),
        None => None,
    };
    let mut routes = Vec::new();
    for entry in getifaddrs()? {
        let flags = entry.flags;
        let is_usable = flags.contains(InterfaceFlags::IFF_UP)
            && flags.intersects(InterfaceFlags::IFF_BROADCAST | InterfaceFlags::IFF_LOOPBACK);
        let address = entry
            .address
            .as_ref()
            .and_then(|a| a.as_sockaddr_in())
            .map(|a| a.ip());
        let mask = entry
            .netmask
            .as_ref()
            .and_then(|a| a.as_sockaddr_in())
            .map(|a| a.ip());
        let (true, Some(address), Some(mask)) = (is_usable, address, mask) else {
            continue;
        };
        let broadcast = address | !mask;
        // A point-to-point style /32 has no broadcast address of its own.
        if mask == Ipv4Addr::BROADCAST {
            continue;
        }
        let local = match listen {
            Some(wanted) if wanted & mask == address & mask => wanted,
            Some(_) => continue,
            None => address,
        };
        let route = BroadcastRoute {
            interface: entry.interface_name,
            local,
            broadcast,
        };
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    Ok(routes)
}

/// Addresses that a peer might reach this machine by: `listen` itself, or every interface's, loopback last.
pub(crate) fn reachable_addrs(listen: IpAddr) -> Vec<IpAddr> {
    if !listen.is_unspecified() {
        return vec![listen];
    }
    let mut addrs: Vec<IpAddr> = Vec::new();
    for entry in getifaddrs()
        .into_iter()
        .flatten()
        .filter(|e| e.flags.contains(InterfaceFlags::IFF_UP))
    {
        let Some(address) = entry.address else { continue };
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let v6 = address
            .as_sockaddr_in6()
            .map(|a| a.ip())
            .filter(|a| !a.is_unicast_link_local());
        let v6 = v6.filter(|_| listen.is_ipv6()).map(IpAddr::V6);
        addrs.extend(v4.or(v6));
    }
    addrs.sort_by_key(|addr| (addr.is_loopback(), addr.is_ipv6()));
    addrs.dedup();
    addrs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_broadcast_to_the_whole_loopback() {
        let routes = broadcast_routes(Some(IpAddr::from([127, 0, 0, 3]))).unwrap();
        assert_eq!(routes.len(), 1, "{routes:?}");
        assert_eq!(routes[0].local, Ipv4Addr::new(127, 0, 0, 3));
        assert_eq!(routes[0].broadcast, Ipv4Addr::new(127, 255, 255, 255));
    }

    #[test]
    fn taken_data_port_gives_another_one() {
        let first = listen_tcp(SocketAddr::from(([127, 0, 0, 77], 0)), OwnPort::Data).unwrap();
        let taken = first.local_addr().unwrap();
        assert!(matches!(
            listen_tcp(taken, OwnPort::Data),
            Err(TransportError::Listen { .. })
        ));
        let other = listen_tcp_or_ephemeral(taken, OwnPort::Data)
            .unwrap()
            .local_addr()
            .unwrap();
        assert_ne!(other.port(), taken.port());
        assert_eq!(other.ip(), taken.ip());
    }
}
