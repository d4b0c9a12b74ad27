//! DHCP messages as a client writes and reads them (RFC 2131 §2, RFC 2132, RFC 3396 for options in parts).
//!
//! A reader of our own and no crate's: `dhcproto` 0.15 drops every option after a malformed one without a word, panics on
//! a hardware address longer than 16 bytes, and brings a name server's library into an image that is fetched by TFTP.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The fixed part before the options, with the magic cookie.
const FIXED_BYTES: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Some relays and servers drop what is shorter than a BOOTP message (RFC 1542 §2.1).
const MIN_BYTES: usize = 300;
const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const MAC_BYTES: u8 = 6;
/// The reply shall be broadcast: an address that is not configured yet cannot be asked for by ARP.
const BROADCAST_FLAG: u16 = 0x8000;

/// Option numbers (RFC 2132).
pub mod option {
    /// Subnet mask.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers, the preferred one first.
    pub const ROUTER: u8 = 3;
    /// Name servers.
    pub const NAME_SERVER: u8 = 6;
    /// This machine's name.
    pub const HOST_NAME: u8 = 12;
    /// The domain that name is in.
    pub const DOMAIN: u8 = 15;
    /// The address asked for.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// Seconds that a lease lasts.
    pub const LEASE_TIME: u8 = 51;
    /// The fields `file` and `sname` hold options, too.
    pub const OVERLOAD: u8 = 52;
    /// Which message this is.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Who gives the lease.
    pub const SERVER_ID: u8 = 54;
    /// What the client wants to know.
    pub const PARAMETERS: u8 = 55;
    /// A text for the operator, with a NAK.
    pub const MESSAGE: u8 = 56;
    /// The longest message that the client takes.
    pub const MAX_SIZE: u8 = 57;
    /// Seconds until the lease is to be renewed (T1).
    pub const RENEWAL: u8 = 58;
    /// Seconds until any server may extend it (T2).
    pub const REBINDING: u8 = 59;
    /// What kind of client asks.
    pub const VENDOR_CLASS: u8 = 60;
    /// Which client asks.
    pub const CLIENT_ID: u8 = 61;
    /// Padding.
    pub(super) const PAD: u8 = 0;
    /// End of the options.
    pub(super) const END: u8 = 255;
}

/// Kinds of messages (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who has an address for me?
    Discover,
    /// I have this one.
    Offer,
    /// I take it.
    Request,
    /// Somebody else uses it.
    Decline,
    /// It is yours.
    Ack,
    /// It is not.
    Nak,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Decline => 4,
            Self::Ack => 5,
            Self::Nak => 6,
        }
    }

    const fn reply(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::Offer),
            5 => Some(Self::Ack),
            6 => Some(Self::Nak),
            _ => None,
        }
    }
}

/// A client's message.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// Which.
    pub kind: Kind,
    /// The exchange that it belongs to.
    pub xid: u32,
    /// Seconds since the client began; some servers answer only those that wait for long.
    pub secs: u16,
    /// Own hardware address.
    pub mac: [u8; 6],
    /// The address that this machine has and uses; unspecified while it has none.
    pub own: Ipv4Addr,
    /// Options besides kind and client id; each at most 255 bytes.
    pub options: &'a [(u8, Vec<u8>)],
}

impl Query<'_> {
    /// The message's bytes. The client id is the hardware address, as PXE ROMs' own loaders and iPXE send it, so that
    /// a server that goes by it gives the same address again.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![BOOT_REQUEST, ETHERNET, MAC_BYTES, 0];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        let flags = if self.own.is_unspecified() {
            BROADCAST_FLAG
        } else {
            0
        };
        bytes.extend(flags.to_be_bytes());
        bytes.extend(self.own.octets());
        bytes.resize(28, 0);
        bytes.extend(self.mac);
        bytes.resize(FIXED_BYTES - MAGIC.len(), 0);
        bytes.extend(MAGIC);
        put(&mut bytes, option::MESSAGE_TYPE, &[self.kind.number()]);
        let id: Vec<u8> = std::iter::once(ETHERNET).chain(self.mac).collect();
        put(&mut bytes, option::CLIENT_ID, &id);
        for (code, value) in self.options {
            put(&mut bytes, *code, value);
        }
        bytes.push(option::END);
        if bytes.len() < MIN_BYTES {
            bytes.resize(MIN_BYTES, 0);
        }
        bytes
    }
}

/// Options of ours are short; what is not is cut, never split.
fn put(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    bytes.extend([code, length]);
    bytes.extend(&value[..usize::from(length)]);
}

/// A server's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Which.
    pub kind: Kind,
    /// The exchange that it belongs to.
    pub xid: u32,
    /// Whom it is for.
    pub mac: [u8; 6],
    /// The address that is offered or given.
    pub yours: Ipv4Addr,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Reply {
    /// Reads a message; `None` when it is no reply to an Ethernet client, or damaged before its options. An option that
    /// is cut off is left out, those before it count.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..FIXED_BYTES)?;
        let is_ours = fixed[0] == BOOT_REPLY && fixed[1] == ETHERNET && fixed[2] == MAC_BYTES;
        if !is_ours || fixed[236..] != MAGIC {
            return None;
        }
        let mut options = BTreeMap::new();
        collect(&bytes[FIXED_BYTES..], &mut options);
        let overload = options
            .get(&option::OVERLOAD)
            .and_then(|value| value.first().copied())
            .unwrap_or(0);
        if overload & 1 != 0 {
            collect(&fixed[108..236], &mut options);
        }
        if overload & 2 != 0 {
            collect(&fixed[44..108], &mut options);
        }
        let kind = match options.get(&option::MESSAGE_TYPE)?.as_slice() {
            [number] => Kind::reply(*number)?,
            _ => return None,
        };
        Some(Self {
            kind,
            xid: u32::from_be_bytes(fixed[4..8].try_into().ok()?),
            mac: fixed[28..34].try_into().ok()?,
            yours: Ipv4Addr::from(<[u8; 4]>::try_from(&fixed[16..20]).ok()?),
            options,
        })
    }

    /// The first address of an option; further ones are not looked at.
    #[must_use]
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.addresses(code).next()
    }

    /// Every address of an option.
    pub fn addresses(&self, code: u8) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let value = self.options.get(&code).map_or(&[][..], Vec::as_slice);
        value
            .chunks_exact(4)
            .map(|bytes| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
    }

    /// An option that is a number of seconds.
    #[must_use]
    pub fn seconds(&self, code: u8) -> Option<u32> {
        let value = self.options.get(&code)?.as_slice();
        Some(u32::from_be_bytes(value.try_into().ok()?))
    }

    /// An option that is a text, without a trailing NUL, when it is printable ASCII.
    #[must_use]
    pub fn text(&self, code: u8) -> Option<String> {
        let value = self.options.get(&code)?;
        let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        is_plain.then(|| text.to_owned())
    }
}

/// Adds the options of one field. An option that comes in parts is put together (RFC 3396).
fn collect(mut field: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) {
    while let Some((&code, rest)) = field.split_first() {
        match code {
            option::PAD => field = rest,
            option::END => return,
            _ => {
                let Some((&length, rest)) = rest.split_first() else {
                    return;
                };
                let Some((value, rest)) = rest.split_at_checked(length.into()) else {
                    return;
                };
                options.entry(code).or_default().extend(value);
                field = rest;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

    /// What a server would send.
    pub(crate) fn reply(kind: u8, xid: u32, yours: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![BOOT_REPLY, ETHERNET, MAC_BYTES, 0];
        bytes.extend(xid.to_be_bytes());
        bytes.resize(16, 0);
        bytes.extend(yours);
        bytes.resize(28, 0);
        bytes.extend(MAC);
        bytes.resize(236, 0);
        bytes.extend(MAGIC);
        put(&mut bytes, option::MESSAGE_TYPE, &[kind]);
        for (code, value) in options {
            put(&mut bytes, *code, value);
        }
        bytes.push(option::END);
        bytes
    }

    #[test]
    fn a_discover_has_what_servers_and_relays_look_at() {
        let query = Query {
            kind: Kind::Discover,
            xid: 0x0102_0304,
            secs: 7,
            mac: MAC,
            own: Ipv4Addr::UNSPECIFIED,
            options: &[(option::VENDOR_CLASS, b"KA-node".to_vec())],
        };
        let bytes = query.encode();
        assert_eq!(bytes.len(), MIN_BYTES);
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 7, 0x80, 0]);
        assert_eq!(bytes[28..34], MAC);
        assert_eq!(bytes[236..243], [99, 130, 83, 99, 53, 1, 1]);
        assert_eq!(bytes[243..252], [61, 7, 1, 0x52, 0x54, 0, 0, 0, 1]);
        assert_eq!(bytes[252..262], *b"\x3c\x07KA-node\xff");
    }

    #[test]
    fn a_reply_is_read_with_its_options() {
        let bytes = reply(
            2,
            9,
            [10, 0, 0, 5],
            &[
                (option::ROUTER, &[10, 0, 0, 1, 10, 0, 0, 2]),
                (option::LEASE_TIME, &[0, 0, 14, 16]),
                (option::HOST_NAME, b"node7\0"),
            ],
        );
        let reply = Reply::decode(&bytes).unwrap();
        assert_eq!((reply.kind, reply.xid, reply.mac), (Kind::Offer, 9, MAC));
        assert_eq!(reply.yours, Ipv4Addr::new(10, 0, 0, 5));
        assert_eq!(reply.address(option::ROUTER), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(reply.seconds(option::LEASE_TIME), Some(3600));
        assert_eq!(reply.text(option::HOST_NAME).as_deref(), Some("node7"));
        assert_eq!(reply.address(option::SUBNET_MASK), None);
    }

    #[test]
    fn options_may_be_in_the_file_and_name_fields_and_in_parts() {
        let mut bytes = reply(
            5,
            9,
            [10, 0, 0, 5],
            &[(option::OVERLOAD, &[3]), (option::DOMAIN, b"exam")],
        );
        bytes[108..115].copy_from_slice(&[option::DOMAIN, 4, b'p', b'l', b'e', b'.', option::END]);
        bytes[44..51].copy_from_slice(&[option::SUBNET_MASK, 4, 255, 255, 0, 0, option::END]);
        let reply = Reply::decode(&bytes).unwrap();
        assert_eq!(reply.text(option::DOMAIN).as_deref(), Some("example."));
        assert_eq!(
            reply.address(option::SUBNET_MASK),
            Some(Ipv4Addr::new(255, 255, 0, 0))
        );
    }

    #[test]
    fn a_malformed_option_costs_nothing_but_itself() {
        let bytes = reply(
            2,
            9,
            [10, 0, 0, 5],
            &[
                (option::LEASE_TIME, &[1, 2]),
                (option::SERVER_ID, &[10, 0, 0, 1]),
                (option::HOST_NAME, b"\x1b[2J"),
            ],
        );
        let reply = Reply::decode(&bytes).unwrap();
        assert_eq!(reply.seconds(option::LEASE_TIME), None);
        assert_eq!(reply.text(option::HOST_NAME), None);
        assert_eq!(reply.address(option::SERVER_ID), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn a_reply_cut_anywhere_is_refused_or_read_in_part() {
        let whole = reply(2, 9, [10, 0, 0, 5], &[(option::SERVER_ID, &[10, 0, 0, 1])]);
        for length in 0..FIXED_BYTES + 3 {
            assert_eq!(Reply::decode(&whole[..length]), None, "{length} bytes");
        }
        let short = Reply::decode(&whole[..FIXED_BYTES + 6]).unwrap();
        assert_eq!(short.address(option::SERVER_ID), None);
    }

    #[test]
    fn requests_other_hardware_and_other_protocols_are_no_replies() {
        for (place, value) in [(0, 1), (1, 6), (2, 16), (2, 255), (236, 0)] {
            let mut bytes = reply(2, 9, [10, 0, 0, 5], &[]);
            bytes[place] = value;
            assert_eq!(Reply::decode(&bytes), None, "byte {place} = {value}");
        }
        assert_eq!(Reply::decode(&reply(1, 9, [0; 4], &[])), None);
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..700)) {
            let _ = Reply::decode(&bytes);
        }

        #[test]
        fn random_options_never_panic(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let mut bytes = reply(5, 1, [10, 0, 0, 5], &[]);
            bytes.pop();
            bytes.extend(tail);
            // A second, random option 53 makes it no message at all; that is an answer, too.
            if let Some(reply) = Reply::decode(&bytes) {
                for code in 0..=u8::MAX {
                    let _ = (reply.address(code), reply.seconds(code), reply.text(code));
                }
            }
        }
    }
}
