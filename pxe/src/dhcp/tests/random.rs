//! Random input: nothing panics, every answer is a valid packet, and no address has two owners.

use std::collections::HashMap;

use ka_mac::MacAddr;
use proptest::prelude::*;

use super::{
    ACK, Arrives, Ask, DISCOVER, RECORDED, REQUEST, SERVER, address, answers, arrival, boot_files, recorded,
    settle_on, small,
};
use crate::dhcp::answer::Action;
use crate::dhcp::lease::UnixTime;
use crate::dhcp::proxy::Proxy;
use ka_dhcp::{Packet, sub_option};

/// Feeds both decoders and both servers, on both ports.
fn feed(bytes: &[u8]) -> Result<(), TestCaseError> {
    let _ = Packet::reply(bytes);
    if Packet::request(bytes).is_err() {
        return Ok(());
    }
    let mut server = small(60);
    for (to_pxe_port, unicast) in [(false, false), (false, true), (true, true)] {
        let mut arrived = arrival(bytes);
        arrived.to_pxe_port = to_pxe_port;
        arrived.unicast = unicast;
        let mut actions = settle_on(&mut server, &arrived, super::START, |_| None);
        actions.extend(Proxy::new(SERVER, boot_files()).handle(&arrived));
        for answer in answers(&actions) {
            prop_assert!((300..=1472).contains(&answer.bytes.len()));
            prop_assert!(Packet::reply(&answer.bytes).is_ok());
            prop_assert_eq!(&answer.bytes[4..8], &bytes[4..8]);
            prop_assert_eq!(&answer.bytes[28..34], &bytes[28..34]);
        }
    }
    Ok(())
}

/// A step in a room full of machines and strangers.
#[derive(Debug, Clone)]
enum Step {
    Discover(u8),
    Request {
        machine: u8,
        address: u8,
        selecting: bool,
    },
    Renew {
        machine: u8,
        address: u8,
        alone: bool,
    },
    Decline {
        machine: u8,
        address: u8,
    },
    Release {
        machine: u8,
        address: u8,
    },
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let machine = || 0_u8..6;
    let last = || 49_u8..56;
    prop_oneof![
        4 => machine().prop_map(Step::Discover),
        4 => (machine(), last(), any::<bool>())
            .prop_map(|(machine, address, selecting)| Step::Request { machine, address, selecting }),
        2 => (machine(), last(), any::<bool>()).prop_map(|(machine, address, alone)| Step::Renew { machine, address, alone }),
        1 => (machine(), last()).prop_map(|(machine, address)| Step::Decline { machine, address }),
        1 => (machine(), last()).prop_map(|(machine, address)| Step::Release { machine, address }),
        1 => (0_u16..5000).prop_map(Step::Wait),
    ]
}

fn ask(step: &Step) -> Option<(Ask, bool)> {
    Some(match *step {
        Step::Discover(machine) => (Ask::new(DISCOVER, machine), false),
        Step::Request {
            machine,
            address,
            selecting,
        } => {
            let ask = Ask::new(REQUEST, machine).asking([10, 0, 0, address]);
            (if selecting { ask.meaning(SERVER) } else { ask }, false)
        }
        Step::Renew {
            machine,
            address,
            alone,
        } => (Ask::new(REQUEST, machine).having([10, 0, 0, address]), alone),
        Step::Decline { machine, address } => {
            let ask = Ask::new(super::DECLINE, machine).meaning(SERVER);
            (ask.asking([10, 0, 0, address]), false)
        }
        Step::Release { machine, address } => (
            Ask::new(super::RELEASE, machine).having([10, 0, 0, address]),
            true,
        ),
        Step::Wait(_) => return None,
    })
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        feed(&bytes)?;
        let _ = sub_option(&bytes, 71);
    }

    #[test]
    fn random_options_behind_a_good_header_do_not_panic(
        kind in 0_u8..20,
        options in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..30),
        tail in prop::collection::vec(any::<u8>(), 0..60),
        header in prop::collection::vec((8_usize..28, any::<u8>()), 0..8),
    ) {
        let mut ask = Ask::new(kind, 1);
        for (at, value) in header {
            ask.header[at] = value;
        }
        for (code, data) in options {
            ask = ask.with(code, &data);
        }
        ask.options.extend_from_slice(&tail);
        feed(&ask.bytes())?;
    }

    #[test]
    fn recorded_packets_with_damage_do_not_panic(
        which in 0_usize..RECORDED.len(),
        damage in prop::collection::vec((0_usize..600, any::<u8>()), 1..12),
        cut in 0_usize..700,
    ) {
        let mut bytes = recorded(RECORDED[which]);
        for (at, value) in damage {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        bytes.truncate(cut.max(1));
        feed(&bytes)?;
    }

    #[test]
    fn no_address_has_two_owners(
        steps in prop::collection::vec(step(), 1..80),
        stranger in prop::option::of(50_u8..54),
    ) {
        let mut server = small(53);
        let mut now = super::START;
        let mut owners: HashMap<[u8; 4], (MacAddr, UnixTime)> = HashMap::new();
        for step in steps {
            if let Step::Wait(seconds) = step {
                now = UnixTime(now.0 + u64::from(seconds));
            }
            let Some((ask, alone)) = ask(&step) else { continue };
            let mut arrived = ask.arrives();
            arrived.unicast = alone;
            let mac = arrived.packet.mac();
            if let Step::Release { address, .. } | Step::Decline { address, .. } = step {
                let given_up = [10, 0, 0, address];
                if owners.get(&given_up).is_some_and(|(owner, _)| *owner == mac) {
                    owners.remove(&given_up);
                }
            }
            let owner = |asked| stranger.filter(|last| asked == address(*last)).map(|_| super::mac(200));
            let actions = settle_on(&mut server, &arrived, now, owner);
            prop_assert!(!actions.iter().any(|action| matches!(action, Action::Probe(_))));
            for answer in answers(&actions).iter().filter(|answer| answer.yiaddr() != [0; 4]) {
                let given = answer.yiaddr();
                prop_assert!((50..=53).contains(&given[3]), "{:?} is not in the pool", given);
                prop_assert!(stranger != Some(given[3]), "{:?} answers ARP", given);
                let taken = owners.get(&given).filter(|(owner, until)| *owner != mac && *until > now);
                prop_assert!(taken.is_none(), "{:?} is {:?}'s", given, taken);
                if answer.kind() == ACK {
                    owners.retain(|_, (owner, _)| *owner != mac);
                    owners.insert(given, (mac, UnixTime(now.0 + super::LEASE_SECONDS)));
                }
            }
        }
    }
}
