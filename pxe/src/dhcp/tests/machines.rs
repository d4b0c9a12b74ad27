//! Recorded firmware: the facts read from its packets, and the boot file that it gets.

use super::{Arrives, Ask, DISCOVER, arrival, events, known, only, recorded, settle, small};
use crate::dhcp::DhcpEvent;
use crate::dhcp::answer::{Action, Destination};
use crate::dhcp::lease::Kept;
use crate::dhcp::vendor::Client;
use crate::machine::{Arch, Machine, Stage};
use ka_dhcp::{NODE_CLASS, Packet};

fn machine(name: &str) -> Machine {
    match Client::of(&Packet::request(&recorded(name)).unwrap()) {
        Client::Boot(machine) => machine,
        other => panic!("{name} is {other:?}"),
    }
}

fn asks(ask: &Ask) -> Client {
    Client::of(&ask.arrives().packet)
}

#[test]
fn recorded_firmware_is_understood() {
    let bios = machine("bios-rom-discover");
    assert_eq!((bios.arch, bios.stage()), (Arch::Bios, Stage::Firmware));
    assert_eq!(bios.mac.to_string(), "00:1b:21:12:34:56");
    assert_eq!(bios.uuid.unwrap()[..4], *b"DELL");
    let ipxe = machine("ipxe-rom-discover");
    assert_eq!((ipxe.arch, ipxe.stage()), (Arch::Bios, Stage::Ipxe));
    let uefi = machine("ovmf-pxe-discover");
    assert_eq!((uefi.arch, uefi.stage()), (Arch::EfiX64, Stage::Firmware));
    assert_eq!(
        uefi.vendor_class.as_deref(),
        Some("PXEClient:Arch:00007:UNDI:003000")
    );
    let http = machine("ovmf-http-discover");
    assert_eq!((http.arch, http.stage()), (Arch::EfiX64, Stage::HttpFirmware));
}

#[test]
fn systems_and_our_own_node_are_no_firmware() {
    let of = |name| Client::of(&Packet::request(&recorded(name)).unwrap());
    assert_eq!(
        of("udhcpc-discover"),
        Client::System(Some("udhcp 1.35.0".to_owned()))
    );
    assert_eq!(of("dhclient-discover"), Client::System(None));
    assert_eq!(
        asks(&Ask::new(DISCOVER, 1).with(60, NODE_CLASS.as_bytes())),
        Client::Node
    );
    assert_eq!(
        asks(&Ask::new(DISCOVER, 1).with(60, b"KA-nodes")),
        Client::System(Some("KA-nodes".to_owned()))
    );
}

#[test]
fn the_first_known_architecture_of_a_list_decides() {
    let arch = |ask: Ask| match asks(&ask.with(60, b"PXEClient:Arch:00011:UNDI:003000")) {
        Client::Boot(machine) => (machine.arch, machine.http),
        other => panic!("{other:?}"),
    };
    let ask = || Ask::new(DISCOVER, 1);
    assert_eq!(arch(ask().with(93, &[0, 41, 0, 11])), (Arch::EfiArm64, false));
    assert_eq!(arch(ask().with(93, &[0, 41])), (Arch::Other(41), false));
    assert_eq!(
        arch(ask()),
        (Arch::EfiArm64, false),
        "the class tells where option 93 is missing"
    );
    assert_eq!(arch(ask().with(93, &[0, 19])), (Arch::EfiArm64, true));
}

#[test]
fn what_is_seen_is_told_of_each_kind_of_client() {
    let mut server = small(60);
    let mut told = |bytes: &[u8]| events(&settle(&mut server, &arrival(bytes), super::START));
    let bios = machine("bios-rom-discover");
    assert_eq!(told(&recorded("bios-rom-discover")), [DhcpEvent::Asked(bios)]);
    let system = DhcpEvent::SeenAgain {
        mac: "52:54:00:12:34:56".parse().unwrap(),
        vendor_class: Some("udhcp 1.35.0".to_owned()),
        host_name: None,
    };
    assert_eq!(told(&recorded("udhcpc-discover")), [system]);
    assert_eq!(
        told(&Ask::new(DISCOVER, 1).with(60, NODE_CLASS.as_bytes()).bytes()),
        []
    );
}

#[test]
fn a_bios_rom_is_told_its_file_in_the_header_and_in_the_options_it_asks_for() {
    let offer = only(&settle(
        &mut small(60),
        &arrival(&recorded("bios-rom-discover")),
        super::START,
    ));
    assert_eq!(
        (offer.file().as_str(), offer.siaddr()),
        ("BIOS.boot", [10, 0, 0, 1])
    );
    assert_eq!(offer.option(67), Some(b"BIOS.boot\0".to_vec()));
    assert_eq!(offer.option(66), Some(b"10.0.0.1\0".to_vec()));
    assert_eq!(offer.option(60), Some(b"PXEClient".to_vec()));
    assert_eq!(offer.option(43), Some(vec![6, 1, 8, 255]));
    assert_eq!(offer.option(97).unwrap()[..5], *b"\0DELL");
    assert_eq!(offer.to, Destination::Broadcast);
    assert!(offer.bytes.len() <= 548);
}

#[test]
fn ipxe_gets_the_script_and_does_not_wait_for_a_proxy() {
    let offer = only(&settle(
        &mut small(60),
        &arrival(&recorded("ipxe-rom-discover")),
        super::START,
    ));
    assert_eq!(offer.file(), "script.ipxe");
    assert_eq!(offer.option(175), Some(vec![176, 1, 1]));
}

#[test]
fn http_boot_gets_a_url_and_its_own_class() {
    let offer = only(&settle(
        &mut small(60),
        &arrival(&recorded("ovmf-http-discover")),
        super::START,
    ));
    assert_eq!(offer.file(), "http://10.0.0.1/shimx64.efi");
    assert_eq!(offer.option(60), Some(b"HTTPClient".to_vec()));
    assert_eq!(offer.option(43), None);
}

#[test]
fn a_name_too_long_for_the_header_stands_in_the_options_alone() {
    let url = format!("http://10.0.0.1/{}", "x".repeat(150));
    let named = url.clone();
    let config = super::full_config(super::pool(50, 60));
    let dhcp = super::DhcpConfig {
        iface: "eth0".to_owned(),
        mode: super::DhcpMode::Full(config.clone()),
        known: vec![known(1, None, None)],
        state_dir: "/nowhere".into(),
    };
    let boot = std::sync::Arc::new(move |_: &Machine| Some(named.clone()));
    let mut server = super::Full::new(super::own(), &dhcp, &config, &Kept::default(), boot);
    let ask = Ask::new(DISCOVER, 1).with(60, b"PXEClient").arrives();
    let offer = only(&settle(&mut server, &ask, super::START));
    assert_eq!(offer.file(), "");
    assert_eq!(offer.option(67), Some([url.as_bytes(), b"\0"].concat()));
}

#[test]
fn a_machine_without_a_boot_file_gets_its_address_all_the_same() {
    let config = super::full_config(super::pool(50, 60));
    let dhcp = super::DhcpConfig {
        iface: "eth0".to_owned(),
        mode: super::DhcpMode::Full(config.clone()),
        known: Vec::new(),
        state_dir: "/nowhere".into(),
    };
    let mut server = super::Full::new(
        super::own(),
        &dhcp,
        &config,
        &Kept::default(),
        std::sync::Arc::new(|_| None),
    );
    let offer = only(&settle(
        &mut server,
        &arrival(&recorded("ovmf-pxe-discover")),
        super::START,
    ));
    assert_eq!(
        (offer.yiaddr(), offer.file().as_str(), offer.siaddr()),
        ([10, 0, 0, 50], "", [0; 4])
    );
    assert_eq!(offer.option(60), None);
}

#[test]
fn port_4011_answers_in_full_mode_too() {
    let mut server = small(60);
    let mut asked = Ask::new(super::REQUEST, 1)
        .having([10, 0, 0, 50])
        .with(60, b"PXEClient:Arch:00007:UNDI:003000")
        .arrives_alone();
    asked.to_pxe_port = true;
    asked.from = "10.0.0.50:4011".parse().unwrap();
    let actions = server.handle(&asked, super::START);
    assert!(matches!(actions[..], [Action::Send(..)]), "{actions:?}");
    assert_eq!(only(&actions).to, Destination::Address(asked.from));
}

#[test]
fn a_systems_name_is_taken_from_either_option_and_in_either_form() {
    let mut server = small(60);
    let mut named = |ask: Ask| match &events(&settle(&mut server, &arrival(&ask.bytes()), super::START))[..] {
        [DhcpEvent::SeenAgain { host_name, .. }, ..] => host_name.clone(),
        other => panic!("{other:?}"),
    };
    let ask = || Ask::new(DISCOVER, 1).with(60, b"dhcpcd");
    assert_eq!(named(ask()), None);
    assert_eq!(named(ask().with(12, b"n1")).as_deref(), Some("n1"));
    assert_eq!(named(ask().with(81, b"\0\0\0n1.lab.")).as_deref(), Some("n1.lab"));
    assert_eq!(
        named(ask().with(81, b"\x04\0\0\x02n1\x03lab\0")).as_deref(),
        Some("n1.lab")
    );
    assert_eq!(
        named(ask().with(81, b"\x04\0\0\x3fn1")),
        None,
        "a label that is cut short"
    );
    assert_eq!(named(ask().with(81, b"\x04")), None);
}
