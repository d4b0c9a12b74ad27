//! Machines behind relays: RFC 2131 §4.1, RFC 3046, RFC 3527.

use super::{
    ACK, Arrives, Ask, DISCOVER, NAK, REQUEST, SERVER, START, answers, full_config, only, pool, server,
    settle, warnings,
};
use crate::dhcp::answer::{Action, Destination};
use crate::dhcp::config::{Pool, RelayedPool};
use crate::dhcp::full::Full;
use crate::dhcp::lease::Kept;

const RELAY: [u8; 4] = [10, 1, 0, 1];

fn relayed() -> Full {
    let mut config = full_config(pool(50, 60));
    config.relayed = vec![RelayedPool {
        pool: Pool {
            first: [10, 1, 0, 100].into(),
            last: [10, 1, 0, 110].into(),
        },
        prefix: 16,
        router: None,
    }];
    server(&config, &[], &Kept::default())
}

#[test]
fn a_machine_behind_a_relay_gets_an_address_of_its_own_subnet() {
    let discover = Ask::new(DISCOVER, 1).relayed_by(RELAY).with(82, b"\x01\x04port");
    let mut server = relayed();
    let actions = server.handle(&discover.arrives(), START);
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Probe(_))),
        "ARP does not cross routers"
    );
    let offer = only(&actions);
    assert_eq!(offer.yiaddr(), [10, 1, 0, 100]);
    assert_eq!(offer.option(1), Some(vec![255, 255, 0, 0]));
    assert_eq!(offer.option(3), Some(RELAY.to_vec()), "the relay is a router");
    assert_eq!(offer.option(82), Some(b"\x01\x04port".to_vec()));
    assert_eq!(offer.field(24), RELAY);
    assert_eq!(offer.to, Destination::Address("10.1.0.1:67".parse().unwrap()));

    let request = Ask::new(REQUEST, 1)
        .relayed_by(RELAY)
        .meaning(SERVER)
        .asking([10, 1, 0, 100]);
    assert_eq!(only(&settle(&mut server, &request.arrives(), START)).kind(), ACK);
    let renewing = Ask::new(REQUEST, 1).having([10, 1, 0, 100]).arrives_alone();
    let renewed = only(&settle(&mut server, &renewing, START));
    assert_eq!(
        (renewed.kind(), renewed.option(3)),
        (ACK, None),
        "no relay is between, and none is remembered"
    );
    assert_eq!(renewed.to, Destination::Address("10.1.0.100:68".parse().unwrap()));
}

#[test]
fn a_refusal_goes_to_the_relay_which_is_to_broadcast_it() {
    let request = Ask::new(REQUEST, 1).relayed_by(RELAY).asking([10, 0, 0, 50]);
    let nak = only(&settle(&mut relayed(), &request.arrives(), START));
    assert_eq!(nak.kind(), NAK);
    assert_eq!(nak.bytes[10] & 0x80, 0x80);
    assert_eq!(nak.to, Destination::Address("10.1.0.1:67".parse().unwrap()));
}

#[test]
fn a_subnet_without_a_pool_is_told_and_not_served() {
    let discover = Ask::new(DISCOVER, 1).relayed_by([172, 16, 0, 1]);
    let actions = settle(&mut relayed(), &discover.arrives(), START);
    assert_eq!(answers(&actions), []);
    assert!(
        warnings(&actions)[0].starts_with("no pool for machines behind the relay 172.16.0.1 "),
        "{actions:?}"
    );
}

#[test]
fn a_relay_on_our_own_wire_gets_our_own_pool_and_link_selection_is_obeyed() {
    let mut server = relayed();
    let near = Ask::new(DISCOVER, 1).relayed_by([10, 0, 0, 7]).arrives();
    assert_eq!(only(&settle(&mut server, &near, START)).yiaddr(), [10, 0, 0, 50]);
    let linked = Ask::new(DISCOVER, 2)
        .relayed_by([10, 0, 0, 7])
        .with(82, &[5, 4, 10, 1, 0, 0]);
    assert_eq!(
        only(&settle(&mut server, &linked.arrives(), START)).yiaddr(),
        [10, 1, 0, 100]
    );
    let selected = Ask::new(DISCOVER, 3)
        .relayed_by([10, 0, 0, 7])
        .with(118, &[10, 1, 0, 0]);
    assert_eq!(
        only(&settle(&mut server, &selected.arrives(), START)).yiaddr(),
        [10, 1, 0, 101]
    );
}
