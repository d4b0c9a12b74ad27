//! A DHCP message to be sent: the header and the options in order, within the length that the receiver
//! accepts.
//!
//! dhcproto encodes header and options. This module adds the rest: the limit of the length, the relay's
//! option at the end, the end mark, the padding.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, MIN_PACKET_SIZE, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Encodable as _, Encoder};
use ka_mac::MacAddr;

use crate::options::{HEADER, HOST_NAME, MAX_PIECE, RELAY_AGENT, append};
use crate::packet::Packet;

/// Length of the IP and UDP headers, in bytes. The size in option 57 includes them.
const IP_UDP: usize = 28;
/// Datagram size that every client and every server accepts, in bytes (RFC 2131 §2).
const MIN_DATAGRAM: u16 = 576;
/// Largest datagram sent, in bytes, whatever option 57 allows: one Ethernet frame, because ROMs do not
/// reassemble.
const MAX_DATAGRAM: u16 = 1500;
/// Hardware type of Ethernet, in front of the address in a client identifier (RFC 2132 §9.14).
const ETHERNET: u8 = 1;

/// Longest name that the header's `file` field can hold, in bytes, without its closing NUL.
pub const MAX_FILE: usize = 127;

/// A message to be sent: the header, then options in the order given, up to the limit of the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    header: Message,
    options: Vec<Vec<u8>>,
    relay_agent: Vec<u8>,
    limit: usize,
}

impl Outgoing {
    /// Creates a server's answer. Transaction, hardware address, flags, giaddr, relay options and client
    /// identifier (RFC 6842) are copied from the request. Message type and server identifier stand first, as
    /// ROMs expect them.
    #[must_use]
    pub fn answer(request: &Packet, kind: MessageType, server: Ipv4Addr) -> Self {
        let relay = request.message().giaddr();
        let mut header = header(request.mac(), request.xid(), relay);
        header
            .set_opcode(Opcode::BootReply)
            .set_flags(request.message().flags());
        let mut relay_agent = Vec::new();
        let said = request.data(RELAY_AGENT);
        if said.len() <= MAX_PIECE {
            // Writing to a vector cannot fail, apart from memory.
            let _ = append(&mut relay_agent, RELAY_AGENT, said);
        }
        let datagram = request.max_size().unwrap_or(MIN_DATAGRAM);
        let mut answer = Self {
            header,
            options: Vec::new(),
            relay_agent,
            limit: payload(datagram),
        };
        answer.push(&DhcpOption::MessageType(kind));
        answer.push(&DhcpOption::ServerIdentifier(server));
        if let Some(id) = request.option(OptionCode::ClientIdentifier) {
            answer.push(id);
        }
        answer
    }

    /// Creates a client's message, to be answered by broadcast, because a client cannot answer ARP for an
    /// address that is not configured yet. The message type stands first.
    #[must_use]
    pub fn question(kind: MessageType, mac: MacAddr, xid: u32) -> Self {
        let mut header = header(mac, xid, Ipv4Addr::UNSPECIFIED);
        header.set_flags(Flags::default().set_broadcast());
        let mut question = Self {
            header,
            options: Vec::new(),
            relay_agent: Vec::new(),
            limit: payload(MIN_DATAGRAM),
        };
        question.push(&DhcpOption::MessageType(kind));
        question
    }

    /// Sets the address that the client has and receives at, so that the answer goes there.
    pub fn set_own(&mut self, address: Ipv4Addr) {
        self.header.set_ciaddr(address).set_flags(Flags::default());
    }

    /// Sets the seconds since the client began. Some servers answer only clients that have waited for long.
    pub fn set_secs(&mut self, secs: u16) {
        self.header.set_secs(secs);
    }

    /// Sets ciaddr, the address that the client has.
    pub fn set_ciaddr(&mut self, address: Ipv4Addr) {
        self.header.set_ciaddr(address);
    }

    /// Sets yiaddr, the address that the client is given.
    pub fn set_yiaddr(&mut self, address: Ipv4Addr) {
        self.header.set_yiaddr(address);
    }

    /// Sets siaddr, the server of the boot file.
    pub fn set_siaddr(&mut self, address: Ipv4Addr) {
        self.header.set_siaddr(address);
    }

    /// Sets the broadcast flag, which makes relays broadcast the message to a client without an address.
    pub fn set_broadcast(&mut self) {
        let flags = self.header.flags().set_broadcast();
        self.header.set_flags(flags);
    }

    /// Adds an option.
    pub fn push(&mut self, option: &DhcpOption) {
        let mut bytes = Vec::new();
        match option.encode(&mut Encoder::new(&mut bytes)) {
            Ok(()) => self.options.push(bytes),
            Err(err) => tracing::error!("option {option:?} cannot be written: {err}"),
        }
    }

    /// Adds an option that dhcproto has no type for.
    pub fn push_raw(&mut self, code: u8, data: &[u8]) {
        let mut bytes = Vec::new();
        if append(&mut bytes, code, data).is_ok() {
            self.options.push(bytes);
        }
    }

    /// Adds the host name (option 12).
    pub fn push_host_name(&mut self, name: &str) {
        self.push_raw(HOST_NAME, name.as_bytes());
    }

    /// Adds the hardware address as client identifier (option 61). PXE ROMs' own loaders and iPXE send the
    /// same, so a server that goes by it gives the same address again.
    pub fn push_client_id(&mut self, mac: MacAddr) {
        let id = std::iter::once(ETHERNET).chain(mac.0).collect();
        self.push(&DhcpOption::ClientIdentifier(id));
    }

    /// Sets the name of the boot file in the header, if it fits there.
    pub fn set_file(&mut self, name: &str) {
        if name.len() <= MAX_FILE {
            self.header.set_fname(name.as_bytes());
        }
    }

    /// Encodes the message. Options that exceed the limit are left out. The relay's option is always sent,
    /// and comes last (RFC 3046 §2.1). The message is padded to BOOTP's 300 bytes (RFC 1542 §2.1).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.limit);
        if let Err(err) = self.header.encode(&mut Encoder::new(&mut bytes)) {
            tracing::error!("a DHCP header cannot be written: {err}");
        }
        // Without options dhcproto writes no end mark. Everything behind the header is written below.
        bytes.truncate(HEADER);
        let room = self.limit.saturating_sub(self.relay_agent.len() + 1);
        for option in &self.options {
            if bytes.len() + option.len() <= room {
                bytes.extend_from_slice(option);
            } else {
                tracing::debug!("no room for option {} within {} bytes", option[0], self.limit);
            }
        }
        bytes.extend_from_slice(&self.relay_agent);
        bytes.push(OptionCode::End.into());
        if bytes.len() < MIN_PACKET_SIZE {
            bytes.resize(MIN_PACKET_SIZE, 0);
        }
        bytes
    }
}

fn header(mac: MacAddr, xid: u32, relay: Ipv4Addr) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    Message::new_with_id(xid, none, none, none, relay, &mac.0)
}

/// Room for a message in an IP datagram of this size, in bytes.
fn payload(datagram: u16) -> usize {
    usize::from(datagram.clamp(MIN_DATAGRAM, MAX_DATAGRAM)) - IP_UDP
}
