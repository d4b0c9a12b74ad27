//! Systems that could not boot as clones: each is refused, with the reason.

use super::Shape;
use crate::golden::Volume;

pub(super) fn shapes() -> Vec<Shape> {
    vec![
        armbian(),
        raspios(),
        old_grub(),
        container(),
        nixos_grub(),
        nixos_systemd_boot(),
    ]
}

fn plain(name: &'static str, about: &'static str) -> Shape {
    Shape::new(name, about, "label: dos\nsize=420MiB,bootable\n")
        .volume("root", Volume::new(1, "ext4", "/"))
        .file("etc/fstab", "UUID={{root.uuid}} / ext4 defaults 0 1\n")
}

fn armbian() -> Shape {
    plain("armbian", "Armbian, U-Boot before the first partition")
        .file("etc/os-release", "NAME=\"Armbian\"\nID=debian\n")
        .file("boot/boot.cmd", "setenv bootargs \"root=${rootdev}\"\n")
        .file("boot/boot.scr", "image")
        .file("boot/armbianEnv.txt", "rootdev=UUID={{root.uuid}}\n")
        .file("boot/vmlinuz-6.6.63-current-sunxi", "kernel")
        .link("boot/zImage", "vmlinuz-6.6.63-current-sunxi")
        .file("boot/uInitrd-6.6.63-current-sunxi", "image")
        .modules("6.6.63-current-sunxi")
        .refused(&["U-Boot or the firmware of a board", "/boot/"])
}

fn raspios() -> Shape {
    plain("pi-refused", "Raspberry Pi OS without -r none")
        .file("boot/firmware/config.txt", "arm_64bit=1\n")
        .file(
            "boot/firmware/cmdline.txt",
            "root=PARTUUID={{root.partuuid}} rootwait\n",
        )
        .file("boot/firmware/kernel8.img", "kernel")
        .modules("6.6.51+rpt-rpi-v8")
        .refused(&["/boot/firmware/", "firmware of a board"])
}

fn old_grub() -> Shape {
    plain("grub-legacy", "CentOS 6, GRUB 0.9x")
        .file("etc/os-release", "NAME=CentOS\n")
        .file("boot/grub/grub.conf", "default=0\ntitle CentOS\n\troot (hd0,0)\n\tkernel /boot/vmlinuz-2.6.32-754.el6.x86_64 ro root={{root.device}}\n")
        .link("boot/grub/menu.lst", "./grub.conf")
        .file("boot/vmlinuz-2.6.32-754.el6.x86_64", "kernel")
        .file("boot/initramfs-2.6.32-754.el6.x86_64.img", "image")
        .modules("2.6.32-754.el6.x86_64")
        .program("sbin/grub-install", "#!/bin/sh\nexit 0\n")
        .program("sbin/grub", "#!/bin/sh\nexit 0\n")
        .refused(&["GRUB 0.9x"])
}

fn container() -> Shape {
    plain("container", "the root of a container: no kernel, no loader")
        .file("etc/os-release", "ID=debian\n")
        .file(".dockerenv", "")
        .refused(&["no boot loader"])
}

fn nixos(name: &'static str, about: &'static str) -> Shape {
    plain(name, about)
        .file("etc/NIXOS", "")
        .link(
            "etc/static",
            "/nix/store/5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d-etc/etc",
        )
        .file(
            "nix/store/5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d-etc/etc/fstab",
            "UUID={{root.uuid}} / ext4\n",
        )
        .link(
            "run/current-system",
            "/nix/store/0f1e2d3c4b5a69788796a5b4c3d2e1f0-nixos-system-aurum-24.05",
        )
        .file(
            "etc/nixos/hardware-configuration.nix",
            "fileSystems.\"/\".device = \"/dev/disk/by-uuid/{{root.uuid}}\";\n",
        )
}

fn nixos_grub() -> Shape {
    nixos("nixos-grub", "NixOS, GRUB: loader, fstab and initramfs come out of its store")
        .file("boot/grub/grub.cfg", "search --set=drive1 --fs-uuid {{root.uuid}}\nmenuentry \"NixOS - Default\" {\n linux ($drive1)/nix/store/0f1e-linux-6.6.63/bzImage\n}\n")
        .file("nix/store/0f1e-linux-6.6.63/bzImage", "kernel")
        .refused(&["NixOS"])
}

fn nixos_systemd_boot() -> Shape {
    nixos("nixos-sdboot", "NixOS, systemd-boot")
        .file("boot/EFI/systemd/systemd-bootx64.efi", "MZ")
        .file("boot/loader/entries/nixos-generation-1.conf", "title NixOS\nlinux /EFI/nixos/0f1e-linux-6.6.63-bzImage.efi\noptions init=/nix/store/0f1e/init\n")
        .file("boot/EFI/nixos/0f1e-linux-6.6.63-bzImage.efi", "MZ")
        .refused(&["NixOS"])
}
