//! Golden systems of any release of Debian, each with its own tools, for the matrix to clone.
//!
//! Two archives make one system. debootstrap makes the first: a release with the tools of file systems.
//! apt-get adds a kernel and the packages of one way to boot, because debootstrap cannot choose between tools
//! for the initramfs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{
    DRACUT, GOLDEN_IMAGE, apt_get, cached, debootstrap, kernel_release, make_bootable, pack, unpack,
    update_initramfs,
};
use crate::mounts::Mounted;
use crate::process::Program;
use crate::scratch::Scratch;

/// Packages that every system gets from debootstrap.
const BASE: &str = "zstd,kmod,systemd-sysv,udev,openssh-server,iproute2,e2fsprogs,xfsprogs,btrfs-progs,dosfstools,fdisk,\
    ca-certificates";
/// Package that every system gets from apt-get.
const KERNEL: &str = "linux-image-amd64";
/// The drivers of the machines, and every file system that a root of the matrix has.
const DRIVERS: &str = "virtio_pci\nvirtio_blk\next4\nxfs\nbtrfs\n";

/// Settings of initramfs-tools that make an image in seconds under emulation: Debian 11's has no levels and
/// runs zstd at its slowest.
const SETTINGS: &str = "MODULES=list\nCOMPRESS=gzip\n";

/// A release of Debian and the packages that make it boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct System {
    suite: &'static str,
    packages: &'static [&'static str],
}

impl System {
    /// Names a release by its code name. It gets a kernel, the tools of file systems and these packages: an
    /// initramfs tool, and the needs of a boot loader.
    #[must_use]
    pub const fn new(suite: &'static str, packages: &'static [&'static str]) -> Self {
        Self { suite, packages }
    }

    /// Returns the release's code name.
    #[must_use]
    pub fn suite(self) -> &'static str {
        self.suite
    }

    /// Returns the archive; makes it if it is not there yet. If dracut is among the packages, `/boot` has a
    /// line of text in place of an image: [`GOLDEN_IMAGE`].
    ///
    /// # Errors
    /// debootstrap or apt-get fails; the error repeats the end of its output.
    pub fn archive(self) -> Result<PathBuf> {
        let base = cached(&format!("debian-{}-base-1.tar", self.suite), |unfinished| {
            let scratch = Scratch::new("debootstrap")?;
            let root = scratch.dir("root")?;
            debootstrap(&root, BASE, self.suite, &|_| ())?;
            pack(&root, unfinished)
        })?;
        cached(&self.name(), |unfinished| {
            let scratch = Scratch::new("system")?;
            let root = scratch.dir("root")?;
            unpack(&base, &root)?;
            self.finish(&root)
                .with_context(|| format!("making a golden Debian {}", self.suite))?;
            pack(&root, unfinished)
        })
    }

    fn name(self) -> String {
        format!("debian-{}-{}-1.tar", self.suite, self.packages.join("+"))
    }

    fn finish(self, root: &Path) -> Result<()> {
        // In newer releases, systemd's programs open files through it.
        let _proc = Mounted::new(Path::new("/proc"), &root.join("proc"), "bind")?;
        // The package would ask for the partition to be installed on.
        Program::new("chroot")
            .arg(root)
            .arg("debconf-set-selections")
            .input("refind refind/install_to_esp boolean false\n")
            .run()?;
        let has_dracut = self.packages.contains(&"dracut");
        if has_dracut {
            fs::create_dir_all(root.join("etc/dracut.conf.d"))?;
            fs::write(root.join("etc/dracut.conf.d/lab.conf"), DRACUT)?;
        }
        apt_get(root, self.suite, &[self.packages, &[KERNEL]].concat())?;
        make_bootable(root, self.suite)?;
        if has_dracut {
            let image = format!("boot/initrd.img-{}", kernel_release(root)?);
            fs::write(root.join(image), GOLDEN_IMAGE)?;
        } else {
            fs::write(root.join("etc/initramfs-tools/modules"), DRIVERS)?;
            fs::write(root.join("etc/initramfs-tools/conf.d/ka-lab"), SETTINGS)?;
            update_initramfs(root)?;
        }
        Ok(())
    }
}
