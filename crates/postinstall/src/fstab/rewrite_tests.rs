//! Whole fstabs, before and after.

use ka_disk::spec::GoldenDevice;
use proptest::prelude::*;

use super::*;
use crate::facts::tests::facts;
use crate::files::fixture::Texts;
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

fn with(devices: &[DeviceMap]) -> Facts {
    Facts {
        devices: devices.to_vec(),
        partitions: devices.iter().map(|map| map.clone.clone()).collect(),
        ..facts()
    }
}

fn planned(text: &[u8], devices: &[DeviceMap]) -> FstabPlan {
    plan(text, &Texts::new(&[("/srv/images/cd.iso", "")]), &with(devices)).unwrap()
}

fn rewritten(text: &str, devices: &[DeviceMap]) -> String {
    String::from_utf8(planned(text.as_bytes(), devices).text).unwrap()
}

#[test]
fn every_manner_of_naming_is_kept() {
    let line = |spec: &str| format!("{spec}\t/   ext4  defaults 0 1\n");
    for (before, after) in [
        ("/dev/sda2", "UUID=2222bbbb-0000-4000-8000-000000000002"),
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
                nas:/export/sda2 /n nfs ro 0 0\n/dev/sr0 /cd iso9660 ro 0 0\n/srv/images/cd.iso /mnt iso9660 loop 0 0\n\
                UUID=0badcafe-0000-4000-8000-00000000dead /data xfs nofail 0 2";
    let expected = text.replace(
        "/dev/sda2    /    ",
        "UUID=2222bbbb-0000-4000-8000-000000000002    /    ",
    );
    assert_eq!(rewritten(text, &[root()]), expected);
    let plan = planned(text.as_bytes(), &[root()]);
    assert_eq!(
        plan.changes,
        [FstabChange {
            line: 5,
            before: "/dev/sda2".to_owned(),
            after: "UUID=2222bbbb-0000-4000-8000-000000000002".to_owned()
        }]
    );
}

#[test]
fn bytes_that_are_no_text_stay() {
    let text = b"# \xff\xfe caf\xe9\n/dev/sda2 / ext4 defaults 0 1\n/dev/sdz9 /x\xff ext4 defaults 0 0\n";
    let new = planned(text, &[root()]).text;
    assert!(new.starts_with(b"# \xff\xfe caf\xe9\nUUID=2222bbbb-0000-4000-8000-000000000002 / "));
    assert!(new.ends_with(b"# ka: not in this clone: /dev/sdz9 /x\xff ext4 defaults 0 0\n"));
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
        "UUID=2222bbbb-0000-4000-8000-000000000002 / auto noatime\n"
    );
    assert_eq!(
        rewritten("/dev/sda2 / ext4", &[map]),
        "UUID=2222bbbb-0000-4000-8000-000000000002 / xfs noatime"
    );
}

#[test]
fn another_name_of_the_same_type_stays() {
    let mut map = root();
    map.clone.fstype = some("vfat");
    assert_eq!(
        rewritten("/dev/sda2 /boot/efi msdos ro 0 0\n", &[map.clone()]),
        "UUID=2222bbbb-0000-4000-8000-000000000002 /boot/efi msdos ro 0 0\n"
    );
    assert_eq!(
        rewritten("/dev/sda2 /x ext4,vfat ro 0 0\n", &[map]),
        "UUID=2222bbbb-0000-4000-8000-000000000002 /x ext4,vfat ro 0 0\n"
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
    let text = b"\nUUID=1111aaaa-0000-4000-8000-000000000001 / ext4\n";
    let error = plan(text, &Texts::default(), &with(&[map])).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("fstab line 2: nothing in the clone can stand for UUID="),
        "{error}"
    );
}

/// Insists that a line for a thing that the clone does not have is taken out.
fn is_taken_out(line: &str) -> bool {
    let plan = planned(format!("{line}\n").as_bytes(), &[root()]);
    let new = String::from_utf8(plan.text).unwrap();
    assert_eq!(
        new.starts_with("# ka: not in this clone: "),
        !plan.warnings.is_empty(),
        "{new}"
    );
    !plan.warnings.is_empty()
}

#[test]
fn a_line_stays_only_where_no_boot_waits_for_it_and_no_other_disk_can_be_meant() {
    for line in [
        "UUID=66666666-7777-4888-9999-aaaaaaaaaaaa /data ext4 defaults 0 2",
        "UUID='66666666-7777-4888-9999-aaaaaaaaaaaa' /data ext4 defaults 0 2",
        "LABEL=my\\040data /data ext4 defaults,x-systemd.automount 0 2",
        "/dev/disk/by-partuuid/dead-01 /data ext4",
        "/dev/sdb1 /data ext4 nofail,x-systemd.device-timeout=5 0 2",
        "/dev/nvme0n1p2 /data ext4 noauto 0 0",
        "/dev/disk/by-path/pci-0000:00:1f.2-ata-2-part1 /data ext4 nofail 0 0",
        "/dev/mapper/vg0-data /data xfs nofail 0 0",
        "/dev/vg0/data /data xfs nofail 0 0",
        "/dev/md0 /data xfs noauto 0 0",
        "/dev/mybackup /data ext4 defaults 0 0",
        "UUID=bbbbbbbb-cccc-4ddd-8eee-ffffffffffff none swap sw 0 0",
        "/dev/sdb2 none swap sw,nofail 0 0",
        "/swapfile none swap sw 0 0",
        "/data/home /home none bind 0 0",
        "/data/cd.iso /mnt iso9660 loop,ro 0 0",
        "overlay /merged overlay lowerdir=/data/a,upperdir=/data/b,workdir=/data/c 0 0",
    ] {
        assert!(is_taken_out(line), "{line}");
    }
    for line in [
        "UUID=66666666-7777-4888-9999-aaaaaaaaaaaa /data ext4 nofail 0 2",
        "LABEL=stick /stick vfat noauto,user 0 0",
        "/dev/disk/by-id/usb-x-part1 /stick vfat noauto 0 0",
        "/dev/sr0 /media/cdrom udf,iso9660 user,noauto 0 0",
        "/dev/fd0 /floppy auto noauto 0 0",
        "/dev/zram0 none swap sw 0 0",
        "tmpfs /tmp tmpfs size=1g 0 0",
        "nas:/export /data nfs4 defaults 0 0",
        "//nas/share /share cifs credentials=/etc/x 0 0",
        "/run/foo /foo none bind 0 0",
        "/data/home /home none bind,nofail 0 0",
        "/srv/images/cd.iso /mnt iso9660 loop 0 0",
    ] {
        assert!(!is_taken_out(line), "{line}");
    }
    let behind_the_network = "nas:/export /nas nfs defaults 0 0\n/nas/home /home none bind 0 0\n";
    assert_eq!(rewritten(behind_the_network, &[root()]), behind_the_network);
}

#[test]
fn options_that_name_devices_follow_or_go() {
    let text = "/dev/sda2 / xfs noatime,logdev=/dev/disk/by-partuuid/x,x-systemd.requires=/dev/sda2,\
                x-systemd.after=dev-disk-by\\x2duuid-1111aaaa\\x2d0000\\x2d4000\\x2d8000\\x2d000000000001.device 0 1\n\
                UUID=66666666-7777-4888-9999-aaaaaaaaaaaa /data ext4 defaults 0 2\n\
                nas:/x /x nfs x-systemd.requires=dev-sdb1.device,x-systemd.requires-mounts-for=/data/in,x-systemd.after=data.mount 0 0\n";
    let mut map = root();
    map.clone.fstype = some("xfs");
    let new = rewritten(text, &[map]);
    let own = "2222bbbb-0000-4000-8000-000000000002";
    assert!(
        new.starts_with(&format!(
            "UUID={own} / xfs noatime,x-systemd.requires=/dev/disk/by-uuid/{own},\
             x-systemd.after=dev-disk-by\\x2duuid-{}.device 0 1\n",
            own.replace('-', "\\x2d")
        )),
        "{new}"
    );
    assert!(new.ends_with("\nnas:/x /x nfs defaults 0 0\n"), "{new}");
}

#[test]
fn a_subvolume_by_its_number_is_not_mounted_in_a_clone() {
    let mut map = root();
    map.clone.fstype = some("btrfs");
    let new = rewritten(
        "/dev/sda2 /top btrfs subvolid=5 0 0\n/dev/sda2 /snap btrfs noauto,subvolid=263 0 0\n",
        &[map],
    );
    assert!(
        new.starts_with("UUID=") && new.contains("\n# ka: not in this clone: /dev/sda2 /snap"),
        "{new}"
    );
}

proptest! {
    #[test]
    fn any_bytes_lose_nothing(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        let new = planned(&text, &[root()]).text;
        prop_assert!(new.len() >= text.len());
    }

    #[test]
    fn rewriting_twice_changes_nothing_more(spaces in "[ \t]{1,4}", tail in "[ -~]{0,30}") {
        let text = format!("/dev/sda2{spaces}/{spaces}ext4{spaces}{tail}\n");
        let once = planned(text.as_bytes(), &[root()]);
        let twice = planned(&once.text, &[root()]);
        prop_assert_eq!(once.text, twice.text);
        prop_assert!(twice.changes.is_empty());
    }
}
