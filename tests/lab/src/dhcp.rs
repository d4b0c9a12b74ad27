//! DHCP messages made and read byte by byte, and recorded ones: a judge that shares no code with the product.

use std::net::Ipv4Addr;

/// A client's search for servers (option 53, RFC 2132 §9.6, as are the kinds below).
pub const DISCOVER: u8 = 1;
/// A server's offer.
pub const OFFER: u8 = 2;
/// A client's request.
pub const REQUEST: u8 = 3;
/// A client's report that another machine uses its address.
pub const DECLINE: u8 = 4;
/// A server's acknowledgement.
pub const ACK: u8 = 5;
/// A server's refusal.
pub const NAK: u8 = 6;
/// A client's return of its address.
pub const RELEASE: u8 = 7;
/// A client's question for everything but an address.
pub const INFORM: u8 = 8;

/// Returns the MAC address of the client with this number.
#[must_use]
pub const fn card(machine: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, machine]
}

/// A message in the making: header and magic (240 bytes), and options without their end mark.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The header; tests may spoil it.
    pub header: [u8; 240],
    /// The options; tests may spoil them.
    pub options: Vec<u8>,
}

impl Ask {
    /// Begins a client's message of this kind, from the card of this machine.
    #[must_use]
    pub fn new(kind: u8, machine: u8) -> Self {
        let mut header = [0; 240];
        header[..3].copy_from_slice(&[1, 1, 6]);
        header[4..8].copy_from_slice(&[0xca, 0xfe, 0, machine]);
        header[28..34].copy_from_slice(&card(machine));
        header[236..].copy_from_slice(&[99, 130, 83, 99]);
        Self {
            header,
            options: vec![53, 1, kind],
        }
    }

    /// Begins a server's message of this kind to the card of machine 1, within the exchange `xid`, with the
    /// address `yours`.
    #[must_use]
    pub fn reply(kind: u8, xid: u32, yours: [u8; 4]) -> Self {
        let mut reply = Self::new(kind, 1);
        reply.header[0] = 2;
        reply.header[4..8].copy_from_slice(&xid.to_be_bytes());
        reply.header[16..20].copy_from_slice(&yours);
        reply
    }

    /// Adds this option.
    ///
    /// # Panics
    /// On more than 255 bytes.
    #[must_use]
    pub fn with(mut self, code: u8, data: &[u8]) -> Self {
        let length = u8::try_from(data.len()).expect("an option has at most 255 bytes");
        self.options.extend_from_slice(&[code, length]);
        self.options.extend_from_slice(data);
        self
    }

    /// Asks for this address (option 50).
    #[must_use]
    pub fn asking(self, address: [u8; 4]) -> Self {
        self.with(50, &address)
    }

    /// Addresses this server (option 54).
    #[must_use]
    pub fn meaning(self, server: Ipv4Addr) -> Self {
        self.with(54, &server.octets())
    }

    /// Sets the address that the client has (ciaddr).
    #[must_use]
    pub fn having(mut self, address: [u8; 4]) -> Self {
        self.header[12..16].copy_from_slice(&address);
        self
    }

    /// Sets the relay that passed it on (giaddr).
    #[must_use]
    pub fn relayed_by(mut self, relay: [u8; 4]) -> Self {
        self.header[24..28].copy_from_slice(&relay);
        self
    }

    /// Asks for an answer by broadcast.
    #[must_use]
    pub fn wanting_broadcast(mut self) -> Self {
        self.header[10] = 0x80;
        self
    }

    /// Sets another exchange.
    #[must_use]
    pub fn transaction(mut self, number: u8) -> Self {
        self.header[4] = number;
        self
    }

    /// Returns the bytes of the message.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [&self.header[..], &self.options, &[255]].concat()
    }
}

/// The bytes of a message, to be read. Reading panics if they are no message: this fails the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The whole message.
    pub bytes: Vec<u8>,
}

impl Said {
    /// Returns the first option of this number.
    #[must_use]
    pub fn option(&self, code: u8) -> Option<Vec<u8>> {
        self.options()
            .into_iter()
            .find(|(at, _)| *at == code)
            .map(|(_, data)| data)
    }

    /// Returns all options in order, up to the end mark.
    #[must_use]
    pub fn options(&self) -> Vec<(u8, Vec<u8>)> {
        let mut options = Vec::new();
        let mut at = 240;
        while self.bytes[at] != 255 {
            let length = usize::from(self.bytes[at + 1]);
            options.push((self.bytes[at], self.bytes[at + 2..at + 2 + length].to_vec()));
            at += 2 + length;
        }
        options
    }

    /// Returns the kind of the message.
    ///
    /// # Panics
    /// If the message has no kind.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.option(53).expect("a message type")[0]
    }

    /// Returns four bytes of the header.
    #[must_use]
    pub fn field(&self, at: usize) -> [u8; 4] {
        [0, 1, 2, 3].map(|offset| self.bytes[at + offset])
    }

    /// Returns the address that is given (yiaddr).
    #[must_use]
    pub fn yiaddr(&self) -> [u8; 4] {
        self.field(16)
    }

    /// Returns the server of the boot file (siaddr).
    #[must_use]
    pub fn siaddr(&self) -> [u8; 4] {
        self.field(20)
    }

    /// Returns the boot file in the header.
    #[must_use]
    pub fn file(&self) -> String {
        let field = self.bytes[108..236].split(|byte| *byte == 0).next();
        String::from_utf8_lossy(field.unwrap_or_default()).into_owned()
    }
}

/// The names of all recorded messages.
pub const RECORDED: [&str; 6] = [
    "ipxe-rom-discover",
    "udhcpc-discover",
    "ovmf-pxe-discover",
    "ovmf-http-discover",
    "bios-rom-discover",
    "dhclient-discover",
];

/// Returns a recorded message (`tests/lab/packets/NAME.hex`; its first line tells how it was recorded).
///
/// # Panics
/// On another name, or a file that is not in pairs of hex digits.
#[must_use]
pub fn recorded(name: &str) -> Vec<u8> {
    let text = match name {
        "ipxe-rom-discover" => include_str!("../packets/ipxe-rom-discover.hex"),
        "udhcpc-discover" => include_str!("../packets/udhcpc-discover.hex"),
        "ovmf-pxe-discover" => include_str!("../packets/ovmf-pxe-discover.hex"),
        "ovmf-http-discover" => include_str!("../packets/ovmf-http-discover.hex"),
        "bios-rom-discover" => include_str!("../packets/bios-rom-discover.hex"),
        "dhclient-discover" => include_str!("../packets/dhclient-discover.hex"),
        _ => panic!("{name} was not recorded"),
    };
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let pairs = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok());
    pairs
        .map(|pair| pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .map(|byte| byte.expect("pairs of hex digits"))
        .collect()
}
