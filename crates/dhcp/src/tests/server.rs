//! Messages that a server receives and sends.

use std::net::Ipv4Addr;

use dhcproto::Decodable as _;
use dhcproto::v4::Message;
use ka_lab::dhcp::{ACK, Ask, DISCOVER, RECORDED, Said, recorded};

use crate::{BadPacket, DhcpOption, MessageType, OptionCode, Outgoing, Packet, sub_option};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn said(out: &Outgoing) -> Said {
    Said { bytes: out.encode() }
}

fn read(ask: &Ask) -> Packet {
    Packet::request(&ask.bytes()).unwrap()
}

/// If one of these checks fails, a part of the wrapper is no longer needed.
#[test]
fn dhcproto_alone_does_what_the_wrapper_is_there_for() {
    let mut long = Ask::new(DISCOVER, 1);
    long.header[2] = 17;
    let message = Message::from_bytes(&long.bytes()).unwrap();
    let panicked = std::panic::catch_unwind(|| message.chaddr().len());
    assert!(panicked.is_err(), "hlen 17");

    let mut vendor = Ask::new(DISCOVER, 1);
    vendor.header[236] = 0;
    assert!(Message::from_bytes(&vendor.bytes()).is_ok(), "wrong magic");

    // A host name that is not UTF-8, then a vendor class.
    let malformed = Ask::new(DISCOVER, 1).with(12, &[0xff]).with(60, b"PXEClient");
    let message = Message::from_bytes(&malformed.bytes()).unwrap();
    assert_eq!(message.opts().get(OptionCode::ClassIdentifier), None);
}

#[test]
fn a_malformed_option_takes_no_other_with_it() {
    for (code, data) in [
        (12, &[0xff][..]),
        (50, &[10, 0, 0]),
        (57, &[1]),
        (81, &[1]),
        (82, &[1, 200]),
        (93, &[0]),
        (94, &[1]),
        (97, &[0, 1]),
        (121, &[33]),
        (151, &[]),
    ] {
        let packet = read(&Ask::new(DISCOVER, 1).with(code, data).with(60, b"PXEClient"));
        assert_eq!(
            packet.vendor_class().as_deref(),
            Some("PXEClient"),
            "option {code}"
        );
        assert_eq!(packet.requested(), None);
        assert!(packet.architectures().is_empty());
        assert_eq!(packet.machine_id(), None);
    }
}

#[test]
fn what_is_no_packet_of_an_ethernet_card_is_refused() {
    let with = |change: &dyn Fn(&mut Ask)| {
        let mut ask = Ask::new(DISCOVER, 1);
        change(&mut ask);
        Packet::request(&ask.bytes()).unwrap_err()
    };
    for length in (0..=255).filter(|length| *length != 6) {
        assert_eq!(
            with(&|ask| ask.header[2] = length),
            BadPacket::Hardware,
            "hlen {length}"
        );
    }
    assert_eq!(with(&|ask| ask.header[1] = 32), BadPacket::Hardware);
    assert_eq!(with(&|ask| ask.header[28] = 1), BadPacket::Hardware);
    assert_eq!(with(&|ask| ask.header[28..34].fill(0)), BadPacket::Hardware);
    assert_eq!(with(&|ask| ask.header[239] = 0), BadPacket::Magic);
    assert_eq!(with(&|ask| ask.header[0] = 2), BadPacket::Direction);
    assert_eq!(with(&|ask| ask.options.clear()), BadPacket::Kind);
    assert_eq!(with(&|ask| ask.options = vec![53, 2, 1, 1]), BadPacket::Kind);
    assert_eq!(
        Packet::reply(&Ask::new(DISCOVER, 1).bytes()),
        Err(BadPacket::Direction)
    );
}

#[test]
fn every_recorded_packet_can_be_cut_off_anywhere() {
    for name in RECORDED {
        let bytes = recorded(name);
        assert_eq!(
            Packet::request(&bytes).unwrap().kind(),
            MessageType::Discover,
            "{name}"
        );
        for length in 0..bytes.len() {
            match Packet::request(&bytes[..length]) {
                Ok(packet) => assert!(
                    length > 240 && packet.kind() == MessageType::Discover,
                    "{name} {length}"
                ),
                Err(err) => assert!(err == BadPacket::Short || length >= 240, "{name} {length}: {err}"),
            }
        }
    }
}

#[test]
fn split_options_are_joined_and_fields_can_hold_options() {
    let split = read(&Ask::new(DISCOVER, 1).with(60, b"PXE").with(60, b"Client"));
    assert_eq!(split.vendor_class().as_deref(), Some("PXEClient"));

    let mut overloaded = Ask::new(DISCOVER, 1).with(52, &[3]);
    overloaded.header[108..119].copy_from_slice(b"\x3c\x09PXEClient");
    overloaded.header[44..51].copy_from_slice(&[50, 4, 10, 0, 0, 9, 255]);
    let packet = read(&overloaded);
    assert_eq!(packet.vendor_class().as_deref(), Some("PXEClient"));
    assert_eq!(packet.requested(), Some([10, 0, 0, 9].into()));

    overloaded.options = vec![53, 1, DISCOVER, 52, 1, 1];
    assert_eq!(read(&overloaded).requested(), None, "sname is not overloaded");
}

#[test]
fn all_architectures_are_read_and_ipxe_is_known_in_each_form() {
    let list = read(&Ask::new(DISCOVER, 1).with(93, &[0, 7, 0, 16]));
    assert_eq!(list.architectures(), [7, 16]);
    for class in [&b"iPXE"[..], b"\x04iPXE", b"gPXE"] {
        assert!(read(&Ask::new(DISCOVER, 1).with(77, class)).is_ipxe());
    }
    assert!(read(&Ask::new(DISCOVER, 1).with(175, &[1, 1, 1])).is_ipxe());
    assert!(!read(&Ask::new(DISCOVER, 1).with(77, b"\x05iPXE!")).is_ipxe());
}

#[test]
fn a_vendor_class_of_any_bytes_is_one_line() {
    let class = read(&Ask::new(DISCOVER, 1).with(60, b"PXE\nClient\xff\x1b[2J\0")).vendor_class();
    assert_eq!(class.as_deref(), Some("PXE?Client\u{fffd}?[2J"));
}

#[test]
fn an_answer_is_300_bytes_at_least_with_its_type_first_and_the_relay_last() {
    let request = read(&Ask::new(DISCOVER, 1).with(82, &[1, 2, 3, 4]).with(61, &[1, 2, 3]));
    let mut out = Outgoing::answer(&request, MessageType::Ack, SERVER);
    out.push(&DhcpOption::ClientMachineIdentifier(vec![0; 17]));
    let answer = said(&out);
    assert_eq!(answer.bytes.len(), 300);
    assert_eq!(answer.bytes[..4], [2, 1, 6, 0]);
    assert_eq!(answer.bytes[4..8], [0xca, 0xfe, 0, 1]);
    let codes: Vec<u8> = answer.options().iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 54, 61, 97, 82]);
    assert_eq!(answer.kind(), ACK);
    assert_eq!(answer.option(82).unwrap(), [1, 2, 3, 4]);
}

#[test]
fn an_answer_is_never_longer_than_the_client_takes() {
    for (asked, limit) in [
        (None, 548),
        (Some(0_u16), 548),
        (Some(600), 572),
        (Some(65_535), 1472),
    ] {
        let mut ask = Ask::new(DISCOVER, 1).with(82, &[9; 200]);
        if let Some(size) = asked {
            ask = ask.with(57, &size.to_be_bytes());
        }
        let mut out = Outgoing::answer(&read(&ask), MessageType::Offer, SERVER);
        for _ in 0..40 {
            out.push(&DhcpOption::DomainName(
                "a-domain-of-some-length.example".to_owned(),
            ));
        }
        let answer = said(&out);
        assert!(answer.bytes.len() <= limit, "{} > {limit}", answer.bytes.len());
        assert!(
            answer.bytes.len() + 40 > limit,
            "room is used: {}",
            answer.bytes.len()
        );
        assert_eq!(answer.option(82).unwrap().len(), 200);
        assert_eq!(answer.kind(), 2);
    }
}

#[test]
fn sub_options_that_are_cut_off_are_none() {
    assert_eq!(
        sub_option(&[6, 1, 8, 71, 4, 0, 1, 0, 0, 255], 71),
        Some(&[0, 1, 0, 0][..])
    );
    assert_eq!(sub_option(&[0, 0, 6, 1, 8], 6), Some(&[8][..]));
    assert_eq!(sub_option(&[255, 6, 1, 8], 6), None);
    assert_eq!(sub_option(&[6, 2, 8], 6), None);
    assert_eq!(sub_option(&[6], 6), None);
}
