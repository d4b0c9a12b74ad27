//! EXTLINUX and dracut's image, made in a clone on this machine, boot another one.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ka_tests::debian;
use ka_tests::disk::GIB;
use ka_tests::golden;
use ka_tests::qemu::console::Mark;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden::plan;
use ka_tests::qemu::machine::{Bus, Card, Spec};
use ka_tests::qemu::room::{BOOT_LIMIT, Node, Room};
use ka_tests::qemu::seats;

use crate::bios::shut_down;

/// The drivers of the machine that boots, which is not the one that clones.
const LOADER: &str = "extlinux --with=ahci --with=sd_mod";

#[test]
fn extlinux_boots_the_clone_with_dracuts_image() -> Result<()> {
    let plan = plan(Firmware::Bios);
    let room = Room::with_golden("extlinux", &debian::with_other_tools()?, &plan)?;
    let golden = golden::tag(&room.golden.disk().partition(1), "UUID")?;
    let root = room.golden.root();
    let release = debian::kernel_release(root)?;
    // Nothing here has been installed yet but the program: there is a configuration, and no ldlinux.sys.
    fs::create_dir_all(root.join("boot/extlinux"))?;
    fs::write(
        root.join("boot/extlinux/extlinux.conf"),
        format!(
            "default debian\nlabel debian\n\tlinux /boot/vmlinuz-{release}\n\tinitrd /boot/initrd.img-{release}\n\
             \tappend root=UUID={golden} ro console=ttyS0,115200\n"
        ),
    )?;
    let mut spec = Spec::new("extlinux", 7, Firmware::Bios, Bus::Ahci, Card::Virtio);
    spec.network_boot = false;
    let node = room.node(spec, 3 * GIB)?;
    clone(&room, &node)?;

    let own = golden::tag(&node.disk.partition(1), "UUID")?;
    ensure!(own != golden, "the clone's root has the golden UUID");
    let _seat = seats::take(1);
    let powered = room.power_on(&node)?;
    powered.login(Mark::default(), BOOT_LIMIT)?;
    let said = powered
        .console
        .command("findmnt -n -o UUID /; cat /proc/cmdline; hostname")?;
    for wanted in [
        format!("{own}\n"),
        format!("BOOT_IMAGE=/boot/vmlinuz-{release} "),
        format!("root=UUID={own} "),
        "\nsolo\n".to_owned(),
    ] {
        ensure!(said.contains(&wanted), "{said} lacks {wanted}");
    }
    shut_down(vec![powered])
}

/// A run with one node, on this machine.
fn clone(room: &Room, node: &Node) -> Result<()> {
    let root = room.golden.root().display().to_string();
    let server = room.lab.server(&["--root", &root, "-n", "1", "-r", LOADER])?;
    let disk = node.disk.checked()?.display();
    let choice = format!("{}={disk}", room.golden.disk().name());
    let client = room
        .lab
        .client(1, &server, &["--disk", &choice, "--name", "solo"])?;
    let (client, server) = (client.wait()?, server.run.wait()?);
    client
        .expect(0)
        .with_context(|| format!("the server said:\n{}", server.all()))?;
    server.expect(0)?;
    node.disk.show_partitions()
}
