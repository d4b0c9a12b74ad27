//! Nodes with a fault: it is found before a byte is written if that is possible.

use std::fs;

use anyhow::{Result, ensure};
use ka_tests::disk::{Disk, GIB};
use ka_tests::mounts::Mounted;
use ka_tests::process::{Ended, Program};

use crate::kit::{Kit, finish, mib};

/// Runs one node that must refuse to begin: exit code 1, and the server names it.
fn refusal(kit: &Kit, disk: &Disk, args: &[&str], says: &str) -> Result<()> {
    let server = kit.server(&["-n", "1"])?;
    let node = kit.node(1, &server, disk, args)?;
    let outcome = finish(server, vec![node])?;
    outcome.nodes[0].expect(1)?.says(says)?;
    ensure!(
        outcome.server.code == Some(1),
        "{}: {}",
        outcome.server.how(),
        outcome.server.all()
    );
    outcome.server.says("n1")?.says(says)?;
    kit.lab.expect_unmounted(1)
}

/// Runs one node that must refuse to begin and leave its disk as it was.
fn expect_refusal(kit: &Kit, disk: &Disk, args: &[&str], says: &str) -> Result<()> {
    let before = disk.fingerprint()?;
    refusal(kit, disk, args, says)?;
    ensure!(disk.fingerprint()? == before, "the disk was written to");
    Ok(())
}

#[test]
fn a_disk_that_is_too_small_is_refused_before_anything_is_written() -> Result<()> {
    let kit = Kit::small("small", 1)?;
    expect_refusal(
        &kit,
        &kit.disk("n1", mib(100), 512)?,
        &[],
        "behind the end of the disk",
    )
}

#[test]
fn a_disk_that_is_too_small_for_the_files_is_refused() -> Result<()> {
    let kit = Kit::small("full", 1)?;
    for index in 0..8 {
        fs::write(
            kit.golden.root().join(format!("home/fill{index}")),
            ka_tests::tree::noise(20_000_000, index),
        )?;
    }
    let desc = kit.desc("swap 8\nlinux fill\n")?;
    let disk = kit.disk("n1", mib(120), 512)?;
    let before = disk.fingerprint()?;
    let server = kit.server(&[&["-n", "1"], &desc.each_ref().map(String::as_str)[..]].concat())?;
    let node = kit.node(1, &server, &disk, &[])?;
    let outcome = finish(server, vec![node])?;
    outcome.nodes[0].expect(1)?;
    ensure!(disk.fingerprint()? == before, "the disk was written to");
    Ok(())
}

#[test]
fn a_mounted_disk_is_refused() -> Result<()> {
    let kit = Kit::small("mounted", 1)?;
    let disk = kit.disk("n1", GIB, 512)?;
    disk.write_table("label: dos\ntype=83\n")?;
    Program::new("mkfs.ext4")
        .arg("-qF")
        .arg(disk.partition(1))
        .run()?;
    let mounted = Mounted::new(&disk.partition(1), &kit.lab.scratch().path().join("used"), "ro")?;
    expect_refusal(&kit, &disk, &[], "mounted")?;
    drop(mounted);
    Ok(())
}

#[test]
fn a_disk_used_as_swap_is_refused() -> Result<()> {
    let kit = Kit::small("swapped", 1)?;
    let disk = kit.disk("n1", GIB, 512)?;
    disk.write_table("label: dos\nsize=32MiB,type=82\n")?;
    Program::new("mkswap").arg("-q").arg(disk.partition(1)).run()?;
    Program::new("swapon")
        .args(["--priority", "0"])
        .arg(disk.partition(1))
        .run()?;
    // There is no fingerprint here: the kernel itself may write to a swap partition.
    let refused = refusal(&kit, &disk, &[], "swap");
    Program::new("swapoff").arg(disk.partition(1)).run()?;
    refused
}

#[test]
fn a_disk_that_is_not_there_is_refused_before_joining_and_the_run_waits_for_its_node() -> Result<()> {
    let kit = Kit::small("gone", 1)?;
    let server = kit.server(&["-n", "1"])?;
    let choice = format!("{}=/dev/no-such-disk", kit.golden.disk().name());
    let refused = kit.lab.client(1, &server, &["--disk", &choice])?.wait()?;
    refused.expect(2)?.says("no-such-disk")?;
    let disk = kit.same_disk("n1")?;
    let node = kit.node(1, &server, &disk, &[])?;
    finish(server, vec![node])?.expect_success()?;
    kit.expect_clone(&disk)
}

#[test]
fn a_missing_tool_is_found_before_anything_is_written() -> Result<()> {
    let kit = Kit::small("notool", 1)?;
    let disk = kit.same_disk("n1")?;
    let before = disk.fingerprint()?;
    // Only this node sees it so: a mount namespace of its own, in which /dev/null lies over the program.
    let hide =
        "for tool in /usr/sbin/mke2fs /sbin/mke2fs; do mount --bind /dev/null $tool; done; exec \"$@\"";
    let server = kit.server(&["-n", "1"])?;
    let choice = kit.choice(&disk)?;
    let node = kit.lab.client_program(1, &server)?.args(["--disk", &choice]);
    let node = node
        .wrapped(&["unshare", "--mount", "sh", "-c", hide, "sh"])
        .spawn()?;
    let outcome = finish(server, vec![node])?;
    outcome.nodes[0].expect(1)?.says("mke2fs")?;
    outcome.server.says("mke2fs")?;
    ensure!(disk.fingerprint()? == before, "the disk was written to");
    Ok(())
}

#[test]
fn a_failing_tool_fails_its_node_with_what_it_said_and_the_other_node_finishes() -> Result<()> {
    let kit = Kit::small("badtool", 2)?;
    let disks = [kit.same_disk("n1")?, kit.same_disk("n2")?];
    let bin = kit.lab.scratch().dir("bin")?;
    fs::write(
        bin.join("mke2fs"),
        "#!/bin/sh\necho the disk is on fire >&2\nexit 4\n",
    )?;
    Program::new("chmod").arg("+x").arg(bin.join("mke2fs")).run()?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
    let server = kit.server(&["-n", "2"])?;
    let choice = kit.choice(&disks[0])?;
    let bad = kit
        .lab
        .client_program(1, &server)?
        .args(["--disk", &choice])
        .env("PATH", path)
        .spawn()?;
    let good = kit.node(2, &server, &disks[1], &[])?;
    let outcome = finish(server, vec![bad, good])?;
    outcome.nodes[0].expect(3)?.says("the disk is on fire")?;
    outcome.nodes[1].expect(0)?;
    outcome
        .server
        .expect(3)?
        .says("n1")?
        .says("the disk is on fire")?;
    ensure!(!disks[0].looks_finished()?, "the failed disk looks finished");
    kit.expect_clone(&disks[1])
}

#[test]
fn a_file_system_that_fills_up_during_the_run_fails_its_node_only() -> Result<()> {
    let kit = Kit::small("enospc", 2)?;
    // The golden files are sparse, and so below the check's sum; a file that grows during the run fills the
    // holes.
    let desc = kit.desc("swap 8\nlinux fill\n")?;
    let disks = [kit.disk("n1", mib(64), 512)?, kit.disk("n2", mib(512), 512)?];
    let many = kit.golden.root().join("home/many");
    fs::create_dir_all(&many)?;
    for index in 0..9000 {
        fs::write(many.join(format!("f{index}")), vec![b'x'; 5000])?;
    }
    let server = kit.server(&[&["-n", "2"], &desc.each_ref().map(String::as_str)[..]].concat())?;
    let nodes = vec![
        kit.node(1, &server, &disks[0], &[])?,
        kit.node(2, &server, &disks[1], &[])?,
    ];
    let outcome = finish(server, nodes)?;
    ensure!(
        matches!(outcome.nodes[0].code, Some(1 | 3)),
        "{}",
        outcome.nodes[0].all()
    );
    outcome.nodes[1].expect(0)?;
    outcome.server.expect(3)?.says("n1")?;
    ensure!(!disks[0].looks_finished()?, "the failed disk looks finished");
    kit.expect_clone(&disks[1])
}

#[test]
fn dry_run_of_both_sides_writes_nothing() -> Result<()> {
    let kit = Kit::small("dry", 1)?;
    let disk = kit.same_disk("n1")?;
    // A read would write access times; nothing else may be written at all.
    Program::new("mount")
        .args(["-o", "remount,ro"])
        .arg(kit.golden.root())
        .run()?;
    let before = (disk.fingerprint()?, kit.golden.disk().fingerprint()?);
    let root = kit.golden.root().display().to_string();
    let dry = |args: &[&str]| -> Result<Ended> {
        kit.lab
            .server_program()?
            .args(["-n", "1", "--dry-run", "-r", "none", "--root", &root])
            .args(args)
            .finish()
    };
    let table = dry(&[])?;
    table.expect(0)?.says(&kit.golden.disk().name())?.says("ext4")?;
    let json = dry(&["--json"])?;
    json.expect(0)?;
    serde_json::from_str::<serde_json::Value>(json.stdout.trim())?;

    let server = kit.server(&["-n", "1"])?;
    let node = kit.node(1, &server, &disk, &["--dry-run"])?;
    let node = node.wait()?;
    node.expect(0)?.says("mke2fs")?.says(&disk.name())?;
    drop(server);
    ensure!(disk.fingerprint()? == before.0, "the node's disk was written to");
    ensure!(
        kit.golden.disk().fingerprint()? == before.1,
        "the golden disk was written to"
    );
    Ok(())
}
