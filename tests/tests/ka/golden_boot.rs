//! Golden nodes whose clones could not boot: refused by the server before a node is asked, with the way out.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ka_tests::process::Ended;

use crate::kit::Kit;

/// What the server says of the golden system, with these arguments.
fn server(kit: &Kit, args: &[&str]) -> Result<Ended> {
    let program = kit.lab.server_program()?.args(["-n", "1", "--root"]);
    program.arg(kit.golden.root()).args(args).finish()
}

/// Files of the golden system; a name that ends in `/` is a directory.
fn make(kit: &Kit, files: &[(&str, &str)]) -> Result<()> {
    for (name, text) in files {
        let path = kit.golden.root().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(&path)?;
            continue;
        }
        fs::create_dir_all(path.parent().context("it is in a directory")?)?;
        fs::write(&path, text)?;
    }
    Ok(())
}

fn expect_refused(kit: &Kit, words: &[&str]) -> Result<()> {
    for more in [&["--dry-run"][..], &[]] {
        let ended = server(kit, more)?;
        ended.expect(1).with_context(|| format!("{words:?}"))?;
        let errors: Vec<&str> = ended
            .stderr
            .lines()
            .filter(|line| line.starts_with("error:"))
            .collect();
        ensure!(errors.len() == 1, "{}", ended.all());
        let all = words.iter().all(|word| errors[0].contains(word));
        ensure!(all && errors[0].contains("-r none"), "{words:?}: {}", errors[0]);
    }
    server(kit, &["--dry-run", "-r", "none"])?
        .expect(0)?
        .says("Boot loader: none (-r none)")
        .map(drop)
}

const MODULES: (&str, &str) = ("lib/modules/6.6.62-gentoo-dist/modules.dep", "");
const KERNEL: (&str, &str) = ("boot/kernel-6.6.62-gentoo-dist", "kernel");

#[test]
fn a_golden_node_that_could_not_boot_is_refused_and_r_none_clones_it() -> Result<()> {
    let kit = Kit::small("unbootable", 1)?;
    expect_refused(&kit, &["knows no boot loader"])?;
    // Gentoo's handbook: /boot is not mounted in daily use.
    let fstab = fs::read_to_string(kit.golden.root().join("etc/fstab"))?;
    make(&kit, &[MODULES, ("boot/", ""), ("usr/sbin/grub-install", "")])?;
    let line = "/dev/disk/by-label/GBOOT /boot ext2 noauto,noatime 1 2\n";
    make(&kit, &[("etc/fstab", &format!("{fstab}{line}"))])?;
    for args in [&["--dry-run"][..], &[]] {
        let ended = server(&kit, args)?;
        ensure!(ended.code != Some(0), "{args:?}: {}", ended.all());
        ended
            .says("/dev/disk/by-label/GBOOT")?
            .says("mount it")?
            .says("-x /boot")?;
    }
    server(&kit, &["--dry-run", "-x", "/boot", "-r", "none"])?.expect(0)?;
    server(&kit, &["--dry-run", "-r", "none"])?
        .expect(0)?
        .says("/dev/disk/by-label/GBOOT) is not mounted and is left out")?;
    make(
        &kit,
        &[
            ("etc/fstab", &fstab),
            KERNEL,
            ("boot/extlinux/extlinux.conf", "LABEL x\n"),
        ],
    )?;
    expect_refused(&kit, &["extlinux.conf", "U-Boot"])?;
    let aliases = MODULES.0.replace("modules.dep", "modules.alias");
    make(&kit, &[(&aliases, "")])?;
    let disk = kit.same_disk("n1")?;
    kit.clone_to(&[&disk], &["-r", "none"])?.expect_success()
}

#[test]
fn a_kernel_without_modules_or_left_at_home_is_refused_and_a_whole_one_is_told() -> Result<()> {
    let kit = Kit::small("nomodules", 0)?;
    make(
        &kit,
        &[
            KERNEL,
            ("boot/grub/grub.cfg", "linux /boot/kernel\n"),
            ("usr/sbin/grub-install", ""),
            ("usr/sbin/grub-mkconfig", ""),
        ],
    )?;
    expect_refused(&kit, &["/boot/kernel-6.6.62-gentoo-dist has no modules"])?;
    make(&kit, &[MODULES])?;
    server(&kit, &["--dry-run"])?
        .expect(0)?
        .says("Boot loader: GRUB")?;
    for excluded in ["/boot", "/lib", "/lib/modules"] {
        let ended = server(&kit, &["--dry-run", "-x", excluded])?;
        ended
            .expect(1)?
            .says(&format!("-x {excluded}"))?
            .says("-r none")?;
    }
    // A second kernel that lost its modules does not stop a run, and is named.
    make(&kit, &[("boot/vmlinuz-6.6.63-gentoo-dist", "kernel")])?;
    server(&kit, &["--dry-run"])?
        .expect(0)?
        .says("/boot/vmlinuz-6.6.63-gentoo-dist has no modules")
        .map(drop)
}
