//! The socket of a member of a group.
//!
//! The kernel hands over many datagrams of one size in one receive (generic receive offload, `UDP_GRO`, Linux
//! 5.0). Where it cannot, each receive has one datagram.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, getsockopt, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of a buffer that takes any receive.
pub const RECEIVE_BYTES: usize = 65_536;
/// Receive buffer of the socket: 130 ms at 1 Gbit/s. It bridges the time in which the thread gets no processor.
const BUFFER_BYTES: usize = 16 << 20;
/// Time that a socket may stay unread after it was empty, so that one look finds more: at 10 Gbit/s, 4 MiB. A
/// processor wakes up for each look.
const REST: Duration = Duration::from_millis(3);
/// Words of SO_MEMINFO, and the one that counts dropped packets (linux/sock_diag.h, since 4.12).
const MEMINFO_WORDS: usize = 9;
const MEMINFO_DROPS: usize = 8;

nix::getsockopt_impl!(
    MemInfo,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    [u32; MEMINFO_WORDS],
    nix::sys::socket::sockopt::GetStruct<[u32; MEMINFO_WORDS]>
);

/// The kernel's account of a socket's memory.
#[derive(Debug, Clone, Copy)]
struct MemInfo;

/// Room for the one control message of a receive, aligned as the kernel's structures are.
#[repr(align(8))]
struct Control([u8; 64]);

/// A socket that is a member of one group on one interface, and receives nothing else. It never blocks.
#[derive(Debug)]
pub struct GroupReceiver {
    socket: Socket,
    /// Time that the socket may stay unread.
    rest: Duration,
}

/// One receive: datagrams of one size, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes received.
    pub len: usize,
    /// Bytes of each datagram; the last one may be shorter.
    pub datagram: usize,
}

impl GroupReceiver {
    /// Joins `group` on the interface that has the address `local`. The network may need a moment until it
    /// forwards the group here; only a received datagram proves that it does.
    ///
    /// # Errors
    /// No interface has the address, or the kernel's limit of groups is reached.
    pub fn open(local: Ipv4Addr, group: SocketAddrV4) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::IPV4,
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        // Several nodes on one machine, as in tests, are members of one group.
        socket.set_reuse_address(true)?;
        // Only groups that this socket has joined, not those of other programs (ip(7)).
        socket.set_multicast_all_v4(false)?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES)
            // Without root: as much as `rmem_max` allows.
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES))?;
        // An older kernel gives one datagram a receive.
        setsockopt(&socket, sockopt::UdpGroSegment, &true).ok();
        // Bound to the group's address, it does not see datagrams to this machine's own.
        socket.bind(&group.into())?;
        // Any source, not one (RFC 4607): plain IGMPv2 and v3 switches without source lists forward this, too.
        socket.join_multicast_v4(group.ip(), &local)?;
        // Without root, the buffer may be too small for a rest.
        let is_large = socket.recv_buffer_size()? >= BUFFER_BYTES;
        let rest = if is_large { REST } else { Duration::ZERO };
        Ok(Self { socket, rest })
    }

    /// Takes only datagrams with this source from now on. The kernel drops those of other sources before they
    /// use room in the socket's buffer.
    ///
    /// # Errors
    /// There is no route to the address.
    pub fn only_from(&self, sender: SocketAddrV4) -> io::Result<()> {
        self.socket.connect(&sender.into())
    }

    /// Receives into `buffer`, which should have [`RECEIVE_BYTES`]; more than fits is lost. Returns `None` if
    /// nothing is there: poll(2) says when something is.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut control = Control([0; 64]);
        loop {
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut control.0), flags) {
                Ok(message) => {
                    let size = message.cmsgs()?.find_map(|control| match control {
                        ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
                        _ => None,
                    });
                    let len = message.bytes;
                    // Without the control message it is one datagram. A size of 0 would be a kernel's mistake.
                    let datagram = size.filter(|size| *size > 0).unwrap_or(len).min(len).max(1);
                    return Ok(Some(Received { len, datagram }));
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Returns the time that the socket may stay unread after it was empty. Nothing is lost meanwhile.
    #[must_use]
    pub const fn rest(&self) -> Duration {
        self.rest
    }

    /// Returns the number of packets that the kernel dropped because the socket's buffer was full, since it was
    /// opened and modulo 2^32. A packet may have been many datagrams.
    #[must_use]
    pub fn drops(&self) -> u64 {
        getsockopt(&self.socket, MemInfo).map_or(0, |info| info[MEMINFO_DROPS].into())
    }
}

impl AsFd for GroupReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
