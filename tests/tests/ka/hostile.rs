//! Clones equal to their golden trees: every kind of file and every oddity, on each file system.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use ka_tests::compare::Allowed;
use ka_tests::disk::GIB;
use ka_tests::golden::{Plan, Volume};
use ka_tests::tree;

use crate::kit::{Kit, finish};

fn plan(fs: &'static str) -> Plan {
    Plan {
        size: GIB,
        sector_size: 512,
        table: "label: gpt\nsize=300MiB\nsize=600MiB\n",
        volumes: vec![Volume::new(1, "ext4", "/"), Volume::new(2, fs, "/data")],
        foreign_fstab: "",
    }
}

fn arrives_on(fs: &'static str) -> Result<()> {
    let kit = Kit::with_plan(&format!("hostile-{fs}"), 2, plan(fs))?;
    tree::hostile(&kit.golden.root().join("data/hostile"))?;
    let disks = [kit.same_disk("n1")?, kit.disk("n2", 2 * GIB, 4096)?];
    kit.clone_to(&disks.iter().collect::<Vec<_>>(), &[])?
        .expect_success()?;
    kit.expect_clone(&disks[0])?;
    kit.expect_clone(&disks[1])
}

#[test]
fn every_oddity_arrives_on_ext4() -> Result<()> {
    arrives_on("ext4")
}

#[test]
fn every_oddity_arrives_on_xfs() -> Result<()> {
    arrives_on("xfs")
}

#[test]
fn every_oddity_arrives_on_btrfs() -> Result<()> {
    arrives_on("btrfs")
}

#[test]
fn every_oddity_but_flags_arrives_on_another_file_system() -> Result<()> {
    let kit = Kit::with_plan("hostile-other", 1, plan("ext4"))?;
    tree::hostile(&kit.golden.root().join("data/hostile"))?;
    let desc = kit.desc("table gpt\nlinux 300\nlinux fill fs=btrfs\n")?;
    let disk = kit.same_disk("n1")?;
    kit.clone_to(&[&disk], &desc.each_ref().map(String::as_str))?
        .expect_success()?;
    let volumes = [Volume::new(1, "ext4", "/"), Volume::new(2, "btrfs", "/data")];
    kit.compare(
        &disk,
        &volumes,
        &Allowed {
            other_filesystem: true,
            ..Allowed::for_system()
        },
    )
}

#[test]
fn excluded_directories_arrive_empty_with_mode_owner_and_time() -> Result<()> {
    let kit = Kit::with_plan("excluded", 1, plan("ext4"))?;
    let spool = kit.golden.root().join("data/spool");
    fs::create_dir_all(spool.join("deep/er"))?;
    fs::write(spool.join("job"), "stays at home")?;
    std::os::unix::fs::chown(&spool, Some(13), Some(26))?;
    let disk = kit.same_disk("n1")?;
    kit.clone_to(&[&disk], &["-x", "/data/spool|/tmp"])?
        .expect_success()?;
    let excluded = ["data/spool", "tmp"].map(PathBuf::from).to_vec();
    kit.compare(
        &disk,
        &kit.plan.volumes,
        &Allowed {
            excluded,
            ..Allowed::for_system()
        },
    )
}

#[test]
fn many_small_files_and_directories_arrive() -> Result<()> {
    let kit = Kit::with_plan("many", 1, plan("ext4"))?;
    for dir in 0..100 {
        let dir = kit.golden.root().join(format!("data/d{dir}"));
        fs::create_dir_all(&dir)?;
        for file in 0..150_usize {
            fs::write(dir.join(format!("f{file}")), tree::noise(file * 13, file))?;
        }
    }
    let disk = kit.same_disk("n1")?;
    kit.clone_to(&[&disk], &[])?.expect_success()?;
    kit.expect_clone(&disk)
}

/// The golden node works on while it is read. Its changes must not break the stream, and they are reported by
/// name.
#[test]
fn files_that_change_and_vanish_while_they_are_read_break_nothing() -> Result<()> {
    let kit = Kit::slow("changing", 1)?;
    let busy = kit.golden.root().join("home/busy");
    fs::create_dir_all(&busy)?;
    for index in 0..300 {
        fs::write(busy.join(format!("f{index}")), tree::noise(50_000, index))?;
    }
    let disk = kit.same_disk("n1")?;
    let server = kit.server(&["-n", "1"])?;
    let mut node = kit.node(1, &server, &disk, &[])?;
    node.wait_for("estoring")?;
    for index in 0..300 {
        let path = busy.join(format!("f{index}"));
        match index % 3 {
            0 => fs::remove_file(path)?,
            1 => fs::write(path, "much shorter")?,
            _ => fs::write(path, tree::noise(200_000, index))?,
        }
        thread::sleep(Duration::from_millis(8));
    }
    let outcome = finish(server, vec![node])?;
    outcome.expect_success()?;
    let ignored = ["home/busy", "var/log/ka"].map(PathBuf::from).to_vec();
    kit.compare(
        &disk,
        &kit.plan.volumes,
        &Allowed {
            ignored,
            ..Allowed::for_system()
        },
    )
}
