//! Shapes of Ubuntu and Raspberry Pi OS. Debian itself is cloned for real (`postinstall.rs`, `loaders.rs`).

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Shape, tools};
use crate::golden::Volume;
use crate::process::Program;

const BIOS_GPT: &str = "label: gpt\nsize=1MiB,type=21686148-6449-6E6F-744E-656564454649\nsize=420MiB\n";

pub(super) fn shapes() -> Vec<Shape> {
    vec![ubuntu22(), ubuntu24(), raspios()]
}

fn swap_file(root: &Path) -> Result<()> {
    let path = root.join("swap.img");
    fs::write(&path, vec![0; 4 << 20])?;
    Program::new("chmod").arg("0600").arg(&path).run()?;
    Program::new("mkswap").arg("-q").arg(path).run().map(drop)
}

fn ubuntu22() -> Shape {
    Shape::new("ubuntu22", "Ubuntu 22.04 server, curtin's fstab, a swap file, netplan with a match by address", BIOS_GPT)
        .volume("root", Volume::new(2, "ext4", "/"))
        .last(swap_file)
        .file("etc/os-release", "PRETTY_NAME=\"Ubuntu 22.04.4 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\nID=ubuntu\nID_LIKE=debian\n")
        .file("etc/debian_version", "bookworm/sid\n")
        .file(
            "etc/fstab",
            "# <file system> <mount point>   <type>  <options>       <dump>  <pass>\n# / was on /dev/sda2 during curtin installation\n\
             /dev/disk/by-uuid/{{root.uuid}} / ext4 defaults 0 1\n/swap.img\tnone\tswap\tsw\t0\t0\n",
        )
        .file(
            "etc/default/grub",
            "GRUB_DEFAULT=0\nGRUB_TIMEOUT_STYLE=hidden\nGRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`\n\
             GRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash resume=UUID={{root.uuid}} resume_offset=98304\"\nGRUB_CMDLINE_LINUX=\"\"\n",
        )
        .holds("etc/default/grub", &["quiet splash resume=UUID={{root.uuid}} resume_offset="])
        .file("etc/default/grub.d/50-curtin-settings.cfg", "GRUB_TERMINAL=console\nGRUB_CMDLINE_LINUX_DEFAULT=\"rootflags=data=ordered root=UUID={{root.UUID}}\"\r\n")
        .becomes("etc/default/grub.d/50-curtin-settings.cfg", "GRUB_TERMINAL=console\nGRUB_CMDLINE_LINUX_DEFAULT=\"rootflags=data=ordered root=UUID={{root.uuid}}\"\r\n")
        .file(
            "boot/grub/grub.cfg",
            "menuentry 'Ubuntu' --class ubuntu $menuentry_id_option 'gnulinux-simple-{{root.uuid}}' {\n\
             \tsearch --no-floppy --fs-uuid --set=root {{root.uuid}}\n\tlinux\t/boot/vmlinuz-5.15.0-105-generic root=UUID={{root.uuid}} ro quiet\n\
             \tinitrd\t/boot/initrd.img-5.15.0-105-generic\n}\n",
        )
        .file("boot/vmlinuz-5.15.0-105-generic", "kernel")
        .file("boot/initrd.img-5.15.0-105-generic", "golden")
        .link("boot/vmlinuz", "vmlinuz-5.15.0-105-generic")
        .link("boot/initrd.img", "initrd.img-5.15.0-105-generic")
        .modules("5.15.0-105-generic")
        .file("usr/lib/grub/i386-pc/modinfo.sh", "")
        .program("usr/sbin/grub-install", tools::GRUB_INSTALL)
        .program("usr/sbin/grub-mkconfig", tools::GRUB_MKCONFIG)
        .program("usr/sbin/update-initramfs", tools::UPDATE_INITRAMFS)
        .file("etc/initramfs-tools/modules", "# List of modules\n")
        .holds("etc/initramfs-tools/modules", &["# List of modules\n", "\next4\n"])
        .file("etc/initramfs-tools/conf.d/resume", "RESUME=UUID={{root.uuid}}\n")
        .file("etc/hostname", "{{host}}\n")
        .file("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 {{host}}\n\n::1     ip6-localhost ip6-loopback\n")
        .file(
            "etc/netplan/00-installer-config.yaml",
            "# This is the network config written by 'subiquity'\nnetwork:\n  ethernets:\n    ens18:\n      match:\n        macaddress: \"{{mac}}\"\n      dhcp4: true\n      dhcp-identifier: mac\n      set-name: ens18\n  version: 2\n",
        )
        .file("etc/hdparm.conf", "quiet\n{{disk}} {\n\tapm = 254\n}\n")
        .file("etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.2004-10.com.ubuntu:01:d4c3b2a19087\n")
        .holds("etc/iscsi/initiatorname.iscsi", &["InitiatorName=iqn.2004-10.com.ubuntu:01:"])
        .link("var/lib/dbus/machine-id", "/etc/machine-id")
        .holds("boot/grub/grub.cfg", &["root=UUID={{root.uuid}} ro"])
        .holds("boot/initrd.img-5.15.0-105-generic", &["initramfs-tools' image", "ext4"])
        .calls(&[
            "update-initramfs -u -k 5.15.0-105-generic",
            "grub-install --target=i386-pc {{disk}}",
            "grub-mkconfig -o /boot/grub/grub.cfg",
        ])
}

fn ubuntu24() -> Shape {
    Shape::new("ubuntu24", "Ubuntu 24.04 desktop, netplan by NetworkManager, GRUB's stub on the EFI system partition, a crypttab that is gone", BIOS_GPT)
        .volume("root", Volume::new(2, "ext4", "/"))
        .last(swap_file)
        .file("etc/os-release", "NAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nID=ubuntu\nID_LIKE=debian\n")
        .file("etc/debian_version", "trixie/sid\n")
        .file("etc/fstab", "PARTUUID={{root.PARTUUID}} / ext4 errors=remount-ro 0 1\n/swap.img none swap sw 0 0\n")
        .becomes("etc/fstab", "PARTUUID={{root.partuuid}} / ext4 errors=remount-ro 0 1\n/swap.img none swap sw 0 0\n")
        .file("etc/crypttab", "dm_crypt-0 UUID=5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f none luks\n")
        .becomes("etc/crypttab", "# ka: not in this clone: dm_crypt-0 UUID=5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f none luks\n")
        .file("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash\"\nGRUB_CMDLINE_LINUX=\"rd.luks.name=5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f=root cryptopts=target=root,source=UUID=5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f\"\n")
        .becomes("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash\"\nGRUB_CMDLINE_LINUX=\"\"\n")
        .file("boot/grub/grub.cfg", "linux /boot/vmlinuz-6.8.0-31-generic root=UUID={{root.uuid}} ro\n")
        .file("boot/efi/EFI/ubuntu/grub.cfg", "search.fs_uuid {{root.uuid}} root hd0,gpt2\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n")
        .file("boot/vmlinuz-6.8.0-31-generic", "kernel")
        .file("boot/initrd.img-6.8.0-31-generic", "golden")
        .modules("6.8.0-31-generic")
        .file("usr/lib/grub/i386-pc/modinfo.sh", "")
        .program("usr/sbin/grub-install", tools::GRUB_INSTALL)
        .program("usr/sbin/grub-mkconfig", tools::GRUB_MKCONFIG)
        .program("usr/sbin/update-initramfs", tools::UPDATE_INITRAMFS)
        .file("etc/hostname", "{{host}}\n")
        .file(
            "etc/netplan/90-NM-0a8c3a41-6e6b-4f0b-b8d0-1c9b6e2f5d17.yaml",
            "network:\n  version: 2\n  ethernets:\n    NM-0a8c3a41-6e6b-4f0b-b8d0-1c9b6e2f5d17:\n      renderer: NetworkManager\n      match:\n        macaddress: \"{{MAC}}\"\n      dhcp4: true\n      networkmanager:\n        uuid: \"0a8c3a41-6e6b-4f0b-b8d0-1c9b6e2f5d17\"\n        name: \"wired\"\n        passthrough:\n          ethernet._: \"\"\n",
        )
        .file("etc/netplan/50-cloud-init.yaml", "network: {version: 2, ethernets: {ens3: {dhcp4: true, match: {macaddress: '{{mac}}'}, set-name: ens3}}}\n")
        .file("etc/systemd/system/mnt-data.mount", "[Unit]\nDescription=data\n[Mount]\nWhat=/dev/disk/by-uuid/{{root.uuid}}\nWhere=/mnt/data\nType=ext4\n")
        .file("etc/systemd/system/scrub.service", "[Unit]\nBindsTo=dev-disk-by\\x2duuid-{{root.escaped}}.device\n[Service]\nExecStart=/bin/true\n")
        .holds("boot/grub/grub.cfg", &["root=UUID={{root.uuid}} ro"])
        .holds("boot/initrd.img-6.8.0-31-generic", &["initramfs-tools' image", "ext4"])
        .holds("etc/initramfs-tools/modules", &["ext4\n"])
        .calls(&[
            "update-initramfs -u -k 6.8.0-31-generic",
            "grub-install --target=i386-pc {{disk}}",
            "grub-mkconfig -o /boot/grub/grub.cfg",
        ])
        .warns(&["dm_crypt-0: UUID=5d1f7d0e", "rd.luks.name=5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f=root is about", "cryptopts=target=root,source="])
}

/// Raspberry Pi OS: the firmware of the board starts it, and reads `config.txt` and `cmdline.txt`.
fn raspios() -> Shape {
    Shape::new("raspios", "Raspberry Pi OS, root by PARTUUID in cmdline.txt (-r none: its files are all it needs)", "label: dos\nsize=420MiB\n")
        .volume("root", Volume::new(1, "ext4", "/"))
        .args(&["-r", "none"])
        .file("etc/os-release", "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=\"12\"\n")
        .file("etc/fstab", "proc            /proc           proc    defaults          0       0\nPARTUUID={{root.partuuid}}  /               ext4    defaults,noatime  0       1\n")
        .file("boot/firmware/config.txt", "arm_64bit=1\nauto_initramfs=1\n[all]\n")
        .file(
            "boot/firmware/cmdline.txt",
            "console=serial0,115200 console=tty1 root=PARTUUID={{root.partuuid}} rootfstype=ext4 fsck.repair=yes rootwait cfg80211.ieee80211_regdom=DE\r\n",
        )
        .file("boot/firmware/kernel8.img", "kernel")
        .file("boot/firmware/initramfs8", "initramfs")
        .file("etc/hostname", "{{host}}\n")
        .file("etc/systemd/network/10-eth.link", "[Match]\nPermanentMACAddress={{mac}}\n[Link]\nName=lan0\n")
}
