//! The rule on made-up machines.

use std::path::PathBuf;

use super::*;
use crate::desc::Desc;
use crate::layout::Source;
use crate::spec::{FsSpec, FsType, Place};
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
        named_only: name.starts_with("loop"),
        in_use: None,
    }
}

fn one_drive() -> InstallSpec {
    spec(&[("sda", "swap 100\nlinux fill\n")])
}

fn chosen(spec: &InstallSpec, disks: &[Disk], overrides: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let overrides: Vec<(String, String)> = overrides
        .iter()
        .map(|(drive, disk)| ((*drive).to_owned(), (*disk).to_owned()))
        .collect();
    let choices = choose(spec, disks, &overrides).map_err(|error| error.to_string())?;
    Ok(choices
        .into_iter()
        .map(|choice| format!("{}={}", choice.drive, choice.disk.name))
        .collect())
}

#[test]
fn the_exact_name_wins_over_others_that_fit() {
    assert_eq!(
        chosen(&one_drive(), &[disk("sda", 10), disk("sdb", 10)], &[]).unwrap(),
        ["sda=sda"]
    );
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
    assert_eq!(chosen(&spec, &[disk("loop0", 10)], &[]).unwrap(), ["loop0=loop0"]);
    assert_eq!(
        chosen(&one_drive(), &[disk("loop7", 10)], &[("sda", "/dev/loop7")]).unwrap(),
        ["sda=loop7"]
    );
}
