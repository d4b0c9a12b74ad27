//! Messages that a client receives and sends.

use std::net::Ipv4Addr;

use ka_lab::dhcp::{Ask, DISCOVER, OFFER, Said, card};
use ka_mac::MacAddr;

use crate::{DhcpOption, MessageType, NODE_CLASS, OptionCode, Outgoing, Packet};

const MAC: MacAddr = MacAddr(card(1));

fn reply(kind: u8, options: &[(u8, &[u8])]) -> Ask {
    options
        .iter()
        .fold(Ask::reply(kind, 9, [10, 0, 0, 5]), |reply, (code, data)| {
            reply.with(*code, data)
        })
}

fn read(ask: &Ask) -> Packet {
    Packet::reply(&ask.bytes()).unwrap()
}

#[test]
fn a_discover_has_what_servers_and_relays_look_at() {
    let mut query = Outgoing::question(MessageType::Discover, MAC, 0x0102_0304);
    query.set_secs(7);
    query.push_client_id(MAC);
    query.push(&DhcpOption::ClassIdentifier(NODE_CLASS.as_bytes().to_vec()));
    let bytes = query.encode();
    assert_eq!(bytes.len(), 300);
    assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 7, 0x80, 0]);
    assert_eq!(bytes[12..28], [0; 16]);
    assert_eq!(bytes[28..34], MAC.0);
    assert_eq!(bytes[34..236], [0; 202]);
    assert_eq!(bytes[236..243], [99, 130, 83, 99, 53, 1, 1]);
    assert_eq!(bytes[243..252], [61, 7, 1, 0x52, 0x54, 0, 0, 0, 1]);
    assert_eq!(bytes[252..262], *b"\x3c\x07KA-node\xff");
    assert_eq!(bytes[262..], [0; 38]);
}

#[test]
fn who_has_an_address_is_answered_there() {
    let mut query = Outgoing::question(MessageType::Request, MAC, 1);
    query.set_own([10, 0, 0, 5].into());
    let said = Said {
        bytes: query.encode(),
    };
    assert_eq!(said.field(12), [10, 0, 0, 5]);
    assert_eq!(said.bytes[10..12], [0, 0], "no broadcast flag");
}

#[test]
fn a_question_is_never_longer_than_every_server_takes() {
    let mut query = Outgoing::question(MessageType::Discover, MAC, 1);
    for _ in 0..40 {
        query.push_host_name("a-name-of-some-length");
    }
    assert!(query.encode().len() <= 548);
    assert_eq!(
        Said {
            bytes: query.encode()
        }
        .kind(),
        DISCOVER
    );
}

#[test]
fn a_reply_is_read_with_its_options() {
    let reply = read(&reply(
        OFFER,
        &[
            (3, &[10, 0, 0, 1, 10, 0, 0, 2]),
            (51, &[0, 0, 14, 16]),
            (12, b"node7\0"),
        ],
    ));
    assert_eq!(
        (reply.kind(), reply.xid(), reply.mac()),
        (MessageType::Offer, 9, MAC)
    );
    assert_eq!(reply.yiaddr(), Some(Ipv4Addr::new(10, 0, 0, 5)));
    assert_eq!(
        reply.address(OptionCode::Router),
        Some(Ipv4Addr::new(10, 0, 0, 1))
    );
    assert_eq!(reply.addresses(OptionCode::Router).count(), 2);
    assert_eq!(reply.seconds(OptionCode::AddressLeaseTime), Some(3600));
    assert_eq!(reply.text(OptionCode::Hostname).as_deref(), Some("node7"));
    assert_eq!(reply.address(OptionCode::SubnetMask), None);
}

#[test]
fn options_may_be_in_the_file_and_name_fields_and_in_parts() {
    let mut overloaded = reply(5, &[(52, &[3]), (15, b"exam")]);
    overloaded.header[108..115].copy_from_slice(b"\x0f\x04ple.\xff");
    overloaded.header[44..51].copy_from_slice(&[1, 4, 255, 255, 0, 0, 255]);
    let reply = read(&overloaded);
    assert_eq!(reply.text(OptionCode::DomainName).as_deref(), Some("example."));
    assert_eq!(
        reply.address(OptionCode::SubnetMask),
        Some(Ipv4Addr::new(255, 255, 0, 0))
    );
}

#[test]
fn a_long_option_of_a_server_comes_back_whole() {
    let long: String = "a".repeat(600);
    let mut out = Outgoing::question(MessageType::Discover, MAC, 1);
    out.push_raw(12, &long.as_bytes()[..290]);
    let packet = Packet::request(&out.encode()).unwrap();
    assert_eq!(packet.host_name().as_deref(), Some(&long[..290]), "RFC 3396");
}

#[test]
fn a_malformed_option_costs_nothing_but_itself() {
    let reply = read(&reply(
        OFFER,
        &[(51, &[1, 2]), (54, &[10, 0, 0, 1]), (12, b"\x1b[2J"), (3, &[10])],
    ));
    assert_eq!(reply.seconds(OptionCode::AddressLeaseTime), None);
    assert_eq!(reply.text(OptionCode::Hostname), None);
    assert_eq!(reply.address(OptionCode::Router), None);
    assert_eq!(reply.server_id(), Some(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn a_reply_cut_anywhere_is_refused_or_read_in_part() {
    let whole = reply(OFFER, &[(54, &[10, 0, 0, 1])]).bytes();
    for length in 0..243 {
        assert!(Packet::reply(&whole[..length]).is_err(), "{length} bytes");
    }
    let short = Packet::reply(&whole[..246]).unwrap();
    assert_eq!(short.server_id(), None);
}

#[test]
fn requests_other_hardware_and_other_protocols_are_no_replies() {
    for (place, value) in [(0, 1), (1, 6), (2, 16), (2, 255), (236, 0)] {
        let mut bytes = reply(OFFER, &[]).bytes();
        bytes[place] = value;
        assert!(Packet::reply(&bytes).is_err(), "byte {place} = {value}");
    }
    for kind in [0, 1, 3, 4, 7, 8, 9, 200] {
        assert!(Packet::reply(&reply(kind, &[]).bytes()).is_err(), "kind {kind}");
    }
}
