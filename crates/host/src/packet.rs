//! Packets on a wire without an address there (packet(7)): IPv4 and ARP, which a DHCP client needs before its
//! first lease, and LLDP, which has no addresses at all.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::libc::{
    PACKET_ADD_MEMBERSHIP, PACKET_MR_MULTICAST, SOL_PACKET, packet_mreq, setsockopt, sockaddr_ll,
    sockaddr_storage,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, recv, sendto, socket,
};

use crate::HostError;

/// The kind of packets of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packets {
    /// IPv4 (RFC 791).
    Ipv4,
    /// ARP (RFC 826).
    Arp,
    /// LLDP (IEEE 802.1AB): frames of the devices at the other end of the line.
    Lldp,
}

impl Packets {
    /// `ETH_P_IP`, `ETH_P_ARP` and `ETH_P_LLDP` of `linux/if_ether.h`.
    const fn ethertype(self) -> u16 {
        match self {
            Self::Ipv4 => 0x0800,
            Self::Arp => 0x0806,
            Self::Lldp => 0x88cc,
        }
    }

    /// The group addresses whose frames the interface must take in (IEEE 802.1AB-2016, table 7-1).
    const fn groups(self) -> &'static [[u8; 6]] {
        match self {
            Self::Ipv4 | Self::Arp => &[],
            Self::Lldp => &[
                [0x01, 0x80, 0xc2, 0, 0, 0x0e],
                [0x01, 0x80, 0xc2, 0, 0, 0x03],
                [0x01, 0x80, 0xc2, 0, 0, 0x00],
            ],
        }
    }
}

/// A socket that sends and receives packets of one kind, headers included, on one Ethernet interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    index: u32,
    packets: Packets,
}

impl PacketSocket {
    /// Opens the socket on the interface with this index. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// [`HostError`] naming the interface.
    pub fn open(name: &str, index: u32, packets: Packets) -> Result<Self, HostError> {
        let failed = |errno: nix::Error| HostError::new(format!("opening a packet socket on {name}"), errno);
        // With protocol 0 nothing is received before bind(2) names the interface.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, None).map_err(failed)?;
        let own = address(index, packets, [0; 6]).map_err(failed)?;
        bind(socket.as_raw_fd(), &own).map_err(failed)?;
        for group in packets.groups() {
            take_in(&socket, index, *group).map_err(failed)?;
        }
        Ok(Self {
            socket,
            index,
            packets,
        })
    }

    /// Sends a packet to all machines on the wire.
    ///
    /// # Errors
    /// As sendto(2): `ENETDOWN` when the interface went down, `EMSGSIZE` over its MTU.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        let everybody = address(self.index, self.packets, [0xff; 6])?;
        sendto(self.socket.as_raw_fd(), packet, &everybody, MsgFlags::empty())?;
        Ok(())
    }

    /// Receives the next packet, at most `limit` from now; `None` when none came. A packet longer than
    /// `buffer` is cut.
    ///
    /// # Errors
    /// As recv(2): `ENETDOWN` when the interface went down.
    pub fn recv(&self, buffer: &mut [u8], limit: Duration) -> io::Result<Option<usize>> {
        let wait = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, wait) {
            Ok(0) | Err(nix::Error::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(count) => Ok(Some(count)),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Makes an interface take in the frames for a group address (`PACKET_ADD_MEMBERSHIP`, packet(7)).
fn take_in(socket: &OwnedFd, index: u32, group: [u8; 6]) -> nix::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&group);
    let request = packet_mreq {
        mr_ifindex: i32::try_from(index).map_err(|_| nix::Error::EINVAL)?,
        mr_type: u16::try_from(PACKET_MR_MULTICAST).map_err(|_| nix::Error::EINVAL)?,
        mr_alen: 6,
        mr_address: address,
    };
    let length = u32::try_from(mem::size_of::<packet_mreq>()).map_err(|_| nix::Error::EINVAL)?;
    // SAFETY: the option takes one packet_mreq, which lives through the call; its length is given.
    let result = unsafe {
        setsockopt(
            socket.as_raw_fd(),
            SOL_PACKET,
            PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            length,
        )
    };
    nix::errno::Errno::result(result).map(drop)
}

fn address(index: u32, packets: Packets, mac: [u8; 6]) -> nix::Result<LinkAddr> {
    let mut hardware = [0; 8];
    hardware[..6].copy_from_slice(&mac);
    let raw = sockaddr_ll {
        sll_family: u16::try_from(nix::libc::AF_PACKET).map_err(|_| nix::Error::EINVAL)?,
        sll_protocol: packets.ethertype().to_be(),
        sll_ifindex: i32::try_from(index).map_err(|_| nix::Error::EINVAL)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: hardware,
    };
    let mut storage: sockaddr_storage = {
        // SAFETY: sockaddr_storage is plain old data; all zeroes is a valid value.
        unsafe { mem::zeroed() }
    };
    let length = mem::size_of::<sockaddr_ll>();
    // SAFETY: sockaddr_storage is larger than sockaddr_ll and suitably aligned for it (sockaddr(3type)).
    unsafe { (&raw mut storage).cast::<sockaddr_ll>().write(raw) };
    let length = u32::try_from(length).map_err(|_| nix::Error::EINVAL)?;
    // SAFETY: the pointer is to a whole sockaddr_storage that holds a sockaddr_ll of the given length.
    unsafe { LinkAddr::from_raw((&raw const storage).cast(), Some(length)) }.ok_or(nix::Error::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route;

    #[test]
    fn what_is_sent_on_loopback_is_received_there() {
        let inside = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            route::set_up("lo", 1).unwrap();
            let socket = PacketSocket::open("lo", 1, Packets::Ipv4).unwrap();
            let mut buffer = [0; 64];
            assert_eq!(socket.recv(&mut buffer, Duration::from_millis(10)).unwrap(), None);
            let packet = [0x45u8; 28];
            socket.broadcast(&packet).unwrap();
            let count = socket.recv(&mut buffer, Duration::from_secs(5)).unwrap().unwrap();
            assert_eq!(buffer[..count], packet);
            assert!(PacketSocket::open("nonesuch", 4711, Packets::Arp).is_err());
        });
        inside.join().unwrap();
    }
}
