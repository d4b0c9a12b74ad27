//! The socket that sends to a group.
//!
//! Many datagrams travel through the stack as one packet (generic segmentation offload, `UDP_SEGMENT`, Linux
//! 4.18) and are cut by the card, or just before it. The kernel refuses this for some devices and routes; then
//! datagrams go one by one, many a system call (sendmmsg(2)), for as long as the socket lives.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, sendmsg};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use ka_proto::group::probe::ASSUMED_LINE;

use super::interface::Interface;

/// Bytes of the IPv4 and UDP headers before a datagram's own bytes.
pub const HEADERS: usize = 28;
/// Largest UDP payload, and so the largest send of several datagrams.
const MAX_SEND: usize = 65_535 - HEADERS;
/// Most datagrams of one send: `UDP_MAX_SEGMENTS` of Linux before 6.9. Later kernels take 128.
const MAX_SEGMENTS: usize = 64;
/// Datagrams stay in their segment: no router forwards them.
const TTL: u32 = 1;
/// Time that the data in the socket's buffer keeps the line busy. A longer queue has no use, and fq_codel drops
/// from one that stands for more than 5 ms (RFC 8289 section 4.3).
const BUFFER_TIME_US: u64 = 3_000;
/// Bounds of the buffer: two sends of 64 KiB, and what a line of 10 Gbit/s needs.
const BUFFER_BYTES: std::ops::RangeInclusive<u64> = 131_072..=4_194_304;

nix::setsockopt_impl!(
    MtuDiscover,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    i32,
    nix::sys::socket::sockopt::SetStruct<'_, i32>
);

/// IP_MTU_DISCOVER (ip(7)): here it sets "don't fragment", because one lost fragment would lose the datagram.
#[derive(Debug, Clone, Copy)]
struct MtuDiscover;

/// A socket that sends to one group, and only that. It never blocks.
#[derive(Debug)]
pub struct GroupSender {
    socket: Socket,
    group: SocketAddrV4,
    /// Most datagrams of one send; 1 after the kernel refused several.
    segments: AtomicUsize,
}

impl GroupSender {
    /// Opens a socket that sends to `group` from `local`, through the interface that has this address.
    ///
    /// # Errors
    /// No interface has the address, or it cannot send to groups.
    pub fn open(local: Ipv4Addr, group: SocketAddrV4) -> io::Result<Self> {
        let speed = Interface::with_address(local)?.speed().unwrap_or(ASSUMED_LINE);
        let socket = Socket::new(
            Domain::IPV4,
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        socket.set_multicast_if_v4(&local)?;
        socket.set_multicast_ttl_v4(TTL)?;
        // The sender needs no copy of its own. On the loopback interface, all members are on this machine.
        socket.set_multicast_loop_v4(local.is_loopback())?;
        setsockopt(&socket, MtuDiscover, &libc::IP_PMTUDISC_DO)?;
        set_send_buffer(&socket, speed)?;
        socket.bind(&SocketAddrV4::new(local, 0).into())?;
        socket.connect(&group.into())?;
        Ok(Self {
            socket,
            group,
            segments: AtomicUsize::new(MAX_SEGMENTS),
        })
    }

    /// Sends `bytes` as datagrams of `datagram` bytes each; the last one may be shorter. Returns the number of
    /// bytes taken, always whole datagrams.
    ///
    /// # Errors
    /// `WouldBlock` if the buffer is full: poll(2) says when it is not. `InvalidInput` for sizes that do not
    /// fit. Any other error means that the network takes nothing now (interface down, a firewall, a datagram
    /// that is larger than the interface's MTU). If some datagrams were taken before, there is no error yet.
    pub fn send(&self, bytes: &[u8], datagram: usize) -> io::Result<usize> {
        if !(1..=MAX_SEND).contains(&datagram) {
            let message = format!("datagrams of {datagram} bytes, 1 to {MAX_SEND} are possible");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut taken = 0;
        while taken < bytes.len() {
            match self.send_some(&bytes[taken..], datagram) {
                Ok(more) => taken += more,
                Err(Errno::EINTR) => {}
                Err(_) if taken > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(taken)
    }

    /// Returns the group.
    #[must_use]
    pub const fn group(&self) -> SocketAddrV4 {
        self.group
    }

    /// Returns the address and port that members see as the source.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddrV4> {
        let address = self.socket.local_addr()?;
        address
            .as_socket_ipv4()
            .ok_or_else(|| io::Error::other("the socket has no IPv4 address"))
    }

    /// Returns the largest datagram that goes out in one piece, by the MTU of the interface.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn largest_datagram(&self) -> io::Result<usize> {
        let mtu = getsockopt(&self.socket, sockopt::IpMtu)?;
        Ok(usize::try_from(mtu).unwrap_or_default().saturating_sub(HEADERS))
    }

    /// True until the kernel refused to take several datagrams as one packet.
    #[must_use]
    pub fn is_offloaded(&self) -> bool {
        self.segments.load(Ordering::Relaxed) > 1
    }

    /// Sends as many datagrams as one system call takes.
    fn send_some(&self, bytes: &[u8], datagram: usize) -> Result<usize, Errno> {
        loop {
            let segments = self.segments.load(Ordering::Relaxed).min(MAX_SEND / datagram);
            let length = bytes.len().min(segments.max(1) * datagram);
            if length <= datagram {
                return self.send_singles(bytes, datagram);
            }
            let count = length.div_ceil(datagram);
            match self.send_segments(&bytes[..length], datagram) {
                Err(errno) => {
                    let fewer = fewer_segments(errno, count).ok_or(errno)?;
                    self.segments.store(fewer.max(1), Ordering::Relaxed);
                    tracing::debug!("{errno} for a send of {count} datagrams: from now on {fewer} at a time");
                }
                sent => return sent,
            }
        }
    }

    fn send_segments(&self, bytes: &[u8], datagram: usize) -> Result<usize, Errno> {
        let size = u16::try_from(datagram).map_err(|_| Errno::EINVAL)?;
        let (parts, control) = ([IoSlice::new(bytes)], [ControlMessage::UdpGsoSegments(&size)]);
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &parts,
            &control,
            MsgFlags::MSG_DONTWAIT,
            None,
        )
    }

    fn send_singles(&self, bytes: &[u8], datagram: usize) -> Result<usize, Errno> {
        let parts: Vec<[IoSlice<'_>; 1]> = bytes
            .chunks(datagram)
            .take(MAX_SEGMENTS)
            .map(|one| [IoSlice::new(one)])
            .collect();
        // The socket is connected: no message has an address.
        let addresses = vec![None::<SockaddrIn>; parts.len()];
        let mut headers = MultiHeaders::preallocate(parts.len(), None);
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            &mut headers,
            &parts,
            addresses,
            [],
            flags,
        )?
        .count();
        Ok(bytes.len().min(sent * datagram))
    }
}

impl AsFd for GroupSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns the number of datagrams for the next try after the kernel answered a send of `count` with `errno`,
/// or `None` if the number is not the cause.
const fn fewer_segments(errno: Errno, count: usize) -> Option<usize> {
    match errno {
        // Too many for this kernel, or a kernel that does not know the option.
        Errno::EINVAL => Some(count / 2),
        // The device cannot make checksums (before Linux 6.11), or IPsec is on the route.
        Errno::EIO | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT => Some(1),
        _ => None,
    }
}

/// Sets the send buffer by the speed of the line. The kernel counts its own overhead within it, and allows for
/// this by doubling the number (socket(7)).
fn set_send_buffer(socket: &Socket, speed: u64) -> io::Result<()> {
    let bytes = (speed / 8).saturating_mul(BUFFER_TIME_US) / 1_000_000;
    let bytes = bytes.clamp(*BUFFER_BYTES.start(), *BUFFER_BYTES.end()) / 2;
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    // Beyond `wmem_max` only root may go.
    setsockopt(socket, sockopt::SndBufForce, &bytes)
        .or_else(|_| setsockopt(socket, sockopt::SndBuf, &bytes))
        .map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_send_is_halved_down_to_single_datagrams() {
        let mut tries = vec![44];
        while let Some(fewer) =
            fewer_segments(Errno::EINVAL, tries[tries.len() - 1]).filter(|fewer| *fewer > 0)
        {
            tries.push(fewer);
        }
        assert_eq!(tries, [44, 22, 11, 5, 2, 1]);
    }

    #[test]
    fn device_without_the_offload_gets_single_datagrams_at_once() {
        assert_eq!(fewer_segments(Errno::EIO, 44), Some(1));
        for other in [
            Errno::EAGAIN,
            Errno::ENETDOWN,
            Errno::EMSGSIZE,
            Errno::EPERM,
            Errno::ENOBUFS,
        ] {
            assert_eq!(fewer_segments(other, 44), None, "{other}");
        }
    }
}
