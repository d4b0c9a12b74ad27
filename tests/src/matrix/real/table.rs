//! The table of real systems: pairs of release, root, loader and initramfs tool rather than all of their
//! product.

use super::{Archive, Real, layouts, loaders};
use crate::debian::{self, System};
use crate::matrix::{Expected, Part};
use crate::qemu::firmware::Firmware;
use crate::qemu::machine::Bus;

/// Options for dracut: its images hold the drivers of the machine that made them, and the one that boots has
/// others.
const GRUB_FOR_AHCI: [&str; 2] = ["-r", "grub --with=ahci --with=sd_mod"];
const EXTLINUX_FOR_AHCI: [&str; 2] = ["-r", "extlinux --with=ahci --with=sd_mod"];

const DEBIAN_11: &str = "Debian 11";
const DEBIAN_12: &str = "Debian 12";
const DEBIAN_13: &str = "Debian 13";
const SID: &str = "Debian sid";
const INITRAMFS_TOOLS: &str = "initramfs-tools";

/// The values that most cases have.
const BIOS: Real = Real {
    name: "",
    system: "",
    root: "ext4",
    loader: "GRUB, BIOS",
    initramfs: INITRAMFS_TOOLS,
    part: Part::Full,
    expected: Expected::Boots,
    archive: Archive::Bookworm(debian::bootable),
    plan: layouts::ext4,
    install: loaders::grub,
    firmware: Firmware::Bios,
    bus: Bus::Virtio,
    args: &[],
};

/// The values with an EFI system partition.
const UEFI: Real = Real {
    loader: "GRUB, UEFI",
    plan: layouts::uefi_ext4,
    install: loaders::grub_efi,
    firmware: Firmware::Uefi,
    ..BIOS
};

/// The values of a clone that is not switched on.
const FAST: Real = Real {
    system: DEBIAN_12,
    part: Part::Fast,
    expected: Expected::Cloned,
    ..BIOS
};

const fn debian(suite: &'static str, packages: &'static [&'static str]) -> Archive {
    Archive::Of(System::new(suite, packages))
}

/// Systems that become clones on this machine.
pub(super) const ON_BIOS: [Real; 12] = [
    Real {
        name: "fast-debian12-ext4-grub",
        ..FAST
    },
    Real {
        name: "fast-debian12-btrfs-grub",
        root: "btrfs, Debian's installer",
        plan: layouts::btrfs_of_debian,
        ..FAST
    },
    Real {
        name: "fast-debian12-gpt-grub",
        root: "ext4, GPT with a BIOS boot partition",
        plan: layouts::ext4_on_gpt,
        ..FAST
    },
    Real {
        name: "fast-debian12-xfs-extlinux-dracut",
        root: "xfs, ext4 on /boot",
        loader: "EXTLINUX",
        initramfs: "dracut",
        archive: Archive::Bookworm(debian::with_other_tools),
        plan: layouts::xfs_with_boot,
        install: loaders::extlinux_on_boot,
        args: &EXTLINUX_FOR_AHCI,
        ..FAST
    },
    Real {
        name: "debian11-ext4-grub",
        system: DEBIAN_11,
        archive: debian("bullseye", &["initramfs-tools", "grub2-common", "grub-pc-bin"]),
        ..BIOS
    },
    Real {
        name: "debian12-xfs-grub-dracut",
        system: DEBIAN_12,
        root: "xfs",
        initramfs: "dracut",
        archive: debian("bookworm", &["dracut", "grub2-common", "grub-pc-bin"]),
        plan: layouts::xfs,
        bus: Bus::Ahci,
        args: &GRUB_FOR_AHCI,
        ..BIOS
    },
    Real {
        name: "debian13-btrfs-grub",
        system: DEBIAN_13,
        root: "btrfs, Debian's installer",
        archive: debian("trixie", &["initramfs-tools", "grub2-common", "grub-pc-bin"]),
        plan: layouts::btrfs_of_debian,
        ..BIOS
    },
    Real {
        name: "sid-opensuse-btrfs-grub-dracut",
        system: SID,
        root: "btrfs, openSUSE's subvolumes",
        initramfs: "dracut",
        archive: debian("sid", &["dracut", "grub2-common", "grub-pc-bin"]),
        plan: layouts::btrfs_of_opensuse,
        install: loaders::grub_on_opensuse,
        bus: Bus::Ahci,
        args: &GRUB_FOR_AHCI,
        ..BIOS
    },
    Real {
        name: "debian13-snapper-btrfs-extlinux",
        system: DEBIAN_13,
        root: "btrfs, snapper's subvolumes",
        loader: "EXTLINUX",
        expected: Expected::Refused(&["EXTLINUX", "subvolume @", "-r grub"]),
        archive: debian("trixie", &["initramfs-tools", "extlinux", "syslinux-common"]),
        plan: layouts::btrfs_of_snapper,
        install: loaders::extlinux_on_snapper,
        ..BIOS
    },
    Real {
        name: "debian13-btrfs-extlinux",
        system: DEBIAN_13,
        root: "btrfs, top level",
        loader: "EXTLINUX",
        archive: debian("trixie", &["initramfs-tools", "extlinux", "syslinux-common"]),
        plan: layouts::btrfs,
        install: loaders::extlinux,
        ..BIOS
    },
    Real {
        name: "debian11-xfs-extlinux-dracut",
        system: DEBIAN_11,
        root: "xfs, ext4 on /boot",
        loader: "EXTLINUX",
        initramfs: "dracut",
        archive: debian("bullseye", &["dracut", "extlinux", "syslinux-common"]),
        plan: layouts::xfs_with_boot,
        install: loaders::extlinux_on_boot,
        bus: Bus::Ahci,
        args: &EXTLINUX_FOR_AHCI,
        ..BIOS
    },
    Real {
        name: "debian12-gpt-grub",
        system: DEBIAN_12,
        root: "ext4, GPT with a BIOS boot partition",
        plan: layouts::ext4_on_gpt,
        ..BIOS
    },
];

/// Systems that become clones in a machine that boots over the network.
pub(super) const ON_UEFI: [Real; 8] = [
    Real {
        name: "debian11-grub-efi",
        system: DEBIAN_11,
        archive: debian(
            "bullseye",
            &[
                "initramfs-tools",
                "grub2-common",
                "grub-efi-amd64-bin",
                "efibootmgr",
            ],
        ),
        ..UEFI
    },
    Real {
        name: "debian13-xfs-shim",
        system: DEBIAN_13,
        root: "xfs",
        loader: "GRUB behind shim, UEFI",
        archive: debian("trixie", &SHIM),
        plan: layouts::uefi_xfs,
        install: loaders::grub_behind_shim,
        ..UEFI
    },
    Real {
        name: "sid-btrfs-grub-efi",
        system: SID,
        root: "btrfs, Debian's installer",
        archive: debian(
            "sid",
            &[
                "initramfs-tools",
                "grub2-common",
                "grub-efi-amd64-bin",
                "efibootmgr",
            ],
        ),
        plan: layouts::uefi_btrfs,
        ..UEFI
    },
    Real {
        name: "debian13-uki",
        system: DEBIAN_13,
        loader: "systemd-boot, unified image",
        archive: debian(
            "trixie",
            &[
                "initramfs-tools",
                "systemd-boot",
                "systemd-boot-efi",
                "systemd-ukify",
                "efibootmgr",
            ],
        ),
        install: loaders::unified,
        ..UEFI
    },
    Real {
        name: "sid-systemd-boot",
        system: SID,
        loader: "systemd-boot",
        archive: debian("sid", &["initramfs-tools", "systemd-boot", "efibootmgr"]),
        install: loaders::systemd_boot,
        ..UEFI
    },
    Real {
        name: "debian13-refind",
        system: DEBIAN_13,
        loader: "rEFInd",
        archive: debian("trixie", &["initramfs-tools", "refind", "efibootmgr"]),
        install: loaders::refind,
        ..UEFI
    },
    Real {
        name: "debian11-systemd-boot-dracut",
        system: DEBIAN_11,
        loader: "systemd-boot",
        initramfs: "dracut",
        archive: debian("bullseye", &["dracut", "efibootmgr"]),
        install: loaders::systemd_boot,
        bus: Bus::Nvme,
        ..UEFI
    },
    Real {
        name: "debian12-shim",
        system: DEBIAN_12,
        loader: "GRUB behind shim, Secure Boot",
        install: loaders::grub_behind_shim,
        firmware: Firmware::SecureBoot,
        ..UEFI
    },
];

const SHIM: [&str; 6] = [
    "initramfs-tools",
    "grub2-common",
    "grub-efi-amd64-bin",
    "grub-efi-amd64-signed",
    "shim-signed",
    "efibootmgr",
];
