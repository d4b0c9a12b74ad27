//! UEFI machines: one beside another address server, one with Secure Boot on.

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::Volume;
use ka_tests::process::{Program, Running};
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden;
use ka_tests::qemu::logs::reported;
use ka_tests::qemu::machine::{Bus, Card, Powered, Spec};
use ka_tests::qemu::seats;

use crate::bios::{log_in, shut_down};
use crate::boot_server;
use crate::judge;
use ka_tests::qemu::room::{FULL_DHCP, Node, Room, SERVER_LIMIT};

/// The clones' layout, with an ESP that firmware can read; the golden node's is a directory on ext4 (see
/// [`golden::plan`]).
pub(crate) const DESC: &str = "table gpt\nesp 100 fs=vfat\nlinux 1400\nlinux fill\nswap 100\n";
/// The program that firmware starts when it remembers nothing (UEFI 2.10 §3.5.1.1), and Debian's own.
const ON_THE_ESP: [&str; 2] = ["::/EFI/BOOT/BOOTX64.EFI", "::/EFI/debian/grubx64.efi"];
/// The global variable `SecureBoot` (UEFI 2.10 §3.3): four bytes of attributes, then 1 when it is enforced.
const SECURE_BOOT: &str =
    "od -An -j4 -tu1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// A UEFI machine becomes a clone beside an address server, on GPT with an ESP.
#[test]
fn a_uefi_machine_becomes_a_clone_beside_an_address_server() -> Result<()> {
    reported(|| {
        let plan = golden::plan(Firmware::Uefi);
        let room = Room::new("uefi", &plan)?;
        let spec = Spec::new("uefi", 1, Firmware::Uefi, Bus::Nvme, Card::Virtio);
        let nodes = [room.node(spec, 3 * GIB)?];
        let address_server = boot_server::dnsmasq(room.lab.network().node(1), &[], SERVER_LIMIT)?;
        let _seat = seats::take(1);
        let server = room.serve("proxy", &nodes, DESC)?;
        becomes_a_clone(&room, &nodes, &plan.volumes, &server).with_context(|| {
            let (server, dnsmasq) = (server.said(), address_server.said());
            format!("the server said:\n{server}\ndnsmasq said:\n{dnsmasq}")
        })?;
        server.wait()?.expect(0)?.says("booted")?;
        Ok(())
    })
}

/// Secure Boot covers shim, signed GRUB, signed kernel and modules from power-on to the clone's own login.
#[test]
fn secure_boot_stays_on_from_power_on_to_the_booted_clone() -> Result<()> {
    reported(|| {
        let plan = golden::plan(Firmware::SecureBoot);
        let room = Room::new("secure", &plan)?;
        let spec = Spec::new("secure", 2, Firmware::SecureBoot, Bus::Virtio, Card::Virtio);
        let nodes = [room.node(spec, 3 * GIB)?];
        let _seat = seats::take(1);
        let server = room.serve(FULL_DHCP, &nodes, DESC)?;
        becomes_a_clone(&room, &nodes, &plan.volumes, &server)
            .with_context(|| format!("the server said:\n{}", server.said()))?;
        server.wait()?.expect(0)?.says("booted")?;
        Ok(())
    })
}

fn becomes_a_clone(room: &Room, nodes: &[Node], golden: &[Volume], server: &Running) -> Result<()> {
    room.clone_all(nodes, server)?;
    let volumes = clone_volumes(golden);
    let mut identities = Vec::new();
    for node in nodes {
        identities.push(judge::clone(room, &node.disk, &volumes)?);
        esp(&node.disk)?;
    }
    judge::distinct(room, golden, &identities)?;
    let on = log_in(room, nodes, &identities, &volumes)?;
    for (node, powered) in nodes.iter().zip(&on) {
        firmware_knows_it(node, powered)?;
    }
    shut_down(on)
}

fn firmware_knows_it(node: &Node, powered: &Powered) -> Result<()> {
    expect_boot_entry(node, powered, "\\efi\\debian\\shimx64.efi")?;
    let enforced = powered.console.command(SECURE_BOOT)?;
    let wanted = u8::from(node.machine.spec().firmware == Firmware::SecureBoot).to_string();
    ensure!(
        enforced.trim() == wanted,
        "Secure Boot is {enforced} instead of {wanted}"
    );
    Ok(())
}

/// Insists that the firmware has an entry for this loader (in small letters) on the machine's own first
/// partition.
pub(crate) fn expect_boot_entry(node: &Node, powered: &Powered, loader: &str) -> Result<()> {
    let entries = powered.console.command("efibootmgr -v")?;
    let entry = entries.lines().find(|line| line.to_lowercase().contains(loader));
    let entry = entry.with_context(|| format!("no boot entry for {loader} in NVRAM:\n{entries}"))?;
    // The entry names the partition by its own id, not the golden one's.
    let esp = ka_tests::golden::tag(&node.disk.partition(1), "PARTUUID")?;
    ensure!(
        entry.to_lowercase().contains(&esp),
        "{entry} should name the partition {esp}"
    );
    Ok(())
}

/// Returns the clones' volumes: the ESP is vfat there, and ext4 on the golden system for want of vfat in this
/// kernel.
pub(crate) fn clone_volumes(golden: &[Volume]) -> Vec<Volume> {
    let mut volumes = golden.to_vec();
    for volume in volumes.iter_mut().filter(|volume| volume.mount == "/boot/efi") {
        volume.fs = "vfat";
    }
    volumes
}

fn esp(disk: &Disk) -> Result<()> {
    for path in ON_THE_ESP {
        Program::new("mdir")
            .arg("-i")
            .arg(disk.partition(1))
            .args(["-b", path])
            .run()
            .with_context(|| format!("looking for {path}"))?;
    }
    Ok(())
}
