//! A boot server without a run behind it: `ka-pxe` with the golden system's kernel and a real stage1.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use ka_tests::binaries;
use ka_tests::disk::MIB;
use ka_tests::netns::Namespace;
use ka_tests::process::{Program, Running};
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::machine::{Bus, Card, Spec};
use ka_tests::qemu::room::{Node, Room};

/// Path of iPXE as a program.
const ROM_PROGRAM: &str = "/usr/lib/ipxe/ipxe.lkrn";

/// A BIOS machine whose PXE ROM starts a given URL. QEMU's own ROMs are iPXE, and our server gives iPXE a
/// script instead. So the same iPXE runs as a program: it asks by DHCP, forgets that script, and starts the
/// URL that a ROM would get, through the same PXE interface.
#[derive(Debug)]
pub(crate) struct RomOf<'a> {
    /// Name of the machine.
    pub(crate) name: &'a str,
    /// Number of the machine, which its MAC address contains.
    pub(crate) number: u8,
    /// The URL that its ROM starts: `tftp://10.77.0.1/pxelinux.0`.
    pub(crate) url: &'a str,
}

/// Makes the kernel and `stage1.img`, with a server that has ended since, and returns their directory.
pub(crate) fn images(room: &Room) -> Result<PathBuf> {
    let images = room.lab.scratch().dir("images")?;
    let gone = room.lab.server(&["-n", "1", "-e", "true"])?;
    let join_file = gone.join_file().to_owned();
    gone.run.kill_alone()?;
    Program::new(binaries::path("ka-initrd")?)
        .args(["stage1", "--root"])
        .arg(room.golden.root())
        .arg("--client")
        .arg(binaries::static_client()?)
        .arg("--join-file")
        .arg(join_file)
        .arg("--output")
        .arg(&images)
        .run()?;
    Ok(images)
}

/// Serves them; of all machines only `armed` boot `kamethod`.
pub(crate) fn serve(
    room: &Room,
    images: &Path,
    armed: &[Node],
    args: &[&str],
    limit: Duration,
) -> Result<Running> {
    let mut server = Program::new(binaries::path("ka-pxe")?)
        .args(["serve", "--iface", "eth0", "--timeout", "1", "--nodes"])
        .arg(room.nodes_file(armed)?)
        .args(["--append", "kamethod console=ttyS0 quiet", "--kernel"])
        .arg(images.join("vmlinuz"))
        .arg("--initrd")
        .arg(images.join("stage1.img"))
        .arg("--state-dir")
        .arg(room.lab.scratch().path().join("pxe-state"))
        .args(args)
        .inside(room.lab.network().golden())
        .limit(limit)
        .tethered()
        .spawn()?;
    server.wait_for("serving eth0")?;
    Ok(server)
}

/// Makes a machine with such a ROM.
pub(crate) fn rom_machine(room: &Room, rom: &RomOf<'_>) -> Result<Node> {
    ensure!(
        Path::new(ROM_PROGRAM).is_file(),
        "there is no {ROM_PROGRAM} (package ipxe)"
    );
    let RomOf { name, number, url } = rom;
    let file = url.splitn(4, '/').nth(3).unwrap_or_default();
    let script = format!(
        "#!ipxe\ndhcp || shell\nset net0.dhcp/filename {file}\nchain {url} || echo {file} failed\nexit 1\n"
    );
    let script = room.file(&format!("{name}.ipxe"), &script)?.display().to_string();
    let mut spec = Spec::new(name, *number, Firmware::Bios, Bus::Ahci, Card::E1000);
    spec.network_boot = false;
    spec.options
        .extend(["-kernel", ROM_PROGRAM, "-initrd", &script].map(str::to_owned));
    room.node(spec, 64 * MIB)
}

/// Starts a DHCP server that is not ours, with these options beside its range.
pub(crate) fn dnsmasq(host: &Namespace, args: &[&str], limit: Duration) -> Result<Running> {
    let mut dnsmasq = Program::new("dnsmasq")
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--log-dhcp",
            "--log-facility=-",
            "--user=root",
        ])
        .args([
            "--port=0",
            "--interface=eth0",
            "--bind-interfaces",
            "--dhcp-range=10.77.0.150,10.77.0.199",
        ])
        .arg("--leasefile-ro")
        .args(args)
        .inside(host)
        .limit(limit)
        .tethered()
        .spawn()?;
    dnsmasq.wait_for("DHCP, IP range")?;
    Ok(dnsmasq)
}
