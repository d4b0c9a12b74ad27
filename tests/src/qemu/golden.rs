//! The golden Debian on a disk of its own, as `ka-server --root` expects it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::debian;
use crate::disk::{GIB, MIB};
use crate::golden::{Golden, Plan, Volume};
use crate::qemu::firmware::Firmware;
use crate::scratch::Scratch;
use crate::tree;

/// Table with root and swap, and a second file system of another type.
const MBR: &str = "label: dos
size=1100MiB,type=83,bootable
size=320MiB,type=83
type=82
";
/// Table with an EFI system partition before them.
const GPT: &str = "label: gpt
size=64MiB,type=uefi
size=1100MiB,type=linux
size=320MiB,type=linux
type=swap
";

/// Returns the plan of the golden system for machines with this firmware.
#[must_use]
pub fn plan(firmware: Firmware) -> Plan {
    let (table, volumes) = if firmware.is_uefi() {
        // The build machine's kernel need not have vfat, and the server wants everything mounted that fstab
        // names. So the golden partition is ext4 here, and the desc makes the clones' vfat.
        let esp = Volume::new(1, "ext4", "/boot/efi");
        let rest = [
            Volume::new(2, "ext4", "/"),
            Volume::new(3, "xfs", "/srv"),
            Volume::new(4, "swap", "none"),
        ];
        (GPT, [&rest[..], &[esp]].concat())
    } else {
        let volumes = vec![
            Volume::new(1, "ext4", "/"),
            Volume::new(2, "xfs", "/srv"),
            Volume::new(3, "swap", "none"),
        ];
        (MBR, volumes)
    };
    Plan {
        size: 1600 * MIB,
        sector_size: 512,
        table,
        volumes,
        foreign_fstab: "# the golden node's own\nproc /proc proc defaults 0 0\n",
    }
}

/// Makes the golden system: disk, file systems, Debian, `etc/fstab`, and a file of its own on the second file
/// system.
///
/// # Errors
/// No space, or the tools fail.
pub fn make(scratch: &Scratch, plan: &Plan) -> Result<Golden> {
    make_from(&debian::bootable()?, scratch, plan)
}

/// Makes the golden system from another archive.
///
/// # Errors
/// As [`make`].
pub fn make_from(archive: &Path, scratch: &Scratch, plan: &Plan) -> Result<Golden> {
    let golden = Golden::new(scratch, "golden", plan)?;
    debian::unpack(archive, golden.root()).context("unpacking the golden Debian")?;
    fs::write(golden.root().join("etc/fstab"), golden.fstab())?;
    fs::create_dir_all(golden.root().join("srv/data"))?;
    fs::write(golden.root().join("srv/data/noise"), tree::noise(2_000_000, 7))?;
    Ok(golden)
}

/// Returns the golden system's kernel image.
///
/// # Errors
/// It has none.
pub fn kernel(root: &Path) -> Result<PathBuf> {
    Ok(root
        .join("boot")
        .join(format!("vmlinuz-{}", debian::kernel_release(root)?)))
}

/// Returns the golden system's own initramfs.
///
/// # Errors
/// It has none.
pub fn initramfs(root: &Path) -> Result<PathBuf> {
    Ok(root
        .join("boot")
        .join(format!("initrd.img-{}", debian::kernel_release(root)?)))
}

/// Size in bytes of a disk twice as large: no clone's disk is the golden one's size.
pub const ROOMY: u64 = 3 * GIB;
