//! DHCP packets: a checking wrapper around `dhcproto`, for what comes from the wire and for what we say.
//!
//! Read and write packets only through here. Alone, dhcproto 0.15 panics on a hardware address longer than its field
//! and on short PXE options (debug assertions), loses every option behind a malformed one, takes any magic, keeps one
//! value of option 93, and pads nothing. So the option field is walked here first (RFC 2131 §4.1, RFC 3396: split
//! options joined, option 52: `file` and `sname` as more options), each option's length is held against its kind, and
//! only what passed is given to dhcproto. An option that did not pass is as one that was not sent.
//!
//! Knows nothing of leases or boot files.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::{
    DhcpOption, Flags, HType, MAGIC, MIN_PACKET_SIZE, Message, MessageType, Opcode, OptionCode,
    encode_long_opt_bytes,
};
use dhcproto::{Decodable as _, Encodable as _, Encoder};

use crate::machine::MacAddr;

/// Bytes before the options: the BOOTP header and the magic.
const HEADER: usize = 240;
/// Where `sname` and `file` lie in the header.
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
/// IP and UDP headers, which the size in option 57 counts too.
const IP_UDP: usize = 28;
/// Every client takes an IP datagram of this size (RFC 2131 §2).
const MIN_DATAGRAM: u16 = 576;
/// More than Ethernet carries in one frame is never sent, whatever option 57 allows: ROMs do not reassemble.
const MAX_DATAGRAM: u16 = 1500;
/// An option's data in one piece (its length is one byte).
const MAX_PIECE: usize = 255;

/// The longest name that the header's `file` can hold with its closing NUL.
pub(crate) const MAX_FILE: usize = 127;

/// Option numbers that dhcproto has no type for, or whose type loses something.
const HOST_NAME: u8 = 12;
const CLIENT_FQDN: u8 = 81;
/// Flag of option 81: the name is in labels, as in DNS.
const FQDN_IN_LABELS: u8 = 0x04;
const OVERLOAD: u8 = 52;
const RELAY_AGENT: u8 = 82;
const ARCHITECTURES: u8 = 93;
const IPXE: u8 = 175;
/// The sub-option of 82 that names the client's subnet (RFC 3527).
const LINK_SELECTION: u8 = 5;

/// Why a datagram is no DHCP packet for us. Only ever logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPacket {
    /// The header is not complete.
    #[error("shorter than a DHCP header")]
    Short,
    /// BOOTP of another vendor, or no BOOTP.
    #[error("no DHCP magic")]
    Magic,
    /// A request where a reply is expected, or the other way round.
    #[error("in the wrong direction")]
    Direction,
    /// No Ethernet, or an address that no card has.
    #[error("not from an Ethernet card")]
    Hardware,
    /// Plain BOOTP.
    #[error("without a DHCP message type")]
    Kind,
    /// dhcproto refuses what passed the checks.
    #[error("malformed")]
    Malformed,
}

/// A packet whose every field can be trusted to be what its type says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    message: Message,
    kind: MessageType,
    mac: MacAddr,
    raw: BTreeMap<u8, Vec<u8>>,
}

impl Packet {
    /// What a client says.
    pub(crate) fn request(bytes: &[u8]) -> Result<Self, BadPacket> {
        Self::decode(bytes, Opcode::BootRequest)
    }

    /// What a server says.
    pub(crate) fn reply(bytes: &[u8]) -> Result<Self, BadPacket> {
        Self::decode(bytes, Opcode::BootReply)
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

    pub(crate) fn kind(&self) -> MessageType {
        self.kind
    }

    pub(crate) fn mac(&self) -> MacAddr {
        self.mac
    }

    pub(crate) fn xid(&self) -> u32 {
        self.message.xid()
    }

    pub(crate) fn ciaddr(&self) -> Option<Ipv4Addr> {
        some_address(self.message.ciaddr())
    }

    pub(crate) fn yiaddr(&self) -> Option<Ipv4Addr> {
        some_address(self.message.yiaddr())
    }

    pub(crate) fn giaddr(&self) -> Option<Ipv4Addr> {
        some_address(self.message.giaddr())
    }

    pub(crate) fn wants_broadcast(&self) -> bool {
        self.message.flags().broadcast()
    }

    /// The address asked for (option 50).
    pub(crate) fn requested(&self) -> Option<Ipv4Addr> {
        match self.option(OptionCode::RequestedIpAddress) {
            Some(DhcpOption::RequestedIpAddress(address)) => some_address(*address),
            _ => None,
        }
    }

    /// The server meant, or the server that speaks (option 54).
    pub(crate) fn server_id(&self) -> Option<Ipv4Addr> {
        match self.option(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(address)) => some_address(*address),
            _ => None,
        }
    }

    /// The subnet the client is on, where that is not the relay's own: RFC 3527, else RFC 3011 (option 118).
    pub(crate) fn link(&self) -> Option<Ipv4Addr> {
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

    /// The client asks for this option (55).
    pub(crate) fn wants(&self, code: OptionCode) -> bool {
        matches!(self.option(OptionCode::ParameterRequestList),
            Some(DhcpOption::ParameterRequestList(list)) if list.contains(&code))
    }

    /// Option 60 as text; bytes that are none become `\u{fffd}`, control characters `?`.
    pub(crate) fn vendor_class(&self) -> Option<String> {
        let Some(DhcpOption::ClassIdentifier(bytes)) = self.option(OptionCode::ClassIdentifier) else {
            return None;
        };
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches('\0');
        Some(text.replace(|letter: char| letter.is_control(), "?"))
    }

    /// The name that the client gives itself: option 12 (RFC 2132 section 3.14), else option 81 (RFC 4702), as text or as
    /// labels. Bytes that are no text become `\u{fffd}`, control characters `?`.
    pub(crate) fn host_name(&self) -> Option<String> {
        let plain = self.raw.get(&HOST_NAME).cloned();
        let bytes = plain.or_else(|| self.raw.get(&CLIENT_FQDN).and_then(|bytes| fqdn(bytes)))?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\0', '.']);
        (!text.is_empty()).then(|| text.replace(|letter: char| letter.is_control(), "?"))
    }

    /// All values of option 93.
    pub(crate) fn architectures(&self) -> Vec<u16> {
        let data = self.raw.get(&ARCHITECTURES).map_or(&[][..], Vec::as_slice);
        data.chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect()
    }

    /// Option 97 as it came, for the echo, where it is a UUID (type 0).
    pub(crate) fn machine_id(&self) -> Option<&[u8]> {
        match self.option(OptionCode::ClientMachineIdentifier) {
            Some(DhcpOption::ClientMachineIdentifier(bytes)) if bytes[0] == 0 => Some(bytes),
            _ => None,
        }
    }

    /// iPXE or gPXE speaks. iPXE sends its user class bare, RFC 3004 wants a length before it; both are taken.
    pub(crate) fn is_ipxe(&self) -> bool {
        if self.raw.contains_key(&IPXE) {
            return true;
        }
        let Some(DhcpOption::UserClass(class)) = self.option(OptionCode::UserClass) else {
            return false;
        };
        [&b"iPXE"[..], b"gPXE", b"\x04iPXE", b"\x04gPXE"].contains(&class.as_slice())
    }

    /// Option 43 as it came.
    pub(crate) fn vendor_options(&self) -> Option<&[u8]> {
        match self.option(OptionCode::VendorExtensions) {
            Some(DhcpOption::VendorExtensions(bytes)) => Some(bytes),
            _ => None,
        }
    }

    fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.opts().get(code)
    }

    /// How many bytes of UDP payload the client takes (option 57).
    fn max_reply(&self) -> usize {
        let datagram = match self.option(OptionCode::MaxMessageSize) {
            Some(DhcpOption::MaxMessageSize(size)) => *size,
            _ => MIN_DATAGRAM,
        };
        usize::from(datagram.clamp(MIN_DATAGRAM, MAX_DATAGRAM)) - IP_UDP
    }
}

/// The first sub-option of this number in an encapsulating option (43, 82, 175); one that is cut off is none.
pub(crate) fn sub_option(mut data: &[u8], number: u8) -> Option<&[u8]> {
    while let [code, rest @ ..] = data {
        match code {
            0 => data = rest,
            255 => return None,
            code => {
                let (length, rest) = rest.split_first()?;
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                if *code == number {
                    return Some(value);
                }
                data = rest;
            }
        }
    }
    None
}

/// A packet that we say: the header, then options in the order given until the client's limit is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    header: Message,
    options: Vec<Vec<u8>>,
    relay_agent: Vec<u8>,
    limit: usize,
}

impl Outgoing {
    /// An answer: transaction, hardware address, flags, giaddr and relay options are the request's; the client
    /// identifier too (RFC 6842). Message type and server identifier stand first, as ROMs expect them.
    pub(crate) fn answer(request: &Packet, kind: MessageType, server: Ipv4Addr) -> Self {
        let mut header = Message::new_with_id(
            request.xid(),
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            request.message.giaddr(),
            &request.mac.0,
        );
        header
            .set_opcode(Opcode::BootReply)
            .set_flags(request.message.flags());
        let mut relay_agent = Vec::new();
        if let Some(data) = request
            .raw
            .get(&RELAY_AGENT)
            .filter(|data| data.len() <= MAX_PIECE)
        {
            // A vector grows; nothing else can fail.
            let _ = append(&mut relay_agent, RELAY_AGENT, data);
        }
        let mut answer = Self {
            header,
            options: Vec::new(),
            relay_agent,
            limit: request.max_reply(),
        };
        answer.push(&DhcpOption::MessageType(kind));
        answer.push(&DhcpOption::ServerIdentifier(server));
        if let Some(id) = request.option(OptionCode::ClientIdentifier) {
            answer.push(id);
        }
        answer
    }

    /// A DISCOVER from a card of this address, to be answered by broadcast.
    pub(crate) fn discover(mac: MacAddr, xid: u32) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut header = Message::new_with_id(xid, none, none, none, none, &mac.0);
        header.set_flags(Flags::default().set_broadcast());
        let mut discover = Self {
            header,
            options: Vec::new(),
            relay_agent: Vec::new(),
            limit: usize::from(MIN_DATAGRAM) - IP_UDP,
        };
        discover.push(&DhcpOption::MessageType(MessageType::Discover));
        discover.push(&DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::Router,
        ]));
        discover
    }

    pub(crate) fn header_mut(&mut self) -> &mut Message {
        &mut self.header
    }

    /// Makes relays and clients without an address broadcast it.
    pub(crate) fn set_broadcast(&mut self) {
        let flags = self.header.flags().set_broadcast();
        self.header.set_flags(flags);
    }

    pub(crate) fn push(&mut self, option: &DhcpOption) {
        let mut bytes = Vec::new();
        match option.encode(&mut Encoder::new(&mut bytes)) {
            Ok(()) => self.options.push(bytes),
            Err(err) => tracing::error!("option {option:?} cannot be written: {err}"),
        }
    }

    /// An option that dhcproto has no type for.
    pub(crate) fn push_raw(&mut self, code: u8, data: &[u8]) {
        let mut bytes = Vec::new();
        if append(&mut bytes, code, data).is_ok() {
            self.options.push(bytes);
        }
    }

    /// The host name (option 12).
    pub(crate) fn push_host_name(&mut self, name: &str) {
        self.push_raw(HOST_NAME, name.as_bytes());
    }

    /// The name of the boot file, in the header where it fits.
    pub(crate) fn set_file(&mut self, name: &str) {
        if name.len() <= MAX_FILE {
            self.header.set_fname(name.as_bytes());
        }
    }

    /// The bytes: options that the client's limit leaves no room for are left out, the relay's own comes last
    /// (RFC 3046 §2.1) and always, and nothing is shorter than BOOTP's 300 bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.limit);
        if let Err(err) = self.header.encode(&mut Encoder::new(&mut bytes)) {
            tracing::error!("a DHCP header cannot be written: {err}");
        }
        // Without options dhcproto writes none, and no end mark either.
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

/// Walks all option fields; what is cut off, or has a length that its kind cannot have, is left out.
/// The name in option 81: a byte of flags, two that are not used, the name.
fn fqdn(bytes: &[u8]) -> Option<Vec<u8>> {
    let (flags, mut rest) = (*bytes.first()?, bytes.get(3..)?);
    if flags & FQDN_IN_LABELS == 0 {
        return Some(rest.to_vec());
    }
    let mut name = Vec::new();
    while let Some((len, label)) = rest.split_first().filter(|(len, _)| **len > 0) {
        let (label, next) = label.split_at_checked(usize::from(*len))?;
        if !name.is_empty() {
            name.push(b'.');
        }
        name.extend_from_slice(label);
        rest = next;
    }
    Some(name)
}

fn options_of(bytes: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut options = BTreeMap::new();
    walk(&bytes[HEADER..], &mut options);
    // RFC 2131 §4.1: 1 is `file`, 2 is `sname`, 3 both, `file` first.
    let overload = match options.get(&OVERLOAD).map(Vec::as_slice) {
        Some(&[fields]) => fields,
        _ => 0,
    };
    if overload & 1 != 0 {
        walk(&bytes[FILE], &mut options);
    }
    if overload & 2 != 0 {
        walk(&bytes[SNAME], &mut options);
    }
    options.retain(|code, data| can_be(*code, data));
    options
}

fn walk(mut field: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) {
    while let [code, rest @ ..] = field {
        match code {
            0 => field = rest,
            255 => return,
            code => {
                let Some((length, rest)) = rest.split_first() else {
                    return;
                };
                let Some((data, rest)) = rest.split_at_checked(usize::from(*length)) else {
                    return;
                };
                options.entry(*code).or_default().extend_from_slice(data);
                field = rest;
            }
        }
    }
}

/// Options that dhcproto decodes for us; all others are never shown to it.
fn is_typed(code: u8) -> bool {
    matches!(code, 43 | 50 | 53 | 54 | 55 | 57 | 60 | 61 | 77 | 97 | 118)
}

/// The lengths of RFC 2132, 3004, 3011, 3046 and 4578.
fn can_be(code: u8, data: &[u8]) -> bool {
    match code {
        50 | 54 | 118 => data.len() == 4,
        52 | 53 => data.len() == 1,
        57 => data.len() == 2,
        // dhcproto splits what is longer; a client identifier of one byte identifies nothing.
        61 => (2..=MAX_PIECE).contains(&data.len()),
        43 | 55 | 60 | 77 => (1..=MAX_PIECE).contains(&data.len()),
        ARCHITECTURES => !data.is_empty() && data.len().is_multiple_of(2),
        97 => data.len() == 17,
        _ => true,
    }
}

fn append(bytes: &mut Vec<u8>, code: u8, data: &[u8]) -> Result<(), dhcproto::error::EncodeError> {
    let mut tail = Vec::new();
    encode_long_opt_bytes(code.into(), data, &mut Encoder::new(&mut tail))?;
    bytes.extend_from_slice(&tail);
    Ok(())
}

fn some_address(address: Ipv4Addr) -> Option<Ipv4Addr> {
    (!address.is_unspecified()).then_some(address)
}
