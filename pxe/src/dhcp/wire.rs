//! The sockets of one interface: UDP on ports 67 and 4011, and packet sockets for ARP and for machines that have no
//! address yet. `SO_BINDTODEVICE` keeps each to its interface: nothing is heard from, or said to, any other.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::dhcp::answer::{Arrival, CLIENT_PORT, Destination, PXE_PORT, SERVER_PORT};
use crate::dhcp::codec::{Outgoing, Packet};
use crate::dhcp::frame::{self, Route};
use crate::dhcp::{DhcpError, Interface};
use crate::machine::MacAddr;

/// The step that an error of a DHCP socket names.
const OPENING: &str = "opening UDP ports 67 and 4011";
/// The largest frame of an Ethernet with jumbo frames; what is larger is cut off and dropped.
const MAX_FRAME: usize = 9216;
/// Room for a room full of machines that ask at once while leases are written to disk.
const RECEIVE_BUFFER: usize = 1 << 20;
/// `ETH_P_ARP`, `ETH_P_IP` (if_ether.h).
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
/// A packet socket that hears nothing.
const NOTHING: u16 = 0;

/// All sockets of a server.
pub(crate) struct Wire {
    iface: String,
    interface: Interface,
    dhcp: UdpSocket,
    pxe: UdpSocket,
    arp: Frames,
    out: Frames,
}

impl Wire {
    pub(crate) fn bind(iface: &str, interface: Interface) -> Result<Self, DhcpError> {
        Ok(Self {
            dhcp: udp(iface, SERVER_PORT)?,
            pxe: udp(iface, PXE_PORT)?,
            arp: Frames::open(iface, &interface, ARP)?,
            out: Frames::open(iface, &interface, NOTHING)?,
            iface: iface.to_owned(),
            interface,
        })
    }

    /// Waits for a request on either port. Safe to drop half-way.
    pub(crate) async fn request(&self) -> Result<Arrival, DhcpError> {
        loop {
            let received = tokio::select! {
                received = self.dhcp.async_io(Interest::READABLE, || receive(&self.dhcp)) => (received, false),
                received = self.pxe.async_io(Interest::READABLE, || receive(&self.pxe)) => (received, true),
            };
            if let Some(arrival) = self.arrival(received)? {
                return Ok(arrival);
            }
        }
    }

    /// A request that is there already.
    pub(crate) fn waiting_request(&self) -> Option<Arrival> {
        let received = match receive(&self.dhcp) {
            Ok(received) => (Ok(received), false),
            Err(_) => (receive(&self.pxe), true),
        };
        self.arrival(received).ok().flatten()
    }

    fn arrival(
        &self,
        (received, to_pxe_port): (io::Result<Received>, bool),
    ) -> Result<Option<Arrival>, DhcpError> {
        let received = match received {
            Ok(received) => received,
            // A client that closed its port, told by ICMP.
            Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(err) => return Err(socket_error(&self.iface, "receiving", err)),
        };
        let packet = match Packet::request(&received.bytes) {
            Ok(packet) => packet,
            Err(err) => {
                tracing::debug!("{} bytes from {}: {err}", received.bytes.len(), received.from);
                return Ok(None);
            }
        };
        Ok(Some(Arrival {
            packet,
            unicast: received.to == Some(self.interface.address()),
            to_pxe_port,
            from: received.from,
        }))
    }

    /// Sends an answer. What cannot be sent is lost, as on any wire; the client repeats its question.
    pub(crate) fn send(&self, packet: &Outgoing, to: Destination, from_pxe_port: bool) {
        let bytes = packet.encode();
        let socket = if from_pxe_port { &self.pxe } else { &self.dhcp };
        let sent = match to {
            Destination::Address(address) => self.send_udp(socket, &bytes, address),
            Destination::Broadcast => {
                let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
                self.send_udp(socket, &bytes, everyone)
            }
            Destination::Card(mac, address) => self.out.send(&frame::udp(
                &Route {
                    from_mac: self.interface.mac,
                    to_mac: mac,
                    from: (self.interface.address(), SERVER_PORT),
                    to: (address, CLIENT_PORT),
                },
                &bytes,
            )),
        };
        if let Err(err) = sent {
            tracing::warn!("{}: answer to {to:?} cannot be sent: {err}", self.iface);
        }
    }

    /// The source is the address that is our server identifier, also where the interface has several.
    fn send_udp(&self, socket: &UdpSocket, bytes: &[u8], to: SocketAddrV4) -> io::Result<()> {
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr {
                s_addr: u32::from(self.interface.address()).to_be(),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let sent = sendmsg(
            socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn::from(to)),
        );
        sent.map(drop).map_err(io::Error::from)
    }

    /// Asks who has an address.
    pub(crate) fn ask(&self, address: Ipv4Addr) {
        if let Err(err) = self.arp.send(&frame::arp_probe(self.interface.mac, address)) {
            tracing::warn!("{}: no ARP question for {address}: {err}", self.iface);
        }
    }

    /// Waits for the next claim to an address. Safe to drop half-way.
    pub(crate) async fn claim(&self) -> Result<(MacAddr, Ipv4Addr), DhcpError> {
        loop {
            let frame = self.arp.receive().await;
            let frame = frame.map_err(|err| socket_error(&self.iface, "receiving ARP", err))?;
            if let Some(claim) = frame::arp_claim(&frame) {
                return Ok(claim);
            }
        }
    }
}

/// A packet socket on one interface, in a UDP socket's coat: tokio has no other safe one, and `send` and `recv` are the
/// same system calls for both.
pub(crate) struct Frames(UdpSocket);

impl Frames {
    /// Hears all IPv4 frames of the interface.
    pub(crate) fn ipv4(iface: &str, interface: &Interface) -> Result<Self, DhcpError> {
        Self::open(iface, interface, IPV4)
    }

    fn open(iface: &str, interface: &Interface, ethertype: u16) -> Result<Self, DhcpError> {
        let open = || {
            let protocol = Protocol::from(i32::from(ethertype.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
            // An address without a protocol (as getifaddrs gives it) leaves the socket's own protocol.
            nix::sys::socket::bind(socket.as_raw_fd(), interface.link())?;
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
            UdpSocket::from_std(OwnedFd::from(socket).into())
        };
        open()
            .map(Self)
            .map_err(|err| socket_error(iface, "opening a packet socket (it needs CAP_NET_RAW)", err))
    }

    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent = nix::sys::socket::send(self.0.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
        sent.map(drop).map_err(io::Error::from)
    }

    pub(crate) async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; MAX_FRAME];
        loop {
            match self.0.recv(&mut buffer).await {
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                // The interface went down; it tells so once.
                Err(err) if err.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(err) => return Err(err),
            }
        }
    }
}

/// A datagram.
struct Received {
    bytes: Vec<u8>,
    from: SocketAddrV4,
    to: Option<Ipv4Addr>,
}

/// Takes the ports of DHCP and PXE for a moment. Needs no runtime.
pub(crate) fn try_ports(iface: &str) -> Result<(), DhcpError> {
    for port in [SERVER_PORT, PXE_PORT] {
        drop(open(iface, port)?);
    }
    Ok(())
}

fn udp(iface: &str, port: u16) -> Result<UdpSocket, DhcpError> {
    let socket = open(iface, port)?;
    UdpSocket::from_std(socket.into()).map_err(|err| socket_error(iface, OPENING, err))
}

fn open(iface: &str, port: u16) -> Result<Socket, DhcpError> {
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), None)?;
        socket.bind_device(Some(iface.as_bytes()))?;
        socket.set_broadcast(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
        Ok(socket)
    };
    open().map_err(|err: io::Error| match err.kind() {
        io::ErrorKind::AddrInUse => DhcpError::PortTaken {
            iface: iface.to_owned(),
            port,
        },
        _ => socket_error(iface, OPENING, err),
    })
}

fn receive(socket: &UdpSocket) -> io::Result<Received> {
    let mut buffer = vec![0; MAX_FRAME];
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let from = message
        .address
        .map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), |address| {
            SocketAddrV4::new(address.ip(), address.port())
        });
    let to = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))),
        _ => None,
    });
    let length = if message.flags.contains(MsgFlags::MSG_TRUNC) {
        0
    } else {
        message.bytes
    };
    buffer.truncate(length);
    Ok(Received {
        bytes: buffer,
        from,
        to,
    })
}

pub(crate) fn socket_error(iface: &str, doing: &'static str, source: io::Error) -> DhcpError {
    DhcpError::Socket {
        iface: iface.to_owned(),
        doing,
        source,
    }
}
