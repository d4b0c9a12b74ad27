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

#[test]
fn files_bound_to_golden_cards_are_freed() {
    let files = Texts::new(&[
        (
            "/etc/NetworkManager/system-connections/lan.nmconnection",
            "[ethernet]\nmac-address=52:54:00:AA:BB:CC\ncloned-mac-address=stable\n",
        ),
        (
            "/etc/sysconfig/network-scripts/ifcfg-eth0",
            "DEVICE=eth0\nHWADDR=\"52:54:00:AA:BB:CC\"\n",
        ),
        (
            "/etc/network/interfaces",
            "iface eth0 inet dhcp\n  hwaddress ether 52:54:00:aa:bb:cc\n",
        ),
        (
            "/etc/systemd/network/10-lan.link",
            "[Match]\nMACAddress=52:54:00:aa:bb:cc\n[Link]\nName=lan0\n",
        ),
        ("/etc/netplan/01.yaml", "      macaddress: 52:54:00:aa:bb:cc\n"),
        ("/etc/sysconfig/network/config", "HOSTNAME=x\n"),
    ]);
    let plan = planned(&files);
    assert_eq!(
        written(&plan, "/etc/NetworkManager/system-connections/lan.nmconnection"),
        "[ethernet]\ncloned-mac-address=stable\n"
    );
    assert_eq!(
        written(&plan, "/etc/sysconfig/network-scripts/ifcfg-eth0"),
        "DEVICE=eth0\n"
    );
    assert_eq!(
        written(&plan, "/etc/network/interfaces"),
        "iface eth0 inet dhcp\n"
    );
    assert_eq!(
        written(&plan, "/etc/systemd/network/10-lan.link"),
        "[Match]\nMACAddress=52:54:00:00:00:07\n[Link]\nName=lan0\n"
    );
    assert_eq!(plan.warnings.len(), 1, "{plan}");
    let two = planned(&files.with(
        "/etc/systemd/network/20-wan.link",
        "[Match]\nMACAddress=52:54:00:aa:bb:cd\n",
    ));
    assert!(
        two.to_string()
            .contains("/etc/systemd/network/10-lan.link removed"),
        "{two}"
    );
}

#[test]
fn red_hats_old_host_name_is_changed_where_it_stands() {
    let files = Texts::new(&[("/etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=golden\n")]);
    assert_eq!(
        written(&planned(&files), "/etc/sysconfig/network"),
        "NETWORKING=yes\nHOSTNAME=\"n7\"\n"
    );
}
