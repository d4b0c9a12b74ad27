//! The client's sockets and clock around [`Machine`]: a packet socket while there is no address, UDP once there is one.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use ka_host::HostError;
use ka_host::packet::{PacketSocket, Packets};
use socket2::{Domain, Protocol, Socket, Type};

use crate::frame::{CLIENT_PORT, SERVER_PORT, unwrap, wrap};
use crate::machine::{Config, Event, Lease, Machine, Output, Via};

/// Longest time in one wait: so soon is a request to stop seen.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// Pause after a socket error, so that an interface that went away does not keep a processor busy.
const ERROR_PAUSE: Duration = Duration::from_millis(500);
/// A DHCP message with headers; longer ones were not asked for.
const MAX_PACKET_BYTES: usize = 2048;

/// The interface to ask on; it is up.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// The sockets cannot be had.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Nobody gave an address.
    #[error("no DHCP server gave {interface} an address in {seconds} s")]
    NoLease {
        /// On which interface.
        interface: String,
        /// How long it was tried.
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
    /// Gets ready; nothing is sent yet.
    ///
    /// # Errors
    /// [`DhcpError::Host`] without the right to use packet sockets.
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

    /// Asks until there is a lease, at most `limit`. The caller gives the address to the interface, then calls
    /// [`Self::keep`].
    ///
    /// # Errors
    /// [`DhcpError::NoLease`].
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

    /// Keeps the lease: renews it in time, and looks for another one when it could not. Ends when `go_on` says so; it
    /// is asked at least twice a second.
    pub fn keep(&mut self, go_on: impl Fn() -> bool, mut on_event: impl FnMut(&Event)) {
        while go_on() {
            self.turn(&mut on_event);
        }
    }

    /// One round: what is due, then what comes.
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
                // The next round opens it anew.
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
                    // It is repeated until somebody answers; an error now is one try lost.
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
                let packet = wrap(message).ok_or(io::ErrorKind::InvalidInput)?;
                return self.wire()?.broadcast(&packet);
            }
            Via::Server(addr) => addr,
            Via::Everybody => Ipv4Addr::BROADCAST,
        };
        let to = SocketAddrV4::new(to, SERVER_PORT);
        self.udp()?.send_to(message, to)?;
        Ok(())
    }

    /// The next DHCP message, or while an address is probed the next ARP packet; at most `limit` from now.
    fn receive(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        if self.machine.is_probing() {
            let mut buffer = [0; MAX_PACKET_BYTES];
            let count = self.arp()?.recv(&mut buffer, limit)?;
            return Ok(count.map(|count| buffer[..count].to_vec()));
        }
        if self.machine.lease().is_none() {
            let deadline = Instant::now() + limit;
            let mut buffer = [0; MAX_PACKET_BYTES];
            // Other traffic of the wire comes by here, too.
            while let Some(count) = self
                .wire()?
                .recv(&mut buffer, deadline.saturating_duration_since(Instant::now()))?
            {
                if let Some(message) = unwrap(&buffer[..count]) {
                    return Ok(Some(message.to_vec()));
                }
                if Instant::now() >= deadline {
                    break;
                }
            }
            return Ok(None);
        }
        // The packet socket would collect all of a clone's traffic.
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
            socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into())?;
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

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
