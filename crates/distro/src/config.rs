//! Places of boot loaders' configuration, below the root of their system.

/// Mount points of an EFI system partition, the usual one first.
pub const ESP_PLACES: [&str; 5] = ["/boot/efi", "/efi", "/boot", "/boot/esp", "/esp"];

/// Directories of GRUB: that of Debian and most others, and that of Fedora, Red Hat and SUSE.
pub const GRUB_DIRS: [&str; 2] = ["/boot/grub", "/boot/grub2"];

/// GRUB's configuration outside the EFI system partition.
pub const GRUB_CONFIGS: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];

/// Configuration of GRUB 0.9x, which is obsolete.
pub const OLD_GRUB_CONFIGS: [&str; 3] = [
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/boot/grub2/menu.lst",
];

/// Directories of GRUB's modules. Each has one directory for each platform.
pub const GRUB_MODULES: [&str; 4] = [
    "/usr/lib/grub",
    "/usr/lib/grub2",
    "/usr/share/grub2",
    "/usr/share/grub",
];

/// Directory and configuration of EXTLINUX, in its search order (SYSLINUX wiki, "Config"): Debian, Arch,
/// Alpine.
pub const EXTLINUX_CONFIGS: [(&str, &str); 6] = [
    ("/boot/extlinux", "/boot/extlinux/extlinux.conf"),
    ("/boot/syslinux", "/boot/syslinux/extlinux.conf"),
    ("/boot/syslinux", "/boot/syslinux/syslinux.cfg"),
    ("/boot", "/boot/extlinux.conf"),
    ("/boot", "/boot/syslinux.cfg"),
    ("/", "/extlinux.conf"),
];

/// Directories in which syslinux packages have the boot code of a disk (`mbr.bin`, `gptmbr.bin`).
pub const SYSLINUX_CODE_DIRS: [&str; 6] = [
    "/usr/lib/syslinux/mbr",
    "/usr/lib/syslinux/bios",
    "/usr/lib/syslinux",
    "/usr/share/syslinux",
    "/usr/lib/EXTLINUX",
    "/usr/lib/extlinux",
];

/// Configuration of Limine. Each may also be beside its program on the EFI system partition.
pub const LIMINE_CONFIGS: [&str; 6] = [
    "/boot/limine.conf",
    "/boot/limine/limine.conf",
    "/boot/limine.cfg",
    "/boot/limine/limine.cfg",
    "/limine.conf",
    "/limine.cfg",
];

/// Files by which the firmware of single-board computers boots: U-Boot, the Raspberry Pi's firmware, and
/// programs that read their configuration. They indicate a boot loader in front of the first partition or on
/// the board.
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
