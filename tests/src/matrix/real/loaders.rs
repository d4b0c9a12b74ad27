//! Boot loaders of golden systems, installed as an administrator would do it.
//!
//! The golden EFI system partition is ext4 here, which the installing programs refuse: the files that they
//! would write are copied from their packages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::debian;
use crate::golden;
use crate::mounts::Mounted;
use crate::process::Program;
use crate::qemu::room::Room;

/// Kernel arguments that make the serial line the console of a machine.
const CONSOLE: &str = "console=ttyS0,115200";
/// The modules of GRUB that read every root of the matrix.
const GRUB_MODULES: [&str; 12] = [
    "part_gpt",
    "fat",
    "ext2",
    "xfs",
    "btrfs",
    "search",
    "search_fs_uuid",
    "normal",
    "configfile",
    "linux",
    "echo",
    "test",
];
/// Hook that makes the unified image of a clone; KA leaves the contents of such an image to its owner.
const UKI_HOOK: &str = "#!/bin/sh\nset -e\nfor dir in /usr/lib/modules/*; do\n    release=${dir##*/}\n    \
    SYSTEMD_RELAX_ESP_CHECKS=1 kernel-install add \"$release\" \"/boot/vmlinuz-$release\" \"/boot/initrd.img-$release\"\ndone\n";

/// Mounts the file systems that a system's own tools need, for one piece of work in it.
fn within(root: &Path, work: impl FnOnce(&dyn Fn(&[&str]) -> Result<()>) -> Result<()>) -> Result<()> {
    let _mounts = ["dev", "proc", "sys"]
        .map(|dir| Mounted::new(&Path::new("/").join(dir), &root.join(dir), "bind"))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    work(&|words| {
        Program::new("chroot")
            .arg(root)
            .args(words)
            .env("SYSTEMD_RELAX_ESP_CHECKS", "1")
            .run()
            .map(drop)
    })
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

fn copy(root: &Path, from: &str, to: &str) -> Result<()> {
    let to = root.join(to);
    fs::create_dir_all(to.parent().context("a file lies in a directory")?)?;
    Program::new("cp")
        .arg("-r")
        .arg(root.join(from))
        .arg(to)
        .run()
        .map(drop)
}

/// Returns the UUID of the golden root: the only ext4, xfs or btrfs with a kernel's modules; the plan puts it
/// first.
fn root_uuid(room: &Room) -> Result<String> {
    let source = Program::new("findmnt")
        .args(["-n", "-v", "-o", "SOURCE", "--mountpoint"])
        .arg(room.golden.root())
        .run()?;
    let uuid = golden::tag(Path::new(source.trim()), "UUID")?;
    ensure!(!uuid.is_empty(), "{source} has no UUID");
    Ok(uuid)
}

/// Returns the kernel command line of the golden system, with its root's subvolume.
fn command_line(room: &Room, more: &str) -> Result<String> {
    Ok(format!("root=UUID={} ro {more}{CONSOLE}", root_uuid(room)?))
}

/// Installs GRUB in the disk's first sectors.
pub(super) fn grub(room: &Room) -> Result<()> {
    let disk = room.golden.disk().checked()?.display().to_string();
    within(room.golden.root(), |run| {
        run(&["grub-install", "--target=i386-pc", &disk])?;
        run(&["grub-mkconfig", "-o", "/boot/grub/grub.cfg"])
    })
}

/// Installs GRUB on openSUSE's layout: `fstab` does not say that the root is the default subvolume; two
/// snapshots.
pub(super) fn grub_on_opensuse(room: &Room) -> Result<()> {
    let root = room.golden.root();
    Program::new("btrfs")
        .args(["subvolume", "set-default"])
        .arg(root)
        .run()?;
    let fstab = fs::read_to_string(root.join("etc/fstab"))?;
    let silent = fstab.replacen("subvol=@/.snapshots/1/snapshot", "defaults", 1);
    ensure!(silent != fstab, "the line for / names its subvolume");
    fs::write(root.join("etc/fstab"), silent)?;
    grub(room)?;
    snapshots(root, &["2", "3"])
}

/// Installs EXTLINUX in the `/boot` of the root.
pub(super) fn extlinux(room: &Room) -> Result<()> {
    extlinux_with(room, "/boot/", "")
}

/// Installs EXTLINUX on a `/boot` of its own.
pub(super) fn extlinux_on_boot(room: &Room) -> Result<()> {
    extlinux_with(room, "/", "")
}

/// Installs EXTLINUX on snapper's layout, with a snapshot.
pub(super) fn extlinux_on_snapper(room: &Room) -> Result<()> {
    extlinux_with(room, "/boot/", "rootflags=subvol=@ ")?;
    snapshots(room.golden.root(), &["1"])
}

fn extlinux_with(room: &Room, dir: &str, more: &str) -> Result<()> {
    let root = room.golden.root();
    let (release, line) = (debian::kernel_release(root)?, command_line(room, more)?);
    write(
        root,
        "boot/extlinux/extlinux.conf",
        &format!(
            "default debian\nlabel debian\n\tlinux {dir}vmlinuz-{release}\n\tinitrd {dir}initrd.img-{release}\n\
             \tappend {line}\n"
        ),
    )?;
    within(root, |run| run(&["extlinux", "--install", "/boot/extlinux"]))
}

fn snapshots(root: &Path, numbers: &[&str]) -> Result<()> {
    for number in numbers {
        write(root, &format!(".snapshots/{number}/info.xml"), "<snapshot/>")?;
        Program::new("btrfs")
            .args(["subvolume", "snapshot", "-r"])
            .arg(root)
            .arg(root.join(format!(".snapshots/{number}/snapshot")))
            .run()?;
    }
    Ok(())
}

/// Installs GRUB for UEFI as `grub-install` makes it: its core looks for the golden root.
pub(super) fn grub_efi(room: &Room) -> Result<()> {
    let root = room.golden.root();
    copy(root, "usr/lib/grub/x86_64-efi", "boot/grub/x86_64-efi")?;
    let prefix = "set prefix=($root)/boot/grub\n";
    let search = format!("search.fs_uuid {} root\n{prefix}", root_uuid(room)?);
    write(root, "boot/grub/x86_64-efi/load.cfg", &search)?;
    fs::create_dir_all(root.join("boot/efi/EFI/debian"))?;
    within(root, |run| {
        let fixed = [
            "grub-mkimage",
            "-O",
            "x86_64-efi",
            "-p",
            "/boot/grub",
            "-c",
            "/boot/grub/x86_64-efi/load.cfg",
            "-o",
            "/boot/efi/EFI/debian/grubx64.efi",
        ];
        run(&[&fixed[..], &GRUB_MODULES].concat())?;
        run(&["grub-mkconfig", "-o", "/boot/grub/grub.cfg"])
    })
}

/// Installs GRUB as Debian signs it, behind shim.
pub(super) fn grub_behind_shim(room: &Room) -> Result<()> {
    let root = room.golden.root();
    for (from, to) in [
        ("usr/lib/shim/shimx64.efi.signed", "shimx64.efi"),
        ("usr/lib/shim/mmx64.efi.signed", "mmx64.efi"),
        ("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "grubx64.efi"),
    ] {
        copy(root, from, &format!("boot/efi/EFI/debian/{to}"))?;
    }
    let search = format!(
        "search.fs_uuid {} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n",
        root_uuid(room)?
    );
    write(root, "boot/efi/EFI/debian/grub.cfg", &search)?;
    fs::create_dir_all(root.join("boot/grub"))?;
    within(root, |run| run(&["grub-mkconfig", "-o", "/boot/grub/grub.cfg"]))
}

/// Installs systemd-boot with an entry of kernel-install's.
pub(super) fn systemd_boot(room: &Room) -> Result<()> {
    add_kernel(room, "bls")
}

/// Installs systemd-boot that starts a unified kernel image, and the hook that makes it anew in a clone.
pub(super) fn unified(room: &Room) -> Result<()> {
    add_kernel(room, "uki")?;
    let hook = "etc/ka/hooks.d/10-uki.pre-boot";
    write(room.golden.root(), hook, UKI_HOOK)?;
    let mode = fs::Permissions::from_mode(0o755);
    Ok(fs::set_permissions(room.golden.root().join(hook), mode)?)
}

fn add_kernel(room: &Room, layout: &str) -> Result<()> {
    let root = room.golden.root();
    let release = debian::kernel_release(root)?;
    // The ESP is not vfat here, so its place is stated; systemd 247 finds it by its directories.
    let settings = format!("layout={layout}\nBOOT_ROOT=/boot/efi\n");
    write(root, "etc/kernel/install.conf", &settings)?;
    write(
        root,
        "etc/kernel/cmdline",
        &format!("{}\n", command_line(room, "")?),
    )?;
    if layout == "bls" {
        // Systemd 247 writes entries only below a directory of this name that is there already.
        let machine_id = fs::read_to_string(root.join("etc/machine-id")).context("reading the machine-id")?;
        fs::create_dir_all(root.join("boot/efi").join(machine_id.trim()))?;
    }
    within(root, |run| {
        run(&["bootctl", "--esp-path=/boot/efi", "--no-variables", "install"])?;
        let (kernel, image) = (
            format!("/boot/vmlinuz-{release}"),
            format!("/boot/initrd.img-{release}"),
        );
        run(&["kernel-install", "add", &release, &kernel, &image])
    })?;
    let made = ["loader/entries", "EFI/Linux"].map(|dir| root.join("boot/efi").join(dir));
    let names = made.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
    ensure!(
        names.count() > 0,
        "kernel-install has put nothing on the EFI system partition"
    );
    Ok(())
}

/// Installs rEFInd, which finds the kernel by itself, with the driver of the root's file system.
pub(super) fn refind(room: &Room) -> Result<()> {
    let root = room.golden.root();
    let dir = "boot/efi/EFI/refind";
    copy(
        root,
        "usr/share/refind/refind/refind_x64.efi",
        &format!("{dir}/refind_x64.efi"),
    )?;
    copy(
        root,
        "usr/share/refind/refind/drivers_x64/ext4_x64.efi",
        &format!("{dir}/drivers_x64/ext4_x64.efi"),
    )?;
    write(
        root,
        &format!("{dir}/refind.conf"),
        "timeout 1\ntextonly true\nscanfor internal\n",
    )?;
    let line = command_line(room, "")?;
    write(
        root,
        "boot/refind_linux.conf",
        &format!(
            "\"Boot with standard options\"  \"{line}\"\n\"Boot to single-user mode\"    \"{line} single\"\n"
        ),
    )
}
