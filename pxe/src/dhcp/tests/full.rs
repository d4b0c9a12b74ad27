//! The server's answer to each message in each state (RFC 2131 §4.3).

use super::{
    ACK, Arrives, Ask, DECLINE, DISCOVER, INFORM, LEASE_SECONDS, NAK, OFFER, RELEASE, REQUEST, SERVER, START,
    address, answers, events, full_config, known, lease, mac, only, pool, server, settle, settle_on, small,
    warnings,
};
use crate::dhcp::DhcpEvent;
use crate::dhcp::answer::{Action, Destination};
use crate::dhcp::lease::{Kept, QUARANTINE, UnixTime};

fn later(seconds: u64) -> UnixTime {
    UnixTime(START.0 + seconds)
}

#[test]
fn a_machine_is_offered_an_address_only_after_the_wire_was_silent() {
    let mut server = small(60);
    let discover = Ask::new(DISCOVER, 1);
    let asked = server.handle(&discover.arrives(), START);
    assert_eq!(asked.last(), Some(&Action::Probe(address(50))));
    assert_eq!(answers(&asked), []);
    // The client repeats itself meanwhile. The server sends no second ARP question, and answers the
    // repetition.
    let again = server.handle(&discover.transaction(9).arrives(), START);
    assert!(
        !again.iter().any(|action| matches!(action, Action::Probe(_))),
        "{again:?}"
    );
    let offer = only(&server.probed(address(50), None, START));
    assert_eq!((offer.kind(), offer.yiaddr()), (OFFER, [10, 0, 0, 50]));
    assert_eq!(offer.bytes[4], 9);
    assert_eq!(
        server.probed(address(50), None, START),
        [],
        "the question was answered"
    );
}

#[test]
fn an_offer_says_everything_about_the_network() {
    let mut server = server(
        &full_config(pool(50, 60)),
        &[known(1, Some("node-1"), None)],
        &Kept::default(),
    );
    let offer = only(&settle(&mut server, &Ask::new(DISCOVER, 1).arrives(), START));
    let seconds = u32::try_from(LEASE_SECONDS).unwrap();
    for (code, data) in [
        (54, vec![10, 0, 0, 1]),
        (51, seconds.to_be_bytes().to_vec()),
        (58, (seconds / 2).to_be_bytes().to_vec()),
        (59, (seconds - seconds / 8).to_be_bytes().to_vec()),
        (1, vec![255, 255, 255, 0]),
        (28, vec![10, 0, 0, 255]),
        (3, vec![10, 0, 0, 254]),
        (6, vec![10, 0, 0, 253]),
        (15, b"room.example".to_vec()),
        (12, b"node-1".to_vec()),
    ] {
        assert_eq!(offer.option(code), Some(data), "option {code}");
    }
    assert_eq!(offer.option(67), None, "an operating system boots nothing");
    assert_eq!(offer.siaddr(), [0; 4]);
}

#[test]
fn answers_go_where_the_client_can_hear_them() {
    let mut server = small(60);
    let plain = only(&settle(&mut server, &Ask::new(DISCOVER, 1).arrives(), START));
    assert_eq!(plain.to, Destination::Card(mac(1), address(50)));
    let broadcast = only(&settle(
        &mut server,
        &Ask::new(DISCOVER, 1).wanting_broadcast().arrives(),
        START,
    ));
    assert_eq!(broadcast.to, Destination::Broadcast);
    lease(&mut server, 1, START);
    let renewing = Ask::new(REQUEST, 1).having([10, 0, 0, 50]).arrives_alone();
    let renewed = only(&settle(&mut server, &renewing, START));
    assert_eq!(renewed.to, Destination::Address("10.0.0.50:68".parse().unwrap()));
    assert_eq!(renewed.field(12), [10, 0, 0, 50], "ciaddr");
}

#[test]
fn an_address_that_answers_is_left_alone_and_the_next_is_tried() {
    let mut server = small(60);
    let stranger = mac(99);
    let owner = |asked| (asked == address(50) || asked == address(51)).then_some(stranger);
    let actions = settle_on(&mut server, &Ask::new(DISCOVER, 1).arrives(), START, owner);
    assert_eq!(only(&actions).yiaddr(), [10, 0, 0, 52]);
    assert_eq!(warnings(&actions).len(), 2);
    assert!(
        warnings(&actions)[0].starts_with("10.0.0.50 is used by 52:54:00:00:00:63 "),
        "{actions:?}"
    );
    assert_eq!(
        lease(&mut server, 2, START),
        [10, 0, 0, 53],
        "others do not get it either"
    );
    let free_again = later(QUARANTINE.as_secs());
    assert_eq!(lease(&mut server, 3, free_again), [10, 0, 0, 50]);
}

#[test]
fn a_machine_that_answers_for_its_own_address_gets_it() {
    let mut server = small(60);
    let first = lease(&mut server, 1, START);
    let again = settle_on(&mut server, &Ask::new(DISCOVER, 1).arrives(), START, |_| {
        Some(mac(1))
    });
    assert_eq!(only(&again).yiaddr(), first);
}

#[test]
fn two_machines_that_ask_at_once_are_offered_two_addresses() {
    let mut server = small(60);
    let first = server.handle(&Ask::new(DISCOVER, 1).arrives(), START);
    let second = server.handle(&Ask::new(DISCOVER, 2).arrives(), START);
    assert_eq!(first.last(), Some(&Action::Probe(address(50))));
    assert_eq!(second.last(), Some(&Action::Probe(address(51))));
}

#[test]
fn the_address_asked_for_is_given_where_it_is_free() {
    let mut server = small(60);
    let asking = |machine| Ask::new(DISCOVER, machine).asking([10, 0, 0, 55]).arrives();
    assert_eq!(
        only(&settle(&mut server, &asking(1), START)).yiaddr(),
        [10, 0, 0, 55]
    );
    assert_eq!(
        only(&settle(&mut server, &asking(2), START)).yiaddr(),
        [10, 0, 0, 50]
    );
    let outside = Ask::new(DISCOVER, 3).asking([10, 0, 0, 200]).arrives();
    assert_eq!(
        only(&settle(&mut server, &outside, START)).yiaddr(),
        [10, 0, 0, 51]
    );
}

#[test]
fn a_used_up_pool_is_told_with_its_figures_and_its_option() {
    let mut server = small(51);
    lease(&mut server, 1, START);
    lease(&mut server, 2, START);
    let actions = settle(&mut server, &Ask::new(DISCOVER, 3).arrives(), START);
    assert_eq!(answers(&actions), []);
    assert_eq!(
        warnings(&actions),
        [
            "pool 10.0.0.50-10.0.0.51 is used up (2 leased, 0 used by others): no address for 52:54:00:00:00:03; give more \
          with --dhcp full:FIRST-LAST"
        ]
    );
    let expired = later(LEASE_SECONDS);
    assert_eq!(
        lease(&mut server, 3, expired),
        [10, 0, 0, 50],
        "the one that is free the longest"
    );
}

#[test]
fn a_listed_machine_gets_its_own_address_and_nobody_else_does() {
    let list = [
        known(1, None, Some(address(50))),
        known(2, None, Some(address(200))),
    ];
    let mut server = server(&full_config(pool(50, 60)), &list, &Kept::default());
    assert_eq!(lease(&mut server, 3, START), [10, 0, 0, 51]);
    assert_eq!(lease(&mut server, 1, START), [10, 0, 0, 50]);
    assert_eq!(
        lease(&mut server, 2, START),
        [10, 0, 0, 200],
        "also outside the pool"
    );
    let thief = Ask::new(REQUEST, 4)
        .meaning(SERVER)
        .asking([10, 0, 0, 200])
        .arrives();
    assert_eq!(only(&settle(&mut server, &thief, START)).kind(), NAK);
}

#[test]
fn a_listed_address_that_is_taken_is_replaced_and_told() {
    let list = [known(1, None, Some(address(200)))];
    let mut server = server(&full_config(pool(50, 60)), &list, &Kept::default());
    let owner = |asked| (asked == address(200)).then_some(mac(99));
    let actions = settle_on(&mut server, &Ask::new(DISCOVER, 1).arrives(), START, owner);
    assert_eq!(only(&actions).yiaddr(), [10, 0, 0, 50]);
    let told = warnings(&actions).join("\n");
    assert!(
        told.contains("10.0.0.200, the address of 52:54:00:00:00:01 in the node list"),
        "{told}"
    );
}

#[test]
fn selecting_is_acknowledged_and_told_once() {
    let mut server = small(60);
    settle(&mut server, &Ask::new(DISCOVER, 1).arrives(), START);
    let request = Ask::new(REQUEST, 1)
        .meaning(SERVER)
        .asking([10, 0, 0, 50])
        .arrives();
    let actions = settle(&mut server, &request, START);
    assert_eq!(only(&actions).kind(), ACK);
    let leased = DhcpEvent::Leased {
        mac: mac(1),
        address: address(50),
    };
    assert!(events(&actions).contains(&leased));
    // The ACK was lost.
    let again = settle(&mut server, &request, START);
    assert_eq!(only(&again).kind(), ACK);
    assert!(!events(&again).contains(&leased));
}

#[test]
fn selecting_what_was_not_offered_is_refused_to_everyone_on_the_wire() {
    let mut server = small(60);
    lease(&mut server, 1, START);
    for wrong in [[10, 0, 0, 50], [10, 0, 0, 200], [10, 9, 0, 50], [10, 0, 0, 1]] {
        let request = Ask::new(REQUEST, 2).meaning(SERVER).asking(wrong).arrives();
        let nak = only(&settle(&mut server, &request, START));
        assert_eq!(
            (nak.kind(), nak.yiaddr(), nak.to),
            (NAK, [0; 4], Destination::Broadcast)
        );
        assert_eq!(nak.option(54), Some(vec![10, 0, 0, 1]));
        assert_eq!(nak.option(51), None);
    }
}

#[test]
fn selecting_after_our_restart_is_acknowledged_where_the_address_is_free() {
    let mut server = small(60);
    let request = Ask::new(REQUEST, 1)
        .meaning(SERVER)
        .asking([10, 0, 0, 55])
        .arrives();
    assert_eq!(
        server.handle(&request, START).last(),
        Some(&Action::Probe(address(55))),
        "the wire is asked"
    );
    assert_eq!(only(&server.probed(address(55), None, START)).kind(), ACK);
    let taken = Ask::new(REQUEST, 2)
        .meaning(SERVER)
        .asking([10, 0, 0, 56])
        .arrives();
    let actions = settle_on(&mut server, &taken, START, |_| Some(mac(99)));
    assert_eq!(only(&actions).kind(), NAK);
}

#[test]
fn a_machine_that_takes_another_servers_offer_frees_ours_and_is_told() {
    let mut server = small(50);
    settle(&mut server, &Ask::new(DISCOVER, 1).arrives(), START);
    let request = Ask::new(REQUEST, 1)
        .meaning(address(77))
        .asking([10, 0, 0, 90])
        .arrives();
    let actions = settle(&mut server, &request, START);
    assert_eq!(answers(&actions), []);
    assert!(
        warnings(&actions)[0].starts_with("another DHCP server, 10.0.0.77, "),
        "{actions:?}"
    );
    assert_eq!(lease(&mut server, 2, START), [10, 0, 0, 50]);
}

#[test]
fn init_reboot_is_acknowledged_refused_or_ignored_as_table_4_wants() {
    let mut server = small(60);
    lease(&mut server, 1, START);
    let reboot = |machine, wanted| Ask::new(REQUEST, machine).asking(wanted).arrives();
    let ack = only(&settle(&mut server, &reboot(1, [10, 0, 0, 50]), later(9)));
    assert_eq!(
        (ack.kind(), ack.yiaddr(), ack.field(12)),
        (ACK, [10, 0, 0, 50], [0; 4])
    );
    assert_eq!(
        only(&settle(&mut server, &reboot(1, [10, 0, 0, 51]), later(9))).kind(),
        NAK,
        "not its own"
    );
    assert_eq!(
        only(&settle(&mut server, &reboot(2, [192, 168, 7, 7]), later(9))).kind(),
        NAK,
        "another network"
    );
    assert_eq!(
        answers(&settle(&mut server, &reboot(2, [10, 0, 0, 52]), later(9))),
        [],
        "no record"
    );
}

#[test]
fn an_expired_lease_is_given_again_only_after_a_look_at_the_wire() {
    let mut server = small(60);
    lease(&mut server, 1, START);
    let reboot = Ask::new(REQUEST, 1).asking([10, 0, 0, 50]).arrives();
    let actions = server.handle(&reboot, later(LEASE_SECONDS + 1));
    assert_eq!(actions.last(), Some(&Action::Probe(address(50))));
    assert_eq!(
        only(&server.probed(address(50), Some(mac(99)), later(LEASE_SECONDS + 1))).kind(),
        NAK
    );
}

#[test]
fn renewing_and_rebinding_prolong_what_is_the_machines() {
    let mut server = small(60);
    lease(&mut server, 1, START);
    let using = Ask::new(REQUEST, 1).having([10, 0, 0, 50]);
    let renewed = settle(&mut server, &using.arrives_alone(), later(LEASE_SECONDS / 2));
    assert_eq!(only(&renewed).kind(), ACK);
    assert!(
        !events(&renewed)
            .iter()
            .any(|event| matches!(event, DhcpEvent::Leased { .. }))
    );
    let rebound = settle(&mut server, &using.arrives(), later(LEASE_SECONDS + 100));
    assert_eq!(
        only(&rebound).kind(),
        ACK,
        "renewed at half time, so still its own"
    );

    let thief = Ask::new(REQUEST, 2).having([10, 0, 0, 50]);
    assert_eq!(
        only(&settle(&mut server, &thief.arrives_alone(), later(1))).kind(),
        NAK
    );
    assert_eq!(
        answers(&settle(&mut server, &thief.arrives(), later(1))),
        [],
        "we have no record of it"
    );
    let lost = Ask::new(REQUEST, 3).having([10, 0, 0, 58]).arrives_alone();
    assert_eq!(
        only(&settle(&mut server, &lost, later(1))).kind(),
        ACK,
        "our record was lost, its address is free"
    );
}

#[test]
fn a_machine_that_was_given_a_fixed_address_meanwhile_must_move() {
    let mut before = small(60);
    lease(&mut before, 1, START);
    let kept = before.unsaved(START).unwrap();
    let list = [known(1, None, Some(address(200)))];
    let mut server = server(&full_config(pool(50, 60)), &list, &kept);
    let renewing = Ask::new(REQUEST, 1).having([10, 0, 0, 50]).arrives_alone();
    assert_eq!(only(&settle(&mut server, &renewing, later(1))).kind(), NAK);
    assert_eq!(lease(&mut server, 1, later(2)), [10, 0, 0, 200]);
}

#[test]
fn a_declined_address_is_left_alone_if_the_machine_had_it() {
    let mut server = small(60);
    lease(&mut server, 1, START);
    let decline = |machine| {
        Ask::new(DECLINE, machine)
            .meaning(SERVER)
            .asking([10, 0, 0, 50])
            .arrives()
    };
    assert_eq!(settle(&mut server, &decline(2), START), [], "not its address");
    let actions = settle(&mut server, &decline(1), START);
    assert_eq!(
        warnings(&actions),
        ["52:54:00:00:00:01 found 10.0.0.50 used by another machine: not given to anyone for 10 minutes"]
    );
    assert_eq!(lease(&mut server, 1, START), [10, 0, 0, 51]);
}

#[test]
fn a_released_address_is_free_and_remembered() {
    let mut server = small(51);
    lease(&mut server, 1, START);
    let release = |machine| {
        Ask::new(RELEASE, machine)
            .meaning(SERVER)
            .having([10, 0, 0, 50])
            .arrives_alone()
    };
    settle(&mut server, &release(2), START);
    lease(&mut server, 2, START);
    assert_eq!(
        answers(&settle(&mut server, &Ask::new(DISCOVER, 3).arrives(), START)),
        [],
        "2 cannot release for 1"
    );
    assert_eq!(settle(&mut server, &release(1), START), []);
    assert_eq!(lease(&mut server, 1, later(1)), [10, 0, 0, 50]);
    settle(&mut server, &release(1), later(2));
    assert_eq!(lease(&mut server, 3, later(3)), [10, 0, 0, 50]);
}

#[test]
fn inform_is_answered_without_an_address_or_a_time() {
    let mut server = small(60);
    let ack = only(&settle(
        &mut server,
        &Ask::new(INFORM, 1).having([10, 0, 0, 33]).arrives(),
        START,
    ));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, [0; 4]));
    assert_eq!((ack.option(51), ack.option(58)), (None, None));
    assert_eq!(ack.option(6), Some(vec![10, 0, 0, 253]));
    assert_eq!(ack.to, Destination::Address("10.0.0.33:68".parse().unwrap()));
    let elsewhere = Ask::new(INFORM, 1).having([192, 168, 0, 1]).arrives();
    assert_eq!(answers(&settle(&mut server, &elsewhere, START)), []);
}

#[test]
fn leases_and_quarantines_outlive_the_server() {
    let mut first = small(60);
    lease(&mut first, 1, START);
    lease(&mut first, 2, START);
    settle(
        &mut first,
        &Ask::new(DECLINE, 2)
            .meaning(SERVER)
            .asking([10, 0, 0, 51])
            .arrives(),
        START,
    );
    let kept = first.unsaved(START).unwrap();
    first.set_saved();
    assert_eq!(first.unsaved(START), None);
    let written: Kept = serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap();
    let mut second = server(&full_config(pool(50, 60)), &[], &written);
    let renewing = Ask::new(REQUEST, 1).having([10, 0, 0, 50]).arrives();
    assert_eq!(only(&settle(&mut second, &renewing, later(5))).kind(), ACK);
    assert_eq!(
        lease(&mut second, 3, later(5)),
        [10, 0, 0, 52],
        "51 is in quarantine"
    );
    let mut moved = server(&full_config(pool(150, 160)), &[], &written);
    let renewing = Ask::new(REQUEST, 1).having([10, 0, 0, 50]).arrives();
    assert_eq!(
        only(&settle(&mut moved, &renewing, later(5))).kind(),
        NAK,
        "no longer in the pool"
    );
}
