//! Shapes of Gentoo, Void and Slackware.

use super::{Shape, tools};
use crate::golden::Volume;

pub(super) fn shapes() -> Vec<Shape> {
    vec![gentoo(), void(), slackware()]
}

fn gentoo() -> Shape {
    Shape::new(
        "gentoo",
        "Gentoo with OpenRC, kernels named kernel-R, words of genkernel, dmcrypt, netifrc",
        "label: dos\nsize=128MiB,bootable\nsize=16MiB,type=82\nsize=400MiB\nsize=8MiB\n",
    )
    .volume("root", Volume::new(3, "ext4", "/").label("gentoo"))
    .volume("boot", Volume::new(1, "ext2", "/boot"))
    .volume("swap", Volume::new(2, "swap", "none"))
    .file("etc/os-release", "NAME=Gentoo\nID=gentoo\nPRETTY_NAME=\"Gentoo Linux\"\n")
    .file("etc/gentoo-release", "Gentoo Base System release 2.15\n")
    .file(
        "etc/fstab",
        "{{boot.device}}\t\t/boot\t\text2\t\tdefaults\t1 2\nLABEL=\"gentoo\"\t\t/\t\text4\t\tnoatime\t\t0 1\nUUID='{{swap.uuid}}'\tnone\tswap\tsw\t0 0\n\
         /dev/mapper/crypt-tmp\t/tmp\text4\tnoauto\t0 0\n",
    )
    .becomes(
        "etc/fstab",
        "UUID={{boot.uuid}}\t\t/boot\t\text2\t\tdefaults\t1 2\nLABEL=\"gentoo\"\t\t/\t\text4\t\tnoatime\t\t0 1\nUUID={{swap.uuid}}\tnone\tswap\tsw\t0 0\n\
         # ka: not in this clone: /dev/mapper/crypt-tmp\t/tmp\text4\tnoauto\t0 0\n",
    )
    .file(
        "etc/default/grub",
        "GRUB_DISTRIBUTOR=\"Gentoo\"\nGRUB_CMDLINE_LINUX=\"real_root=UUID={{root.uuid}} crypt_root=UUID=5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f dolvm real_resume={{swap.device}}\"\n",
    )
    .becomes("etc/default/grub", "GRUB_DISTRIBUTOR=\"Gentoo\"\nGRUB_CMDLINE_LINUX=\"real_root=UUID={{root.uuid}} real_resume=UUID={{swap.uuid}}\"\n")
    .file("boot/grub/grub.cfg", "search --no-floppy --fs-uuid --set=root {{boot.uuid}}\nlinux /kernel-6.6.62-gentoo-dist root=UUID={{root.uuid}} ro\n")
    .file("boot/kernel-6.6.62-gentoo-dist", "kernel")
    .file("boot/initramfs-6.6.62-gentoo-dist.img", "golden")
    .file("boot/System.map-6.6.62-gentoo-dist", "")
    .modules("6.6.62-gentoo-dist")
    .file("usr/lib/grub/i386-pc/modinfo.sh", "")
    .program("usr/sbin/grub-install", tools::GRUB_INSTALL)
    .program("usr/sbin/grub-mkconfig", tools::GRUB_MKCONFIG)
    .program("usr/bin/dracut", tools::DRACUT)
    .file("etc/hostname", "{{host}}\n")
    .file("etc/conf.d/hostname", "# Set to the hostname of this machine\nhostname=\"{{host}}\"\n")
    .file("etc/conf.d/net", "config_eth0=\"dhcp\"\nmac_eth0=\"{{mac}}\"\n")
    .becomes("etc/conf.d/net", "config_eth0=\"dhcp\"\n")
    .file("etc/conf.d/dmcrypt", "swap=crypt-swap\nsource='/dev/disk/by-partuuid/{{swap.partuuid}}'\n\ntarget=crypt-tmp\nsource='/dev/sdq4'\n")
    .holds("etc/conf.d/dmcrypt", &["swap=crypt-swap\nsource='/dev/disk/by-partuuid/{{swap.partuuid}}'\n", "# ka: not in this clone: target=crypt-tmp\n# ka: not in this clone: source='/dev/sdq4'"])
    .holds("boot/grub/grub.cfg", &["real_root=UUID={{root.uuid}} real_resume="])
    .holds("boot/initramfs-6.6.62-gentoo-dist.img", &["dracut's image", "ext4"])
    .calls(&[
        "dracut --force /boot/initramfs-6.6.62-gentoo-dist.img 6.6.62-gentoo-dist",
        "grub-install --target=i386-pc {{disk}}",
        "grub-mkconfig -o /boot/grub/grub.cfg",
    ])
    .warns(&["/tmp (/dev/mapper/crypt-tmp)", "/etc/conf.d/dmcrypt: ", "crypt_root=UUID=5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f is about", "dolvm is about", "4, but nothing is put on it"])
}

fn void() -> Shape {
    Shape::new("void", "Void, dracut and GRUB, runit, releases with an underscore", "label: gpt\nsize=1MiB,type=21686148-6449-6E6F-744E-656564454649\nsize=420MiB\n")
        .volume("root", Volume::new(2, "xfs", "/"))
        .file("etc/os-release", "NAME=\"Void\"\nID=\"void\"\n")
        .file("etc/fstab", "UUID={{root.uuid}} / xfs defaults 0 1\ntmpfs /tmp tmpfs defaults,nosuid,nodev 0 0\nefivarfs /sys/firmware/efi/efivars efivarfs defaults 0 0\n")
        .file("etc/default/grub", "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=4 rd.auto=1 rootdelay=5\"\n")
        .becomes("etc/default/grub", "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=4 rootdelay=5\"\n")
        .file("boot/grub/grub.cfg", "search --no-floppy --fs-uuid --set=root {{root.uuid}}\nlinux /boot/vmlinuz-6.6.52_1 root=UUID={{root.uuid}} ro\n")
        .file("boot/vmlinuz-6.6.52_1", "kernel")
        .file("boot/initramfs-6.6.52_1.img", "golden")
        .modules("6.6.52_1")
        .file("usr/lib/grub/i386-pc/modinfo.sh", "")
        .program("usr/bin/grub-install", tools::GRUB_INSTALL)
        .program("usr/bin/grub-mkconfig", tools::GRUB_MKCONFIG)
        .program("usr/bin/dracut", tools::DRACUT)
        .file("etc/hostname", "{{host}}\n")
        .file("etc/rc.conf", "HOSTNAME=\"{{host}}\"\nHARDWARECLOCK=\"UTC\"\n")
        .file("etc/rc.local", "#!/bin/sh\nhdparm -B 254 {{disk}}\nmount {{root.device}} /mnt\n")
        .becomes("etc/rc.local", "#!/bin/sh\nhdparm -B 254 {{disk}}\nmount /dev/disk/by-uuid/{{root.uuid}} /mnt\n")
        .holds("boot/grub/grub.cfg", &["root=UUID={{root.uuid}} ro"])
        .holds("boot/initramfs-6.6.52_1.img", &["dracut's image", "xfs"])
        .calls(&[
            "dracut --force /boot/initramfs-6.6.52_1.img 6.6.52_1",
            "grub-install --target=i386-pc {{disk}}",
            "grub-mkconfig -o /boot/grub/grub.cfg",
        ])
        .warns(&["rd.auto=1 would assemble"])
}

/// Slackware's mkinitrd, which has nothing but the name in common with Red Hat's.
const SLACKWARE_MKINITRD: &str = r#"#!/bin/sh
echo "mkinitrd $*" >> /root/calls
echo "mkinitrd: unknown option" >&2
exit 1
"#;

fn slackware() -> Shape {
    Shape::new(
        "slackware",
        "Slackware 15, LILO with kernel names, a huge kernel without an initramfs, rc.d",
        "label: dos\nsize=16MiB,type=82\nsize=420MiB,bootable\n",
    )
    .volume("root", Volume::new(2, "ext4", "/"))
    .volume("swap", Volume::new(1, "swap", "none"))
    .file("etc/os-release", "NAME=Slackware\nID=slackware\nVERSION_ID=15.0\n")
    .file("etc/slackware-version", "Slackware 15.0\n")
    .file(
        "etc/fstab",
        "{{swap.device}}        swap             swap        defaults         0   0\n{{root.device}}        /                ext4        defaults         1   1\n\
         #/dev/cdrom      /mnt/cdrom       auto        noauto,owner,ro,comment=x-gvfs-show 0   0\n/dev/fd0         /mnt/floppy      auto        noauto,owner     0   0\n\
         devpts           /dev/pts         devpts      gid=5,mode=620   0   0\n",
    )
    .becomes(
        "etc/fstab",
        "UUID={{swap.uuid}}        swap             swap        defaults         0   0\nUUID={{root.uuid}}        /                ext4        defaults         1   1\n\
         #/dev/cdrom      /mnt/cdrom       auto        noauto,owner,ro,comment=x-gvfs-show 0   0\n/dev/fd0         /mnt/floppy      auto        noauto,owner     0   0\n\
         devpts           /dev/pts         devpts      gid=5,mode=620   0   0\n",
    )
    .file(
        "etc/lilo.conf",
        "# LILO configuration file\nappend=\" vt.default_utf8=0 resume={{swap.device}}\"\nboot = {{disk}}\ncompact\nlba32\n# Linux bootable partition config begins\n\
         image = /boot/vmlinuz\n  root = {{root.device}}\n  label = \"Slackware 15.0\"\n  read-only\n# Linux bootable partition config ends\n",
    )
    .file("boot/vmlinuz-huge-5.15.19", "kernel")
    .link("boot/vmlinuz", "vmlinuz-huge-5.15.19")
    .modules("5.15.19")
    .program("usr/sbin/lilo", tools::LILO)
    .program("usr/sbin/mkinitrd", SLACKWARE_MKINITRD)
    .file("etc/HOSTNAME", "{{host}}.example.net\n")
    .file("etc/hosts", "127.0.0.1\tlocalhost\n127.0.0.1\t{{host}}.example.net {{host}}\n")
    .file("etc/rc.d/rc.inet1.conf", "IFNAME[0]=\"eth0\"\nUSE_DHCP[0]=\"yes\"\nDHCP_HOSTNAME[0]=\"{{host}}\"\n")
    .file("etc/mdadm.conf", "# mdadm.conf\n")
    .calls(&["lilo"])
}
