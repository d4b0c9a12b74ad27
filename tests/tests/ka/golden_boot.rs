//! Golden nodes whose clones could not boot: the server refuses them before it asks a node, with a remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use ka_tests::golden;
use ka_tests::process::Ended;

use crate::kit::Kit;

/// Runs a server on the golden system with these arguments.
fn server(kit: &Kit, args: &[&str]) -> Result<Ended> {
    let program = kit.lab.server_program()?.args(["-n", "1", "--root"]);
    program.arg(kit.golden.root()).args(args).finish()
}

/// Makes files of the golden system; a name that ends in `/` is a directory.
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
    // According to Gentoo's handbook, /boot is not mounted in daily use.
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
    // A second kernel that lost its modules does not stop a run, but it is named.
    make(&kit, &[("boot/vmlinuz-6.6.63-gentoo-dist", "kernel")])?;
    server(&kit, &["--dry-run"])?
        .expect(0)?
        .says("/boot/vmlinuz-6.6.63-gentoo-dist has no modules")
        .map(drop)
}

/// Makes an EFI program whose second section is this command line, padded as ukify does.
fn unified_image(command_line: &str) -> Vec<u8> {
    const TABLE: usize = 0x98 + 112;
    let mut image = vec![0; 1024];
    image[..2].copy_from_slice(b"MZ");
    image[0x3c] = 0x80;
    image[0x80..0x84].copy_from_slice(b"PE\0\0");
    image[0x86] = 2;
    image[0x94] = 112;
    image[TABLE..TABLE + 5].copy_from_slice(b".text");
    let entry = TABLE + 40;
    image[entry..entry + 8].copy_from_slice(b".cmdline");
    let len = u32::try_from(command_line.len()).unwrap_or_default();
    image[entry + 8..entry + 12].copy_from_slice(&len.to_le_bytes());
    image[entry + 16..entry + 20].copy_from_slice(&512_u32.to_le_bytes());
    image[entry + 20..entry + 24].copy_from_slice(&1024_u32.to_le_bytes());
    image.extend(command_line.as_bytes());
    image.resize(1536, 0);
    image
}

/// A golden system that boots by GRUB.
const GRUB: [(&str, &str); 4] = [
    KERNEL,
    ("boot/grub/grub.cfg", "linux /boot/kernel\n"),
    ("usr/sbin/grub-install", ""),
    ("usr/sbin/grub-mkconfig", ""),
];

#[test]
fn names_that_nobody_could_correct_in_a_clone_are_refused_before_a_node_is_asked() -> Result<()> {
    let kit = Kit::small("rehearsed", 0)?;
    make(&kit, &GRUB)?;
    make(&kit, &[MODULES])?;
    let root = golden::tag(&kit.golden.disk().partition(2), "UUID")?;
    let kernel_name = format!("root=/dev/{}p2", kit.golden.disk().name());
    let image = kit.golden.root().join("boot/efi/EFI/Linux/gentoo.efi");
    fs::create_dir_all(image.parent().context("it is in a directory")?)?;
    for (line, word) in [
        (format!("root=UUID={root} ro"), root.as_str()),
        (format!("ro {kernel_name}"), &kernel_name),
        ("root=LABEL=nobody quiet".to_owned(), "root=LABEL=nobody"),
        ("rd.lvm.lv=vg0/root".to_owned(), "rd.lvm.lv=vg0/root"),
    ] {
        fs::write(&image, unified_image(&line))?;
        expect_refused(&kit, &["/boot/efi/EFI/Linux/gentoo.efi", word, "hook"])?;
    }
    let hook = "etc/ka/hooks.d/50-image.post-restore";
    make(
        &kit,
        &[(
            hook,
            "#!/bin/sh\nukify build --output /boot/efi/EFI/Linux/gentoo.efi\n",
        )],
    )?;
    // A hook that is not executable does not count.
    expect_refused(&kit, &["/boot/efi/EFI/Linux/gentoo.efi", "hook"])?;
    fs::set_permissions(kit.golden.root().join(hook), fs::Permissions::from_mode(0o755))?;
    server(&kit, &["--dry-run"])?.expect(0)?.says("count on a hook")?;
    fs::remove_file(kit.golden.root().join(hook))?;
    fs::write(&image, unified_image("ro quiet"))?;
    server(&kit, &["--dry-run"])?.expect(0)?;
    // An environment block without room, with and without a boot loader.
    let mut block = format!("# GRUB Environment Block\nkernelopts={kernel_name} ");
    block.push_str(&"x".repeat(1023 - block.len()));
    make(&kit, &[("boot/grub/grubenv", &format!("{block}\n"))])?;
    for args in [&["--dry-run"][..], &[], &["--dry-run", "-r", "none"]] {
        let ended = server(&kit, args)?;
        ended
            .expect(1)?
            .says("/boot/grub/grubenv")?
            .says("grub-editenv")?;
    }
    Ok(())
}
