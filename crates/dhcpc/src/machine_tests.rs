//! The client's decisions, against a server that the test plays in virtual time.

use ka_lab::dhcp::{ACK, Ask, NAK, OFFER, card};

use super::*;

const MAC: MacAddr = MacAddr(card(1));
const ADDR: [u8; 4] = [10, 0, 0, 5];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Numbers of options (RFC 2132).
mod option {
    pub(super) const SUBNET_MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const NAME_SERVER: u8 = 6;
    pub(super) const HOST_NAME: u8 = 12;
    pub(super) const LEASE_TIME: u8 = 51;
    pub(super) const SERVER_ID: u8 = 54;
    pub(super) const MESSAGE: u8 = 56;
    pub(super) const RENEWAL: u8 = 58;
    pub(super) const REBINDING: u8 = 59;
}

/// A message as a server would send it.
fn reply(kind: u8, xid: u32, yours: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
    let reply = Ask::reply(kind, xid, yours);
    let all = options
        .iter()
        .fold(reply, |reply, (code, data)| reply.with(*code, data));
    all.bytes()
}

struct Play {
    machine: Machine,
    now: Duration,
    sent: Vec<(Duration, Via, Vec<u8>)>,
    probes: Vec<Vec<u8>>,
    events: Vec<Event>,
}

impl Play {
    fn new() -> Self {
        let config = Config {
            mac: MAC,
            vendor_class: "KA-node".to_owned(),
            host_name: None,
            seed: 42,
        };
        Self {
            machine: Machine::new(config, Duration::ZERO),
            now: Duration::ZERO,
            sent: Vec::new(),
            probes: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Advances to the machine's next timeout.
    fn step(&mut self) {
        self.now = self.now.max(self.machine.poll_timeout());
        self.machine.handle_timeout(self.now);
        self.drain();
    }

    fn answer(&mut self, kind: u8, options: &[(u8, &[u8])]) {
        let xid = u32::from_be_bytes(self.last()[4..8].try_into().unwrap());
        let mut all: Vec<(u8, &[u8])> = vec![(option::SERVER_ID, &[10, 0, 0, 1])];
        all.extend(options);
        self.machine
            .handle_message(self.now, &reply(kind, xid, ADDR, &all));
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(via, bytes) => self.sent.push((self.now, via, bytes)),
                Output::Probe(packet) => self.probes.push(packet),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    /// Waits out the probes, which no machine answers.
    fn settle(&mut self) {
        while self.machine.is_probing() {
            self.step();
        }
    }

    fn last(&self) -> &[u8] {
        &self.sent.last().unwrap().2
    }

    /// Type of the last message: DISCOVER is 1, REQUEST is 3. It is always the first option.
    fn last_kind(&self) -> u8 {
        self.last()[242]
    }

    fn bound(lease_seconds: u32) -> Self {
        let mut play = Self::new();
        play.step();
        let time = lease_seconds.to_be_bytes();
        play.answer(OFFER, &[(option::LEASE_TIME, &time)]);
        play.answer(
            ACK,
            &[
                (option::LEASE_TIME, &time),
                (option::SUBNET_MASK, &[255, 255, 252, 0]),
            ],
        );
        play.settle();
        play
    }
}

#[test]
fn discover_offer_request_ack_gives_a_lease() {
    let mut play = Play::new();
    play.step();
    assert_eq!(play.last_kind(), 1);
    assert!(play.last().windows(9).any(|at| at == b"\x3c\x07KA-node"));
    play.answer(OFFER, &[]);
    assert_eq!(play.last_kind(), 3);
    assert!(
        play.last().windows(6).any(|at| at == [50, 4, 10, 0, 0, 5]),
        "asks for what was offered"
    );
    assert!(
        play.last().windows(6).any(|at| at == [54, 4, 10, 0, 0, 1]),
        "of who offered it"
    );
    play.answer(
        ACK,
        &[
            (option::SUBNET_MASK, &[255, 255, 0, 0]),
            (option::ROUTER, &[10, 0, 0, 254]),
            (option::NAME_SERVER, &[10, 0, 0, 3, 0, 0, 0, 0]),
            (option::HOST_NAME, b"node7"),
            (option::LEASE_TIME, &[0, 0, 1, 0]),
        ],
    );
    assert_eq!((play.events.as_slice(), play.machine.lease()), (&[][..], None));
    play.settle();
    assert_eq!(play.probes.len(), 3);
    assert_eq!(play.probes[0][24..], ADDR, "asks for the address");
    let [Event::Bound(lease)] = play.events.as_slice() else {
        panic!("{:?}", play.events);
    };
    assert_eq!((lease.addr, lease.prefix), (ADDR.into(), 16));
    assert_eq!(lease.gateway, Some(Ipv4Addr::new(10, 0, 0, 254)));
    assert_eq!(lease.name_servers, [Ipv4Addr::new(10, 0, 0, 3)]);
    assert_eq!(lease.host_name.as_deref(), Some("node7"));
    let times = lease.lasts.unwrap();
    assert_eq!(
        (times.renew.as_secs(), times.rebind.as_secs(), times.end.as_secs()),
        (128, 224, 256)
    );
    assert_eq!(play.machine.lease(), Some(lease));
}

#[test]
fn questions_are_repeated_with_growing_pauses_for_ever() {
    let mut play = Play::new();
    for _ in 0..12 {
        play.step();
    }
    let pauses: Vec<u64> = play
        .sent
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0).as_secs())
        .collect();
    assert_eq!(pauses[..3], [2, 4, 8]);
    assert!(
        pauses[3..].iter().all(|pause| (16..=18).contains(pause)),
        "{pauses:?}"
    );
    assert_eq!(play.events.last(), Some(&Event::Asking(12)));
    let xids: std::collections::BTreeSet<_> = play
        .sent
        .iter()
        .map(|(_, _, bytes)| bytes[4..8].to_vec())
        .collect();
    assert_eq!(xids.len(), 1, "an offer that is late must still be one");
}

#[test]
fn replies_to_others_are_passed_over() {
    let mut play = Play::new();
    play.machine.handle_message(
        play.now,
        &reply(OFFER, 0, ADDR, &[(option::SERVER_ID, &[10, 0, 0, 1])]),
    );
    play.drain();
    assert!(play.sent.is_empty(), "nothing was asked yet");
    play.step();
    let xid = u32::from_be_bytes(play.last()[4..8].try_into().unwrap());
    let mut other_mac = reply(OFFER, xid, ADDR, &[(option::SERVER_ID, &[10, 0, 0, 1])]);
    other_mac[33] ^= 1;
    for bytes in [
        other_mac,
        reply(OFFER, xid ^ 1, ADDR, &[(option::SERVER_ID, &[10, 0, 0, 1])]),
        reply(OFFER, xid, ADDR, &[]),
        reply(OFFER, xid, [0; 4], &[(option::SERVER_ID, &[10, 0, 0, 1])]),
        reply(OFFER, xid, [255; 4], &[(option::SERVER_ID, &[10, 0, 0, 1])]),
        reply(
            OFFER,
            xid,
            ADDR,
            &[
                (option::SERVER_ID, &[10, 0, 0, 1]),
                (option::SUBNET_MASK, &[255, 0, 255, 0]),
            ],
        ),
        reply(ACK, xid, ADDR, &[(option::SERVER_ID, &[10, 0, 0, 1])]),
        reply(NAK, xid, ADDR, &[(option::SERVER_ID, &[10, 0, 0, 1])]),
    ] {
        play.machine.handle_message(play.now, &bytes);
        play.drain();
    }
    assert_eq!(play.sent.len(), 1);
    assert_eq!(play.events, []);
}

#[test]
fn a_refusal_and_a_silent_server_lead_back_to_the_beginning() {
    let mut play = Play::new();
    play.step();
    play.answer(OFFER, &[]);
    play.answer(NAK, &[(option::MESSAGE, b"wrong network")]);
    assert_eq!(play.events, [Event::Refused("10.0.0.1 wrong network".to_owned())]);
    play.step();
    assert_eq!(play.last_kind(), 1);
    play.answer(OFFER, &[]);
    for _ in 0..REQUEST_TRIES {
        assert_eq!(play.last_kind(), 3);
        play.step();
    }
    play.step();
    assert_eq!(play.last_kind(), 1);
}

#[test]
fn an_address_that_somebody_uses_is_declined_and_another_one_asked_for_after_a_pause() {
    let mut play = Play::new();
    play.step();
    play.answer(OFFER, &[]);
    play.answer(ACK, &[]);
    play.step();
    let owner = MacAddr([2, 0, 0, 0, 0, 9]);
    let mut answer = arp::probe(owner, Ipv4Addr::UNSPECIFIED);
    answer[7] = 2;
    answer[14..18].copy_from_slice(&ADDR);
    let at = play.now;
    play.machine.handle_arp(at, &answer);
    play.drain();
    assert_eq!(play.last_kind(), 4);
    for option in [[50, 4, 10, 0, 0, 5], [54, 4, 10, 0, 0, 1]] {
        assert!(play.last().windows(6).any(|at| at == option), "{option:?}");
    }
    assert_eq!(play.last()[12..16], [0; 4], "RFC 2131 table 5: ciaddr");
    let addr = ADDR.into();
    assert_eq!(play.events, [Event::InUse { addr, owner }]);
    assert_eq!(play.machine.lease(), None);
    play.step();
    assert_eq!((play.last_kind(), play.now - at), (1, Duration::from_secs(10)));
    // Late answers have no effect any more.
    play.machine.handle_arp(play.now, &answer);
    play.drain();
    assert_eq!(play.events.len(), 1);
}

#[test]
fn a_lease_is_renewed_at_half_its_time_by_its_server() {
    let mut play = Play::bound(400);
    play.step();
    let (at, via, bytes) = play.sent.last().unwrap();
    assert_eq!(at.as_secs(), 200);
    assert_eq!(*via, Via::Server(SERVER));
    assert_eq!(bytes[12..16], ADDR, "ciaddr");
    assert_eq!(bytes[10], 0, "no broadcast flag: the address works");
    assert!(
        !bytes.windows(6).any(|at| at == [50, 4, 10, 0, 0, 5]),
        "RFC 2131 table 5"
    );
    play.answer(ACK, &[(option::LEASE_TIME, &400u32.to_be_bytes())]);
    assert!(matches!(play.events.last(), Some(Event::Extended(_))));
    play.step();
    assert_eq!(play.sent.last().unwrap().0.as_secs(), 400);
}

#[test]
fn a_lease_that_nobody_extends_is_asked_of_everybody_and_then_given_up() {
    let mut play = Play::bound(800);
    while !matches!(play.events.last(), Some(Event::Expired(_))) {
        play.step();
        assert!(play.sent.len() < 100, "asks without end");
    }
    assert_eq!(play.now.as_secs(), 800);
    let to_everybody: Vec<u64> = play
        .sent
        .iter()
        .filter(|(_, via, _)| *via == Via::Everybody)
        .map(|(at, _, _)| at.as_secs())
        .collect();
    assert_eq!(to_everybody.first(), Some(&700));
    assert_eq!(play.machine.lease(), None);
    play.step();
    assert_eq!((play.last_kind(), play.sent.last().unwrap().1), (1, Via::Wire));
}

#[test]
fn an_extension_to_another_address_is_none() {
    let mut play = Play::bound(400);
    play.step();
    let xid = u32::from_be_bytes(play.last()[4..8].try_into().unwrap());
    let other = reply(ACK, xid, [10, 0, 0, 6], &[(option::SERVER_ID, &[10, 0, 0, 1])]);
    play.machine.handle_message(play.now, &other);
    play.drain();
    assert!(matches!(play.events.last(), Some(Event::Bound(_))));
}

#[test]
fn a_lease_for_ever_is_never_renewed() {
    let play = Play::bound(u32::MAX);
    assert_eq!(play.machine.poll_timeout(), Duration::MAX);
    assert_eq!(play.machine.lease().unwrap().lasts, None);
}

#[test]
fn times_that_make_no_sense_become_the_usual_shares() {
    for (renew, rebind) in [(0, 100), (300, 200), (500, 600), (100, 500)] {
        let mut play = Play::new();
        play.step();
        play.answer(OFFER, &[]);
        let (renew, rebind) = (u32::to_be_bytes(renew), u32::to_be_bytes(rebind));
        play.answer(
            ACK,
            &[
                (option::LEASE_TIME, &400u32.to_be_bytes()),
                (option::RENEWAL, &renew),
                (option::REBINDING, &rebind),
            ],
        );
        play.settle();
        let times = play.machine.lease().unwrap().lasts.unwrap();
        assert_eq!((times.renew.as_secs(), times.rebind.as_secs()), (200, 350));
    }
}

#[test]
fn a_network_without_a_mask_is_as_large_as_its_class() {
    assert_eq!(class_prefix(Ipv4Addr::new(10, 0, 0, 1)), 8);
    assert_eq!(class_prefix(Ipv4Addr::new(172, 16, 0, 1)), 16);
    assert_eq!(class_prefix(Ipv4Addr::new(192, 168, 0, 1)), 24);
}

proptest::proptest! {
    /// Random replies in any phase: the client neither panics nor stops asking.
    #[test]
    fn random_replies_in_every_phase_leave_a_working_client(
        kinds in proptest::collection::vec((0u8..9, proptest::collection::vec(proptest::num::u8::ANY, 0..60)), 0..30),
    ) {
        let mut play = Play::new();
        play.step();
        for (kind, tail) in kinds {
            let xid = u32::from_be_bytes(play.last()[4..8].try_into().unwrap());
            let mut bytes = reply(kind, xid, ADDR, &[(option::SERVER_ID, &[10, 0, 0, 1])]);
            bytes.pop();
            bytes.extend(tail);
            play.machine.handle_message(play.now, &bytes);
            play.drain();
            if play.machine.poll_timeout() != Duration::MAX {
                play.step();
            }
        }
        proptest::prop_assert!(play.machine.lease().is_some() || play.machine.poll_timeout() < Duration::MAX);
    }
}
