//! Shapes of openSUSE and SUSE Linux Enterprise.

use std::path::Path;

use anyhow::Result;

use super::{Shape, tools};
use crate::golden::Volume;
use crate::process::Program;

const BIOS_GPT: &str =
    "label: gpt\nsize=2MiB,type=21686148-6449-6E6F-744E-656564454649\nsize=420MiB\nsize=16MiB,type=swap\n";

pub(super) fn shapes() -> Vec<Shape> {
    vec![leap15(), sles15(), tumbleweed()]
}

/// Sets the default subvolume: fstab names none for the root, as in every system that YaST has made.
fn default_subvolume(root: &Path) -> Result<()> {
    let set = Program::new("btrfs").args(["subvolume", "set-default"]).arg(root);
    set.run().map(drop)
}

/// Leap 15 by YaST's proposal: the root is a snapshot, and beside it lie subvolumes.
fn leap15() -> Shape {
    Shape::new("leap15", "openSUSE Leap 15.6, snapper's root, wicked, dracut, grub2", BIOS_GPT)
        .volume("root", Volume::new(2, "btrfs", "/").subvolume("@/.snapshots/1/snapshot"))
        .volume("snapshots", Volume::new(2, "btrfs", "/.snapshots").subvolume("@/.snapshots"))
        .volume("var", Volume::new(2, "btrfs", "/var").subvolume("@/var"))
        .volume("i386", Volume::new(2, "btrfs", "/boot/grub2/i386-pc").subvolume("@/boot/grub2/i386-pc"))
        .volume("swap", Volume::new(3, "swap", "none"))
        .last(default_subvolume)
        .file("etc/os-release", "NAME=\"openSUSE Leap\"\nID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.6\"\n")
        .file(
            "etc/fstab",
            "UUID={{root.uuid}}  /                      btrfs  defaults                      0  0\n\
             UUID={{root.uuid}}  /var                   btrfs  subvol=/@/var                 0  0\n\
             UUID={{root.uuid}}  /boot/grub2/i386-pc    btrfs  subvol=/@/boot/grub2/i386-pc  0  0\n\
             UUID={{root.uuid}}  /.snapshots            btrfs  subvol=/@/.snapshots          0  0\n\
             UUID={{swap.uuid}}  swap                   swap   defaults                      0  0\n",
        )
        .file(
            "etc/default/grub",
            "GRUB_DISTRIBUTOR=\nGRUB_DEFAULT=saved\nGRUB_TIMEOUT=8\n\
             GRUB_CMDLINE_LINUX_DEFAULT=\"splash=silent resume=/dev/disk/by-uuid/{{swap.uuid}} preempt=full mitigations=auto quiet security=apparmor\"\n\
             GRUB_CMDLINE_LINUX=\"\"\nSUSE_BTRFS_SNAPSHOT_BOOTING=\"true\"\n# GRUB_DISABLE_LINUX_UUID=true\n",
        )
        .file("etc/default/grub_installdevice", "{{disk}}\nactivate\ngeneric_mbr\n")
        .file("etc/sysconfig/bootloader", "LOADER_TYPE=\"grub2\"\nSECURE_BOOT=\"no\"\nTRUSTED_BOOT=\"no\"\n")
        .file(
            "boot/grub2/grub.cfg",
            "search --no-floppy --fs-uuid --set=root {{root.uuid}}\nmenuentry 'openSUSE Leap 15.6' {\n\
             \tlinux /boot/vmlinuz-6.4.0-150600.23.25-default root=UUID={{root.uuid}} splash=silent resume=/dev/disk/by-uuid/{{swap.uuid}}\n\
             \tinitrd /boot/initrd-6.4.0-150600.23.25-default\n}\n",
        )
        .file("boot/vmlinuz-6.4.0-150600.23.25-default", "kernel")
        .file("boot/initrd-6.4.0-150600.23.25-default", "golden")
        .link("boot/vmlinuz", "vmlinuz-6.4.0-150600.23.25-default")
        .link("boot/initrd", "initrd-6.4.0-150600.23.25-default")
        .modules("6.4.0-150600.23.25-default")
        .file("usr/share/grub2/i386-pc/modinfo.sh", "")
        .program("usr/sbin/grub2-install", tools::GRUB_INSTALL)
        .program("usr/sbin/grub2-mkconfig", tools::GRUB_MKCONFIG)
        .program("usr/bin/dracut", tools::DRACUT)
        .file("etc/hostname", "{{host}}\n")
        .file("etc/sysconfig/network/ifcfg-eth0", "BOOTPROTO='dhcp'\nSTARTMODE='auto'\nZONE=public\n")
        .file(
            "etc/udev/rules.d/70-persistent-net.rules",
            "SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{address}==\"{{mac}}\", ATTR{dev_id}==\"0x0\", ATTR{type}==\"1\", KERNEL==\"eth*\", NAME=\"eth0\"\n",
        )
        .holds("boot/grub2/grub.cfg", &["--set=root {{root.uuid}}\n", "resume=/dev/disk/by-uuid/{{swap.uuid}} preempt"])
        .holds("boot/initrd-6.4.0-150600.23.25-default", &["dracut's image of 6.4.0", "btrfs"])
        .calls(&[
            "dracut --force /boot/initrd-6.4.0-150600.23.25-default 6.4.0-150600.23.25-default",
            "grub2-install --target=i386-pc {{disk}}",
            "grub2-mkconfig -o /boot/grub2/grub.cfg",
        ])
}

/// SLES 15 as a server: ext4, kernel names on the command line, kdump, names of the golden disks in files of
/// services.
fn sles15() -> Shape {
    Shape::new("sles15", "SLES 15, ext4, kdump, multipath, maps of autofs, crypttab with a random key", "label: dos\nsize=420MiB,bootable\nsize=16MiB,type=82\nsize=8MiB\n")
        .volume("root", Volume::new(1, "ext4", "/").label("SYSTEM ROOT"))
        .volume("swap", Volume::new(2, "swap", "none"))
        .volume("plain", Volume::new(3, "swap", "none").label("scratch"))
        .file("etc/os-release", "NAME=\"SLES\"\nID=\"sles\"\nID_LIKE=\"suse\"\nVERSION_ID=\"15.6\"\n")
        .file(
            "etc/fstab",
            "LABEL=SYSTEM\\040ROOT / ext4 acl,user_xattr 1 1\n/dev/disk/by-uuid/{{swap.UUID}} swap swap defaults 0 0\n\
             /dev/mapper/cr_scratch swap swap defaults 0 0\n",
        )
        .becomes(
            "etc/fstab",
            "LABEL=SYSTEM\\040ROOT / ext4 acl,user_xattr 1 1\n/dev/disk/by-uuid/{{swap.uuid}} swap swap defaults 0 0\n\
             /dev/mapper/cr_scratch swap swap defaults 0 0\n",
        )
        .file("etc/crypttab", "cr_scratch\t{{plain.device}}\t/dev/urandom\tswap\n")
        .becomes("etc/crypttab", "cr_scratch\t/dev/disk/by-partuuid/{{plain.partuuid}}\t/dev/urandom\tswap\n")
        .file(
            "etc/default/grub",
            "GRUB_CMDLINE_LINUX_DEFAULT=\"splash=silent root='LABEL=SYSTEM ROOT' resume=LABEL=nowhere quiet\"\nGRUB_DISABLE_LINUX_UUID=true\n",
        )
        .becomes(
            "etc/default/grub",
            "GRUB_CMDLINE_LINUX_DEFAULT=\"splash=silent root='LABEL=SYSTEM ROOT' quiet\"\n# ka: not in this clone: GRUB_DISABLE_LINUX_UUID=true\n",
        )
        .file("etc/default/grub_installdevice", "{{root.device}}\nactivate\n")
        .becomes("etc/default/grub_installdevice", "/dev/disk/by-uuid/{{root.uuid}}\nactivate\n")
        .file("boot/grub2/grub.cfg", "linux /boot/vmlinuz-5.14.21-150500.53-default root={{root.device}}\n")
        .file("boot/vmlinuz-5.14.21-150500.53-default", "kernel")
        .file("boot/initrd-5.14.21-150500.53-default", "golden")
        .file("boot/initrd-5.14.21-150500.53-default-kdump", "golden")
        .modules("5.14.21-150500.53-default")
        .file("usr/share/grub2/i386-pc/modinfo.sh", "")
        .program("usr/sbin/grub2-install", tools::GRUB_INSTALL)
        .program("usr/sbin/grub2-mkconfig", tools::GRUB_MKCONFIG)
        .program("usr/bin/dracut", tools::DRACUT)
        .file("etc/hostname", "{{host}}\n")
        .file("etc/sysconfig/network/ifcfg-eth0", "BOOTPROTO='dhcp'\nSTARTMODE='auto'\nLLADDR='{{mac}}'\n")
        .becomes("etc/sysconfig/network/ifcfg-eth0", "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n")
        .file("etc/sysconfig/kdump", "KDUMP_SAVEDIR=\"file:///var/crash\"\nKDUMP_COMMANDLINE_APPEND=\"root={{root.device}}\"\n")
        .becomes("etc/sysconfig/kdump", "KDUMP_SAVEDIR=\"file:///var/crash\"\nKDUMP_COMMANDLINE_APPEND=\"root=UUID={{root.uuid}}\"\n")
        .file("etc/multipath.conf", "blacklist {\n\tdevnode \"^loop[0-9]\"\n}\n")
        .file("etc/auto.master", "/misc /etc/auto.misc\n")
        .file("etc/auto.misc", "scratch\t-fstype=ext4,ro\t:{{root.device}}\nnas -rw nas:/export\n")
        .becomes("etc/auto.misc", "scratch\t-fstype=ext4,ro\t:/dev/disk/by-uuid/{{root.uuid}}\nnas -rw nas:/export\n")
        .file("etc/udev/rules.d/99-scratch.rules", "KERNEL==\"loop*\", ENV{ID_FS_UUID}==\"{{root.uuid}}\", SYMLINK+=\"scratch\"\n")
        .file("etc/rc.d/boot.local", "#! /bin/sh\nblockdev --setra 4096 {{root.device}}\ntune2fs -e remount-ro UUID={{root.uuid}}\n")
        .becomes("etc/rc.d/boot.local", "#! /bin/sh\nblockdev --setra 4096 /dev/disk/by-uuid/{{root.uuid}}\ntune2fs -e remount-ro UUID={{root.uuid}}\n")
        .holds("boot/grub2/grub.cfg", &["root=UUID={{root.uuid}} ro"])
        .holds("boot/initrd-5.14.21-150500.53-default", &["dracut's image", "ext4"])
        .calls(&[
            "dracut --force /boot/initrd-5.14.21-150500.53-default 5.14.21-150500.53-default",
            "grub2-install --target=i386-pc {{disk}}",
            "grub2-mkconfig -o /boot/grub2/grub.cfg",
        ])
        .warns(&["resume=LABEL=nowhere names no disk", "3, but nothing is put on it"])
}

/// Tumbleweed with systemd-boot as sdbootutil keeps it: kernel and initramfs named for their checksums, one
/// entry for each snapshot.
fn tumbleweed() -> Shape {
    Shape::new("tumbleweed", "openSUSE Tumbleweed, systemd-boot with sdbootutil's entries (-r none: nodes boot by BIOS here)", BIOS_GPT)
        .volume("root", Volume::new(2, "btrfs", "/").subvolume("@/.snapshots/1/snapshot"))
        .volume("snapshots", Volume::new(2, "btrfs", "/.snapshots").subvolume("@/.snapshots"))
        .volume("swap", Volume::new(3, "swap", "none"))
        .last(default_subvolume)
        .args(&["-r", "none"])
        .file("etc/os-release", "NAME=\"openSUSE Tumbleweed\"\nID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n")
        .file(
            "etc/fstab",
            "UUID={{root.uuid}}  /            btrfs  defaults              0  0\nUUID={{root.uuid}}  /.snapshots  btrfs  subvol=/@/.snapshots  0  0\n\
             UUID={{swap.uuid}}  swap         swap   defaults              0  0\n",
        )
        .file("etc/kernel/cmdline", "root=UUID={{root.uuid}} splash=silent quiet systemd.swap=1 rootflags=subvol=@/.snapshots/1/snapshot systemd.machine_id=3f1c5a7b9d0e4c6a8b2d4f6071829304")
        .holds("etc/kernel/cmdline", &["root=UUID={{root.uuid}} splash=silent quiet systemd.swap=1 rootflags=subvol=@/.snapshots/1/snapshot systemd.machine_id="])
        .file("etc/kernel/entry-token", "opensuse-tumbleweed\n")
        .file("boot/efi/EFI/systemd/systemd-bootx64.efi", "MZ")
        .file("boot/efi/loader/loader.conf", "timeout 8\nconsole-mode keep\n")
        .file("boot/efi/loader/entries.srel", "type1\n")
        .file(
            "boot/efi/loader/entries/opensuse-tumbleweed-6.11.8-1-default-1.conf",
            "# Boot Loader Specification type#1 entry\ntitle      openSUSE Tumbleweed\nversion    1@6.11.8-1-default\n\
             sort-key   opensuse-tumbleweed\n\
             options    root=UUID={{root.uuid}} splash=silent resume=UUID={{swap.uuid}} rootflags=subvol=@/.snapshots/1/snapshot systemd.machine_id=3f1c5a7b9d0e4c6a8b2d4f6071829304\n\
             linux      /opensuse-tumbleweed/6.11.8-1-default/linux-0f1e2d3c4b5a69788796a5b4c3d2e1f001234567\n\
             initrd     /opensuse-tumbleweed/6.11.8-1-default/initrd-89abcdef0123456789abcdef0123456789abcdef\n",
        )
        .holds(
            "boot/efi/loader/entries/opensuse-tumbleweed-6.11.8-1-default-1.conf",
            &["options    root=UUID={{root.uuid}} splash=silent resume=UUID={{swap.uuid}} rootflags=subvol=@/.snapshots/1/snapshot systemd.machine_id="],
        )
        .file("boot/efi/opensuse-tumbleweed/6.11.8-1-default/linux-0f1e2d3c4b5a69788796a5b4c3d2e1f001234567", "kernel")
        .file("boot/efi/opensuse-tumbleweed/6.11.8-1-default/initrd-89abcdef0123456789abcdef0123456789abcdef", "golden")
        .file("usr/lib/modules/6.11.8-1-default/vmlinuz", "kernel")
        .modules("6.11.8-1-default")
        .program("usr/bin/dracut", tools::DRACUT)
        .file("etc/hostname", "{{host}}\n")
        .holds("boot/efi/opensuse-tumbleweed/6.11.8-1-default/initrd-89abcdef0123456789abcdef0123456789abcdef", &["dracut's image", "btrfs"])
        .calls(&["dracut --force /boot/efi/opensuse-tumbleweed/6.11.8-1-default/initrd-89abcdef0123456789abcdef0123456789abcdef 6.11.8-1-default"])
}
