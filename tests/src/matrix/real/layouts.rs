//! Disks of golden systems.

use crate::disk::MIB;
use crate::golden::{Plan, Volume};

/// Where the EFI system partition is mounted.
pub(super) const ESP: &str = "/boot/efi";
/// Root and swap.
const MBR: &str = "label: dos\nsize=1900MiB,type=83,bootable\ntype=82\n";

fn plan(table: &'static str, volumes: Vec<Volume>) -> Plan {
    Plan {
        size: 2000 * MIB,
        sector_size: 512,
        table,
        volumes,
        foreign_fstab: "# the golden node's own\nproc /proc proc defaults 0 0\n",
    }
}

/// One ext4 and swap, on an MBR.
pub(super) fn ext4() -> Plan {
    plan(
        MBR,
        vec![Volume::new(1, "ext4", "/"), Volume::new(2, "swap", "none")],
    )
}

/// The clones' layout with UEFI: the golden EFI system partition is ext4 for want of vfat in this kernel.
pub(super) fn on_uefi() -> &'static str {
    "table gpt\nesp 200 fs=vfat\nlinux 1900\nswap 90\n"
}
