//! Tests of the pure parts with recorded, crafted and random packets. `pxe/tests/dhcp` tests the sockets,
//! with real clients.

mod config;
mod exchange;
mod full;
mod machines;
mod proxy;
mod random;
mod relays;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Deref;
use std::sync::Arc;

use ka_dhcp::{Outgoing, Packet};
pub(super) use ka_lab::dhcp::{
    ACK, Ask, DECLINE, DISCOVER, INFORM, NAK, OFFER, RECORDED, RELEASE, REQUEST, Said, card, recorded,
};
use ka_mac::MacAddr;

use crate::dhcp::answer::{Action, Arrival, Destination};
use crate::dhcp::config::{DhcpConfig, DhcpMode, FullConfig, KnownMachine, Pool};
use crate::dhcp::full::Full;
use crate::dhcp::iface::Subnet;
use crate::dhcp::lease::{Kept, UnixTime};
use crate::dhcp::{BootFileFor, DhcpEvent};

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const START: UnixTime = UnixTime(1_800_000_000);
pub(super) const LEASE_SECONDS: u64 = 3600;

/// Ways in which a message arrives at the server.
pub(super) trait Arrives {
    fn arrives(&self) -> Arrival;
    /// By unicast to the server's address.
    fn arrives_alone(&self) -> Arrival;
}

impl Arrives for Ask {
    fn arrives(&self) -> Arrival {
        arrival(&self.bytes())
    }

    fn arrives_alone(&self) -> Arrival {
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
    MacAddr(card(machine))
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

/// An answer as bytes, read without the code under test, and its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    said: Said,
    pub(super) to: Destination,
}

impl Deref for Answer {
    type Target = Said;

    fn deref(&self) -> &Said {
        &self.said
    }
}

pub(super) fn answer(outgoing: &Outgoing, to: Destination) -> Answer {
    let said = Said {
        bytes: outgoing.encode(),
    };
    Answer { said, to }
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

/// Handles a request on a wire where no address is in use, until the server has answered or dropped it.
pub(super) fn settle(server: &mut Full, arrival: &Arrival, now: UnixTime) -> Vec<Action> {
    settle_on(server, arrival, now, |_| None)
}

/// As [`settle`], with an owner for some addresses.
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

/// Runs a whole exchange of DISCOVER, OFFER, REQUEST and ACK.
pub(super) fn lease(server: &mut Full, machine: u8, now: UnixTime) -> [u8; 4] {
    let offer = only(&settle(server, &Ask::new(DISCOVER, machine).arrives(), now));
    assert_eq!(offer.kind(), OFFER);
    let request = Ask::new(REQUEST, machine).meaning(SERVER).asking(offer.yiaddr());
    let ack = only(&settle(server, &request.arrives(), now));
    assert_eq!(ack.kind(), ACK);
    assert_eq!(ack.yiaddr(), offer.yiaddr());
    ack.yiaddr()
}
