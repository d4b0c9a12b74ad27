//! A boot server without a run behind it: `ka-pxe` with the golden system's kernel and a real stage1.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use ka_tests::binaries;
use ka_tests::netns::Namespace;
use ka_tests::process::{Program, Running};
use ka_tests::qemu::room::{Node, Room};

/// Where the kernel and `stage1.img` are, of a server that was there when they were made, and is no more.
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

/// A DHCP server that is not ours, with these options beside its range.
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
