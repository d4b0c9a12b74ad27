//! The Debian package on a machine with systemd: its units, an upgrade in the middle of a run, and a purge.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ka_tests::packages::{Packages, chroot, copy_in};
use ka_tests::process::Program;
use ka_tests::qemu::console::Console;
use ka_tests::scratch::Scratch;

const FIRST: &str = concat!("Version: ", env!("CARGO_PKG_VERSION"), "-1\n");
const NEXT: &str = concat!("Version: ", env!("CARGO_PKG_VERSION"), "-2\n");
/// A stream that flows until the upgrade is done.
const STREAM: &str =
    "#!/bin/sh\nwhile ! [ -e /root/upgraded ]; do echo line; sleep 0.2; done | tee /var/log/ka/sent\n";
/// The address of the machine's only card. The units wait for the network, and nobody else gives it one.
const NETWORK: &str = "[Match]\nType=ether\n[Network]\nAddress=10.77.0.200/24\n";

/// Installs the package into a system that is off, and prepares its next version, a run and a boot server.
pub(crate) fn install(scratch: &Scratch, root: &Path) -> Result<()> {
    let deb = Packages::first()?.deb()?;
    copy_in(&deb, root, "/root/ka.deb")?;
    chroot(root, &["dpkg", "-i", "/root/ka.deb"]).run()?;
    fs::remove_file(root.join("root/ka.deb"))?;
    pack_next(&deb, &scratch.path().join("package"), &root.join("root/next.deb"))?;
    let stream = root.join("root/stream");
    fs::write(&stream, STREAM)?;
    fs::set_permissions(&stream, fs::Permissions::from_mode(0o755))?;
    let config = root.join("etc/ka");
    fs::write(
        config.join("server-small.conf"),
        "KA_SERVER_OPTIONS=-n 1 --listen 127.0.0.1 -e /root/stream\n",
    )?;
    fs::write(root.join("etc/systemd/network/10-lab.network"), NETWORK)?;
    let boot = root.join("srv/boot");
    fs::create_dir_all(&boot)?;
    for file in ["pxelinux.0", "ldlinux.c32", "kernel", "initrd"] {
        fs::write(boot.join(file), "content")?;
    }
    Ok(())
}

/// Makes the package again with the next number. It is not compressed, because an emulated machine takes it apart.
fn pack_next(deb: &Path, work: &Path, next: &Path) -> Result<()> {
    Program::new("dpkg-deb").arg("-R").arg(deb).arg(work).run()?;
    let control = work.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    ensure!(text.contains(FIRST), "{FIRST:?} is not in {text}");
    fs::write(&control, text.replace(FIRST, NEXT))?;
    let pack = Program::new("dpkg-deb").args(["--root-owner-group", "-Znone", "-b"]);
    pack.arg(work).arg(next).run()?;
    fs::remove_dir_all(work).with_context(|| format!("removing {}", work.display()))
}

/// Runs the units of the installed package, upgrades and purges it.
pub(crate) fn serves_upgrades_and_goes(console: &Console) -> Result<()> {
    let enabled = console.command("systemctl is-enabled ka-pxe; true")?;
    ensure!(enabled.trim() == "disabled", "the boot server is {enabled}");
    console.command("systemctl start ka-server@small")?;
    console.command("until [ -s /var/lib/ka/join-small ]; do sleep 0.2; done")?;
    console.command(
        "ka-client -s small -h 127.0.0.1 --listen 127.0.0.2 --join-file /var/lib/ka/join-small --no-reboot \
         -e 'cat > /root/got' > /root/client 2>&1 & until [ -s /var/log/ka/sent ]; do sleep 0.2; done",
    )?;
    console.command("dpkg -i /root/next.deb")?;
    let state =
        console.command("systemctl is-active ka-server@small; dpkg-query -W ka; touch /root/upgraded")?;
    ensure!(
        state.starts_with("active\n") && state.contains(concat!(env!("CARGO_PKG_VERSION"), "-2")),
        "after the upgrade: {state}"
    );
    console.command("while systemctl -q is-active ka-server@small; do sleep 0.2; done; wait")?;
    let result = console.command("systemctl show -p Result --value ka-server@small")?;
    let said = console.command("cat /root/client; journalctl -n 20 -u ka-server@small")?;
    ensure!(result.trim() == "success", "the run ended with {result}:\n{said}");
    console
        .command("cmp /root/got /var/log/ka/sent && grep -c line /root/got")
        .with_context(|| said)?;
    let modes = console.command("stat -c '%a %G' /var/log/ka /var/lib/ka")?;
    ensure!(modes == "2750 ka\n700 root\n", "the directories are {modes}");
    boot_server(console)?;
    let state = console.command("systemctl is-active ka-pxe; ls -d /etc/ka /var/lib/ka /var/log/ka; true")?;
    ensure!(state.trim().starts_with("inactive"), "after the purge: {state}");
    ensure!(!state.contains("\n/"), "the purge left {state}");
    let failed = console.command("systemctl --failed --plain --no-legend")?;
    ensure!(failed.trim().is_empty(), "services that failed:\n{failed}");
    Ok(())
}

/// Enables the boot server, sees it serve, and purges the package beneath it.
fn boot_server(console: &Console) -> Result<()> {
    let card = console.command("ls /sys/class/net | grep -v '^lo$'")?;
    let card = card.trim();
    console.command(&format!(
        "echo 'KA_PXE_OPTIONS=--iface {card} --dhcp proxy --kernel /srv/boot/kernel --initrd /srv/boot/initrd \
         --boot-files /srv/boot' > /etc/ka/pxe.conf"
    ))?;
    console.command("systemctl enable --now ka-pxe")?;
    console
        .command("for i in $(seq 50); do journalctl -u ka-pxe | grep -q serving && break; sleep 0.2; done")?;
    let said = console.command("systemctl is-active ka-pxe; journalctl -n 20 -u ka-pxe; true")?;
    ensure!(
        said.trim().starts_with("active") && said.contains("serving"),
        "the boot server is {said}"
    );
    console.command("dpkg --purge ka").map(drop)
}
