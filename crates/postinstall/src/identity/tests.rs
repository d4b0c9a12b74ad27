//! Debian, Red Hat and Arch as they look after years of use.

use super::*;
use crate::facts::tests::facts;
use crate::files::fixture::Texts;
use crate::plan::fixture::written;

fn planned(files: &Texts) -> Plan {
    let mut next = 0u128;
    let mut fresh = || {
        next += 1;
        Uuid::from_u128(next << 100 | next)
    };
    plan(files, &facts(), &mut fresh).unwrap()
}

fn debian() -> Texts {
    Texts::new(&[
        ("/etc/hostname", "golden\n"),
        ("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 golden\n"),
        ("/etc/machine-id", "00112233445566778899aabbccddeeff\n"),
        ("/var/lib/dbus/machine-id", "-> /etc/machine-id"),
        ("/etc/ssh/ssh_host_rsa_key", "secret"),
        ("/etc/ssh/ssh_host_rsa_key.pub", "public"),
        ("/etc/ssh/ssh_host_ed25519_key", "secret"),
        ("/etc/ssh/ssh_host_ed25519_key.pub", "public"),
        ("/etc/ssh/sshd_config", ""),
        ("/usr/bin/ssh-keygen", ""),
        ("/var/lib/dhcp/dhclient.eth0.leases", "lease"),
        ("/etc/udev/rules.d/70-persistent-net.rules", "rule"),
        ("/etc/udev/rules.d/80-mine.rules", "rule"),
        ("/var/lib/systemd/random-seed", "seed"),
        (
            "/etc/iscsi/initiatorname.iscsi",
            "## mine\nInitiatorName=iqn.1993-08.org.debian:01:5e6f7a8b9c0d\n",
        ),
    ])
}

#[test]
fn debian_gets_its_own_names_ids_and_keys() {
    let plan = planned(&debian());
    assert_eq!(written(&plan, "/etc/hostname"), "n7\n");
    assert_eq!(
        written(&plan, "/etc/hosts"),
        "127.0.0.1 localhost\n127.0.1.1 n7\n"
    );
    assert_eq!(
        written(&plan, "/etc/machine-id"),
        format!("{}\n", Uuid::from_u128(1 << 100 | 1).simple())
    );
    assert!(
        written(&plan, "/etc/iscsi/initiatorname.iscsi")
            .starts_with("## mine\nInitiatorName=iqn.1993-08.org.debian:01:0000")
    );
    let text = plan.to_string();
    for gone in [
        "/etc/ssh/ssh_host_rsa_key removed",
        "/etc/ssh/ssh_host_rsa_key.pub removed",
        "/var/lib/dhcp/dhclient.eth0.leases removed",
        "/etc/udev/rules.d/70-persistent-net.rules removed",
        "/var/lib/systemd/random-seed removed",
    ] {
        assert!(text.contains(gone), "{gone}:\n{text}");
    }
    assert!(
        text.contains("ssh-keygen -q -t ed25519 -N  -C root@n7 -f /etc/ssh/ssh_host_ed25519_key"),
        "{text}"
    );
    assert!(text.contains("-t rsa "), "{text}");
    for stays in ["80-mine", "sshd_config", "/var/lib/dbus/machine-id"] {
        assert!(!text.contains(stays), "{stays}:\n{text}");
    }
}

#[test]
fn two_clones_differ_in_everything_random() {
    let of = |seed: u128| {
        let mut next = seed;
        let mut fresh = || {
            next += 1;
            Uuid::from_u128(next << 64)
        };
        plan(&debian(), &facts(), &mut fresh).unwrap()
    };
    for file in ["/etc/machine-id", "/etc/iscsi/initiatorname.iscsi"] {
        let of = |seed: u128| written(&of(seed << 60), file);
        assert_ne!(of(1), of(2), "{file}");
    }
}

#[test]
fn keep_identity_changes_nothing() {
    let mut facts = facts();
    facts.boot.keep_identity = true;
    assert!(plan(&debian(), &facts, &mut Uuid::new_v4).unwrap().is_empty());
    assert!(planned(&Texts::default()).is_empty());
}

#[test]
fn an_old_d_bus_id_of_its_own_is_the_same_as_systemds() {
    let plan = planned(&debian().with("/var/lib/dbus/machine-id", "00112233445566778899aabbccddeeff\n"));
    assert_eq!(
        written(&plan, "/etc/machine-id"),
        written(&plan, "/var/lib/dbus/machine-id")
    );
}

#[test]
fn boot_entries_named_for_the_golden_machine_id_keep_their_token() {
    let files = debian().with(
        "/boot/loader/entries/00112233445566778899aabbccddeeff-6.1.conf",
        "title x\n",
    );
    let plan = planned(&files);
    assert_eq!(
        written(&plan, "/etc/kernel/entry-token"),
        "00112233445566778899aabbccddeeff\n"
    );
}

#[test]
fn a_command_line_does_not_give_a_clone_the_golden_machine_id_back() {
    // As kernel-install of Debian 12 writes it.
    let entry = "/boot/efi/loader/entries/00112233445566778899aabbccddeeff-6.1.conf";
    let files = debian().with(
        entry,
        "machine-id 00112233445566778899aabbccddeeff\n\
         options    root=UUID=x systemd.machine_id=00112233445566778899aabbccddeeff\n\
         linux      /00112233445566778899aabbccddeeff/6.1/linux\n",
    );
    let plan = planned(&files);
    let id = written(&plan, "/etc/machine-id");
    let id = id.trim();
    assert_eq!(
        written(&plan, entry),
        format!(
            "machine-id {id}\noptions    root=UUID=x systemd.machine_id={id}\n\
             linux      /00112233445566778899aabbccddeeff/6.1/linux\n"
        )
    );
}

const CARD: &str = "52:54:00:00:00:07";

/// Each system's way to bind to the golden node's one card, and what a clone has there.
const BOUND: [(&str, &str, &str); 12] = [
    (
        "/etc/NetworkManager/system-connections/lan.nmconnection",
        "[ethernet]\nmac-address=52:54:00:AA:BB:CC\ncloned-mac-address=stable\n",
        "[ethernet]\nmac-address=52:54:00:00:00:07\ncloned-mac-address=stable\n",
    ),
    (
        "/etc/sysconfig/network-scripts/ifcfg-eth0",
        "DEVICE=eth0\nHWADDR=\"52:54:00:AA:BB:CC\"\nMACADDR=52:54:00:AA:BB:CC\n",
        "DEVICE=eth0\nHWADDR=\"52:54:00:00:00:07\"\n",
    ),
    (
        "/etc/network/interfaces",
        "iface eth0 inet dhcp\n  hwaddress ether 52:54:00:aa:bb:cc\n  map 52:54:00:aa:bb:cc lan\n",
        "iface eth0 inet dhcp\n  map 52:54:00:00:00:07 lan\n",
    ),
    (
        "/etc/systemd/network/10-lan.link",
        "[Match]\nMACAddress=52:54:00:aa:bb:cc\n[Link]\nName=lan0\nMACAddress=52:54:00:aa:bb:cc\n",
        "[Match]\nMACAddress=52:54:00:00:00:07\n[Link]\nName=lan0\n",
    ),
    (
        "/etc/systemd/network/20-lan.network",
        "[Match]\nPermanentMACAddress=52-54-00-aa-bb-cc\n[Network]\nDHCP=yes\n[DHCPServerStaticLease]\nMACAddress=52:54:00:11:11:11\n",
        "[Match]\nPermanentMACAddress=52-54-00-00-00-07\n[Network]\nDHCP=yes\n[DHCPServerStaticLease]\nMACAddress=52:54:00:11:11:11\n",
    ),
    (
        "/etc/netplan/01.yaml",
        "    ens3:\n      match: {macaddress: '52:54:00:aa:bb:cc'}\n      macaddress: 52:54:00:aa:bb:cc\n",
        "    ens3:\n      match: {macaddress: '52:54:00:00:00:07'}\n",
    ),
    (
        "/etc/netplan/02.yaml",
        "    ens3:\n      match:\n        macaddress: 52:54:00:aa:bb:cc\n      set-name: ens3\n",
        "    ens3:\n      match:\n        macaddress: 52:54:00:00:00:07\n      set-name: ens3\n",
    ),
    (
        "/etc/udev/rules.d/70-persistent-net.rules",
        "SUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:aa:bb:cc\", NAME=\"eth0\"\n",
        "SUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:00:00:07\", NAME=\"eth0\"\n",
    ),
    (
        "/etc/iftab",
        "eth0 mac 52:54:00:aa:bb:cc\n",
        "eth0 mac 52:54:00:00:00:07\n",
    ),
    (
        "/etc/default/grub",
        "GRUB_CMDLINE_LINUX=\"ifname=lan0:52:54:00:aa:bb:cc quiet\"\n",
        "GRUB_CMDLINE_LINUX=\"ifname=lan0:52:54:00:00:00:07 quiet\"\n",
    ),
    (
        "/etc/conf.d/net",
        "mac_eth0=\"52:54:00:aa:bb:cc\"\nconfig_eth0=\"dhcp\"\n",
        "config_eth0=\"dhcp\"\n",
    ),
    (
        "/etc/NetworkManager/conf.d/10.conf",
        "[device-lan]\nmatch-device=mac:52:54:00:aa:bb:cc\n",
        "[device-lan]\nmatch-device=mac:52:54:00:00:00:07\n",
    ),
];

#[test]
fn what_binds_to_the_golden_nodes_one_card_binds_to_the_clones_and_what_sets_its_address_goes() {
    let files: Vec<(&str, &str)> = BOUND.iter().map(|(path, old, _)| (*path, *old)).collect();
    let files = Texts::new(&files);
    let plan = planned(&files);
    for (path, _, new) in BOUND {
        assert_eq!(written(&plan, path), new, "{path}");
    }
    assert_eq!(plan.warnings, Vec::<String>::new());
    for (path, old, new) in BOUND {
        let alone = Texts::new(&[("/etc/hostname", "golden\n"), (path, old)]);
        assert_eq!(written(&planned(&alone), path), new, "{path}");
    }
}

#[test]
fn with_several_cards_a_match_never_becomes_empty_and_is_named() {
    let two = Texts::new(&[
        (
            "/etc/systemd/network/10-lan.link",
            "[Match]\nMACAddress=52:54:00:aa:bb:cc\n[Link]\nName=lan0\n",
        ),
        (
            "/etc/systemd/network/20-wan.link",
            "[Match]\nMACAddress=52:54:00:aa:bb:cd\n[Link]\nName=wan0\n",
        ),
        (
            "/etc/sysconfig/network-scripts/ifcfg-eth0",
            "DEVICE=eth0\nHWADDR=52:54:00:aa:bb:cc\n",
        ),
        (
            "/etc/udev/rules.d/70-persistent-net.rules",
            "ATTR{address}==\"52:54:00:aa:bb:cc\"\nATTR{address}==\"52:54:00:aa:bb:cd\"\n",
        ),
    ]);
    let plan = planned(&two);
    let text = plan.to_string();
    for wanted in [
        "warning: /etc/systemd/network/10-lan.link:2: MACAddress=52:54:00:aa:bb:cc names a card of the golden node",
        "warning: /etc/systemd/network/20-wan.link:2: ",
        "/etc/udev/rules.d/70-persistent-net.rules removed",
    ] {
        assert!(text.contains(wanted), "{wanted}:\n{text}");
    }
    assert_eq!(
        written(&plan, "/etc/sysconfig/network-scripts/ifcfg-eth0"),
        "DEVICE=eth0\n"
    );
    // One match with several addresses is one card's.
    let path = "/etc/systemd/network/10-lan.network";
    let both = Texts::new(&[(
        path,
        "[Match]\nPermanentMACAddress=52:54:00:aa:bb:cc 52:54:00:aa:bb:cd\n[Network]\n",
    )]);
    assert_eq!(
        written(&planned(&both), path),
        format!("[Match]\nPermanentMACAddress={CARD}\n[Network]\n")
    );
}

#[test]
fn a_card_that_the_golden_node_does_not_have_is_not_the_clones() {
    let path = "/etc/systemd/network/10-old.link";
    let files = Texts::new(&[(path, "[Match]\nMACAddress=52:54:00:dd:dd:dd\n[Link]\nName=old0\n")]);
    let mut facts = facts();
    facts.boot.golden_cards = vec!["52:54:00:aa:bb:cc".to_owned()];
    let text = plan(&files, &facts, &mut Uuid::new_v4).unwrap().to_string();
    assert!(
        text.contains("10-old.link:2") && text.contains("does not have") && !text.contains("becomes"),
        "{text}"
    );
}

#[test]
fn dhcp_knows_the_clone_as_another_machine() {
    let files = Texts::new(&[
        ("/var/lib/dhcp/dhclient6.eth0.leases", "default-duid"),
        ("/var/lib/dhcpcd/eth0.lease6", "x"),
        ("/var/lib/dhcpcd/duid", "00:01:00:01:2c:aa"),
        ("/var/lib/dhcpcd/note", "x"),
        ("/var/lib/wicked/duid.xml", "x"),
        ("/var/lib/NetworkManager/timestamps", "x"),
        ("/var/lib/NetworkManager/NetworkManager.state", "x"),
        ("/etc/hostid", "1234"),
        (
            "/etc/dhcp/dhclient.conf",
            "send dhcp-client-identifier 1:52:54:0:aa:bb:cc;\nrequest subnet-mask;\n",
        ),
        ("/etc/dhcpcd.conf", "clientid 01:52:54:00:aa:bb:cc\nduid\n"),
        (
            "/etc/systemd/networkd.conf.d/10.conf",
            "[DHCPv6]\nDUIDType=vendor\nDUIDRawData=00:00:ab:11\n",
        ),
        (
            "/etc/network/interfaces",
            "iface e inet dhcp\n  client golden-id\n",
        ),
        ("/etc/samba/smb.conf", "[global]\n"),
        ("/etc/krb5.keytab", "keys"),
    ]);
    let plan = planned(&files);
    let text = plan.to_string();
    for gone in [
        "/var/lib/dhcp/dhclient6.eth0.leases",
        "/var/lib/dhcpcd/eth0.lease6",
        "/var/lib/dhcpcd/duid",
        "/var/lib/wicked/duid.xml",
        "/var/lib/NetworkManager/timestamps",
    ] {
        assert!(text.contains(&format!("{gone} removed")), "{gone}:\n{text}");
    }
    for stays in ["/var/lib/dhcpcd/note", "NetworkManager.state"] {
        assert!(!text.contains(stays), "{stays}:\n{text}");
    }
    assert_eq!(
        written(&plan, "/etc/dhcp/dhclient.conf"),
        "request subnet-mask;\n"
    );
    assert_eq!(written(&plan, "/etc/dhcpcd.conf"), "clientid\nduid\n");
    assert_eq!(
        written(&plan, "/etc/systemd/networkd.conf.d/10.conf"),
        "[DHCPv6]\nDUIDType=vendor\n"
    );
    assert_eq!(written(&plan, "/etc/network/interfaces"), "iface e inet dhcp\n");
    assert_ne!(written(&plan, "/etc/hostid"), "1234");
    assert!(text.contains("warning: /etc/krb5.keytab: "), "{text}");
}

#[test]
fn connections_get_ids_of_their_own_and_still_know_each_other() {
    const OLD: &str = "0e4f1a5e-3f5c-4b0a-9d1e-6a2b7c8d9e0f";
    let dir = "/etc/NetworkManager/system-connections";
    let bond = format!("[connection]\nid=bond0\nuuid={OLD}\n");
    let port = format!("[connection]\nid=port\nmaster={OLD}\n");
    let files = Texts::new(&[])
        .with(&format!("{dir}/bond0.nmconnection"), &bond)
        .with(&format!("{dir}/port.nmconnection"), &port)
        .with(
            "/etc/netplan/01.yaml",
            "      addresses: [10.0.0.5/24, 127.0.0.1/8]\n",
        );
    let plan = planned(&files);
    let new = written(&plan, &format!("{dir}/bond0.nmconnection"));
    let id = new.split("uuid=").nth(1).unwrap().trim();
    assert_ne!(id, OLD);
    assert_eq!(
        written(&plan, &format!("{dir}/port.nmconnection")),
        port.replace(OLD, id)
    );
    let text = plan.to_string();
    assert!(
        text.contains("/etc/netplan/01.yaml:1: 10.0.0.5 is the golden node's own fixed address"),
        "{text}"
    );
}

#[test]
fn bytes_that_are_no_text_go_back_as_they_came() {
    let mut files = Texts::default();
    files.0.insert(
        "/etc/hosts".to_owned(),
        b"127.0.1.1 golden # M\xfcnchen\n".to_vec(),
    );
    let plan = planned(&files.with("/etc/hostname", "golden\n"));
    let bytes = plan.actions.iter().find_map(|action| match action {
        crate::plan::Action::Write { path, bytes, .. } if path == "/etc/hosts" => Some(bytes.clone()),
        _ => None,
    });
    assert_eq!(bytes.unwrap(), b"127.0.1.1 n7 # M\xfcnchen\n");
}

#[test]
fn what_the_golden_node_is_known_by_is_told_for_the_last_look() {
    let files = Texts::new(&[
        ("/etc/iftab", "eth0 mac 52:54:00:AA:BB:CC\n"),
        ("/etc/ssh/ssh_host_rsa_key", "x"),
        ("/etc/ssh/ssh_host_rsa_key.pub", "ssh-rsa AAAAB3Nza root@golden\n"),
        ("/etc/dhcpcd.duid", "00:01:00:01:2c:aa:bb:cc\n"),
    ]);
    let names = known_by(&files, &facts()).unwrap();
    for (class, name) in [
        ("MAC address", "52:54:00:aa:bb:cc"),
        ("MAC address", "52-54-00-aa-bb-cc"),
        ("SSH host key", "AAAAB3Nza"),
        ("DUID", "00:01:00:01:2c:aa:bb:cc"),
    ] {
        assert!(names.contains(&(class, name.to_owned())), "{name}: {names:?}");
    }
}

#[test]
fn red_hats_old_host_name_is_changed_where_it_stands() {
    let files = Texts::new(&[("/etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=golden\n")]);
    assert_eq!(
        written(&planned(&files), "/etc/sysconfig/network"),
        "NETWORKING=yes\nHOSTNAME=\"n7\"\n"
    );
}
