//! The client's sockets and clock around [`Machine`]: a packet socket while there is no address, UDP once
//! there is one.

use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use ka_dhcp::frame::{self, everybody, nobody};
use ka_dhcp::{CLIENT_PORT, SERVER_PORT};
use ka_host::HostError;
use ka_host::packet::{PacketSocket, Packets};
use socket2::{Domain, Protocol, Socket, Type};

use crate::machine::{Config, Event, Lease, Machine, Output, Via};

/// Longest single wait. A request to stop is noticed within this time.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// Pause after a socket error, so that an interface that went away does not keep a processor busy.
const ERROR_PAUSE: Duration = Duration::from_millis(500);
/// Longest DHCP message with headers that is read, in bytes. The client never asks for a longer one.
const MAX_PACKET_BYTES: usize = 2048;

/// The interface to ask on. It must be up.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Name of the interface.
    pub name: String,
    /// Number that the kernel has for it.
    pub index: u32,
}

/// Reason why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// A socket cannot be opened.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No server gave an address.
    #[error("no DHCP server gave {interface} an address in {seconds} s")]
    NoLease {
        /// Name of the interface.
        interface: String,
        /// Time spent asking, in seconds.
        seconds: u64,
    },
}

/// A DHCP client on one interface.
#[derive(Debug)]
pub struct Client {
    interface: Interface,
    machine: Machine,
    epoch: Instant,
    wire: Option<PacketSocket>,
    arp: Option<PacketSocket>,
    udp: Option<UdpSocket>,
}

impl Client {
    /// Opens the packet socket. Sends nothing yet.
    ///
    /// # Errors
    /// Fails with [`DhcpError::Host`] without the right to use packet sockets.
    pub fn new(interface: Interface, config: Config) -> Result<Self, DhcpError> {
        let wire = PacketSocket::open(&interface.name, interface.index, Packets::Ipv4)?;
        Ok(Self {
            interface,
            machine: Machine::new(config, Duration::ZERO),
            epoch: Instant::now(),
            wire: Some(wire),
            arp: None,
            udp: None,
        })
    }

    /// Asks until there is a lease, for at most `limit`. The caller then sets the address on the interface
    /// and calls [`Self::keep`].
    ///
    /// # Errors
    /// Fails with [`DhcpError::NoLease`] when the time is over.
    pub fn acquire(&mut self, limit: Duration, mut on_event: impl FnMut(&Event)) -> Result<Lease, DhcpError> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            self.turn(&mut on_event);
            if let Some(lease) = self.machine.lease() {
                return Ok(lease.clone());
            }
        }
        Err(DhcpError::NoLease {
            interface: self.interface.name.clone(),
            seconds: limit.as_secs(),
        })
    }

    /// Keeps the lease: renews it in time, and asks for another one if it could not be renewed. Ends when
    /// `go_on` returns false; it is called at least twice a second.
    pub fn keep(&mut self, go_on: impl Fn() -> bool, mut on_event: impl FnMut(&Event)) {
        while go_on() {
            self.turn(&mut on_event);
        }
    }

    /// Runs one round: handles a due timeout, then waits for a message.
    fn turn(&mut self, on_event: &mut impl FnMut(&Event)) {
        self.machine.handle_timeout(self.epoch.elapsed());
        self.obey(on_event);
        if !self.machine.is_probing() {
            self.arp = None;
        }
        let wait = self
            .machine
            .poll_timeout()
            .saturating_sub(self.epoch.elapsed())
            .min(LONGEST_SLEEP);
        match self.receive(wait) {
            Ok(Some(message)) if self.machine.is_probing() => {
                self.machine.handle_arp(self.epoch.elapsed(), &message);
                self.obey(on_event);
            }
            Ok(Some(message)) => {
                self.machine.handle_message(self.epoch.elapsed(), &message);
                self.obey(on_event);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(interface = %self.interface.name, %error, "receiving DHCP messages");
                // The next round opens the sockets anew.
                (self.wire, self.arp, self.udp) = (None, None, None);
                std::thread::sleep(ERROR_PAUSE);
            }
        }
    }

    fn obey(&mut self, on_event: &mut impl FnMut(&Event)) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Event(event) => on_event(&event),
                Output::Probe(packet) => {
                    let sent = self.arp().and_then(|socket| socket.broadcast(&packet));
                    if let Err(error) = sent {
                        tracing::debug!(interface = %self.interface.name, %error, "sending an ARP probe");
                    }
                }
                Output::Send(via, message) => {
                    // The message is repeated until a server answers. A failure now is like a lost message.
                    if let Err(error) = self.send(via, &message) {
                        tracing::debug!(interface = %self.interface.name, %error, "sending a DHCP message");
                    }
                }
            }
        }
    }

    fn send(&mut self, via: Via, message: &[u8]) -> io::Result<()> {
        let to = match via {
            Via::Wire => {
                let packet = frame::udp(nobody(CLIENT_PORT), everybody(SERVER_PORT), message)
                    .ok_or(io::ErrorKind::InvalidInput)?;
                return self.wire()?.broadcast(&packet);
            }
            Via::Server(addr) => SocketAddrV4::new(addr, SERVER_PORT),
            Via::Everybody => everybody(SERVER_PORT),
        };
        self.udp()?.send_to(message, to)?;
        Ok(())
    }

    /// Waits for the next DHCP message, or for the next ARP packet while an address is probed, for at most
    /// `limit`.
    fn receive(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        if self.machine.is_probing() {
            let mut buffer = [0; MAX_PACKET_BYTES];
            let count = self.arp()?.recv(&mut buffer, limit)?;
            return Ok(count.map(|count| buffer[..count].to_vec()));
        }
        if self.machine.lease().is_none() {
            let deadline = Instant::now() + limit;
            let mut buffer = [0; MAX_PACKET_BYTES];
            // The packet socket also receives other traffic of the wire.
            while let Some(count) = self
                .wire()?
                .recv(&mut buffer, deadline.saturating_duration_since(Instant::now()))?
            {
                if let Some(message) = message_in(&buffer[..count]) {
                    return Ok(Some(message.to_vec()));
                }
                if Instant::now() >= deadline {
                    break;
                }
            }
            return Ok(None);
        }
        // An open packet socket would collect all traffic of the clone.
        self.wire = None;
        let socket = self.udp()?;
        socket.set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        let mut buffer = [0; MAX_PACKET_BYTES];
        match socket.recv(&mut buffer) {
            Ok(count) => Ok(Some(buffer[..count].to_vec())),
            Err(error) if is_nothing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn wire(&mut self) -> io::Result<&PacketSocket> {
        opened(&mut self.wire, &self.interface, Packets::Ipv4)
    }

    fn arp(&mut self) -> io::Result<&PacketSocket> {
        opened(&mut self.arp, &self.interface, Packets::Arp)
    }

    fn udp(&mut self) -> io::Result<&UdpSocket> {
        if self.udp.is_none() {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_broadcast(true)?;
            socket.bind_device(Some(self.interface.name.as_bytes()))?;
            socket.bind(&nobody(CLIENT_PORT).into())?;
            self.udp = Some(socket.into());
        }
        self.udp
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn opened<'a>(
    socket: &'a mut Option<PacketSocket>,
    interface: &Interface,
    packets: Packets,
) -> io::Result<&'a PacketSocket> {
    if socket.is_none() {
        let opened = PacketSocket::open(&interface.name, interface.index, packets);
        *socket = Some(opened.map_err(|error| error.source)?);
    }
    socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// The message in an IPv4 packet from a server's port to a client's port.
fn message_in(packet: &[u8]) -> Option<&[u8]> {
    let datagram = frame::datagram(packet)?;
    ((datagram.from, datagram.to) == (SERVER_PORT, CLIENT_PORT)).then_some(datagram.message)
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn only_what_comes_from_a_server_s_port_to_ours_is_a_message() {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        for (from, to, is_ours) in [
            (67, 68, true),
            (68, 67, false),
            (67, 69, false),
            (4011, 68, false),
        ] {
            let packet = frame::udp(SocketAddrV4::new(server, from), everybody(to), b"message").unwrap();
            let message = is_ours.then_some(&b"message"[..]);
            assert_eq!(message_in(&packet), message, "{from} to {to}");
        }
    }
}
