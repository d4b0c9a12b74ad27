//! Where boot loaders keep their configuration, below the root of their system.

/// Where an EFI system partition is mounted, the usual place first.
pub const ESP_PLACES: [&str; 5] = ["/boot/efi", "/efi", "/boot", "/boot/esp", "/esp"];

/// GRUB's directory: Debian's and most others' name, and that of Fedora, Red Hat and SUSE.
pub const GRUB_DIRS: [&str; 2] = ["/boot/grub", "/boot/grub2"];

/// GRUB's configuration outside the EFI system partition.
pub const GRUB_CONFIGS: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];

/// The configuration of GRUB 0.9x, which nobody installs any more.
pub const OLD_GRUB_CONFIGS: [&str; 3] = [
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/boot/grub2/menu.lst",
];

/// Where GRUB's modules are, one directory for each platform.
pub const GRUB_MODULES: [&str; 4] = [
    "/usr/lib/grub",
    "/usr/lib/grub2",
    "/usr/share/grub2",
    "/usr/share/grub",
];

/// Directory and configuration of EXTLINUX, in the order in which it looks (SYSLINUX wiki, "Config"): Debian, Arch, Alpine.
pub const EXTLINUX_CONFIGS: [(&str, &str); 6] = [
    ("/boot/extlinux", "/boot/extlinux/extlinux.conf"),
    ("/boot/syslinux", "/boot/syslinux/extlinux.conf"),
    ("/boot/syslinux", "/boot/syslinux/syslinux.cfg"),
    ("/boot", "/boot/extlinux.conf"),
    ("/boot", "/boot/syslinux.cfg"),
    ("/", "/extlinux.conf"),
];

/// Where packages of syslinux have the boot code of a disk (`mbr.bin`, `gptmbr.bin`).
pub const SYSLINUX_CODE_DIRS: [&str; 6] = [
    "/usr/lib/syslinux/mbr",
    "/usr/lib/syslinux/bios",
    "/usr/lib/syslinux",
    "/usr/share/syslinux",
    "/usr/lib/EXTLINUX",
    "/usr/lib/extlinux",
];

/// Limine's configuration; each may also lie beside its program on the EFI system partition.
pub const LIMINE_CONFIGS: [&str; 6] = [
    "/boot/limine.conf",
    "/boot/limine/limine.conf",
    "/boot/limine.cfg",
    "/boot/limine/limine.cfg",
    "/limine.conf",
    "/limine.cfg",
];

/// Files by which the firmware of single-board computers boots: U-Boot, the Raspberry Pi's, and what reads their
/// configuration. What they stand for lies in front of the first partition, or in the board.
pub const BOARD_FILES: [&str; 9] = [
    "/boot/boot.scr",
    "/boot/armbianEnv.txt",
    "/boot/uEnv.txt",
    "/boot/dietpiEnv.txt",
    "/boot/firmware/config.txt",
    "/boot/firmware/start4.elf",
    "/boot/start4.elf",
    "/boot/bootcode.bin",
    "/boot/u-boot.bin",
];
