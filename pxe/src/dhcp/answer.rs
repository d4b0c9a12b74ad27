//! Parts that both DHCP servers share: a received packet, the server's reaction to it, the destination of an
//! answer, and the boot options of an answer.

use std::net::{Ipv4Addr, SocketAddrV4};

use ka_dhcp::{CLIENT_PORT, DhcpOption, MAX_FILE, MessageType, OptionCode, Outgoing, Packet, SERVER_PORT};
use ka_mac::MacAddr;

use crate::dhcp::vendor::{self, Client};
use crate::dhcp::{BootFileFor, DhcpEvent};
use crate::machine::Machine;

/// UDP port of PXE boot servers (PXE 2.1 §2.2).
pub(crate) const PXE_PORT: u16 = 4011;

/// A request, and the way it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) packet: Packet,
    /// True if it was sent to the server's own address, false if it was broadcast.
    pub(crate) unicast: bool,
    /// True if it arrived on port 4011.
    pub(crate) to_pxe_port: bool,
    pub(crate) from: SocketAddrV4,
}

/// An action that a server requests from its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Send(Outgoing, Destination),
    /// Send an ARP question for this address, and tell the server the answer.
    Probe(Ipv4Addr),
    Event(DhcpEvent),
}

/// Destination of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A relay, or a client that uses its address already: the kernel sends it.
    Address(SocketAddrV4),
    /// The broadcast address.
    Broadcast,
    /// A card that does not answer ARP for its new address yet.
    Card(MacAddr, Ipv4Addr),
}

impl Destination {
    /// Destination of an OFFER or ACK (RFC 2131 §4.1).
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

    /// Destination of an answer to a client that has no address, or a wrong one.
    pub(crate) fn of_refusal(request: &Packet) -> Self {
        match request.giaddr() {
            Some(relay) => Self::Address(SocketAddrV4::new(relay, SERVER_PORT)),
            None => Self::Broadcast,
        }
    }
}

/// The event for the operator that a request causes, whatever the answer is.
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

/// Adds the boot file and the options that belong to it.
///
/// The file name stands in the header, where every ROM reads it. Option 67 has it too if the client asks for
/// it or if the name is too long for the header, and option 66 has the server if the client asks. Both
/// options end in NUL, because some ROMs copy the option and look for the NUL.
pub(crate) fn add_boot(
    answer: &mut Outgoing,
    request: &Packet,
    machine: &Machine,
    file: &str,
    server: Ipv4Addr,
) {
    answer.set_siaddr(server);
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
    // A ROM that chose another boot server sends that server's identifier.
    if request.server_id().is_some_and(|chosen| chosen != server) {
        return None;
    }
    let file = boot(machine)?;
    let mut answer = Outgoing::answer(request, MessageType::Ack, server);
    if let Some(own) = request.ciaddr() {
        answer.set_ciaddr(own);
    }
    add_boot(&mut answer, request, machine, &file, server);
    // Firmware disagrees about the use of ciaddr here. The sender's address and port are right whenever they
    // are set.
    let to = match (arrival.from.ip().is_unspecified(), request.ciaddr()) {
        (false, _) => Destination::Address(arrival.from),
        (true, Some(own)) => Destination::Address(SocketAddrV4::new(own, CLIENT_PORT)),
        (true, None) => Destination::Broadcast,
    };
    Some(Action::Send(answer, to))
}
