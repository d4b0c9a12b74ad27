//! Disks of golden systems.

use crate::disk::MIB;
use crate::golden::{Plan, Volume};

/// Mount point of the EFI system partition.
pub(super) const ESP: &str = "/boot/efi";
/// The clones' layout with UEFI: the golden EFI system partition is ext4 for want of vfat in this kernel.
pub(super) const ON_UEFI: &str = "table gpt\nesp 200 fs=vfat\nlinux 1900\nswap 90\n";
/// Table with root and swap.
const MBR: &str = "label: dos\nsize=1900MiB,type=83,bootable\ntype=82\n";
/// Table with `/boot`, root and swap.
const MBR_WITH_BOOT: &str = "label: dos\nsize=400MiB,type=83,bootable\nsize=1500MiB,type=83\ntype=82\n";
/// Table with the partition for GRUB's core image, root and swap.
const GPT_WITH_BIOS_BOOT: &str =
    "label: gpt\nsize=1MiB,type=21686148-6449-6E6F-744E-656564454649\nsize=1900MiB,type=linux\ntype=swap\n";
/// Table with the EFI system partition, root and swap.
const GPT_WITH_ESP: &str = "label: gpt\nsize=200MiB,type=uefi\nsize=1900MiB,type=linux\ntype=swap\n";

fn plan(table: &'static str, volumes: Vec<Volume>) -> Plan {
    Plan {
        size: 2200 * MIB,
        sector_size: 512,
        table,
        volumes,
        foreign_fstab: "# the golden node's own\nproc /proc proc defaults 0 0\n",
    }
}

fn swap(partition: u32) -> Volume {
    Volume::new(partition, "swap", "none")
}

fn on_mbr(fs: &'static str) -> Plan {
    plan(MBR, vec![Volume::new(1, fs, "/"), swap(2)])
}

/// Plans subvolumes of one btrfs by mount point, root first.
fn subvolumes(subvolumes: &[(&'static str, &'static str)]) -> Plan {
    let volume =
        |(mount, name): &(&'static str, &'static str)| Volume::new(1, "btrfs", mount).subvolume(name);
    let mut volumes: Vec<_> = subvolumes.iter().map(volume).collect();
    volumes.push(swap(2));
    plan(MBR, volumes)
}

fn with_esp(root: Volume) -> Plan {
    plan(GPT_WITH_ESP, vec![root, swap(3), Volume::new(1, "ext4", ESP)])
}

/// Plans one ext4 and swap, on an MBR.
pub(super) fn ext4() -> Plan {
    on_mbr("ext4")
}

/// Plans one xfs and swap, on an MBR.
pub(super) fn xfs() -> Plan {
    on_mbr("xfs")
}

/// Plans one btrfs without subvolumes, and swap, on an MBR.
pub(super) fn btrfs() -> Plan {
    on_mbr("btrfs")
}

/// Plans an xfs with an ext4 `/boot` of its own.
pub(super) fn xfs_with_boot() -> Plan {
    let volumes = vec![
        Volume::new(2, "xfs", "/"),
        Volume::new(1, "ext4", "/boot"),
        swap(3),
    ];
    plan(MBR_WITH_BOOT, volumes)
}

/// Plans one ext4 on a GPT that a BIOS boots from.
pub(super) fn ext4_on_gpt() -> Plan {
    plan(GPT_WITH_BIOS_BOOT, vec![Volume::new(2, "ext4", "/"), swap(3)])
}

/// Plans btrfs as Debian's installer makes it.
pub(super) fn btrfs_of_debian() -> Plan {
    subvolumes(&[("/", "@rootfs")])
}

/// Plans btrfs as openSUSE makes it: the root is a snapshot of snapper's.
pub(super) fn btrfs_of_opensuse() -> Plan {
    subvolumes(&[
        ("/", "@/.snapshots/1/snapshot"),
        ("/.snapshots", "@/.snapshots"),
        ("/home", "@/home"),
        ("/opt", "@/opt"),
        ("/srv", "@/srv"),
        ("/usr/local", "@/usr/local"),
        ("/var", "@/var"),
    ])
}

/// Plans btrfs as the users of snapper make it on other systems.
pub(super) fn btrfs_of_snapper() -> Plan {
    subvolumes(&[
        ("/", "@"),
        ("/home", "@home"),
        ("/.snapshots", "@snapshots"),
        ("/var/log", "@var_log"),
    ])
}

/// Plans an EFI system partition and an ext4.
pub(super) fn uefi_ext4() -> Plan {
    with_esp(Volume::new(2, "ext4", "/"))
}

/// Plans an EFI system partition and an xfs.
pub(super) fn uefi_xfs() -> Plan {
    with_esp(Volume::new(2, "xfs", "/"))
}

/// Plans an EFI system partition and a btrfs as Debian's installer makes it.
pub(super) fn uefi_btrfs() -> Plan {
    with_esp(Volume::new(2, "btrfs", "/").subvolume("@rootfs"))
}
