//! What nobody has translated.

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
