//! The pure parts, held against recorded packets, crafted ones, and random bytes. The sockets are tested in
//! `pxe/tests/dhcp`, with real clients.

mod codec;
mod config;
mod full;
mod machines;
mod proxy;
mod random;
mod relays;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use crate::dhcp::answer::{Action, Arrival, Destination};
use crate::dhcp::codec::{Outgoing, Packet};
use crate::dhcp::config::{DhcpConfig, DhcpMode, FullConfig, KnownMachine, Pool};
use crate::dhcp::full::Full;
use crate::dhcp::iface::Subnet;
use crate::dhcp::lease::{Kept, UnixTime};
use crate::dhcp::{BootFileFor, DhcpEvent};
use crate::machine::MacAddr;

pub(super) const DISCOVER: u8 = 1;
pub(super) const OFFER: u8 = 2;
pub(super) const REQUEST: u8 = 3;
pub(super) const DECLINE: u8 = 4;
pub(super) const ACK: u8 = 5;
pub(super) const NAK: u8 = 6;
pub(super) const RELEASE: u8 = 7;
pub(super) const INFORM: u8 = 8;

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const START: UnixTime = UnixTime(1_800_000_000);
pub(super) const LEASE_SECONDS: u64 = 3600;

/// A request, made byte by byte: not by the code that is tested.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) header: [u8; 240],
    pub(super) options: Vec<u8>,
}

impl Ask {
    pub(super) fn new(kind: u8, machine: u8) -> Self {
        let mut header = [0; 240];
        header[..3].copy_from_slice(&[1, 1, 6]);
        header[4..8].copy_from_slice(&[0xca, 0xfe, 0, machine]);
        header[28..34].copy_from_slice(&mac(machine).0);
        header[236..].copy_from_slice(&[99, 130, 83, 99]);
        Self {
            header,
            options: vec![53, 1, kind],
        }
    }

    pub(super) fn with(mut self, code: u8, data: &[u8]) -> Self {
        self.options
            .extend_from_slice(&[code, u8::try_from(data.len()).unwrap()]);
        self.options.extend_from_slice(data);
        self
    }

    pub(super) fn asking(self, address: [u8; 4]) -> Self {
        self.with(50, &address)
    }

    pub(super) fn meaning(self, server: Ipv4Addr) -> Self {
        self.with(54, &server.octets())
    }

    pub(super) fn having(mut self, address: [u8; 4]) -> Self {
        self.header[12..16].copy_from_slice(&address);
        self
    }

    pub(super) fn relayed_by(mut self, relay: [u8; 4]) -> Self {
        self.header[24..28].copy_from_slice(&relay);
        self
    }

    pub(super) fn wanting_broadcast(mut self) -> Self {
        self.header[10] = 0x80;
        self
    }

    pub(super) fn transaction(mut self, number: u8) -> Self {
        self.header[4] = number;
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        [&self.header[..], &self.options, &[255]].concat()
    }

    pub(super) fn arrives(&self) -> Arrival {
        arrival(&self.bytes())
    }

    pub(super) fn arrives_alone(&self) -> Arrival {
        Arrival {
            unicast: true,
            ..self.arrives()
        }
    }
}

pub(super) fn arrival(bytes: &[u8]) -> Arrival {
    Arrival {
        packet: Packet::request(bytes).unwrap(),
        unicast: false,
        to_pxe_port: false,
        from: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
    }
}

pub(super) fn mac(machine: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, machine])
}

pub(super) fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

pub(super) fn own() -> Subnet {
    Subnet {
        address: SERVER,
        prefix: 24,
    }
}

pub(super) fn pool(first: u8, last: u8) -> Pool {
    Pool {
        first: address(first),
        last: address(last),
    }
}

pub(super) fn full_config(pool: Pool) -> FullConfig {
    FullConfig {
        lease_time: std::time::Duration::from_secs(LEASE_SECONDS),
        router: Some(address(254)),
        dns: vec![address(253)],
        domain: Some("room.example".to_owned()),
        ..FullConfig::new(pool)
    }
}

pub(super) fn known(machine: u8, name: Option<&str>, address: Option<Ipv4Addr>) -> KnownMachine {
    KnownMachine {
        mac: mac(machine),
        name: name.map(str::to_owned),
        address,
    }
}

pub(super) fn server(full: &FullConfig, known: &[KnownMachine], kept: &Kept) -> Full {
    let config = DhcpConfig {
        iface: "eth0".to_owned(),
        mode: DhcpMode::Full(full.clone()),
        known: known.to_vec(),
        state_dir: "/nowhere".into(),
    };
    Full::new(own(), &config, full, kept, boot_files())
}

/// A server with the addresses 10.0.0.50 to LAST.
pub(super) fn small(last: u8) -> Full {
    server(&full_config(pool(50, last)), &[], &Kept::default())
}

pub(super) fn boot_files() -> BootFileFor {
    Arc::new(|machine| {
        Some(match (machine.ipxe, machine.http) {
            (true, _) => "script.ipxe".to_owned(),
            (false, true) => "http://10.0.0.1/shimx64.efi".to_owned(),
            (false, false) => format!("{}.boot", machine.arch).replace(' ', "-"),
        })
    })
}

/// An answer as bytes, read without the code that is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) to: Destination,
}

impl Answer {
    pub(super) fn option(&self, code: u8) -> Option<Vec<u8>> {
        self.options()
            .into_iter()
            .find(|(at, _)| *at == code)
            .map(|(_, data)| data)
    }

    pub(super) fn options(&self) -> Vec<(u8, Vec<u8>)> {
        let mut options = Vec::new();
        let mut at = 240;
        while self.bytes[at] != 255 {
            let length = usize::from(self.bytes[at + 1]);
            options.push((self.bytes[at], self.bytes[at + 2..at + 2 + length].to_vec()));
            at += 2 + length;
        }
        options
    }

    pub(super) fn kind(&self) -> u8 {
        self.option(53).unwrap()[0]
    }

    pub(super) fn field(&self, at: usize) -> [u8; 4] {
        self.bytes[at..at + 4].try_into().unwrap()
    }

    pub(super) fn yiaddr(&self) -> [u8; 4] {
        self.field(16)
    }

    pub(super) fn siaddr(&self) -> [u8; 4] {
        self.field(20)
    }

    pub(super) fn file(&self) -> String {
        let field = self.bytes[108..236].split(|byte| *byte == 0).next().unwrap();
        String::from_utf8(field.to_vec()).unwrap()
    }
}

pub(super) fn answer(outgoing: &Outgoing, to: Destination) -> Answer {
    Answer {
        bytes: outgoing.encode(),
        to,
    }
}

pub(super) fn answers(actions: &[Action]) -> Vec<Answer> {
    let answers = actions.iter().filter_map(|action| match action {
        Action::Send(outgoing, to) => Some(answer(outgoing, *to)),
        _ => None,
    });
    answers.collect()
}

pub(super) fn events(actions: &[Action]) -> Vec<DhcpEvent> {
    let events = actions.iter().filter_map(|action| match action {
        Action::Event(event) => Some(event.clone()),
        _ => None,
    });
    events.collect()
}

pub(super) fn warnings(actions: &[Action]) -> Vec<String> {
    let warnings = events(actions).into_iter().filter_map(|event| match event {
        DhcpEvent::Warning(text) => Some(text),
        _ => None,
    });
    warnings.collect()
}

/// Handles a request on a wire where nobody has any address, until it is answered or dropped.
pub(super) fn settle(server: &mut Full, arrival: &Arrival, now: UnixTime) -> Vec<Action> {
    settle_on(server, arrival, now, |_| None)
}

/// The same where some addresses have owners.
pub(super) fn settle_on(
    server: &mut Full,
    arrival: &Arrival,
    now: UnixTime,
    owner: impl Fn(Ipv4Addr) -> Option<MacAddr>,
) -> Vec<Action> {
    let mut done = Vec::new();
    let mut open = server.handle(arrival, now);
    while !open.is_empty() {
        let mut next = Vec::new();
        for action in open {
            match action {
                Action::Probe(address) => next.extend(server.probed(address, owner(address), now)),
                other => done.push(other),
            }
        }
        open = next;
    }
    done
}

pub(super) fn only(actions: &[Action]) -> Answer {
    let mut answers = answers(actions);
    assert_eq!(answers.len(), 1, "{actions:?}");
    answers.remove(0)
}

/// The whole of DISCOVER, OFFER, REQUEST, ACK.
pub(super) fn lease(server: &mut Full, machine: u8, now: UnixTime) -> [u8; 4] {
    let offer = only(&settle(server, &Ask::new(DISCOVER, machine).arrives(), now));
    assert_eq!(offer.kind(), OFFER);
    let request = Ask::new(REQUEST, machine).meaning(SERVER).asking(offer.yiaddr());
    let ack = only(&settle(server, &request.arrives(), now));
    assert_eq!(ack.kind(), ACK);
    assert_eq!(ack.yiaddr(), offer.yiaddr());
    ack.yiaddr()
}

/// A recorded packet (`tests/packets/NAME.hex`; how it was recorded stands in its first line).
pub(super) fn recorded(name: &str) -> Vec<u8> {
    let text = match name {
        "ipxe-rom-discover" => include_str!("../../../tests/packets/ipxe-rom-discover.hex"),
        "udhcpc-discover" => include_str!("../../../tests/packets/udhcpc-discover.hex"),
        "ovmf-pxe-discover" => include_str!("../../../tests/packets/ovmf-pxe-discover.hex"),
        "ovmf-http-discover" => include_str!("../../../tests/packets/ovmf-http-discover.hex"),
        "bios-rom-discover" => include_str!("../../../tests/packets/bios-rom-discover.hex"),
        "dhclient-discover" => include_str!("../../../tests/packets/dhclient-discover.hex"),
        _ => panic!("{name} was not recorded"),
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits: String = lines.collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// All of them.
pub(super) const RECORDED: [&str; 6] = [
    "ipxe-rom-discover",
    "udhcpc-discover",
    "ovmf-pxe-discover",
    "ovmf-http-discover",
    "bios-rom-discover",
    "dhclient-discover",
];
