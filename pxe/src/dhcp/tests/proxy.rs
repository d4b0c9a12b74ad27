//! The proxy beside another server. It answers only firmware, and never gives an address.

use std::sync::Arc;

use super::{
    ACK, Arrives, Ask, DISCOVER, INFORM, OFFER, RELEASE, REQUEST, SERVER, answers, arrival, boot_files,
    events, only, recorded,
};
use crate::dhcp::DhcpEvent;
use crate::dhcp::answer::{Arrival, Destination};
use crate::dhcp::proxy::Proxy;

fn proxy() -> Proxy {
    Proxy::new(SERVER, boot_files())
}

fn at_4011(ask: &Ask) -> Arrival {
    Arrival {
        to_pxe_port: true,
        from: "10.0.0.50:4011".parse().unwrap(),
        ..ask.arrives_alone()
    }
}

fn firmware(kind: u8) -> Ask {
    Ask::new(kind, 1)
        .with(60, b"PXEClient:Arch:00000:UNDI:002001")
        .with(93, &[0, 0])
        .with(97, &[0; 17])
}

#[test]
fn firmware_is_offered_a_file_and_no_address() {
    for (name, file) in [
        ("bios-rom-discover", "BIOS.boot"),
        ("ovmf-pxe-discover", "UEFI-x64.boot"),
        ("ipxe-rom-discover", "script.ipxe"),
        ("ovmf-http-discover", "http://10.0.0.1/shimx64.efi"),
    ] {
        let offer = only(&proxy().handle(&arrival(&recorded(name))));
        assert_eq!((offer.kind(), offer.yiaddr()), (OFFER, [0; 4]), "{name}");
        assert_eq!(
            (offer.file().as_str(), offer.siaddr()),
            (file, [10, 0, 0, 1]),
            "{name}"
        );
        assert_eq!(offer.option(51), None, "{name}");
        assert_eq!(offer.to, Destination::Broadcast, "{name}");
        assert_eq!(offer.option(43).is_some(), !name.contains("http"), "{name}");
    }
}

#[test]
fn everyone_else_is_left_to_the_other_server() {
    for name in ["udhcpc-discover", "dhclient-discover"] {
        let actions = proxy().handle(&arrival(&recorded(name)));
        assert_eq!(answers(&actions), [], "{name}");
        assert!(
            matches!(events(&actions)[..], [DhcpEvent::SeenAgain { .. }]),
            "{actions:?}"
        );
    }
    for kind in [REQUEST, RELEASE, INFORM] {
        assert_eq!(answers(&proxy().handle(&firmware(kind).arrives())), [], "{kind}");
    }
    let silent = Proxy::new(SERVER, Arc::new(|_| None));
    assert_eq!(answers(&silent.handle(&firmware(DISCOVER).arrives())), []);
}

#[test]
fn port_4011_names_the_file_to_who_asks_there() {
    let asked = firmware(REQUEST)
        .having([10, 0, 0, 50])
        .with(43, &[71, 4, 0x80, 0, 0, 0, 255]);
    let ack = only(&proxy().handle(&at_4011(&asked)));
    assert_eq!(
        (ack.kind(), ack.yiaddr(), ack.field(12)),
        (ACK, [0; 4], [10, 0, 0, 50])
    );
    assert_eq!(ack.file(), "BIOS.boot");
    assert_eq!(
        ack.option(43),
        Some(vec![6, 1, 8, 71, 4, 0x80, 0, 0, 0, 255]),
        "the boot item asked for"
    );
    assert_eq!(ack.option(97), Some(vec![0; 17]));
    assert_eq!(ack.to, Destination::Address("10.0.0.50:4011".parse().unwrap()));
}

#[test]
fn port_4011_is_silent_to_systems_and_to_who_means_another_server() {
    assert_eq!(answers(&proxy().handle(&at_4011(&Ask::new(REQUEST, 1)))), []);
    assert_eq!(answers(&proxy().handle(&at_4011(&firmware(DISCOVER)))), []);
    let other = firmware(REQUEST).meaning([10, 0, 0, 99].into());
    assert_eq!(answers(&proxy().handle(&at_4011(&other))), []);
}
