//! The disk that a node takes, its messages about it before, and options that are refused before it joins.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::Disk;
use ka_tests::lab::Server;
use ka_tests::process::{Ended, Program};

use crate::kit::{Kit, finish};

/// A machine with disk names as on a real one, in mounts of its own: a node sees them in `/sys/class/block`
/// and `/dev`.
struct Machine {
    script: PathBuf,
}

impl Machine {
    fn new(kit: &Kit, label: &str, disks: &[(&str, &Disk)]) -> Result<Self> {
        let dir = kit.lab.scratch().dir(label)?;
        let mut script = "set -e\nmount --make-rprivate /\n".to_owned();
        script += "mount -t tmpfs -o mode=755 none /dev\n";
        for (name, minor) in [("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)] {
            script += &format!("mknod -m 666 /dev/{name} c 1 {minor}\n");
        }
        script += "mkdir -p /dev/disk/by-id\n";
        for (name, disk) in disks {
            let number = fs::metadata(disk.checked()?)?.rdev();
            let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
            script += &format!("mknod /dev/{name} b {major} {minor}\n");
            script += &format!("ln -s ../../{name} /dev/disk/by-id/ata-{name}\n");
            let sys = dir.join(name);
            for below in ["queue", "device", "holders", "slaves"] {
                fs::create_dir_all(sys.join(below))?;
            }
            let sectors = fs::metadata(disk.file())?.len() / 512;
            for (file, text) in [
                ("size", sectors.to_string()),
                ("dev", format!("{major}:{minor}")),
                ("queue/logical_block_size", disk.sector_size().to_string()),
                ("device/model", format!("MODEL {name}")),
                ("removable", "0".to_owned()),
                ("ro", "0".to_owned()),
                ("hidden", "0".to_owned()),
            ] {
                fs::write(sys.join(file), text + "\n")?;
            }
        }
        script += &format!("mount --bind {} /sys/class/block\nexec \"$@\"\n", dir.display());
        let path = dir.with_extension("sh");
        fs::write(&path, script)?;
        Ok(Self { script: path })
    }

    /// Runs a dry run of a node with these options here.
    fn looks(&self, kit: &Kit, server: &Server, args: &[&str]) -> Result<Ended> {
        let script = self.script.display().to_string();
        let program = kit.lab.client_program(1, server)?.arg("--dry-run").args(args);
        program.wrapped(&["unshare", "-m", "sh", &script]).finish()
    }
}

fn format(disk: &Disk, label: &str) -> Result<()> {
    let mkfs = Program::new("mkfs.ext4").args(["-q", "-F", "-L", label]);
    mkfs.arg(disk.checked()?).run().map(drop)
}

fn write_at(disk: &Disk, at: u64, bytes: &[u8]) -> Result<()> {
    let file = fs::File::options().write(true).open(disk.checked()?)?;
    file.write_all_at(bytes, at)?;
    file.sync_all().context("syncing a disk of the test")
}

fn expect_as_it_was(disk: &Disk, before: &str) -> Result<()> {
    ensure!(disk.fingerprint()? == before, "{} was written to", disk.name());
    Ok(())
}

#[test]
fn among_several_disks_none_is_taken_for_its_name_and_members_by_nobody_unasked() -> Result<()> {
    let kit = Kit::small("certain", 1)?;
    let (one, other) = (kit.same_disk("one")?, kit.same_disk("other")?);
    let server = kit.server(&["-n", "1"])?;
    let machine = Machine::new(&kit, "two", &[("sda", &one), ("sdb", &other)])?;

    format(&one, "DATA")?;
    let before = one.fingerprint()?;
    let told = machine.looks(&kit, &server, &[])?;
    told.expect(1)?
        .says("several disks could become")?
        .says("--disk")?;
    told.says("fits; now holds ext4 \"DATA\"")?;
    let told = machine.looks(
        &kit,
        &server,
        &[
            "--disk",
            &format!("{}=/dev/disk/by-id/ata-sdb", kit.golden.disk().name()),
        ],
    )?;
    told.expect(0)?.says("erase /dev/sdb")?.says("which is empty")?;

    // A volume group that no tool has assembled.
    write_at(&one, 512, b"LABELONE")?;
    write_at(&one, 512 + 24, b"LVM2 001")?;
    let told = machine.looks(&kit, &server, &[])?;
    told.expect(0)?.says("erase /dev/sdb")?;

    let lone = Machine::new(&kit, "lone", &[("sda", &one)])?;
    let told = lone.looks(&kit, &server, &[])?;
    told.expect(1)?
        .says("sda belongs to LVM")?
        .says("--erase-members")?;
    lone.looks(&kit, &server, &["--erase-members"])?
        .expect(0)?
        .says("which now holds: a part of LVM")?;
    write_at(&one, 512, &[0; 8])?;
    format(&one, "DATA")?;
    ensure!(!before.is_empty(), "a fingerprint");

    // The dry runs did not count as part of the run: it still waits for its node.
    let node = kit.node(1, &server, &other, &[])?;
    let outcome = finish(server, vec![node])?;
    outcome.expect_success()?;
    outcome.server.says("looked (dry run): would erase /dev/sdb")?;
    outcome.server.says("looked (dry run): it could not be cloned")?;
    outcome.server.says("1 node done")?;
    kit.expect_clone(&other)
}

#[test]
fn what_a_disk_holds_is_told_by_the_node_and_summed_up_by_the_server() -> Result<()> {
    let kit = Kit::small("holds", 2)?;
    let disks = [kit.same_disk("n1")?, kit.same_disk("n2")?];
    format(&disks[0], "root")?;
    disks[1].write_table("label: gpt\nsize=64MiB\n")?;
    let before = disks[0].fingerprint()?;
    let server = kit.server(&["-n", "2"])?;
    let looked = kit.node(1, &server, &disks[0], &["--dry-run"])?.wait()?;
    looked.expect(0)?.says("which now holds: ext4 \"root\"")?;
    expect_as_it_was(&disks[0], &before)?;
    let nodes = vec![
        kit.node(1, &server, &disks[0], &[])?,
        kit.node(2, &server, &disks[1], &[])?,
    ];
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    outcome
        .server
        .says("2 disks, 1.0 GiB will be erased; 2 are not empty")?;
    outcome
        .server
        .says("ext4 \"root\"")?
        .says("gpt")?
        .says("2 nodes done")?;
    Ok(())
}

#[test]
fn options_that_cannot_be_meant_end_a_node_before_it_joins() -> Result<()> {
    let kit = Kit::small("before", 1)?;
    let (one, other) = (kit.same_disk("one")?, kit.same_disk("other")?);
    let drive = kit.golden.disk().name();
    let server = kit.server(&["-n", "1"])?;
    let link = kit.lab.scratch().path().join("alias");
    std::os::unix::fs::symlink(one.device(), &link)?;
    let of = |drive: &str, device: &Path| format!("{drive}={}", device.display());
    let (first, second) = (of(&drive, one.device()), of(&drive, other.device()));
    let (missing, twice) = (format!("{drive}=/dev/no-such-disk"), of("sdz", &link));
    let full = kit.lab.scratch().dir("full")?;
    fs::write(full.join("file"), "x")?;
    let full = full.display().to_string();
    let output = format!("{full}/none/image");
    let cases: [(&[&str], &str); 7] = [
        (
            &["--disk", &first, "--disk", &second],
            "--disk names two devices for",
        ),
        (&["--disk", &first, "--disk", &twice], "one disk to two drives"),
        (&["--disk", &missing], "there is no such disk; here are /dev/"),
        (
            &["--mount-dir", "relative"],
            "--mount-dir relative: give an absolute path",
        ),
        (&["--mount-dir", &full], "is not empty"),
        (&["--output", &full], "is a directory"),
        (&["--output", &output], "there is no directory"),
    ];
    for (args, said) in cases {
        // The lab's own --mount-dir is left out: two of them would be wrong usage of another kind.
        let program = Program::new(ka_tests::binaries::path("ka-client")?).arg("--no-reboot");
        let program = program.inside(kit.lab.network().node(1));
        let ended = program
            .arg("--join-file")
            .arg(server.join_file())
            .args(args)
            .finish()?;
        ended
            .expect(2)
            .and_then(|ended| ended.says(said))
            .with_context(|| format!("{args:?}"))?;
    }
    let before = one.fingerprint()?;
    let node = kit.node(1, &server, &other, &[])?;
    let outcome = finish(server, vec![node])?;
    outcome.expect_success()?;
    expect_as_it_was(&one, &before)?;
    ensure!(
        !outcome.server.all().contains("refused"),
        "{}",
        outcome.server.all()
    );
    Ok(())
}

#[test]
fn who_comes_for_another_kind_of_session_is_turned_away_and_the_run_goes_on() -> Result<()> {
    let kit = Kit::small("kind", 1)?;
    let disk = kit.same_disk("n1")?;
    let server = kit.server(&["-n", "1"])?;
    let output = kit.lab.scratch().path().join("stream");
    let output = output.display().to_string();
    let stray = kit.lab.client(1, &server, &["--output", &output])?.wait()?;
    stray.expect(1)?.says("this session clones disks")?;
    let node = kit.node(1, &server, &disk, &[])?;
    let outcome = finish(server, vec![node])?;
    outcome.expect_success()?;
    outcome.server.says("1 node done")?;

    let server = kit.lab.server(&["-n", "1", "-e", "echo hello"])?;
    let before = disk.fingerprint()?;
    let choice = kit.choice(&disk)?;
    let stray = kit.lab.client(1, &server, &["--disk", &choice])?.wait()?;
    stray.expect(1)?.says("this session sends a plain stream")?;
    let stray = kit
        .lab
        .client(1, &server, &["--disk", &choice, "--dry-run"])?
        .wait()?;
    stray.expect(1)?.says("there is no plan")?;
    expect_as_it_was(&disk, &before)?;
    let node = kit.lab.client(1, &server, &["--output", &output])?;
    let outcome = finish(server, vec![node])?;
    outcome.expect_success()?;
    ensure!(fs::read_to_string(&output)? == "hello\n", "the stream");
    Ok(())
}
