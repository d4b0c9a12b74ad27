//! The places where names of devices are looked for: a list of files and directories, and every text below
//! `/boot` and on the EFI system partition.

use crate::facts::Facts;
use crate::files::{Files, Kind};
use crate::uboot;

use super::records::Records;

/// Files that may hold references, each by itself.
const FILES: [&str; 42] = [
    "/etc/crypttab",
    "/etc/crypttab.initramfs",
    "/etc/integritytab",
    "/etc/veritytab",
    "/etc/conf.d/dmcrypt",
    "/etc/conf.d/swap",
    "/etc/mdadm.conf",
    "/etc/mdadm/mdadm.conf",
    "/etc/default/grub",
    "/etc/default/grub-btrfs/config",
    "/etc/kernel/cmdline",
    "/etc/kernel/uki.conf",
    "/etc/kernel/install.conf",
    "/etc/kernel/tries",
    "/etc/cmdline",
    "/usr/lib/kernel/cmdline",
    "/etc/tuned/bootcmdline",
    "/etc/dracut.conf",
    "/etc/mkinitcpio.conf",
    "/etc/mkinitfs/mkinitfs.conf",
    "/etc/booster.yaml",
    "/etc/genkernel.conf",
    "/etc/initramfs-tools/initramfs.conf",
    "/etc/uswsusp.conf",
    "/etc/suspend.conf",
    "/etc/lilo.conf",
    "/etc/elilo.conf",
    "/etc/yaboot.conf",
    "/etc/zipl.conf",
    "/etc/update-extlinux.conf",
    "/etc/sysconfig/bootloader",
    "/etc/sysconfig/kdump",
    "/etc/sysconfig/kernel",
    "/etc/kdump.conf",
    "/etc/default/kdump-tools",
    "/etc/default/kexec",
    "/etc/conf.d/kexec",
    "/etc/default/u-boot",
    "/etc/default/flash-kernel",
    "/etc/default/extlinux",
    "/etc/default/limine",
    "/etc/u-boot.conf",
];

/// Directories of such files, with the ending that counts.
const DIRECTORIES: [(&str, &str); 18] = [
    ("/etc/default/grub.d", ""),
    ("/etc/default/kexec.d", ""),
    ("/etc/default/kdump-tools.d", ""),
    ("/etc/grub.d", ""),
    ("/etc/mdadm.conf.d", ".conf"),
    ("/etc/mdadm/mdadm.conf.d", ".conf"),
    ("/etc/lvm/devices", ".devices"),
    ("/etc/kernel/cmdline.d", ""),
    ("/etc/kernel/uki.conf.d", ".conf"),
    ("/etc/cmdline.d", ".conf"),
    ("/etc/dracut.conf.d", ".conf"),
    ("/etc/mkinitcpio.conf.d", ".conf"),
    ("/etc/mkinitcpio.d", ".preset"),
    ("/etc/initramfs-tools/conf.d", ""),
    ("/etc/kdump", ""),
    ("/etc/update-extlinux.d", ""),
    ("/etc/u-boot-menu/conf.d", ".conf"),
    ("/etc/u-boot-menu.d", ".conf"),
];

/// Files that hold names, but no command line of the kernel's.
const OTHER_FILES: [&str; 30] = [
    "/etc/fstab.sys",
    "/etc/mtab",
    "/etc/auto.master",
    "/etc/crontab",
    "/etc/anacrontab",
    "/etc/rc.local",
    "/etc/rc.d/rc.local",
    "/etc/init.d/boot.local",
    "/etc/init.d/after.local",
    "/etc/init.d/rc.local",
    "/etc/multipath/bindings",
    "/etc/multipath/wwids",
    "/etc/smartmontools/smartd.conf",
    "/etc/quotatab",
    "/etc/raw",
    "/etc/sysctl.conf",
    "/etc/hdparm.conf",
    "/etc/smartd.conf",
    "/etc/timeshift/timeshift.json",
    "/etc/lvm/lvm.conf",
    "/etc/lvm/lvmlocal.conf",
    "/etc/multipath.conf",
    "/etc/security/pam_mount.conf.xml",
    "/etc/exports",
    "/etc/laptop-mode/laptop-mode.conf",
    "/etc/rc.d/boot.local",
    "/etc/systemd/zram-generator.conf",
    "/etc/tlp.conf",
    "/etc/btrbk/btrbk.conf",
    "/etc/collectd.conf",
];

/// Directories of such files, with the ending that counts.
const OTHER_DIRECTORIES: [(&str, &str); 26] = [
    ("/etc/fstab.d", ""),
    ("/etc/auto.master.d", ""),
    ("/etc/autofs", ""),
    ("/etc/cron.d", ""),
    ("/etc/cron.hourly", ""),
    ("/etc/cron.daily", ""),
    ("/etc/cron.weekly", ""),
    ("/etc/cron.monthly", ""),
    ("/etc/periodic/15min", ""),
    ("/etc/periodic/hourly", ""),
    ("/etc/periodic/daily", ""),
    ("/etc/periodic/weekly", ""),
    ("/etc/periodic/monthly", ""),
    ("/var/spool/cron", ""),
    ("/var/spool/cron/crontabs", ""),
    ("/var/spool/cron/tabs", ""),
    ("/etc/local.d", ""),
    ("/etc/default", ""),
    ("/etc/conf.d", ""),
    ("/etc/sysconfig", ""),
    ("/etc/snapper/configs", ""),
    ("/etc/udisks2", ".conf"),
    ("/etc/udev/rules.d", ".rules"),
    ("/etc/tmpfiles.d", ".conf"),
    ("/etc/systemd/zram-generator.conf.d", ".conf"),
    ("/etc/tlp.d", ".conf"),
];

/// Files in which programs remember disks, and which they make anew.
pub(super) const CACHES: [&str; 6] = [
    "/etc/blkid.tab",
    "/etc/blkid.tab.old",
    "/etc/blkid/blkid.tab",
    "/etc/blkid/blkid.tab.old",
    "/etc/lvm/cache/.cache",
    "/etc/lvm/.cache",
];

/// Returns the form of records in a file; `None` where it is no list of records.
pub(super) fn records(path: &str) -> Option<Records> {
    let on_demand = ["/etc/auto.", "/etc/autofs/", "/etc/cron.d/", "/var/spool/cron/"];
    let is_map = on_demand.iter().any(|start| path.starts_with(start));
    match path {
        "/etc/hdparm.conf" => Some(Records::Stanzas),
        "/etc/smartd.conf" | "/etc/smartmontools/smartd.conf" | "/etc/kdump.conf" => Some(Records::AtStart),
        "/etc/initramfs-tools/conf.d/cryptroot" | "/etc/sysconfig/rawdevices" | "/etc/raw" => {
            Some(Records::AtStart)
        }
        "/etc/crontab" | "/etc/anacrontab" | "/etc/quotatab" => Some(Records::OnDemand),
        _ => is_map.then_some(Records::OnDemand),
    }
}

/// Returns true if a file may hold a kernel command line.
pub(super) fn is_command_line(path: &str) -> bool {
    let in_list = |dirs: &[(&str, &str)]| {
        dirs.iter().any(|(dir, ending)| {
            path.strip_prefix(dir)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|name| !name.contains('/') && name.ends_with(ending))
        })
    };
    let is_other =
        OTHER_FILES.contains(&path) || in_list(&OTHER_DIRECTORIES) || path.starts_with("/etc/auto.");
    FILES.contains(&path) || in_list(&DIRECTORIES) || !is_other
}

/// Places of loaders' configurations: every text below them counts.
const BOOT_PLACES: [&str; 6] = ["/boot", "/efi", "/esp", "/extlinux", "/syslinux", "/limine"];
/// The same in the root directory itself.
const AT_ROOT: [&str; 6] = [
    "/extlinux.conf",
    "/syslinux.cfg",
    "/limine.conf",
    "/limine.cfg",
    "/refind_linux.conf",
    "/cmdline.txt",
];
/// A configuration is a few KiB; a grub.cfg of many kernels some hundred. Bytes.
const MAX_CONFIG_BYTES: usize = 1 << 20;
const MAX_DEPTH: usize = 8;
/// More than any loader has; a boot partition with a tree of something else on it is not searched for ever.
const MAX_BOOT_FILES: usize = 4096;
/// Beginnings and endings of files below /boot that are no configuration.
const NO_CONFIG_BEGINNINGS: [&str; 10] = [
    "vmlinu",
    "initrd",
    "initramfs",
    "System.map",
    "config-",
    "kernel-",
    "Image",
    "bzImage",
    "symvers",
    "zImage",
];
const NO_CONFIG_ENDINGS: [&str; 20] = [
    ".mod", ".efi", ".img", ".c32", ".sys", ".png", ".pf2", ".mo", ".dtb", ".dtbo", ".elf", ".bin", ".scr",
    ".gz", ".xz", ".zst", ".bmp", ".icns", ".EFI", ".dat",
];

/// Returns the existing files that hold references.
pub(crate) fn paths(files: &dyn Files) -> Vec<String> {
    let mut paths: Vec<String> = FILES
        .iter()
        .chain(&AT_ROOT)
        .map(|path| (*path).to_owned())
        .collect();
    paths.extend(listed(files, &DIRECTORIES));
    paths.retain(|path| {
        files.kind(path) == Some(Kind::File) || files.kind(path) == Some(Kind::Link) && files.exists(path)
    });
    for place in BOOT_PLACES {
        boot_texts(files, place, MAX_DEPTH, &mut paths);
    }
    paths
}

/// Returns the same, with the texts of an EFI system partition that is mounted elsewhere.
pub(super) fn all_paths(files: &dyn Files, facts: &Facts) -> Vec<String> {
    let mut paths = paths(files);
    let others = others(files).into_iter().filter(|path| !paths.contains(path));
    let others: Vec<String> = others.collect();
    paths.extend(others);
    let is_elsewhere = |path: &str| {
        path != "/"
            && !BOOT_PLACES
                .iter()
                .any(|place| std::path::Path::new(path).starts_with(place))
    };
    let boots = facts
        .mounts
        .iter()
        .filter(|mount| mount.fstype == "vfat" && is_elsewhere(&mount.path));
    let elsewhere: Vec<&str> = boots.map(|mount| mount.path.as_str()).collect();
    for place in &elsewhere {
        boot_texts(files, place, MAX_DEPTH, &mut paths);
    }
    for place in BOOT_PLACES.into_iter().chain(elsewhere) {
        boot_files(files, place, MAX_DEPTH, &is_script, &mut paths);
    }
    paths
}

/// Returns the existing texts that hold names and no command line.
fn others(files: &dyn Files) -> Vec<String> {
    let mut paths: Vec<String> = OTHER_FILES.iter().map(|path| (*path).to_owned()).collect();
    paths.extend(listed(files, &OTHER_DIRECTORIES));
    let maps = files
        .names("/etc")
        .into_iter()
        .filter(|name| name.starts_with("auto."));
    paths.extend(maps.map(|name| format!("/etc/{name}")));
    paths.sort();
    paths.dedup();
    paths.retain(|path| files.kind(path) == Some(Kind::File) && is_text(files, path));
    paths
}

/// Returns the entries of directories that have the ending that counts.
fn listed<'a>(
    files: &'a dyn Files,
    dirs: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = String> + use<'a> {
    dirs.iter().flat_map(move |(dir, ending)| {
        let names = files
            .names(dir)
            .into_iter()
            .filter(move |name| name.ends_with(ending));
        names.map(move |name| format!("{dir}/{name}"))
    })
}

/// Adds the texts below a directory.
fn boot_texts(files: &dyn Files, dir: &str, depth: usize, paths: &mut Vec<String>) {
    boot_files(files, dir, depth, &is_config, paths);
}

/// Adds the files below a directory that are wanted. Links are not followed: what they lead to is found by
/// its own name.
fn boot_files(
    files: &dyn Files,
    dir: &str,
    depth: usize,
    is_wanted: &dyn Fn(&dyn Files, &str, &str) -> bool,
    paths: &mut Vec<String>,
) {
    for name in files.names(dir) {
        let path = format!("{dir}/{name}");
        match files.kind(&path) {
            Some(Kind::Dir) if depth > 0 => boot_files(files, &path, depth - 1, is_wanted, paths),
            Some(Kind::File) if paths.len() < MAX_BOOT_FILES && is_wanted(files, &path, &name) => {
                paths.push(path)
            }
            _ => {}
        }
    }
}

fn is_script(files: &dyn Files, path: &str, _: &str) -> bool {
    let head = || files.read_part(path, 0, 128).ok().flatten().unwrap_or_default();
    is_script_name(path) && uboot::is_script(&head())
}

/// `boot.scr`, Debian's `boot.scr.uimg`.
pub(super) fn is_script_name(path: &str) -> bool {
    [".scr", ".scr.uimg", ".scr.img"]
        .iter()
        .any(|end| path.ends_with(end))
}

fn is_config(files: &dyn Files, path: &str, name: &str) -> bool {
    if NO_CONFIG_BEGINNINGS.iter().any(|start| name.starts_with(start))
        || NO_CONFIG_ENDINGS.iter().any(|end| name.ends_with(end))
    {
        return false;
    }
    is_text(files, path)
}

fn is_text(files: &dyn Files, path: &str) -> bool {
    let head = files
        .read_part(path, 0, MAX_CONFIG_BYTES + 1)
        .ok()
        .flatten()
        .unwrap_or_default();
    head.len() <= MAX_CONFIG_BYTES && !head.contains(&0)
}
