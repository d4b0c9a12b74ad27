//! Real golden systems: Debian by debootstrap, made once and kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::fs::FlockOperation;

use crate::mounts::Mounted;
use crate::process::Program;
use crate::scratch::Scratch;

mod system;

pub use system::System;

/// The release cloned in demo and tests.
const SUITE: &str = "bookworm";
/// Address of the packages unless `KA_DEBIAN_MIRROR` names another.
const MIRROR: &str = "http://deb.debian.org/debian";
/// Small packages that bring capabilities, set-id programs and hard links with them.
const PLAIN: &str = "iputils-ping,perl,locales,openssh-server,xfsprogs,btrfs-progs";
/// Packages of a system whose init is sysvinit, with tools to look at it.
const SYSVINIT: &str = "sysvinit-core,sysv-rc,insserv,procps,iproute2";
/// Packages that a machine needs to boot from its own disk, on BIOS and on UEFI, and to make every file
/// system of the tests.
const BOOTABLE: &str = "linux-image-amd64,grub2-common,grub-pc-bin,grub-efi-amd64-bin,grub-efi-amd64-signed,shim-signed,\
    efibootmgr,initramfs-tools,zstd,kmod,systemd-sysv,udev,openssh-server,iproute2,e2fsprogs,xfsprogs,dosfstools,\
    jfsutils,reiserfsprogs,f2fs-tools,fdisk";
/// Packages that [`with_other_tools`] adds.
const OTHER_TOOLS: [&str; 4] = ["dracut", "extlinux", "syslinux-common", "systemd-boot"];
/// Text in place of an image: any other content was made in the clone.
pub const GOLDEN_IMAGE: &str = "the golden node's initramfs\n";
/// Settings of dracut: this hardware's drivers only, and what dracut finds out about the root file system.
/// Without compression the image is made in seconds, and a test can search it.
const DRACUT: &str = "hostonly=\"yes\"\nhostonly_cmdline=\"yes\"\ncompress=\"cat\"\n";
/// Time between two looks at debootstrap's output.
const WATCH: Duration = Duration::from_millis(500);
/// Time limit of a download from a slow mirror.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(1800);
/// Modules that no machine of the tests has hardware for: two thirds of the kernel's 400 MB, which every
/// guest would have to receive and write under emulation. `depmod` runs afterwards, so that the rest is a
/// complete kernel again.
const UNUSED_MODULES: [&str; 39] = [
    "sound",
    "net/bluetooth",
    "net/mac80211",
    "net/netfilter",
    "net/sched",
    "net/sunrpc",
    "net/wireless",
    "drivers/bluetooth",
    "drivers/comedi",
    "drivers/gpu",
    "drivers/hid",
    "drivers/hwmon",
    "drivers/iio",
    "drivers/infiniband",
    "drivers/input",
    "drivers/isdn",
    "drivers/media",
    "drivers/mmc",
    "drivers/mtd",
    "drivers/net/can",
    "drivers/net/ethernet/chelsio",
    "drivers/net/ethernet/mellanox",
    "drivers/net/ethernet/qlogic",
    "drivers/net/usb",
    "drivers/net/wireless",
    "drivers/platform",
    "drivers/scsi/bfa",
    "drivers/scsi/lpfc",
    "drivers/scsi/qla2xxx",
    "drivers/staging",
    "drivers/target",
    "drivers/usb",
    "drivers/video",
    "fs/ceph",
    "fs/gfs2",
    "fs/nfs",
    "fs/nfsd",
    "fs/ocfs2",
    "fs/smb",
];
/// Files left out of the bootable system: a clone without its manual pages boots just as well.
const UNUSED_FILES: [&str; 8] = [
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/lib/python3.11",
    "usr/lib/udev/hwdb.d",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/cache/debconf",
];

/// Returns the archive of a small system without a kernel; makes it if it is not there yet.
///
/// # Errors
/// debootstrap fails; the error repeats the end of its output.
pub fn archive() -> Result<PathBuf> {
    archive_watched(&|_| ())
}

/// Does the same as [`archive`], and gives `watch` each step.
///
/// # Errors
/// As [`archive`].
pub fn archive_watched(watch: &dyn Fn(&str)) -> Result<PathBuf> {
    system(&format!("debian-{SUITE}-1"), PLAIN, watch, |_| Ok(()))
}

/// Returns the archive of a small system whose init is sysvinit, with insserv; makes it if it is not there yet.
///
/// # Errors
/// debootstrap fails; the error repeats the end of its output.
pub fn with_sysvinit() -> Result<PathBuf> {
    system(&format!("debian-{SUITE}-sysvinit-1"), SYSVINIT, &|_| (), |_| {
        Ok(())
    })
}

/// Returns the archive of a system that boots; makes it if it is not there yet. It has a kernel, GRUB for
/// BIOS and UEFI, a network by DHCP, and a console on the first serial line where root may log in without a
/// password. It contains the word `golden` wherever a clone must have another one. Its initramfs holds the
/// drivers of a virtio machine only.
///
/// # Errors
/// debootstrap or a step after it fails; the error repeats the end of its output.
pub fn bootable() -> Result<PathBuf> {
    bootable_watched(&|_| ())
}

/// Does the same as [`bootable`], and gives `watch` each step.
///
/// # Errors
/// As [`bootable`].
pub fn bootable_watched(watch: &dyn Fn(&str)) -> Result<PathBuf> {
    system(&format!("debian-{SUITE}-boot-2"), BOOTABLE, watch, |root| {
        make_bootable(root, SUITE)?;
        update_initramfs(root)
    })
}

/// Returns the archive of the same system with the tools that Debian does not choose by itself. These are
/// dracut instead of initramfs-tools, EXTLINUX, and systemd-boot as `bootctl` installs it, in a directory
/// `/boot/efi` (this kernel has no vfat). The file in `/boot` is no image: it holds the text
/// [`GOLDEN_IMAGE`].
///
/// # Errors
/// As [`bootable`]; or `apt-get` cannot reach the mirror.
pub fn with_other_tools() -> Result<PathBuf> {
    let base = bootable()?;
    cached(&format!("debian-{SUITE}-tools-1.tar"), |unfinished| {
        let scratch = Scratch::new("tools")?;
        let root = scratch.dir("root")?;
        unpack(&base, &root)?;
        install_other_tools(&root).context("installing dracut, EXTLINUX and systemd-boot")?;
        pack(&root, unfinished)
    })
}

/// Installs the golden system's kernel and its stand-in for an image where systemd-boot looks for them, as
/// Debian's own hooks do, with this kernel command line.
///
/// # Errors
/// `kernel-install` fails.
pub fn add_boot_entry(root: &Path, line: &str) -> Result<BootEntry> {
    let release = kernel_release(root)?;
    let token = fs::read_to_string(root.join("etc/machine-id"))?.trim().to_owned();
    fs::create_dir_all(root.join("etc/kernel"))?;
    fs::write(root.join("etc/kernel/cmdline"), format!("{line}\n"))?;
    Program::new("chroot")
        .arg(root)
        .args(["kernel-install", "add", &release])
        .args(["vmlinuz", "initrd.img"].map(|name| format!("/boot/{name}-{release}")))
        .run()?;
    Ok(BootEntry { token, release })
}

/// The files that kernel-install has made on the EFI system partition.
#[derive(Debug, Clone)]
pub struct BootEntry {
    /// The golden node's machine-id, which is part of their names.
    pub token: String,
    /// Release of the kernel.
    pub release: String,
}

impl BootEntry {
    /// Returns the path of the entry's file, below the partition's root.
    #[must_use]
    pub fn file(&self) -> String {
        format!("loader/entries/{}-{}.conf", self.token, self.release)
    }

    /// Returns the path of the initramfs that it names, below the partition's root.
    #[must_use]
    pub fn image(&self) -> String {
        let release = &self.release;
        format!("{}/{release}/initrd.img-{release}", self.token)
    }
}

/// Returns the release of the kernel in a tree.
///
/// # Errors
/// There is none, or there are several.
pub fn kernel_release(root: &Path) -> Result<String> {
    let mut names = fs::read_dir(root.join("usr/lib/modules"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    match (names.pop(), names.is_empty()) {
        (Some(release), true) => Ok(release),
        _ => bail!("{} should hold one kernel's modules", root.display()),
    }
}

/// Unpacks the system onto a mounted disk.
///
/// # Errors
/// `tar` fails.
pub fn unpack(archive: &Path, root: &Path) -> Result<()> {
    Program::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--numeric-owner",
            "-xpf",
        ])
        .arg(archive)
        .arg("-C")
        .arg(root)
        .run()
        .map(drop)
}

/// Returns the signed GRUB for network boot of the release after `SUITE`: GRUB 2.12, which has HTTP.
///
/// # Errors
/// `apt-get` cannot reach the mirror.
pub fn grub_of_trixie() -> Result<PathBuf> {
    cached("grubnetx64-trixie-1.efi.signed", |unfinished| {
        let scratch = Scratch::new("trixie")?;
        for dir in ["lists/partial", "cache/archives/partial"] {
            scratch.dir(dir)?;
        }
        let at = |name: &str| scratch.path().join(name).display().to_string();
        let sources = format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} trixie main\n",
            mirror()
        );
        fs::write(at("sources.list"), sources)?;
        let options = [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            // The cache belongs to root.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let apt = || {
            let words = options.iter().flat_map(|option| ["-o", option.as_str()]);
            Program::new("env")
                .args(["-C", &at("cache"), "apt-get", "-q"])
                .args(words)
                .limit(DOWNLOAD_LIMIT)
        };
        apt()
            .arg("update")
            .run()
            .context("listing Debian 13's packages")?;
        apt()
            .args(["download", "grub-efi-amd64-signed"])
            .run()
            .context("fetching Debian 13's GRUB")?;
        let deb = fs::read_dir(at("cache"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|ending| ending == "deb"))
            .context("apt-get download left no package")?;
        let root = scratch.dir("root")?;
        Program::new("dpkg-deb").arg("-x").arg(&deb).arg(&root).run()?;
        fs::copy(
            root.join("usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
            unfinished,
        )?;
        Ok(())
    })
}

fn mirror() -> String {
    std::env::var("KA_DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned())
}

/// Returns the file of this name in the cache; makes it if it is not there yet.
fn cached(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let dir = cache_dir();
    let file = dir.join(name);
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    // Tests that start together want the same file: one makes it, the others wait. The lock goes with its
    // file.
    let lock = fs::File::create(file.with_extension("lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    if !file.is_file() {
        let unfinished = file.with_extension("part");
        make(&unfinished).inspect_err(|_| {
            // It may not be there yet.
            fs::remove_file(&unfinished).ok();
        })?;
        fs::rename(&unfinished, &file)?;
    }
    Ok(file)
}

fn system(
    name: &str,
    packages: &str,
    watch: &dyn Fn(&str),
    finish: fn(&Path) -> Result<()>,
) -> Result<PathBuf> {
    cached(&format!("{name}.tar"), |unfinished| {
        let scratch = Scratch::new("debootstrap")?;
        let root = scratch.dir("root")?;
        debootstrap(&root, packages, SUITE, watch)?;
        watch("making it bootable");
        finish(&root).context("preparing the golden Debian")?;
        watch("packing it");
        pack(&root, unfinished)
    })
}

fn debootstrap(root: &Path, packages: &str, suite: &str, watch: &dyn Fn(&str)) -> Result<()> {
    let making = || format!("making a golden Debian {suite}");
    let mut running = Program::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={packages}"), suite])
        .arg(root)
        .arg(mirror())
        .limit(DOWNLOAD_LIMIT)
        .spawn()
        .with_context(making)?;
    let mut seen = String::new();
    while running.still_runs()? {
        let said = running.said();
        if let Some(line) = said.lines().last().filter(|line| *line != seen) {
            watch(line);
            line.clone_into(&mut seen);
        }
        thread::sleep(WATCH);
    }
    running.wait()?.expect(0).with_context(making).map(drop)
}

fn pack(root: &Path, archive: &Path) -> Result<()> {
    Program::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--exclude=./var/cache/apt/archives/*.deb",
            "-cf",
        ])
        .arg(archive)
        .arg("-C")
        .arg(root)
        .arg(".")
        .run()
        .map(drop)
}

fn update_initramfs(root: &Path) -> Result<()> {
    Program::new("chroot")
        .arg(root)
        .args(["update-initramfs", "-u"])
        .run()
        .map(drop)
}

/// Everything but the initramfs.
fn make_bootable(root: &Path, suite: &str) -> Result<()> {
    drop_unused(root)?;
    for (path, text) in CONFIGURATION {
        let path = root.join(path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    fs::write(
        root.join("etc/apt/sources.list"),
        format!("deb {MIRROR} {suite} main\n"),
    )?;
    let inside = |words: &[&str]| Program::new("chroot").arg(root).args(words).run().map(drop);
    inside(&["passwd", "-q", "-d", "root"])?;
    inside(&["systemd-machine-id-setup"])?;
    inside(&["systemctl", "enable", "systemd-networkd.service", "ssh.service"])?;
    // They wake up in the first minutes after a boot and would only slow an emulated machine down.
    inside(&[
        "systemctl",
        "mask",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "e2scrub_reap.service",
    ])
}

fn install_other_tools(root: &Path) -> Result<()> {
    let etc = root.join("etc");
    fs::create_dir_all(etc.join("dracut.conf.d"))?;
    fs::write(etc.join("dracut.conf.d/lab.conf"), DRACUT)?;
    apt_get(root, SUITE, &OTHER_TOOLS)?;
    fs::write(
        root.join(format!("boot/initrd.img-{}", kernel_release(root)?)),
        GOLDEN_IMAGE,
    )?;
    // bootctl requires the root of a file system, and names a nameless file through /proc.
    let (esp, kept) = (root.join("boot/efi"), root.join("boot/kept"));
    {
        let _proc = Mounted::new(Path::new("/proc"), &root.join("proc"), "bind")?;
        let _esp = Mounted::in_memory(&esp, 16 << 20)?;
        Program::new("chroot")
            .arg(root)
            .args(["bootctl", "--esp-path=/boot/efi", "--no-variables", "install"])
            .env("SYSTEMD_RELAX_ESP_CHECKS", "1")
            .run()?;
        Program::new("cp").arg("-a").args([&esp, &kept]).run()?;
    }
    fs::remove_dir(&esp)?;
    fs::rename(kept, esp)?;
    for dir in ["var/lib/apt/lists", "var/cache/apt"] {
        fs::remove_dir_all(root.join(dir))?;
        fs::create_dir_all(root.join(dir).join("partial"))?;
    }
    Ok(())
}

/// Installs packages from the mirror, with this machine's name servers. The system's own settings of both
/// stay as they were.
fn apt_get(root: &Path, suite: &str, packages: &[&str]) -> Result<()> {
    let files = ["etc/resolv.conf", "etc/apt/sources.list"].map(|path| root.join(path));
    let [resolver, sources] = &files;
    let kept = [fs::read(resolver)?, fs::read(sources)?];
    fs::copy("/etc/resolv.conf", resolver)?;
    fs::write(sources, format!("deb {} {suite} main\n", mirror()))?;
    let apt = |words: &[&str]| {
        Program::new("chroot")
            .arg(root)
            .args(["apt-get", "-q", "-y", "-o", "APT::Sandbox::User=root"])
            // A mirror may lag behind, sid's lists run out after a week, and signatures are checked all the
            // same.
            .args(["-o", "Acquire::Check-Valid-Until=false"])
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .limit(DOWNLOAD_LIMIT)
            .run()
    };
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"], packages].concat())?;
    for (path, text) in files.iter().zip(kept) {
        fs::write(path, text)?;
    }
    Ok(())
}

fn drop_unused(root: &Path) -> Result<()> {
    // Not every release has all of it.
    let gone = |path: &Path, result: io::Result<()>| match result {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    };
    let database = root.join("usr/lib/udev/hwdb.bin");
    gone(&database, fs::remove_file(&database))?;
    let release = kernel_release(root)?;
    let modules = root.join("usr/lib/modules").join(&release).join("kernel");
    let unused = UNUSED_MODULES.iter().map(|path| modules.join(path));
    for dir in unused.chain(UNUSED_FILES.iter().map(|path| root.join(path))) {
        gone(&dir, fs::remove_dir_all(&dir))?;
    }
    // apt and debconf want these to be there.
    for dir in [
        "var/cache/apt/archives/partial",
        "var/lib/apt/lists/partial",
        "var/cache/debconf",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    Program::new("depmod")
        .arg("-b")
        .arg(root)
        .arg(&release)
        .run()
        .map(drop)
}

/// Configuration as an administrator would write it. The initramfs is a list, not `most`, for two reasons. It
/// is made in seconds under emulation, and a clone on other hardware boots only if the cloner put its drivers
/// on the list.
const CONFIGURATION: [(&str, &str); 8] = [
    ("etc/hostname", "golden\n"),
    ("etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tgolden\n"),
    (
        "etc/systemd/network/lan.network",
        "[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\n",
    ),
    (
        "etc/default/grub",
        "GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\n\
         GRUB_CMDLINE_LINUX=\"console=ttyS0,115200\"\nGRUB_TERMINAL=\"console serial\"\n\
         GRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"\n",
    ),
    (
        "etc/initramfs-tools/conf.d/ka-lab",
        "MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n",
    ),
    ("etc/initramfs-tools/modules", "virtio_pci\nvirtio_blk\next4\n"),
    ("etc/resolv.conf", "nameserver 10.77.0.1\n"),
    ("etc/motd", "The golden system of KA's tests.\n"),
];

pub(crate) fn cache_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("KA_CACHE_DIR") {
        return PathBuf::from(dir);
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/var"), PathBuf::from);
    home.join(".cache/ka")
}
