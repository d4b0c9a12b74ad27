//! What both servers have in common: a packet as it arrived, what they do about it, where an answer goes, and the part
//! of an answer that makes a machine boot.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, MessageType, OptionCode};

use crate::dhcp::codec::{MAX_FILE, Outgoing, Packet};
use crate::dhcp::vendor::{self, Client};
use crate::dhcp::{BootFileFor, DhcpEvent};
use crate::machine::{MacAddr, Machine};

/// RFC 2131 §4.1; PXE 2.1 §2.2.
pub(crate) const SERVER_PORT: u16 = 67;
pub(crate) const CLIENT_PORT: u16 = 68;
pub(crate) const PXE_PORT: u16 = 4011;

/// A request, and how it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) packet: Packet,
    /// Sent to our own address, not to everyone.
    pub(crate) unicast: bool,
    /// Came to port 4011.
    pub(crate) to_pxe_port: bool,
    pub(crate) from: SocketAddrV4,
}

/// What a server wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Send(Outgoing, Destination),
    /// Ask the wire whether somebody has this address, and tell the server.
    Probe(Ipv4Addr),
    Event(DhcpEvent),
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Through the kernel: a relay, or a client that has its address.
    Address(SocketAddrV4),
    /// To everyone on the wire.
    Broadcast,
    /// To a card that does not answer ARP for its new address yet.
    Card(MacAddr, Ipv4Addr),
}

impl Destination {
    /// RFC 2131 §4.1, for OFFER and ACK.
    pub(crate) fn of_grant(request: &Packet, given: Ipv4Addr) -> Self {
        if let Some(relay) = request.giaddr() {
            return Self::Address(SocketAddrV4::new(relay, SERVER_PORT));
        }
        if let Some(own) = request.ciaddr() {
            return Self::Address(SocketAddrV4::new(own, CLIENT_PORT));
        }
        if request.wants_broadcast() {
            return Self::Broadcast;
        }
        Self::Card(request.mac(), given)
    }

    /// For answers to who has no address, or has a wrong one.
    pub(crate) fn of_refusal(request: &Packet) -> Self {
        match request.giaddr() {
            Some(relay) => Self::Address(SocketAddrV4::new(relay, SERVER_PORT)),
            None => Self::Broadcast,
        }
    }
}

/// What a request tells the operator, whatever becomes of it.
pub(crate) fn event_of(client: &Client, request: &Packet) -> Option<DhcpEvent> {
    match client {
        Client::Boot(machine) if request.kind() == MessageType::Discover => {
            Some(DhcpEvent::Asked(machine.clone()))
        }
        Client::System(vendor_class) if is_looking(request.kind()) => Some(DhcpEvent::SeenAgain {
            mac: request.mac(),
            vendor_class: vendor_class.clone(),
            host_name: request.host_name(),
        }),
        _ => None,
    }
}

fn is_looking(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::Discover | MessageType::Request | MessageType::Inform
    )
}

/// Adds what the machine is to boot, if anything.
///
/// The name stands in the header, as every ROM reads it, and in options 66 and 67 for who asks for them, or when it is
/// too long for the header. Both options end in NUL: ROMs are in the field that copy the option and look for the NUL.
pub(crate) fn add_boot(
    answer: &mut Outgoing,
    request: &Packet,
    machine: &Machine,
    file: &str,
    server: Ipv4Addr,
) {
    answer.header_mut().set_siaddr(server);
    answer.set_file(file);
    let http = machine.http && !machine.ipxe;
    let class = if http {
        vendor::HTTP_CLASS
    } else {
        vendor::PXE_CLASS
    };
    answer.push(&DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
    if !http {
        answer.push(&DhcpOption::VendorExtensions(vendor::pxe_options(request)));
    }
    if let Some(id) = request.machine_id() {
        answer.push(&DhcpOption::ClientMachineIdentifier(id.to_vec()));
    }
    if file.len() > MAX_FILE || request.wants(OptionCode::BootfileName) {
        answer.push(&DhcpOption::BootfileName(with_nul(file)));
    }
    if request.wants(OptionCode::TFTPServerName) {
        answer.push(&DhcpOption::TFTPServerName(with_nul(&server.to_string())));
    }
}

fn with_nul(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// The answer to a machine that has its address and asks port 4011 for its boot file.
pub(crate) fn pxe_port(
    arrival: &Arrival,
    client: &Client,
    server: Ipv4Addr,
    boot: &BootFileFor,
) -> Option<Action> {
    let request = &arrival.packet;
    let Client::Boot(machine) = client else {
        return None;
    };
    if !matches!(request.kind(), MessageType::Request | MessageType::Inform) {
        return None;
    }
    // A ROM that chose another boot server names that one.
    if request.server_id().is_some_and(|chosen| chosen != server) {
        return None;
    }
    let file = boot(machine)?;
    let mut answer = Outgoing::answer(request, MessageType::Ack, server);
    if let Some(own) = request.ciaddr() {
        answer.header_mut().set_ciaddr(own);
    }
    add_boot(&mut answer, request, machine, &file, server);
    // Firmware is not of one mind about ciaddr here; the sender's address and port are always right, if there are any.
    let to = match (arrival.from.ip().is_unspecified(), request.ciaddr()) {
        (false, _) => Destination::Address(arrival.from),
        (true, Some(own)) => Destination::Address(SocketAddrV4::new(own, CLIENT_PORT)),
        (true, None) => Destination::Broadcast,
    };
    Some(Action::Send(answer, to))
}
