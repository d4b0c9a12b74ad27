//! Whole runs: a golden system onto disks of other sizes, sector sizes, tables and file systems.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use ka_tests::compare::Allowed;
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::{self, By, Plan, Volume};
use ka_tests::process::Program;
use ka_tests::tree;

use crate::kit::{Kit, mib, small_plan};

#[test]
fn three_nodes_of_different_sizes_and_sectors_get_extended_and_logical_partitions() -> Result<()> {
    let plan = Plan {
        size: 3 * GIB / 2,
        sector_size: 512,
        table: "label: dos\nsize=32MiB,type=82\nsize=700MiB,type=83,bootable\ntype=5\nsize=300MiB,type=83\ntype=83\n",
        volumes: vec![
            Volume::new(2, "ext4", "/").by(By::Device).label("system"),
            Volume::new(5, "ext4", "/home").by(By::PartUuid),
            Volume::new(6, "ext3", "/srv").by(By::Label).label("srv"),
            Volume::new(1, "swap", "none").by(By::Device),
        ],
        foreign_fstab: "# keep this comment\nproc /proc proc defaults 0 0\n\n",
    };
    let kit = Kit::with_plan("three", 3, plan)?;
    let desc = kit.desc("swap 24\nlinux 400 boot\nextended fill\nlogical linux 200\nlogical linux fill\n")?;
    let disks = [
        kit.disk("n1", GIB, 512)?,
        kit.disk("n2", 2 * GIB, 4096)?,
        kit.disk("n3", 6 * GIB, 512)?,
    ];
    let args: Vec<&str> = desc.iter().map(String::as_str).chain(["-x", "/tmp"]).collect();
    let outcome = kit.clone_to(&disks.iter().collect::<Vec<_>>(), &args)?;
    outcome.expect_success()?;
    for disk in &disks {
        let allowed = Allowed {
            excluded: vec![PathBuf::from("tmp")],
            ..Allowed::for_system()
        };
        kit.compare(disk, &kit.plan.volumes, &allowed)?;
        expect_sound_table(disk, "dos", 5)?;
        expect_own_fstab(&kit, disk, &kit.plan.volumes)?;
    }
    Ok(())
}

#[test]
fn without_a_desc_the_golden_table_is_copied_as_it_is() -> Result<()> {
    let kit = Kit::small("asis", 1)?;
    let disk = kit.same_disk("n1")?;
    kit.clone_to(&[&disk], &[])?.expect_success()?;
    kit.expect_clone(&disk)?;
    let shape = |disk: &Disk| -> Result<Vec<String>> {
        let dump = Program::new("sfdisk").arg("--dump").arg(disk.device()).run()?;
        let lines = dump
            .lines()
            .filter_map(|line| line.split_once(" : "))
            .map(|(_, rest)| rest.to_owned());
        Ok(lines.collect())
    };
    assert_eq!(shape(kit.golden.disk())?, shape(&disk)?);
    Ok(())
}

#[test]
fn mbr_becomes_gpt_and_ext4_becomes_xfs() -> Result<()> {
    let kit = Kit::small("convert", 1)?;
    let desc =
        kit.desc("table gpt\nswap 32M name=pages\nlinux fill fs=xfs mount=/ label=root name=\"system\"\n")?;
    let desc = desc.map(|part| part.replace("name=\"system\"", "name=system"));
    fs::write(
        &desc[2],
        "table gpt\nswap 32M name=pages\nlinux fill fs=xfs mount=/ label=root name=system\n",
    )?;
    let disk = kit.disk("n1", 3 * GIB / 4, 4096)?;
    kit.clone_to(&[&disk], &desc.each_ref().map(String::as_str))?
        .expect_success()?;
    let volumes = [
        Volume::new(2, "xfs", "/").label("root"),
        Volume::new(1, "swap", "none"),
    ];
    kit.compare(
        &disk,
        &volumes,
        &Allowed {
            other_filesystem: true,
            ..Allowed::for_system()
        },
    )?;
    expect_sound_table(&disk, "gpt", 2)?;
    expect_own_fstab(&kit, &disk, &volumes)?;
    assert_eq!(golden::tag(&disk.partition(2), "LABEL")?, "root");
    assert_eq!(golden::tag(&disk.partition(2), "PART_ENTRY_NAME")?, "system");
    Ok(())
}

#[test]
fn btrfs_keeps_its_subvolumes() -> Result<()> {
    let plan = Plan {
        size: GIB,
        sector_size: 512,
        table: "label: gpt\nsize=700MiB\nsize=16MiB,type=swap\n",
        volumes: vec![
            Volume::new(1, "btrfs", "/").subvolume("@"),
            Volume::new(1, "btrfs", "/home").subvolume("@home"),
            Volume::new(2, "swap", "none"),
        ],
        foreign_fstab: "",
    };
    let kit = Kit::with_plan("btrfs", 1, plan)?;
    let disk = kit.disk("n1", 2 * GIB, 512)?;
    kit.clone_to(&[&disk], &[])?.expect_success()?;
    kit.expect_clone(&disk)?;
    expect_sound_table(&disk, "gpt", 2)?;
    expect_own_fstab(&kit, &disk, &kit.plan.volumes)
}

#[test]
fn a_golden_file_system_on_a_whole_disk_goes_to_the_line_that_names_its_mount_point() -> Result<()> {
    let kit = Kit::small("whole", 1)?;
    let extra = kit.disk("extra", mib(64), 512)?;
    Program::new("mkfs.ext4").arg("-qF").arg(extra.checked()?).run()?;
    let point = kit.golden.root().join("srv");
    let mounted = ka_tests::mounts::Mounted::new(extra.device(), &point, "defaults")?;
    fs::write(point.join("file"), "on a whole disk")?;
    let fstab = format!(
        "{}UUID={} /srv ext4 defaults 0 2\n",
        kit.golden.fstab(),
        golden::tag(extra.device(), "UUID")?
    );
    fs::write(kit.golden.root().join("etc/fstab"), fstab)?;
    let disk = kit.disk("n1", GIB, 512)?;

    let missing = kit.desc("swap 16\nlinux 400 boot\nlinux fill\n")?;
    let refused = kit
        .lab
        .server_program()?
        .args(["-n", "1", "--root"])
        .arg(kit.golden.root())
        .args(missing)
        .finish()?;
    ensure!(matches!(refused.code, Some(1 | 2)), "{}", refused.all());
    refused.says("/srv")?.says("mount=")?;

    let desc = kit.desc("swap 16\nlinux 400 boot\nlinux fill mount=/srv\n")?;
    kit.clone_to(&[&disk], &desc.each_ref().map(String::as_str))?
        .expect_success()?;
    let volumes = [Volume::new(2, "ext4", "/"), Volume::new(3, "ext4", "/srv")];
    kit.compare(&disk, &volumes, &Allowed::for_system())?;
    drop(mounted);
    Ok(())
}

#[test]
fn keep_uuids_keeps_them_and_without_it_they_are_new() -> Result<()> {
    let kit = Kit::small("uuids", 1)?;
    let uuid = |disk: &Disk| golden::tag(&disk.partition(2), "UUID");
    let kept = kit.same_disk("kept")?;
    kit.clone_to(&[&kept], &["--keep-uuids"])?.expect_success()?;
    kept.show_partitions()?;
    assert_eq!(uuid(&kept)?, uuid(kit.golden.disk())?);
    drop(kept);
    let fresh = kit.same_disk("fresh")?;
    kit.clone_to(&[&fresh], &[])?.expect_success()?;
    fresh.show_partitions()?;
    assert_ne!(uuid(&fresh)?, uuid(kit.golden.disk())?);
    Ok(())
}

#[test]
fn a_raw_partition_arrives_byte_for_byte() -> Result<()> {
    let mut plan = small_plan();
    plan.table = "label: dos\nsize=16MiB,type=82\nsize=300MiB,type=83,bootable\nsize=20MiB,type=da\n";
    let kit = Kit::with_plan("raw", 2, plan)?;
    fs::write(kit.golden.disk().partition(3), tree::noise(20 << 20, 11))?;
    let disks = [kit.same_disk("n1")?, kit.disk("n2", GIB, 512)?];
    let raw = format!("{}p3", kit.golden.disk().name());
    kit.clone_to(&disks.iter().collect::<Vec<_>>(), &["-D", &raw])?
        .expect_success()?;
    for disk in &disks {
        kit.expect_clone(disk)?;
        crate::kit::expect_same_file(&kit.golden.disk().partition(3), &disk.partition(3))?;
    }
    Ok(())
}

/// Length of the code: the last six of the 446 bytes are the disk's signature, which is different on every
/// disk.
const CODE: usize = 440;

#[test]
fn boot_code_comes_from_the_golden_disk_or_from_a_file() -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let kit = Kit::small("bootcode", 1)?;
    let golden_code = tree::noise(446, 3);
    fs::OpenOptions::new()
        .write(true)
        .open(kit.golden.disk().checked()?)?
        .write_all_at(&golden_code, 0)?;
    let drive = kit.golden.disk().name();
    let disk = kit.same_disk("n1")?;
    kit.clone_to(&[&disk], &["-m", &drive])?.expect_success()?;
    assert_eq!(disk.first_bytes(CODE)?, golden_code[..CODE]);
    let other = tree::noise(446, 4);
    let file = kit.lab.scratch().path().join("code");
    fs::write(&file, &other)?;
    kit.clone_to(&[&disk], &["-M", &drive, &file.display().to_string()])?
        .expect_success()?;
    assert_eq!(disk.first_bytes(CODE)?, other[..CODE]);
    kit.expect_clone(&disk)
}

#[test]
fn swap_files_are_made_anew_and_our_own_state_stays_home() -> Result<()> {
    let kit = Kit::small("swapfile", 1)?;
    let swap = kit.golden.root().join("swapfile");
    fs::write(&swap, vec![7; 8 << 20])?;
    Program::new("chmod").arg("600").arg(&swap).run()?;
    Program::new("mkswap").arg(&swap).run()?;
    let fstab = format!("{}/swapfile none swap sw 0 0\n", kit.golden.fstab());
    fs::write(kit.golden.root().join("etc/fstab"), fstab)?;
    let disk = kit.same_disk("n1")?;
    kit.clone_to(&[&disk], &[])?.expect_success()?;
    let allowed = Allowed {
        ignored: ["swapfile", "var/log/ka"].map(PathBuf::from).to_vec(),
        ..Allowed::for_system()
    };
    kit.compare(&disk, &kit.plan.volumes, &allowed)?;
    let clone = kit.mounted(&disk, &kit.plan.volumes)?;
    let made = fs::metadata(clone.root().join("swapfile"))?;
    ensure!(made.len() == 8 << 20, "the swap file has {} bytes", made.len());
    assert_eq!(golden::tag(&clone.root().join("swapfile"), "TYPE")?, "swap");
    assert_ne!(
        golden::tag(&clone.root().join("swapfile"), "UUID")?,
        golden::tag(&swap, "UUID")?
    );
    Ok(())
}

/// Insists that `sfdisk --verify` (and `sgdisk -v` for GPT) has no complaint.
fn expect_sound_table(disk: &Disk, label: &str, partitions: usize) -> Result<()> {
    let verified = Program::new("sfdisk")
        .arg("--verify")
        .arg(disk.device())
        .finish()?;
    ensure!(
        verified.code == Some(0) && verified.stderr.trim().is_empty(),
        "sfdisk --verify: {}",
        verified.all()
    );
    if label == "gpt" {
        let checked = Program::new("sgdisk").arg("-v").arg(disk.device()).run()?;
        ensure!(checked.contains("No problems found"), "sgdisk -v: {checked}");
    }
    let dump = Program::new("sfdisk").arg("--dump").arg(disk.device()).run()?;
    let found = dump.lines().filter(|line| line.contains("start=")).count();
    ensure!(
        dump.contains(&format!("label: {label}")) && found == partitions,
        "{dump}"
    );
    Ok(())
}

/// Insists that fstab names every volume by this disk's own values, in the way the golden fstab does; foreign
/// lines stay.
fn expect_own_fstab(kit: &Kit, disk: &Disk, volumes: &[Volume]) -> Result<()> {
    let clone = kit.mounted(disk, volumes)?;
    let text = fs::read_to_string(clone.root().join("etc/fstab"))?;
    ensure!(
        text.starts_with(kit.plan.foreign_fstab),
        "foreign lines changed:\n{text}"
    );
    for volume in volumes {
        // The kernel's names do not last.
        let by = if volume.by == By::Device {
            By::Uuid
        } else {
            volume.by
        };
        let own = golden::spec(disk, volume, by)?;
        let line = text.lines().find(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields.len() > 2 && fields[0] == own && fields[1] == volume.mount && fields[2] == volume.fs
        });
        ensure!(
            line.is_some(),
            "no line {own} {} {} in:\n{text}",
            volume.mount,
            volume.fs
        );
    }
    Ok(())
}
