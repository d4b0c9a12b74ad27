//! Shapes of Arch.

use super::{Shape, tools};
use crate::golden::Volume;

pub(super) fn shapes() -> Vec<Shape> {
    vec![grub(), systemd_boot()]
}

const PRESET: &str = "ALL_kver=\"/boot/vmlinuz-linux\"\nPRESETS=('default' 'fallback')\ndefault_image=\"/boot/initramfs-linux.img\"\nfallback_image=\"/boot/initramfs-linux-fallback.img\"\nfallback_options=\"-S autodetect\"\n";
const MKINITCPIO_CONF: &str = "MODULES=()\nBINARIES=()\nFILES=()\nHOOKS=(base udev autodetect microcode modconf kms keyboard keymap consolefont block encrypt filesystems resume fsck)\n";

fn kernel(shape: Shape) -> Shape {
    shape
        .file(
            "etc/os-release",
            "NAME=\"Arch Linux\"\nID=arch\nBUILD_ID=rolling\n",
        )
        .file("boot/vmlinuz-linux", "kernel")
        .file("boot/initramfs-linux.img", "golden")
        .file("boot/initramfs-linux-fallback.img", "golden")
        .file("usr/lib/modules/6.12.1-arch1-1/vmlinuz", "kernel")
        .file("usr/lib/modules/6.12.1-arch1-1/pkgbase", "linux\n")
        .modules("6.12.1-arch1-1")
        .file("etc/mkinitcpio.d/linux.preset", PRESET)
        .file("etc/mkinitcpio.conf", MKINITCPIO_CONF)
        .holds(
            "etc/mkinitcpio.conf",
            &[MKINITCPIO_CONF, "\nMODULES=(${MODULES[@]} "],
        )
        .program("usr/bin/mkinitcpio", tools::MKINITCPIO)
        .holds(
            "boot/initramfs-linux.img",
            &["mkinitcpio's image", "MODULES=(${MODULES[@]} "],
        )
        .holds("boot/initramfs-linux-fallback.img", &["mkinitcpio's image"])
        .file("etc/hostname", "{{host}}\n")
}

fn grub() -> Shape {
    let shape = Shape::new(
        "arch",
        "Arch, mkinitcpio and GRUB, genfstab's comments, words of an encrypted root that is gone, swap with a random key",
        "label: dos\nsize=420MiB,bootable\nsize=16MiB,type=82\nsize=8MiB\n",
    );
    kernel(shape)
        .volume("root", Volume::new(1, "ext4", "/"))
        .volume("swap", Volume::new(2, "swap", "none"))
        .volume("plain", Volume::new(3, "swap", "none").label("cryptswap"))
        .file(
            "etc/fstab",
            "# Static information about the filesystems.\n\n# {{root.device}}\nUUID={{root.uuid}}\t/         \text4      \trw,relatime\t0 1\n\n\
             # {{swap.device}}\nUUID={{swap.uuid}}\tnone      \tswap      \tdefaults  \t0 0\n/dev/mapper/swap none swap defaults 0 0\n",
        )
        .holds("etc/fstab", &["\nUUID={{root.uuid}}\t/         \text4      \trw,relatime\t0 1\n", "\nUUID={{swap.uuid}}\tnone      \tswap      \tdefaults  \t0 0\n/dev/mapper/swap none swap"])
        .file("etc/crypttab", "# <name>       <device>         <password>              <options>\nswap      LABEL=cryptswap    /dev/urandom    swap,offset=2048,cipher=aes-xts-plain64,size=512\n")
        // Nothing has this label in the clone: the partition is left as it is for the first boot to fill.
        .becomes("etc/crypttab", "# <name>       <device>         <password>              <options>\nswap      PARTUUID={{plain.partuuid}}    /dev/urandom    swap,offset=2048,cipher=aes-xts-plain64,size=512\n")
        .file(
            "etc/default/grub",
            "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=3 quiet resume=PARTUUID={{swap.PARTUUID}}\"\n\
             GRUB_CMDLINE_LINUX=\"cryptdevice=UUID=5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f:cryptroot:allow-discards root=/dev/mapper/cryptroot\"\n\
             GRUB_PRELOAD_MODULES=\"part_gpt part_msdos\"\n#GRUB_ENABLE_CRYPTODISK=y\nGRUB_ENABLE_CRYPTODISK=y\n",
        )
        .becomes(
            "etc/default/grub",
            "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=3 quiet resume=PARTUUID={{swap.partuuid}}\"\n\
             GRUB_CMDLINE_LINUX=\"root=UUID={{root.uuid}}\"\n\
             GRUB_PRELOAD_MODULES=\"part_gpt part_msdos\"\n#GRUB_ENABLE_CRYPTODISK=y\n# ka: not in this clone: GRUB_ENABLE_CRYPTODISK=y\n",
        )
        .file("boot/grub/grub.cfg", "search --no-floppy --fs-uuid --set=root {{root.uuid}}\nlinux /boot/vmlinuz-linux root=UUID={{root.uuid}} rw\ninitrd /boot/initramfs-linux.img\n")
        .file("usr/lib/grub/i386-pc/modinfo.sh", "")
        .program("usr/bin/grub-install", tools::GRUB_INSTALL)
        .program("usr/bin/grub-mkconfig", tools::GRUB_MKCONFIG)
        .file("etc/systemd/network/20-wired.network", "[Match]\nMACAddress={{mac}}\n\n[Network]\nDHCP=yes\n")
        .holds("boot/grub/grub.cfg", &["root=UUID={{root.uuid}}"])
        .calls(&["mkinitcpio -P", "grub-install --target=i386-pc {{disk}}", "grub-mkconfig -o /boot/grub/grub.cfg"])
        .warns(&["cryptdevice=UUID=5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f:cryptroot:allow-discards is about", "3, but nothing is put on it"])
}

/// Arch with systemd-boot: the EFI system partition is `/boot`.
fn systemd_boot() -> Shape {
    let shape = Shape::new(
        "arch-sdboot",
        "Arch, mkinitcpio and systemd-boot, /boot is the EFI system partition (-r none: nodes boot by BIOS here)",
        "label: gpt\nsize=420MiB\nsize=16MiB,type=swap\n",
    );
    kernel(shape)
        .volume("root", Volume::new(1, "btrfs", "/").subvolume("@"))
        .volume("home", Volume::new(1, "btrfs", "/home").subvolume("@home"))
        .volume("swap", Volume::new(2, "swap", "none"))
        .args(&["-r", "none"])
        .file(
            "etc/fstab",
            "UUID={{root.uuid}}\t/\tbtrfs\trw,relatime,subvolid=256,subvol=/@\t0 0\nUUID={{root.uuid}}\t/home\tbtrfs\trw,relatime,subvolid=257,subvol=/@home\t0 0\n\
             UUID={{swap.uuid}}\tnone\tswap\tdefaults\t0 0\n",
        )
        .becomes(
            "etc/fstab",
            "UUID={{root.uuid}}\t/\tbtrfs\trw,relatime,subvol=/@\t0 0\nUUID={{root.uuid}}\t/home\tbtrfs\trw,relatime,subvol=/@home\t0 0\n\
             UUID={{swap.uuid}}\tnone\tswap\tdefaults\t0 0\n",
        )
        .file("boot/EFI/systemd/systemd-bootx64.efi", "MZ")
        .file("boot/loader/loader.conf", "default  arch.conf\ntimeout  4\n")
        .file(
            "boot/loader/entries/arch.conf",
            "title   Arch Linux\nlinux   /vmlinuz-linux\ninitrd  /initramfs-linux.img\n\
             options root=PARTUUID={{root.partuuid}} zswap.enabled=0 rootflags=subvol=@ rw rootfstype=btrfs\noptions resume=UUID={{swap.uuid}} systemd.volatile=no\n",
        )
        .file("boot/loader/entries/arch-old.conf", "title Arch (old)\nlinux /vmlinuz-linux\ninitrd /initramfs-linux.img\noptions root=\"PARTUUID={{root.PARTUUID}}\" rootflags=subvolid=256,compress=zstd rw\n")
        .becomes("boot/loader/entries/arch-old.conf", "title Arch (old)\nlinux /vmlinuz-linux\ninitrd /initramfs-linux.img\noptions root=\"PARTUUID={{root.partuuid}}\" rootflags=subvol=/@,compress=zstd rw\n")
        .file("etc/kernel/cmdline", "root=UUID={{root.uuid}}\nrootflags=subvol=/@ rw\n")
        .file("etc/cmdline.d/root.conf", "root=/dev/disk/by-uuid/{{root.uuid}} rw\n")
        .calls(&["mkinitcpio -P"])
}
