//! Names of the golden node that no other step has translated.

use super::*;
use crate::facts::tests::facts;
use crate::files::fixture::Texts;

const ROOT: &str = "11111111-0003-4000-8000-000000000003";

fn found(path: &str, text: &str) -> Vec<String> {
    let facts = facts();
    let left = search(&Texts::new(&[(path, text)]), &facts, &needles(&facts)).unwrap();
    left.iter().map(ToString::to_string).collect()
}

#[test]
fn every_spelling_of_a_golden_id_is_told_with_its_file() {
    for text in [
        ROOT.to_owned(),
        format!("x=\"{}\"", ROOT.to_uppercase()),
        format!("dev-disk-by\\x2duuid-{}.device", ROOT.replace('-', "\\x2d")),
        "PARTUUID=11111111-03".to_owned(),
        "ata-GOLDEN_X1-part3".to_owned(),
        "/dev/disk/by-id/ata-GOLDEN_X1-part3".to_owned(),
        format!("luks-{ROOT}"),
    ] {
        for path in [
            "/etc/some/where/my.conf",
            "/boot/loader.rc",
            "/boot/efi/EFI/x/y.cfg",
            "/usr/lib/systemd/system/x.mount",
        ] {
            let told = found(path, &format!("a\n{text}\n"));
            assert_eq!(told.len(), 1, "{path}: {text}");
            assert!(
                told[0].starts_with(&format!("{path} still names the golden node")),
                "{told:?}"
            );
        }
    }
}

#[test]
fn comments_longer_ids_and_other_places_are_not_told() {
    assert!(found("/etc/fstab", &format!("# / was on UUID={ROOT}\n")).is_empty());
    assert!(found("/etc/x", &format!("{ROOT}0 a{ROOT}\n")).is_empty());
    assert!(found("/var/log/messages", ROOT).is_empty());
}

#[test]
fn needles_of_any_class_are_found() {
    let needle = Needle::new("MAC address", "52:54:00:AA:BB:01");
    let files = Texts::new(&[(
        "/etc/netplan/x.yaml",
        "match: {macaddress: '52:54:00:aa:bb:01'}\n",
    )]);
    let left = search(&files, &facts(), &[needle]).unwrap();
    assert!(
        left[0].to_string().contains("MAC address 52:54:00:aa:bb:01"),
        "{}",
        left[0]
    );
}

#[test]
fn kept_uuids_are_the_clones_own() {
    let mut facts = facts();
    for map in &mut facts.devices {
        map.clone.uuid.clone_from(&map.golden.uuid);
    }
    assert!(!needles(&facts).iter().any(|needle| needle.text == ROOT));
}

#[test]
fn the_golden_machine_id_is_told_but_where_boot_entries_are_named_for_it() {
    let id = "00112233445566778899aabbccddeeff";
    let files = Texts::new(&[
        ("/etc/machine-id", "00112233445566778899aabbccddeeff\n"),
        ("/etc/salt/grains", "id: 00112233445566778899aabbccddeeff\n"),
        ("/etc/kernel/entry-token", "00112233445566778899aabbccddeeff\n"),
        (
            "/boot/loader/entries/x.conf",
            "linux /00112233445566778899aabbccddeeff/6.1/linux\n",
        ),
    ]);
    let needle = machine_id(&files).unwrap().unwrap();
    assert_eq!(needle.text, id);
    let left = search(&files, &facts(), &[needle]).unwrap();
    let paths: Vec<&str> = left.iter().map(|left| left.path.as_str()).collect();
    assert_eq!(paths, ["/etc/machine-id", "/etc/salt/grains"]);
}

#[test]
fn a_script_that_uses_a_golden_disk_by_the_kernels_name_is_told() {
    let mut facts = facts();
    facts.known.push(ka_disk::spec::KnownDevice {
        device: ka_disk::spec::GoldenDevice {
            path: "/dev/sdb1".to_owned(),
            ..ka_disk::spec::GoldenDevice::default()
        },
        ..ka_disk::spec::KnownDevice::default()
    });
    let files = Texts::new(&[
        ("/etc/rc.local", "mkswap /dev/sdb1 && swapon /dev/sdb1\n"),
        ("/etc/other", "/dev/sdb12 # /dev/sdb1x\n"),
    ]);
    let left = search(&files, &facts, &needles(&facts)).unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].path, "/etc/rc.local");
}

#[test]
fn serial_numbers_and_world_wide_names_of_golden_disks_are_told() {
    let mut facts = facts();
    facts.known.push(ka_disk::spec::KnownDevice {
        device: ka_disk::spec::GoldenDevice {
            path: "/dev/sda".to_owned(),
            aliases: [
                "/dev/disk/by-id/ata-SAMSUNG_MZ7LH480_S45PNA0M123456",
                "/dev/disk/by-id/wwn-0x5002538e40a1b2c3",
                "/dev/disk/by-id/usb-Kingston_DT_0019E06B-0:0",
            ]
            .map(ToOwned::to_owned)
            .to_vec(),
            ..ka_disk::spec::GoldenDevice::default()
        },
        ..ka_disk::spec::KnownDevice::default()
    });
    for text in [
        "ENV{ID_SERIAL}==\"SAMSUNG_MZ7LH480_S45PNA0M123456\"",
        "ENV{ID_SERIAL_SHORT}==\"S45PNA0M123456\"",
        "ENV{ID_WWN}==\"0x5002538e40a1b2c3\"",
        "serial: 0019E06B",
    ] {
        let files = Texts::new(&[("/etc/udev/rules.d/60-x.rules", text)]);
        let left = search(&files, &facts, &needles(&facts)).unwrap();
        assert_eq!(left.len(), 1, "{text}");
    }
}
