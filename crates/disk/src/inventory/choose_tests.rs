//! Tests of the rule on made-up machines.

use std::path::PathBuf;

use super::*;
use crate::contents::{Area, Contents};
use crate::desc::Desc;
use crate::fs_type::FsType;
use crate::layout::Source;
use crate::spec::{FsSpec, Place};
use crate::table::TableKind;

const GB: u64 = 1_000_000_000;

fn spec(drives: &[(&str, &str)]) -> InstallSpec {
    let drive = |(name, desc): &(&str, &str)| DriveSpec {
        name: (*name).to_owned(),
        source: Source::Desc(Desc::parse(desc, "desc").unwrap()),
        golden_table: TableKind::Gpt,
        golden_bytes: 0,
        golden_sector_size: 512,
        boot_code: None,
    };
    InstallSpec {
        drives: drives.iter().map(drive).collect(),
        ..InstallSpec::empty("golden".to_owned())
    }
}

fn disk(name: &str, gb: u64) -> Disk {
    Disk {
        name: name.to_owned(),
        path: PathBuf::from("/dev").join(name),
        bytes: gb * GB,
        sector_size: 512,
        model: format!("Model {name}"),
        serial: format!("SERIAL-{name}"),
        removable: false,
        wwid: format!("naa.{name}"),
        numbers: (8, u32::from(name.bytes().last().unwrap_or_default())),
        seq: None,
        by_path: vec![format!("pci-0000:00:1f.2-ata-{name}")],
        named_only: name.starts_with("loop"),
        in_use: None,
        contents: Contents::default(),
    }
}

fn one_drive() -> InstallSpec {
    spec(&[("sda", "swap 100\nlinux fill\n")])
}

/// A disk with an ext4 of this label.
fn with_data(name: &str, gb: u64, label: &str) -> Disk {
    let area = Area {
        fstype: Some("ext4".to_owned()),
        label: Some(label.to_owned()),
        ..Area::default()
    };
    let mut disk = disk(name, gb);
    disk.contents.areas.push(area);
    disk
}

/// A disk whose second partition belongs to something larger.
fn with_member(name: &str, gb: u64) -> Disk {
    let area = Area {
        partition: Some(2),
        member: Some("LVM (volume group vg0)".to_owned()),
        ..Area::default()
    };
    let mut disk = disk(name, gb);
    disk.contents.table = Some("gpt".to_owned());
    disk.contents.areas.push(area);
    disk
}

fn chosen(spec: &InstallSpec, disks: &[Disk], overrides: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let overrides: Vec<(String, String)> = overrides
        .iter()
        .map(|(drive, disk)| ((*drive).to_owned(), (*disk).to_owned()))
        .collect();
    let wishes = Wishes {
        disks: overrides,
        erase_members: false,
    };
    wished(spec, disks, &wishes)
}

fn wished(spec: &InstallSpec, disks: &[Disk], wishes: &Wishes) -> Result<Vec<String>, String> {
    let choices = choose(spec, disks, wishes).map_err(|error| error.to_string())?;
    Ok(choices
        .into_iter()
        .map(|choice| format!("{}={}", choice.drive, choice.disk.name))
        .collect())
}

#[test]
fn the_golden_name_decides_nothing_where_several_fit() {
    for disks in [
        [disk("sda", 10), disk("sdb", 10)],
        [with_data("sda", 4000, "DATA"), disk("sdb", 10)],
        [disk("sda", 10), with_data("sdb", 4000, "DATA")],
    ] {
        let error = chosen(&one_drive(), &disks, &[]).unwrap_err();
        assert!(error.starts_with("several disks could become sda"), "{error}");
        assert!(
            error.contains("--disk sda=/dev/…") && error.contains("disk=sda=/dev/… in a list of nodes"),
            "{error}"
        );
    }
    let error = chosen(
        &one_drive(),
        &[with_data("sda", 10, "DATA"), disk("sdb", 10)],
        &[],
    )
    .unwrap_err();
    assert!(error.contains("fits; now holds ext4 \"DATA\""), "{error}");
}

#[test]
fn a_member_is_not_taken_by_rule_and_the_empty_disk_beside_it_is() {
    assert_eq!(
        chosen(&one_drive(), &[with_member("sda", 4000), disk("sdb", 10)], &[]).unwrap(),
        ["sda=sdb"]
    );
}

#[test]
fn beside_a_member_a_disk_with_data_may_be_the_wrong_one() {
    let disks = [with_member("sda", 10), with_data("sdb", 10, "DATA")];
    let error = chosen(&one_drive(), &disks, &[]).unwrap_err();
    assert!(error.starts_with("several disks could become sda"), "{error}");
    assert!(
        error.contains("sda2 belongs to LVM (volume group vg0)"),
        "{error}"
    );
    let mut used = disk("sdc", 10);
    used.in_use = Some("sdc1 is mounted at /srv".to_owned());
    assert!(chosen(&one_drive(), &[used, with_data("sdb", 10, "DATA")], &[]).is_err());
}

#[test]
fn a_member_that_is_too_small_for_the_drive_says_nothing_about_another_disk() {
    let mut small = with_member("sdb", 1);
    small.bytes = 50 << 20;
    let disks = [with_data("sda", 10, "old clone"), small];
    assert_eq!(chosen(&one_drive(), &disks, &[]).unwrap(), ["sda=sda"]);
}

#[test]
fn a_lone_member_is_erased_when_it_is_named_or_members_may_be() {
    let disks = [with_member("sda", 10)];
    let error = chosen(&one_drive(), &disks, &[]).unwrap_err();
    assert!(error.starts_with("no disk here can become sda"), "{error}");
    assert!(error.contains("--erase-members"), "{error}");
    assert_eq!(
        chosen(&one_drive(), &disks, &[("sda", "sda")]).unwrap(),
        ["sda=sda"]
    );
    let wishes = Wishes {
        erase_members: true,
        ..Wishes::default()
    };
    assert_eq!(wished(&one_drive(), &disks, &wishes).unwrap(), ["sda=sda"]);
    let both = [with_member("sda", 10), disk("sdb", 10)];
    assert!(
        wished(&one_drive(), &both, &wishes).is_err(),
        "it is no way to choose among several"
    );
}

#[test]
fn what_cannot_be_read_is_not_taken_by_rule() {
    let mut broken = disk("sda", 10);
    broken.contents.unreadable = Some("Input/output error".to_owned());
    let error = chosen(&one_drive(), &[broken], &[]).unwrap_err();
    assert!(
        error.contains("sda cannot be looked at: Input/output error"),
        "{error}"
    );
}

#[test]
fn two_paths_to_one_disk_are_no_candidates() {
    let path = |name: &str| Disk {
        wwid: "naa.600a".to_owned(),
        ..disk(name, 10)
    };
    let error = chosen(&one_drive(), &[path("sda"), path("sdb")], &[]).unwrap_err();
    assert!(error.contains("sdb has the same WWID"), "{error}");
    assert_eq!(
        chosen(&one_drive(), &[path("sda"), path("sdb"), disk("sdc", 10)], &[]).unwrap(),
        ["sda=sdc"]
    );
    let nameless = |name: &str| Disk {
        wwid: String::new(),
        ..disk(name, 10)
    };
    let error = chosen(&one_drive(), &[nameless("sda"), nameless("sdb")], &[]).unwrap_err();
    assert!(error.starts_with("several disks"), "{error}");
}

#[test]
fn two_drives_get_their_disks_where_there_is_only_one_way() {
    let spec = spec(&[("sda", "linux 5000\n"), ("sdb", "linux 50000\n")]);
    let disks = [disk("sda", 100), disk("sdb", 10)];
    assert_eq!(chosen(&spec, &disks, &[]).unwrap(), ["sda=sdb", "sdb=sda"]);
    let error = chosen(&spec, &[disk("sda", 100), disk("sdb", 100)], &[]).unwrap_err();
    assert!(error.starts_with("several disks could become sda"), "{error}");
    let error = chosen(&spec, &[disk("sda", 100)], &[]).unwrap_err();
    assert!(error.starts_with("no disk here can become sdb"), "{error}");
}

#[test]
fn two_options_for_one_drive_contradict_each_other() {
    let disks = [disk("vda", 10), disk("vdb", 10)];
    let error = chosen(&one_drive(), &disks, &[("sda", "vda"), ("sda", "vdb")]).unwrap_err();
    assert_eq!(error, "--disk names two disks for sda: vda and vdb; give one");
}

#[test]
fn the_one_disk_that_fits_is_taken_when_the_name_is_not_there() {
    assert_eq!(
        chosen(&one_drive(), &[disk("nvme0n1", 10)], &[]).unwrap(),
        ["sda=nvme0n1"]
    );
}

#[test]
fn two_that_fit_are_refused_with_both_listed_and_the_option_named() {
    let error = chosen(&one_drive(), &[disk("nvme0n1", 10), disk("nvme1n1", 20)], &[]).unwrap_err();
    assert!(
        error.starts_with("several disks could become sda: say which with --disk sda=/dev/…"),
        "{error}"
    );
    assert!(
        error.contains("/dev/nvme1n1  20.0 GB  model Model nvme1n1  serial SERIAL-nvme1n1  (fits)"),
        "{error}"
    );
}

#[test]
fn used_removable_and_made_up_disks_are_never_taken_by_rule() {
    let mut used = disk("vda", 10);
    used.in_use = Some("vda1 is mounted at /".to_owned());
    let mut stick = disk("sdx", 10);
    stick.removable = true;
    let error = chosen(&one_drive(), &[used, stick, disk("loop0", 10)], &[]).unwrap_err();
    assert!(error.starts_with("no disk here can become sda"), "{error}");
    assert!(
        error.contains("vda1 is mounted at /") && error.contains("it is removable"),
        "{error}"
    );
}

#[test]
fn an_exact_name_that_is_in_use_is_refused_and_not_replaced_by_another() {
    let mut used = disk("sda", 10);
    used.in_use = Some("sda2 is in use as swap".to_owned());
    let error = chosen(&one_drive(), &[used, disk("sdb", 10)], &[]).unwrap_err();
    assert!(
        error.contains("cannot become sda: it is in use (sda2 is in use as swap)"),
        "{error}"
    );
}

#[test]
fn too_small_is_refused_also_when_named() {
    let small = Disk {
        bytes: 50 << 20,
        ..disk("nvme0n1", 1)
    };
    let error = chosen(&one_drive(), &[small], &[("sda", "/dev/nvme0n1")]).unwrap_err();
    assert!(
        error.contains("nvme0n1") && error.contains("cannot become sda"),
        "{error}"
    );
}

#[test]
fn what_the_golden_node_holds_must_fit_too() {
    let mut spec = one_drive();
    let place = Place {
        drive: "sda".to_owned(),
        partition: 2,
    };
    let fs = FsSpec {
        used_bytes: 12 * GB,
        used_inodes: 100,
        ..FsSpec::new(0, place, FsType::Ext4)
    };
    spec.filesystems.push(fs);
    assert_eq!(
        chosen(&spec, &[disk("nvme0n1", 10), disk("nvme1n1", 20)], &[]).unwrap(),
        ["sda=nvme1n1"]
    );
}

#[test]
fn options_decide_and_may_swap_names() {
    let spec = spec(&[("sda", "linux fill\n"), ("sdb", "linux fill\n")]);
    let disks = [disk("sda", 10), disk("sdb", 10)];
    let swapped = chosen(&spec, &disks, &[("sda", "sdb"), ("sdb", "/dev/sda")]).unwrap();
    assert_eq!(swapped, ["sda=sdb", "sdb=sda"]);
    let one = chosen(&spec, &disks, &[("sda", "sdb")]).unwrap();
    assert_eq!(one, ["sda=sdb", "sdb=sda"], "the other gets what is left");
}

#[test]
fn one_disk_never_becomes_two_drives() {
    let spec = spec(&[("sda", "linux fill\n"), ("sdb", "linux fill\n")]);
    let error = chosen(&spec, &[disk("vda", 10)], &[("sda", "vda"), ("sdb", "vda")]).unwrap_err();
    assert!(error.contains("it becomes sda already"), "{error}");
}

#[test]
fn an_unknown_drive_in_an_option_is_refused() {
    let error = chosen(&one_drive(), &[disk("sda", 10)], &[("sdc", "sda")]).unwrap_err();
    assert_eq!(error, "--disk sdc=…: the server sends no drive sdc; it sends sda");
}

#[test]
fn loop_devices_are_taken_when_named() {
    let spec = spec(&[("loop0", "linux fill\n")]);
    assert!(
        chosen(&spec, &[disk("loop0", 10)], &[]).is_err(),
        "the golden node's name for a drive names no disk here"
    );
    assert_eq!(
        chosen(&spec, &[disk("loop0", 10)], &[("loop0", "loop0")]).unwrap(),
        ["loop0=loop0"]
    );
    assert_eq!(
        chosen(&one_drive(), &[disk("loop7", 10)], &[("sda", "/dev/loop7")]).unwrap(),
        ["sda=loop7"]
    );
}

#[test]
fn names_that_udev_would_make_are_understood_where_there_is_no_udev() {
    let disks = [disk("vdx", 10), disk("vdy", 10)];
    for link in [
        "/dev/disk/by-id/ata-Model_vdy_SERIAL-vdy",
        "/dev/disk/by-path/pci-0000:00:1f.2-ata-vdy",
    ] {
        assert_eq!(
            chosen(&one_drive(), &disks, &[("sda", link)]).unwrap(),
            ["sda=vdy"],
            "{link}"
        );
    }
    let twins = [
        disk("vdx", 10),
        Disk {
            serial: "SERIAL-vdx".to_owned(),
            ..disk("vdy", 10)
        },
    ];
    let link = "/dev/disk/by-id/ata-Model_SERIAL-vdx";
    assert!(
        chosen(&one_drive(), &twins, &[("sda", link)]).is_err(),
        "it means two disks"
    );
    assert!(
        chosen(
            &one_drive(),
            &disks,
            &[("sda", "/dev/disk/by-id/ata-Model_other")]
        )
        .is_err()
    );
}
