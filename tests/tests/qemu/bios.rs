//! BIOS machines that get all addresses from KA.

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::{GIB, MIB};
use ka_tests::golden::Volume;
use ka_tests::process::Running;
use ka_tests::qemu::console::{Console, Mark};
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden;
use ka_tests::qemu::logs::reported;
use ka_tests::qemu::machine::{Bus, Card, Powered, Spec};
use ka_tests::qemu::seats;

use crate::judge::{self, Identity};
use ka_tests::qemu::room::{BOOT_LIMIT, FULL_DHCP, Node, Room};

/// The clones' layout: it differs from the golden one in every partition.
const DESC: &str = "# 1 = /, 2 = /srv, 3 = swap\nlinux 1400 boot\nlinux fill\nswap 100\n";

/// Two machines go from an empty disk to a login prompt, on other hardware than the golden node's.
#[test]
fn two_bare_machines_become_clones_and_boot_from_their_own_disks() -> Result<()> {
    reported(|| {
        let plan = golden::plan(Firmware::Bios);
        let room = Room::new("bios", &plan)?;
        let nodes = [
            ("virtio", 1, Bus::Virtio, Card::Virtio, 2 * GIB + 300 * MIB),
            ("ahci", 2, Bus::Ahci, Card::E1000, 3 * GIB),
        ];
        let nodes = nodes
            .into_iter()
            .map(|(name, number, bus, card, bytes)| {
                room.node(Spec::new(name, number, Firmware::Bios, bus, card), bytes)
            })
            .collect::<Result<Vec<_>>>()?;
        let _seats = seats::take(nodes.len());
        let server = room.serve(FULL_DHCP, &nodes, DESC)?;
        become_clones(&room, &nodes, &plan.volumes, &server)
            .with_context(|| format!("the server said:\n{}", server.said()))?;
        let ended = server.wait()?;
        ended.expect(0)?;
        for node in &nodes {
            ended.says(&format!("{}-clone", node.machine.spec().name))?;
        }
        ended.says("booted")?;
        Ok(())
    })
}

fn become_clones(room: &Room, nodes: &[Node], volumes: &[Volume], server: &Running) -> Result<()> {
    room.clone_all(nodes, server)?;
    let identities = nodes
        .iter()
        .map(|node| judge::clone(room, &node.disk, volumes))
        .collect::<Result<Vec<_>>>()?;
    judge::distinct(room, volumes, &identities)?;
    shut_down(log_in(room, nodes, &identities, volumes)?)
}

/// Follows every machine from power-on through the network, which tells it `local`, to a login prompt of its
/// own disk. Root logs in there and looks around.
pub(crate) fn log_in(
    room: &Room,
    nodes: &[Node],
    identities: &[Identity],
    volumes: &[Volume],
) -> Result<Vec<Powered>> {
    let on = nodes
        .iter()
        .map(|node| room.power_on(node))
        .collect::<Result<Vec<_>>>()?;
    for (powered, identity) in on.iter().zip(identities) {
        powered.login(Mark::default(), BOOT_LIMIT)?;
        is_itself(&powered.console, identity, volumes)?;
    }
    Ok(on)
}

fn is_itself(console: &Console, identity: &Identity, volumes: &[Volume]) -> Result<()> {
    ensure!(
        console.text().contains("local"),
        "no word of a local boot: {}",
        console.text()
    );
    let said = console.command("hostname")?;
    ensure!(said.trim() == identity.hostname, "it calls itself {said}");
    let said = console.command("findmnt -n -o UUID /; cat /proc/cmdline")?;
    let root = format!("root=UUID={}", identity.root_uuid);
    ensure!(
        said.starts_with(&identity.root_uuid) && said.contains(&root),
        "root is {said} instead of {root}"
    );
    let said = console.command("cat /etc/machine-id")?;
    ensure!(
        said.trim() == identity.machine_id,
        "its machine-id has become {said}"
    );
    for volume in volumes.iter().filter(|volume| volume.fs != "swap") {
        let said = console.command(&format!("findmnt -n -o FSTYPE {}", volume.mount))?;
        ensure!(said.trim() == volume.fs, "{} is {said}", volume.mount);
    }
    console.command("swapon --noheadings | grep -q . && systemctl is-active ssh")?;
    let failed = console.command("systemctl --failed --plain --no-legend")?;
    ensure!(failed.trim().is_empty(), "services that failed:\n{failed}");
    Ok(())
}

/// Shuts the machines down.
pub(crate) fn shut_down(on: Vec<Powered>) -> Result<()> {
    for powered in on {
        powered.console.send("poweroff\n")?;
        powered.wait_off(BOOT_LIMIT)?;
    }
    Ok(())
}
