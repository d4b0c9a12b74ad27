//! Shapes of Red Hat Enterprise Linux, CentOS, Rocky and Fedora.

use super::{Shape, tools};
use crate::golden::Volume;

pub(super) fn shapes() -> Vec<Shape> {
    vec![rhel8(), rocky9(), fedora41(), centos7()]
}

/// RHEL 8 with Anaconda's standard partitions on BIOS: `/boot`, swap, root, all but the first logical in
/// nothing.
fn rhel8() -> Shape {
    const KERNEL: &str = "4.18.0-553.el8_10.x86_64";
    Shape::new(
        "rhel8",
        "RHEL 8, BIOS, entries whose command line is kernelopts in grubenv, ifcfg files",
        "label: dos\nsize=128MiB,type=83,bootable\nsize=16MiB,type=82\ntype=83\n",
    )
    .volume("root", Volume::new(3, "xfs", "/"))
    .volume("boot", Volume::new(1, "ext4", "/boot"))
    .volume("swap", Volume::new(2, "swap", "none"))
    .file("etc/os-release", "NAME=\"Red Hat Enterprise Linux\"\nVERSION=\"8.10 (Ootpa)\"\nID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"8.10\"\n")
    .file(
        "etc/fstab",
        "\n#\n# /etc/fstab\n# Created by anaconda on Mon Mar  4 09:12:44 2024\n#\n\
         UUID={{root.uuid}} /                       xfs     defaults        0 0\n\
         UUID={{boot.uuid}} /boot                   ext4    defaults        1 2\n\
         UUID={{swap.uuid}} none                    swap    defaults        0 0\n",
    )
    .file(
        "etc/default/grub",
        "GRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR=\"$(sed 's, release .*$,,g' /etc/system-release)\"\nGRUB_DEFAULT=saved\n\
         GRUB_DISABLE_SUBMENU=true\nGRUB_TERMINAL_OUTPUT=\"console\"\n\
         GRUB_CMDLINE_LINUX=\"crashkernel=auto resume=UUID={{swap.uuid}} rhgb quiet\"\n\
         GRUB_DISABLE_RECOVERY=\"true\"\nGRUB_ENABLE_BLSCFG=true\n",
    )
    .file("boot/grub2/grub.cfg", "search --no-floppy --fs-uuid --set=root {{boot.uuid}}\ninsmod blscfg\nblscfg\n")
    .file(
        "boot/loader/entries/3f1c5a7b9d0e4c6a8b2d4f6071829304-4.18.0-553.el8_10.x86_64.conf",
        "title Red Hat Enterprise Linux (4.18.0-553.el8_10.x86_64) 8.10 (Ootpa)\nversion 4.18.0-553.el8_10.x86_64\n\
         linux /vmlinuz-4.18.0-553.el8_10.x86_64\ninitrd /initramfs-4.18.0-553.el8_10.x86_64.img $tuned_initrd\n\
         options $kernelopts $tuned_params\nid rhel-20240516063205-4.18.0-553.el8_10.x86_64\ngrub_users $grub_users\n\
         grub_arg --unrestricted\ngrub_class kernel-\n",
    )
    .file(
        "boot/grub2/grubenv",
        &environment_block(
            "saved_entry=3f1c5a7b9d0e4c6a8b2d4f6071829304-4.18.0-553.el8_10.x86_64\n\
             kernelopts=root=UUID={{root.uuid}} ro crashkernel=auto resume=UUID={{swap.uuid}} rhgb quiet \nboot_success=0\n",
        ),
    )
    .file("boot/vmlinuz-4.18.0-553.el8_10.x86_64", "kernel")
    .file("boot/initramfs-4.18.0-553.el8_10.x86_64.img", "golden")
    .file("boot/vmlinuz-0-rescue-3f1c5a7b9d0e4c6a8b2d4f6071829304", "kernel")
    .file("boot/initramfs-0-rescue-3f1c5a7b9d0e4c6a8b2d4f6071829304.img", "golden")
    .modules(KERNEL)
    .file("usr/lib/grub/i386-pc/modinfo.sh", "")
    .program("usr/sbin/grub2-install", tools::GRUB_INSTALL)
    .program("usr/sbin/grub2-mkconfig", tools::GRUB_MKCONFIG)
    .program("usr/bin/dracut", tools::DRACUT)
    .file("etc/hostname", "{{host}}\n")
    .file(
        "etc/sysconfig/network-scripts/ifcfg-ens192",
        "TYPE=Ethernet\nBOOTPROTO=dhcp\nDEFROUTE=yes\nNAME=ens192\nUUID=0a8c3a41-6e6b-4f0b-b8d0-1c9b6e2f5d17\nDEVICE=ens192\n\
         ONBOOT=yes\nHWADDR={{MAC}}\n",
    )
    .holds("etc/sysconfig/network-scripts/ifcfg-ens192", &["NAME=ens192\nUUID=", "ONBOOT=yes\nHWADDR={{MAC}}\n"])
    .holds("boot/grub2/grub.cfg", &["--set=root {{root.uuid}}\n", "blscfg\n"])
    .holds("boot/initramfs-4.18.0-553.el8_10.x86_64.img", &["dracut's image of 4.18.0-553.el8_10.x86_64", "xfs"])
    .calls(&[
        "dracut --force /boot/initramfs-4.18.0-553.el8_10.x86_64.img 4.18.0-553.el8_10.x86_64",
        "grub2-install --target=i386-pc {{disk}}",
        "grub2-mkconfig -o /boot/grub2/grub.cfg",
    ])
}

/// Returns the text of an environment block: GRUB's own has 1024 bytes, filled up with `#`. UUIDs are as long
/// in the clone.
pub(super) fn environment_block(lines: &str) -> String {
    let mut text = format!("# GRUB Environment Block\n{lines}");
    let placeholders = text.matches("{{").count();
    // `{{root.uuid}}` stands for 36 bytes.
    let len = text.len() + placeholders * (36 - "{{root.uuid}}".len());
    text.push_str(&"#".repeat(1024_usize.saturating_sub(len)));
    text
}

/// Rocky 9: Anaconda on a GPT for BIOS, two kernels, NetworkManager, and leftovers of years.
fn rocky9() -> Shape {
    let shape = Shape::new(
        "rocky9",
        "Rocky 9, entries with their own command lines, keyfiles, LVM's and NVMe's lists of the golden node",
        "label: gpt\nsize=1MiB,type=21686148-6449-6E6F-744E-656564454649\nsize=128MiB\nsize=16MiB,type=swap\nsize=400MiB\n",
    )
    .volume("root", Volume::new(4, "xfs", "/"))
    .volume("boot", Volume::new(2, "ext4", "/boot"))
    .volume("swap", Volume::new(3, "swap", "none"))
    .file("etc/os-release", "NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n")
    .file(
        "etc/fstab",
        "UUID={{root.uuid}} /                       xfs     defaults,x-systemd.device-timeout=0        0 0\n\
         /dev/disk/by-partuuid/{{boot.partuuid}} /boot ext4    defaults        1 2\n\
         UUID=\"{{swap.UUID}}\"\tnone\tswap\tdefaults\t0\t0 # trailing words\n\
         UUID=7c0e8d56-0a1b-4c2d-9e3f-123456789abc /backup xfs nofail,x-systemd.device-timeout=5s 0 0\n\
         tmpfs /tmp tmpfs defaults 0 0\n",
    )
    .becomes(
        "etc/fstab",
        "UUID={{root.uuid}} /                       xfs     defaults,x-systemd.device-timeout=0        0 0\n\
         /dev/disk/by-partuuid/{{boot.partuuid}} /boot ext4    defaults        1 2\n\
         UUID={{swap.uuid}}\tnone\tswap\tdefaults\t0\t0 # trailing words\n\
         UUID=7c0e8d56-0a1b-4c2d-9e3f-123456789abc /backup xfs nofail,x-systemd.device-timeout=5s 0 0\n\
         tmpfs /tmp tmpfs defaults 0 0\n",
    )
    .file(
        "etc/default/grub",
        "GRUB_TIMEOUT=5\nGRUB_DEFAULT=saved\nGRUB_CMDLINE_LINUX=\"crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M \\\n\
         \tresume=UUID={{swap.UUID}} rd.luks.uuid=luks-5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f \\\n\trhgb quiet\"\n\
         GRUB_ENABLE_BLSCFG=true\n",
    )
    .becomes(
        "etc/default/grub",
        "GRUB_TIMEOUT=5\nGRUB_DEFAULT=saved\nGRUB_CMDLINE_LINUX=\"crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M \\\n\
         \tresume=UUID={{swap.uuid}} \\\n\trhgb quiet\"\n\
         GRUB_ENABLE_BLSCFG=true\n",
    );
    rocky9_services(rocky9_entries(shape))
}

fn rocky9_entries(shape: Shape) -> Shape {
    shape
        .file("etc/kernel/cmdline", "root=UUID={{root.uuid}} ro crashkernel=1G-4G:192M resume=UUID={{swap.uuid}} rhgb quiet \n")
        .file("boot/grub2/grub.cfg", "search --no-floppy --fs-uuid --set=root {{boot.uuid}}\ninsmod blscfg\nblscfg\n")
        .file("boot/grub2/grubenv", &environment_block("saved_entry=3f1c5a7b9d0e4c6a8b2d4f6071829304-5.14.0-427.13.1.el9_4.x86_64\nboot_success=1\n"))
        .file(
            "boot/loader/entries/3f1c5a7b9d0e4c6a8b2d4f6071829304-5.14.0-427.13.1.el9_4.x86_64.conf",
            "title Rocky Linux (5.14.0-427.13.1.el9_4.x86_64) 9.4 (Blue Onyx)\nversion 5.14.0-427.13.1.el9_4.x86_64\n\
             linux /vmlinuz-5.14.0-427.13.1.el9_4.x86_64\ninitrd /initramfs-5.14.0-427.13.1.el9_4.x86_64.img $tuned_initrd\n\
             options root=UUID={{root.uuid}} ro crashkernel=1G-4G:192M resume=UUID={{swap.uuid}} rd.md.uuid=0a0b0c0d:01020304:05060708:090a0b0c rhgb quiet $tuned_params\n\
             grub_class rocky\n",
        )
        .becomes(
            "boot/loader/entries/3f1c5a7b9d0e4c6a8b2d4f6071829304-5.14.0-427.13.1.el9_4.x86_64.conf",
            "title Rocky Linux (5.14.0-427.13.1.el9_4.x86_64) 9.4 (Blue Onyx)\nversion 5.14.0-427.13.1.el9_4.x86_64\n\
             linux /vmlinuz-5.14.0-427.13.1.el9_4.x86_64\ninitrd /initramfs-5.14.0-427.13.1.el9_4.x86_64.img $tuned_initrd\n\
             options root=UUID={{root.uuid}} ro crashkernel=1G-4G:192M resume=UUID={{swap.uuid}} rhgb quiet $tuned_params\n\
             grub_class rocky\n",
        )
        .file(
            "boot/loader/entries/3f1c5a7b9d0e4c6a8b2d4f6071829304-5.14.0-362.8.1.el9_3.x86_64.conf",
            "title Rocky Linux (5.14.0-362.8.1.el9_3.x86_64) 9.3\nlinux /vmlinuz-5.14.0-362.8.1.el9_3.x86_64\n\
             initrd /initramfs-5.14.0-362.8.1.el9_3.x86_64.img\noptions root={{root.device}} ro\n",
        )
        .becomes(
            "boot/loader/entries/3f1c5a7b9d0e4c6a8b2d4f6071829304-5.14.0-362.8.1.el9_3.x86_64.conf",
            "title Rocky Linux (5.14.0-362.8.1.el9_3.x86_64) 9.3\nlinux /vmlinuz-5.14.0-362.8.1.el9_3.x86_64\n\
             initrd /initramfs-5.14.0-362.8.1.el9_3.x86_64.img\noptions root=UUID={{root.uuid}} ro\n",
        )
        .file("boot/vmlinuz-5.14.0-427.13.1.el9_4.x86_64", "kernel")
        .file("boot/vmlinuz-5.14.0-362.8.1.el9_3.x86_64", "kernel")
        .file("boot/initramfs-5.14.0-427.13.1.el9_4.x86_64.img", "golden")
        .file("boot/initramfs-5.14.0-362.8.1.el9_3.x86_64.img", "golden")
        .modules("5.14.0-427.13.1.el9_4.x86_64")
        .modules("5.14.0-362.8.1.el9_3.x86_64")
        .file("usr/lib/grub/i386-pc/modinfo.sh", "")
        .program("usr/sbin/grub2-install", tools::GRUB_INSTALL)
        .program("usr/sbin/grub2-mkconfig", tools::GRUB_MKCONFIG)
        .program("usr/bin/dracut", tools::DRACUT)
}

/// Adds the state that services keep of the golden node, and the files that the tools make.
fn rocky9_services(shape: Shape) -> Shape {
    shape
        .file("etc/hostname", "{{host}}\n")
        .file(
            "etc/NetworkManager/system-connections/ens192.nmconnection",
            "[connection]\nid=ens192\nuuid=0a8c3a41-6e6b-4f0b-b8d0-1c9b6e2f5d17\ntype=ethernet\ninterface-name=ens192\n\n\
             [ethernet]\nmac-address={{MAC}}\n\n[ipv4]\nmethod=auto\n",
        )
        .holds(
            "etc/NetworkManager/system-connections/ens192.nmconnection",
            &["interface-name=ens192\n\n[ethernet]\nmac-address={{MAC}}\n\n[ipv4]\nmethod=auto\n"],
        )
        .file(
            "etc/lvm/devices/system.devices",
            "# LVM uses devices listed in this file.\nVERSION=1.1.2\nIDTYPE=devname IDNAME={{root.device}} DEVNAME={{root.device}} PVID=none PART=4\n",
        )
        .holds("etc/lvm/devices/system.devices", &["VERSION=1.1.2\n# ka: not in this clone: IDTYPE=devname"])
        .file("etc/nvme/hostnqn", "nqn.2014-08.org.nvmexpress:uuid:4c4c4544-0051-3010-8057-b3c04f4e4e32\n")
        .file("etc/nvme/hostid", "4c4c4544-0051-3010-8057-b3c04f4e4e32\n")
        .holds("etc/nvme/hostnqn", &["nqn.2014-08.org.nvmexpress:uuid:"])
        .holds("etc/nvme/hostid", &["-"])
        .file("etc/kdump.conf", "auto_reset_crashkernel yes\nxfs UUID={{root.uuid}}\npath /var/crash\n")
        .holds("boot/grub2/grub.cfg", &["blscfg\n"])
        .holds("boot/initramfs-5.14.0-427.13.1.el9_4.x86_64.img", &["dracut's image of 5.14.0-427", "xfs"])
        .holds("boot/initramfs-5.14.0-362.8.1.el9_3.x86_64.img", &["dracut's image of 5.14.0-362", "xfs"])
        .calls(&[
            "dracut --force /boot/initramfs-5.14.0-427.13.1.el9_4.x86_64.img 5.14.0-427.13.1.el9_4.x86_64",
            "dracut --force /boot/initramfs-5.14.0-362.8.1.el9_3.x86_64.img 5.14.0-362.8.1.el9_3.x86_64",
            "grub2-install --target=i386-pc {{disk}}",
            "grub2-mkconfig -o /boot/grub2/grub.cfg",
        ])
        .warns(&[
            "rd.luks.uuid=luks-5d1f7d0e-2b1c-4a88-9f8e-0a1b2c3d4e5f is about an encrypted device",
            "rd.md.uuid=0a0b0c0d:01020304:05060708:090a0b0c is about an array",
            "/etc/lvm/devices/system.devices",
            "/backup (UUID=7c0e8d56-0a1b-4c2d-9e3f-123456789abc) is not mounted and is left out",
        ])
}

/// Fedora 41 with its own layout: subvolumes `root` and `home` beside an ext4 `/boot`.
fn fedora41() -> Shape {
    Shape::new(
        "fedora41",
        "Fedora 41, subvolumes of btrfs, entries named for the machine-id",
        "label: gpt\nsize=1MiB,type=21686148-6449-6E6F-744E-656564454649\nsize=128MiB\nsize=400MiB\n",
    )
    .volume("root", Volume::new(3, "btrfs", "/").subvolume("root"))
    .volume("home", Volume::new(3, "btrfs", "/home").subvolume("home"))
    .volume("boot", Volume::new(2, "ext4", "/boot"))
    .file("etc/os-release", "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=41\n")
    .file(
        "etc/fstab",
        "UUID={{root.uuid}} /                       btrfs   subvol=root,compress=zstd:1 0 0\n\
         UUID={{boot.uuid}} /boot                   ext4    defaults        1 2\n\
         UUID={{root.uuid}} /home                   btrfs   subvolid=256,subvol=/home,compress=zstd:1 0 0\n",
    )
    .becomes(
        "etc/fstab",
        "UUID={{root.uuid}} /                       btrfs   subvol=root,compress=zstd:1 0 0\n\
         UUID={{boot.uuid}} /boot                   ext4    defaults        1 2\n\
         UUID={{root.uuid}} /home                   btrfs   subvol=/home,compress=zstd:1 0 0\n",
    )
    .file(
        "etc/default/grub",
        "GRUB_TIMEOUT=5\nGRUB_DEFAULT=saved\nGRUB_CMDLINE_LINUX=\"rhgb quiet\"\nGRUB_ENABLE_BLSCFG=true\n",
    )
    .file("boot/grub2/grub.cfg", "search --no-floppy --fs-uuid --set=root {{boot.uuid}}\ninsmod blscfg\nblscfg\n")
    .file(
        "boot/loader/entries/3f1c5a7b9d0e4c6a8b2d4f6071829304-6.11.4-301.fc41.x86_64.conf",
        "title Fedora Linux (6.11.4-301.fc41.x86_64) 41 (Workstation Edition)\nversion 6.11.4-301.fc41.x86_64\n\
         linux /vmlinuz-6.11.4-301.fc41.x86_64\ninitrd /initramfs-6.11.4-301.fc41.x86_64.img\n\
         options root=UUID={{root.uuid}} ro rootflags=subvol=root mount.usr=UUID={{root.uuid}} rhgb quiet\nmachine-id 3f1c5a7b9d0e4c6a8b2d4f6071829304\ngrub_class fedora\n",
    )
    .holds(
        "boot/loader/entries/3f1c5a7b9d0e4c6a8b2d4f6071829304-6.11.4-301.fc41.x86_64.conf",
        &["options root=UUID={{root.uuid}} ro rootflags=subvol=root mount.usr=UUID={{root.uuid}} rhgb quiet\nmachine-id "],
    )
    .file("boot/vmlinuz-6.11.4-301.fc41.x86_64", "kernel")
    .file("boot/initramfs-6.11.4-301.fc41.x86_64.img", "golden")
    .modules("6.11.4-301.fc41.x86_64")
    .file("usr/lib/grub/i386-pc/modinfo.sh", "")
    .program("usr/sbin/grub2-install", tools::GRUB_INSTALL)
    .program("usr/sbin/grub2-mkconfig", tools::GRUB_MKCONFIG)
    .program("usr/bin/dracut", tools::DRACUT)
    .file("etc/hostname", "{{host}}.example.org\n")
    .file("etc/crypttab", "data UUID={{root.UUID}} none discard\n")
    .holds("etc/crypttab", &["# ka: not in this clone: data "])
    .file("etc/udisks2/mount_options.conf", "[/dev/disk/by-uuid/{{root.uuid}}]\nbtrfs_defaults=compress=zstd\n")
    .file("home/user/file", "x")
    .holds("boot/grub2/grub.cfg", &["blscfg\n"])
    .holds("boot/initramfs-6.11.4-301.fc41.x86_64.img", &["dracut's image", "btrfs"])
    .holds("etc/kernel/entry-token", &["3f1c5a7b9d0e4c6a8b2d4f6071829304"])
    .calls(&[
        "dracut --force /boot/initramfs-6.11.4-301.fc41.x86_64.img 6.11.4-301.fc41.x86_64",
        "grub2-install --target=i386-pc {{disk}}",
        "grub2-mkconfig -o /boot/grub2/grub.cfg",
    ])
    .warns(&["/etc/crypttab: line 1: data:"])
}

/// CentOS 7 without boot entries: one grub.cfg. It has lists of a RAID and a volume group that are not
/// cloned.
fn centos7() -> Shape {
    Shape::new(
        "centos7",
        "CentOS 7, menu entries in grub.cfg, kernel names, device.map, mdadm.conf, words of an LVM that is gone",
        "label: dos\nsize=128MiB,bootable\nsize=16MiB,type=82\nsize=400MiB\n",
    )
    .volume("root", Volume::new(3, "xfs", "/"))
    .volume("boot", Volume::new(1, "ext4", "/boot").label("BOOT"))
    .volume("swap", Volume::new(2, "swap", "none"))
    .file("etc/os-release", "NAME=\"CentOS Linux\"\nID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"7\"\n")
    .file(
        "etc/fstab",
        "# {{byte e9}}t{{byte e9}} 2015\n{{root.device}}\t/ xfs defaults 0 0\nLABEL=BOOT /boot ext4 defaults 1 2\n\
         {{swap.device}} swap swap defaults 0 0\n/dev/mapper/centos-home /home xfs nofail 0 0\n",
    )
    .becomes(
        "etc/fstab",
        "# {{byte e9}}t{{byte e9}} 2015\nUUID={{root.uuid}}\t/ xfs defaults 0 0\nLABEL=BOOT /boot ext4 defaults 1 2\n\
         UUID={{swap.uuid}} swap swap defaults 0 0\n# ka: not in this clone: /dev/mapper/centos-home /home xfs nofail 0 0\n",
    )
    .file(
        "etc/default/grub",
        "GRUB_TIMEOUT=5\nGRUB_DEFAULT=saved\nGRUB_CMDLINE_LINUX='crashkernel=auto rd.lvm.lv=centos/root rd.lvm.lv=centos/swap resume={{swap.device}} rhgb quiet'\n\
         GRUB_DEVICE={{root.device}}\n",
    )
    .holds(
        "etc/default/grub",
        &["GRUB_CMDLINE_LINUX='crashkernel=auto resume=UUID={{swap.uuid}} rhgb quiet'\n# ka: not in this clone: GRUB_DEVICE="],
    )
    .link("etc/sysconfig/grub", "../default/grub")
    .link("etc/grub2.cfg", "../boot/grub2/grub.cfg")
    .file(
        "boot/grub2/grub.cfg",
        "menuentry 'CentOS' {\n\tsearch --no-floppy --fs-uuid --set=root --hint='hd0,msdos1' {{boot.uuid}}\n\
         \tlinux16 /vmlinuz-3.10.0-1160.el7.x86_64 root={{root.device}} ro\n\tinitrd16 /initramfs-3.10.0-1160.el7.x86_64.img\n}\n",
    )
    .file("boot/grub2/device.map", "# this device map was generated by anaconda\n(hd0)      {{disk}}\n(hd1)      /dev/sdq\n")
    .becomes("boot/grub2/device.map", "(hd0)\t{{disk}}\n")
    .program("etc/grub.d/40_custom", "#!/bin/sh\nexec tail -n +3 $0\nmenuentry 'old' {\n\tsearch --fs-uuid --set=root {{boot.UUID}}\n\tlinux16 /vmlinuz-3.10.0-1160.el7.x86_64 root=UUID={{root.uuid}} ro\n}\n")
    .file("boot/vmlinuz-3.10.0-1160.el7.x86_64", "kernel")
    .file("boot/initramfs-3.10.0-1160.el7.x86_64.img", "golden")
    .file("boot/initramfs-3.10.0-1160.el7.x86_64kdump.img", "golden")
    .modules("3.10.0-1160.el7.x86_64")
    .file("usr/lib/grub/i386-pc/modinfo.sh", "")
    .program("usr/sbin/grub2-install", tools::GRUB_INSTALL)
    .program("usr/sbin/grub2-mkconfig", tools::GRUB_MKCONFIG)
    .program("usr/sbin/dracut", tools::DRACUT)
    .file("etc/hostname", "{{host}}\n")
    .file("etc/dracut.conf.d/mine.conf", "add_device+=\" {{swap.device}} \"\npersistent_policy=\"by-uuid\"\nkernel_cmdline=\"root=UUID={{root.uuid}} rd.luks=0\"\n")
    .becomes("etc/dracut.conf.d/mine.conf", "add_device+=\" /dev/disk/by-uuid/{{swap.uuid}} \"\npersistent_policy=\"by-uuid\"\nkernel_cmdline=\"root=UUID={{root.uuid}} rd.luks=0\"\n")
    .file("etc/mdadm.conf", "MAILADDR root\nAUTO +imsm +1.x -all\nARRAY /dev/md/root level=raid1 num-devices=2\n   UUID=0a0b0c0d:01020304:05060708:090a0b0c\n")
    .holds("etc/mdadm.conf", &["AUTO +imsm +1.x -all\n# ka: not in this clone: ARRAY", "\n# ka: not in this clone:    UUID"])
    .file("etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=\"eth0\"\nHWADDR=\"{{MAC}}\"\nONBOOT='yes'\nBOOTPROTO=dhcp\n")
    .file("etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME={{host}}\n")
    .becomes("etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=\"{{host}}\"\n")
    .file("etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.1994-05.com.redhat:5e6f7a8b9c0d\n")
    .holds("etc/iscsi/initiatorname.iscsi", &["InitiatorName=iqn.1994-05.com.redhat:"])
    .file("etc/smartd.conf", "{{disk}} -a -m root\n")
    .file("etc/auto.data", "boot -fstype=ext4 :/dev/disk/by-uuid/{{boot.uuid}}\n")
    .holds("boot/grub2/grub.cfg", &["linux /boot/", "--set=root {{boot.uuid}}\n\tlinux16"])
    .holds("boot/initramfs-3.10.0-1160.el7.x86_64.img", &["dracut's image", "xfs"])
    .calls(&[
        "dracut --force /boot/initramfs-3.10.0-1160.el7.x86_64.img 3.10.0-1160.el7.x86_64",
        "grub2-install --target=i386-pc {{disk}}",
        "grub2-mkconfig -o /boot/grub2/grub.cfg",
    ])
    .warns(&["/home (/dev/mapper/centos-home) is not in the clone", "/home (/dev/mapper/centos-home) is not mounted and is left out", "rd.lvm.lv=centos/root is about", "rd.lvm.lv=centos/swap is about", "ARRAY /dev/md/root", "device.map: line 3: /dev/sdq names no disk"])
}
