//! A golden system that was in use: its names, and those of a clone in their place. Also the SELinux label of
//! every file.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ka_tests::process::Program;

use crate::kit::Kit;

const GOLDEN_MAC: &str = "52:54:00:aa:bb:cc";
const KEY_LABEL: &str = "system_u:object_r:sshd_key_t:s0";
const LABEL: &str = "system_u:object_r:etc_t:s0";

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    fs::create_dir_all(path.parent().context("a directory")?)?;
    fs::write(path, text)?;
    Ok(())
}

/// Installs a program of this machine, with the libraries that it needs.
fn install(root: &Path, program: &str) -> Result<()> {
    let listed = Program::new("ldd").arg(program).run()?;
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in std::iter::once(program).chain(libraries) {
        let target = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().context("a directory")?)?;
        fs::copy(file, target).with_context(|| format!("copying {file}"))?;
    }
    Ok(())
}

fn keygen(root: &Path, file: &str, kind: &str) -> Result<()> {
    let file = root.join(file);
    fs::create_dir_all(file.parent().context("a directory")?)?;
    let tool = Program::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-C", "root@golden", "-f"]);
    tool.arg(file).run().map(drop)
}

fn live_in(root: &Path) -> Result<()> {
    install(root, "/usr/bin/ssh-keygen")?;
    for (path, text) in [
        ("etc/hostname", "golden.example.org\n"),
        (
            "etc/hosts",
            "127.0.0.1 localhost\n127.0.1.1 golden.example.org golden\n",
        ),
        ("etc/postfix/main.cf", "myhostname = golden.example.org\n"),
        ("etc/samba/smb.conf", "[global]\nnetbios name = GOLDEN\n"),
        ("etc/sysconfig/network", "HOSTNAME=golden.example.org\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("var/lib/dhcp/dhclient6.eth0.leases", "default-duid \"x\";\n"),
        ("etc/hostid", "gold"),
        ("etc/ssh/sshd_config", "HostKey /srv/keys/host\n"),
    ] {
        write(root, path, text)?;
    }
    let netplan = format!(
        "network:\n  ethernets:\n    ens3:\n      match: {{macaddress: '{GOLDEN_MAC}'}}\n      set-name: ens3\n"
    );
    write(root, "etc/netplan/50-cloud-init.yaml", &netplan)?;
    let link = format!("[Match]\nMACAddress={GOLDEN_MAC}\n[Link]\nName=lan0\n");
    write(root, "etc/systemd/network/10-lan.link", &link)?;
    fs::create_dir_all(root.join("var/log"))?;
    keygen(root, "etc/ssh/ssh_host_ed25519_old_key", "ed25519")?;
    keygen(root, "etc/ssh/ssh_host_rsa_key", "rsa")?;
    keygen(root, "srv/keys/host", "ecdsa")?;
    for (label, files) in [
        (LABEL, "/"),
        (KEY_LABEL, "/etc/ssh/ssh_host_*"),
        (KEY_LABEL, "/srv/keys/*"),
    ] {
        let script = "find $1$2 -xdev -print0 | xargs -0 setfattr -h -n security.selinux -v \"$3\"";
        let set = Program::new("sh")
            .args(["-ec", script, "sh"])
            .arg(root)
            .args([files, label]);
        set.run()?;
    }
    Ok(())
}

fn label(path: &Path) -> Result<String> {
    let tool = Program::new("getfattr").args([
        "-h",
        "--only-values",
        "--absolute-names",
        "-n",
        "security.selinux",
    ]);
    let value = tool
        .arg(path)
        .run()
        .with_context(|| format!("{} has no label", path.display()))?;
    Ok(value.trim_end_matches('\0').to_owned())
}

#[test]
fn a_clone_of_a_system_that_was_lived_in_is_another_machine_and_every_file_is_labelled() -> Result<()> {
    let kit = Kit::small("lived", 1)?;
    let golden = kit.golden.root();
    live_in(golden)?;
    let disk = kit.same_disk("n1")?;
    let server = kit.server(&["-n", "1", "-r", "none"])?;
    let node = kit.node(1, &server, &disk, &["--name", "solo"])?;
    crate::kit::finish(server, vec![node])?.expect_success()?;
    let clone = kit.mounted(&disk, &kit.plan.volumes)?;
    let root = clone.root();
    let text = |path: &str| fs::read_to_string(root.join(path)).with_context(|| path.to_owned());
    for (path, expected) in [
        ("etc/hostname", "solo.example.org\n"),
        (
            "etc/hosts",
            "127.0.0.1 localhost\n127.0.1.1 solo.example.org solo\n",
        ),
        ("etc/postfix/main.cf", "myhostname = solo.example.org\n"),
        ("etc/samba/smb.conf", "[global]\nnetbios name = SOLO\n"),
        ("etc/sysconfig/network", "HOSTNAME=\"solo.example.org\"\n"),
    ] {
        ensure!(text(path)? == expected, "{path}: {}", text(path)?);
    }
    for path in [
        "etc/netplan/50-cloud-init.yaml",
        "etc/systemd/network/10-lan.link",
    ] {
        let own = text(path)?;
        ensure!(
            !own.contains(GOLDEN_MAC) && own.to_lowercase().contains("macaddress"),
            "{path}: {own}"
        );
    }
    ensure!(!root.join("var/lib/dhcp/dhclient6.eth0.leases").exists());
    ensure!(fs::read(root.join("etc/hostid"))? != b"gold");
    for (key, kind) in [
        ("etc/ssh/ssh_host_ed25519_old_key", "ssh-ed25519"),
        ("etc/ssh/ssh_host_rsa_key", "ssh-rsa"),
        ("srv/keys/host", "ecdsa-"),
    ] {
        let public = format!("{key}.pub");
        let own = text(&public)?;
        ensure!(own.starts_with(kind), "{public}: {own}");
        ensure!(
            own != fs::read_to_string(golden.join(&public))?,
            "{public} is the golden one"
        );
        for file in [key, &public] {
            ensure!(
                label(&root.join(file))? == KEY_LABEL,
                "{file}: {}",
                label(&root.join(file))?
            );
        }
    }
    for file in [
        "var/log/ka",
        "var/log/ka/clone.log",
        "etc/hostname",
        "etc/netplan/50-cloud-init.yaml",
    ] {
        ensure!(
            label(&root.join(file))? == LABEL,
            "{file}: {}",
            label(&root.join(file))?
        );
    }
    ensure!(!root.join(".autorelabel").exists());
    Ok(())
}
