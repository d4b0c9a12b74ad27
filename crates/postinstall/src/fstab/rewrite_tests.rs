//! Whole fstabs, before and after.

use ka_disk::spec::GoldenDevice;
use proptest::prelude::*;

use super::*;
use crate::fstab::CloneDevice;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn root() -> DeviceMap {
    DeviceMap {
        golden: GoldenDevice {
            path: "/dev/sda2".to_owned(),
            uuid: some("1111aaaa-0000-4000-8000-000000000001"),
            partuuid: some("deadbeef-02"),
            label: some("my root"),
            partlabel: some("system"),
            aliases: vec!["/dev/disk/by-id/ata-GOLDEN-part2".to_owned()],
        },
        clone: CloneDevice {
            path: "/dev/nvme0n1p2".to_owned(),
            uuid: some("2222bbbb-0000-4000-8000-000000000002"),
            partuuid: some("cafe0000-02"),
            label: some("my root"),
            partlabel: some("system"),
            fstype: some("ext4"),
        },
        options: Vec::new(),
    }
}

fn rewritten(text: &str, devices: &[DeviceMap]) -> String {
    String::from_utf8(plan(text.as_bytes(), devices).unwrap().text).unwrap()
}

#[test]
fn every_manner_of_naming_is_kept() {
    let line = |spec: &str| format!("{spec}\t/   ext4  defaults 0 1\n");
    for (before, after) in [
        ("/dev/sda2", "/dev/nvme0n1p2"),
        (
            "UUID=1111AAAA-0000-4000-8000-000000000001",
            "UUID=2222bbbb-0000-4000-8000-000000000002",
        ),
        (
            "UUID=\"1111aaaa-0000-4000-8000-000000000001\"",
            "UUID=2222bbbb-0000-4000-8000-000000000002",
        ),
        ("PARTUUID=deadbeef-02", "PARTUUID=cafe0000-02"),
        ("LABEL=my\\040root", "LABEL=my\\040root"),
        ("PARTLABEL=system", "PARTLABEL=system"),
        (
            "/dev/disk/by-uuid/1111aaaa-0000-4000-8000-000000000001",
            "/dev/disk/by-uuid/2222bbbb-0000-4000-8000-000000000002",
        ),
        (
            "/dev/disk/by-partuuid/deadbeef-02",
            "/dev/disk/by-partuuid/cafe0000-02",
        ),
        (
            "/dev/disk/by-label/my\\134x20root",
            "/dev/disk/by-label/my\\134x20root",
        ),
        (
            "/dev/disk/by-id/ata-GOLDEN-part2",
            "UUID=2222bbbb-0000-4000-8000-000000000002",
        ),
    ] {
        assert_eq!(rewritten(&line(before), &[root()]), line(after), "{before}");
    }
}

#[test]
fn comments_spacing_and_foreign_lines_stay_byte_for_byte() {
    let text = "# /dev/sda2 was / during installation\n\n \t# UUID=1111aaaa-0000-4000-8000-000000000001\n\
                proc\t/proc proc  defaults 0 0\r\n/dev/sda2    /    ext4 errors=remount-ro 0  1   # trailing\n\
                /dev/sda22 /other ext4 defaults 0 0\nnas:/export/sda2 /n nfs ro 0 0\n\
                /dev/sdb1 /data xfs defaults 0 2";
    let expected = text.replace("/dev/sda2    /    ", "/dev/nvme0n1p2    /    ");
    assert_eq!(rewritten(text, &[root()]), expected);
    let plan = plan(text.as_bytes(), &[root()]).unwrap();
    assert_eq!(
        plan.changes,
        [FstabChange {
            line: 5,
            before: "/dev/sda2".to_owned(),
            after: "/dev/nvme0n1p2".to_owned()
        }]
    );
}

#[test]
fn bytes_that_are_no_text_stay() {
    let text = b"# \xff\xfe caf\xe9\n/dev/sda2 / ext4 defaults 0 1\n/dev/sdz9 /x\xff ext4 defaults 0 0\n";
    let new = plan(text, &[root()]).unwrap().text;
    assert!(new.starts_with(b"# \xff\xfe caf\xe9\n/dev/nvme0n1p2 / "));
    assert!(new.ends_with(b"/dev/sdz9 /x\xff ext4 defaults 0 0\n"));
}

#[test]
fn a_changed_type_and_changed_options_reach_their_columns() {
    let mut map = root();
    map.clone.fstype = some("xfs");
    map.options = vec![("/".to_owned(), "noatime".to_owned())];
    assert_eq!(
        rewritten(
            "UUID=1111aaaa-0000-4000-8000-000000000001 /  ext4\terrors=remount-ro 0 1\n",
            &[map.clone()]
        ),
        "UUID=2222bbbb-0000-4000-8000-000000000002 /  xfs\tnoatime 0 1\n"
    );
    assert_eq!(
        rewritten("/dev/sda2 / auto\n", &[map.clone()]),
        "/dev/nvme0n1p2 / auto noatime\n"
    );
    assert_eq!(
        rewritten("/dev/sda2 / ext4", &[map]),
        "/dev/nvme0n1p2 / xfs noatime"
    );
}

#[test]
fn another_name_of_the_same_type_stays() {
    let mut map = root();
    map.clone.fstype = some("vfat");
    assert_eq!(
        rewritten("/dev/sda2 /boot/efi msdos ro 0 0\n", &[map.clone()]),
        "/dev/nvme0n1p2 /boot/efi msdos ro 0 0\n"
    );
    assert_eq!(
        rewritten("/dev/sda2 /x ext4,vfat ro 0 0\n", &[map]),
        "/dev/nvme0n1p2 /x ext4,vfat ro 0 0\n"
    );
}

#[test]
fn a_label_that_changed_is_followed_and_one_that_went_becomes_a_uuid() {
    let mut map = root();
    map.clone.label = some("new # root");
    assert_eq!(
        rewritten("LABEL=my\\040root / ext4 ro 0 0", &[map.clone()]),
        "LABEL=new\\040\\043\\040root / ext4 ro 0 0"
    );
    map.clone.label = None;
    assert_eq!(
        rewritten("LABEL=my\\040root / ext4 ro 0 0", &[map]),
        "UUID=2222bbbb-0000-4000-8000-000000000002 / ext4 ro 0 0"
    );
}

#[test]
fn of_two_with_one_label_the_one_that_the_survey_saw_is_meant() {
    let mut first = root();
    first.golden.aliases.clear();
    first.clone.label = None;
    let mut second = root();
    second.golden.aliases = vec!["LABEL=my root".to_owned()];
    second.clone.label = some("second");
    assert_eq!(
        rewritten("LABEL=my\\040root / ext4 ro 0 0", &[first, second]),
        "LABEL=second / ext4 ro 0 0"
    );
}

#[test]
fn lvm_names_become_uuids() {
    let mut map = root();
    map.golden.path = "/dev/dm-0".to_owned();
    map.golden.aliases = vec!["/dev/mapper/vg-root".to_owned()];
    assert_eq!(
        rewritten("/dev/mapper/vg-root / ext4 ro 0 0", &[map]),
        "UUID=2222bbbb-0000-4000-8000-000000000002 / ext4 ro 0 0"
    );
}

#[test]
fn a_device_without_any_name_is_an_error_with_its_line() {
    let mut map = root();
    map.clone = CloneDevice::default();
    let error = plan(b"\nUUID=1111aaaa-0000-4000-8000-000000000001 / ext4\n", &[map]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("fstab line 2: nothing in the clone can stand for UUID="),
        "{error}"
    );
}

proptest! {
    #[test]
    fn any_text_without_our_devices_is_unchanged(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert_eq!(&plan(&text, &[root()]).unwrap().text, &text);
    }

    #[test]
    fn rewriting_twice_changes_nothing_more(spaces in "[ \t]{1,4}", tail in "[ -~]{0,30}") {
        let text = format!("/dev/sda2{spaces}/{spaces}ext4{spaces}{tail}\n");
        let once = plan(text.as_bytes(), &[root()]).unwrap();
        let twice = plan(&once.text, &[root()]).unwrap();
        prop_assert_eq!(once.text, twice.text);
        prop_assert!(twice.changes.is_empty());
    }
}
