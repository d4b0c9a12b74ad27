//! A DHCP message from the wire: a checking wrapper around `dhcproto`.
//!
//! Read messages only through this module. Alone, dhcproto 0.15 has four faults. It panics on a hardware
//! address longer than its field and on short PXE options (debug assertions). It loses every option behind a
//! malformed one. It accepts any magic. It keeps one value of option 93. So the option field is parsed here
//! first (`options`), each option's length is checked, and dhcproto gets only the valid ones. An invalid
//! option counts as not sent.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::Decodable as _;
use dhcproto::v4::{DhcpOption, HType, MAGIC, Message, MessageType, Opcode, OptionCode};
use ka_mac::MacAddr;

use crate::options::{
    ARCHITECTURES, CLIENT_FQDN, HEADER, HOST_NAME, IPXE, RELAY_AGENT, append, is_typed, labels, options_of,
    sub_option,
};

/// Flag of option 81: the name is encoded as DNS labels.
const FQDN_IN_LABELS: u8 = 0x04;
/// Sub-option of option 82 that names the client's subnet (RFC 3527).
const LINK_SELECTION: u8 = 5;

/// Reason why a datagram is not a usable DHCP message. It is only logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// The header is incomplete.
    #[error("shorter than a DHCP header")]
    Short,
    /// The magic is not that of DHCP: BOOTP of another vendor, or no BOOTP.
    #[error("no DHCP magic")]
    Magic,
    /// The message is a request where a reply is expected, or the other way round.
    #[error("in the wrong direction")]
    Direction,
    /// The hardware is not Ethernet, or the address is one that no card has.
    #[error("not from an Ethernet card")]
    Hardware,
    /// The message has no type: plain BOOTP.
    #[error("without a DHCP message type")]
    Kind,
    /// dhcproto refuses a message that passed the checks.
    #[error("malformed")]
    Malformed,
}

/// A message whose fields all have passed the checks of their types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    message: Message,
    kind: MessageType,
    mac: MacAddr,
    raw: BTreeMap<u8, Vec<u8>>,
}

impl Packet {
    /// Parses a client's message.
    ///
    /// # Errors
    /// Fails if the bytes are not such a message, or not one of an Ethernet card.
    pub fn request(bytes: &[u8]) -> Result<Self, BadPacket> {
        Self::decode(bytes, Opcode::BootRequest)
    }

    /// Parses a server's answer to a client: an offer, an acknowledgement or a refusal.
    ///
    /// # Errors
    /// Fails if the bytes are not such an answer, or not one to an Ethernet card.
    pub fn reply(bytes: &[u8]) -> Result<Self, BadPacket> {
        let packet = Self::decode(bytes, Opcode::BootReply)?;
        match packet.kind {
            MessageType::Offer | MessageType::Ack | MessageType::Nak => Ok(packet),
            _ => Err(BadPacket::Direction),
        }
    }

    fn decode(bytes: &[u8], direction: Opcode) -> Result<Self, BadPacket> {
        let header = bytes.get(..HEADER).ok_or(BadPacket::Short)?;
        if header[236..] != MAGIC {
            return Err(BadPacket::Magic);
        }
        if Opcode::from(header[0]) != direction {
            return Err(BadPacket::Direction);
        }
        let (htype, hlen) = (header[1], header[2]);
        if htype != u8::from(HType::Eth) || hlen != 6 {
            return Err(BadPacket::Hardware);
        }
        let raw = options_of(bytes);
        let mut checked = header.to_vec();
        for (&code, data) in raw.iter().filter(|(code, _)| is_typed(**code)) {
            append(&mut checked, code, data).map_err(|_| BadPacket::Malformed)?;
        }
        let message = Message::from_bytes(&checked).map_err(|_| BadPacket::Malformed)?;
        let kind = message.opts().msg_type().ok_or(BadPacket::Kind)?;
        let mut octets = [0; 6];
        octets.copy_from_slice(&header[28..34]);
        let mac = MacAddr(octets);
        if !mac.is_unicast() {
            return Err(BadPacket::Hardware);
        }
        Ok(Self {
            message,
            kind,
            mac,
            raw,
        })
    }

    /// Type of the message (option 53).
    #[must_use]
    pub fn kind(&self) -> MessageType {
        self.kind
    }

    /// MAC address of the client's card (chaddr).
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Transaction number of the exchange (xid).
    #[must_use]
    pub fn xid(&self) -> u32 {
        self.message.xid()
    }

    /// Address that the client has and uses (ciaddr).
    #[must_use]
    pub fn ciaddr(&self) -> Option<Ipv4Addr> {
        some_address(self.message.ciaddr())
    }

    /// Address that is offered or given to the client (yiaddr).
    #[must_use]
    pub fn yiaddr(&self) -> Option<Ipv4Addr> {
        some_address(self.message.yiaddr())
    }

    /// Address of the relay that forwarded the message (giaddr).
    #[must_use]
    pub fn giaddr(&self) -> Option<Ipv4Addr> {
        some_address(self.message.giaddr())
    }

    /// True if the client can receive only broadcast answers.
    #[must_use]
    pub fn wants_broadcast(&self) -> bool {
        self.message.flags().broadcast()
    }

    /// Address that the client asks for (option 50).
    #[must_use]
    pub fn requested(&self) -> Option<Ipv4Addr> {
        match self.option(OptionCode::RequestedIpAddress) {
            Some(DhcpOption::RequestedIpAddress(address)) => some_address(*address),
            _ => None,
        }
    }

    /// Server that the client addresses, or that sent the answer (option 54).
    #[must_use]
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        match self.option(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(address)) => some_address(*address),
            _ => None,
        }
    }

    /// Subnet of the client, if it is not the relay's own: RFC 3527, else RFC 3011 (option 118).
    #[must_use]
    pub fn link(&self) -> Option<Ipv4Addr> {
        let selected = self.raw.get(&RELAY_AGENT).and_then(|data| {
            let link = sub_option(data, LINK_SELECTION)?;
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(link).ok()?))
        });
        match (selected, self.option(OptionCode::SubnetSelection)) {
            (Some(address), _) => some_address(address),
            (None, Some(DhcpOption::SubnetSelection(address))) => some_address(*address),
            _ => None,
        }
    }

    /// True if the client asks for this option (option 55).
    #[must_use]
    pub fn wants(&self, code: OptionCode) -> bool {
        matches!(self.option(OptionCode::ParameterRequestList),
            Some(DhcpOption::ParameterRequestList(list)) if list.contains(&code))
    }

    /// Option 60 as text. Bytes that are not UTF-8 become `\u{fffd}`, control characters become `?`.
    #[must_use]
    pub fn vendor_class(&self) -> Option<String> {
        let Some(DhcpOption::ClassIdentifier(bytes)) = self.option(OptionCode::ClassIdentifier) else {
            return None;
        };
        Some(shown(bytes, &['\0']))
    }

    /// Host name that the client sends: option 12 (RFC 2132 section 3.14), else option 81 (RFC 4702), as text
    /// or as labels. Bytes that are not UTF-8 become `\u{fffd}`, control characters become `?`.
    #[must_use]
    pub fn host_name(&self) -> Option<String> {
        let plain = self.raw.get(&HOST_NAME).cloned();
        let bytes = plain.or_else(|| self.raw.get(&CLIENT_FQDN).and_then(|bytes| fqdn(bytes)))?;
        Some(shown(&bytes, &['\0', '.'])).filter(|text| !text.is_empty())
    }

    /// All values of option 93.
    #[must_use]
    pub fn architectures(&self) -> Vec<u16> {
        let pairs = self.data(ARCHITECTURES).chunks_exact(2);
        pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    /// Bytes of option 97, to be repeated in the answer, if it is a UUID (type 0).
    #[must_use]
    pub fn machine_id(&self) -> Option<&[u8]> {
        match self.option(OptionCode::ClientMachineIdentifier) {
            Some(DhcpOption::ClientMachineIdentifier(bytes)) if bytes[0] == 0 => Some(bytes),
            _ => None,
        }
    }

    /// True if iPXE or gPXE sent the message. iPXE sends its user class bare, RFC 3004 wants a length in
    /// front; both are accepted.
    #[must_use]
    pub fn is_ipxe(&self) -> bool {
        if self.raw.contains_key(&IPXE) {
            return true;
        }
        let Some(DhcpOption::UserClass(class)) = self.option(OptionCode::UserClass) else {
            return false;
        };
        [&b"iPXE"[..], b"gPXE", b"\x04iPXE", b"\x04gPXE"].contains(&class.as_slice())
    }

    /// Bytes of option 43.
    #[must_use]
    pub fn vendor_options(&self) -> Option<&[u8]> {
        match self.option(OptionCode::VendorExtensions) {
            Some(DhcpOption::VendorExtensions(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// All addresses of an option that is a list of addresses. Bytes behind the last whole address are
    /// ignored.
    pub fn addresses(&self, code: OptionCode) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let four = self.data(code.into()).chunks_exact(4);
        four.map(|bytes| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
    }

    /// First address of an option that is an address or a list of them.
    #[must_use]
    pub fn address(&self, code: OptionCode) -> Option<Ipv4Addr> {
        self.addresses(code).next()
    }

    /// Value of an option that is a number of seconds.
    #[must_use]
    pub fn seconds(&self, code: OptionCode) -> Option<u32> {
        self.data(code.into()).try_into().ok().map(u32::from_be_bytes)
    }

    /// Value of an option that is a text, without trailing NULs. `None` if it is empty or not printable
    /// ASCII.
    #[must_use]
    pub fn text(&self, code: OptionCode) -> Option<String> {
        let text = std::str::from_utf8(self.data(code.into())).ok()?;
        let text = text.trim_end_matches('\0');
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        is_plain.then(|| text.to_owned())
    }

    /// Longest IP datagram that the client accepts, in bytes, if it says so (option 57).
    pub(crate) fn max_size(&self) -> Option<u16> {
        match self.option(OptionCode::MaxMessageSize) {
            Some(DhcpOption::MaxMessageSize(size)) => Some(*size),
            _ => None,
        }
    }

    pub(crate) fn message(&self) -> &Message {
        &self.message
    }

    pub(crate) fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.opts().get(code)
    }

    /// Bytes of an option. Empty if it was not sent.
    pub(crate) fn data(&self, code: u8) -> &[u8] {
        self.raw.get(&code).map_or(&[], Vec::as_slice)
    }
}

/// Shows bytes of a stranger as one line for the operator.
fn shown(bytes: &[u8], end: &[char]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches(end)
        .replace(|letter: char| letter.is_control(), "?")
}

/// The name in option 81: a byte of flags, two unused bytes, the name.
fn fqdn(bytes: &[u8]) -> Option<Vec<u8>> {
    let (flags, name) = (*bytes.first()?, bytes.get(3..)?);
    if flags & FQDN_IN_LABELS == 0 {
        return Some(name.to_vec());
    }
    labels(name)
}

fn some_address(address: Ipv4Addr) -> Option<Ipv4Addr> {
    (!address.is_unspecified()).then_some(address)
}
