//! The server and the node's client on one wire, both pure, in virtual time. Each message passes through the
//! codec and the frames to the other side.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ka_dhcp::frame::{self, EtherType, everybody, nobody};
use ka_dhcp::{CLIENT_PORT, NODE_CLASS, Packet, SERVER_PORT};
use ka_dhcpc::{Config, Event, Lease, Machine, Output, Via};
use ka_mac::MacAddr;

use super::{
    Answer, LEASE_SECONDS, SERVER, START, address, answers, events, full_config, known, mac, pool, server,
    settle,
};
use crate::dhcp::DhcpEvent;
use crate::dhcp::answer::{Arrival, Destination};
use crate::dhcp::full::Full;
use crate::dhcp::lease::{Kept, UnixTime};

/// A client's message that reached the server, and the answers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heard {
    at: Duration,
    via: Via,
    kind: u8,
    answers: Vec<u8>,
}

/// State of the wire from the client to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// No message arrives.
    Cut,
    /// Only broadcast messages arrive.
    DeafToServer,
}

struct Wire {
    server: Full,
    client: Machine,
    now: Duration,
    line: Line,
    /// Address of a machine that was not there when the server asked by ARP.
    squatter: Option<Ipv4Addr>,
    heard: Vec<Heard>,
    told: Vec<DhcpEvent>,
    events: Vec<Event>,
}

impl Wire {
    fn new(server: Full) -> Self {
        let config = Config {
            mac: mac(1),
            vendor_class: NODE_CLASS.to_owned(),
            host_name: None,
            seed: 42,
        };
        Self {
            server,
            client: Machine::new(config, Duration::ZERO),
            now: Duration::ZERO,
            line: Line::Open,
            squatter: None,
            heard: Vec::new(),
            told: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A server with ten addresses, and a client that has one of them.
    fn bound() -> Self {
        let mut wire = Self::new(server(&full_config(pool(50, 59)), &[], &Kept::default()));
        wire.run_until(|wire| wire.client.lease().is_some());
        wire
    }

    fn wall(&self) -> UnixTime {
        UnixTime(START.0 + self.now.as_secs())
    }

    /// Advances to the client's next timeout and carries out everything that follows at once.
    fn step(&mut self) {
        self.now = self.now.max(self.client.poll_timeout());
        self.client.handle_timeout(self.now);
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Send(via, message) => self.say(via, &message),
                Output::Probe(packet) => self.probe(&packet),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn run_until(&mut self, is_done: impl Fn(&Self) -> bool) {
        for _ in 0..200 {
            if is_done(self) {
                return;
            }
            self.step();
        }
        panic!("{:?} {:?}", self.heard, self.events);
    }

    fn say(&mut self, via: Via, message: &[u8]) {
        let arrives = match self.line {
            Line::Open => true,
            Line::Cut => false,
            Line::DeafToServer => !matches!(via, Via::Server(_)),
        };
        if !arrives {
            return;
        }
        // A packet socket's message has headers that our code made. For other sockets the kernel makes them.
        let packet = frame::udp(nobody(CLIENT_PORT), everybody(SERVER_PORT), message).unwrap();
        let datagram = frame::datagram(&packet).unwrap();
        assert_eq!((datagram.from, datagram.to), (CLIENT_PORT, SERVER_PORT));
        let own = match via {
            Via::Wire => Ipv4Addr::UNSPECIFIED,
            Via::Server(_) | Via::Everybody => self.client.lease().unwrap().addr,
        };
        let arrival = Arrival {
            packet: Packet::request(datagram.message).unwrap(),
            unicast: via == Via::Server(SERVER),
            to_pxe_port: false,
            from: SocketAddrV4::new(own, CLIENT_PORT),
        };
        let now = self.wall();
        let actions = settle(&mut self.server, &arrival, now);
        self.told.extend(events(&actions));
        let answers = answers(&actions);
        self.heard.push(Heard {
            at: self.now,
            via,
            kind: message[242],
            answers: answers.iter().map(|answer| answer.kind()).collect(),
        });
        for answer in answers {
            self.answer(&answer, own);
        }
    }

    /// Delivers an answer if the client can receive at its destination.
    fn answer(&mut self, answer: &Answer, own: Ipv4Addr) {
        let (card, to) = match answer.to {
            Destination::Card(card, address) => (card, SocketAddrV4::new(address, CLIENT_PORT)),
            Destination::Broadcast => (MacAddr::BROADCAST, everybody(CLIENT_PORT)),
            Destination::Address(to) => {
                assert_eq!(
                    to,
                    SocketAddrV4::new(own, CLIENT_PORT),
                    "an address of the client's"
                );
                (mac(1), to)
            }
        };
        let from = SocketAddrV4::new(SERVER, SERVER_PORT);
        let packet = frame::udp(from, to, &answer.bytes).unwrap();
        let frame = frame::ethernet(mac(200), card, EtherType::Ipv4, &packet);
        let heard = frame::datagram(frame::packet_in(&frame, EtherType::Ipv4).unwrap()).unwrap();
        assert_eq!((heard.from, heard.to), (SERVER_PORT, CLIENT_PORT));
        self.client.handle_message(self.now, heard.message);
    }

    fn probe(&mut self, packet: &[u8]) {
        let Some(squatter) = self.squatter.filter(|used| packet[24..] == used.octets()) else {
            return;
        };
        let mut answer = ka_dhcp::arp::probe(mac(99), squatter);
        answer[7] = 2;
        answer[14..18].copy_from_slice(&squatter.octets());
        self.client.handle_arp(self.now, &answer);
    }

    fn lease(&self) -> &Lease {
        self.client.lease().unwrap()
    }

    /// Kinds of the messages that the server received, each with the kinds of its answers.
    fn dialogue(&self) -> Vec<(u8, &[u8])> {
        let heard = self.heard.iter();
        heard
            .map(|heard| (heard.kind, heard.answers.as_slice()))
            .collect()
    }

    /// End of the client's lease, as the server's lease file has it.
    fn lease_end(&mut self) -> UnixTime {
        let now = self.wall();
        let kept = self.server.unsaved(now).unwrap();
        assert_eq!(kept.leases.len(), 1, "{kept:?}");
        kept.leases[0].until
    }
}

#[test]
fn the_client_gets_all_that_the_server_gives() {
    let list = [known(1, Some("node-1"), None)];
    let mut wire = Wire::new(server(&full_config(pool(50, 59)), &list, &Kept::default()));
    wire.run_until(|wire| wire.client.lease().is_some());

    let lease = wire.lease();
    assert_eq!((lease.addr, lease.prefix), (address(50), 24));
    assert_eq!((lease.server, lease.gateway), (SERVER, Some(address(254))));
    assert_eq!(lease.name_servers, [address(253)]);
    assert_eq!(lease.domain.as_deref(), Some("room.example"));
    assert_eq!(lease.host_name.as_deref(), Some("node-1"));
    let times = lease.lasts.unwrap();
    assert_eq!(
        (times.renew.as_secs(), times.rebind.as_secs(), times.end.as_secs()),
        (
            LEASE_SECONDS / 2,
            LEASE_SECONDS - LEASE_SECONDS / 8,
            LEASE_SECONDS
        )
    );
    assert_eq!(
        wire.dialogue(),
        [
            (super::DISCOVER, &[super::OFFER][..]),
            (super::REQUEST, &[super::ACK])
        ]
    );
    let leased = DhcpEvent::Leased {
        mac: mac(1),
        address: address(50),
    };
    assert_eq!(wire.told, [leased], "our own node is no system that came back");
}

#[test]
fn a_lease_is_renewed_between_the_two_alone() {
    let mut wire = Wire::bound();
    let (first_end, said) = (wire.lease_end(), wire.heard.len());
    wire.run_until(|wire| matches!(wire.events.last(), Some(Event::Extended(_))));

    let renewal = &wire.heard[said..];
    assert_eq!(renewal.len(), 1, "{renewal:?}");
    assert_eq!(
        (renewal[0].via, renewal[0].kind),
        (Via::Server(SERVER), super::REQUEST)
    );
    assert_eq!(renewal[0].answers, [super::ACK]);
    assert_eq!(wire.lease().addr, address(50));
    let later = wire.lease_end().0 - first_end.0;
    assert!(
        (LEASE_SECONDS / 2 - 1..=LEASE_SECONDS / 2 + 1).contains(&later),
        "{later}"
    );
}

#[test]
fn a_server_that_does_not_hear_the_client_is_reached_by_everybody_s_address() {
    let mut wire = Wire::bound();
    let said = wire.heard.len();
    wire.line = Line::DeafToServer;
    wire.run_until(|wire| matches!(wire.events.last(), Some(Event::Extended(_))));

    let rebinding = &wire.heard[said..];
    assert_eq!(rebinding.len(), 1, "{rebinding:?}");
    assert_eq!(
        (rebinding[0].via, rebinding[0].kind),
        (Via::Everybody, super::REQUEST)
    );
    let since = (rebinding[0].at - wire.heard[said - 1].at).as_secs();
    assert_eq!(since, LEASE_SECONDS - LEASE_SECONDS / 8, "T2");
    assert_eq!(wire.lease().addr, address(50));
}

#[test]
fn a_lease_that_nobody_extends_is_given_up_and_the_same_address_found_again() {
    let mut wire = Wire::bound();
    wire.line = Line::Cut;
    wire.run_until(|wire| matches!(wire.events.last(), Some(Event::Expired(_))));
    assert_eq!(wire.client.lease(), None);
    wire.line = Line::Open;
    wire.run_until(|wire| wire.client.lease().is_some());
    assert_eq!(wire.lease().addr, address(50));
}

#[test]
fn a_server_with_other_addresses_refuses_and_gives_one_of_them() {
    let mut wire = Wire::bound();
    let said = wire.heard.len();
    wire.server = server(&full_config(pool(100, 109)), &[], &Kept::default());
    wire.run_until(|wire| matches!(wire.events.last(), Some(Event::Refused(_))));
    // A server without a record of an address refuses a unicast renewal. It would leave a broadcast one to
    // the server that gave the address.
    let refused = wire.heard.last().unwrap();
    assert_eq!(
        (refused.kind, refused.answers.as_slice()),
        (super::REQUEST, &[super::NAK][..])
    );
    assert!(wire.heard.len() > said);
    let Some(Event::Refused(why)) = wire.events.last() else {
        panic!("{:?}", wire.events);
    };
    assert_eq!(why, "10.0.0.1 not your address");
    wire.run_until(|wire| wire.client.lease().is_some());
    assert_eq!(wire.lease().addr, address(100));
}

#[test]
fn an_address_that_the_client_finds_used_is_declined_and_left_alone() {
    let mut wire = Wire::new(server(&full_config(pool(50, 59)), &[], &Kept::default()));
    wire.squatter = Some(address(50));
    wire.run_until(|wire| wire.client.lease().is_some());

    assert_eq!(wire.lease().addr, address(51));
    let in_use = Event::InUse {
        addr: address(50),
        owner: mac(99),
    };
    assert!(wire.events.contains(&in_use), "{:?}", wire.events);
    let dialogue: Vec<u8> = wire.dialogue().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(
        dialogue,
        [
            super::DISCOVER,
            super::REQUEST,
            super::DECLINE,
            super::DISCOVER,
            super::REQUEST
        ]
    );
    let warned = wire
        .told
        .iter()
        .any(|event| matches!(event, DhcpEvent::Warning(text) if text.contains("10.0.0.50")));
    assert!(warned, "{:?}", wire.told);
}

#[test]
fn a_client_repeats_itself_until_it_is_heard() {
    let mut wire = Wire::new(server(&full_config(pool(50, 59)), &[], &Kept::default()));
    wire.line = Line::Cut;
    wire.run_until(|wire| matches!(wire.events.last(), Some(Event::Asking(3))));
    wire.line = Line::Open;
    wire.run_until(|wire| wire.client.lease().is_some());
    assert_eq!(wire.lease().addr, address(50));
}
