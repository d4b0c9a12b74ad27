//! A power cut in the middle of the restore, and the file systems that the build machine's kernel cannot
//! mount.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::{Plan, Volume};
use ka_tests::process::{Program, Running};
use ka_tests::qemu::console::Mark;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden;
use ka_tests::qemu::logs::reported;
use ka_tests::qemu::machine::{Bus, Card, Machine, Spec};
use ka_tests::qemu::seats;
use ka_tests::{snapshot, tree};

use crate::bios::{log_in, shut_down};
use crate::judge;
use ka_tests::qemu::room::{BOOT_LIMIT, FULL_DHCP, Node, Room};

/// Table with a GPT for a BIOS: GRUB's core lies in a partition of its own.
const TABLE: &str = "label: gpt
size=1MiB,type=21686148-6449-6E6F-744E-656564454649
size=1100MiB,type=linux
size=320MiB,type=linux
size=16MiB,type=linux
size=16MiB,type=linux
size=16MiB,type=linux
size=16MiB,type=linux
type=swap
";
/// Layout with room for each type's smallest file system: reiserfs has a journal of 32 MiB.
const DESC: &str = "table gpt
bios 1
linux 1400
linux 400
linux 64 fs=vfat
linux 64 fs=jfs
linux 80 fs=reiserfs
linux 120 fs=f2fs
swap 64
";
/// Partition, file system on the clone, mount point.
const FOREIGN: [(u32, &str, &str); 4] = [
    (4, "vfat", "/data/vfat"),
    (5, "jfs", "/data/jfs"),
    (6, "reiserfs", "/data/reiserfs"),
    (7, "f2fs", "/data/f2fs"),
];
/// A node's message when the restore begins; the one below marks its end.
const RESTORING: &str = "] restoring";
const RESTORED: &str = "restoring...OK";
/// Pause into the restore: some files are written then and the rest is not.
const INTO_THE_RESTORE: Duration = Duration::from_secs(8);

/// A power cut during the restore, and clones with file systems that the build machine's kernel cannot mount.
#[test]
fn a_machine_whose_power_was_cut_does_not_boot_until_it_is_cloned_again() -> Result<()> {
    reported(|| {
        let plan = plan();
        let room = Room::new("power-cut", &plan)?;
        for (_, fs, mount) in FOREIGN {
            fill(&room.golden.root().join(&mount[1..]), fs)?;
        }
        let spec = Spec::new("cut", 1, Firmware::Bios, Bus::Ide, Card::E1000);
        let nodes = [room.node(spec, 3 * GIB)?];
        let [node] = &nodes;
        let _seat = seats::take(1);
        let server = room.serve(FULL_DHCP, &nodes, DESC)?;
        cut_off(&room, node).with_context(|| format!("the server said:\n{}", server.said()))?;
        let ended = server.wait()?;
        ensure!(
            ended.code != Some(0),
            "the server took it for a clone:\n{}",
            ended.all()
        );
        let server = room.serve(FULL_DHCP, &nodes, DESC)?;
        becomes_a_clone(&room, &nodes, &plan.volumes, &server)
            .with_context(|| format!("the server said:\n{}", server.said()))?;
        server.wait()?.expect(0)?.says("booted")?;
        Ok(())
    })
}

fn cut_off(room: &Room, node: &Node) -> Result<()> {
    let powered = room.power_on(node)?;
    powered.wait_for(Mark::default(), RESTORING, BOOT_LIMIT)?;
    std::thread::sleep(INTO_THE_RESTORE);
    let said = powered.cut()?;
    ensure!(!said.contains(RESTORED), "the cut came too late:\n{said}");
    node.disk.reread()?;
    ensure!(
        !node.disk.looks_finished()?,
        "a table is on the disk of a node that was cut off"
    );
    does_not_boot(room, &node.disk)
}

fn becomes_a_clone(room: &Room, nodes: &[Node], golden: &[Volume], server: &Running) -> Result<()> {
    room.clone_all(nodes, server)?;
    let volumes = clone_volumes(golden);
    let identities = [judge::clone(room, &nodes[0].disk, &volumes)?];
    let on = log_in(room, nodes, &identities, &volumes)?;
    for (_, fs, mount) in FOREIGN {
        let golden = room.golden.root().join(&mount[1..]);
        let was = Program::new("sh")
            .args(["-c", &manifest(&golden.to_string_lossy(), fs)])
            .run()?;
        let is = on[0].console.command(&manifest(mount, fs))?;
        ensure!(was == is, "{fs}: {is}\ninstead of\n{was}");
    }
    shut_down(on)
}

fn does_not_boot(room: &Room, disk: &Disk) -> Result<()> {
    let mut spec = Spec::new("alone", 9, Firmware::Bios, Bus::Ide, Card::E1000);
    spec.network_boot = false;
    let machine = Machine::new(room.lab.scratch(), room.lab.network(), spec)?;
    let powered = machine.power_on(room.lab.scratch(), room.lab.network(), disk, room.accel)?;
    powered.wait_for(Mark::default(), "No bootable device", BOOT_LIMIT)?;
    powered.cut().map(drop)
}

/// Returns a plan in which the golden node has ext4 if this machine's kernel does not know the clone's type.
fn plan() -> Plan {
    let mut volumes = vec![
        Volume::new(2, "ext4", "/"),
        Volume::new(3, "xfs", "/srv"),
        Volume::new(8, "swap", "none"),
    ];
    volumes.extend(FOREIGN.map(|(partition, _, mount)| Volume::new(partition, "ext4", mount)));
    Plan {
        table: TABLE,
        volumes,
        ..golden::plan(Firmware::Bios)
    }
}

fn clone_volumes(golden: &[Volume]) -> Vec<Volume> {
    let mut volumes = golden.to_vec();
    for volume in &mut volumes {
        if let Some((_, fs, _)) = FOREIGN.iter().find(|(_, _, mount)| *mount == volume.mount) {
            volume.fs = fs;
        }
    }
    volumes
}

/// Writes files of several sizes, names and times; those that vfat cannot hold go to the others.
fn fill(dir: &Path, fs: &str) -> Result<()> {
    let below = dir.join("Some directory/deeper");
    fs::create_dir_all(&below)?;
    for (name, bytes) in [
        ("empty", 0),
        ("one", 1),
        ("block", 4096),
        ("More than a Block", 5000),
    ] {
        fs::write(dir.join(name), tree::noise(bytes, 3))?;
    }
    fs::write(below.join("large.bin"), tree::noise(3_145_745, 5))?;
    if fs != "vfat" {
        fs::write(dir.join("ünïcode ☃"), "snow\n")?;
        symlink("Some directory/deeper/large.bin", dir.join("link"))?;
        fs::hard_link(dir.join("one"), below.join("the same"))?;
    }
    // vfat counts in steps of two seconds, reiserfs in seconds.
    for path in [
        below.join("large.bin"),
        dir.join("one"),
        below.clone(),
        dir.join("Some directory"),
    ] {
        snapshot::set_mtime(&path, 1_234_567_890, 0)?;
    }
    Ok(())
}

/// Returns a command that lists everything below a directory and digests every byte.
fn manifest(dir: &str, fs: &str) -> String {
    // vfat knows no owners and modes.
    let owner = if fs == "vfat" { "" } else { "%m %U %G %n " };
    format!(
        "cd '{dir}' && export LC_ALL=C && find . -mindepth 1 -name lost+found -prune -o -type f -printf '%P %y {owner}%s\\n' \
         -o -printf '%P %y {owner}%l\\n' | sort; find . -type f -exec sha256sum {{}} + | sort; \
         find . -newermt @1234567880 ! -newermt @1234567891 | sort; cd /"
    )
}
