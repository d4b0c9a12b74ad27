//! EXTLINUX and dracut's image, made in a clone on this machine: they boot another one.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ka_tests::debian;
use ka_tests::disk::GIB;
use ka_tests::golden;
use ka_tests::qemu::console::Mark;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden::plan;
use ka_tests::qemu::logs::reported;
use ka_tests::qemu::machine::{Bus, Card, Powered, Spec};
use ka_tests::qemu::room::{BOOT_LIMIT, Node, Room};
use ka_tests::qemu::seats;

use crate::bios::shut_down;

/// Loader with the drivers of the machines that boot; the one that clones has others.
const LOADER: &str = "extlinux --with=ahci --with=sd_mod";
/// The clone's layout; the golden node's own has an MBR.
const GPT: &str = "table gpt\nlinux 1400 boot\nlinux fill\nswap 100\n";

#[test]
fn extlinux_boots_from_an_mbr_and_from_a_gpt_with_dracuts_image() -> Result<()> {
    reported(|| {
        let room = Room::with_golden("extlinux", &debian::with_other_tools()?, &plan(Firmware::Bios))?;
        let release = configure(&room)?;
        let desc = room.file("desc", GPT)?.display().to_string();
        let golden = room.golden.disk().name();
        let nodes = [machine(&room, "mbr", 7)?, machine(&room, "gpt", 8)?];
        clone(&room, &nodes[0], &[])?;
        clone(&room, &nodes[1], &["-p", &golden, &desc])?;
        let _seats = seats::take(nodes.len());
        let on = nodes
            .iter()
            .map(|node| room.power_on(node))
            .collect::<Result<Vec<_>>>()?;
        for (node, powered) in nodes.iter().zip(&on) {
            is_itself(&room, node, powered, &release)?;
        }
        shut_down(on)
    })
}

/// Configures EXTLINUX where only the program is installed: there is a configuration, and no ldlinux.sys.
/// Returns the kernel's release.
fn configure(room: &Room) -> Result<String> {
    let golden = golden::tag(&room.golden.disk().partition(1), "UUID")?;
    let root = room.golden.root();
    let release = debian::kernel_release(root)?;
    fs::create_dir_all(root.join("boot/extlinux"))?;
    fs::write(
        root.join("boot/extlinux/extlinux.conf"),
        format!(
            "default debian\nlabel debian\n\tlinux /boot/vmlinuz-{release}\n\tinitrd /boot/initrd.img-{release}\n\
             \tappend root=UUID={golden} ro console=ttyS0,115200\n"
        ),
    )?;
    Ok(release)
}

fn machine(room: &Room, name: &str, number: u8) -> Result<Node> {
    let mut spec = Spec::new(name, number, Firmware::Bios, Bus::Ahci, Card::Virtio);
    spec.network_boot = false;
    room.node(spec, 3 * GIB)
}

/// Runs one node, on this machine.
fn clone(room: &Room, node: &Node, args: &[&str]) -> Result<()> {
    let root = room.golden.root().display().to_string();
    let fixed = ["--root", &root, "-n", "1", "-r", LOADER];
    let server = room.lab.server(&[&fixed, args].concat())?;
    let choice = format!("{}={}", room.golden.disk().name(), node.disk.checked()?.display());
    let name = &node.machine.spec().name;
    let client = room
        .lab
        .client(1, &server, &["--disk", &choice, "--name", name])?;
    let (client, server) = (client.wait()?, server.run.wait()?);
    client
        .expect(0)
        .with_context(|| format!("the server said:\n{}", server.all()))?;
    server.expect(0)?;
    node.disk.show_partitions()
}

fn is_itself(room: &Room, node: &Node, powered: &Powered, release: &str) -> Result<()> {
    let [golden, own] = [room.golden.disk(), &node.disk].map(|disk| golden::tag(&disk.partition(1), "UUID"));
    let (golden, own) = (golden?, own?);
    ensure!(own != golden, "the clone's root has the golden UUID");
    powered.login(Mark::default(), BOOT_LIMIT)?;
    let said = powered
        .console
        .command("findmnt -n -o UUID /; cat /proc/cmdline; hostname")?;
    for wanted in [
        format!("{own}\n"),
        format!("BOOT_IMAGE=/boot/vmlinuz-{release} "),
        format!("root=UUID={own} "),
        format!("\n{}\n", node.machine.spec().name),
    ] {
        ensure!(said.contains(&wanted), "{said} lacks {wanted}");
    }
    Ok(())
}
