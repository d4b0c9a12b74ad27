//! The sockets of one interface: UDP on ports 67 and 4011, and packet sockets for ARP and for machines
//! without an address. `SO_BINDTODEVICE` ties each socket to its interface, so that it neither receives nor
//! sends on any other.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};

use ka_dhcp::arp::{self, Arp};
use ka_dhcp::frame::{self, EtherType};
use ka_dhcp::{CLIENT_PORT, Outgoing, Packet, SERVER_PORT};
use ka_mac::MacAddr;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::dhcp::answer::{Arrival, Destination, PXE_PORT};
use crate::dhcp::{DhcpError, Interface};

/// Step that an error of a DHCP socket names.
const OPENING: &str = "opening UDP ports 67 and 4011";
/// Largest frame, in bytes: an Ethernet jumbo frame. A larger frame is cut off and dropped.
const MAX_FRAME: usize = 9216;
/// Receive buffer, in bytes. It holds the requests of a room full of machines while leases are written to
/// disk.
const RECEIVE_BUFFER: usize = 1 << 20;

/// All sockets of a DHCP server.
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
            arp: Frames::open(iface, &interface, Some(EtherType::Arp))?,
            out: Frames::open(iface, &interface, None)?,
            iface: iface.to_owned(),
            interface,
        })
    }

    /// Waits for a request on either port. Cancel safe.
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

    /// Returns a request that has already arrived, without waiting.
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
            // A client closed its port; ICMP reports this as an error of the socket.
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

    /// Sends an answer. A failure to send is only logged: the client repeats its question, as after any loss.
    pub(crate) fn send(&self, packet: &Outgoing, to: Destination, from_pxe_port: bool) {
        let bytes = packet.encode();
        let socket = if from_pxe_port { &self.pxe } else { &self.dhcp };
        let sent = match to {
            Destination::Address(address) => self.send_udp(socket, &bytes, address),
            Destination::Broadcast => {
                let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
                self.send_udp(socket, &bytes, everyone)
            }
            Destination::Card(mac, address) => self.send_frame(&bytes, mac, address),
        };
        if let Err(err) = sent {
            tracing::warn!("{}: answer to {to:?} cannot be sent: {err}", self.iface);
        }
    }

    /// Sends a frame to a card that does not answer ARP yet, past the kernel's IP stack.
    fn send_frame(&self, bytes: &[u8], mac: MacAddr, address: Ipv4Addr) -> io::Result<()> {
        let from = SocketAddrV4::new(self.interface.address(), SERVER_PORT);
        let packet = frame::udp(from, SocketAddrV4::new(address, CLIENT_PORT), bytes)
            .ok_or(io::ErrorKind::InvalidInput)?;
        self.out.send(&frame::ethernet(
            self.interface.mac,
            mac,
            EtherType::Ipv4,
            &packet,
        ))
    }

    /// Sends a datagram from the address that is the server identifier, even if the interface has several
    /// addresses.
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

    /// Sends an ARP question for an address.
    pub(crate) fn ask(&self, address: Ipv4Addr) {
        let own = self.interface.mac;
        let probe = frame::ethernet(own, MacAddr::BROADCAST, EtherType::Arp, &arp::probe(own, address));
        if let Err(err) = self.arp.send(&probe) {
            tracing::warn!("{}: no ARP question for {address}: {err}", self.iface);
        }
    }

    /// Waits for the next ARP claim to an address. Cancel safe.
    pub(crate) async fn claim(&self) -> Result<(MacAddr, Ipv4Addr), DhcpError> {
        loop {
            let frame = self.arp.receive().await;
            let frame = frame.map_err(|err| socket_error(&self.iface, "receiving ARP", err))?;
            let arp = frame::packet_in(&frame, EtherType::Arp).and_then(Arp::read);
            if let Some(claim) = arp.and_then(|arp| arp.claim()) {
                return Ok(claim);
            }
        }
    }
}

/// A packet socket on one interface, wrapped in a [`UdpSocket`]: tokio has no other safe wrapper, and `send`
/// and `recv` are the same system calls for both.
pub(crate) struct Frames(UdpSocket);

impl Frames {
    /// Opens a socket that receives all IPv4 frames of the interface.
    pub(crate) fn ipv4(iface: &str, interface: &Interface) -> Result<Self, DhcpError> {
        Self::open(iface, interface, Some(EtherType::Ipv4))
    }

    /// Opens a socket that receives frames of this kind. With `None` the socket only sends.
    fn open(iface: &str, interface: &Interface, kind: Option<EtherType>) -> Result<Self, DhcpError> {
        let open = || {
            let protocol = Protocol::from(i32::from(kind.map_or(0, |kind| kind as u16).to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
            // An address without a protocol, as getifaddrs returns it, keeps the protocol of the socket.
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
                // The interface went down. The socket reports this once.
                Err(err) if err.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(err) => return Err(err),
            }
        }
    }
}

/// A received datagram.
struct Received {
    bytes: Vec<u8>,
    from: SocketAddrV4,
    to: Option<Ipv4Addr>,
}

/// Opens the ports of DHCP and PXE for a moment, to see whether they are free. Needs no runtime.
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
