//! A machine whose golden node has systemd-boot, entries of kernel-install and an initramfs of dracut's. It
//! boots as itself, from the files that were made for it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ka_tests::debian::{self, BootEntry};
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::{self, Volume};
use ka_tests::process::{Program, Running};
use ka_tests::qemu::console::Console;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden::plan;
use ka_tests::qemu::logs::reported;
use ka_tests::qemu::machine::{Bus, Card, Spec};
use ka_tests::qemu::room::{FULL_DHCP, Node, Room};
use ka_tests::qemu::seats;

use crate::bios::{log_in, shut_down};
use crate::judge;
use crate::uefi::{DESC, clone_volumes, expect_boot_entry};

const LOADER: &str = "\\efi\\systemd\\systemd-bootx64.efi";

#[test]
fn systemd_boot_starts_the_rebuilt_image_and_the_clone_is_a_machine_of_its_own() -> Result<()> {
    reported(|| {
        let plan = plan(Firmware::Uefi);
        let room = Room::with_golden("systemd-boot", &debian::with_other_tools()?, &plan)?;
        let root = golden::tag(&room.golden.disk().partition(2), "UUID")?;
        let line = format!("root=UUID={root} ro console=ttyS0,115200");
        let entry = debian::add_boot_entry(room.golden.root(), &line)?;
        let spec = Spec::new("sdboot", 6, Firmware::Uefi, Bus::Nvme, Card::Virtio);
        let nodes = [room.node(spec, 3 * GIB)?];
        let _seat = seats::take(1);
        let server = room.serve(FULL_DHCP, &nodes, DESC)?;
        becomes_a_clone(&room, &nodes, &plan.volumes, &entry, &server)
            .with_context(|| format!("the server said:\n{}", server.said()))?;
        server.wait()?.expect(0)?.says("booted")?;
        Ok(())
    })
}

fn becomes_a_clone(
    room: &Room,
    nodes: &[Node; 1],
    golden: &[Volume],
    entry: &BootEntry,
    server: &Running,
) -> Result<()> {
    room.clone_all(nodes, server)?;
    let [node] = nodes;
    let volumes = clone_volumes(golden);
    let identity = judge::clone(room, &node.disk, &volumes)?;
    let identities = [identity];
    judge::distinct(room, golden, &identities)?;
    let made = on_the_esp(&node.disk, &entry.image())?;
    ensure!(
        made != debian::GOLDEN_IMAGE.as_bytes(),
        "the image on the ESP is the golden one"
    );
    let on = log_in(room, nodes, &identities, &volumes)?;
    for powered in &on {
        expect_boot_entry(node, powered, LOADER)?;
        runs_as_itself(&powered.console, &identities[0].machine_id, entry)?;
    }
    shut_down(on)
}

/// Insists that the running system names its own image and machine: `/etc/machine-id` was compared before.
fn runs_as_itself(console: &Console, machine_id: &str, entry: &BootEntry) -> Result<()> {
    let line = console.command("cat /proc/cmdline")?;
    let image = format!("initrd=\\{}", entry.image().replace('/', "\\"));
    ensure!(line.contains(&image), "{line} does not name {image}");
    let parameter = format!("systemd.machine_id={machine_id}");
    ensure!(line.contains(&parameter), "{line} does not say {parameter}");
    let said = console.command("journalctl -q -b -n 1 -o export | grep -a ^_MACHINE_ID=")?;
    ensure!(
        said.trim() == format!("_MACHINE_ID={machine_id}"),
        "the running system is {said}"
    );
    let esp = format!("/boot/efi/{}", entry.image());
    console.command(&format!("cmp {esp} /boot/initrd.img-{}", entry.release))?;
    Ok(())
}

/// Returns a file of the first partition, which this kernel cannot mount.
fn on_the_esp(disk: &Disk, path: &str) -> Result<Vec<u8>> {
    let copy = disk.file().with_extension("copied");
    Program::new("mcopy")
        .arg("-i")
        .arg(disk.partition(1))
        .arg(format!("::/{path}"))
        .arg(&copy)
        .run()?;
    Ok(fs::read(copy)?)
}
